//! What can go wrong, whose fault it is, and where.

use std::{fmt, io};

use crate::command::{CommandKind, PathError};
use crate::wire::Version;
use crate::wire::attribute::Attribute;

/// A place in the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Position {
    /// Which stream of the input, by headers seen, from 1; 0 before the
    /// first header.
    pub stream: u64,
    /// Which command of that stream, from 1; 0 for the header itself.
    pub command: u64,
    /// Bytes of input before the header or command.
    #[cfg_attr(feature = "serde", serde(rename = "byte"))]
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stream == 0 {
            return write!(f, "byte {}", self.offset);
        }
        write!(
            f,
            "stream {}, command {}, byte {}",
            self.stream, self.command, self.offset
        )
    }
}

/// Why a stream could not be read or written, and where.
///
/// One pointer wide, so that results stay small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    position: Option<Position>,
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// What went wrong, taken out.
    pub fn into_kind(self) -> ErrorKind {
        self.0.kind
    }

    /// Where the command or header begins that could not be read or written.
    /// `None` for errors that have no place in a stream, such as a number
    /// that is no [`Version`].
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// Whether a second stream begins inside this one, as it does when a
    /// sender was stopped and started again into the same pipe or file.
    pub fn is_restarted_sender(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Sequence(
                SequenceError::HeaderInStream | SequenceError::HeaderInCommand { .. }
            )
        )
    }

    /// The same error with its place, unless it has one already.
    pub(crate) fn at(mut self, position: Position) -> Self {
        self.0.position.get_or_insert(position);
        self
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("position", &self.0.position)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.position {
            Some(position) => write!(f, "{} ({position})", self.0.kind),
            None => self.0.kind.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            ErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl<K: Into<ErrorKind>> From<K> for Error {
    fn from(kind: K) -> Self {
        Self(Box::new(Inner {
            kind: kind.into(),
            position: None,
        }))
    }
}

/// What went wrong, by whose fault it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bytes that no sender of this format writes: damage, or no send stream
    /// at all.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Well-formed, but not allowed at this place.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// Something this library, or this version of the format, does not know.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The input ended inside a stream.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// The input was empty: not even a header.
    #[error("the input is empty")]
    Empty,
    /// A bound of [`Limits`](crate::Limits) or of the version was passed.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The caller asked an encoder for what it cannot write.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The reader or writer below failed.
    #[error("input/output error: {0}")]
    Io(#[from] io::Error),
}

/// How bytes break the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The input does not begin with a stream header.
    #[error("not a send stream: the magic is missing")]
    Magic,
    /// The checksum does not fit the command.
    #[error("crc32 mismatch in command: {computed:#010x} computed, {stored:#010x} in the stream")]
    Checksum {
        /// What the bytes give.
        computed: u32,
        /// What the command header says.
        stored: u32,
    },
    /// Command number 0, which is reserved. Ten zero bytes have a right
    /// checksum, so a run of zeros shows up as this.
    #[error("command number 0")]
    CommandZero,
    /// The payload ends inside an attribute's header.
    #[error("{left} bytes after the last attribute, at byte {offset}")]
    TrailingBytes {
        /// How many bytes are left over.
        left: usize,
        /// Where in the input they begin.
        offset: u64,
    },
    /// An attribute is longer than what is left of its command.
    #[error("attribute {number} at byte {offset} claims {len} bytes where {left} are left")]
    AttributeOverrun {
        /// Number of the attribute.
        number: u16,
        /// The length it claims.
        len: usize,
        /// Bytes left in the command.
        left: usize,
        /// Where in the input the attribute begins.
        offset: u64,
    },
    /// A second attribute of the same number in one command.
    #[error("duplicate attribute {attribute} at byte {offset}")]
    DuplicateAttribute {
        /// The attribute.
        attribute: Attribute,
        /// Where in the input the second one begins.
        offset: u64,
    },
    /// A command lacks an attribute that it must have.
    #[error("{command} lacks attribute {attribute}")]
    MissingAttribute {
        /// The command.
        command: CommandKind,
        /// The attribute.
        attribute: Attribute,
    },
    /// A value of fixed size has another size.
    #[error("attribute {attribute} has {len} bytes instead of {expected}")]
    AttributeLength {
        /// The attribute.
        attribute: Attribute,
        /// Bytes in the stream.
        len: usize,
        /// Bytes the value needs.
        expected: usize,
    },
    /// A path or name that could leave the subvolume or cannot exist.
    #[error("attribute {attribute}: {reason}")]
    Path {
        /// The attribute.
        attribute: Attribute,
        /// The rule it breaks.
        reason: PathError,
    },
    /// A NUL byte in a link target or in the name of an extended attribute.
    #[error("attribute {attribute} contains a NUL byte")]
    Nul {
        /// The attribute.
        attribute: Attribute,
    },
    /// A time with 1,000,000,000 nanoseconds or more.
    #[error("attribute {attribute} has {nanoseconds} nanoseconds")]
    Nanoseconds {
        /// The attribute.
        attribute: Attribute,
        /// What it says.
        nanoseconds: u32,
    },
    /// A subvolume with a UUID of zeros. Stamping it would remove the
    /// received UUID instead of setting it.
    #[error("{command} with a UUID of zeros")]
    NilUuid {
        /// SUBVOL or SNAPSHOT.
        command: CommandKind,
    },
}

/// How a command or header stands in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// A command before the first SUBVOL or SNAPSHOT; also END there.
    #[error("{command} before any subvol or snapshot command")]
    NoSubvolume {
        /// The command.
        command: CommandName,
    },
    /// A stream header where a command is due: a second stream begins
    /// inside the first.
    #[error(
        "a stream header inside the stream: \
         a second stream begins here"
    )]
    HeaderInStream,
    /// A stream header within the bytes of a command that is damaged or cut
    /// off: a second stream begins inside the first.
    #[error(
        "the command is cut off by a stream header at byte {offset}: \
         a second stream begins there"
    )]
    HeaderInCommand {
        /// Where in the input the header begins.
        offset: u64,
    },
    /// Something other than a stream header after END.
    #[error("data after the end command is not a stream header")]
    AfterEnd,
    /// A command before any stream header. Only encoders report this.
    #[error("a command before any stream header")]
    NoHeader,
}

