//! The kernel as a sender.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use linux_raw_sys::btrfs::{BTRFS_SEND_FLAG_NO_FILE_DATA, BTRFS_SEND_FLAG_VERSION};
use rustix::io::Result;

use super::abi::{self, SendArgs};

/// `BTRFS_IOC_SEND`: writes to `output` the commands that turn the read-only
/// subvolume with the id `parent` into the read-only subvolume `root`; of
/// file data, only which ranges changed. Comes back when all is written.
///
/// Version 2 has the flags of inodes that changed them, which version 1 lacks.
///
/// The other end of `output` has to read to the end: writing to a pipe that
/// nobody reads sends `SIGPIPE` to this thread.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, or for a subvolume that is not read-only;
/// for version 2 `EOPNOTSUPP` or `EINVAL` from kernels before 6.0.
pub fn send_changes(root: impl AsFd, parent: u64, output: impl AsFd, version: u32) -> Result<()> {
    // What kernels that know version 1 alone have no flag for.
    let versioned = if version > 1 {
        BTRFS_SEND_FLAG_VERSION
    } else {
        0
    };
    let args = SendArgs {
        send_fd: output.as_fd().as_raw_fd().into(),
        clone_sources_count: 0,
        clone_sources: std::ptr::null_mut(),
        parent_root: parent,
        flags: u64::from(BTRFS_SEND_FLAG_NO_FILE_DATA | versioned),
        version: if version > 1 { version } else { 0 },
        reserved: [0; 28],
    };
    // SAFETY: SEND reads a `btrfs_ioctl_send_args`. Its pointer is not looked
    // at where the count is 0; its descriptor is open as long as `output` is
    // borrowed.
    unsafe { abi::write::<{ abi::SEND }, _>(root.as_fd(), args) }
}
