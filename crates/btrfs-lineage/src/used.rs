//! What a source was taken for, in a report.

use btrfs_sendstream::{Bytes, SourceId};
use uuid::Uuid;

/// A subvolume that served as parent or clone source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SourceUsed {
    /// How the stream named it.
    pub wanted: SourceId,
    /// Its id on the destination's filesystem; 0 in a plain directory.
    pub subvolume_id: u64,
    /// Its UUID on the destination's filesystem; in a plain directory, that
    /// of the stream.
    pub uuid: Uuid,
    /// Its path from the top of the filesystem, as far as that is known, or
    /// in the plain directory.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "btrfs_sendstream::serial::optional_text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub path: Option<Bytes>,
    /// It served only because the caller named it: its UUIDs are not the one
    /// wanted, or it is writable. Whether it holds what the sender's has was
    /// not looked at.
    pub vouched_for: bool,
    /// It is writable: named or chosen by the caller, or
    /// [the last resort](crate#the-last-resort).
    pub writable: bool,
    /// It is writable, and nothing shows that it is unchanged since its
    /// received UUID was set. Of a parent: until the snapshot was taken. Of a
    /// clone source: until the subvolume was complete.
    pub may_have_changed: bool,
}

impl SourceUsed {
    /// A source whose path is not known.
    pub fn new(wanted: SourceId, subvolume_id: u64, uuid: Uuid) -> Self {
        Self {
            wanted,
            subvolume_id,
            uuid,
            path: None,
            vouched_for: false,
            writable: false,
            may_have_changed: false,
        }
    }
}
