//! Reports of receives.

use std::fmt;
use std::time::Duration;

use btrfs_lineage::SourceUsed;
#[cfg(feature = "serde")]
use btrfs_sendstream::serial::{flags, permissions, special_mode, text};
use btrfs_sendstream::{Bytes, SubvolumeName};
use uuid::Uuid;

use crate::plan::op::{NewSubvolume, SourceId};

/// The report of a receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The subvolumes, in the order of the input: the first
    /// [`Report::MAX_SUBVOLUMES`].
    pub subvolumes: Vec<SubvolumeReport>,
    /// Number of subvolumes that were completed.
    pub finished: u64,
    /// Number of subvolumes that are incomplete, were deleted, or could not be
    /// created.
    pub abandoned: u64,
    /// Number of subvolumes that were complete before
    /// ([`Outcome::AlreadyComplete`]).
    pub already_complete: u64,
    /// Number of commands read, END included.
    pub commands: u64,
    /// Bytes of input decoded; if commands are passed
    /// [one by one](crate::Receiver::item), those before the last command.
    pub bytes: u64,
    /// Number of operations that failed.
    pub failures: u64,
    /// Fallbacks used, for all subvolumes.
    pub fallbacks: Fallbacks,
    /// What the options excluded, for all subvolumes.
    pub excluded: Excluded,
    /// Where the time went.
    pub waits: Waits,
}

impl Report {
    /// The largest number of subvolumes in the list. Further ones are only
    /// counted, so that the size of a report is bounded.
    pub const MAX_SUBVOLUMES: usize = 4096;
    /// The largest number of clone sources listed, for all subvolumes.
    pub const MAX_CLONE_SOURCES: usize = 4096;
}

/// Where the time of a receive went, as the thread sees it that reads, decodes
/// and plans. What is in none of the parts is work of that thread:
/// [`work`](Self::work).
///
/// All are measured around calls that may wait, so that they contain what such a
/// call itself takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Waits {
    /// From the first read to the report.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "total_ms", serialize_with = "crate::serial::milliseconds")
    )]
    pub total: Duration,
    /// In reads of the input. Zero if items are passed
    /// [one by one](crate::Receiver::item): their source is the caller's.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "input_ms", serialize_with = "crate::serial::milliseconds")
    )]
    pub input: Duration,
    /// Until file data that was queued before had been written, cloned or
    /// truncated.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "data_ms", serialize_with = "crate::serial::milliseconds")
    )]
    pub data: Duration,
    /// Until names and metadata that were queued before had been changed.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "metadata_ms", serialize_with = "crate::serial::milliseconds")
    )]
    pub metadata: Duration,
    /// At the end of each subvolume, until it was on disk and marked as
    /// received.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "sync_ms", serialize_with = "crate::serial::milliseconds")
    )]
    pub sync: Duration,
}

impl Waits {
    /// Returns what is left of the total: reading the stream from memory,
    /// decoding, planning, and everything that is measured nowhere else.
    pub fn work(&self) -> Duration {
        let waited = [self.input, self.data, self.metadata, self.sync];
        waited
            .iter()
            .fold(self.total, |left, part| left.saturating_sub(*part))
    }
}

/// The report on one subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubvolumeReport {
    /// Its name.
    pub name: SubvolumeName,
    /// The name under which it is built: a temporary name, or the same.
    pub built_as: SubvolumeName,
    /// The name in the stream; differs from `name` if
    /// [`Options::name`](crate::Options::name) is set.
    pub sent_name: SubvolumeName,
    /// The UUID in the stream.
    pub uuid: Uuid,
    /// The ctransid in the stream.
    pub ctransid: u64,
    /// The parent in the stream, if it is incremental.
    pub wanted_parent: Option<SourceId>,
    /// The parent that was used.
    pub parent: Option<SourceUsed>,
    /// Where a resumable receive resumed, in bytes of the stream from the
    /// command that begins the subvolume.
    pub resumed_at: Option<u64>,
    /// Where an incomplete resumable receive can be resumed: the newest
    /// checkpoint, in bytes of the stream as above. 0: there is no checkpoint,
    /// and the next receive starts over.
    pub checkpoint: Option<u64>,
    /// The outcome.
    pub outcome: Outcome,
    /// Its id on the filesystem of the destination, if known.
    pub subvolume_id: Option<u64>,
    /// Number of commands read.
    pub commands: u64,
    /// Number of operations that failed.
    pub failures: u64,
    /// Fallbacks used.
    pub fallbacks: Fallbacks,
    /// What the options excluded.
    pub excluded: Excluded,
    /// The first 256 clone sources that were used.
    pub clone_sources: Vec<SourceUsed>,
    /// Metadata that a plain directory lacks.
    pub losses: LossSummary,
}

