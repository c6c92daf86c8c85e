//! Why there is no digest.

use std::io;

use btrfs_sendstream::Bytes;
use rustix::io::Errno;

/// Why there is no digest of a subvolume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// A system call failed.
    #[error("{}{call}: {error}", Prefix(path))]
    System {
        /// The call, by the name of its manual page, or the ioctl.
        call: &'static str,
        /// Relative to the root of the subvolume; empty for the root.
        path: Bytes,
        /// The error of the call.
        #[source]
        error: io::Error,
    },
    /// It is not the root of a subvolume on a btrfs.
    #[error("not the root of a btrfs subvolume")]
    NotASubvolume,
    /// The subvolume is writable: it may change while it is read.
    #[error("the subvolume is writable")]
    Writable,
    /// The process may not read `trusted.*` attributes, which are part of the
    /// digest.
    #[error("CAP_SYS_ADMIN in the initial user namespace is needed to read all attributes")]
    NotPermitted,
    /// Something changed while it was read.
    #[error("{}changed while it was read", Prefix(path))]
    Changed {
        /// Relative to the root of the subvolume; empty for the root.
        path: Bytes,
    },
    /// Something is mounted on a file or directory and hides it.
    #[error("{}something is mounted on it", Prefix(path))]
    Mounted {
        /// Relative to the root of the subvolume.
        path: Bytes,
    },
    /// The path is longer than 4095 bytes; no kernel sends such a subvolume.
    #[error(
        "{}the path is longer than 4095 bytes and cannot be sent",
        Prefix(path)
    )]
    PathTooLong {
        /// The directory that holds it, relative to the root of the subvolume.
        path: Bytes,
    },
    /// [`DigestProgress::cancel`](super::DigestProgress::cancel) was called.
    #[error("cancelled")]
    Cancelled,
    /// A thread panicked, which is a bug.
    #[error("bug: a thread panicked")]
    Panicked,
}

/// What is wrong with an inode, whose path is not known yet.
#[derive(Debug)]
pub(super) enum Problem {
    System { call: &'static str, errno: Errno },
    Changed,
    Mounted,
    PathTooLong,
    Cancelled,
}

impl Problem {
    pub(super) fn of(call: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { call, errno }
    }

    pub(super) fn at(self, path: Vec<u8>) -> DigestError {
        let path = Bytes::from(path);
        match self {
            Self::System { call, errno } => DigestError::System {
                call,
                path,
                error: errno.into(),
            },
            Self::Changed => DigestError::Changed { path },
            Self::Mounted => DigestError::Mounted { path },
            Self::PathTooLong => DigestError::PathTooLong { path },
            Self::Cancelled => DigestError::Cancelled,
        }
    }
}

/// A path in front of a message.
struct Prefix<'a>(&'a [u8]);

impl std::fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "{}: ", self.0.escape_ascii())
    }
}
