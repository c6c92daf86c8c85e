//! Something that is wrong with a stream.

use std::fmt;

use btrfs_sendstream::decompress::DecodeError;
use btrfs_sendstream::{Bytes, Position, SubvolumeName};

use crate::error::{Cause, EscapedPath};
use crate::names::NameError;

/// Something that is wrong with a stream, and where.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// Where the command or header begins. The default, all 0, if the input
    /// has none.
    pub at: Position,
    /// The subvolume it belongs to, once one has begun.
    pub subvolume: Option<SubvolumeName>,
    /// The command, as the stream calls it. `None` if it could not be
    /// decoded.
    pub command: Option<&'static str>,
    /// The path that the command is about, if it was decoded and has one.
    pub path: Option<Bytes>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The input is damaged, cut, or could not be read. What follows is not
    /// known.
    #[error(transparent)]
    Stream(btrfs_sendstream::Error),
    /// A command that cannot be carried out: at no destination, or not at the
    /// one that was asked.
    #[error(transparent)]
    Operation(Box<Cause>),
    /// An operation on a name contradicts those before.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An encoded extent cannot be decoded: a filesystem may store it, and
    /// reading the file will fail.
    #[error("the data cannot be decoded: {0}")]
    Undecodable(#[from] DecodeError),
    /// The stream was sent without file data. Said once for each subvolume.
    #[error(
        "the stream was sent without file data (btrfs send --no-data): it shows what \
         changed and cannot be received"
    )]
    NoFileData,
    /// It was stopped before the end of the input.
    #[error("stopped on request; what follows was not looked at")]
    Cancelled,
}

impl From<Cause> for Problem {
    fn from(cause: Cause) -> Self {
        Self::Operation(Box::new(cause))
    }
}

impl fmt::Display for Finding {
    /// Command, path, problem and place in one line. What was searched in
    /// vain for a source stands on further lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Errors of the codec bring their place along.
        if let Problem::Stream(error) = &self.problem {
            return error.fmt(f);
        }
        match (self.command, &self.path) {
            (Some(command), Some(path)) => write!(f, "{command} {}: ", EscapedPath(path))?,
            (Some(command), None) => write!(f, "{command}: ")?,
            (None, Some(path)) => write!(f, "{}: ", EscapedPath(path))?,
            (None, None) => {}
        }
        let text = self.problem.to_string();
        let mut lines = text.lines();
        write!(f, "{} ({})", lines.next().unwrap_or_default(), self.at)?;
        lines.try_for_each(|line| write!(f, "\n{line}"))
    }
}
