//! Receives that go on where they stopped.
//!
//! Now and then the receiver takes a *checkpoint*: it waits until everything
//! so far is carried out and on disk, takes a read-only snapshot of the
//! half-built subvolume, and writes a small state file, durably. When the same
//! stream comes again, its beginning is hashed instead of applied, up to the
//! newest checkpoint; if the hash is the same, the half-built subvolume is put
//! back to what it was at the checkpoint, and the rest is applied. Whatever
//! happened to it after the checkpoint does not matter.
//!
//! The hash is a SHA-256 of the first KiB of each command: of all of it, but for
//! file data, for which the checksum (CRC-32C) in the command's header stands.
//! That is verified as ever. What differs by accident is found, as certainly as
//! damage is in any stream; whoever can change a stream on purpose can make other
//! data with the same checksum, in a receive that is interrupted, too. Against
//! that, [`ResumeOptions::hash_data`] hashes every byte.
//!
//! # What is kept, and where
//! A directory for each unfinished subvolume, by its name, in
//! `btrfs-recv-rs.unfinished` in the directory that is received in
//! ([`ResumeOptions::directory`] sets another one on the same filesystem). It
//! holds the state file, up to four checkpoints, and a lock, so that two
//! receives of one subvolume do not meet. It is gone once the subvolume is
//! complete.
//!
//! # How the subvolume is put back
//! Not by a snapshot of the checkpoint: that would have the checkpoint as its
//! parent (`parent_uuid`), which cannot be changed, and the result of a full
//! receive must have none. Instead the kernel is asked what differs: it sends
//! the changes from the half-built subvolume to the checkpoint, without file
//! data, and these are applied to the half-built subvolume; ranges of files
//! are cloned from the checkpoint. What that costs depends on what was done
//! since the checkpoint, not on the size of the subvolume. If the half-built
//! subvolume is gone, the same is done to a new one.
//!
//! That takes `CAP_SYS_ADMIN`, and Linux 6.0 for inode flags.
//!
//! # Memory
//! 64 KB for hashes, and what the destination defers to the end of the
//! subvolume: once for each checkpoint, and as text while one is written.
//!
//! # On disk
//! Up to four snapshots of the half-built subvolume (while it is put back, one
//! more), which share their data with it: they take what changed in between.
//! What a receiver that was killed left of others goes when the next begins.

mod error;
mod find;
mod hash;
mod keeper;
mod list;
mod state;
mod store;
mod text;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use error::ResumeError;
pub(crate) use keeper::{Keeper, Opened, Reached, Restoring};
pub use list::{Leftover, Progress, Unfinished, abandon, delete_leftover, leftovers, unfinished};
pub(crate) use state::Deferred;
pub(crate) use store::{note_working, open_directory};

/// When to take checkpoints, and where to keep them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResumeOptions {
    /// Take a checkpoint after so many bytes of the stream. Default 4 GiB.
    pub every_bytes: u64,
    /// Take a checkpoint after so much time, with the next command. Default 5
    /// minutes.
    pub every: Duration,
    /// Where to make the directory `btrfs-recv-rs.unfinished`: on the
    /// filesystem that is received on. Default: where subvolumes are created.
    pub directory: Option<PathBuf>,
    /// Pass over what was received before, unread, in inputs that can
    /// [seek](crate::Receiver::receive_file): the caller vouches that the
    /// input is the one that was interrupted. Only the UUIDs and transaction
    /// ids of the subvolume and its parent are compared then. Default `false`:
    /// it is read and hashed.
    pub trust_files: bool,
    /// Hash every byte of the stream, not only the first KiB of each command.
    /// What a receive was begun with holds for all that go on with it. Takes
    /// 0.6 s of a processor for each GB, and several times that where the
    /// processor has no instructions for SHA-256. Default `false`.
    pub hash_data: bool,
    /// A command line or the like that says how to go on, kept for people:
    /// [`Progress::hint`].
    pub hint: String,
}

impl Default for ResumeOptions {
    fn default() -> Self {
        Self {
            every_bytes: 4 << 30,
            every: Duration::from_secs(300),
            directory: None,
            trust_files: false,
            hash_data: false,
            hint: String::new(),
        }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
