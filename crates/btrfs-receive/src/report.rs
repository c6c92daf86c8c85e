//! What a receive did.

#[cfg(feature = "serde")]
use btrfs_sendstream::serial::{flags, optional_text, permissions, special_mode, text};
use btrfs_sendstream::{Bytes, SubvolumeName};
use uuid::Uuid;

use crate::plan::op::{NewSubvolume, SourceId};

/// What a receive did, for all subvolumes of its input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The subvolumes in the order of the input; at most
    /// [`Report::MAX_SUBVOLUMES`] of them, the first ones.
    pub subvolumes: Vec<SubvolumeReport>,
    /// Subvolumes that were finished.
    pub finished: u64,
    /// Subvolumes that were given up, or deleted, or could not be created.
    pub abandoned: u64,
    /// Subvolumes that an earlier receive had completed
    /// ([`Outcome::AlreadyComplete`]).
    pub already_complete: u64,
    /// Commands read, of all streams, END included.
    pub commands: u64,
    /// Bytes of input read and decoded; of a receive that is driven
    /// [item by item](crate::Receiver::item), those before the last command.
    pub bytes: u64,
    /// Operations that failed.
    pub failures: u64,
    /// What had to be done another way, summed over all subvolumes.
    pub fallbacks: Fallbacks,
    /// What was left out as the options asked, summed over all subvolumes.
    pub left_out: LeftOut,
}

impl Report {
    /// How many subvolumes are listed one by one; later ones are counted
    /// only, so that no input makes a report grow without end.
    pub const MAX_SUBVOLUMES: usize = 4096;
    /// How many clone sources are listed, over all subvolumes.
    pub const MAX_CLONE_SOURCES: usize = 4096;
}

/// What became of one subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubvolumeReport {
    /// Its name.
    pub name: SubvolumeName,
    /// The name it has until it is finished.
    pub built_as: SubvolumeName,
    /// The name that the stream gives it: the same, unless
    /// [`Options::name`](crate::Options::name) chose another.
    pub sent_name: SubvolumeName,
    /// The UUID that the stream gives it.
    pub uuid: Uuid,
    /// The ctransid that the stream gives it.
    pub ctransid: u64,
    /// How the stream names the parent, for an incremental stream.
    pub wanted_parent: Option<SourceId>,
    /// The parent that was found.
    pub parent: Option<SourceUsed>,
    /// Of a resumable receive: where it went on, in bytes of the stream from
    /// the command that begins the subvolume.
    pub resumed_at: Option<u64>,
    /// Of a resumable receive that did not finish it: what the newest
    /// checkpoint holds, and where another can go on, counted in the same way.
    /// 0: there is none, and it starts over.
    pub checkpoint: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
    /// Id on the destination's filesystem, once known.
    pub subvolume_id: Option<u64>,
    /// Commands read for it.
    pub commands: u64,
    /// Operations on it that failed.
    pub failures: u64,
    /// What had to be done another way.
    pub fallbacks: Fallbacks,
    /// What was left out as the options asked.
    pub left_out: LeftOut,
    /// Clone sources that were used; the first 256.
    pub clone_sources: Vec<SourceUsed>,
    /// What files had to go without, in a plain directory.
    pub not_kept: NotKeptSummary,
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
            left_out: LeftOut::default(),
            clone_sources: Vec::new(),
            not_kept: NotKeptSummary::default(),
        }
    }
}

/// What became of a subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outcome {
    /// Complete, on disk, marked as received, read-only.
    Finished,
    /// As [`Finished`](Self::Finished), but for what the caller's options
    /// left out, [`SubvolumeReport::left_out`], or a plain directory could not
    /// hold, [`SubvolumeReport::not_kept`].
    FinishedButFor,
    /// Incomplete: writable and without received UUID.
    Abandoned,
    /// Complete, on disk, marked as received, read-only; but its name could
    /// not be given to it, and it still has the one it was built under.
    NotRenamed,
    /// Was incomplete, and deleted: see [`OnError`](crate::OnError).
    Deleted,
    /// An earlier receive has completed it: nothing was done. That is a failure,
    /// except of [resumable](crate::resume) receives, and with
    /// [`Options::skip_complete`](crate::Options::skip_complete).
    AlreadyComplete,
    /// Could not be created; whatever has that name is not ours.
    NotCreated,
}

impl Outcome {
    /// Whether this receive has put the subvolume on disk, marked it as
    /// received and made it read-only.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Finished | Self::FinishedButFor)
    }

    /// Whether the subvolume is there under its name, on disk, marked as
    /// received and read-only: finished by this receive, or by an earlier one.
    ///
    /// ```
    /// use btrfs_receive::Outcome;
    ///
    /// assert!(Outcome::AlreadyComplete.is_complete());
    /// assert!(!Outcome::AlreadyComplete.is_finished());
    /// // It has another name.
    /// assert!(!Outcome::NotRenamed.is_complete());
    /// ```
    pub fn is_complete(self) -> bool {
        match self {
            Self::Finished | Self::FinishedButFor | Self::AlreadyComplete => true,
            Self::Abandoned | Self::NotRenamed | Self::Deleted | Self::NotCreated => false,
        }
    }
}

/// How often something of a stream was left out because the caller's options
/// asked for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LeftOut {
    /// Extended attributes that were to be set or removed.
    pub xattrs: u64,
    /// FILEATTR commands.
    pub file_attributes: u64,
    /// Commands with an unknown number.
    pub unknown_commands: u64,
    /// Attributes of commands that are unknown, or that the command does not
    /// use.
    pub unknown_attributes: u64,
}

