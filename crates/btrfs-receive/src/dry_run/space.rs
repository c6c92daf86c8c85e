//! An estimate of the space that a stream needs.

use btrfs_sendstream::inspect::SubvolumeSummary;

/// What an inode takes with its names and items, in bytes: more than the half
/// KiB or so that it is, for leaves that are not full.
const PER_INODE: u64 = 1024;

/// Of so many bytes of data one byte is metadata: checksums of 4 bytes for
/// 4 KiB, and extent items.
const DATA_PER_METADATA: u64 = 512;

/// Metadata is stored twice, as `mkfs.btrfs` has it by default.
const METADATA_COPIES: u64 = 2;

/// An estimate of the space needed, and the free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Space {
    /// Bytes that the subvolumes need: file data as it would be stored, and its
    /// metadata. Less is needed if the destination compresses data. In a stream
    /// without file data, compressed extents cannot be recognised.
    pub needed: u64,
    /// Bytes that are free for ordinary users (`f_bavail`), if known.
    pub available: Option<u64>,
}

impl Space {
    /// Returns whether there is enough free space, or it is not known.
    pub fn is_enough(&self) -> bool {
        self.available
            .is_none_or(|available| self.needed <= available)
    }
}

/// Bytes that a subvolume takes, of whose data `stored` bytes are stored.
pub(super) fn needed(subvolume: &SubvolumeSummary, stored: u64, sector: u64) -> u64 {
    // The last sector of a file is half full on average.
    let tails = subvolume.created.files.saturating_mul(sector / 2);
    let tails = tails.min(stored);
    let inodes = subvolume.created.total().saturating_mul(PER_INODE);
    let metadata = inodes.saturating_add(stored / DATA_PER_METADATA);
    stored
        .saturating_add(tails)
        .saturating_add(metadata.saturating_mul(METADATA_COPIES))
}
