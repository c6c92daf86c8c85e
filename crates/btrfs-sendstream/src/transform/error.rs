//! Why a stream could not be transformed, and where.

use std::fmt;

use bytes::Bytes;

use crate::command::{CommandKind, PathError, StreamPath, SubvolumeName};
use crate::decompress::DecodeError;
use crate::error::{Error, Position};
use crate::wire::Version;

/// Why a stream could not be transformed, and where.
///
/// One pointer wide, so that results stay small.
pub struct TransformError(Box<Inner>);

struct Inner {
    kind: TransformErrorKind,
    position: Option<Position>,
}

impl TransformError {
    /// Wraps an error of a caller's own [`Output`](super::Output).
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        TransformErrorKind::Other(error.into()).into()
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> &TransformErrorKind {
        &self.0.kind
    }

    /// Returns what went wrong, by value.
    pub fn into_kind(self) -> TransformErrorKind {
        self.0.kind
    }

    /// Returns the position of the command that could not be transformed, or
    /// `None` if the error does not concern a command.
    pub fn position(&self) -> Option<Position> {
        match &self.0.kind {
            TransformErrorKind::Input(error) => error.position(),
            _ => self.0.position,
        }
    }
}

impl From<TransformErrorKind> for TransformError {
    fn from(kind: TransformErrorKind) -> Self {
        Self(Box::new(Inner {
            kind,
            position: None,
        }))
    }
}

impl fmt::Debug for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransformError")
            .field("kind", &self.0.kind)
            .field("position", &self.position())
            .finish()
    }
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.position {
            Some(position) => write!(f, "{} ({position})", self.0.kind),
            None => self.0.kind.fmt(f),
        }
    }
}

impl std::error::Error for TransformError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            TransformErrorKind::Input(error) | TransformErrorKind::Output(error) => error.source(),
            TransformErrorKind::Undecodable { error, .. } => Some(error),
            TransformErrorKind::Other(error) => Some(&**error),
            _ => None,
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransformErrorKind {
    /// The input could not be read. The error has its own position.
    #[error("{0}")]
    Input(Error),
    /// The output could not be written. A position in this error is one in the
    /// output.
    #[error("in the output: {0}")]
    Output(Error),
    /// An output that is no [`Writer`](crate::Writer) failed.
    #[error("{0}")]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// An encoded write cannot be decoded.
    #[error("{path}: {error}")]
    Undecodable {
        /// The file.
        path: StreamPath,
        /// What is wrong with it.
        #[source]
        error: DecodeError,
    },
    /// A command that the target version does not have and cannot express in
    /// another way.
    #[error("{path}: version {version} cannot express {command}")]
    Newer {
        /// The path of the command.
        path: StreamPath,
        /// The command.
        command: CommandKind,
        /// The version to be written.
        version: Version,
    },
    /// A hole that may lie beyond the end of the file: writing zeros instead could
    /// make the file longer.
    #[error("{path}: a hole up to byte {end}, but the size of the file is not known")]
    UnknownSize {
        /// The file.
        path: StreamPath,
        /// Where the hole ends, in bytes.
        end: u64,
    },
    /// Space that is allocated beyond the known end of the file, and extends the
    /// file if it is shorter.
    #[error("{path}: space is allocated up to byte {size}, but the size of the file is not known")]
    UnknownGrowth {
        /// The file.
        path: StreamPath,
        /// The least size of the file afterwards, in bytes.
        size: u64,
    },
    /// FALLOCATE in a mode that the target version cannot express. Kernels do not
    /// send these modes.
    #[error("{path}: version {version} cannot express fallocate in mode {mode:#x}")]
    FallocateMode {
        /// The file.
        path: StreamPath,
        /// `FALLOC_FL_*` of `linux/falloc.h`.
        mode: u32,
        /// The version to be written.
        version: Version,
    },
    /// A hole that is longer than the limit on zeros.
    #[error("{path}: a hole of {len} bytes; at most {max} are written as zeros")]
    HoleTooLong {
        /// The file.
        path: StreamPath,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// An unknown command, which cannot be transformed.
    #[error("unknown command {number}")]
    UnknownCommand {
        /// Its number.
        number: u16,
    },
    /// A second subvolume, which would get the same name or UUID.
    #[error("a second subvolume, {name}, would get the same name or UUID")]
    SecondSubvolume {
        /// Its name in the input.
        name: SubvolumeName,
    },
    /// A stream of a higher version follows.
    #[error("a stream of version {next} cannot be added to one of version {first}")]
    VersionRises {
        /// The version of the first stream.
        first: Version,
        /// The version that follows.
        next: Version,
    },
    /// A command moves or clones something between included and excluded paths.
    #[error("{path}: {crossing}")]
    Crossing {
        /// The included path.
        path: StreamPath,
        /// What the command does.
        crossing: Crossing,
    },
    /// The names in the stream do not form a valid path, for example because the
    /// root of the subvolume was renamed.
    #[error("\"{}\" is not a path inside the subvolume: {error}", path.escape_ascii())]
    InvalidPath {
        /// The invalid path.
        path: Bytes,
        /// Why it is invalid.
        error: PathError,
    },
    /// The filter would need more memory for names than its limit.
    #[error("more than {max} bytes of temporary names")]
    TooManyNames {
        /// The limit in bytes.
        max: usize,
    },
}

impl TransformErrorKind {
    pub(super) fn at(self, position: Position) -> TransformError {
        TransformError(Box::new(Inner {
            kind: self,
            position: Some(position),
        }))
    }
}

/// How a command crosses between included and excluded paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Crossing {
    /// An excluded file or directory gets an included name: the output does not
    /// have its content.
    #[error("is {from} under another name, which is excluded")]
    MovesIn {
        /// Its excluded name.
        from: StreamPath,
    },
    /// An included directory moves to an excluded path: to remove it, its content
    /// would have to be known.
    #[error("is moved to {to}, which is excluded")]
    MovesOut {
        /// Its new name.
        to: StreamPath,
    },
    /// A directory moves, and parts of it become included or excluded.
    #[error("is moved to {to}, and other rules apply below it")]
    Splits {
        /// Its new name.
        to: StreamPath,
    },
    /// An included file is changed under an excluded name, or may be from here on.
    #[error("also has the name {other}, which is excluded")]
    Shared {
        /// The excluded name.
        other: StreamPath,
    },
    /// Data is cloned from an excluded file.
    #[error("shares data with {source_path}, which is excluded")]
    ClonesFrom {
        /// The source file.
        source_path: StreamPath,
    },
}
