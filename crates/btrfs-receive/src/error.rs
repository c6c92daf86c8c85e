//! What can go wrong while a stream is applied.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use btrfs_sendstream::decompress::DecodeError;
use btrfs_sendstream::{Bytes, Position, ValueError};

use crate::plan::op::SourceId;
use crate::report::Report;

/// Why a receive failed, and what it did until then.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[error("{}", self.message())]
#[non_exhaustive]
pub struct ReceiveError {
    /// Why the receive ended.
    pub reason: StopReason,
    /// The failed operation that comes first in the input, if any failed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub first_failure: Option<Box<Failure>>,
    /// What the receive did.
    pub report: Box<Report>,
}

impl ReceiveError {
    fn message(&self) -> String {
        match (&self.reason, &self.first_failure) {
            (StopReason::Failures, Some(failure)) => failure.to_string(),
            (reason, _) => reason.to_string(),
        }
    }
}

/// Why a receive ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// The stream is malformed or truncated, or could not be read.
    #[error(transparent)]
    Stream(btrfs_sendstream::Error),
    /// Operations failed.
    #[error("operations failed")]
    Failures,
    /// The caller cancelled the receive.
    #[error("the receive was cancelled")]
    Cancelled,
}

/// A destination that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A system call failed.
    #[error("{call} {path}: {error}", path = path.display())]
    System {
        /// The call.
        call: &'static str,
        /// The path in question.
        path: PathBuf,
        /// The error of the call.
        #[source]
        error: io::Error,
    },
    /// The parent or clone source that the caller named cannot be used.
    #[error("{path}: {error}", path = path.display())]
    Source {
        /// The path that the caller named.
        path: PathBuf,
        /// Why it cannot be used.
        #[source]
        error: io::Error,
    },
    /// The directory is not on a btrfs.
    #[error("{path} is not on a btrfs filesystem", path = path.display())]
    NotBtrfs {
        /// The directory.
        path: PathBuf,
    },
}

impl OpenError {
    pub(crate) fn new(call: &'static str, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::System {
            call,
            path: path.to_owned(),
            error: error.into(),
        }
    }

    pub(crate) fn source(path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Source {
            path: path.to_owned(),
            error: error.into(),
        }
    }

    pub(crate) fn not_btrfs(path: &Path) -> Self {
        Self::NotBtrfs {
            path: path.to_owned(),
        }
    }
}

/// An operation that failed: position, operation, path and cause.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[error("{at}: {operation} {}: {cause}", EscapedPath(path))]
#[non_exhaustive]
pub struct Failure {
    /// The command that asked for the operation.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub at: Position,
    /// The operation, by the name of the stream's command.
    pub operation: &'static str,
    /// Its path in the stream; empty for the root of the subvolume.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "btrfs_sendstream::serial::text")
    )]
    pub path: Bytes,
    /// The cause.
    #[source]
    pub cause: Box<Cause>,
}