impl LeftOut {
    /// Whether nothing was left out.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for LeftOut {
    fn add_assign(&mut self, other: Self) {
        self.xattrs += other.xattrs;
        self.file_attributes += other.file_attributes;
        self.unknown_commands += other.unknown_commands;
        self.unknown_attributes += other.unknown_attributes;
    }
}

/// How often a destination had to do something another way than asked.
/// The content is the same; what differs is how it lies on the disk, or an
/// attribute that the destination has no way to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Fallbacks {
    /// Encoded writes that were refused, decoded and written.
    pub encoded_writes_decoded: u64,
    /// Clones that were refused; the range was copied.
    pub clones_copied: u64,
    /// `btrfs.compression` that a file refused which is NOCOW, or has no
    /// checksums.
    pub compression_refused: u64,
    /// Inode flags that could not be set (NOCOW on a file with content).
    pub flags_refused: u64,
}

impl Fallbacks {
    /// Whether everything was done as asked.
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
    }
}

/// Something that a file had to go without, because the filesystem cannot
/// hold it or the process may not set it. Never content.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NotKept {
    /// The name of the subvolume.
    pub subvolume: SubvolumeName,
    /// The file, as a path below the extracted directory; empty for that
    /// directory itself. A file with several names is listed by one of them.
    #[cfg_attr(feature = "serde", serde(serialize_with = "text"))]
    pub path: Bytes,
    /// What it goes without.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub what: Lack,
    /// What the kernel said, if it was asked.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub errno: Option<i32>,
}

/// What a file goes without.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "lacks", rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Lack {
    /// Its owner and group. It belongs to the process instead.
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
        /// Those it has, if they could be set at all.
        #[cfg_attr(
            feature = "serde",
            serde(
                skip_serializing_if = "Option::is_none",
                serialize_with = "crate::serial::optional_permissions"
            )
        )]
        kept: Option<u32>,
    },
    /// An extended attribute, which for ACLs, capabilities and labels is
    /// where they are kept.
    Xattr {
        /// Name with its namespace.
        #[cfg_attr(feature = "serde", serde(serialize_with = "text"))]
        name: Bytes,
    },
    /// Its times, which the filesystem keeps less exactly, or for fewer
    /// years.
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
    /// It is an empty regular file instead of a device node, FIFO or socket.
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

/// How much files had to go without, in one extraction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NotKeptSummary {
    /// Names of files whose owner or group differs.
    pub owners: u64,
    /// Names of files whose permission bits differ.
    pub modes: u64,
    /// Extended attributes that are missing.
    pub xattrs: u64,
    /// Names of files whose times differ.
    pub times: u64,
    /// Names of files without the inode flags that were sent.
    pub flags: u64,
    /// Empty files in place of device nodes, FIFOs and sockets.
    pub special_files: u64,
    /// Files without fs-verity.
    pub verity: u64,
    /// What the parent had to go without, and this extraction therefore may
    /// lack too; not part of the counts above.
    pub of_parent: u64,
    /// The first of them, at most [`NotKeptSummary::MAX_LISTED`].
    pub first: Vec<NotKept>,
}

impl NotKeptSummary {
    /// How many are listed one by one.
    pub const MAX_LISTED: usize = 64;

    /// Everything, that of the parent included.
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

    pub(crate) fn count(&mut self, not_kept: NotKept) {
        *match not_kept.what {
            Lack::Owner { .. } => &mut self.owners,
            Lack::Mode { .. } => &mut self.modes,
            Lack::Xattr { .. } => &mut self.xattrs,
            Lack::Times => &mut self.times,
            Lack::Flags { .. } => &mut self.flags,
            Lack::SpecialFile { .. } => &mut self.special_files,
            Lack::Verity => &mut self.verity,
        } += 1;
        if self.first.len() < Self::MAX_LISTED {
            self.first.push(not_kept);
        }
    }
}

/// A subvolume that served as parent or clone source.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SourceUsed {
    /// How the stream named it.
    pub wanted: SourceId,
    /// Its id on the destination's filesystem; 0 in a plain directory.
    pub subvolume_id: u64,
    /// Its UUID on the destination's filesystem; in a plain directory, that
    /// of the stream.
    pub uuid: Uuid,
    /// Its path from the top of the filesystem, as far as that is known, or
    /// in the plain directory.
    #[cfg_attr(
        feature = "serde",
        serde(
            skip_serializing_if = "Option::is_none",
            serialize_with = "optional_text"
        )
    )]
    pub path: Option<Bytes>,
    /// It served only because the caller named it: its UUIDs are not the one
    /// wanted, or it is writable. Whether it holds what the sender's has was
    /// not looked at.
    pub vouched_for: bool,
    /// It is writable: named or chosen by the caller, or
    /// [the last resort](crate::source#the-last-resort).
    pub writable: bool,
    /// It is writable, and nothing shows that it is unchanged since its
    /// received UUID was set. Of a parent: until the snapshot was taken. Of a
    /// clone source: until the subvolume was complete.
    pub may_have_changed: bool,
}

impl SourceUsed {
    /// A source whose path is not known.
    pub fn new(wanted: SourceId, subvolume_id: u64, uuid: Uuid) -> Self {
        Self {
            wanted,
            subvolume_id,
            uuid,
            path: None,
            vouched_for: false,
            writable: false,
            may_have_changed: false,
        }
    }
}
