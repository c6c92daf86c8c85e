//! Inode flags by `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`, and what else
//! an inode says by an ioctl of every filesystem.
//!
//! Unlike `FS_IOC_SETFLAGS` the two leave compression alone.

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use linux_raw_sys::general::fsxattr;
use rustix::io::Result;

use super::abi;

bitflags::bitflags! {
    /// `FS_XFLAG_*` (`linux/fs.h`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct XFlags: u32 {
        /// The inode cannot be changed.
        const IMMUTABLE = 0x08;
        /// Data can be appended only.
        const APPEND = 0x10;
        /// Writes are synchronous.
        const SYNC = 0x20;
        /// The access time is not kept.
        const NOATIME = 0x40;
        /// dump(8) leaves it out.
        const NODUMP = 0x80;
        /// Whatever else the kernel reports.
        const _ = !0;
    }
}

/// `FS_IOC_FSGETXATTR`.
///
/// # Errors
/// Those of the call; `ENOTTY` where the filesystem does not have it.
pub fn fs_get_xflags(fd: impl AsFd) -> Result<XFlags> {
    // SAFETY: the call writes a `struct fsxattr`, made of integers.
    let args = unsafe { abi::read::<{ abi::FSGETXATTR }, fsxattr>(fd.as_fd()) }?;
    Ok(XFlags::from_bits_retain(args.fsx_xflags))
}

/// `FS_IOC_FSSETXATTR` with these flags and nothing else set.
///
/// # Errors
/// Those of the call; `EPERM` for immutable and append-only without
/// `CAP_LINUX_IMMUTABLE`.
pub fn fs_set_xflags(fd: impl AsFd, flags: XFlags) -> Result<()> {
    let args = fsxattr {
        fsx_xflags: flags.bits(),
        fsx_extsize: 0,
        fsx_nextents: 0,
        fsx_projid: 0,
        fsx_cowextsize: 0,
        fsx_pad: [0; 8],
    };
    // SAFETY: the call reads a `struct fsxattr`, which holds no pointers.
    unsafe { abi::write::<{ abi::FSSETXATTR }, _>(fd.as_fd(), args) }
}

/// `FS_IOC_GETVERSION`: the generation of an inode, its lower 32 bits.
///
/// # Errors
/// Those of the call; `ENOTTY` where the filesystem does not have it.
pub fn inode_generation(fd: impl AsFd) -> Result<u32> {
    // SAFETY: the call writes an `int`, whatever its number says.
    unsafe { abi::read::<{ abi::GETVERSION }, u32>(fd.as_fd()) }
}
