//! Encoded writes that do not decode, or not to what they say.

use super::Case;
use super::Layer::Apply;
use crate::raw::RawStream;

const ZLIB: [u32; 2] = [1, 0];
const ZSTD: [u32; 2] = [2, 0];
const LZO: [u32; 2] = [3, 0];

/// A zlib stream of 4,096 zeros, as zlib makes it at level 6.
const ZEROS: &[u8] = b"x\x9c\xed\xc1\x01\r\0\0\0\xc2\xa0\xf7Om\x0f\x07\x14\0\0\0\xf0n\x10\0\0\x01";

pub(super) fn cases() -> Vec<Case> {
    [claims(), garbage(), lzo1x()].concat()
}

fn case(name: &str, defect: &str, lengths: [u64; 3], form: [u32; 2], data: &[u8]) -> Case {
    let stream = RawStream::new(2)
        .mkfile("f")
        .here()
        .encoded("f", lengths, form, data)
        .end();
    let name = format!("encoded-{name}");
    Case::new(&name, Apply, "Undecodable", defect, stream)
}

fn claims() -> Vec<Case> {
    vec![
        case(
            "encrypted",
            "Encryption number 1, which nobody has defined.",
            [4096, 4096, 0],
            [1, 1],
            ZEROS,
        ),
        case(
            "compression-8",
            "Compression number 8, one over the highest.",
            [4096, 4096, 0],
            [8, 0],
            ZEROS,
        ),
        case(
            "compression-huge",
            "Compression number 4,294,967,295.",
            [4096, 4096, 0],
            [u32::MAX, 0],
            ZEROS,
        ),
        case(
            "extent-128-kib-and-1",
            "An extent of one byte more than btrfs makes.",
            [4096, 131_073, 0],
            ZLIB,
            ZEROS,
        ),
        case(
            "extent-2-to-63",
            "An extent that decodes to 2^63 bytes.",
            [4096, 1 << 63, 0],
            ZLIB,
            ZEROS,
        ),
        case(
            "offset-outside",
            "The file's part begins behind the extent.",
            [4096, 4096, 8192],
            ZLIB,
            ZEROS,
        ),
        case(
            "part-outside",
            "The file's part begins in the extent and ends behind it.",
            [4096, 4096, 1],
            ZLIB,
            ZEROS,
        ),
        case(
            "part-wraps",
            "Offset and length of the file's part wrap around to a small number.",
            [4096, 4096, u64::MAX - 2047],
            ZLIB,
            ZEROS,
        ),
    ]
}

fn garbage() -> Vec<Case> {
    let whole = [4096, 4096, 0];
    let zstd = |descriptor: &[u8]| {
        // A frame with one raw block of four bytes.
        [b"\x28\xb5\x2f\xfd", descriptor, b"\x21\0\0abcd"].concat()
    };
    vec![
        case(
            "zlib-garbage",
            "Text that claims to be zlib.",
            whole,
            ZLIB,
            b"this was never compressed",
        ),
        case(
            "zlib-cut",
            "A zlib stream that ends early.",
            whole,
            ZLIB,
            &ZEROS[..12],
        ),
        case("zlib-empty", "zlib data of no bytes.", whole, ZLIB, b""),
        case(
            "zlib-dictionary",
            "A zlib stream that asks for a dictionary.",
            whole,
            ZLIB,
            b"x\xbb\0\0\0\x01abc",
        ),
        case(
            "zlib-far-reference",
            "zlib data that refers to bytes before its beginning.",
            whole,
            ZLIB,
            // Fixed codes: a match of length 3 at distance 1, first of all.
            b"x\x9c\x03\x02\0\0\0\0",
        ),
        bomb(),
        case(
            "zstd-garbage",
            "Text that claims to be zstd.",
            whole,
            ZSTD,
            b"this was never compressed",
        ),
        case(
            "zstd-window-2-gib",
            "A zstd frame that asks for a window of 2 GiB.",
            [4, 4, 0],
            ZSTD,
            &zstd(b"\x00\xa8"),
        ),
        case(
            "zstd-window-2-tib",
            "A zstd frame that asks for the largest window there is.",
            [4, 4, 0],
            ZSTD,
            &zstd(b"\x00\xff"),
        ),
        case(
            "zstd-cut",
            "A zstd frame that ends within its block.",
            [4, 4, 0],
            ZSTD,
            &zstd(b"\x00\x00")[..10],
        ),
        case(
            "zstd-reserved-block",
            "A zstd block of the reserved type.",
            whole,
            ZSTD,
            b"\x28\xb5\x2f\xfd\x00\x00\x27\0\0abcd",
        ),
        case(
            "lzo-length-past-end",
            "LZO data that claims more bytes than there are.",
            whole,
            LZO,
            b"\xff\xff\0\0\x04\0\0\0abcd",
        ),
        case(
            "lzo-length-0",
            "LZO data that claims less than its own length field.",
            whole,
            LZO,
            b"\0\0\0\0\x04\0\0\0abcd",
        ),
        case(
            "lzo-segment-4-gib",
            "An LZO segment of 4 GiB.",
            whole,
            LZO,
            b"\x0c\0\0\0\xff\xff\xff\xffabcd",
        ),
        case(
            "lzo-garbage",
            "An LZO segment of text.",
            whole,
            LZO,
            b"\x14\0\0\0\x0c\0\0\0\x40bcdefghijkl",
        ),
        case("lzo-empty", "LZO data of no bytes.", whole, LZO, b""),
    ]
}