impl Failure {
    /// Creates a failure from its fields.
    pub fn new(at: Position, operation: &'static str, path: &[u8], cause: Cause) -> Self {
        Self {
            at,
            operation,
            path: Bytes::copy_from_slice(path),
            cause: Box::new(cause),
        }
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No subvolume can serve as the parent or the clone source.
    #[error(transparent)]
    NoSource(#[from] Box<btrfs_lineage::NoSource>),
    /// An interrupted receive cannot be resumed, or a checkpoint cannot be
    /// taken.
    #[cfg(feature = "resume")]
    #[error(transparent)]
    Resume(#[from] Box<crate::resume::ResumeError>),
    /// A system call failed.
    #[error("{call}: {error}")]
    System {
        /// The call, by the name of its manual page, or the ioctl.
        call: &'static str,
        /// The error of the call.
        #[source]
        error: io::Error,
    },
    /// The name of the new subvolume is taken.
    #[error("File exists: the name is taken by {by}")]
    NameTaken {
        /// What has it.
        by: Conflict,
    },
    /// The temporary name of the new subvolume is taken; see
    /// [`atomic`](crate::BtrfsDestinationBuilder::atomic).
    #[error(
        "File exists: the temporary name {built_as} is taken by {}",
        match by {
            Conflict::Same => "the same subvolume, complete but not renamed".to_owned(),
            by => by.to_string(),
        }
    )]
    BuildNameTaken {
        /// That name.
        built_as: String,
        /// What has it.
        by: Conflict,
    },
    /// The subvolume is complete, on disk, marked as received and read-only,
    /// but could not be renamed from its temporary name.
    #[error("the subvolume is complete, but cannot be renamed from {built_as}: {error}")]
    NotRenamed {
        /// The temporary name.
        built_as: String,
        /// The error of `renameat2`; `EEXIST` if the name is taken.
        #[source]
        error: io::Error,
    },
    /// Another process renamed, moved or deleted the subvolume during the
    /// receive. It is not marked as received, unless it was moved after it was
    /// complete.
    #[error(
        "{built_as} is not the received subvolume (id {subvolume_id}) any more: another process \
         renamed, moved or deleted it{}",
        CalledNow(called)
    )]
    Moved {
        /// The name under which it was built.
        built_as: String,
        /// Its id.
        subvolume_id: u64,
        /// Its present name, in any directory; empty if it was deleted.
        called: Bytes,
    },
    /// Another process opened a file of the subvolume for writing, or changed
    /// something in it, while it was being made read-only. It is not marked as
    /// received.
    #[error(
        "another process {} while the subvolume was being made read-only",
        if *open {
            format!("opened inode {inode} for writing")
        } else {
            format!("changed inode {inode}")
        }
    )]
    EnteredByOthers {
        /// The number of the inode in the subvolume.
        inode: u64,
        /// Whether it is still open for writing.
        open: bool,
    },
    /// The input contains a second subvolume, and
    /// [`Options::name`](crate::Options::name) is for one.
    #[error("the input contains a second subvolume, and the chosen name is for one")]
    SecondSubvolume,
    /// The subvolume was created, but could not be opened or prepared. It is
    /// writable and has no received UUID.
    #[error("{cause}; the subvolume exists and is incomplete")]
    LeftIncomplete {
        /// What failed.
        #[source]
        cause: Box<Cause>,
    },
    /// The stream was sent without file data.
    #[error("the stream contains no file data (btrfs send --no-data) and cannot be received")]
    NoFileData,
    /// The target of a write, or the source or target of a clone, is not a
    /// regular file.
    #[error("not a regular file but a {found}")]
    NotRegularFile {
        /// The kind of file.
        found: &'static str,
    },
    /// The data of an encoded write cannot be decoded.
    #[error("cannot decode: {0}")]
    Undecodable(#[from] DecodeError),
    /// A model in memory has no subvolume that can be the source.
    #[error("no read-only subvolume has the received UUID or the UUID {}", wanted.uuid)]
    SourceNotFound {
        /// The source, as the stream names it.
        wanted: SourceId,
    },
    /// No earlier extraction in the directory has the UUID that the stream
    /// names.
    #[error("no complete extraction in this directory has the UUID {}", wanted.uuid)]
    NotExtracted {
        /// The source, as the stream names it.
        wanted: SourceId,
    },
    /// The earlier extraction that the stream names cannot be used.
    #[error(
        "the extraction {} with the UUID {} cannot be used: {problem}",
        EscapedPath(name), wanted.uuid
    )]
    BadExtraction {
        /// The source, as the stream names it.
        wanted: SourceId,
        /// Its name in the directory; empty if it is not known.
        name: Bytes,
        /// Why it cannot be used.
        problem: ExtractionProblem,
    },
    /// The filesystem changes the name, as VFAT does with a dot at its end, or
    /// does not distinguish it from another, as VFAT with capital letters.
    #[error(
        "this filesystem {}: {}",
        if *taken { "does not distinguish the name from another" } else { "changes the name" },
        EscapedPath(path)
    )]
    NameNotStored {
        /// The path that was to be created.
        path: Bytes,
        /// Whether another file has a name that the filesystem considers
        /// equal.
        taken: bool,
    },
    /// The list of metadata that was not extracted could not be written.
    #[error("cannot write the list of metadata that was not extracted: {error}")]
    ListNotWritten {
        /// The error of the writer.
        #[source]
        error: io::Error,
    },
    /// The file to clone from ends before the range does.
    #[error("the source file has {size} bytes, but the range ends at {wanted}")]
    SourceTooShort {
        /// Size of the source file in bytes.
        size: u64,
        /// Where the range ends in it.
        wanted: u64,
    },
    /// A limit on memory was reached.
    #[error("more than {limit} {what}")]
    Limit {
        /// The things that are limited in number.
        what: &'static str,
        /// Their largest number.
        limit: u64,
    },
    /// No subvolume is under construction.
    #[error("no subvolume is under construction")]
    NothingToFinish,
    /// The operation reached a part of the destination that cannot carry it
    /// out: a bug. Nothing was done.
    #[error("bug: the operation reached a part of the receiver that cannot carry it out")]
    Misplaced,
    /// A thread of the destination panicked, which is a bug. Nothing is
    /// completed after that.
    #[error("a thread of the receiver panicked; nothing more can be applied")]
    ThreadPanicked,
    /// The complete subvolume could not be made read-only after its received
    /// UUID was set, and the received UUID could not be removed. Its content is
    /// right, but can be changed.
    #[error(
        "the subvolume has a received UUID, but cannot be made read-only, and the received UUID \
         cannot be removed: {error}"
    )]
    StampStays {
        /// Why the received UUID could not be removed.
        #[source]
        error: io::Error,
    },
    /// Encoded data that the kernel had accepted could not be written to
    /// disk: the file has a hole in its place.
    #[error(
        "data was lost on its way to the disk: {} has a hole at offset {offset}",
        LostIn(path.as_deref(), *inode)
    )]
    DataLost {
        /// A path of the file in the new subvolume, if it is known.
        path: Option<Bytes>,
        /// Number of its inode there.
        inode: u64,
        /// Where in the file the data is missing, in bytes.
        offset: u64,
    },
    /// The check of the caller failed:
    /// [`check_before_seal`](crate::BtrfsDestinationBuilder::check_before_seal).
    /// The subvolume is complete and on disk, but not marked as received.
    #[error(transparent)]
    CheckFailed(Box<dyn std::error::Error + Send + Sync>),
    /// The caller's [`Filter`](crate::Filter) refused the command. It was not
    /// applied, and its subvolume is not finished.
    #[error(transparent)]
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// An error of a [`Destination`](crate::Destination) outside this
    /// crate.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// A value that the operation does not support.
    #[error("{what} {value} is out of range")]
    OutOfRange {
        /// The name of the value.
        what: &'static str,
        /// The value.
        value: i128,
    },
    /// The path may lead out of the subvolume.
    #[error("refused: {} in the path is {barrier}", EscapedPath(path))]
    Escape {
        /// The path up to the component that was refused.
        path: Bytes,
        /// What the component is.
        barrier: Barrier,
    },
    /// The path is empty: it names the root of the subvolume.
    #[error("the root of the subvolume cannot be created, moved, linked or removed")]
    RootItself,
    /// Inode flags can be set on regular files and directories only.
    #[error("inode flags cannot be set on a {found}")]
    NoInodeFlags {
        /// The kind of inode.
        found: &'static str,
    },
    /// The kernel dropped permission bits, such as the setgid bit without
    /// `CAP_FSETID`.
    #[error("mode {wanted:04o} was set, but the kernel stored {kept:04o}")]
    ModeNotSet {
        /// The permission bits that were set.
        wanted: u32,
        /// The permission bits that the kernel stored.
        kept: u32,
    },
    /// The operation on this kind of inode needs `/proc/self/fd`, which does
    /// not exist.
    #[error("/proc is not mounted, and this operation on a {found} needs it")]
    NoProc {
        /// The kind of inode.
        found: &'static str,
    },
}

