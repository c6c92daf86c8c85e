//! What can be wrong with compressed input.

use std::io;

use super::{Format, MAX_WINDOW};

/// Why compressed input cannot be unpacked, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}{problem} (byte {position} of the compressed input)", Prefix(*.format))]
pub struct UnpackError {
    /// The format, if it is known.
    pub format: Option<Format>,
    /// What is wrong.
    pub problem: Problem,
    /// Bytes of compressed input before the place where that was found.
    pub position: u64,
}

impl UnpackError {
    /// The error in an error of a reader, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// The name of the format, before a problem.
struct Prefix(Option<Format>);

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(format) => write!(f, "{format}: "),
            None => Ok(()),
        }
    }
}

/// What is wrong with compressed input.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not in the format that was asked for.
    #[error("the input is not compressed with {0}")]
    Other(Format),
    /// It ends inside a frame.
    #[error("the compressed data is cut off")]
    Ended,
    /// It is damaged.
    #[error("the compressed data is damaged: {0}")]
    Damaged(&'static str),
    /// A frame is followed by something else.
    #[error("something else follows the compressed data")]
    Trailing,
    /// It uses a part of the format that is not supported.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// More memory than [`MAX_WINDOW`] is needed.
    #[error("a window of {0} bytes is needed; the limit is {MAX_WINDOW} bytes")]
    Window(u64),
}

/// Why a decoder cannot go on.
#[derive(Debug)]
pub(super) enum Fault {
    /// The source failed.
    Source(io::Error),
    /// The format is not kept.
    Problem(Problem),
}

impl Fault {
    pub(super) fn damaged(why: &'static str) -> Self {
        Self::Problem(Problem::Damaged(why))
    }

    pub(super) fn unsupported(what: &'static str) -> Self {
        Self::Problem(Problem::Unsupported(what))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}