impl SubvolumeReport {
    pub(crate) fn new(
        new: &NewSubvolume,
        sent_name: SubvolumeName,
        built_as: SubvolumeName,
    ) -> Self {
        Self {
            name: new.name.clone(),
            sent_name,
            built_as,
            uuid: new.uuid,
            ctransid: new.ctransid,
            wanted_parent: new.parent,
            parent: None,
            resumed_at: None,
            checkpoint: None,
            outcome: Outcome::NotCreated,
            subvolume_id: None,
            commands: 0,
            failures: 0,
            fallbacks: Fallbacks::default(),
            excluded: Excluded::default(),
            clone_sources: Vec::new(),
            losses: LossSummary::default(),
        }
    }
}

/// The outcome for a subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outcome {
    /// Complete, on disk, marked as received, read-only.
    Finished,
    /// As [`Finished`](Self::Finished), without what the options excluded
    /// ([`SubvolumeReport::excluded`]) or a plain directory does not support
    /// ([`SubvolumeReport::losses`]).
    FinishedWithOmissions,
    /// Incomplete: writable and without received UUID.
    Abandoned,
    /// Complete, on disk, marked as received, read-only, but could not be
    /// renamed from its temporary name.
    NotRenamed,
    /// Incomplete, and deleted: see [`OnError`](crate::OnError).
    Deleted,
    /// Complete before, so that nothing was done. This is a failure, except in
    /// [resumable](crate::resume) receives and with
    /// [`Options::skip_complete`](crate::Options::skip_complete).
    AlreadyComplete,
    /// Could not be created. Anything under its name is not from this receive.
    NotCreated,
}

impl Outcome {
    /// Returns whether this receive completed the subvolume: it is on disk,
    /// marked as received and read-only.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Finished | Self::FinishedWithOmissions)
    }

    /// Returns whether the subvolume is on disk under its name, marked as
    /// received and read-only, from this receive or an earlier one.
    ///
    /// ```
    /// use btrfs_receive::Outcome;
    ///
    /// assert!(Outcome::AlreadyComplete.is_complete());
    /// assert!(!Outcome::AlreadyComplete.is_finished());
    /// // It has a temporary name.
    /// assert!(!Outcome::NotRenamed.is_complete());
    /// ```
    pub fn is_complete(self) -> bool {
        match self {
            Self::Finished | Self::FinishedWithOmissions | Self::AlreadyComplete => true,
            Self::Abandoned | Self::NotRenamed | Self::Deleted | Self::NotCreated => false,
        }
    }
}

/// A few words for messages.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "complete",
            Self::FinishedWithOmissions => "complete, with omissions",
            Self::Abandoned => "incomplete",
            Self::NotRenamed => "complete, but has a temporary name",
            Self::Deleted => "incomplete, and deleted",
            Self::AlreadyComplete => "already complete",
            Self::NotCreated => "not created",
        })
    }
}

/// How much of a stream the options or a [`Filter`](crate::Filter) excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Excluded {
    /// Commands that set or remove extended attributes.
    pub xattrs: u64,
    /// FILEATTR commands.
    pub file_attributes: u64,
    /// Commands with an unknown number.
    pub unknown_commands: u64,
    /// Attributes that are unknown, or that their command does not have.
    pub unknown_attributes: u64,
    /// Commands that a [`Filter`](crate::Filter) left out or replaced.
    pub by_filter: u64,
}

impl Excluded {
    /// Returns whether nothing was excluded.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Excluded {
    fn add_assign(&mut self, other: Self) {
        self.xattrs += other.xattrs;
        self.file_attributes += other.file_attributes;
        self.unknown_commands += other.unknown_commands;
        self.unknown_attributes += other.unknown_attributes;
        self.by_filter += other.by_filter;
    }
}

/// How often a destination used a fallback. The content is the same; its layout
/// on disk differs, or an attribute that is not supported is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Fallbacks {
    /// Encoded writes that were decoded, because the kernel refused them.
    pub encoded_writes_decoded: u64,
    /// Clones that were copied, because the kernel refused them.
    pub clones_copied: u64,
    /// Files without `btrfs.compression`, because they are NOCOW or have no
    /// checksums.
    pub compression_refused: u64,
    /// Files without inode flags that could not be set (NOCOW on a file with
    /// content).
    pub flags_refused: u64,
    /// Operations that found no space (`ENOSPC`), and succeeded after everything was
    /// written to disk, which can free space.
    pub retried_for_space: u64,
    /// Bytes of zeros that were not written but became holes, as asked for; see
    /// [`zeros_as_holes`](crate::BtrfsDestinationBuilder::zeros_as_holes).
    pub zeros_as_holes: u64,
}

