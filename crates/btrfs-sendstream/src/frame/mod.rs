//! Frames: stream headers, and commands as number and payload.
//!
//! This level understands no attribute, so it carries every stream without
//! loss, also commands and attributes that are unknown here.

mod deframer;
pub(crate) mod framer;

use bytes::Bytes;

use crate::attr::RawAttributes;
use crate::error::CommandName;
use crate::wire::{CommandHeader, END, Version};

pub use deframer::{Deframed, Deframer};
pub use framer::Framer;

/// A stream header or an undecoded command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Frame<B: AsRef<[u8]> = Bytes> {
    /// A stream begins.
    Header(Version),
    /// A command of the stream.
    Command(RawCommand<B>),
}

impl<B: AsRef<[u8]>> Frame<B> {
    /// The same frame over other bytes.
    pub(crate) fn map<C: AsRef<[u8]>>(self, convert: impl FnOnce(B) -> C) -> Frame<C> {
        match self {
            Self::Header(version) => Frame::Header(version),
            Self::Command(raw) => Frame::Command(raw.map(convert)),
        }
    }
}

/// A command as number and payload.
///
/// The checksum is not kept: a deframer has checked it, and it follows from
/// the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawCommand<B: AsRef<[u8]> = Bytes> {
    /// The command's number; may be unknown.
    pub number: u16,
    /// Its attributes, undecoded.
    pub payload: B,
}

impl<B: AsRef<[u8]>> RawCommand<B> {
    /// The attributes in their order, for a stream of this version. Their
    /// offsets count from the start of the payload.
    pub fn attributes(&self, version: Version) -> RawAttributes<'_> {
        RawAttributes::new(self.payload.as_ref(), version, 0)
    }

    /// The checksum that the command has in a stream.
    ///
    /// Payloads of 4 GiB and more have none; the result is then 0.
    pub fn checksum(&self) -> u32 {
        let payload = self.payload.as_ref();
        u32::try_from(payload.len()).map_or(0, |len| {
            CommandHeader {
                len,
                number: self.number,
                crc: 0,
            }
            .checksum(payload)
        })
    }

    /// Whether this is the END command.
    pub fn is_end(&self) -> bool {
        self.number == END
    }

    pub(crate) fn name(&self) -> CommandName {
        CommandName(self.number)
    }

    pub(crate) fn map<C: AsRef<[u8]>>(self, convert: impl FnOnce(B) -> C) -> RawCommand<C> {
        RawCommand {
            number: self.number,
            payload: convert(self.payload),
        }
    }
}
