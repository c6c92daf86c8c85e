//! What a receiver that was killed has left under unguessable names.

use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::fcntl_dupfd_cloexec;
use uuid::Uuid;

use super::super::naming::SUFFIX;
use super::super::root::open_root;
use super::{INSIDE, Private};
use btrfs_ioctl::{self as sys, ROOT_INODE, XFlags};

/// Whether [`unguessable`](super::unguessable) gives such a name to the subvolume called `name`.
pub(crate) fn is_unguessable(found: &[u8], name: &[u8]) -> bool {
    let digits = found
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(SUFFIX))
        .and_then(|rest| rest.strip_prefix(b"-"));
    digits.is_some_and(|it| it.len() == 16 && it.iter().all(u8::is_ascii_hexdigit))
}

impl Private {
    /// One that a receiver has left that was killed; `None` if `name` is no
    /// such directory, or its receiver is at work.
    pub(crate) fn left(destination: &OwnedFd, name: &[u8]) -> Option<Self> {
        let fd = open_root(destination, name).ok()?;
        let found = fstat(&fd).ok()?;
        if found.st_ino == ROOT_INODE || found.st_mode & 0o7777 != 0o700 {
            return None;
        }
        flock(&fd, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self {
            destination: fcntl_dupfd_cloexec(destination, 3).ok()?,
            name: name.to_owned(),
            fd,
        })
    }

    /// Brings the subvolume in it, if it is the one with this UUID, out as
    /// `to`; or else deletes it.
    pub(crate) fn empty(&self, wanted: Uuid, to: &[u8]) {
        let Ok(root) = open_root(&self.fd, INSIDE) else {
            return;
        };
        if let Ok(flags) = sys::fs_get_xflags(&root) {
            let _ = sys::fs_set_xflags(&root, flags - XFlags::IMMUTABLE - XFlags::APPEND);
        }
        match sys::subvolume_info(&root) {
            Ok(info) if info.uuid == wanted => {
                let _ = self.bring_out(to);
            }
            Ok(info) if !info.read_only => {
                let _ = self.delete_inside();
            }
            _ => {}
        }
    }
}
