//! Bytes to typed commands, without I/O.

use bytes::Bytes;

use crate::attr::RawAttributes;
use crate::command::{Command, CommandKind, codec};
use crate::error::{Error, Position, Unsupported};
use crate::frame::{Deframed, Deframer, Frame, RawCommand};
use crate::limits::Limits;
use crate::sequence::Sequence;
use crate::wire::{COMMAND_HEADER_LEN, Version};

/// A stream header or a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Item<B: AsRef<[u8]> = Bytes> {
    /// A stream begins.
    Header(Version),
    /// A command of the stream.
    Command(Command<B>),
    /// A command with an unknown number; only if the decoder
    /// [allows](DecoderBuilder::allow_unknown) them.
    Unknown(RawCommand<B>),
}

impl<B: AsRef<[u8]>> Item<B> {
    pub(crate) fn map<C: AsRef<[u8]>>(self, mut convert: impl FnMut(B) -> C) -> Item<C> {
        match self {
            Self::Header(version) => Item::Header(version),
            Self::Command(command) => Item::Command(command.map(convert)),
            Self::Unknown(raw) => Item::Unknown(raw.map(&mut convert)),
        }
    }
}

impl Item<&[u8]> {
    /// Copies the item, so that it does not borrow from the input.
    pub fn to_owned(&self) -> Item {
        self.clone().map(Bytes::copy_from_slice)
    }
}

/// What a [`Decoder`] made of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<B: AsRef<[u8]>> {
    /// Nothing consumed: call again with at least `total` bytes of input,
    /// the ones passed now included.
    Need {
        /// Bytes that have to be there.
        total: usize,
    },
    /// An item, which was the first `consumed` bytes of the input.
    Item {
        /// The item.
        item: Item<B>,
        /// Its bytes of input.
        consumed: usize,
    },
}

/// How to decode: bounds, and what to do with what is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecoderBuilder {
    limits: Limits,
    allow_unknown: bool,
}

impl DecoderBuilder {
    /// Sets the bounds. The default is [`Limits::default`].
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether to pass on commands with unknown numbers as
    /// [`Item::Unknown`], and to ignore attributes that are unknown or that
    /// their command does not use. The default is to refuse them.
    ///
    /// Number 0, and numbers that are known but newer than the stream's
    /// version, are refused either way.
    #[must_use]
    pub fn allow_unknown(mut self, allow: bool) -> Self {
        self.allow_unknown = allow;
        self
    }

    /// A decoder at the start of its input.
    pub fn build(self) -> Decoder {
        Decoder {
            deframer: Deframer::new(self.limits),
            sequence: Sequence::default(),
            allow_unknown: self.allow_unknown,
            ignored_attributes: 0,
        }
    }
}

