//! The two ioctls of a stream that rustix does not have.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use btrfs_sendstream::EncodedWrite;
use linux_raw_sys::btrfs::{btrfs_ioctl_clone_range_args, btrfs_ioctl_encoded_io_args};
use linux_raw_sys::general::iovec;
use rustix::ioctl::{self, Opcode, Setter, opcode};

const FICLONERANGE: Opcode = opcode::write::<btrfs_ioctl_clone_range_args>(0x94, 13);
const ENCODED_WRITE: Opcode = opcode::write::<btrfs_ioctl_encoded_io_args>(0x94, 64);

/// `FICLONERANGE`.
pub(crate) fn clone_range(
    from: &File,
    from_offset: u64,
    len: u64,
    to: &File,
    to_offset: u64,
) -> io::Result<()> {
    let args = btrfs_ioctl_clone_range_args {
        src_fd: from.as_raw_fd().into(),
        src_offset: from_offset,
        src_length: len,
        dest_offset: to_offset,
    };
    // SAFETY: FICLONERANGE reads this structure.
    let call = unsafe { Setter::<FICLONERANGE, _>::new(args) };
    // SAFETY: the call writes nothing; its descriptor is open while `from` is
    // borrowed.
    Ok(unsafe { ioctl::ioctl(to, call) }?)
}

/// `BTRFS_IOC_ENCODED_WRITE`.
pub(crate) fn encoded_write(file: &File, write: &EncodedWrite) -> io::Result<()> {
    let iov = iovec {
        iov_base: write.data.as_ptr().cast_mut().cast(),
        iov_len: write.data.len() as _,
    };
    let args = btrfs_ioctl_encoded_io_args {
        iov: (&raw const iov).cast(),
        iovcnt: 1,
        offset: i64::try_from(write.offset).map_err(io::Error::other)?,
        flags: 0,
        len: write.unencoded_file_len,
        unencoded_len: write.unencoded_len,
        unencoded_offset: write.unencoded_offset,
        compression: write.compression.unwrap_or(0),
        encryption: write.encryption.unwrap_or(0),
        reserved: [0; 64],
    };
    // SAFETY: ENCODED_WRITE reads this structure.
    let call = unsafe { Setter::<ENCODED_WRITE, _>::new(args) };
    // SAFETY: the one iovec and the bytes that it points to outlive the call,
    // and none is written to.
    Ok(unsafe { ioctl::ioctl(file, call) }?)
}
