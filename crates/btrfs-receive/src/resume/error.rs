//! Why an interrupted receive cannot be resumed.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use uuid::Uuid;

/// Why a receive cannot be made resumable, or cannot be resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// Another receive of the same subvolume is running.
    #[error(
        "another receive of this subvolume is running{}",
        pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
    )]
    Locked {
        /// The process, if it is known.
        pid: Option<u32>,
    },
    /// The unfinished receive of this name is one of another stream. It was
    /// not changed.
    #[error(
        "an unfinished receive of another stream (uuid {uuid}, ctransid {ctransid}) has this name"
    )]
    OtherStream {
        /// The UUID that the other stream gives the subvolume.
        uuid: Uuid,
        /// The ctransid that the other stream gives the subvolume.
        ctransid: u64,
    },
    /// The stream is for the same subvolume as the interrupted one, but not
    /// identical with it.
    #[error(
        "the stream differs from the interrupted one between bytes {after} and {before} of the \
         subvolume"
    )]
    Differs {
        /// The streams are identical up to this byte.
        after: u64,
        /// The streams are known to differ before this byte.
        before: u64,
        /// Where the next receive resumes, in bytes; `None`: it starts over.
        from: Option<u64>,
    },
    /// The journal was written by a later version of this crate.
    #[error(
        "{}: written by a later version (format {format}; up to {known} is supported)",
        path.display()
    )]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The newest format that is supported.
        known: u64,
    },
    /// The journal is damaged.
    #[error("{}: damaged", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
    },
    /// A checkpoint was changed while the stream was compared.
    #[error("{}: the checkpoint was changed during the receive", path.display())]
    CheckpointChanged {
        /// Its path.
        path: PathBuf,
    },
    /// The incomplete subvolume was changed after the receive was
    /// interrupted.
    #[error("{name} was changed since the interrupted receive: {what}")]
    Changed {
        /// The name under which it is built.
        name: String,
        /// What is different.
        what: &'static str,
    },
    /// The directory for the state is not on the filesystem of the
    /// destination, and cannot hold checkpoints.
    #[error("{}: not on the filesystem of the destination", path.display())]
    OtherFilesystem {
        /// The directory.
        path: PathBuf,
    },
    /// The state under this name belongs to a receive into another directory.
    #[error("{}: belongs to an unfinished receive into another directory", path.display())]
    Elsewhere {
        /// The directory of that receive's state.
        path: PathBuf,
    },
    /// A subvolume cannot be renamed, because the new name is taken.
    #[error("{name} cannot be renamed to {to}: the name is taken")]
    NotRenamed {
        /// Its name.
        name: String,
        /// The new name.
        to: String,
    },
    /// The subvolume has the name of the directory for the state of
    /// unfinished receives.
    #[error("this name is reserved for the state of unfinished receives")]
    Reserved,
    /// Something else has the name of the directory for the state of
    /// unfinished receives, such as a received subvolume.
    #[error(
        "{}: {what}, not the directory for the state of unfinished receives",
        path.display()
    )]
    FolderTaken {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The process does not have `CAP_SYS_ADMIN`, which
    /// `BTRFS_IOC_SEND` needs.
    #[error("resuming a receive needs CAP_SYS_ADMIN")]
    NotPrivileged,
    /// A system call failed.
    #[error("{call} {}: {error}", path.display())]
    System {
        /// The call.
        call: &'static str,
        /// The path in question.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

impl ResumeError {
    pub(crate) fn system(call: &'static str, path: &Path, errno: Errno) -> Self {
        Self::System {
            call,
            path: path.to_owned(),
            error: errno.into(),
        }
    }
}
