//! Numbers and layouts of the ioctls, and the shapes of calling them.
//!
//! The structures come from `linux-raw-sys`, generated from kernel headers,
//! except for the few it lacks. Numbers are computed from the structures, so a
//! 32-bit build gets the ones that its kernel expects.

#![allow(unsafe_code)]

use std::ffi::c_char;
use std::os::fd::BorrowedFd;

pub(crate) use linux_raw_sys::btrfs::{
    btrfs_ioctl_clone_range_args as CloneRangeArgs, btrfs_ioctl_dev_info_args as DevInfoArgs,
    btrfs_ioctl_encoded_io_args as EncodedIoArgs, btrfs_ioctl_fs_info_args as FsInfoArgs,
    btrfs_ioctl_get_subvol_info_args as SubvolInfoArgs,
    btrfs_ioctl_get_subvol_rootref_args as RootrefArgs,
    btrfs_ioctl_get_subvol_rootref_args__bindgen_ty_1 as RootrefEntry,
    btrfs_ioctl_ino_lookup_args as InoLookupArgs,
    btrfs_ioctl_ino_lookup_user_args as InoLookupUserArgs,
    btrfs_ioctl_received_subvol_args as ReceivedSubvolArgs, btrfs_ioctl_send_args as SendArgs,
    btrfs_ioctl_space_info as SpaceInfoArgs, btrfs_ioctl_timespec as TimespecArgs,
    btrfs_ioctl_vol_args as VolArgs, btrfs_ioctl_vol_args_v2 as VolArgsV2,
    btrfs_ioctl_vol_args_v2__bindgen_ty_1 as VolArgsV2Qgroup,
    btrfs_ioctl_vol_args_v2__bindgen_ty_2 as VolArgsV2Target,
};
use linux_raw_sys::general::fsxattr;
use rustix::io::{Errno, Result};
use rustix::ioctl::{self, Getter, Opcode, Setter, Updater, opcode};

/// The letter of all btrfs ioctls.
const MAGIC: u8 = 0x94;

pub(crate) const FICLONERANGE: Opcode = opcode::write::<CloneRangeArgs>(MAGIC, 13);
pub(crate) const SUBVOL_CREATE: Opcode = opcode::write::<VolArgs>(MAGIC, 14);
pub(crate) const SNAP_DESTROY: Opcode = opcode::write::<VolArgs>(MAGIC, 15);
pub(crate) const TREE_SEARCH_V2: Opcode = opcode::read_write::<SearchHead>(MAGIC, 17);
pub(crate) const INO_LOOKUP: Opcode = opcode::read_write::<InoLookupArgs>(MAGIC, 18);
/// The size in its number is that of the head.
pub(crate) const SPACE_INFO: Opcode = opcode::read_write::<[u64; 2]>(MAGIC, 20);
pub(crate) const SNAP_CREATE_V2: Opcode = opcode::write::<VolArgsV2>(MAGIC, 23);
pub(crate) const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(MAGIC, 26);
pub(crate) const DEV_INFO: Opcode = opcode::read_write::<DevInfoArgs>(MAGIC, 30);
pub(crate) const FS_INFO: Opcode = opcode::read::<FsInfoArgs>(MAGIC, 31);
pub(crate) const SET_RECEIVED_SUBVOL: Opcode = opcode::read_write::<ReceivedSubvolArgs>(MAGIC, 37);
pub(crate) const SEND: Opcode = opcode::write::<SendArgs>(MAGIC, 38);
pub(crate) const GET_SUBVOL_INFO: Opcode = opcode::read::<SubvolInfoArgs>(MAGIC, 60);
pub(crate) const GET_SUBVOL_ROOTREF: Opcode = opcode::read_write::<RootrefArgs>(MAGIC, 61);
pub(crate) const INO_LOOKUP_USER: Opcode = opcode::read_write::<InoLookupUserArgs>(MAGIC, 62);
pub(crate) const SNAP_DESTROY_V2: Opcode = opcode::write::<VolArgsV2>(MAGIC, 63);
pub(crate) const ENCODED_WRITE: Opcode = opcode::write::<EncodedIoArgs>(MAGIC, 64);
/// Declared with a `long`, which it does not write: an `int` is.
pub(crate) const GETVERSION: Opcode = opcode::read::<std::ffi::c_long>(b'v', 1);
pub(crate) const ENABLE_VERITY: Opcode = opcode::write::<EnableVerityArgs>(b'f', 133);

