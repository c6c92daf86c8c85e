//! What a search for a source came across.

use btrfs_sendstream::Bytes;
use uuid::Uuid;

use btrfs_ioctl::SubvolumeInfo;

/// A subvolume that was considered as a source, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Its id on this filesystem.
    pub id: u64,
    /// Its path, as [`Source::path`](super::Source::path) has it, if that was
    /// found out.
    pub path: Option<Bytes>,
    /// What it has in common with the subvolume wanted, if it could be
    /// opened.
    pub matched_by: Option<MatchedBy>,
    /// What the kernel says about it, if it could be opened.
    pub state: Option<SubvolumeState>,
    /// Whether it can serve.
    pub verdict: Verdict,
}

/// What a subvolume has in common with the one that a stream names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MatchedBy {
    /// The caller named it as the source.
    Name,
    /// It was received from it, or from the same subvolume as it.
    ReceivedUuid,
    /// It is the subvolume itself.
    OwnUuid,
}

/// What the kernel says about a subvolume. Transaction ids are those of this
/// filesystem, except for `stransid`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubvolumeState {
    /// Its UUID.
    pub uuid: Uuid,
    /// UUID of the subvolume it is a snapshot of; nil if it is none.
    pub parent_uuid: Uuid,
    /// UUID of what it was received from; nil if it was not received.
    pub received_uuid: Uuid,
    /// Transaction of its last change.
    pub ctransid: u64,
    /// ctransid on the sender's filesystem of what was received.
    pub stransid: u64,
    /// Transaction in which the received UUID was set.
    pub rtransid: u64,
    /// Whether it is read-only.
    pub read_only: bool,
}

impl From<&SubvolumeInfo> for SubvolumeState {
    fn from(info: &SubvolumeInfo) -> Self {
        Self {
            uuid: info.uuid,
            parent_uuid: info.parent_uuid,
            received_uuid: info.received_uuid,
            ctransid: info.ctransid,
            stransid: info.stransid,
            rtransid: info.rtransid,
            read_only: info.read_only,
        }
    }
}

impl SubvolumeState {
    /// What a subvolume in this state has in common with `wanted`.
    pub(super) fn matches(&self, wanted: Uuid) -> Option<MatchedBy> {
        if self.received_uuid == wanted {
            Some(MatchedBy::ReceivedUuid)
        } else if self.uuid == wanted {
            Some(MatchedBy::OwnUuid)
        } else {
            None
        }
    }
}

/// Whether a subvolume can serve as the source, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It can serve.
    Suitable,
    /// It is writable, but its received UUID is the one wanted. It serves if
    /// no candidate is suitable; see [the last resort](super#the-last-resort).
    LastResort,
    /// It is writable, so its content may be another by now. Only a caller
    /// who insists can make it a source: [`Choice::DangerouslyUseWritable`](super::Choice).
    Writable,
    /// It is writable, and its receive was interrupted after it got its
    /// received UUID: its root is not that of the sender's. Receive it again.
    Unfinished,
    /// It is the subvolume being received.
    UnderConstruction,
    /// The caller [rejected](super::Resolver::reject) it.
    Rejected,
    /// It could serve, but the caller who was [asked](super::Choice) did not
    /// take it.
    NotChosen,
    /// It has neither the UUID nor the received UUID wanted: the UUID tree is
    /// out of date, or it changed meanwhile.
    OtherUuid,
    /// It was deleted.
    Gone,
    /// It is not inside the directory that sources are confined to.
    OutsideJail,
    /// It does not lie beneath what is mounted, and there is no permission to
    /// open it by its id.
    Unreachable,
    /// Opening it failed.
    CannotOpen {
        /// The error number.
        os_error: i32,
    },
}
