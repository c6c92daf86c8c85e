//! Why an interrupted receive cannot go on.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use uuid::Uuid;

/// Why a receive cannot be made resumable, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// Another receive of the same subvolume is at work.
    #[error(
        "another receive of this subvolume is at work{}; wait for it, or stop it",
        pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
    )]
    Locked {
        /// The process, if it said so.
        pid: Option<u32>,
    },
    /// What is unfinished under this name came from another stream.
    #[error(
        "an unfinished receive has this name, of another stream (uuid {uuid}, ctransid \
         {ctransid}); it was left as it is: go on with that stream, or abandon it"
    )]
    OtherStream {
        /// The UUID that the unfinished stream gives the subvolume.
        uuid: Uuid,
        /// The ctransid that goes with it.
        ctransid: u64,
    },
    /// The stream is not the one that was received so far, though it is one
    /// of the same subvolume: the sender has put it together in another way.
    #[error(
        "the stream differs from the interrupted one between bytes {after} and {before} of the \
         subvolume; receive it again from its beginning, and it {}",
        from.map_or_else(
            || "starts over".to_owned(),
            |from| format!("goes on from byte {from}, where both are the same")
        )
    )]
    Differs {
        /// Up to here both are the same.
        after: u64,
        /// The first place where they are known not to be.
        before: u64,
        /// Where the next receive goes on; `None`: from the beginning.
        from: Option<u64>,
    },
    /// A later version of the program was at work.
    #[error(
        "{}: written by a later version (format {format}, known are up to {known}); use that \
         version",
        path.display()
    )]
    Newer {
        /// The journal.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The newest format that is known.
        known: u64,
    },
    /// An earlier version of the program was at work, whose checkpoints cannot
    /// be used any more.
    #[error(
        "{}: written by an earlier version, whose checkpoints this one cannot use; finish that \
         receive with that version, or abandon it and start over",
        path.display()
    )]
    Older {
        /// The file that describes them.
        path: PathBuf,
    },
    /// The journal is damaged.
    #[error("{}: damaged; abandon this receive and start over", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
    },
    /// A checkpoint was changed while the stream was compared.
    #[error("{}: the checkpoint was changed meanwhile; receive again", path.display())]
    CheckpointChanged {
        /// Its path.
        path: PathBuf,
    },
    /// The half-built subvolume is not the one that was left.
    #[error(
        "{name} is not as the interrupted receive left it: {what}; undo that, or move it away \
         to have it built again"
    )]
    Changed {
        /// The name it is built under.
        name: String,
        /// What is different.
        what: &'static str,
    },
    /// The directory for the state is not on the filesystem that is received
    /// on, so that it could hold no checkpoints.
    #[error(
        "{}: not on the filesystem that is received on, where checkpoints have to be",
        path.display()
    )]
    OtherFilesystem {
        /// The directory.
        path: PathBuf,
    },
    /// The state under this name belongs to a receive into another directory.
    #[error(
        "{}: belongs to an unfinished receive into another directory; keep this one's state \
         elsewhere",
        path.display()
    )]
    Elsewhere {
        /// The directory of that receive's state.
        path: PathBuf,
    },
    /// A subvolume cannot be given another name, because something has that.
    #[error("{name} cannot be renamed {to}: something else has that name; move it away")]
    NotRenamed {
        /// Its name.
        name: String,
        /// What it was to be called.
        to: String,
    },
    /// The subvolume is called what the directory of the state is called.
    #[error(
        "a subvolume cannot have this name where the state of unfinished receives lies: choose \
         another, or keep the state elsewhere"
    )]
    Reserved,
    /// Something else has the name of the directory that holds the state of
    /// unfinished receives, a received subvolume for instance.
    #[error(
        "{}: {what}, and not the directory that holds the state of unfinished receives, which has \
         this name",
        path.display()
    )]
    FolderTaken {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Going on needs `CAP_SYS_ADMIN`, which this process does not have.
    #[error("receives can be resumed only with CAP_SYS_ADMIN: the kernel is asked what differs")]
    NotPrivileged,
    /// A system call failed.
    #[error("{call} {}: {error}", path.display())]
    System {
        /// The call.
        call: &'static str,
        /// The path it was made for.
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
