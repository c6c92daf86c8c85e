//! Frames of lz4.

use std::hash::Hasher;
use std::io::Read;

use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

use super::error::Fault;
use super::source::Source;

/// Bits of the first byte of the descriptor.
const VERSION: u8 = 0b1100_0000;
const VERSION_1: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const RESERVED: u8 = 1 << 1;
const DICTIONARY: u8 = 1;

/// Of the length of a block: the block is stored as it is.
const STORED: u32 = 1 << 31;

/// How far back blocks refer to those before.
const HISTORY: usize = 64 * 1024;

/// A frame.
#[derive(Debug)]
pub(super) struct Lz4 {
    /// Most bytes of a block.
    block_len: usize,
    has_block_checksums: bool,
    has_checksum: bool,
    /// The length that the header announces.
    announced: Option<u64>,
    /// The end of what came before, if blocks refer to it.
    history: Option<Vec<u8>>,
    packed: Vec<u8>,
    /// A block that was unpacked.
    block: Vec<u8>,
    /// What of it was passed on.
    start: usize,
    hash: XxHash32,
    /// Bytes that were unpacked.
    len: u64,
}

fn hash(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

impl Lz4 {
    pub(super) fn begin<R: Read>(source: &mut Source<R>) -> Result<Self, Fault> {
        let invalid = || Fault::damaged("the header of a frame is invalid");
        let [_, _, _, _, flags, size] = source.array::<6>()?;
        if flags & VERSION != VERSION_1 || flags & RESERVED != 0 {
            return Err(invalid());
        }
        let block_len = match size {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(invalid()),
        };
        let mut descriptor = vec![flags, size];
        let announced = if flags & CONTENT_SIZE != 0 {
            let len = source.array::<8>()?;
            descriptor.extend(len);
            Some(u64::from_le_bytes(len))
        } else {
            None
        };
        if flags & DICTIONARY != 0 {
            return Err(Fault::unsupported("a dictionary"));
        }
        // The second byte of the hash.
        let expected = (hash(&descriptor) >> 8) as u8;
        if source.array()? != [expected] {
            return Err(invalid());
        }
        Ok(Self {
            block_len,
            has_block_checksums: flags & BLOCK_CHECKSUMS != 0,
            has_checksum: flags & CONTENT_CHECKSUM != 0,
            announced,
            history: (flags & INDEPENDENT == 0).then(Vec::new),
            packed: Vec::new(),
            block: Vec::new(),
            start: 0,
            hash: XxHash32::with_seed(0),
            len: 0,
        })
    }

    pub(super) fn read<R: Read>(
        &mut self,
        source: &mut Source<R>,
        into: &mut [u8],
    ) -> Result<usize, Fault> {
        loop {
            let mut rest = self.block.get(self.start..).unwrap_or_default();
            let len = rest.read(into)?;
            if len > 0 {
                self.start += len;
                return Ok(len);
            }
            match u32::from_le_bytes(source.array()?) {
                0 => return self.end(source),
                len => self.next_block(source, len)?,
            }
        }
    }

    fn next_block<R: Read>(&mut self, source: &mut Source<R>, len: u32) -> Result<(), Fault> {
        let is_stored = len & STORED != 0;
        let len = (len & !STORED) as usize;
        if len > self.block_len {
            return Err(Fault::damaged("a block is too long"));
        }
        if let Some(history) = &mut self.history {
            history.extend_from_slice(&self.block);
            let excess = history.len().saturating_sub(HISTORY);
            history.drain(..excess);
        }
        self.start = 0;
        self.packed.resize(len, 0);
        source.exact(&mut self.packed)?;
        if self.has_block_checksums && u32::from_le_bytes(source.array()?) != hash(&self.packed) {
            return Err(Fault::damaged("the checksum of a block does not match"));
        }
        if is_stored {
            std::mem::swap(&mut self.block, &mut self.packed);
        } else {
            self.block.resize(self.block_len, 0);
            let unpacked = match &self.history {
                Some(history) => decompress_into_with_dict(&self.packed, &mut self.block, history),
                None => decompress_into(&self.packed, &mut self.block),
            };
            let failed = |_| Fault::damaged("a block cannot be decompressed");
            self.block.truncate(unpacked.map_err(failed)?);
        }
        if self.has_checksum {
            self.hash.write(&self.block);
        }
        self.len += self.block.len() as u64;
        Ok(())
    }

    /// Verifies what the frame says about its content.
    fn end<R: Read>(&self, source: &mut Source<R>) -> Result<usize, Fault> {
        if self.has_checksum && u32::from_le_bytes(source.array()?) != self.hash.finish_32() {
            return Err(Fault::damaged("the checksum of a frame does not match"));
        }
        if self
            .announced
            .is_some_and(|announced| announced != self.len)
        {
            return Err(Fault::damaged("a frame does not have its length"));
        }
        Ok(0)
    }
}
