//! Out of everybody's reach: a directory for a moment, and names that cannot
//! be guessed.
//!
//! A snapshot is born with the mode of its parent's root. Closing it is
//! another system call, and between the two who owns a file in it could open
//! that for writing. So it is born in a directory that only the receiver can
//! enter, and gets its name once it is closed.

use std::os::fd::OwnedFd;

use btrfs_lineage::{INSIDE, PrivateDirectory, PrivateDirectoryError};
use rustix::fs::{AtFlags, RenameFlags, renameat_with, unlinkat};
use rustix::io::Errno;

use super::naming::SUFFIX;
use crate::error::{Barrier, Cause};
use crate::plan::op::NewSubvolume;
use btrfs_ioctl as sys;

#[cfg(feature = "resume")]
mod left;

#[cfg(feature = "resume")]
pub(crate) use left::{empty, is_unguessable};

/// `NAME.receiving-` and 16 hexadecimal digits that nobody can foresee.
pub(super) fn unguessable(new: &NewSubvolume) -> Vec<u8> {
    let prefix = prefix(new.name.as_bytes());
    if prefix.len() <= PrivateDirectory::MAX_PREFIX {
        return PrivateDirectory::unguessable(&prefix);
    }
    PrivateDirectory::unguessable(&self::prefix(new.uuid.to_string().as_bytes()))
}

fn prefix(name: &[u8]) -> Vec<u8> {
    [name, SUFFIX, b"-"].concat()
}

/// Makes a directory in the destination that only the receiver can enter.
pub(super) fn make(destination: &OwnedFd, new: &NewSubvolume) -> Result<PrivateDirectory, Cause> {
    PrivateDirectory::make(destination, unguessable(new)).map_err(cause)
}

fn cause(error: PrivateDirectoryError) -> Cause {
    match error {
        PrivateDirectoryError::System { call, error } => Cause::System { call, error },
        PrivateDirectoryError::Replaced { name } => Cause::Escape {
            path: name.into(),
            barrier: Barrier::Replaced,
        },
    }
}

/// Gives the subvolume in it the name `to` in the destination, unless
/// something has that.
pub(super) fn bring_out(private: &PrivateDirectory, to: &[u8]) -> Result<(), Errno> {
    let flags = RenameFlags::NOREPLACE;
    renameat_with(private, INSIDE, private.around(), to, flags)
}

/// Deletes the subvolume in it.
pub(super) fn delete_inside(private: &PrivateDirectory) -> Result<(), Errno> {
    match sys::snap_destroy(private, INSIDE) {
        // Who may not do that may remove an empty one.
        Err(Errno::PERM) => unlinkat(private, INSIDE, AtFlags::REMOVEDIR),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use btrfs_sendstream::{Bytes, SubvolumeName};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn one_that_was_replaced_is_named() {
        let name = b"a.receiving-0123456789abcdef".to_vec();
        let cause = cause(PrivateDirectoryError::Replaced { name });
        assert_eq!(
            cause.to_string(),
            "refused: \"a.receiving-0123456789abcdef\" in the path is replaced by another process"
        );
    }

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
