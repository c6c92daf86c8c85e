//! File data: clones, encoded writes, verity.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd};

use linux_raw_sys::general::iovec;
use rustix::io::{Errno, Result};
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};

use super::abi::{self, CloneRangeArgs, ENCODED_WRITE, EnableVerityArgs, EncodedIoArgs};

/// `FICLONERANGE`: makes `length` bytes of `to` at `to_offset` share the
/// extents of `from` at `from_offset`; a length of 0 means up to the end.
///
/// # Errors
/// `EINVAL` for unaligned ranges, for a range past the end of `from`, and if
/// one file has checksums and the other has not; `EXDEV` for another
/// filesystem, before Linux 5.18 also for another mount; `EOPNOTSUPP`.
pub fn ficlonerange(
    from: impl AsFd,
    from_offset: u64,
    length: u64,
    to: impl AsFd,
    to_offset: u64,
) -> Result<()> {
    let args = CloneRangeArgs {
        src_fd: from.as_fd().as_raw_fd().into(),
        src_offset: from_offset,
        src_length: length,
        dest_offset: to_offset,
    };
    // SAFETY: FICLONERANGE reads this structure; its descriptor is open as
    // long as `from` is borrowed.
    unsafe { abi::write::<{ abi::FICLONERANGE }, _>(to.as_fd(), args) }
}

/// Where encoded data belongs; the fields of `btrfs_ioctl_encoded_io_args`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedRange {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Bytes of the file that are replaced.
    pub len: u64,
    /// Bytes that the data decodes to.
    pub unencoded_len: u64,
    /// Where in the decoded data the file's bytes begin.
    pub unencoded_offset: u64,
    /// `BTRFS_ENCODED_IO_COMPRESSION_*`.
    pub compression: u32,
    /// `BTRFS_ENCODED_IO_ENCRYPTION_*`; kernels know only 0.
    pub encryption: u32,
}

/// `BTRFS_IOC_ENCODED_WRITE`: stores an extent in the encoded form. The kernel
/// does not check that it decodes. Returns the bytes consumed, which are all
/// of `data`; 0 for no data, with which nothing is written. A failure to write
/// it to disk is not reported by syncfs(2). Linux 5.18.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOTTY` on older kernels; `EINVAL` for
/// what the filesystem cannot store like this; `EOVERFLOW` for an offset above
/// 2⁶³ − 1; `ENOSPC`.
pub fn encoded_write(file: impl AsFd, range: &EncodedRange, data: &[u8]) -> Result<usize> {
    let iov = iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len() as _,
    };
    let args = EncodedIoArgs {
        // The headers of btrfs only declare the type.
        iov: (&raw const iov).cast(),
        iovcnt: 1,
        offset: i64::try_from(range.offset).map_err(|_| Errno::OVERFLOW)?,
        flags: 0,
        len: range.len,
        unencoded_len: range.unencoded_len,
        unencoded_offset: range.unencoded_offset,
        compression: range.compression,
        encryption: range.encryption,
        reserved: [0; 64],
    };
    // SAFETY: ENCODED_WRITE reads this structure, the one iovec that it points
    // to, and the bytes that this points to; all of them outlive the call, and
    // none is written to.
    unsafe { ioctl::ioctl(file, EncodedWrite(args)) }
}

/// A request whose result is the call's return value.
struct EncodedWrite(EncodedIoArgs);

// SAFETY: the kernel reads the structure that `as_ptr` points to; the output
// is made of the return value alone.
unsafe impl Ioctl for EncodedWrite {
    type Output = usize;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        ENCODED_WRITE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(consumed: IoctlOutput, _: *mut c_void) -> Result<usize> {
        usize::try_from(consumed).map_err(|_| Errno::IO)
    }
}

/// What a file's verity is built with; see `fsverity_enable_arg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verity<'a> {
    /// `FS_VERITY_HASH_ALG_*`.
    pub hash_algorithm: u32,
    /// Bytes in a block of the Merkle tree, a power of two.
    pub block_size: u32,
    /// At most 32 bytes.
    pub salt: &'a [u8],
    /// PKCS#7, at most 16128 bytes; empty for none.
    pub signature: &'a [u8],
}

/// `FS_IOC_ENABLE_VERITY`: turns a file, opened read-only and open for writing
/// nowhere, into a verity file. On btrfs since Linux 5.15.
///
/// # Errors
/// `EOPNOTSUPP` if the kernel was built without; `ETXTBSY` while it is open
/// for writing; `EEXIST` if it has verity; `EMSGSIZE` and `EINVAL` for values
/// out of range; `EKEYREJECTED` and `EBADMSG` for the signature.
pub fn enable_verity(file: impl AsFd, verity: &Verity<'_>) -> Result<()> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| Errno::MSGSIZE);
    // The kernel takes addresses as integers here.
    let address = |bytes: &[u8]| match bytes.is_empty() {
        true => 0,
        false => bytes.as_ptr().expose_provenance() as u64,
    };
    let args = EnableVerityArgs {
        version: 1,
        hash_algorithm: verity.hash_algorithm,
        block_size: verity.block_size,
        salt_size: length(verity.salt)?,
        salt_ptr: address(verity.salt),
        sig_size: length(verity.signature)?,
        reserved1: 0,
        sig_ptr: address(verity.signature),
        reserved2: [0; 11],
    };
    // SAFETY: ENABLE_VERITY reads this structure and as many bytes at its two
    // addresses as its two sizes say; `verity` borrows both for the call.
    unsafe { abi::write::<{ abi::ENABLE_VERITY }, _>(file.as_fd(), args) }
}
