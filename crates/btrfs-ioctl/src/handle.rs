//! Subvolumes and inodes opened by number.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};

use super::abi::{
    FILEID_BTRFS_WITHOUT_PARENT, HANDLE_BYTES, HandleBuffer, MAX_HANDLE_BYTES, SubvolumeHandle,
};
use super::number::ROOT_INODE;

/// What the kernel knows a file by. On most disk filesystems it is made of
/// the inode number and of a number that is another one when the inode number
/// is used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHandle {
    /// `handle_type`.
    pub kind: i32,
    /// `f_handle`.
    pub bytes: Vec<u8>,
}

/// `name_to_handle_at(2)` with `AT_EMPTY_PATH`. Takes no privileges.
///
/// # Errors
/// `EOPNOTSUPP` where the filesystem has no handles.
pub fn file_handle(file: impl AsFd) -> Result<FileHandle> {
    let mut handle = HandleBuffer {
        handle_bytes: MAX_HANDLE_BYTES as u32,
        handle_type: 0,
        bytes: [0; MAX_HANDLE_BYTES],
    };
    let mut mount_id = 0;
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the path is a C string; the call writes at most `handle_bytes`
    // behind the 8-byte head that `HandleBuffer` shares with
    // `struct file_handle`, and one integer.
    let done = unsafe {
        libc::name_to_handle_at(
            file,
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    };
    if done < 0 {
        let error = io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    let used = handle.handle_bytes as usize;
    Ok(FileHandle {
        kind: handle.handle_type,
        bytes: handle.bytes.get(..used).ok_or(Errno::OVERFLOW)?.to_vec(),
    })
}

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
pub fn open_subvolume(mount: impl AsFd, id: u64, generation: u32) -> Result<OwnedFd> {
    let root = ROOT_INODE;
    open(mount.as_fd(), id, root, generation, libc::O_DIRECTORY)
}

/// `open_by_handle_at(2)` with the handle of an inode in a subvolume: opens a
/// regular file or a directory by its number, for reading.
///
/// # Errors
/// As [`open_subvolume`]; `ELOOP` or `ENXIO` for other kinds of inode.
pub fn open_inode(mount: impl AsFd, id: u64, inode: u64, generation: u32) -> Result<OwnedFd> {
    open(mount.as_fd(), id, inode, generation, libc::O_NONBLOCK)
}

/// The same with `O_PATH`: finds an inode of any kind, and opens nothing.
///
/// # Errors
/// As [`open_subvolume`].
pub fn find_inode(mount: impl AsFd, id: u64, inode: u64, generation: u32) -> Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    open(mount.as_fd(), id, inode, generation, flags)
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
