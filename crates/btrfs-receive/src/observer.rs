//! Events of a receive.

use btrfs_sendstream::{Command, CommandBuf, Position};

use crate::error::{Cause, Failure};
use crate::plan::op::NewSubvolume;
use crate::report::SubvolumeReport;
#[cfg(feature = "resume")]
use crate::resume::ResumeError;
use btrfs_lineage::SourceUsed;

/// An event during a receive.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "event", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Event<'a> {
    /// A SUBVOL or SNAPSHOT command was read; nothing is created yet.
    SubvolumeBegins {
        /// The command.
        #[cfg_attr(feature = "serde", serde(flatten))]
        at: Position,
        /// The subvolume in the stream.
        #[cfg_attr(feature = "serde", serde(flatten))]
        new: &'a NewSubvolume,
    },
    /// The subvolume exists and is under construction.
    SubvolumeCreated {
        /// The subvolume in the stream.
        #[cfg_attr(feature = "serde", serde(flatten))]
        new: &'a NewSubvolume,
        /// The parent that was used, if any.
        #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
        parent: Option<&'a SourceUsed>,
    },
    /// More of the input was read. Sent with the first command that begins
    /// [`Event::PROGRESS_BYTES`] or more after that of the last such event. What
    /// was read is on disk only when the subvolume is complete.
    Progress {
        /// The command.
        #[cfg_attr(feature = "serde", serde(flatten))]
        at: Position,
        /// Totals before this command.
        #[cfg_attr(feature = "serde", serde(flatten))]
        totals: Totals,
    },
    /// The subvolume is left from an interrupted receive: the beginning of the
    /// stream is compared with what was received.
    #[cfg(feature = "resume")]
    Comparing {
        /// The subvolume in the stream.
        #[cfg_attr(feature = "serde", serde(flatten))]
        new: &'a NewSubvolume,
        /// Where the comparison ends, in bytes of the stream from the command
        /// that begins the subvolume.
        offset: u64,
    },
    /// The stream differs from the interrupted one, and the input is read again
    /// from its beginning, to resume from an earlier checkpoint or to start over.
    /// Events are repeated.
    #[cfg(feature = "resume")]
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::reason"))]
    StartsAgain(&'a ResumeError),
    /// The stream is the interrupted one, and the receive resumes.
    #[cfg(feature = "resume")]
    Resumed {
        /// The subvolume in the stream.
        #[cfg_attr(feature = "serde", serde(flatten))]
        new: &'a NewSubvolume,
        /// Where it resumes, counted in the same way.
        offset: u64,
    },
    /// A checkpoint was taken: an interrupted receive resumes from here.
    #[cfg(feature = "resume")]
    Checkpoint {
        /// The command after which it was taken.
        #[cfg_attr(feature = "serde", serde(flatten))]
        at: Position,
        /// Its position, counted in the same way.
        offset: u64,
    },
    /// A command of the subvolume under construction was read. Sent only if
    /// [`Observer::wants_commands`].
    Command {
        /// Its position.
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
    /// An incomplete subvolume could not be deleted.
    /// [`SubvolumeAbandoned`](Self::SubvolumeAbandoned) follows.
    NotDeleted {
        /// The subvolume.
        #[cfg_attr(
            feature = "serde",
            serde(rename = "name", serialize_with = "crate::serial::name")
        )]
        subvolume: &'a SubvolumeReport,
        /// The cause.
        cause: &'a Cause,
    },
    /// The subvolume was complete before; its part of the input was skipped.
    SubvolumePresent(&'a SubvolumeReport),
    /// The receive of the subvolume failed: it is writable and has no received
    /// UUID, or was deleted, or was not created.
    SubvolumeAbandoned(&'a SubvolumeReport),
}

/// How much of its input a receive has read, for all streams in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Totals {
    /// Bytes of input.
    pub bytes: u64,
    /// Commands.
    pub commands: u64,
    /// Commands that create a file of any kind.
    pub files: u64,
    /// Bytes of file data to write, decoded.
    pub written: u64,
    /// Bytes of file data to clone.
    pub cloned: u64,
    /// Subvolumes that are complete.
    pub subvolumes: u64,
}

impl Totals {
    /// Adds a command.
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
    /// The least distance of two [`Event::Progress`], in bytes of input: 1 MiB.
    pub const PROGRESS_BYTES: u64 = 1 << 20;
}

/// Receives [`Event`]s, on the thread that runs the receive.
pub trait Observer {
    /// Receives an event.
    fn event(&mut self, event: Event<'_>);

    /// Returns whether [`Event::Command`] is sent, which takes time for each
    /// command. Called once for each subvolume. Default `false`.
    fn wants_commands(&self) -> bool {
        false
    }
}

/// Ignores every event.
impl Observer for () {
    fn event(&mut self, _: Event<'_>) {}
}

/// Calls a closure for every event, except for [`Event::Command`].
///
/// ```no_run
/// use btrfs_receive::{BtrfsDestination, Event, Receiver};
///
/// let mut receiver = Receiver::new(BtrfsDestination::open("/backup")?);
/// receiver.receive(std::io::stdin(), &mut |event: Event<'_>| {
///     if let Event::Progress { totals, .. } = event {
///         eprintln!("{} bytes", totals.bytes);
///     }
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<F: FnMut(Event<'_>)> Observer for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}
