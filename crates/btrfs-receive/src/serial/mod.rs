//! JSON and the like: what `derive(Serialize)` cannot say where a type is
//! defined. `docs/json.md` of the repository has the keys.

mod error;
#[cfg(test)]
mod tests;

use btrfs_sendstream::inspect::VerifyReport;
use btrfs_sendstream::{SourceId, SubvolumeName, Uuid};
use serde::ser::{Serialize, Serializer};

use crate::dry_run::{DryRunReport, Forecast, Space};
use crate::error::Failure;
use crate::report::{Excluded, Fallbacks, LossSummary, Outcome, SubvolumeReport};
use btrfs_lineage::SourceUsed;

/// The fields of the structure. Absent ones have no key, and neither have
/// names that are the same as `name`.
impl Serialize for SubvolumeReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            name: &'a SubvolumeName,
            #[serde(skip_serializing_if = "Option::is_none")]
            sent_name: Option<&'a SubvolumeName>,
            #[serde(skip_serializing_if = "Option::is_none")]
            built_as: Option<&'a SubvolumeName>,
            uuid: Uuid,
            ctransid: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            wanted_parent: Option<SourceId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent: Option<&'a SourceUsed>,
            outcome: Outcome,
            #[serde(skip_serializing_if = "Option::is_none")]
            subvolume_id: Option<u64>,
            commands: u64,
            failures: u64,
            fallbacks: Fallbacks,
            excluded: Excluded,
            clone_sources: &'a [SourceUsed],
            #[serde(skip_serializing_if = "Option::is_none")]
            losses: Option<&'a LossSummary>,
            #[serde(skip_serializing_if = "Option::is_none")]
            resumed_at: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            checkpoint: Option<u64>,
        }
        Fields {
            name: &self.name,
            sent_name: Some(&self.sent_name).filter(|name| **name != self.name),
            built_as: Some(&self.built_as).filter(|name| **name != self.name),
            uuid: self.uuid,
            ctransid: self.ctransid,
            wanted_parent: self.wanted_parent,
            parent: self.parent.as_ref(),
            outcome: self.outcome,
            subvolume_id: self.subvolume_id,
            commands: self.commands,
            failures: self.failures,
            fallbacks: self.fallbacks,
            excluded: self.excluded,
            clone_sources: &self.clone_sources,
            losses: Some(&self.losses).filter(|it| it.total() > 0),
            resumed_at: self.resumed_at,
            checkpoint: self.checkpoint,
        }
        .serialize(serializer)
    }
}

/// `good`, and the fields of the structure.
impl Serialize for DryRunReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            good: bool,
            stream: &'a VerifyReport,
            failures: &'a [Failure],
            more_failures: u64,
            forecasts: &'a [Forecast],
            space: Space,
        }
        Fields {
            good: self.is_good(),
            stream: &self.stream,
            failures: &self.failures,
            more_failures: self.more_failures,
            forecasts: &self.forecasts,
            space: self.space,
        }
        .serialize(serializer)
    }
}

/// Permission bits that may be absent, as octal digits.
pub(crate) fn optional_permissions<S: Serializer>(
    mode: &Option<u32>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    mode.map(|mode| format!("{mode:04o}")).serialize(serializer)
}

/// The name of a subvolume that was reported.
pub(crate) fn name<S: Serializer>(
    subvolume: &SubvolumeReport,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    subvolume.name.serialize(serializer)
}

/// An object with the text of an error.
#[cfg(feature = "resume")]
pub(crate) fn reason<S: Serializer>(
    error: &crate::resume::ResumeError,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(serde::Serialize)]
    struct Fields {
        reason: String,
    }
    let reason = error.to_string();
    Fields { reason }.serialize(serializer)
}

/// A time as whole milliseconds.
pub(crate) fn milliseconds<S: Serializer>(
    time: &std::time::Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
