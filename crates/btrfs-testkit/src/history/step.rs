//! Operations with their paths resolved.

use std::io;
use std::path::PathBuf;

use super::operation::{Flag, What};
use crate::Time;

/// What a [`Target`] does. Paths are relative to the subvolume; the empty path
/// is its root.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the system calls")]
pub enum Step {
    /// Make something new; symlinks come with their targets.
    Make {
        path: PathBuf,
        what: What,
        target: PathBuf,
    },
    /// Write [`pattern`](crate::files::pattern) bytes.
    Write {
        path: PathBuf,
        offset: u64,
        length: usize,
        seed: u8,
        compressible: bool,
    },
    /// Set the size.
    Truncate { path: PathBuf, size: u64 },
    /// Make a hole, keeping the size.
    Punch {
        path: PathBuf,
        offset: u64,
        length: u64,
    },
    /// Preallocate.
    Preallocate {
        path: PathBuf,
        offset: u64,
        length: u64,
        keep_size: bool,
    },
    /// Share (offset, offset, length).
    Share {
        from: PathBuf,
        to: PathBuf,
        range: (u64, u64, u64),
    },
    /// Clone a whole file to a new name.
    Reflink { from: PathBuf, to: PathBuf },
    /// `rename(2)`
    Rename { from: PathBuf, to: PathBuf },
    /// `renameat2(2)` with `RENAME_EXCHANGE`
    Exchange { a: PathBuf, b: PathBuf },
    /// Add a hard link.
    Link { existing: PathBuf, new: PathBuf },
    /// Remove anything, a directory with all below it.
    Remove { path: PathBuf },
    /// Set an xattr.
    SetXattr {
        path: PathBuf,
        name: String,
        value: Vec<u8>,
    },
    /// Remove an xattr.
    RemoveXattr { path: PathBuf, name: String },
    /// `chmod`
    SetMode { path: PathBuf, mode: u32 },
    /// `chown`
    SetOwner { path: PathBuf, uid: u32, gid: u32 },
    /// Set access and modification time.
    SetTimes {
        path: PathBuf,
        atime: Time,
        mtime: Time,
    },
    /// `chattr`
    SetFlag { path: PathBuf, flag: Flag, on: bool },
    /// Write the data of a file out.
    Sync { path: PathBuf },
    /// Take a read-only snapshot.
    Snapshot,
}

/// Something a history can be played on.
pub trait Target {
    /// Carries out one step.
    ///
    /// # Errors
    ///
    /// A refusal; the history goes on without the step. A step must be done
    /// entirely or not at all as far as names go.
    fn carry_out(&mut self, step: &Step) -> io::Result<()>;
}
