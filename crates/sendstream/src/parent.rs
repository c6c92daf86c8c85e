//! The parent of a stream, as a directory.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_sendstream::StreamPath;
use btrfs_sendstream::transform::ParentEntry;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

/// A directory in which files are looked up.
pub(crate) struct Parent {
    directory: OwnedFd,
}

impl Parent {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { directory })
    }

    /// What is there under a path. Nothing is there behind a symbolic link.
    pub(crate) fn look_up(&self, path: &StreamPath) -> io::Result<Option<ParentEntry>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let name = OsStr::from_bytes(path.as_bytes());
        let name = if path.is_root() {
            OsStr::new(".")
        } else {
            name
        };
        match openat2(&self.directory, name, flags, Mode::empty(), resolve) {
            Ok(found) => {
                let facts = fstat(&found)?;
                Ok(Some(ParentEntry {
                    inode: facts.st_ino,
                    size: u64::try_from(facts.st_size).unwrap_or(0),
                }))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
