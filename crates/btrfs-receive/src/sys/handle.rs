//! Subvolumes opened by id.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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
    let mut handle = SubvolumeHandle {
        handle_bytes: HANDLE_BYTES,
        handle_type: FILEID_BTRFS_WITHOUT_PARENT,
        objectid: BTRFS_FIRST_FREE_OBJECTID.into(),
        root_objectid: id,
        generation,
    };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let mount = mount.as_fd().as_raw_fd();
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