/// A command as errors name it: a known one, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandName(pub(crate) u16);

impl CommandName {
    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match CommandKind::from_number(self.0) {
            Some(kind) => kind.fmt(f),
            None => write!(f, "command {}", self.0),
        }
    }
}

/// What is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// A version other than 1, 2 and 3.
    #[error("stream version {number}; versions 1 to 3 are supported")]
    Version {
        /// What the header says.
        number: u32,
    },
    /// A command number over 26.
    #[error("unknown command {number} at byte {offset}")]
    Command {
        /// The number.
        number: u16,
        /// Where in the input the command begins.
        offset: u64,
    },
    /// A command that is newer than the stream's version.
    #[error("{command} at byte {offset} needs version {}, the stream has {version}", .command.since())]
    CommandVersion {
        /// The command.
        command: CommandKind,
        /// The stream's version.
        version: Version,
        /// Where in the input the command begins.
        offset: u64,
    },
    /// Attribute number 0, or one over 35.
    #[error("unknown attribute {number} at byte {offset}")]
    Attribute {
        /// The number.
        number: u16,
        /// Where in the input the attribute begins.
        offset: u64,
    },
    /// An attribute that is newer than the stream's version.
    #[error("attribute {attribute} at byte {offset} needs version {}, the stream has {version}", .attribute.since())]
    AttributeVersion {
        /// The attribute.
        attribute: Attribute,
        /// The stream's version.
        version: Version,
        /// Where in the input the attribute begins.
        offset: u64,
    },
    /// A known attribute in a command that does not use it.
    #[error("{command} does not have attribute {attribute}, at byte {offset}")]
    UnexpectedAttribute {
        /// The command.
        command: CommandKind,
        /// The attribute.
        attribute: Attribute,
        /// Where in the input the attribute begins.
        offset: u64,
    },
}

/// Where the input stopped short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Truncated {
    /// Inside a stream header.
    #[error("the input ends inside a stream header: {have} of {need} bytes")]
    InHeader {
        /// Bytes of the header that are there.
        have: usize,
        /// Bytes of a header.
        need: usize,
    },
    /// After a whole command or header, with no END before.
    #[error("the input ends between two commands, without an end command")]
    BetweenCommands,
    /// Inside a command.
    #[error("the input ends inside a command: {have} of at least {need} bytes")]
    InCommand {
        /// Bytes of the command that are there, its header included.
        have: usize,
        /// Bytes it needs, as far as is known.
        need: usize,
    },
}

/// Which bound was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitExceeded {
    /// A command with more payload than allowed.
    #[error("a command of {len} bytes; at most {max} are allowed")]
    Payload {
        /// Bytes of payload.
        len: u64,
        /// The bound, see [`Limits::max_payload`](crate::Limits::max_payload).
        max: u32,
    },
}

/// What an encoder was asked for and cannot write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The command may not stand here.
    #[error("cannot be written here: {0}")]
    Sequence(SequenceError),
    /// The version has no such command.
    #[error("version {version} has no {command} command")]
    CommandVersion {
        /// The command.
        command: CommandKind,
        /// The version being written.
        version: Version,
    },
    /// The version has no such attribute in this command.
    #[error("version {version} has no attribute {attribute} here")]
    AttributeVersion {
        /// The attribute.
        attribute: Attribute,
        /// The version being written.
        version: Version,
    },
    /// A value over 65,535 bytes, which the length field cannot hold.
    #[error("attribute {attribute} of {len} bytes; at most 65535 can be written")]
    ValueTooLong {
        /// The attribute.
        attribute: Attribute,
        /// Bytes of the value.
        len: usize,
    },
    /// The command is longer than the version or the limits allow.
    #[error("a command of {len} bytes; version {version} allows {max}")]
    CommandTooLong {
        /// Bytes of payload.
        len: usize,
        /// The bound.
        max: u32,
        /// The version being written.
        version: Version,
    },
    /// A value that the format does not allow, so that a decoder would
    /// refuse it.
    #[error("not a value of the format: {0}")]
    Value(Malformed),
    /// Raw command number 0.
    #[error("command number 0 cannot be written")]
    CommandZero,
    /// The writer was finished inside a stream.
    #[error("the last stream was not ended by an end command")]
    Unfinished,
}

impl TryFrom<u32> for Version {
    type Error = Error;

    /// # Errors
    /// [`Unsupported::Version`] for anything but 1, 2 and 3.
    fn try_from(number: u32) -> Result<Self, Error> {
        match number {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            _ => Err(ErrorKind::from(Unsupported::Version { number }).into()),
        }
    }
}
