//! Streams of xz.

use std::fmt;
use std::io::Read;

use flate2::Crc;
use lzma_rust2::{Action, Lzma2Stream, Status};
use sha2::{Digest, Sha256};

use super::MAX_WINDOW;
use super::error::{Fault, Problem};
use super::source::Source;

/// The number of the filter LZMA2.
const LZMA2: u64 = 0x21;

/// What a footer ends with.
const FOOTER: [u8; 2] = *b"YZ";

/// A stream: blocks, and an index of them.
#[derive(Debug)]
pub(super) struct Xz {
    /// The flags in the header, and in the footer again.
    flags: [u8; 2],
    block: Option<Block>,
    /// How many blocks ended.
    blocks: u64,
    /// The hash of their sizes, as the index has them.
    sizes: Sha256,
}

/// A block that is being read.
struct Block {
    lzma: Box<Lzma2Stream>,
    /// Bytes of its header.
    header_len: u64,
    /// Sizes that the header announces.
    packed_len: Option<u64>,
    len: Option<u64>,
    check: Check,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.lzma.total_out();
        f.debug_struct("Block").field("len", &len).finish()
    }
}

/// The check of a block's content.
enum Check {
    None,
    Crc32(Crc),
    Crc64(u64),
    Sha256(Box<Sha256>),
}

impl Check {
    fn new(flags: [u8; 2]) -> Result<Self, Fault> {
        match flags {
            [0, 0] => Ok(Self::None),
            [0, 1] => Ok(Self::Crc32(Crc::new())),
            [0, 4] => Ok(Self::Crc64(!0)),
            [0, 10] => Ok(Self::Sha256(Box::default())),
            _ => Err(Fault::unsupported("the check of a stream")),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Crc32(crc) => crc.update(bytes),
            Self::Crc64(crc) => *crc = crc64(*crc, bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    /// The bytes of it.
    fn finish(self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Crc32(crc) => crc.sum().to_le_bytes().into(),
            Self::Crc64(crc) => (!crc).to_le_bytes().into(),
            Self::Sha256(hash) => hash.finalize().to_vec(),
        }
    }
}

/// For each byte, its CRC-64 (ECMA-182, reflected), and that with 1 to 7 bytes of
/// zeros behind it.
const CRC64: [[u64; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            let low = crc & 1;
            crc = (crc >> 1) ^ (low * 0xc96c_5795_d787_0f42);
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc: u64 = tables[table - 1][byte];
            tables[table][byte] = (crc >> 8) ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
};

/// Continues a CRC-64 with more bytes, eight at a time.
fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let crc = eights.iter().fold(crc, |crc, eight| {
        let mixed = (crc ^ u64::from_le_bytes(*eight)).to_le_bytes();
        let tables = CRC64.iter().rev();
        let crcs = tables
            .zip(mixed)
            .map(|(table, byte)| table[usize::from(byte)]);
        crcs.fold(0, |all, crc| all ^ crc)
    });
    rest.iter().fold(crc, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC64[0][usize::from(low ^ byte)]
    })
}

/// Bytes that a CRC-32 follows.
struct Checked<'a, R> {
    source: &'a mut Source<R>,
    crc: Crc,
    len: u64,
}

impl<'a, R: Read> Checked<'a, R> {
    fn new(source: &'a mut Source<R>) -> Self {
        Self {
            source,
            crc: Crc::new(),
            len: 0,
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let array = self.source.array()?;
        self.crc.update(&array);
        self.len += N as u64;
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// A number of up to 63 bits, 7 of them in each byte, the lowest first.
    fn number(&mut self) -> Result<u64, Fault> {
        let mut number = 0;
        for at in 0..9 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                // As short as it can be.
                if byte == 0 && at > 0 {
                    break;
                }
                return Ok(number);
            }
        }
        Err(Fault::damaged("a number is invalid"))
    }

    /// Zeros up to a length.
    fn padding(&mut self, len: u64) -> Result<(), Fault> {
        while self.len < len {
            if self.byte()? != 0 {
                return Err(Fault::damaged("the padding is not empty"));
            }
        }
        Ok(())
    }

    /// Verifies the CRC-32 of everything before it. Returns the length with it.
    fn end(self) -> Result<(&'a mut Source<R>, u64), Fault> {
        if u32::from_le_bytes(self.source.array()?) == self.crc.sum() {
            Ok((self.source, self.len + 4))
        } else {
            Err(Fault::damaged("the checksum of a header does not match"))
        }
    }
}

/// The next multiple of 4.
fn padded(len: u64) -> u64 {
    len.next_multiple_of(4)
}

impl Xz {
    pub(super) fn begin<R: Read>(source: &mut Source<R>) -> Result<Self, Fault> {
        source.skip(6)?;
        let mut header = Checked::new(source);
        let flags = header.array()?;
        header.end()?;
        Check::new(flags)?;
        Ok(Self {
            flags,
            block: None,
            blocks: 0,
            sizes: Sha256::new(),
        })
    }

