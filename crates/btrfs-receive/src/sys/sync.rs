//! Getting data to disk.
//!
//! None of these reports that writing back file data failed: only `syncfs`
//! does, on a descriptor that was open before the first write.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::{Errno, Result};

use super::abi;

/// `BTRFS_IOC_SYNC`: writes out file data of all subvolumes, then commits.
///
/// # Errors
/// `ENOTTY` if the filesystem is not btrfs.
pub(crate) fn sync(fd: impl AsFd) -> Result<()> {
    // SAFETY: SYNC takes no argument.
    unsafe { abi::call::<{ abi::SYNC }>(fd.as_fd()) }
}

/// `BTRFS_IOC_START_SYNC`: begins a commit and returns its transaction.
///
/// # Errors
/// `ENOTTY` if the filesystem is not btrfs.
pub(crate) fn start_sync(fd: impl AsFd) -> Result<u64> {
    // SAFETY: START_SYNC writes one 64-bit word.
    unsafe { abi::read::<{ abi::START_SYNC }, u64>(fd.as_fd()) }
}

/// `BTRFS_IOC_WAIT_SYNC`: waits until a transaction is on disk; 0 means the
/// current one.
///
/// # Errors
/// `EINVAL` for a transaction that has not begun.
pub(crate) fn wait_sync(fd: impl AsFd, transid: u64) -> Result<()> {
    // SAFETY: WAIT_SYNC reads one 64-bit word.
    unsafe { abi::write::<{ abi::WAIT_SYNC }, u64>(fd.as_fd(), transid) }
}

/// `sync_file_range(2)` with `SYNC_FILE_RANGE_WRITE`: begins to write out a
/// range, so that there is less to wait for at the end. A length of 0 means up
/// to the end of the file. Says nothing about what is on disk.
///
/// # Errors
/// `EINVAL` for a range above 2⁶³ − 1; `ESPIPE` for what is not a file.
pub(crate) fn sync_file_range_write(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    let offset = i64::try_from(offset).map_err(|_| Errno::INVAL)?;
    let length = i64::try_from(length).map_err(|_| Errno::INVAL)?;
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the call takes integers only, and the descriptor is open as long
    // as `file` is borrowed.
    let done = unsafe { libc::sync_file_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
