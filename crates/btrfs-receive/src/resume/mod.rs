//! Receives that go on where they stopped.
//!
//! A [`ResumableReceiver`] takes a *checkpoint* now and then: it waits until
//! everything so far is carried out and on disk, takes a read-only snapshot of
//! the half-built subvolume, and writes a journal, durably. When the same stream
//! comes again, its beginning is hashed and skipped, up to the newest checkpoint;
//! if the hash is the same, the half-built subvolume is rolled back to the
//! checkpoint, and the rest is applied. Whatever happened to it after the
//! checkpoint does not matter.
//!
//! The hash is a SHA-256 of the first KiB of each command: of all of it, except for
//! file data, for which the checksum (CRC-32C) in the command's header stands.
//! The checksum is verified as ever. Differences by accident are found as
//! reliably as damage is in any stream; whoever can change a stream on purpose
//! can make other data with the same checksum, in a receive that is interrupted,
//! too.
//!
//! # On disk
//! A directory for each unfinished subvolume, by its name, in
//! `btrfs-recv-rs.unfinished` in the directory that is received in
//! ([`ResumeOptions::directory`] sets another one on the same filesystem). It
//! holds the journal, up to four checkpoints, and a lock, so that two receives of
//! one subvolume do not meet. It is removed when the subvolume is complete.
//!
//! Checkpoints share their data with the half-built subvolume: they take the
//! space of what changed in between. While it is rolled back there is one more
//! snapshot. What a receiver that was killed left of others is deleted when the
//! next one begins.
//!
//! # How the subvolume is rolled back
//! Not by a snapshot of the checkpoint: that would have the checkpoint as its
//! parent (`parent_uuid`), which cannot be changed, and the result of a full
//! receive must have none. Instead the kernel sends the changes from the
//! half-built subvolume to the checkpoint, without file data, and an ordinary
//! [`Receiver`](crate::Receiver) applies them; ranges of files are cloned from
//! the checkpoint. What that costs depends on what was done since the checkpoint,
//! not on the size of the subvolume. If the half-built subvolume is gone, the same
//! is done to a new one.
//!
//! That takes `CAP_SYS_ADMIN`.
//!
//! # Memory
//! 64 KB for hashes, and what the destination defers to the end of the
//! subvolume: once for each checkpoint, and as text while one is written.

mod error;
mod hash;
mod hex;
mod journal;
mod list;
mod options;
mod receiver;
mod rollback;
mod state;
mod store;

pub use error::ResumeError;
pub use list::{Leftover, Progress, Unfinished, abandon, delete_leftover, leftovers, unfinished};
pub use options::ResumeOptions;
pub use receiver::ResumableReceiver;
