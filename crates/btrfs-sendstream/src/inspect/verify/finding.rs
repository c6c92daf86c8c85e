//! Problems of a stream.

use std::fmt;

use bytes::Bytes;

use crate::decompress::DecodeError;
use crate::inspect::Quoted;
use crate::inspect::names::NameError;
use crate::{Command, Position, SubvolumeName, ValueError};

/// A problem of a stream, and where it is.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// Position of the command or header; all 0 if the input has none.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub at: Position,
    /// The subvolume, if one has begun.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub subvolume: Option<SubvolumeName>,
    /// Name of the command, or `None` if it could not be decoded.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "type", skip_serializing_if = "Option::is_none")
    )]
    pub command: Option<&'static str>,
    /// Path of the command, if it was decoded and has one.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serial::optional_text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub path: Option<Bytes>,
    /// The problem.
    pub problem: Problem,
}

impl Finding {
    pub(crate) fn new<B: AsRef<[u8]>>(
        at: Position,
        subvolume: Option<&SubvolumeName>,
        command: Option<&Command<B>>,
        problem: Problem,
    ) -> Self {
        let path = command.and_then(Command::path);
        Self {
            at,
            subvolume: subvolume.cloned(),
            command: command.map(|command| command.kind().name()),
            path: path.map(|path| Bytes::copy_from_slice(path.as_bytes())),
            problem,
        }
    }
}

/// The kind of problem.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The input is damaged or truncated, or could not be read. The rest of it was
    /// not checked.
    #[error(transparent)]
    Stream(crate::Error),
    /// A value with which no receiver can apply the command.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// An operation on a name contradicts the commands before it.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An encoded extent cannot be decoded: a filesystem may store it, and
    /// reading the file will fail.
    #[error("the data cannot be decoded: {0}")]
    Undecodable(#[from] DecodeError),
    /// The stream was sent without file data. Reported once for each subvolume.
    #[error("the stream contains no file data (btrfs send --no-data) and cannot be received")]
    NoFileData,
    /// The caller stopped before the end of the input.
    #[error("cancelled; the rest of the input was not read")]
    Cancelled,
}

impl fmt::Display for Finding {
    /// Command, path, problem and place in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Errors of the codec bring their place along.
        if let Problem::Stream(error) = &self.problem {
            return error.fmt(f);
        }
        match (self.command, &self.path) {
            (Some(command), Some(path)) => write!(f, "{command} {}: ", Quoted(path))?,
            (Some(command), None) => write!(f, "{command}: ")?,
            (None, Some(path)) => write!(f, "{}: ", Quoted(path))?,
            (None, None) => {}
        }
        write!(f, "{} ({})", self.problem, self.at)
    }
}

impl std::error::Error for Finding {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

/// An object: `kind`, the class in one word, and `message`, what is wrong in
/// English; of an error of the codec also where it is.
#[cfg(feature = "serde")]
impl serde::Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            kind: &'static str,
            #[serde(serialize_with = "crate::serial::shown")]
            message: &'a Problem,
        }
        let kind = match self {
            Self::Stream(error) => return error.serialize(serializer),
            Self::Value(ValueError::OutOfRange { .. }) => "out_of_range",
            Self::Value(ValueError::Root) => "root_itself",
            Self::Name(_) => "name",
            Self::Undecodable(_) => "undecodable",
            Self::NoFileData => "no_file_data",
            Self::Cancelled => "cancelled",
        };
        let message = self;
        Fields { kind, message }.serialize(serializer)
    }
}
