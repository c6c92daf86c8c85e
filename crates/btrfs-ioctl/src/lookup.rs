//! Ids and paths of subvolumes.

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::{Errno, Result};

use super::abi::{self, InoLookupArgs, InoLookupUserArgs, RootrefArgs, RootrefEntry, field_bytes};
use super::number::ROOT_INODE;

/// Where a subvolume lies within the one that contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootRef {
    /// Id of the contained subvolume.
    pub id: u64,
    /// Inode of the directory that its name is in.
    pub dir_id: u64,
}

/// `BTRFS_IOC_GET_SUBVOL_ROOTREF`: the subvolumes directly inside the one that
/// `fd` lies in, in order of their ids; at most `limit` of them. Linux 4.18.
///
/// # Errors
/// Those of the ioctl; what it found before is lost.
pub fn subvolume_rootrefs(fd: impl AsFd, limit: usize) -> Result<Vec<RootRef>> {
    let mut found = Vec::new();
    let mut args = RootrefArgs {
        min_treeid: 0,
        rootref: [RootrefEntry {
            treeid: 0,
            dirid: 0,
        }; 255],
        num_items: 0,
        align: [0; 7],
    };
    loop {
        // SAFETY: GET_SUBVOL_ROOTREF reads and writes this structure, made of
        // integers.
        let done = unsafe { abi::update::<{ abi::GET_SUBVOL_ROOTREF }, _>(fd.as_fd(), &mut args) };
        match done {
            // EOVERFLOW: the array is full, its content is valid and
            // `min_treeid` says where to go on.
            Ok(()) | Err(Errno::OVERFLOW) => {}
            Err(error) => return Err(error),
        }
        let entries = args.rootref.iter().take(args.num_items.into());
        found.extend(entries.map(|entry| RootRef {
            id: entry.treeid,
            dir_id: entry.dirid,
        }));
        if found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
        if done.is_ok() || args.num_items == 0 {
            return Ok(found);
        }
    }
}

/// `BTRFS_IOC_INO_LOOKUP` without a tree: the id of the subvolume that `fd`
/// lies in. Needs no privilege.
///
/// # Errors
/// `ENOTTY` if the filesystem is not btrfs.
pub fn containing_subvolume(fd: impl AsFd) -> Result<u64> {
    let mut args = InoLookupArgs {
        treeid: 0,
        objectid: ROOT_INODE,
        name: [0; 4080],
    };
    // SAFETY: INO_LOOKUP reads and writes this structure, made of integers.
    unsafe { abi::update::<{ abi::INO_LOOKUP }, _>(fd.as_fd(), &mut args) }?;
    Ok(args.treeid)
}

/// `BTRFS_IOC_INO_LOOKUP`: a path of an inode, from the root of the subvolume
/// that `fd` lies in; of several names, any. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// `ENOENT` if there is no such inode, or none of its names is in its own
/// list of names (which holds those that fit); `ENAMETOOLONG` above 4,079
/// bytes.
pub fn inode_path(fd: impl AsFd, inode: u64) -> Result<Vec<u8>> {
    let mut args = InoLookupArgs {
        treeid: 0,
        objectid: inode,
        name: [0; 4080],
    };
    // SAFETY: INO_LOOKUP reads and writes this structure, made of integers.
    unsafe { abi::update::<{ abi::INO_LOOKUP }, _>(fd.as_fd(), &mut args) }?;
    let mut path = field_bytes(&args.name);
    // It is made for directories, and ends in a slash.
    if path.last() == Some(&b'/') {
        path.pop();
    }
    Ok(path)
}

/// What `INO_LOOKUP_USER` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserPath {
    /// Path of the directory from where the question was asked, ending in a
    /// slash unless empty.
    pub directory: Vec<u8>,
    /// Name of the subvolume in it.
    pub name: Vec<u8>,
}

/// `BTRFS_IOC_INO_LOOKUP_USER`: where the subvolume `id`, whose name is in the
/// directory `dir_id`, lies beneath `fd`, a directory of the subvolume that
/// contains it. Needs no privilege but permission to search those directories.
/// Linux 4.18.
///
/// # Errors
/// `EACCES` if it is not beneath `fd`, or a directory may not be searched;
/// `ENOENT`; `EINVAL` if `dir_id` is not where it lies.
pub fn ino_lookup_user(fd: impl AsFd, id: u64, dir_id: u64) -> Result<UserPath> {
    let mut args = InoLookupUserArgs {
        dirid: dir_id,
        treeid: id,
        name: [0; 256],
        path: [0; 3824],
    };
    // SAFETY: INO_LOOKUP_USER reads and writes this structure, made of
    // integers.
    unsafe { abi::update::<{ abi::INO_LOOKUP_USER }, _>(fd.as_fd(), &mut args) }?;
    Ok(UserPath {
        directory: field_bytes(&args.path),
        name: field_bytes(&args.name),
    })
}
