//! LZO1X, the format inside a segment.
//!
//! A list of instructions: a byte, and for some more bytes. Each copies
//! literals out of the input, or a match out of what was decoded before. L, D
//! and S are bits of the length, of the distance and of the number of
//! literals (0 to 3) that follow a match; the lowest come first, and those of
//! later bytes are the higher ones.
//!
//! | instruction | where | copies | length | distance |
//! |-|-|-|-|-|
//! | byte 18 to 255 | first | literals | byte - 17 | |
//! | `0000LLLL` | after no literals | literals | L + 3 | |
//! | `0000DDSS`, a byte D | after 1 to 3 literals | match | 2 | D + 1 |
//! | `0000DDSS`, a byte D | after 4 or more | match | 3 | D + 2049 |
//! | `0001DLLL`, 16 bits `D…DSS` | | match | L + 2 | D + 16384 |
//! | `001LLLLL`, 16 bits `D…DSS` | | match | L + 2 | D + 1 |
//! | `LLLDDDSS`, a byte D | L is 2 to 7 | match | L + 1 | D + 1 |
//!
//! Where all bits of a length that can be followed by more are zero, its
//! largest value is meant, and bytes follow that are added to it: 255 for
//! each zero byte, then the first other one. A distance of 16384 in the fifth
//! kind is the end.
//!
//! Source of the facts: `Documentation/staging/lzo.rst` of the kernel. Its
//! versions other than 0, which begin with the byte 17, are not what btrfs
//! writes.

/// Decoded literals from which on the next short instruction has another
/// meaning; the exact number then does not count.
const RUN: usize = 4;

/// The distance that marks the end.
const END: usize = 16384;

/// Length of the match that the end is written as.
const END_LENGTH: usize = 3;

const CUT_OFF: &str = "a segment is cut off";

/// Appends what `segment` holds to `out`: at most `room` bytes. Matches reach
/// back to the beginning of this segment, no further.
///
/// # Errors
/// What is wrong. `out` then has what was decoded before.
pub(super) fn decode(segment: &[u8], room: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut input = Input(segment);
    let mut output = Output {
        start: out.len(),
        end: out.len().saturating_add(room),
        bytes: out,
    };
    // Literals since the last match, up to `RUN`.
    let mut literals = 0;
    if let [first @ 18..=255, rest @ ..] = segment {
        let count = usize::from(first - 17);
        input.0 = rest;
        output.literals(input.take(count)?)?;
        literals = count.min(RUN);
    }
    loop {
        let byte = input.byte()?;
        let bits = usize::from(byte);
        let (length, distance, low) = match byte {
            0..=15 if literals == 0 => {
                let count = input.length(bits, 15)? + 3;
                output.literals(input.take(count)?)?;
                literals = RUN;
                continue;
            }
            0..=15 => {
                let distance = (usize::from(input.byte()?) << 2) + (bits >> 2);
                if literals == RUN {
                    (3, distance + 2049, bits)
                } else {
                    (2, distance + 1, bits)
                }
            }
            16..=31 => {
                let length = input.length(bits & 7, 7)? + 2;
                let low = input.pair()?;
                let distance = ((bits & 8) << 11) + (low >> 2) + END;
                if distance == END {
                    return input.end(length);
                }
                (length, distance, low)
            }
            32..=63 => {
                let length = input.length(bits & 31, 31)? + 2;
                let low = input.pair()?;
                (length, (low >> 2) + 1, low)
            }
            64..=255 => {
                let distance = (usize::from(input.byte()?) << 3) + (bits >> 2 & 7);
                ((bits >> 5) + 1, distance + 1, bits)
            }
        };
        output.repeat(length, distance)?;
        literals = low & 3;
        output.literals(input.take(literals)?)?;
    }
}

