//! What can go wrong while a stream is applied.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use btrfs_sendstream::decompress::DecodeError;
use btrfs_sendstream::{Bytes, Position, ValueError};

use crate::plan::op::SourceId;
use crate::report::Report;

/// Why a receive did not finish everything, and what it did.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[error("{}", self.message())]
#[non_exhaustive]
pub struct ReceiveError {
    /// What ended it.
    pub reason: StopReason,
    /// The failed operation that comes first in the input, if any failed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub first_failure: Option<Box<Failure>>,
    /// What was done before and in spite of it.
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

/// What ended a receive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// The stream is malformed, was cut, or could not be read.
    #[error(transparent)]
    Stream(btrfs_sendstream::Error),
    /// Operations failed.
    #[error("operations failed")]
    Failures,
    /// The caller asked to stop.
    #[error("stopped on request")]
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
        /// The path it was made for.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// What was named as parent or clone source cannot be one.
    #[error("{path}: {error}", path = path.display())]
    Source {
        /// The path as it was named.
        path: PathBuf,
        /// Why not.
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

/// An operation that failed: where, what, on which path, and why.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[error("{at}: {operation} {}: {cause}", EscapedPath(path))]
#[non_exhaustive]
pub struct Failure {
    /// The command that asked for the operation.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub at: Position,
    /// The operation, named like the stream's command.
    pub operation: &'static str,
    /// The path in the stream that it acted on; empty for the root.
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
    /// A failure; the fields say what each argument is.
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
    NoSource(#[from] Box<crate::source::NoSource>),
    /// An interrupted receive cannot go on, or a checkpoint cannot be taken.
    #[cfg(feature = "resume")]
    #[error(transparent)]
    Resume(#[from] Box<crate::resume::ResumeError>),
    /// A system call failed.
    #[error("{call}: {error}")]
    System {
        /// The call, by the name of its manual page, or the ioctl.
        call: &'static str,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The name of the new subvolume is taken.
    #[error("File exists: the name is taken by {by}")]
    NameTaken {
        /// What has it.
        by: Occupant,
    },
    /// The name that the new subvolume was to have until it is complete is
    /// taken; see
    /// [`atomic`](crate::BtrfsDestinationBuilder::atomic).
    #[error(
        "File exists: {built_as}, as it is called until it is complete, is {}",
        match by {
            Occupant::Same => "the same subvolume, complete but for its name: rename it \
                (mv -nT)".to_owned(),
            by => by.to_string(),
        }
    )]
    BuildNameTaken {
        /// That name.
        built_as: String,
        /// What has it.
        by: Occupant,
    },
    /// The subvolume is complete, on disk, marked as received and read-only,
    /// and could not be given its name.
    #[error(
        "it is complete, and still called {built_as}, which rename(2) could not change: {error}"
    )]
    NotRenamed {
        /// The name it was built under.
        built_as: String,
        /// Why; `EEXIST` if the name was taken meanwhile.
        #[source]
        error: io::Error,
    },
    /// Another process has renamed or moved the subvolume, so that its name is
    /// something else's or nothing's. It is not marked as received, unless it
    /// was moved after it was complete.
    #[error(
        "{built_as} is not the subvolume that was received: another process renamed it, moved it \
         away or deleted it; it has the id {subvolume_id}{}",
        CalledNow(called)
    )]
    Moved {
        /// The name that it had while it was built.
        built_as: String,
        /// Its id.
        subvolume_id: u64,
        /// Its name now, in whatever directory; empty if it was deleted.
        called: Bytes,
    },
    /// While the subvolume was made read-only, another process opened a file of
    /// it for writing, or changed something in it. It is not marked as
    /// received.
    #[error(
        "another process {} inode {inode} while the subvolume was made read-only",
        if *open { "opened for writing" } else { "changed" }
    )]
    EnteredByOthers {
        /// The number of the inode in the subvolume.
        inode: u64,
        /// Whether it is open for writing, and can be changed still.
        open: bool,
    },
    /// A name was chosen for the subvolume of the input, and this is a second
    /// one: see [`Options::name`](crate::Options::name).
    #[error(
        "the input holds a second subvolume, and the name that was chosen serves one; receive \
         them one by one, or under the names in the stream"
    )]
    SecondSubvolume,
    /// The subvolume was created, and then something failed before anything
    /// could be applied: it is there, writable and without received UUID.
    #[error("{cause}; the subvolume exists and is incomplete")]
    LeftIncomplete {
        /// What failed.
        #[source]
        cause: Box<Cause>,
    },
    /// The stream says that a file changed, and not how.
    #[error(
        "the stream was sent without file data (btrfs send --no-data): it shows what \
         changed and cannot be received"
    )]
    NoFileData,
    /// File data was sent to something that is not a regular file.
    #[error(
        "not a regular file but a {found}; data is written to and cloned from regular files only"
    )]
    NotRegularFile {
        /// What it is.
        found: &'static str,
    },
    /// The data of an encoded write cannot be decoded.
    #[error("cannot decode: {0}")]
    Undecodable(#[from] DecodeError),
    /// A model holds no subvolume that could serve as the source.
    #[error("no read-only subvolume has the received UUID or the UUID {}", wanted.uuid)]
    SourceNotFound {
        /// How the stream names it.
        wanted: SourceId,
    },
    /// No earlier extraction in the directory has the UUID that the stream
    /// names.
    #[error(
        "no complete extraction in this directory has the UUID {}; extract the stream of that \
         subvolume into it first",
        wanted.uuid
    )]
    NotExtracted {
        /// How the stream names it.
        wanted: SourceId,
    },
    /// An earlier extraction has the UUID that the stream names, and cannot
    /// be used.
    #[error(
        "the extraction {} that has the UUID {} cannot be used: {problem}",
        EscapedPath(name), wanted.uuid
    )]
    BadExtraction {
        /// How the stream names it.
        wanted: SourceId,
        /// Its name in the directory, as far as that is known.
        name: Bytes,
        /// What is the matter.
        problem: ExtractionProblem,
    },
    /// The filesystem extracted onto does not store the name as it is, as
    /// VFAT, which drops a dot at the end; or does not tell it from another,
    /// as VFAT with capital letters.
    #[error(
        "this filesystem {} {} {}; extract onto another filesystem",
        if *taken { "takes" } else { "stores" },
        EscapedPath(path),
        if *taken { "for the name of another file" } else { "under another name" }
    )]
    NameNotStored {
        /// The path that was to be created.
        path: Bytes,
        /// Another file has a name that the filesystem takes for this one.
        taken: bool,
    },
    /// The list of what was not kept could not be written.
    #[error("cannot write the list of what is not kept: {error}")]
    ListNotWritten {
        /// What the writer said.
        #[source]
        error: io::Error,
    },
    /// The file to clone from ends before the range does.
    #[error("the source file has {size} bytes, and the range ends at {wanted}")]
    SourceTooShort {
        /// Size of the source file in bytes.
        size: u64,
        /// Where the range ends in it.
        wanted: u64,
    },
    /// More of something than memory is set aside for.
    #[error("more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are possible.
        limit: u64,
    },
    /// No subvolume is under construction.
    #[error("no subvolume is under construction")]
    NothingToFinish,
    /// A thread of the destination panicked: a bug. Nothing is finished
    /// after that.
    #[error("a thread of the receiver panicked; nothing more can be applied")]
    ThreadPanicked,
    /// The complete subvolume was marked as received, could not be made
    /// read-only, and the mark could not be taken off again. Its content is
    /// that of the sender, but it can be changed: delete it.
    #[error(
        "it has a received UUID but cannot be made read-only, and the received UUID cannot be \
         removed; delete it: {error}"
    )]
    StampStays {
        /// Why the mark could not be taken off.
        #[source]
        error: io::Error,
    },
    /// Encoded data that the kernel had accepted is a hole after the flush:
    /// writing it to disk failed.
    #[error(
        "the disk did not take the data: {} has none at offset {offset}, where it was written; \
         the kernel log may say why",
        LostIn(path.as_deref(), *inode)
    )]
    DataLost {
        /// A path of the file in the new subvolume, if it could be found out.
        path: Option<Bytes>,
        /// Number of its inode there.
        inode: u64,
        /// Where in the file the data is missing, in bytes.
        offset: u64,
    },
    /// Something else, in a [`Destination`](crate::Destination) that is not
    /// of this crate.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// A value that the operation cannot carry.
    #[error("{what} {value} is out of range")]
    OutOfRange {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: i128,
    },
    /// Resolving the path would have left the subvolume, or may have.
    #[error("{barrier} stands in the path at {}; refused", EscapedPath(path))]
    Escape {
        /// The path as far as the component that was refused.
        path: Bytes,
        /// What stands there.
        barrier: Barrier,
    },
    /// The path is empty, where a name in a directory is needed.
    #[error("the root of the subvolume cannot be created, moved, linked or removed")]
    RootItself,
    /// Inode flags were asked of something that has none to set.
    #[error("a {found} has no inode flags that can be set; regular files and directories have")]
    NoInodeFlags {
        /// What it is.
        found: &'static str,
    },
    /// The kernel accepted permission bits and did not store all of them,
    /// as it does with the setgid bit without `CAP_FSETID`.
    #[error("mode {wanted:04o} was set and {kept:04o} was kept; CAP_FSETID may be missing")]
    ModeNotKept {
        /// The permission bits asked for.
        wanted: u32,
        /// The permission bits found afterwards.
        kept: u32,
    },
    /// The operation on this kind of inode goes through `/proc/self/fd`,
    /// which is not there.
    #[error("no proc filesystem is mounted on /proc, and this operation on a {found} needs it")]
    NoProc {
        /// What the inode is.
        found: &'static str,
    },
}