pub(crate) const FSGETXATTR: Opcode = opcode::read::<fsxattr>(b'X', 31);
pub(crate) const FSSETXATTR: Opcode = opcode::write::<fsxattr>(b'X', 32);

/// What `TREE_SEARCH_V2` takes ahead of its buffer: the key block, then the
/// size of the buffer.
pub(crate) type SearchHead = [u64; 14];

/// Block groups that are asked for: more kinds and profiles than there are.
pub(crate) const SLOTS: usize = 64;

/// `struct btrfs_ioctl_space_args`, with room behind its head.
#[repr(C)]
pub(crate) struct SpaceArgs {
    pub(crate) slots: u64,
    pub(crate) total: u64,
    pub(crate) spaces: [SpaceInfoArgs; SLOTS],
}

/// `struct fsverity_enable_arg`.
#[repr(C)]
pub(crate) struct EnableVerityArgs {
    pub(crate) version: u32,
    pub(crate) hash_algorithm: u32,
    pub(crate) block_size: u32,
    pub(crate) salt_size: u32,
    pub(crate) salt_ptr: u64,
    pub(crate) sig_size: u32,
    pub(crate) reserved1: u32,
    pub(crate) sig_ptr: u64,
    pub(crate) reserved2: [u64; 11],
}

/// `struct file_handle` with the payload that btrfs calls
/// `FILEID_BTRFS_WITHOUT_PARENT`.
///
/// The kernel's payload is packed; behind an 8-byte head its fields are
/// aligned anyway, and the padding that C adds at the end lies past
/// `handle_bytes`.
#[repr(C)]
pub(crate) struct SubvolumeHandle {
    pub(crate) handle_bytes: u32,
    pub(crate) handle_type: i32,
    pub(crate) objectid: u64,
    pub(crate) root_objectid: u64,
    pub(crate) generation: u32,
}

/// `MAX_HANDLE_SZ` (`linux/exportfs.h`).
pub(crate) const MAX_HANDLE_BYTES: usize = 128;

/// `struct file_handle` with room for any payload.
#[repr(C)]
pub(crate) struct HandleBuffer {
    pub(crate) handle_bytes: u32,
    pub(crate) handle_type: i32,
    pub(crate) bytes: [u8; MAX_HANDLE_BYTES],
}

/// `fh_type` of a btrfs file handle without parent (`linux/exportfs.h`).
pub(crate) const FILEID_BTRFS_WITHOUT_PARENT: i32 = 0x4D;

/// Bytes of that handle's payload.
pub(crate) const HANDLE_BYTES: u32 = 20;

/// An ioctl that fills in a `T` and does not read it.
///
/// # Safety
/// `OPCODE` writes all of a `T` when it succeeds.
pub(crate) unsafe fn read<const OPCODE: Opcode, T>(fd: BorrowedFd<'_>) -> Result<T> {
    // SAFETY: the caller vouches for opcode and type.
    let request = unsafe { Getter::<OPCODE, T>::new() };
    // SAFETY: the caller vouches for opcode and type.
    unsafe { ioctl::ioctl(fd, request) }
}

/// An ioctl that reads a `T`.
///
/// # Safety
/// `OPCODE` reads a `T`, and pointers in `args` are good for what it does
/// with them.
pub(crate) unsafe fn write<const OPCODE: Opcode, T>(fd: BorrowedFd<'_>, args: T) -> Result<()> {
    // SAFETY: the caller vouches for opcode, type and pointers.
    let request = unsafe { Setter::<OPCODE, T>::new(args) };
    // SAFETY: the caller vouches for opcode, type and pointers.
    unsafe { ioctl::ioctl(fd, request) }
}