/// What is left of a segment.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let (&byte, rest) = self.0.split_first().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(byte)
    }

    fn pair(&mut self) -> Result<usize, &'static str> {
        let (&pair, rest) = self.0.split_first_chunk().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(u16::from_le_bytes(pair).into())
    }

    /// A length of which the instruction has `bits`; with all of them zero,
    /// the bytes that follow are added to `largest`.
    fn length(&mut self, bits: usize, largest: usize) -> Result<usize, &'static str> {
        if bits != 0 {
            return Ok(bits);
        }
        let mut length = largest;
        loop {
            match self.byte()? {
                // No overflow: a segment is shorter than an extent.
                0 => length = length.saturating_add(255),
                last => return Ok(length.saturating_add(last.into())),
            }
        }
    }

    fn end(&self, length: usize) -> Result<(), &'static str> {
        if length == END_LENGTH && self.0.is_empty() {
            Ok(())
        } else {
            Err("the end of a segment is not where it ends")
        }
    }
}

/// The output: what lies between `start` and `end` is this segment's.
struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    end: usize,
}

impl Output<'_> {
    /// Checks that `count` more bytes fit.
    fn fits(&self, count: usize) -> Result<(), &'static str> {
        if count <= self.end.saturating_sub(self.bytes.len()) {
            Ok(())
        } else {
            Err("a segment holds more than a sector")
        }
    }

    fn literals(&mut self, literals: &[u8]) -> Result<(), &'static str> {
        self.fits(literals.len())?;
        self.bytes.extend_from_slice(literals);
        Ok(())
    }

    /// Appends `length` bytes from `distance` before the end: what lies there
    /// and, if that is too short, the same again and again.
    fn repeat(&mut self, length: usize, distance: usize) -> Result<(), &'static str> {
        self.fits(length)?;
        let from = self
            .bytes
            .len()
            .checked_sub(distance)
            .filter(|from| *from >= self.start)
            .ok_or("a match from before the beginning of a segment")?;
        let end = self.bytes.len() + length;
        while self.bytes.len() < end {
            let there = self.bytes.len() - from;
            let count = there.min(end - self.bytes.len());
            self.bytes.extend_from_within(from..from + count);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn decodes(segment: &[u8], expected: &[u8]) {
        let mut out = b"of the segment before".to_vec();
        let start = out.len();
        decode(segment, 65536, &mut out).unwrap();
        assert_eq!(&out[start..], expected);
        // Exactly as much room as it takes will do, and no less.
        decode(segment, expected.len(), &mut Vec::new()).unwrap();
        if !expected.is_empty() {
            decode(segment, expected.len() - 1, &mut Vec::new()).unwrap_err();
        }
        // Each byte counts.
        for len in 0..segment.len() {
            decode(&segment[..len], 65536, &mut Vec::new()).unwrap_err();
        }
        let longer = [segment, &[0]].concat();
        decode(&longer, 65536, &mut Vec::new()).unwrap_err();
    }

    /// Literals at the start, then what is given, then the end.
    #[track_caller]
    fn after(literals: &[u8], instructions: &[u8], expected: &[u8]) {
        let count = u8::try_from(literals.len()).unwrap();
        let segment = [&[17 + count], literals, instructions, &[17, 0, 0]].concat();
        decodes(&segment, &[literals, expected].concat());
    }

    #[test]
    fn nothing_but_the_end() {
        decodes(&[17, 0, 0], b"");
    }

    #[test]
    fn literals() {
        for count in 1..=238 {
            after(&vec![b'x'; count], &[], b"");
        }
        // The long way: from 4 bytes, which need no more than the instruction.
        decodes(b"\x01abcd\x11\0\0", b"abcd");
        decodes(b"\x0fabcdefghijklmnopqr\x11\0\0", b"abcdefghijklmnopqr");
        for extra in [1, 254, 255, 256, 509, 510, 511, 5000] {
            let literals = vec![b'y'; 18 + extra];
            let mut segment = vec![0];
            segment.resize(1 + (extra - 1) / 255, 0);
            segment.push(u8::try_from((extra - 1) % 255 + 1).unwrap());
            segment.extend_from_slice(&literals);
            segment.extend_from_slice(&[17, 0, 0]);
            decodes(&segment, &literals);
        }
    }

    #[test]
    fn matches() {
        // 2 bytes, after 1 to 3 literals; the last with 3 literals of its own.
        after(b"abc", &[0b1000, 0], b"ab");
        after(b"abc", &[0b1011, 0, b'x', b'y', b'z'], b"abxyz");
        // The same instruction after 4 and more reaches further.
        let far = [&[b'-'; 100][..], b"abcd"].concat();
        let long: Vec<u8> = far.iter().copied().cycle().take(2100).collect();
        let mut run = vec![0, 0, 0, 0, 0, 0, 0, 0, 0];
        run.push(u8::try_from(long.len() - 18 - 8 * 255).unwrap());
        run.extend_from_slice(&long);
        run.extend_from_slice(&[0b0100, 0, 17, 0, 0]);
        let from = long.len() - 2050;
        decodes(&run, &[&long, &long[from..from + 3]].concat());
        // 3 to 8 bytes, up to 2048 back.
        after(b"abcd", &[0b0100_1100, 0], b"abc");
        after(b"abcd", &[0b1110_0001, 0, b'!'], b"dddddddd!");
        // Up to 16384 back, of any length.
        after(b"abcd", &[0b0010_0010, 0b1101, 0, b'!'], b"abcd!");
        after(b"abcd", &[0b0010_0000, 7, 0b1100, 0], &b"abcd".repeat(10));
        after(
            b"ab",
            &[0b0010_0000, 0, 1, 0b0100, 0],
            &b"ab".repeat(145)[..289],
        );
    }

    #[test]
    fn far_matches() {
        let start = b"at the start";
        for (distance, instruction) in [
            (16385_usize, &[0b0001_0110, 0b0100, 0][..]),
            (32768, &[0b0001_1110, 0, 0]),
            (49151, &[0b0001_1110, 0b1111_1100, 0xff]),
        ] {
            let mut segment = vec![17 + 12];
            segment.extend_from_slice(start);
            // The last byte over and over, as far as the distance takes.
            let more = distance - start.len() - 33;
            segment.extend_from_slice(&[32]);
            segment.resize(segment.len() + (more - 1) / 255, 0);
            segment.extend_from_slice(&[u8::try_from((more - 1) % 255 + 1).unwrap(), 0, 0]);
            segment.extend_from_slice(instruction);
            segment.extend_from_slice(&[17, 0, 0]);
            let mut expected = start.to_vec();
            expected.resize(distance, b't');
            expected.extend_from_slice(b"at the s");
            decodes(&segment, &expected);
        }
    }

    #[test]
    fn what_is_refused() {
        for (segment, reason) in [
            (&b""[..], CUT_OFF),
            (b"\x15abc", CUT_OFF),
            (
                b"\x13ab\x48\0\x11\0\0",
                "a match from before the beginning of a segment",
            ),
            // A header of a later version of the format.
            (
                b"\x11\x01\x05abcd\x11\0\0",
                "a match from before the beginning of a segment",
            ),
            // The end with another length, and before the end.
            (
                b"\x12a\x12\0\0",
                "the end of a segment is not where it ends",
            ),
            (b"\x11\0\0\0", "the end of a segment is not where it ends"),
        ] {
            let mut out = b"of the segment before".to_vec();
            assert_eq!(decode(segment, 4096, &mut out), Err(reason), "{segment:?}");
        }
        // Lengths without end cost what they are long.
        let zeros = vec![0; 1 << 20];
        decode(&zeros, 4096, &mut Vec::new()).unwrap_err();
        let mut zeros = [&[32][..], &zeros, &[1, 0, 0]].concat();
        decode(&zeros, 4096, &mut Vec::new()).unwrap_err();
        zeros.splice(0..0, *b"\x12x");
        let mut out = Vec::new();
        decode(&zeros, 4096, &mut out).unwrap_err();
        assert!(out.capacity() <= 4096);
    }
}
