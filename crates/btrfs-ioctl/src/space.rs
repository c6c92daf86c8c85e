//! How the space of a filesystem is allocated.

#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::{Errno, Result};

use super::abi::{self, DevInfoArgs, SLOTS, SpaceArgs, SpaceInfoArgs};
use super::fs_info_args;

/// `BTRFS_BLOCK_GROUP_DATA`.
const DATA: u64 = 1;
/// `BTRFS_BLOCK_GROUP_SYSTEM`.
const SYSTEM: u64 = 2;
/// `BTRFS_BLOCK_GROUP_METADATA`.
const METADATA: u64 = 4;
/// `BTRFS_SPACE_INFO_GLOBAL_RSV`.
const RESERVE: u64 = 1 << 49;

/// What block groups hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpaceKind {
    /// File data.
    Data,
    /// Names, inodes, extents, checksums.
    Metadata,
    /// Both (`mkfs.btrfs --mixed`).
    Mixed,
    /// The chunk tree.
    System,
    /// No block groups, but part of the metadata, which only some operations may use.
    Reserve,
}

/// What `SPACE_INFO` tells about block groups of one kind and profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceInfo {
    /// What they hold.
    pub kind: SpaceKind,
    /// `BTRFS_BLOCK_GROUP_*`, kind and profile.
    pub flags: u64,
    /// Bytes that they can hold, counted once if they are stored several times.
    pub total: u64,
    /// Bytes that are used of it.
    pub used: u64,
}

impl SpaceInfo {
    /// The profile as `btrfs filesystem df` prints it.
    pub fn profile(&self) -> &'static str {
        match self.flags >> 3 & 0xff {
            0x01 => "RAID0",
            0x02 => "RAID1",
            0x04 => "DUP",
            0x08 => "RAID10",
            0x10 => "RAID5",
            0x20 => "RAID6",
            0x40 => "RAID1C3",
            0x80 => "RAID1C4",
            _ => "single",
        }
    }
}

/// `BTRFS_IOC_SPACE_INFO`: what block groups there are, and how full they are. Needs
/// no privilege.
///
/// # Errors
/// `ENOTTY` if the filesystem is not btrfs.
pub fn space_info(fd: impl AsFd) -> Result<Vec<SpaceInfo>> {
    let mut args = SpaceArgs {
        slots: SLOTS as u64,
        total: 0,
        spaces: [SpaceInfoArgs {
            flags: 0,
            total_bytes: 0,
            used_bytes: 0,
        }; SLOTS],
    };
    // SAFETY: SPACE_INFO reads and writes the head of this structure, and writes no
    // more than `slots` entries behind it; all are made of integers.
    unsafe { abi::update::<{ abi::SPACE_INFO }, _>(fd.as_fd(), &mut args) }?;
    let count = usize::try_from(args.total).unwrap_or(SLOTS);
    let infos = args.spaces.iter().take(count).map(|info| SpaceInfo {
        kind: match info.flags {
            flags if flags & RESERVE != 0 => SpaceKind::Reserve,
            flags if flags & DATA != 0 && flags & METADATA != 0 => SpaceKind::Mixed,
            flags if flags & DATA != 0 => SpaceKind::Data,
            flags if flags & SYSTEM != 0 => SpaceKind::System,
            _ => SpaceKind::Metadata,
        },
        flags: info.flags,
        total: info.total_bytes,
        used: info.used_bytes,
    });
    Ok(infos.collect())
}

/// `BTRFS_IOC_DEV_INFO` of all devices: bytes that are in no block group. A profile
/// that stores data several times takes as many from it.
///
/// # Errors
/// `ENOTTY` if the filesystem is not btrfs.
pub fn unallocated(fd: impl AsFd) -> Result<u64> {
    let mut left = fs_info_args(&fd)?.num_devices;
    let mut free: u64 = 0;
    // Ids of devices that were removed are not used again.
    for devid in 0..=fs_info_args(&fd)?.max_id {
        if left == 0 {
            break;
        }
        let mut args = DevInfoArgs {
            devid,
            uuid: [0; 16],
            bytes_used: 0,
            total_bytes: 0,
            fsid: [0; 16],
            unused: [0; 377],
            path: [0; 1024],
        };
        // SAFETY: DEV_INFO reads and writes this structure, made of integers.
        match unsafe { abi::update::<{ abi::DEV_INFO }, _>(fd.as_fd(), &mut args) } {
            Ok(()) => {
                left -= 1;
                free = free.saturating_add(args.total_bytes.saturating_sub(args.bytes_used));
            }
            Err(Errno::NODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(free)
}
