//! What went wrong.

use serde::ser::Serializer;

use super::{Fields, Object, objects};
use crate::error::{Cause, Failure, ReceiveError, StopReason};
use btrfs_lineage::NoSource;

/// Most candidates for a source that are listed.
const MAX_CANDIDATES: usize = 32;

objects! {
    /// `reason`, `first_failure` and `report`.
    ReceiveError;
    /// Where, `operation`, `path` and `cause`.
    Failure;
    /// `kind`, the class in one word; `message`, what happened in English; of
    /// failed system calls `call` and `errno`; what else the cause knows.
    Cause;
}

impl Fields for ReceiveError {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("reason", &self.reason)?;
        object.optional("first_failure", self.first_failure.as_deref())?;
        object.field("report", &*self.report)
    }
}

/// `kind`, the class in one word, and `message`, what happened in English.
impl serde::Serialize for StopReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Stream(error) => error.serialize(serializer),
            Self::Failures | Self::Cancelled => Object::of(self, serializer),
        }
    }
}

impl Fields for StopReason {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        let kind = match self {
            Self::Stream(_) => "stream",
            Self::Failures => "failures",
            Self::Cancelled => "cancelled",
        };
        object.field("kind", kind)?;
        object.text("message", self)
    }
}

impl Fields for Failure {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        self.at.fields(object)?;
        object.field("operation", self.operation)?;
        object.bytes("path", &self.path)?;
        object.field("cause", &*self.cause)
    }
}

impl Fields for Cause {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("kind", kind(self))?;
        object.text("message", self)?;
        match self {
            Self::System { call, error } => {
                object.field("call", call)?;
                object.optional("errno", error.raw_os_error())
            }
            Self::NotRenamed { error, .. } | Self::StampStays { error } => {
                object.optional("errno", error.raw_os_error())
            }
            Self::Moved {
                subvolume_id,
                called,
                ..
            } => {
                object.field("subvolume_id", subvolume_id)?;
                if called.is_empty() {
                    return Ok(());
                }
                object.bytes("called", called)
            }
            Self::EnteredByOthers { inode, open } => {
                object.field("inode", inode)?;
                object.field("open", open)
            }
            Self::LeftIncomplete { cause } => object.field("cause", &**cause),
            Self::NoSource(none) => none.fields(object),
            Self::SourceNotFound { wanted }
            | Self::NotExtracted { wanted }
            | Self::BadExtraction { wanted, .. } => object.field("wanted", wanted),
            Self::NameTaken { by } | Self::BuildNameTaken { by, .. } => object.field("by", by),
            Self::Escape { path, barrier } => {
                object.bytes("barrier_path", path)?;
                object.field("barrier", barrier)
            }
            Self::DataLost {
                path,
                inode,
                offset,
            } => {
                if let Some(path) = path {
                    object.bytes("path", path)?;
                }
                object.field("inode", inode)?;
                object.field("offset", offset)
            }
            _ => Ok(()),
        }
    }
}

fn kind(cause: &Cause) -> &'static str {
    match cause {
        Cause::NoSource(_) => "no_source",
        #[cfg(feature = "resume")]
        Cause::Resume(_) => "resume",
        Cause::System { .. } => "system",
        Cause::NameTaken { .. } => "name_taken",
        Cause::BuildNameTaken { .. } => "build_name_taken",
        Cause::NotRenamed { .. } => "not_renamed",
        Cause::Moved { .. } => "moved",
        Cause::EnteredByOthers { .. } => "entered_by_others",
        Cause::SecondSubvolume => "second_subvolume",
        Cause::LeftIncomplete { .. } => "left_incomplete",
        Cause::NoFileData => "no_file_data",
        Cause::NotRegularFile { .. } => "not_regular_file",
        Cause::Undecodable(_) => "undecodable",
        Cause::SourceNotFound { .. } => "source_not_found",
        Cause::NotExtracted { .. } => "not_extracted",
        Cause::BadExtraction { .. } => "bad_extraction",
        Cause::NameNotStored { .. } => "name_not_stored",
        Cause::ListNotWritten { .. } => "list_not_written",
        Cause::SourceTooShort { .. } => "source_too_short",
        Cause::Limit { .. } => "limit",
        Cause::NothingToFinish => "nothing_to_finish",
        Cause::Misplaced => "misplaced",
        Cause::ThreadPanicked => "thread_panicked",
        Cause::StampStays { .. } => "stamp_stays",
        Cause::DataLost { .. } => "data_lost",
        Cause::Other(_) => "other",
        Cause::OutOfRange { .. } => "out_of_range",
        Cause::Escape { .. } => "escape",
        Cause::RootItself => "root_itself",
        Cause::NoInodeFlags { .. } => "no_inode_flags",
        Cause::ModeNotKept { .. } => "mode_not_kept",
        Cause::NoProc { .. } => "no_proc",
    }
}

impl Fields for NoSource {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("wanted", &self.wanted)?;
        let shown = self.candidates.get(..MAX_CANDIDATES);
        let shown = shown.unwrap_or(&self.candidates);
        object.field("passed_over", shown)?;
        let missing: Vec<_> = self.missing.iter().map(|it| it.name()).collect();
        object.field("missing_capabilities", &missing)
    }
}
