//! What went wrong.

use btrfs_lineage::NoSource;
use btrfs_sendstream::SourceId;
use btrfs_sendstream::serial::{Text, shown};
use serde::ser::{Serialize, Serializer};

use crate::error::{Barrier, Cause, Conflict, StopReason};

/// `kind`, the class in one word, and `message`, the reason in English; of a
/// damaged stream also the position.
impl Serialize for StopReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            kind: &'static str,
            #[serde(serialize_with = "shown")]
            message: &'a StopReason,
        }
        let kind = match self {
            Self::Stream(error) => return error.serialize(serializer),
            Self::Failures => "failures",
            Self::Cancelled => "cancelled",
        };
        let message = self;
        Fields { kind, message }.serialize(serializer)
    }
}

/// `kind`, the class in one word; `message`, the cause in English; of failed
/// system calls `call` and `errno`; and the fields of the cause.
impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            kind: &'static str,
            #[serde(serialize_with = "shown")]
            message: &'a Cause,
            #[serde(flatten)]
            details: Option<Details<'a>>,
        }
        Fields {
            kind: kind(self),
            message: self,
            details: Details::of(self),
        }
        .serialize(serializer)
    }
}

/// The fields of a cause that are not part of its message only.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Details<'a> {
    System {
        #[serde(skip_serializing_if = "Option::is_none")]
        call: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        errno: Option<i32>,
    },
    Moved {
        subvolume_id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        called: Option<Text<'a>>,
    },
    EnteredByOthers {
        inode: u64,
        open: bool,
    },
    LeftIncomplete {
        cause: &'a Cause,
    },
    NoSource(&'a NoSource),
    Wanted {
        wanted: SourceId,
    },
    Taken {
        by: Conflict,
    },
    Escape {
        barrier_path: Text<'a>,
        barrier: Barrier,
    },
    DataLost {
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<Text<'a>>,
        inode: u64,
        offset: u64,
    },
}

impl<'a> Details<'a> {
    fn of(cause: &'a Cause) -> Option<Self> {
        Some(match cause {
            Cause::System { call, error } => Self::System {
                call: Some(call),
                errno: error.raw_os_error(),
            },
            Cause::NotRenamed { error, .. } | Cause::StampStays { error } => Self::System {
                call: None,
                errno: error.raw_os_error(),
            },
            Cause::Moved {
                subvolume_id,
                called,
                ..
            } => Self::Moved {
                subvolume_id: *subvolume_id,
                called: Some(Text(called)).filter(|_| !called.is_empty()),
            },
            Cause::EnteredByOthers { inode, open } => Self::EnteredByOthers {
                inode: *inode,
                open: *open,
            },
            Cause::LeftIncomplete { cause } => Self::LeftIncomplete { cause },
            Cause::NoSource(none) => Self::NoSource(none),
            Cause::SourceNotFound { wanted }
            | Cause::NotExtracted { wanted }
            | Cause::BadExtraction { wanted, .. } => Self::Wanted { wanted: *wanted },
            Cause::NameTaken { by } | Cause::BuildNameTaken { by, .. } => Self::Taken { by: *by },
            Cause::Escape { path, barrier } => Self::Escape {
                barrier_path: Text(path),
                barrier: *barrier,
            },
            Cause::DataLost {
                path,
                inode,
                offset,
            } => Self::DataLost {
                path: path.as_deref().map(Text),
                inode: *inode,
                offset: *offset,
            },
            #[cfg(feature = "resume")]
            Cause::Resume(_) => return None,
            Cause::SecondSubvolume
            | Cause::NoFileData
            | Cause::NotRegularFile { .. }
            | Cause::Undecodable(_)
            | Cause::NameNotStored { .. }
            | Cause::ListNotWritten { .. }
            | Cause::SourceTooShort { .. }
            | Cause::Limit { .. }
            | Cause::NothingToFinish
            | Cause::ThreadPanicked
            | Cause::CheckFailed(_)
            | Cause::Refused(_)
            | Cause::Other(_)
            | Cause::OutOfRange { .. }
            | Cause::RootItself
            | Cause::NoInodeFlags { .. }
            | Cause::ModeNotSet { .. }
            | Cause::NoProc { .. }
            | Cause::Misplaced => return None,
        })
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
        Cause::CheckFailed(_) => "check_failed",
        Cause::Refused(_) => "refused",
        Cause::Other(_) => "other",
        Cause::OutOfRange { .. } => "out_of_range",
        Cause::Escape { .. } => "escape",
        Cause::RootItself => "root_itself",
        Cause::NoInodeFlags { .. } => "no_inode_flags",
        Cause::ModeNotSet { .. } => "mode_not_set",
        Cause::NoProc { .. } => "no_proc",
    }
}
