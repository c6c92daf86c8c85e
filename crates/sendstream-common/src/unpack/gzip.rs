//! Members of gzip.

use std::io::Read;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::error::{Fault, Problem};
use super::source::Source;

/// Bits of the header's flags.
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// A member.
#[derive(Debug)]
pub(super) struct Gzip {
    inflate: Decompress,
    crc: Crc,
    /// Its deflated data was read.
    is_over: bool,
}

/// Takes bytes of the header, and hashes them.
struct Header<'a, R> {
    source: &'a mut Source<R>,
    crc: Crc,
}

impl<R: Read> Header<'_, R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let array = self.source.array()?;
        self.crc.update(&array);
        Ok(array)
    }

    /// Text to its NUL.
    fn skip_text(&mut self) -> Result<(), Fault> {
        while self.array()? != [0] {}
        Ok(())
    }
}

impl Gzip {
    pub(super) fn begin<R: Read>(source: &mut Source<R>) -> Result<Self, Fault> {
        let invalid = || Fault::damaged("the header of a member is invalid");
        let mut header = Header {
            source,
            crc: Crc::new(),
        };
        let [_, _, method, flags, ..] = header.array::<10>()?;
        // 8 is deflate, and all there is.
        if method != 8 || flags & RESERVED != 0 {
            return Err(invalid());
        }
        if flags & EXTRA != 0 {
            let len = u16::from_le_bytes(header.array()?);
            for _ in 0..len {
                header.array::<1>()?;
            }
        }
        if flags & NAME != 0 {
            header.skip_text()?;
        }
        if flags & COMMENT != 0 {
            header.skip_text()?;
        }
        if flags & HEADER_CRC != 0 {
            // The low half.
            let crc = header.crc.sum() as u16;
            if u16::from_le_bytes(header.source.array()?) != crc {
                return Err(invalid());
            }
        }
        Ok(Self {
            inflate: Decompress::new(false),
            crc: Crc::new(),
            is_over: false,
        })
    }

    pub(super) fn read<R: Read>(
        &mut self,
        source: &mut Source<R>,
        into: &mut [u8],
    ) -> Result<usize, Fault> {
        while !self.is_over {
            let input = source.buffered()?;
            let at_end = input.is_empty();
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let result = self.inflate.decompress(input, into, FlushDecompress::None);
            let taken = (self.inflate.total_in() - before.0) as usize;
            let len = (self.inflate.total_out() - before.1) as usize;
            source.consume(taken);
            match result {
                Ok(Status::StreamEnd) => self.is_over = true,
                Ok(Status::Ok | Status::BufError) if taken == 0 && len == 0 => {
                    return Err(if at_end {
                        Fault::Problem(Problem::Ended)
                    } else {
                        Fault::damaged("a member cannot be decompressed")
                    });
                }
                Ok(Status::Ok | Status::BufError) => {}
                Err(_) => return Err(Fault::damaged("a member cannot be decompressed")),
            }
            if len > 0 {
                self.crc.update(into.get(..len).unwrap_or_default());
                return Ok(len);
            }
        }
        let crc = u32::from_le_bytes(source.array()?);
        // Of the length, the low 32 bits.
        let len = u32::from_le_bytes(source.array()?);
        if crc != self.crc.sum() {
            return Err(Fault::damaged("the checksum of a member does not match"));
        }
        if len != self.crc.amount() {
            return Err(Fault::damaged("a member does not have its length"));
        }
        Ok(0)
    }
}