impl Fallbacks {
    /// Returns whether no fallback was used.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Fallbacks {
    fn add_assign(&mut self, other: Self) {
        self.encoded_writes_decoded += other.encoded_writes_decoded;
        self.clones_copied += other.clones_copied;
        self.compression_refused += other.compression_refused;
        self.flags_refused += other.flags_refused;
        self.retried_for_space += other.retried_for_space;
        self.zeros_as_holes += other.zeros_as_holes;
    }
}

/// Metadata that a file lacks, because the filesystem does not support it or
/// the process may not set it. Never content.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Loss {
    /// The name of the subvolume.
    pub subvolume: SubvolumeName,
    /// The path of the file below the extracted directory; empty for that
    /// directory itself. A file with several names is listed by one of them.
    #[cfg_attr(feature = "serde", serde(serialize_with = "text"))]
    pub path: Bytes,
    /// What the file lacks.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub what: LossKind,
    /// The error of the kernel, if there was one.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub errno: Option<i32>,
}

/// Metadata that a file lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "loss", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum LossKind {
    /// Its owner and group: those of the process are used instead.
    Owner {
        /// User id in the stream.
        uid: u32,
        /// Group id in the stream.
        gid: u32,
    },
    /// Some of its permission bits.
    Mode {
        /// The bits in the stream.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "mode", serialize_with = "permissions")
        )]
        wanted: u32,
        /// The bits of the file, if any could be set.
        #[cfg_attr(
            feature = "serde",
            serde(
                skip_serializing_if = "Option::is_none",
                serialize_with = "crate::serial::optional_permissions"
            )
        )]
        kept: Option<u32>,
    },
    /// An extended attribute. ACLs, capabilities and security labels are
    /// extended attributes as well.
    Xattr {
        /// Name with its namespace.
        #[cfg_attr(feature = "serde", serde(serialize_with = "text"))]
        name: Bytes,
    },
    /// Its exact times: the filesystem stores them with less precision, or for
    /// fewer years.
    Times,
    /// Inode flags.
    Flags {
        /// `BTRFS_INODE_*`, as FILEATTR carries them.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "fileattr", serialize_with = "flags")
        )]
        attributes: u64,
    },
    /// Its type: it is an empty regular file instead of a device node, FIFO or
    /// socket.
    SpecialFile {
        /// Mode with type bits.
        #[cfg_attr(feature = "serde", serde(serialize_with = "special_mode"))]
        mode: u32,
        /// Device number in the kernel's 32-bit encoding; 0 for FIFOs and
        /// sockets.
        rdev: u64,
    },
    /// Its fs-verity protection.
    Verity,
}

/// How much metadata an extraction lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LossSummary {
    /// Number of files whose owner or group differs, counted by name.
    pub owners: u64,
    /// Number of files whose permission bits differ, counted by name.
    pub modes: u64,
    /// Number of extended attributes that are missing.
    pub xattrs: u64,
    /// Number of files whose times differ, counted by name.
    pub times: u64,
    /// Number of files without their inode flags, counted by name.
    pub flags: u64,
    /// Number of empty files in place of device nodes, FIFOs and sockets.
    pub special_files: u64,
    /// Number of files without fs-verity.
    pub verity: u64,
    /// How much the parent lacks, which this extraction may lack as well. Not
    /// part of the counts above.
    pub of_parent: u64,
    /// The first [`LossSummary::MAX_LISTED`].
    pub first: Vec<Loss>,
}

impl LossSummary {
    /// The largest number in the list.
    pub const MAX_LISTED: usize = 64;

    /// Returns the sum of all counts, that of the parent included.
    pub fn total(&self) -> u64 {
        [
            self.owners,
            self.modes,
            self.xattrs,
            self.times,
            self.flags,
            self.special_files,
            self.verity,
            self.of_parent,
        ]
        .iter()
        .sum()
    }

    pub(crate) fn count(&mut self, losses: Loss) {
        *match losses.what {
            LossKind::Owner { .. } => &mut self.owners,
            LossKind::Mode { .. } => &mut self.modes,
            LossKind::Xattr { .. } => &mut self.xattrs,
            LossKind::Times => &mut self.times,
            LossKind::Flags { .. } => &mut self.flags,
            LossKind::SpecialFile { .. } => &mut self.special_files,
            LossKind::Verity => &mut self.verity,
        } += 1;
        if self.first.len() < Self::MAX_LISTED {
            self.first.push(losses);
        }
    }
}