    pub(super) fn read<R: Read>(
        &mut self,
        source: &mut Source<R>,
        into: &mut [u8],
    ) -> Result<usize, Fault> {
        loop {
            let Some(block) = &mut self.block else {
                let mut header = Checked::new(source);
                match header.byte()? {
                    0 => {
                        self.index(header)?;
                        return Ok(0);
                    }
                    size => self.block = Some(Block::begin(header, size, self.flags)?),
                }
                continue;
            };
            let input = source.buffered()?;
            let action = if input.is_empty() {
                Action::Finish
            } else {
                Action::Run
            };
            let result = match block.lzma.process(input, into, action) {
                Ok(result) => result,
                Err(_) if action == Action::Finish => {
                    return Err(Fault::Problem(Problem::Ended));
                }
                Err(_) => return Err(Fault::damaged("a block cannot be decompressed")),
            };
            source.consume(result.bytes_consumed);
            let len = result.bytes_produced;
            if len > 0 {
                block.check.update(into.get(..len).unwrap_or_default());
                return Ok(len);
            }
            if result.status == Status::StreamEnd {
                if let Some(block) = self.block.take() {
                    self.end_block(source, block)?;
                }
            } else if result.bytes_consumed == 0 {
                return Err(if action == Action::Finish {
                    Fault::Problem(Problem::Ended)
                } else {
                    Fault::damaged("a block cannot be decompressed")
                });
            }
        }
    }

    /// Verifies a block.
    fn end_block<R: Read>(&mut self, source: &mut Source<R>, block: Block) -> Result<(), Fault> {
        let (packed_len, len) = (block.lzma.total_in(), block.lzma.total_out());
        if block.packed_len.is_some_and(|it| it != packed_len)
            || block.len.is_some_and(|it| it != len)
        {
            return Err(Fault::damaged("a block does not have its length"));
        }
        let mut rest = Checked::new(source);
        rest.padding(padded(packed_len) - packed_len)?;
        let check = block.check.finish();
        let mut expected = vec![0; check.len()];
        source.exact(&mut expected)?;
        if check != expected {
            return Err(Fault::damaged("the checksum of a block does not match"));
        }
        self.blocks += 1;
        let unpadded = block.header_len + packed_len + check.len() as u64;
        self.sizes.update(unpadded.to_le_bytes());
        self.sizes.update(len.to_le_bytes());
        Ok(())
    }

    /// Verifies the index and the footer; `index` is behind the first byte.
    fn index<R: Read>(&mut self, mut index: Checked<'_, R>) -> Result<(), Fault> {
        let wrong = || Fault::damaged("the index of a stream does not match its blocks");
        if index.number()? != self.blocks {
            return Err(wrong());
        }
        let mut sizes = Sha256::new();
        for _ in 0..self.blocks {
            sizes.update(index.number()?.to_le_bytes());
            sizes.update(index.number()?.to_le_bytes());
        }
        if sizes.finalize() != std::mem::take(&mut self.sizes).finalize() {
            return Err(wrong());
        }
        let len = padded(index.len);
        index.padding(len)?;
        let (source, index_len) = index.end()?;
        let invalid = || Fault::damaged("the footer of a stream is invalid");
        let expected = u32::from_le_bytes(source.array()?);
        let mut footer = Checked::new(source);
        let stored_len = u32::from_le_bytes(footer.array()?);
        let flags = footer.array::<2>()?;
        let crc = footer.crc.sum();
        let is_valid = crc == expected
            && (u64::from(stored_len) + 1) * 4 == index_len
            && flags == self.flags
            && source.array()? == FOOTER;
        if is_valid { Ok(()) } else { Err(invalid()) }
    }
}

impl Block {
    /// Reads the header of a block whose first byte is `size`.
    fn begin<R: Read>(
        mut header: Checked<'_, R>,
        size: u8,
        flags_of_stream: [u8; 2],
    ) -> Result<Self, Fault> {
        let invalid = || Fault::damaged("the header of a block is invalid");
        let header_len = (u64::from(size) + 1) * 4;
        let flags = header.byte()?;
        if flags & 0x3c != 0 {
            return Err(invalid());
        }
        let mut announced = |bit: u8| -> Result<Option<u64>, Fault> {
            let is_there = flags & bit != 0;
            is_there.then(|| header.number()).transpose()
        };
        let (packed_len, len) = (announced(0x40)?, announced(0x80)?);
        // One filter, LZMA2, and its one byte of properties.
        if flags & 3 != 0 || header.number()? != LZMA2 {
            return Err(Fault::unsupported("a filter other than LZMA2"));
        }
        if header.number()? != 1 {
            return Err(invalid());
        }
        let dictionary = match header.byte()? {
            40 => u32::MAX,
            bits @ 0..40 => (2 | u32::from(bits & 1)) << (bits / 2 + 11),
            _ => return Err(invalid()),
        };
        header.padding(header_len - 4)?;
        let (_, len_of_it) = header.end()?;
        if len_of_it != header_len {
            return Err(invalid());
        }
        if u64::from(dictionary) > MAX_WINDOW {
            return Err(Fault::Problem(Problem::Window(dictionary.into())));
        }
        Ok(Self {
            lzma: Box::new(Lzma2Stream::new(dictionary)),
            header_len,
            packed_len,
            len,
            check: Check::new(flags_of_stream)?,
        })
    }
}
