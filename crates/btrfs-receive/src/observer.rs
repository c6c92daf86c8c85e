//! Telling a caller what happens, while it happens.

use btrfs_sendstream::{Command, CommandBuf, Position};

use crate::error::{Cause, Failure};
use crate::plan::op::NewSubvolume;
use crate::report::{SourceUsed, SubvolumeReport};
#[cfg(feature = "resume")]
use crate::resume::ResumeError;

/// Something that happened during a receive.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "event", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Event<'a> {
    /// A SUBVOL or SNAPSHOT command was read; nothing was created yet.
    SubvolumeBegins {
        /// The command.
        #[cfg_attr(feature = "serde", serde(flatten))]
        at: Position,
        /// What the stream asks for.
        #[cfg_attr(feature = "serde", serde(flatten))]
        new: &'a NewSubvolume,
    },
    /// The subvolume exists and is under construction.
    SubvolumeCreated {
        /// What the stream asks for.
        #[cfg_attr(feature = "serde", serde(flatten))]
        new: &'a NewSubvolume,
        /// The parent it is a snapshot of.
        #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
        parent: Option<&'a SourceUsed>,
    },
    /// Another part of the input was taken: sent with the first command that
    /// begins [`Event::PROGRESS_BYTES`] or more after the one it was last sent
    /// with. What was taken is decoded and on its way; on disk it is only
    /// when the subvolume is finished.
    Progress {
        /// The command.
        #[cfg_attr(feature = "serde", serde(flatten))]
        at: Position,
        /// What was taken before it.
        #[cfg_attr(feature = "serde", serde(flatten))]
        totals: Totals,
    },
    /// An interrupted receive has left the subvolume half built: what comes
    /// is compared with what it has applied.
    #[cfg(feature = "resume")]
    Comparing {
        /// What the stream asks for.
        #[cfg_attr(feature = "serde", serde(flatten))]
        new: &'a NewSubvolume,
        /// Up to here, in bytes of the stream from the command that begins
        /// the subvolume.
        offset: u64,
    },
    /// It was not the same, and the input can be read again: it is, from its
    /// beginning, to go on from an earlier checkpoint or to start over. The
    /// events of what is received again come again.
    #[cfg(feature = "resume")]
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::reason"))]
    StartsAgain(&'a ResumeError),
    /// It was the same, the subvolume is what it was there, and is under
    /// construction again.
    #[cfg(feature = "resume")]
    Resumed {
        /// What the stream asks for.
        #[cfg_attr(feature = "serde", serde(flatten))]
        new: &'a NewSubvolume,
        /// Where it goes on, counted in the same way.
        offset: u64,
    },
    /// A checkpoint was taken: everything up to here need not be applied
    /// again.
    #[cfg(feature = "resume")]
    Checkpoint {
        /// The command after which it was taken.
        #[cfg_attr(feature = "serde", serde(flatten))]
        at: Position,
        /// What it holds, counted in the same way.
        offset: u64,
    },
    /// A command was read that belongs to the subvolume under construction.
    /// Sent only if [`Observer::wants_commands`].
    Command {
        /// Where it stands.
        #[cfg_attr(feature = "serde", serde(flatten))]
        at: Position,
        /// The command.
        #[cfg_attr(feature = "serde", serde(flatten))]
        command: &'a CommandBuf,
    },
    /// An operation failed.
    Failed(&'a Failure),
    /// The subvolume is complete, on disk, marked as received and read-only.
    SubvolumeFinished(&'a SubvolumeReport),
    /// A subvolume that could not be completed was to be deleted, and could
    /// not be. [`SubvolumeAbandoned`](Self::SubvolumeAbandoned) follows.
    NotDeleted {
        /// The subvolume.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "name", serialize_with = "crate::serial::name")
        )]
        subvolume: &'a SubvolumeReport,
        /// Why.
        cause: &'a Cause,
    },
    /// An earlier receive has completed the subvolume; its part of the input
    /// was passed over.
    SubvolumePresent(&'a SubvolumeReport),
    /// The subvolume was given up: it is writable and has no received UUID,
    /// or was deleted, or was not created at all.
    SubvolumeAbandoned(&'a SubvolumeReport),
}

/// What a receive has taken of its input, of all streams in it.
///
/// How much the input holds in all is known to the caller, if to anybody:
/// `bytes` is the part of it that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// Bytes of input.
    pub bytes: u64,
    /// Commands.
    pub commands: u64,
    /// Files of every kind that were to be made.
    pub files: u64,
    /// Bytes of file data that were to be written, decoded.
    pub written: u64,
    /// Bytes of file data that were to be cloned.
    pub cloned: u64,
    /// Subvolumes that are complete.
    pub subvolumes: u64,
}

impl Totals {
    /// Adds what a command asks for.
    pub(crate) fn add(&mut self, command: &CommandBuf) {
        match command {
            Command::Mkfile { .. }
            | Command::Mkdir { .. }
            | Command::Symlink { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. } => self.files += 1,
            Command::Write { data, .. } => {
                self.written = self.written.saturating_add(data.len() as u64);
            }
            // What a stream claims may be any number.
            Command::EncodedWrite(write) => {
                self.written = self.written.saturating_add(write.unencoded_file_len);
            }
            Command::Clone(range) => self.cloned = self.cloned.saturating_add(range.len),
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Utimes { .. }
            | Command::UpdateExtent { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. }
            | Command::EnableVerity(_)
            | Command::End => {}
        }
    }
}

impl Event<'_> {
    /// How far [`Event::Progress`] are apart, in bytes of input: 1 MiB.
    pub const PROGRESS_BYTES: u64 = 1 << 20;
}

/// Receives [`Event`]s; called on the thread that runs the receive.
pub trait Observer {
    /// One event.
    fn event(&mut self, event: Event<'_>);

    /// Whether [`Event::Command`] is wanted; asked once for each subvolume,
    /// since it costs time for each command. Default `false`.
    fn wants_commands(&self) -> bool {
        false
    }
}

/// Ignores every event.
impl Observer for () {
    fn event(&mut self, _: Event<'_>) {}
}
