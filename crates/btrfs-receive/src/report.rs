//! What a receive did.

use btrfs_sendstream::Bytes;
use uuid::Uuid;

use crate::plan::op::SourceId;

/// How often a destination had to do something another way than asked,
/// with the same content as the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fallbacks {
    /// Encoded writes that were refused, decoded and written.
    pub encoded_writes_decoded: u64,
    /// Clones that were refused; the range was copied.
    pub clones_copied: u64,
    /// `btrfs.compression` that a NOCOW file refused; its content is the
    /// same.
    pub compression_refused: u64,
}

/// A subvolume that served as parent or clone source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceUsed {
    /// How the stream named it.
    pub wanted: SourceId,
    /// Its id on the destination's filesystem.
    pub subvolume_id: u64,
    /// Its UUID on the destination's filesystem.
    pub uuid: Uuid,
    /// Its path from the top of the filesystem, as far as that is known.
    pub path: Option<Bytes>,
}
