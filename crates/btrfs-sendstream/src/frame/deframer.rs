//! Bytes to frames.

use bytes::Bytes;

use super::{Frame, RawCommand};
use crate::error::{
    Error, ErrorKind, LimitExceeded, Malformed, Position, SequenceError, Truncated,
};
use crate::limits::Limits;
use crate::wire::cursor::Cursor;
use crate::wire::{
    COMMAND_HEADER_LEN, CommandHeader, END, MAGIC, STREAM_HEADER_LEN, Version, find_stream_header,
};

/// What a [`Deframer`] made of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deframed<B: AsRef<[u8]>> {
    /// Nothing consumed: call again with at least `total` bytes of input,
    /// the ones passed now included.
    Need {
        /// Bytes that have to be there.
        total: usize,
    },
    /// A frame, which was the first `consumed` bytes of the input.
    Frame {
        /// The frame.
        frame: Frame<B>,
        /// Its bytes of input.
        consumed: usize,
    },
}

/// What is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// The first header.
    FirstHeader,
    /// A command of a stream of this version.
    Command(Version),
    /// Another header, or the end of the input.
    NextHeader,
}

/// Splits bytes into frames and checks their checksums, without I/O.
///
/// Keeps nothing of its input: a few numbers are its whole state. After an
/// error nothing is consumed, and the same call gives the same error.
///
/// ```
/// use btrfs_sendstream::{Deframed, Deframer, Frame, Version};
///
/// let input = b"btrfs-stream\0\x02\0\0\0";
/// let mut deframer = Deframer::default();
/// assert_eq!(deframer.deframe(&input[..5])?, Deframed::Need { total: 17 });
/// let frame = Frame::Header(Version::V2);
/// assert_eq!(deframer.deframe(input)?, Deframed::Frame { frame, consumed: 17 });
/// # Ok::<(), btrfs_sendstream::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Deframer {
    limits: Limits,
    due: Due,
    /// The last frame, or the one that failed.
    position: Position,
    /// Headers seen, commands of the stream seen, bytes consumed.
    seen: Position,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Deframer {
    /// A deframer at the start of the input.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            due: Due::FirstHeader,
            position: Position::default(),
            seen: Position::default(),
        }
    }

    /// Takes the next frame off the front of `input`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for a missing magic, a wrong checksum and
    /// command 0; [`ErrorKind::Unsupported`] for an unknown version;
    /// [`ErrorKind::Limit`] for a command that claims too many bytes, before
    /// they are asked for; [`ErrorKind::Sequence`] for anything but a header
    /// after END and for a header inside a stream.
    pub fn deframe<'a>(&mut self, input: &'a [u8]) -> Result<Deframed<&'a [u8]>, Error> {
        let deframed = self.peek(input)?;
        if let Deframed::Frame { frame, consumed } = &deframed {
            self.advance(frame, *consumed);
        }
        Ok(deframed)
    }

    /// Like [`Deframer::deframe`], with a payload that shares `input`.
    ///
    /// # Errors
    /// The same.
    pub fn deframe_bytes(&mut self, input: &Bytes) -> Result<Deframed<Bytes>, Error> {
        Ok(match self.deframe(input)? {
            Deframed::Need { total } => Deframed::Need { total },
            Deframed::Frame { frame, consumed } => Deframed::Frame {
                frame: frame.map(|payload| input.slice_ref(payload)),
                consumed,
            },
        })
    }

    /// Whether the input may end here, with `left` not consumed.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] inside a stream, [`ErrorKind::Empty`] if
    /// there was no input at all, and whatever is wrong with `left` itself.
    pub fn end_of_input(&self, left: &[u8]) -> Result<(), Error> {
        let position = self.upcoming();
        let need = self.required(left).map_err(|error| error.at(position))?;
        let have = left.len();
        let kind: ErrorKind = match self.due {
            Due::NextHeader if have == 0 => return Ok(()),
            Due::FirstHeader if have == 0 => ErrorKind::Empty,
            Due::FirstHeader | Due::NextHeader => Truncated::InHeader { have, need }.into(),
            Due::Command(_) if have == 0 => Truncated::BetweenCommands.into(),
            Due::Command(_) => match find_stream_header(left) {
                Some(at) => self.header_in_command(at).into(),
                None => Truncated::InCommand { have, need }.into(),
            },
        };
        Err(Error::from(kind).at(position))
    }

    /// Place of the last frame, or of the one that failed.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Bytes of input consumed so far, over all streams.
    pub fn consumed(&self) -> u64 {
        self.seen.offset
    }

    /// Version of the stream whose commands are being read; `None` before
    /// the first header and after END.
    pub fn version(&self) -> Option<Version> {
        match self.due {
            Due::Command(version) => Some(version),
            Due::FirstHeader | Due::NextHeader => None,
        }
    }

    /// Like [`Deframer::deframe`], but moves on only with
    /// [`Deframer::advance`].
    #[inline]
    pub(crate) fn peek<'a>(&mut self, input: &'a [u8]) -> Result<Deframed<&'a [u8]>, Error> {
        match self.examine(input) {
            Ok(deframed) => Ok(deframed),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Gives `error` the place of the frame that comes next, and makes that
    /// the current place.
    #[cold]
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        self.position = self.upcoming();
        error.at(self.position)
    }

    /// Moves on over a frame that [`Deframer::peek`] gave.
    #[inline]
    pub(crate) fn advance(&mut self, frame: &Frame<&[u8]>, consumed: usize) {
        match frame {
            Frame::Header(version) => {
                self.due = Due::Command(*version);
                self.seen.stream += 1;
                self.seen.command = 0;
            }
            Frame::Command(raw) => {
                self.seen.command += 1;
                if raw.is_end() {
                    self.due = Due::NextHeader;
                }
            }
        }
        self.position = self.seen;
        self.seen.offset += consumed as u64;
    }

    /// How many bytes, from the start of `input`, the next frame needs as
    /// far as `input` tells.
    #[inline]
    pub(crate) fn required(&self, input: &[u8]) -> Result<usize, Error> {
        match self.due {
            Due::Command(version) => self.command_len(version, input),
            Due::FirstHeader | Due::NextHeader => self.header_len(input),
        }
    }

    /// How many bytes, from the start of `input`, certainly belong to the
    /// stream that it is part of: everything but END has a command behind
    /// it, which has at least ten bytes.
    pub(crate) fn certain(&self, input: &[u8]) -> Result<usize, Error> {
        let required = self.required(input)?;
        let ends = match self.due {
            // Until the command header is there, END cannot be excluded.
            Due::Command(_) => CommandHeader::read(input).is_none_or(|header| header.number == END),
            Due::FirstHeader | Due::NextHeader => false,
        };
        Ok(if ends {
            required
        } else {
            required.saturating_add(COMMAND_HEADER_LEN)
        })
    }

    /// Place of the frame that comes next.
    pub(crate) fn upcoming(&self) -> Position {
        let Position {
            stream,
            command,
            offset,
        } = self.seen;
        let command = match self.due {
            Due::FirstHeader => 0,
            Due::Command(_) | Due::NextHeader => command + 1,
        };
        Position {
            stream,
            command,
            offset,
        }
    }

    #[inline]
    fn examine<'a>(&self, input: &'a [u8]) -> Result<Deframed<&'a [u8]>, Error> {
        let total = self.required(input)?;
        let Some((bytes, _)) = input.split_at_checked(total) else {
            return Ok(Deframed::Need { total });
        };
        let mut cursor = Cursor::new(bytes);
        let frame = match self.due {
            Due::FirstHeader | Due::NextHeader => {
                cursor.take(MAGIC.len());
                Frame::Header(Version::try_from(cursor.u32().unwrap_or_default())?)
            }
            Due::Command(_) => {
                let Some(header) = CommandHeader::read(bytes) else {
                    return Ok(Deframed::Need { total });
                };
                cursor.take(COMMAND_HEADER_LEN);
                let payload = cursor.take_rest();
                self.check_command(header, payload, bytes)?;
                Frame::Command(RawCommand {
                    number: header.number,
                    payload,
                })
            }
        };
        Ok(Deframed::Frame {
            frame,
            consumed: total,
        })
    }

    #[inline]
    fn check_command(
        &self,
        header: CommandHeader,
        payload: &[u8],
        bytes: &[u8],
    ) -> Result<(), Error> {
        let computed = header.checksum(payload);
        if computed != header.crc {
            return Err(match find_stream_header(bytes) {
                Some(at) => self.header_in_command(at).into(),
                None => Malformed::Checksum {
                    computed,
                    stored: header.crc,
                }
                .into(),
            });
        }
        if header.number == 0 {
            return Err(Malformed::CommandZero.into());
        }
        Ok(())
    }

    /// Length of a stream header, if what is there of it looks like one.
    fn header_len(&self, input: &[u8]) -> Result<usize, Error> {
        let same = input.iter().zip(&MAGIC).all(|(byte, magic)| byte == magic);
        match self.due {
            _ if same => Ok(STREAM_HEADER_LEN),
            Due::NextHeader => Err(SequenceError::AfterEnd.into()),
            Due::FirstHeader | Due::Command(_) => Err(Malformed::Magic.into()),
        }
    }

    #[inline]
    fn command_len(&self, version: Version, input: &[u8]) -> Result<usize, Error> {
        let Some(header) = CommandHeader::read(input) else {
            return Ok(COMMAND_HEADER_LEN);
        };
        let max = self.limits.max_payload(version);
        match usize::try_from(header.len) {
            Ok(len) if header.len <= max => Ok(COMMAND_HEADER_LEN.saturating_add(len)),
            _ => self.oversized(header, max, input),
        }
    }

    /// A command that claims more than it may: the length may be part of a
    /// stream header, which begins here or after a command header that was
    /// cut off. Asks for more input as long as that can still turn out.
    #[cold]
    fn oversized(&self, header: CommandHeader, max: u32, input: &[u8]) -> Result<usize, Error> {
        for at in 0..COMMAND_HEADER_LEN {
            let rest = input.get(at..).unwrap_or_default();
            if rest.starts_with(&MAGIC) {
                return Err(self.header_in_command(at).into());
            }
            if MAGIC.starts_with(rest) {
                return Ok(at + MAGIC.len());
            }
        }
        let len = header.len.into();
        Err(LimitExceeded::Payload { len, max }.into())
    }

    fn header_in_command(&self, at: usize) -> SequenceError {
        match at {
            0 => SequenceError::HeaderInStream,
            _ => SequenceError::HeaderInCommand {
                offset: self.seen.offset.saturating_add(at as u64),
            },
        }
    }
}
