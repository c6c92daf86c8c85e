//! Frames to bytes.

use super::{Frame, RawCommand};
use crate::error::{Error, LimitExceeded, Misuse};
use crate::wire::{CommandHeader, MAGIC, Version};

/// Writes frames, with lengths and checksums.
///
/// The counterpart of [`Deframer`](super::Deframer): it knows neither
/// attributes nor sequence, and what a deframer gave it writes back byte for
/// byte.
///
/// ```
/// use btrfs_sendstream::{Framer, RawCommand};
///
/// let mut out = Vec::new();
/// Framer::command(&RawCommand { number: 21, payload: b"" }, &mut out)?;
/// assert_eq!(out, b"\0\0\0\0\x15\0\x50\x6c\xc9\x9d");
/// # Ok::<(), btrfs_sendstream::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Framer(());

impl Framer {
    /// Appends a stream header to `out`.
    pub fn header(version: Version, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&version.number().to_le_bytes());
    }

    /// Appends a command to `out`, with the checksum that belongs to it.
    ///
    /// # Errors
    /// [`Misuse::CommandZero`], and [`LimitExceeded`] for a payload of 4 GiB
    /// or more. Nothing is appended then.
    pub fn command<B: AsRef<[u8]>>(
        command: &RawCommand<B>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let payload = command.payload.as_ref();
        let header = finished_header(command.number, payload)?;
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
        Ok(())
    }

    /// Appends either.
    ///
    /// # Errors
    /// Those of [`Framer::command`].
    pub fn frame<B: AsRef<[u8]>>(frame: &Frame<B>, out: &mut Vec<u8>) -> Result<(), Error> {
        match frame {
            Frame::Header(version) => {
                Self::header(*version, out);
                Ok(())
            }
            Frame::Command(command) => Self::command(command, out),
        }
    }
}

/// The header, checksum included, that stands before `payload`.
pub(crate) fn finished_header(number: u16, payload: &[u8]) -> Result<[u8; 10], Error> {
    if number == 0 {
        return Err(Misuse::CommandZero.into());
    }
    let len = u32::try_from(payload.len()).map_err(|_| LimitExceeded::Payload {
        len: payload.len() as u64,
        max: u32::MAX,
    })?;
    let mut header = CommandHeader {
        len,
        number,
        crc: 0,
    };
    header.crc = header.checksum(payload);
    Ok(header.encode())
}
