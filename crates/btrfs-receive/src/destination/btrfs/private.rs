//! Out of everybody's reach: a directory for a moment, and names that cannot
//! be guessed.
//!
//! A snapshot is born with the mode of its parent's root. Closing it is
//! another system call, and between the two who owns a file in it could open
//! that for writing. So it is born in a directory that only the receiver can
//! enter, and gets its name once it is closed.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, RenameFlags, flock, mkdirat, renameat_with, unlinkat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::naming::SUFFIX;
use super::root::open_root;
use crate::error::{Cause, named};
use crate::plan::op::NewSubvolume;
use btrfs_ioctl as sys;

#[cfg(feature = "resume")]
mod left;

#[cfg(feature = "resume")]
pub(crate) use left::is_unguessable;

/// What a subvolume is called in a private directory.
pub(super) const INSIDE: &[u8] = btrfs_lineage::INSIDE;

/// `NAME.receiving-` and 16 hexadecimal digits that nobody can foresee.
pub(super) fn unguessable(new: &NewSubvolume) -> Vec<u8> {
    // The keys come from the kernel's random numbers.
    let digits = format!("-{:016x}", RandomState::new().hash_one(new.uuid));
    let long = [new.name.as_bytes(), SUFFIX, digits.as_bytes()].concat();
    if long.len() <= 255 {
        return long;
    }
    let uuid = new.uuid.to_string();
    [uuid.as_bytes(), SUFFIX, digits.as_bytes()].concat()
}

/// A directory of mode 0700 in the destination, removed when dropped.
pub(crate) struct Private {
    destination: OwnedFd,
    name: Vec<u8>,
    fd: OwnedFd,
}

impl Private {
    pub(super) fn make(destination: &OwnedFd, new: &NewSubvolume) -> Result<Self, Cause> {
        let destination = fcntl_dupfd_cloexec(destination, 3).map_err(named("fcntl"))?;
        let name = unguessable(new);
        mkdirat(&destination, &name[..], Mode::RWXU).map_err(named("mkdirat"))?;
        let fd = open_root(&destination, &name).inspect_err(|_| {
            let _ = unlinkat(&destination, &name[..], AtFlags::REMOVEDIR);
        })?;
        // Tells who finds it that a receiver is at work here.
        let _ = flock(&fd, FlockOperation::NonBlockingLockExclusive);
        Ok(Self {
            destination,
            name,
            fd,
        })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Gives the subvolume in it the name `to` in the destination, unless
    /// something has that.
    pub(super) fn bring_out(&self, to: &[u8]) -> Result<(), Errno> {
        renameat_with(
            &self.fd,
            INSIDE,
            &self.destination,
            to,
            RenameFlags::NOREPLACE,
        )
    }

    /// Deletes the subvolume in it.
    pub(super) fn delete_inside(&self) -> Result<(), Errno> {
        match sys::snap_destroy(&self.fd, INSIDE) {
            // Who may not do that may remove an empty one.
            Err(Errno::PERM) => unlinkat(&self.fd, INSIDE, AtFlags::REMOVEDIR),
            result => result,
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = unlinkat(&self.destination, &self.name[..], AtFlags::REMOVEDIR);
    }
}

#[cfg(test)]
mod tests {
    use btrfs_sendstream::{Bytes, SubvolumeName};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn names_are_short_enough_and_differ() {
        for len in [1, 228, 229, 255] {
            let name = SubvolumeName::parse(Bytes::from("x".repeat(len))).unwrap();
            let new = NewSubvolume::new(name, Uuid::from_u128(7), 1, None);
            let names = [unguessable(&new), unguessable(&new)];
            assert!(names[0].len() <= 255);
            assert_ne!(names[0], names[1]);
        }
    }
}
