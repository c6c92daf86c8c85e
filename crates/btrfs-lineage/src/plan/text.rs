//! What became of candidates, in English, and serialised.

use std::fmt;

use super::{Doubt, PlanVerdict};

impl PlanVerdict {
    /// One word for it that does not change.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::CloneSource => "clone_source",
            Self::Farther => "farther",
            Self::Unrelated => "unrelated",
            Self::NotThere => "not_there",
            Self::Writable => "writable",
            Self::Unfinished => "unfinished",
            Self::NotMounted => "not_mounted",
            Self::SameUuid => "same_uuid",
            Self::Doubtful(doubt) => match doubt {
                Doubt::ChangedHere => "changed_here",
                Doubt::ChangedThere(_) => "changed_there",
                Doubt::UnknownHere => "unknown_here",
                Doubt::UnknownThere(_) => "unknown_there",
                Doubt::OtherState(_) => "other_state",
                Doubt::NoTransid => "no_transid",
                Doubt::Relayed(_) => "relayed",
                Doubt::WritableThere(_) => "writable_there",
                Doubt::Another(_) => "another_there",
            },
        }
    }
}

impl fmt::Display for PlanVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent => f.write_str("the parent"),
            Self::CloneSource => f.write_str("a clone source"),
            Self::Farther => f.write_str("usable, but others are nearer to the snapshot"),
            Self::Unrelated => f.write_str("usable, but not known to share data with the snapshot"),
            Self::NotThere => f.write_str("the receiver does not have it"),
            Self::Writable => f.write_str("it is writable"),
            Self::Unfinished => f.write_str("its receive was interrupted"),
            Self::NotMounted => f.write_str("the receiver has it, but it is not mounted here"),
            Self::SameUuid => f.write_str("it has the same received UUID as the snapshot"),
            Self::Doubtful(doubt) => doubt.fmt(f),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChangedHere => f.write_str("it was changed after it was received"),
            Self::ChangedThere(id) => write!(
                f,
                "the receiver's copy, subvolume {id}, was changed after it was received"
            ),
            Self::UnknownHere => f.write_str(
                "it may have been changed after it was received: to find out takes CAP_SYS_ADMIN",
            ),
            Self::UnknownThere(id) => write!(
                f,
                "the receiver's copy, subvolume {id}, may have been changed after it was received: to \
                 find out, its inventory has to be made with CAP_SYS_ADMIN"
            ),
            Self::OtherState(id) => write!(
                f,
                "the receiver has it in another state, as subvolume {id}: it was changed in between"
            ),
            Self::NoTransid => f.write_str(
                "its received UUID, or that of the receiver's copy, was not set by a receive: the \
                 transid of the sender is missing",
            ),
            Self::Relayed(id) => write!(
                f,
                "the receiver's copy, subvolume {id}, and this one came by different hosts: both are \
                 unchanged, but whether a host in between changed it is not known"
            ),
            Self::WritableThere(id) => {
                write!(f, "the receiver's copy, subvolume {id}, is writable")
            }
            Self::Another(id) => write!(
                f,
                "the receiver has it, but also subvolume {id}, which has the same UUID and may hold \
                 other data"
            ),
        }
    }
}

/// `snapshot`, `result`, the `parent`, `clone_sources` and the like by their
/// ids, and the `candidates`.
#[cfg(feature = "serde")]
impl serde::Serialize for super::Plan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            result: &'static str,
            impossible: bool,
            snapshot: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent: Option<u64>,
            clone_sources: &'a [u64],
            already_there: &'a [u64],
            other_states_there: &'a [u64],
            seen_all: bool,
            candidates: &'a [super::PlanCandidate],
        }
        let fields = Fields {
            result: match self.parent {
                Some(_) => "incremental",
                None => "full",
            },
            impossible: self.is_impossible(),
            snapshot: self.snapshot,
            parent: self.parent,
            clone_sources: &self.clone_sources,
            already_there: &self.already_there,
            other_states_there: &self.other_states_there,
            seen_all: self.seen_all,
            candidates: &self.candidates,
        };
        fields.serialize(serializer)
    }
}

/// `verdict` in one word, and `reason` in English, among others.
#[cfg(feature = "serde")]
impl serde::Serialize for super::PlanCandidate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use btrfs_sendstream::serial::{Text, shown};

        #[derive(serde::Serialize)]
        struct Fields<'a> {
            subvolume_id: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            path: Option<Text<'a>>,
            verdict: &'static str,
            doubtful: bool,
            #[serde(serialize_with = "shown")]
            reason: PlanVerdict,
            uuid: uuid::Uuid,
            ctransid: u64,
            there: &'a [u64],
            #[serde(skip_serializing_if = "Option::is_none")]
            steps: Option<usize>,
        }
        let fields = Fields {
            subvolume_id: self.id,
            path: self.path.as_deref().map(Text),
            verdict: self.verdict.name(),
            doubtful: matches!(self.verdict, PlanVerdict::Doubtful(_)),
            reason: self.verdict,
            uuid: self.source.uuid,
            ctransid: self.source.ctransid,
            there: &self.there,
            steps: self.steps,
        };
        fields.serialize(serializer)
    }
}