/// Decodes streams from slices of input, without I/O.
///
/// The caller owns the buffer: it passes what it has, gets an item with the
/// number of bytes consumed, and passes the rest again. A few numbers are
/// the decoder's whole state, whatever the input. Decoding allocates only
/// for errors.
///
/// After an error nothing is consumed, and the same call gives the same
/// error.
///
/// Checked: checksums, limits, the order of commands as far as the format
/// fixes it, the attributes' numbers, lengths and presence, paths, names,
/// nanoseconds, and that a subvolume's UUID is not nil. Not checked, but
/// carried as it is: numbers that are too large for what they mean, such as
/// a user id over 32 bits.
///
/// ```
/// use btrfs_sendstream::{Decoded, Decoder, Item, Version};
///
/// let input = b"btrfs-stream\0\x01\0\0\0";
/// let mut decoder = Decoder::new();
/// assert_eq!(decoder.decode(&input[..5])?, Decoded::Need { total: 17 });
/// let item = Item::Header(Version::V1);
/// assert_eq!(decoder.decode(input)?, Decoded::Item { item, consumed: 17 });
/// assert!(decoder.end_of_input(b"").is_err());
/// # Ok::<(), btrfs_sendstream::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    deframer: Deframer,
    sequence: Sequence,
    allow_unknown: bool,
    ignored_attributes: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder with the default settings, at the start of its input.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Settings other than the default.
    pub fn builder() -> DecoderBuilder {
        DecoderBuilder::default()
    }

    /// Takes the next item off the front of `input`.
    ///
    /// # Errors
    /// Every [`ErrorKind`](crate::ErrorKind) but `Truncated`, `Empty`,
    /// `Misuse` and `Io`.
    #[inline]
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<&'a [u8]>, Error> {
        let (frame, consumed) = match self.deframer.peek(input)? {
            Deframed::Need { total } => return Ok(Decoded::Need { total }),
            Deframed::Frame { frame, consumed } => (frame, consumed),
        };
        match self.interpret(frame) {
            Ok((item, sequence)) => {
                if self.allow_unknown {
                    self.ignored_attributes += self.ignored(&frame);
                }
                self.deframer.advance(&frame, consumed);
                self.sequence = sequence;
                Ok(Decoded::Item { item, consumed })
            }
            Err(error) => Err(self.deframer.fail(error)),
        }
    }

    /// Like [`Decoder::decode`], with names and data that share `input`
    /// instead of copying it. What is kept of them keeps the whole
    /// allocation behind `input` alive.
    ///
    /// # Errors
    /// The same.
    pub fn decode_bytes(&mut self, input: &Bytes) -> Result<Decoded<Bytes>, Error> {
        Ok(match self.decode(input)? {
            Decoded::Need { total } => Decoded::Need { total },
            Decoded::Item { item, consumed } => Decoded::Item {
                item: item.map(|bytes| input.slice_ref(bytes)),
                consumed,
            },
        })
    }

    /// Whether the input may end here, with `left` not consumed.
    ///
    /// It may after END. It may not before any header, inside a header or a
    /// command, or between commands without an END.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`](crate::ErrorKind::Truncated),
    /// [`ErrorKind::Empty`](crate::ErrorKind::Empty) if there was no input
    /// at all, and whatever is wrong with `left` itself.
    pub fn end_of_input(&self, left: &[u8]) -> Result<(), Error> {
        self.deframer.end_of_input(left)
    }

    /// Place of the last item, or of the one that failed.
    pub fn position(&self) -> Position {
        self.deframer.position()
    }

    /// Bytes of input consumed so far, over all streams.
    pub fn consumed(&self) -> u64 {
        self.deframer.consumed()
    }

    /// How many attributes were ignored so far because they are unknown or
    /// not used by their command: 0, unless that is
    /// [allowed](DecoderBuilder::allow_unknown).
    pub fn ignored_attributes(&self) -> u64 {
        self.ignored_attributes
    }

    /// Attributes of a command that its kind does not use. Those of an
    /// unknown command are not counted.
    fn ignored(&self, frame: &Frame<&[u8]>) -> u64 {
        let (Frame::Command(raw), Some(version)) = (frame, self.deframer.version()) else {
            return 0;
        };
        match CommandKind::from_number(raw.number) {
            Some(kind) => {
                codec::ignored(kind, RawAttributes::new(raw.payload, version, 0), version)
            }
            None => 0,
        }
    }

    /// Version of the stream being decoded; `None` before the first header
    /// and after END.
    pub fn version(&self) -> Option<Version> {
        self.deframer.version()
    }

    pub(crate) fn deframer(&self) -> &Deframer {
        &self.deframer
    }

    #[inline]
    fn interpret<'a>(&self, frame: Frame<&'a [u8]>) -> Result<(Item<&'a [u8]>, Sequence), Error> {
        match (frame, self.deframer.version()) {
            (Frame::Command(raw), Some(version)) => {
                let sequence = self.sequence.command(raw.name())?;
                Ok((self.command(raw, version)?, sequence))
            }
            (Frame::Command(raw), None) => {
                // The deframer gives commands only inside a stream.
                self.sequence.command(raw.name())?;
                Ok((Item::Unknown(raw), self.sequence))
            }
            (Frame::Header(version), _) => Ok((Item::Header(version), self.sequence.header()?)),
        }
    }

    #[inline]
    fn command<'a>(
        &self,
        raw: RawCommand<&'a [u8]>,
        version: Version,
    ) -> Result<Item<&'a [u8]>, Error> {
        let offset = self.deframer.consumed();
        let Some(kind) = CommandKind::from_number(raw.number) else {
            if self.allow_unknown {
                return Ok(Item::Unknown(raw));
            }
            let number = raw.number;
            return Err(Unsupported::Command { number, offset }.into());
        };
        if kind.since() > version {
            return Err(Unsupported::CommandVersion {
                command: kind,
                version,
                offset,
            }
            .into());
        }
        let payload_offset = offset.saturating_add(COMMAND_HEADER_LEN as u64);
        let attributes = RawAttributes::new(raw.payload, version, payload_offset);
        codec::read(kind, attributes, version, self.allow_unknown).map(Item::Command)
    }
}
