//! Where a stream is applied to: the contract, and its implementations.

pub(crate) mod btrfs;
pub(crate) mod directory;
mod tree;

use btrfs_sendstream::{Bytes, SubvolumeName, Timespec};

use crate::error::{Cause, Failure};
use crate::plan::op::{NewSubvolume, Step};
use crate::report::{Fallbacks, LossSummary, Waits};
use btrfs_lineage::SourceUsed;

/// Something a stream can be applied to.
///
/// One subvolume is under construction at a time: [`begin`](Self::begin),
/// any number of [`apply`](Self::apply), then either
/// [`finish`](Self::finish) or [`abandon`](Self::abandon).
///
/// # Order and failure
/// Operations take effect in the order given, as far as their result can
/// tell. A destination may queue an operation and carry it out later. So
/// [`apply`](Self::apply) returns nothing: failures come from
/// [`next_failure`](Self::next_failure) and from [`settle`](Self::settle),
/// which waits until nothing is queued; each [`Failure`] names the operation
/// that failed. After a failure the destination stays usable: the caller
/// decides whether to go on, and must not call `finish` for that subvolume.
pub trait Destination {
    /// The name that `new` has while it is under construction. Default: its
    /// own.
    fn built_as(&self, new: &NewSubvolume) -> SubvolumeName {
        new.name.clone()
    }

    /// Creates the subvolume, or takes the snapshot, that everything up to
    /// `finish` or `abandon` is applied to.
    ///
    /// What the root of a snapshot would hand down to new inodes is taken
    /// off it and returned, and so are its times, and the owner and the mode
    /// that would let others in, so that the caller can merge them with what
    /// the stream says and apply them at the end.
    ///
    /// # Errors
    /// The name exists, the parent was not found, or the call failed. An
    /// existing subvolume of that name is left alone.
    fn begin(
        &mut self,
        new: &NewSubvolume,
        at: btrfs_sendstream::Position,
    ) -> Result<Begun, Failure>;

    /// Applies, or queues, one operation. If it fails, or no subvolume is
    /// under construction, [`next_failure`](Self::next_failure) or
    /// [`settle`](Self::settle) returns the failure.
    ///
    /// A caller that never asks for failures lets them pile up.
    fn apply(&mut self, step: Step);

    /// Returns a failure that is known and was not returned yet; of several,
    /// the one that comes first in the stream. Does not wait: operations
    /// before it may still be queued, and fail later.
    fn next_failure(&mut self) -> Option<Failure>;

    /// Waits until every queued operation has been carried out.
    ///
    /// # Errors
    /// Of the operations that failed, the one that comes first in the stream
    /// and was not returned yet. Call again until it returns `Ok` to learn of
    /// every failure.
    fn settle(&mut self) -> Result<(), Failure>;

    /// Makes everything durable, then marks the subvolume as received and
    /// makes it read-only.
    ///
    /// # Errors
    /// Anything failed: the subvolume is writable and has no received UUID. Two
    /// causes are exceptions. After
    /// [`Cause::NotRenamed`](crate::Cause::NotRenamed) it is complete, and still
    /// has the name it was built under. After
    /// [`Cause::StampStays`](crate::Cause::StampStays) the received UUID could
    /// not be removed.
    fn finish(&mut self, at: btrfs_sendstream::Position) -> Result<Finished, Failure>;

    /// How long [`apply`](Self::apply) and [`settle`](Self::settle) have waited,
    /// for all subvolumes so far: [`Waits::data`] and [`Waits::metadata`]. The
    /// other fields are not looked at. Default: nothing, so that such waits
    /// count as work.
    fn waits(&self) -> Waits {
        Waits::default()
    }

    /// Gives up the subvolume under construction: it stays as it is,
    /// writable and without received UUID. Does nothing if there is none.
    fn abandon(&mut self);

    /// Gives up the subvolume under construction, also after a failed
    /// `begin` or `finish`, and deletes it; says whether it is gone.
    ///
    /// Only what `begin` created may be deleted, and not if it has a received
    /// UUID or is read-only. The default is to [`abandon`](Self::abandon) it
    /// and to delete nothing.
    ///
    /// # Errors
    /// It could not be deleted.
    fn discard(&mut self) -> Result<bool, Cause> {
        self.abandon();
        Ok(false)
    }
}

/// What [`Destination::begin`] found and took off the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Begun {
    /// Id of the subvolume on the destination's filesystem, if it has one.
    pub subvolume_id: Option<u64>,
    /// The parent a snapshot was taken of.
    pub parent: Option<SourceUsed>,
    /// Attributes of the root of a snapshot that have to be set at the end.
    pub deferred: DeferredAttributes,
}

/// Attributes of the root that inodes created in it would inherit or change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeferredAttributes {
    /// Value of `system.posix_acl_default`.
    pub default_acl: Option<Bytes>,
    /// Value of `btrfs.compression`.
    pub compression: Option<Bytes>,
    /// Inode flags of the root (`BTRFS_INODE_*`, as FILEATTR carries them),
    /// if some of them were taken off because new inodes inherit them.
    pub attributes: Option<u64>,
    /// Owner and group, if the root was given to the receiver.
    pub owner: Option<(u32, u32)>,
    /// Permission bits, if others were taken away: all that let anybody else
    /// in, or the setgid bit alone.
    pub mode: Option<u32>,
    /// Times of access and of modification. Names that come and go in the
    /// root while inodes are created move them, also where the sender's did
    /// not move and the stream therefore brings none.
    pub times: Option<(Timespec, Timespec)>,
}

/// What [`Destination::finish`] made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// Id of the subvolume on the destination's filesystem, if it has one.
    pub subvolume_id: Option<u64>,
    /// What the destination had to do another way.
    pub fallbacks: Fallbacks,
    /// Clone sources used.
    pub clone_sources: Vec<SourceUsed>,
    /// What the destination cannot hold.
    pub losses: LossSummary,
}
