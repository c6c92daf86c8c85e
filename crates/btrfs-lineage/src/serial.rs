//! How errors look when they are serialised; `docs/json.md` of the repository
//! has the keys.

use btrfs_sendstream::SourceId;
use btrfs_sendstream::serial::{Text, shown};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

use crate::{Candidate, Capability, NoSource, Subvolume, Verdict};

/// Most candidates for a source that are listed.
const MAX_CANDIDATES: usize = 32;

/// `wanted`, `passed_over`, the first candidates, and `missing_capabilities`.
impl Serialize for NoSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            wanted: SourceId,
            passed_over: &'a [Candidate],
            missing_capabilities: Vec<&'static str>,
        }
        let listed = self.candidates.get(..MAX_CANDIDATES);
        Fields {
            wanted: self.wanted,
            passed_over: listed.unwrap_or(&self.candidates),
            missing_capabilities: self.missing.iter().map(|it| it.name()).collect(),
        }
        .serialize(serializer)
    }
}

/// `subvolume_id`, `path` if it is known, and `reason`, why it cannot serve,
/// in English.
impl Serialize for Candidate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            subvolume_id: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            path: Option<Text<'a>>,
            #[serde(serialize_with = "shown")]
            reason: Verdict,
        }
        Fields {
            subvolume_id: self.id,
            path: self.path.as_deref().map(Text),
            reason: self.verdict,
        }
        .serialize(serializer)
    }
}

/// Its name.
impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// From its name.
impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let all = [Self::SysAdmin, Self::DacReadSearch];
        let found = all.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| D::Error::custom("an unknown capability"))
    }
}

/// A subvolume that something was found about: `subvolume_id`, `path` if it is
/// known, UUIDs that are not nil, transaction ids, `read_only`.
pub(crate) fn subvolume<S: Serializer>(
    subvolume: &Subvolume,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(serde::Serialize)]
    struct Fields<'a> {
        subvolume_id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<Text<'a>>,
        uuid: Uuid,
        #[serde(skip_serializing_if = "Uuid::is_nil")]
        parent_uuid: Uuid,
        #[serde(skip_serializing_if = "Uuid::is_nil")]
        received_uuid: Uuid,
        ctransid: u64,
        stransid: u64,
        rtransid: u64,
        read_only: bool,
    }
    let state = &subvolume.state;
    Fields {
        subvolume_id: subvolume.id,
        path: subvolume.path.as_deref().map(Text),
        uuid: state.uuid,
        parent_uuid: state.parent_uuid,
        received_uuid: state.received_uuid,
        ctransid: state.ctransid,
        stransid: state.stransid,
        rtransid: state.rtransid,
        read_only: state.read_only,
    }
    .serialize(serializer)
}
