//! What can go wrong while a stream is applied.

use std::fmt;
use std::io;

use btrfs_sendstream::{Bytes, Position};

/// An operation that failed: where, what, on which path, and why.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {operation} {}: {cause}", EscapedPath(path))]
#[non_exhaustive]
pub struct Failure {
    /// The command that asked for the operation.
    pub at: Position,
    /// The operation, named like the stream's command.
    pub operation: &'static str,
    /// The path in the stream that it acted on; empty for the root.
    pub path: Bytes,
    /// The cause.
    #[source]
    pub cause: Cause,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// A system call failed.
    #[error("{call}: {error}")]
    System {
        /// The call, by the name of its manual page, or the ioctl.
        call: &'static str,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// File data was sent to something that is not a regular file.
    #[error(
        "not a regular file but a {found}; data is written to and cloned from regular files only"
    )]
    NotRegularFile {
        /// What it is.
        found: &'static str,
    },
    /// The root of the subvolume cannot be created, renamed or removed.
    #[error("the root of the subvolume cannot be created, renamed or removed")]
    IsRoot,
    /// A value that the operation cannot carry.
    #[error("{what} {value} is out of range")]
    OutOfRange {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: i128,
    },
}

impl Cause {
    /// A failed system call.
    pub(crate) fn system(call: &'static str, error: impl Into<io::Error>) -> Self {
        Self::System {
            call,
            error: error.into(),
        }
    }
}

struct EscapedPath<'a>(&'a [u8]);

impl fmt::Display for EscapedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}
