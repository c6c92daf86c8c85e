//! How the space of a filesystem is divided.

use std::io;
use std::os::fd::AsFd;

use btrfs_ioctl::{self as sys, SpaceKind};

/// How a btrfs divides its space: between block groups for data, block groups for
/// metadata, and what is in neither yet. It can be full for one while there is room
/// for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allocation {
    /// Block groups for data, by profile. With `mkfs.btrfs --mixed`, they are for
    /// metadata as well.
    pub data: Vec<AllocatedSpace>,
    /// Block groups for metadata, by profile.
    pub metadata: Vec<AllocatedSpace>,
    /// Bytes of the metadata that are kept for operations that free space.
    pub reserve: u64,
    /// Bytes of all devices that are in no block group, if known. A profile that
    /// stores everything several times takes as many.
    pub unallocated: Option<u64>,
}

/// The space in block groups of one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllocatedSpace {
    /// The profile, as `btrfs filesystem df` prints it.
    pub profile: &'static str,
    /// Bytes that the block groups can hold.
    pub total: u64,
    /// Bytes that are used.
    pub used: u64,
}

impl Allocation {
    /// Asks the kernel for the allocation of the btrfs that `directory`, open for
    /// reading, lies on. Needs no privilege.
    ///
    /// # Errors
    /// That of `BTRFS_IOC_SPACE_INFO`; `ENOTTY` if it is not on a btrfs.
    pub fn of(directory: impl AsFd) -> io::Result<Self> {
        let mut allocation = Self {
            data: Vec::new(),
            metadata: Vec::new(),
            reserve: 0,
            unallocated: sys::unallocated(&directory).ok(),
        };
        for info in sys::space_info(&directory)? {
            let space = AllocatedSpace {
                profile: info.profile(),
                total: info.total,
                used: info.used,
            };
            match info.kind {
                SpaceKind::Data | SpaceKind::Mixed => allocation.data.push(space),
                SpaceKind::Metadata => allocation.metadata.push(space),
                SpaceKind::Reserve => allocation.reserve = space.total,
                _ => {}
            }
        }
        Ok(allocation)
    }

    /// Bytes that are free in the block groups for data.
    pub fn free_data(&self) -> u64 {
        free(&self.data)
    }

    /// Bytes that are free in the block groups for metadata, without the reserve.
    pub fn free_metadata(&self) -> u64 {
        let of = if self.metadata.is_empty() {
            &self.data
        } else {
            &self.metadata
        };
        free(of).saturating_sub(self.reserve)
    }
}

fn free(spaces: &[AllocatedSpace]) -> u64 {
    let free = spaces.iter().map(|it| it.total.saturating_sub(it.used));
    free.fold(0, u64::saturating_add)
}
