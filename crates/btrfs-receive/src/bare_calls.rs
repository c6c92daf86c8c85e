//! Two ioctls that the benchmarks need to measure the bare system calls of a
//! stream (feature `bare-calls`). Not part of the public interface.

use std::io;
use std::os::fd::AsFd;

use btrfs_sendstream::EncodedWrite;

use crate::sys;

/// `FICLONERANGE`.
///
/// # Errors
/// As the ioctl.
pub fn clone_range(
    from: impl AsFd,
    from_offset: u64,
    len: u64,
    to: impl AsFd,
    to_offset: u64,
) -> io::Result<()> {
    Ok(sys::ficlonerange(from, from_offset, len, to, to_offset)?)
}

/// `BTRFS_IOC_ENCODED_WRITE`.
///
/// # Errors
/// As the ioctl.
pub fn encoded_write(file: impl AsFd, write: &EncodedWrite) -> io::Result<()> {
    let range = sys::EncodedRange {
        offset: write.offset,
        len: write.unencoded_file_len,
        unencoded_len: write.unencoded_len,
        unencoded_offset: write.unencoded_offset,
        compression: write.compression.unwrap_or(0),
        encryption: write.encryption.unwrap_or(0),
    };
    Ok(sys::encoded_write(file, &range, &write.data).map(drop)?)
}
