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
    /// An error of an [`Output`](super::Output) of one's own.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        TransformErrorKind::Other(error.into()).into()
    }

    /// What went wrong.
    pub fn kind(&self) -> &TransformErrorKind {
        &self.0.kind
    }

    /// What went wrong, taken out.
    pub fn into_kind(self) -> TransformErrorKind {
        self.0.kind
    }

    /// Which command of the input could not be transformed. `None` for
    /// errors that are not about a command.
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
    /// The input could not be read; it holds its own position.
    #[error("{0}")]
    Input(Error),
    /// The output could not be written. A position inside is one of the
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
    /// A command that the version to be written lacks, with no other way to
    /// say the same.
    #[error("{path}: version {version} cannot express {command}")]
    Newer {
        /// What the command is about.
        path: StreamPath,
        /// The command.
        command: CommandKind,
        /// The version to be written.
        version: Version,
    },
    /// A hole of version 2 that may lie beyond the end of the file: zeros
    /// written in its place could make the file longer.
    #[error("{path}: a hole up to byte {end}, but the size of the file is not known")]
    UnknownSize {
        /// The file.
        path: StreamPath,
        /// Where the hole ends, in bytes.
        end: u64,
    },
    /// Space of version 2 that is allocated beyond where the file is known to
    /// end, and makes it as long if it is shorter.
    #[error("{path}: space is allocated up to byte {size}, but the size of the file is not known")]
    UnknownGrowth {
        /// The file.
        path: StreamPath,
        /// How long the file is at least afterwards, in bytes.
        size: u64,
    },
    /// FALLOCATE in a mode that the version to be written has no other way to
    /// express. Kernels send none of these.
    #[error("{path}: version {version} cannot express fallocate in mode {mode:#x}")]
    FallocateMode {
        /// The file.
        path: StreamPath,
        /// `FALLOC_FL_*` of `linux/falloc.h`.
        mode: u32,
        /// The version to be written.
        version: Version,
    },
    /// A hole with more zeros than allowed.
    #[error("{path}: a hole of {len} bytes; at most {max} are written as zeros")]
    HoleTooLong {
        /// The file.
        path: StreamPath,
        /// Its length in bytes.
        len: u64,
        /// The bound in bytes.
        max: u64,
    },
    /// An unknown command, which cannot be transformed.
    #[error("unknown command {number}")]
    UnknownCommand {
        /// Its number.
        number: u16,
    },
    /// A second subvolume, where the same name or UUID would be given to both.
    #[error("a second subvolume, {name}, would get the same name or UUID")]
    SecondSubvolume {
        /// Its name in the input.
        name: SubvolumeName,
    },
    /// A stream of a higher version follows one that has been begun.
    #[error("a stream of version {next} cannot be added to one of version {first}")]
    VersionRises {
        /// The version begun.
        first: Version,
        /// The version that follows.
        next: Version,
    },
    /// Something crosses the border between what a filter keeps and what it
    /// leaves out.
    #[error("{path}: {crossing}")]
    Crossing {
        /// What is kept, or would be.
        path: StreamPath,
        /// How it crosses.
        crossing: Crossing,
    },
    /// The root of the subvolume was renamed, or something like it: what the
    /// names in the stream lead to is no path.
    #[error("\"{}\" is not a path inside the subvolume: {error}", path.escape_ascii())]
    InvalidPath {
        /// What they lead to.
        path: Bytes,
        /// Which rule it breaks.
        error: PathError,
    },
    /// More names wait for their final place than a filter remembers.
    #[error("more than {max} bytes of temporary names")]
    TooManyNames {
        /// The bound in bytes.
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

/// How something crosses the border of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Crossing {
    /// Something excluded so far gets a name that is kept: its content is not
    /// there.
    #[error("is {from} under another name, which is excluded")]
    MovesIn {
        /// Its name so far.
        from: StreamPath,
    },
    /// A directory that is kept moves to where it is excluded: removing it
    /// would take a list of what it holds.
    #[error("is moved to {to}, which is excluded")]
    MovesOut {
        /// Its new name.
        to: StreamPath,
    },
    /// A directory moves and some of what is in it changes sides.
    #[error("is moved to {to}, and other rules apply below it")]
    Splits {
        /// Its new name.
        to: StreamPath,
    },
    /// A file that is kept is changed under a name that is excluded, or might
    /// be from now on.
    #[error("also has the name {other}, which is excluded")]
    Shared {
        /// The name that is excluded.
        other: StreamPath,
    },
    /// Data is cloned from a file that is excluded.
    #[error("shares data with {source_path}, which is excluded")]
    ClonesFrom {
        /// The file with the data.
        source_path: StreamPath,
    },
}
