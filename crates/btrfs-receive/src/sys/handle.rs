//! Subvolumes and inodes opened by number.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use linux_raw_sys::btrfs::BTRFS_FIRST_FREE_OBJECTID;
use rustix::io::{Errno, Result};

use super::abi::{FILEID_BTRFS_WITHOUT_PARENT, HANDLE_BYTES, SubvolumeHandle};

/// `open_by_handle_at(2)` with the handle of a subvolume's root: opens it
/// wherever it lies, also outside of what is mounted. `mount` is any
/// descriptor on a mount of the filesystem, but not one opened with `O_PATH`;
/// what is opened obeys that mount's options.
///
/// Since Linux 6.2 a `generation` of 0 fits every subvolume; before, it must
/// be that of the root directory's inode.
///
/// # Errors
/// `EPERM` without `CAP_DAC_READ_SEARCH` in the initial user namespace;
/// `ESTALE` if there is no such subvolume, or its generation is another.
pub(crate) fn open_subvolume(mount: impl AsFd, id: u64, generation: u32) -> Result<OwnedFd> {
    let root = BTRFS_FIRST_FREE_OBJECTID.into();
    open(mount.as_fd(), id, root, generation, libc::O_DIRECTORY)
}

/// `open_by_handle_at(2)` with the handle of an inode in a subvolume: opens a
/// regular file or a directory by its number, for reading.
///
/// # Errors
/// As [`open_subvolume`]; `ELOOP` or `ENXIO` for other kinds of inode.
pub(crate) fn open_inode(
    mount: impl AsFd,
    id: u64,
    inode: u64,
    generation: u32,
) -> Result<OwnedFd> {
    open(mount.as_fd(), id, inode, generation, libc::O_NONBLOCK)
}

fn open(
    mount: BorrowedFd<'_>,
    id: u64,
    inode: u64,
    generation: u32,
    flags: i32,
) -> Result<OwnedFd> {
    let mut handle = SubvolumeHandle {
        handle_bytes: HANDLE_BYTES,
        handle_type: FILEID_BTRFS_WITHOUT_PARENT,
        objectid: inode,
        root_objectid: id,
        generation,
    };
    let flags = flags | libc::O_RDONLY | libc::O_CLOEXEC;
    let mount = mount.as_raw_fd();
    // SAFETY: the call reads a handle of `handle_bytes` behind the 8-byte head
    // that `SubvolumeHandle` shares with `struct file_handle`.
    let fd = unsafe { libc::open_by_handle_at(mount, (&raw mut handle).cast(), flags) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    // SAFETY: the call succeeded, so this is a new descriptor that nothing
    // else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
