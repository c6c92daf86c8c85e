//! What a search for a source came across.

use btrfs_sendstream::{Bytes, SourceId, Timespec};
use uuid::Uuid;

use btrfs_ioctl::{SubvolumeInfo, SubvolumeTime};

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
/// filesystem, except for `stransid`. What the kernel has no value for is nil
/// or 0; of the subvolumes in stored streams, that is all but the received
/// UUID and `stransid`.
///
/// With the feature `serde`, what is nil or 0 has no key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct SubvolumeState {
    /// Its UUID.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Uuid::is_nil"))]
    pub uuid: Uuid,
    /// UUID of the subvolume it is a snapshot of; nil if it is none.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Uuid::is_nil"))]
    pub parent_uuid: Uuid,
    /// UUID of what it was received from; nil if it was not received.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Uuid::is_nil"))]
    pub received_uuid: Uuid,
    /// Transaction of its last change. A snapshot begins with that of what it
    /// was taken of.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_unset"))]
    pub ctransid: u64,
    /// Transaction that created it.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_unset"))]
    pub otransid: u64,
    /// ctransid on the sender's filesystem of what was received.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_unset"))]
    pub stransid: u64,
    /// Transaction in which the received UUID was set.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_unset"))]
    pub rtransid: u64,
    /// When its last change was recorded.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_unset"))]
    pub ctime: Timespec,
    /// When it was created.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_unset"))]
    pub otime: Timespec,
    /// When it was sent. Receivers do not set it.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_unset"))]
    pub stime: Timespec,
    /// When the received UUID was set.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "is_unset"))]
    pub rtime: Timespec,
    /// Whether it is read-only.
    pub read_only: bool,
}

#[cfg(feature = "serde")]
fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl From<&SubvolumeInfo> for SubvolumeState {
    fn from(info: &SubvolumeInfo) -> Self {
        let time = |time: SubvolumeTime| Timespec {
            seconds: time.seconds,
            nanoseconds: time.nanoseconds,
        };
        Self {
            uuid: info.uuid,
            parent_uuid: info.parent_uuid,
            received_uuid: info.received_uuid,
            ctransid: info.ctransid,
            otransid: info.otransid,
            stransid: info.stransid,
            rtransid: info.rtransid,
            ctime: time(info.ctime),
            otime: time(info.otime),
            stime: time(info.stime),
            rtime: time(info.rtime),
            read_only: info.read_only,
        }
    }
}

impl SubvolumeState {
    /// How a stream that `btrfs send` makes here names this subvolume as its
    /// parent, or as a clone source: by its received UUID if it has one, else
    /// by its UUID, and by its ctransid.
    pub fn source_id(&self) -> SourceId {
        let uuid = if self.received_uuid.is_nil() {
            self.uuid
        } else {
            self.received_uuid
        };
        SourceId {
            uuid,
            ctransid: self.ctransid,
        }
    }

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
