//! Open regular files, and how many of them to keep.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::fstat;
use rustix::process::{Resource, getrlimit};

use crate::error::{Cause, named};

/// Files of one subvolume kept open at most. Clones go back and forth between
/// a few hundred files, and opening one takes four calls.
const MAX_FILES: u64 = 512;

/// How many files of one subvolume to keep open: an eighth of the descriptors
/// the process may have, since up to three subvolumes and their directories
/// are open at a time.
pub(in crate::destination) fn file_capacity() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((allowed / 8).clamp(1, MAX_FILES)).unwrap_or(1)
}

/// Device and number of an inode.
pub(in crate::destination) type InodeKey = (u64, u64);

/// An open regular file of the subvolume.
#[derive(Debug)]
pub(in crate::destination) struct OpenFile {
    pub(in crate::destination) fd: OwnedFd,
    /// Whether `fd` can be written to.
    pub(in crate::destination) writable: bool,
    /// Owner, if the file was made by this receive and nothing that a chown
    /// would clear or change was done to it since.
    fresh_owner: Option<(u32, u32)>,
    touched: AtomicBool,
    inode: OnceLock<InodeKey>,
}

impl OpenFile {
    /// A file that was there before.
    pub(in crate::destination) fn existing(fd: OwnedFd, writable: bool) -> Self {
        Self {
            fd,
            writable,
            fresh_owner: None,
            touched: AtomicBool::new(true),
            inode: OnceLock::new(),
        }
    }

    /// Which inode it is: other descriptors can be of the same one.
    pub(in crate::destination) fn inode(&self) -> Result<InodeKey, Cause> {
        if let Some(inode) = self.inode.get() {
            return Ok(*inode);
        }
        let stat = fstat(&self.fd).map_err(named("fstat"))?;
        Ok(*self.inode.get_or_init(|| (stat.st_dev, stat.st_ino)))
    }

    /// The descriptor alone.
    pub(in crate::destination) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// A file just created; `owner` is what it is known to belong to.
    pub(in crate::destination) fn created(fd: OwnedFd, owner: Option<(u32, u32)>) -> Self {
        Self {
            fd,
            writable: true,
            fresh_owner: owner,
            touched: AtomicBool::new(owner.is_none()),
            inode: OnceLock::new(),
        }
    }

    /// From now on a chown is no longer a matter of the owner alone, or the
    /// owner can change by way of another descriptor. Returns whether that was
    /// so before.
    pub(in crate::destination) fn touch(&self) -> bool {
        self.touched.swap(true, Ordering::Relaxed)
    }

    pub(in crate::destination) fn is_owned_by(&self, owner: (u32, u32)) -> bool {
        self.fresh_owner == Some(owner) && !self.touched.load(Ordering::Relaxed)
    }
}