/// What has the name that a new subvolume was to get. It is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Occupant {
    /// A writable subvolume without received UUID.
    #[error(
        "a writable subvolume without received UUID, as a receive leaves it that is still \
         running or did not finish; make sure none is running, then remove it (btrfs subvolume \
         delete), or move it away, or receive into another directory"
    )]
    Incomplete,
    /// A subvolume received from the very source of the stream.
    #[error("the same subvolume, received completely before: there is nothing to do")]
    Same,
    /// Another subvolume.
    #[error("another subvolume: remove it or move it away, or receive into another directory")]
    Other,
    /// Something that is not a subvolume.
    #[error("something else: remove it or move it away, or receive into another directory")]
    NoSubvolume,
    /// A directory as an extraction leaves it that is running or did not
    /// finish.
    #[error(
        "what an extraction leaves that is still running or did not finish (its name ends in \
         .incomplete); make sure none is running, then remove it (rm -r)"
    )]
    IncompleteExtraction,
    /// The directory in which extractions keep their records.
    #[error("the records of extractions; extract it under another name")]
    Records,
}

/// Why an earlier extraction cannot serve as parent or clone source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractionProblem {
    /// It was moved away, renamed or removed.
    #[error("it is not there any more; move it back, or extract its stream again")]
    Gone,
    /// A directory of that name was made later.
    #[error(
        "another directory has its name; extract its stream again, or, if this is an unchanged \
         copy of it, remove the line that begins with `born` from its record"
    )]
    Replaced,
    /// It is the subvolume at another time: the UUID is right, and the
    /// ctransid is not.
    #[error(
        "it is the subvolume as of transid {found}, and the stream needs it as of transid \
         {wanted}; extract the stream of that state into this directory first, or, if both are \
         one snapshot that came by different hosts, write `transid {wanted}` in its record"
    )]
    OtherState {
        /// The ctransid in the record.
        found: u64,
        /// The ctransid in the stream.
        wanted: u64,
    },
    /// The record cannot be read.
    #[error("its record is damaged; extract its stream again")]
    DamagedRecord,
}

/// What stood in a path that must stay inside one subvolume.
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
    /// Another inode than a moment before: a process other than the
    /// receiver changes the tree.
    #[error("something that another process put there meanwhile")]
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
    pub(crate) fn system(call: &'static str, error: impl Into<io::Error>) -> Self {
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

/// The name that something has by now, if it has one.
struct CalledNow<'a>(&'a [u8]);

impl fmt::Display for CalledNow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " and is called {} now", EscapedPath(self.0))
    }
}

/// A path of the stream as text that stays on its line, in quotes.
pub(crate) struct EscapedPath<'a>(pub(crate) &'a [u8]);

impl fmt::Display for EscapedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}