/// What has the name of the new subvolume already. It is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Conflict {
    /// A writable subvolume without received UUID.
    #[error("a writable subvolume without received UUID")]
    Incomplete,
    /// The same subvolume, received before and complete.
    #[error("the same subvolume, which was received completely before")]
    Same,
    /// Another subvolume.
    #[error("another subvolume")]
    Other,
    /// Something that is not a subvolume.
    #[error("something that is not a subvolume")]
    NoSubvolume,
    /// The directory of an extraction that is running or did not finish.
    #[error("an extraction that is running or did not finish (its name ends in .incomplete)")]
    IncompleteExtraction,
    /// The directory for the records of extractions.
    #[error("the records of extractions")]
    Records,
}

/// Why an earlier extraction cannot be used as parent or clone source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractionProblem {
    /// It was moved, renamed or removed.
    #[error("it does not exist any more")]
    Gone,
    /// Another directory has its name, such as a copy of it.
    #[error("another directory has its name")]
    Replaced,
    /// It is another state of the subvolume: the UUID is right, but the
    /// ctransid is not.
    #[error("it is the subvolume at transid {found}, but the stream needs transid {wanted}")]
    OtherState {
        /// The ctransid in the record.
        found: u64,
        /// The ctransid in the stream.
        wanted: u64,
    },
    /// The record cannot be read.
    #[error("its record is damaged")]
    DamagedRecord,
}