/// LZO segments, each the only one of its extent but for the second.
fn lzo1x() -> Vec<Case> {
    let lzo = |name: &str, defect: &str, segments: &[&[u8]]| {
        let mut data = Vec::new();
        for segment in segments {
            data.extend_from_slice(&(segment.len() as u32).to_le_bytes());
            data.extend_from_slice(segment);
        }
        let total = (data.len() as u32 + 4).to_le_bytes();
        let data = [&total[..], &data].concat();
        case(&format!("lzo-{name}"), defect, [8192, 8192, 0], LZO, &data)
    };
    // The literal x, then a match of this length at distance 1.
    let run = |length: usize| {
        let rest = length - 2 - 31;
        let mut segment = b"\x12x\x20".to_vec();
        segment.resize(segment.len() + (rest - 1) / 255, 0);
        segment.push(u8::try_from((rest - 1) % 255 + 1).unwrap());
        segment.extend_from_slice(b"\0\0\x11\0\0");
        segment
    };
    vec![
        lzo(
            "far-reference",
            "An LZO match from before the beginning of its segment.",
            &[b"\x13ab\x48\0\x11\0\0"],
        ),
        lzo(
            "reference-to-other-segment",
            "An LZO match from the segment before its own.",
            &[b"\x15abcd\x11\0\0", b"\x13ab\x48\0\x11\0\0"],
        ),
        lzo(
            "segment-over-sector",
            "An LZO segment that decodes to one byte more than a sector.",
            &[&run(4096)],
        ),
        lzo(
            "length-without-end",
            "An LZO length that is continued to the end of the segment.",
            &[&[b"\x12x\x20", &[0; 4096][..]].concat()],
        ),
        lzo(
            "literals-past-end",
            "An LZO segment that claims more literals than it has.",
            &[b"\x15abc"],
        ),
        lzo(
            "no-end",
            "An LZO segment without the end mark.",
            &[b"\x15abcd"],
        ),
        lzo(
            "end-of-other-length",
            "An LZO end mark with the length 4.",
            &[b"\x12a\x12\0\0"],
        ),
        lzo(
            "bytes-after-end",
            "A byte after the LZO end mark.",
            &[b"\x15abcd\x11\0\0\0"],
        ),
        lzo(
            "version-1",
            "An LZO segment in version 1 of the format, which btrfs does not write.",
            &[b"\x11\x01\x05abcd\x11\0\0"],
        ),
    ]
}

/// Cut to the extent's length, as a kernel does when it reads: no error, but
/// what it decodes to must not be made.
fn bomb() -> Case {
    let mut bits: Vec<bool> = vec![true, true, false];
    // The literal 0, then matches of length 258 at distance 1.
    bits.extend([false, false, true, true, false, false, false, false]);
    for _ in 0..10_000 {
        bits.extend([true, true, false, false, false, true, false, true]);
        bits.extend([false; 5]);
    }
    let mut data = b"x\x9c".to_vec();
    data.extend(bits.chunks(8).map(|byte| {
        let bits = byte.iter().enumerate();
        bits.fold(0, |byte, (index, &bit)| byte | u8::from(bit) << index)
    }));
    let mut case = case(
        "zlib-bomb",
        "16 KiB of zlib that decode to 2.5 MiB, for an extent of 64 KiB.",
        [65_536, 65_536, 0],
        ZLIB,
        &data,
    );
    case.error = "none".to_owned();
    case.finished(1)
}
