//! The kernel as a sender.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use linux_raw_sys::btrfs::{BTRFS_SEND_FLAG_NO_FILE_DATA, BTRFS_SEND_FLAG_VERSION};
use rustix::io::Result;

use super::abi::{self, SendArgs};

/// The stream version that carries inode flags.
const VERSION: u32 = 2;

/// `BTRFS_IOC_SEND`: writes to `output` the commands that turn the read-only
/// subvolume with the id `parent` into the read-only subvolume `root`; of
/// file data, only which ranges changed. Comes back when all is written.
///
/// The other end of `output` has to read to the end: writing to a pipe that
/// nobody reads sends `SIGPIPE` to this thread.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, or for a subvolume that is not read-only;
/// `EINVAL` from kernels before 6.0, which do not know stream version 2.
pub fn send_changes(root: impl AsFd, parent: u64, output: impl AsFd) -> Result<()> {
    let args = SendArgs {
        send_fd: output.as_fd().as_raw_fd().into(),
        clone_sources_count: 0,
        clone_sources: std::ptr::null_mut(),
        parent_root: parent,
        flags: u64::from(BTRFS_SEND_FLAG_NO_FILE_DATA | BTRFS_SEND_FLAG_VERSION),
        version: VERSION,
        reserved: [0; 28],
    };
    // SAFETY: SEND reads a `btrfs_ioctl_send_args`. Its pointer is not looked
    // at where the count is 0; its descriptor is open as long as `output` is
    // borrowed.
    unsafe { abi::write::<{ abi::SEND }, _>(root.as_fd(), args) }
}
