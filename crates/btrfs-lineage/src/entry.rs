//! A subvolume as an entry of a directory: opened, looked at, and exchanged with
//! another.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, RenameFlags, fstat, fsync, openat, renameat_with};
use rustix::io::Errno;

use super::PrivateDirectory;
use btrfs_ioctl::{self as sys, ROOT_INODE, SubvolumeInfo};

/// Why an entry is not what it has to be.
#[derive(Debug)]
pub(crate) enum EntryError {
    /// It is not a subvolume.
    NotASubvolume,
    /// It is mounted at this place, and not an entry of the directory.
    NotAnEntry,
    /// Another process moved or replaced it.
    Moved,
    /// A call failed.
    System(&'static str, Errno),
}

fn of(call: &'static str) -> impl Fn(Errno) -> EntryError {
    move |errno| EntryError::System(call, errno)
}

/// Opens the subvolume `name` in a directory.
pub(crate) fn open(
    directory: impl AsFd,
    name: &[u8],
) -> Result<(OwnedFd, SubvolumeInfo), EntryError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(directory, name, flags, Mode::empty()).map_err(of("openat"))?;
    if fstat(&root).map_err(of("fstat"))?.st_ino != ROOT_INODE {
        return Err(EntryError::NotASubvolume);
    }
    match sys::subvolume_info(&root) {
        Ok(info) => Ok((root, info)),
        Err(Errno::NOTTY) => Err(EntryError::NotASubvolume),
        Err(errno) => Err(of("BTRFS_IOC_GET_SUBVOL_INFO")(errno)),
    }
}

/// Checks that a subvolume is an entry of the directory.
///
/// # Errors
/// It is mounted there.
pub(crate) fn check_place(directory: impl AsFd, info: &SubvolumeInfo) -> Result<(), EntryError> {
    let around = match sys::subvolume_info(&directory) {
        Ok(around) => around,
        Err(Errno::NOTTY) => return Err(EntryError::NotAnEntry),
        Err(errno) => return Err(of("BTRFS_IOC_GET_SUBVOL_INFO")(errno)),
    };
    let directory = fstat(&directory).map_err(of("fstat"))?;
    if (around.id, directory.st_ino) == (info.parent_id, info.dir_id) {
        Ok(())
    } else {
        Err(EntryError::NotAnEntry)
    }
}

/// Whether other subvolumes are in the one with this root.
pub(crate) fn holds_subvolumes(root: impl AsFd) -> Result<bool, EntryError> {
    let inside = sys::subvolume_rootrefs(root, 1).map_err(of("BTRFS_IOC_GET_SUBVOL_ROOTREF"))?;
    Ok(!inside.is_empty())
}

/// Whether `name` is that of the subvolume `id`.
pub(crate) fn is(directory: impl AsFd, name: &[u8], id: u64) -> bool {
    open(directory, name).is_ok_and(|(_, info)| info.id == id)
}

/// Exchanges the names of two subvolumes, given with their ids, in one rename
/// that is on disk when this returns.
///
/// # Errors
/// The names are as they were, as far as that can be brought about.
pub(crate) fn exchange(
    directory: &OwnedFd,
    one: (&[u8], u64),
    other: (&[u8], u64),
) -> Result<(), EntryError> {
    let exchange = || renameat_with(directory, one.0, directory, other.0, RenameFlags::EXCHANGE);
    exchange().map_err(of("renameat2"))?;
    if !is(directory, one.0, other.1) || !is(directory, other.0, one.1) {
        let _ = exchange();
        return Err(EntryError::Moved);
    }
    // Of a subvolume, the kernel writes a new name by committing all.
    if let Err(errno) = fsync(directory) {
        let _ = exchange();
        return Err(of("fsync")(errno));
    }
    Ok(())
}

/// The start of the names that are made from `name`: as much of it as leaves
/// room for the rest.
pub(crate) fn prefix(name: &[u8], infix: &[u8]) -> Vec<u8> {
    let longest = PrivateDirectory::MAX_PREFIX - infix.len();
    [name.get(..longest).unwrap_or(name), infix].concat()
}

/// The names in a directory that [`PrivateDirectory::unguessable`] may have made
/// from this prefix.
pub(crate) fn unguessable(directory: impl AsFd, prefix: &[u8]) -> HashSet<Vec<u8>> {
    let Ok(entries) = Dir::read_from(directory) else {
        return HashSet::new();
    };
    let names = entries.map_while(Result::ok);
    names
        .map(|entry| entry.file_name().to_bytes().to_vec())
        .filter(|name| PrivateDirectory::is_unguessable(name, prefix))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_enough() {
        for infix in [&b".adopting-"[..], b".restoring-"] {
            for len in [1, 227, 228, 229, 255] {
                let name = PrivateDirectory::unguessable(&prefix(&vec![b'x'; len], infix));
                assert!(name.len() <= 255, "{len}");
            }
        }
    }
}
