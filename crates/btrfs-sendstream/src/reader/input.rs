//! Bytes and their decoder: all of a reader but its source.

use std::io;

use bytes::Bytes;

use super::buffer::Buffer;
use crate::decoder::{Decoded, Decoder, Item};
use crate::error::{Error, Truncated};

/// What was read and not decoded, and what decodes it.
#[derive(Debug)]
pub(super) struct Input {
    decoder: Decoder,
    exact: bool,
    buffer: Buffer,
    /// A command that was split off the buffer and could not be decoded.
    failed: Option<Bytes>,
}

/// What a reader has to do next.
pub(super) enum Next {
    /// Take the next item, which has so many bytes.
    Whole(usize),
    /// Read, towards an item of so many bytes.
    Read(usize),
}

impl Input {
    pub(super) fn new(decoder: Decoder, exact: bool) -> Self {
        Self {
            decoder,
            exact,
            buffer: Buffer::default(),
            failed: None,
        }
    }

    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    #[cfg(test)]
    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Returns the error of a command that could not be decoded once more.
    pub(super) fn fail_again(&mut self) -> Result<(), Error> {
        if let Some(failed) = &self.failed {
            self.decoder.decode(failed)?;
        }
        Ok(())
    }

    /// Whether the next item is whole. One that cannot be measured is, so that the
    /// decoder reports it.
    #[inline]
    pub(super) fn next(&self) -> Next {
        let bytes = self.buffer.bytes();
        match self.decoder.deframer().required(bytes) {
            Ok(total) if bytes.len() < total => Next::Read(total),
            Ok(total) => Next::Whole(total),
            Err(_) => Next::Whole(bytes.len()),
        }
    }

    /// Where to read to, for an item of `total` bytes. Never empty.
    pub(super) fn room(&mut self, total: usize) -> Result<&mut [u8], Error> {
        let bytes = self.buffer.bytes();
        let most = if self.exact {
            let certain = self.decoder.deframer().certain(bytes)?;
            certain.saturating_sub(bytes.len())
        } else {
            usize::MAX
        };
        let room = self.buffer.room(total);
        let most = most.min(room.len());
        Ok(room.split_at_mut(most).0)
    }

    /// Takes note of a read to the [room](Self::room). `false` at the end of the
    /// input, if it may end there.
    pub(super) fn arrived(&mut self, read: io::Result<usize>) -> Result<bool, Error> {
        let read =
            read.map_err(|error| Error::from(error).at(self.decoder.deframer().upcoming()))?;
        self.buffer.arrived(read);
        if read == 0 {
            self.decoder.end_of_input(self.buffer.bytes())?;
        }
        Ok(read > 0)
    }

    /// The next item, which is whole, borrowed from the buffer.
    #[inline]
    pub(super) fn item(&mut self) -> Result<Item<&[u8]>, Error> {
        let (bytes, start) = self.buffer.bytes_and_start();
        let decoded = self.decoder.decode(bytes)?;
        if let Decoded::Item { consumed, .. } = decoded {
            *start += consumed;
        }
        taken(decoded)
    }

    /// The next item, whose `len` bytes are there, and these bytes.
    pub(super) fn raw(&mut self, len: usize) -> Result<(Item<Bytes>, Bytes), Error> {
        let bytes = self.buffer.split_off(len);
        match self.decoder.decode_bytes(&bytes) {
            Ok(decoded) => Ok((taken(decoded)?, bytes)),
            Err(error) => {
                self.failed = Some(bytes);
                Err(error)
            }
        }
    }
}

/// The item of a decoder that had all it needed.
#[inline]
fn taken<B: AsRef<[u8]>>(decoded: Decoded<B>) -> Result<Item<B>, Error> {
    match decoded {
        Decoded::Item { item, .. } => Ok(item),
        Decoded::Need { total } => Err(Truncated::InCommand {
            have: 0,
            need: total,
        }
        .into()),
    }
}