/// What a component of a path is that may lead out of the subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Barrier {
    /// A symbolic link, or a magic link as in `/proc/self/fd`.
    #[error("a symbolic link")]
    SymbolicLink,
    /// A mount point.
    #[error("a mount point")]
    MountPoint,
    /// The root of another subvolume.
    #[error("another subvolume")]
    OtherSubvolume,
    /// An inode that another process put there during the operation.
    #[error("replaced by another process")]
    Replaced,
}

#[cfg(feature = "resume")]
impl From<crate::resume::ResumeError> for Cause {
    fn from(error: crate::resume::ResumeError) -> Self {
        Self::Resume(Box::new(error))
    }
}

impl Cause {
    /// A failed system call.
    pub fn system(call: &'static str, error: impl Into<io::Error>) -> Self {
        Self::System {
            call,
            error: error.into(),
        }
    }
}

impl From<ValueError> for Cause {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::OutOfRange { what, value } => Self::OutOfRange { what, value },
            // No other value can be wrong.
            _ => Self::RootItself,
        }
    }
}

/// A file by its path, else by its number.
struct LostIn<'a>(Option<&'a [u8]>, u64);

impl fmt::Display for LostIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "{} (inode {})", EscapedPath(path), self.1),
            None => write!(f, "inode {}", self.1),
        }
    }
}

/// The present name of a subvolume, if it has one.
struct CalledNow<'a>(&'a [u8]);

impl fmt::Display for CalledNow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "; its name is {} now", EscapedPath(self.0))
    }
}

/// A path of the stream as text that stays on its line, in quotes.
pub(crate) struct EscapedPath<'a>(pub(crate) &'a [u8]);

impl fmt::Display for EscapedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}

/// Whether a call failed with this error number.
pub(crate) fn is_errno(cause: &Cause, errno: rustix::io::Errno) -> bool {
    match cause {
        Cause::System { error, .. } => error.raw_os_error() == Some(errno.raw_os_error()),
        _ => false,
    }
}

/// Turns an error number into the failure of `call`.
pub(crate) fn named(call: &'static str) -> impl Fn(rustix::io::Errno) -> Cause {
    move |errno| Cause::system(call, errno)
}