/// An ioctl that reads a `T` and changes it, also when it fails.
///
/// # Safety
/// `OPCODE` reads and writes a `T`, and any bytes are a valid `T`.
pub(crate) unsafe fn update<const OPCODE: Opcode, T>(
    fd: BorrowedFd<'_>,
    args: &mut T,
) -> Result<()> {
    // SAFETY: the caller vouches for opcode and type.
    let request = unsafe { Updater::<OPCODE, T>::new(args) };
    // SAFETY: the caller vouches for opcode and type.
    unsafe { ioctl::ioctl(fd, request) }
}

/// Copies a name into a field of a structure, with its NUL.
///
/// # Errors
/// `EINVAL` if there is a NUL in it; `ENAMETOOLONG` if it does not fit.
pub(crate) fn name_field<const N: usize>(name: &[u8]) -> Result<[c_char; N]> {
    if name.contains(&0) {
        return Err(Errno::INVAL);
    }
    if name.len() >= N {
        return Err(Errno::NAMETOOLONG);
    }
    let mut field = [0; N];
    for (to, from) in field.iter_mut().zip(name) {
        *to = c_char::from_ne_bytes([*from]);
    }
    Ok(field)
}

/// The bytes of a field up to its first NUL, or all of it.
pub(crate) fn field_bytes(field: &[c_char]) -> Vec<u8> {
    field
        .iter()
        .take_while(|&&c| c != 0)
        .map(|c| u8::from_ne_bytes(c.to_ne_bytes()))
        .collect()
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use std::mem::{offset_of, size_of};

    use linux_raw_sys::{btrfs, ioctl as raw};

    use super::*;

    #[test]
    fn numbers_are_those_of_the_headers() {
        let numbers = [
            (FICLONERANGE, raw::FICLONERANGE, 0x4020_940D),
            (FICLONERANGE, raw::BTRFS_IOC_CLONE_RANGE, 0x4020_940D),
            (SUBVOL_CREATE, raw::BTRFS_IOC_SUBVOL_CREATE, 0x5000_940E),
            (TREE_SEARCH_V2, raw::BTRFS_IOC_TREE_SEARCH_V2, 0xC070_9411),
            (INO_LOOKUP, raw::BTRFS_IOC_INO_LOOKUP, 0xD000_9412),
            (SNAP_CREATE_V2, raw::BTRFS_IOC_SNAP_CREATE_V2, 0x5000_9417),
            (SNAP_DESTROY_V2, raw::BTRFS_IOC_SNAP_DESTROY_V2, 0x5000_943F),
            (SUBVOL_SETFLAGS, raw::BTRFS_IOC_SUBVOL_SETFLAGS, 0x4008_941A),
            (FS_INFO, raw::BTRFS_IOC_FS_INFO, 0x8400_941F),
            (
                SET_RECEIVED_SUBVOL,
                raw::BTRFS_IOC_SET_RECEIVED_SUBVOL,
                0xC0C8_9425,
            ),
            (GET_SUBVOL_INFO, raw::BTRFS_IOC_GET_SUBVOL_INFO, 0x81F8_943C),
            (
                GET_SUBVOL_ROOTREF,
                raw::BTRFS_IOC_GET_SUBVOL_ROOTREF,
                0xD000_943D,
            ),
            (INO_LOOKUP_USER, raw::BTRFS_IOC_INO_LOOKUP_USER, 0xD000_943E),
            (ENABLE_VERITY, raw::FS_IOC_ENABLE_VERITY, 0x4080_6685),
        ];
        for (computed, header, table) in numbers {
            assert_eq!(computed, header, "{header:#x}");
            assert_eq!(computed, table, "{table:#x}");
        }
        // linux-raw-sys has no constant for this one.
        assert_eq!(ENCODED_WRITE, 0x4080_9440);
    }

    #[test]
    fn sizes_are_those_of_the_kernel() {
        assert_eq!(size_of::<VolArgs>(), 4096);
        assert_eq!(size_of::<VolArgsV2>(), 4096);
        assert_eq!(size_of::<ReceivedSubvolArgs>(), 200);
        assert_eq!(size_of::<SubvolInfoArgs>(), 504);
        assert_eq!(size_of::<RootrefArgs>(), 4096);
        assert_eq!(size_of::<InoLookupArgs>(), 4096);
        assert_eq!(size_of::<InoLookupUserArgs>(), 4096);
        assert_eq!(size_of::<SearchHead>(), 112);
        assert_eq!(size_of::<CloneRangeArgs>(), 32);
        assert_eq!(size_of::<EncodedIoArgs>(), 128);
        assert_eq!(size_of::<FsInfoArgs>(), 1024);
        assert_eq!(size_of::<EnableVerityArgs>(), 128);
    }

    #[test]
    fn fields_are_where_the_kernel_has_them() {
        assert_eq!(offset_of!(VolArgs, name), 8);
        assert_eq!(offset_of!(VolArgsV2, flags), 16);
        assert_eq!(offset_of!(VolArgsV2, __bindgen_anon_2), 56);
        assert_eq!(offset_of!(ReceivedSubvolArgs, rtransid), 24);
        assert_eq!(offset_of!(ReceivedSubvolArgs, stime), 32);
        assert_eq!(offset_of!(ReceivedSubvolArgs, flags), 64);
        assert_eq!(offset_of!(SubvolInfoArgs, parent_id), 264);
        assert_eq!(offset_of!(SubvolInfoArgs, flags), 288);
        assert_eq!(offset_of!(SubvolInfoArgs, received_uuid), 328);
        assert_eq!(offset_of!(SubvolInfoArgs, ctransid), 344);
        assert_eq!(offset_of!(SubvolInfoArgs, rtransid), 368);
        assert_eq!(offset_of!(RootrefArgs, num_items), 4088);
        assert_eq!(offset_of!(InoLookupArgs, name), 16);
        assert_eq!(offset_of!(InoLookupUserArgs, path), 272);
        assert_eq!(offset_of!(EncodedIoArgs, unencoded_offset), 48);
        assert_eq!(offset_of!(EncodedIoArgs, encryption), 60);
        assert_eq!(offset_of!(FsInfoArgs, sectorsize), 36);
        assert_eq!(offset_of!(EnableVerityArgs, salt_ptr), 16);
        assert_eq!(offset_of!(EnableVerityArgs, sig_ptr), 32);
    }

    #[test]
    fn the_search_key_is_the_one_of_the_headers() {
        use btrfs::btrfs_ioctl_search_args_v2 as Args;
        use btrfs::btrfs_ioctl_search_key as Key;
        assert_eq!(offset_of!(Args, buf_size), 13 * 8);
        assert_eq!(offset_of!(Args, buf), 14 * 8);
        assert_eq!(offset_of!(Key, min_offset), 3 * 8);
        assert_eq!(offset_of!(Key, max_transid), 6 * 8);
        assert_eq!(offset_of!(Key, min_type), 7 * 8);
        assert_eq!(offset_of!(Key, nr_items), 8 * 8);
    }

    #[test]
    fn a_handle_is_laid_out_like_the_packed_one() {
        assert_eq!(offset_of!(SubvolumeHandle, objectid), 8);
        assert_eq!(offset_of!(SubvolumeHandle, root_objectid), 16);
        assert_eq!(offset_of!(SubvolumeHandle, generation), 24);
        assert_eq!(8 + HANDLE_BYTES, 28);
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(
            name_field::<4>(b"abc").map(|n| field_bytes(&n)),
            Ok(b"abc".to_vec())
        );
        assert_eq!(name_field::<4>(b"abcd"), Err(Errno::NAMETOOLONG));
        assert_eq!(name_field::<4>(b"a\0"), Err(Errno::INVAL));
        assert_eq!(
            name_field::<4>(b"\xff").map(|n| field_bytes(&n)),
            Ok(b"\xff".to_vec())
        );
    }
}
