//! The entry of a source in a report.

#[cfg(feature = "serde")]
use btrfs_sendstream::serial::optional_text;
use btrfs_sendstream::{Bytes, SourceId};
use uuid::Uuid;

/// A subvolume that was used as parent or clone source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SourceUsed {
    /// The source, as the stream names it.
    pub wanted: SourceId,
    /// Its id on the destination's filesystem; 0 in a plain directory.
    pub subvolume_id: u64,
    /// Its UUID on the filesystem of the destination; in a plain directory, the
    /// UUID in the stream.
    pub uuid: Uuid,
    /// Its path from the top level of the filesystem, if known, or in the plain
    /// directory.
    #[cfg_attr(
        feature = "serde",
        serde(
            skip_serializing_if = "Option::is_none",
            serialize_with = "optional_text"
        )
    )]
    pub path: Option<Bytes>,
    /// Whether it was used only because the caller named it: its UUIDs are
    /// others, or it is writable. Its content is not verified.
    pub unverified: bool,
    /// Whether it is writable: named or chosen by the caller, or
    /// [the last resort](crate#the-last-resort).
    pub writable: bool,
    /// Whether it is writable and may have changed since its received UUID was
    /// set: a parent until the snapshot was taken, a clone source until the
    /// subvolume was complete.
    pub may_have_changed: bool,
    /// Inode number of a file or directory in it that was changed after its
    /// received UUID was set, if it is read-only: see
    /// [`SinceReceived`](crate::SinceReceived). The sender's
    /// subvolume may lack the change.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub changed_inode: Option<u64>,
}

impl SourceUsed {
    /// Creates a source without a path.
    pub fn new(wanted: SourceId, subvolume_id: u64, uuid: Uuid) -> Self {
        Self {
            wanted,
            subvolume_id,
            uuid,
            path: None,
            unverified: false,
            writable: false,
            may_have_changed: false,
            changed_inode: None,
        }
    }
}
