//! Applies btrfs send streams: what `btrfs receive` does, as a library.
//!
//! A send stream is a list of commands (*make a file*, *rename*, *write*)
//! that turns an empty subvolume, or a snapshot of its parent, into a copy of
//! a snapshot elsewhere. This crate carries them out on a mounted btrfs, in
//! a plain directory, or on a [`Destination`] of your own.
//!
//! ```no_run
//! use btrfs_receive::{BtrfsDestination, Receiver};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let destination = BtrfsDestination::open("/backup")?;
//!     let report = Receiver::new(destination).receive(std::io::stdin(), &mut ())?;
//!     for subvolume in &report.subvolumes {
//!         println!("{}: {:?}", subvolume.name, subvolume.outcome);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Into a plain directory, without btrfs and without privileges:
//!
//! ```
//! use btrfs_receive::{DirectoryDestination, Receiver};
//! use btrfs_receive::btrfs_sendstream::{Command, SubvolumeName, Uuid, Version, Writer};
//!
//! let mut writer = Writer::new(Vec::new());
//! writer.header(Version::V1)?;
//! writer.command(&Command::Subvol {
//!     name: SubvolumeName::parse(&b"home"[..])?,
//!     uuid: Uuid::from_u128(1),
//!     ctransid: 7,
//! })?;
//! writer.command(&Command::<&[u8]>::End)?;
//! let stream = writer.finish()?;
//!
//! let directory = tempfile::tempdir()?;
//! let destination = DirectoryDestination::open(&directory)?;
//! let mut receiver = Receiver::new(destination);
//! let report = receiver.receive(&stream[..], &mut ())?;
//! assert_eq!(report.finished, 1);
//! assert!(directory.path().join("home").is_dir());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # More control
//!
//! - [`Observer`] is told of progress, failures and each subvolume's end.
//! - [`Options::cancel`] stops a receive, from another thread or a signal
//!   handler.
//! - [`BtrfsDestinationBuilder::choose_sources`] leaves it to the caller which
//!   subvolume becomes parent or clone source; [`btrfs_lineage::Resolver`] finds them
//!   without receiving.
//! - [`Receiver::item`] takes commands one by one.
//! - [`Planner`] makes operations of commands, for a [`Destination`] of your
//!   own or without any.
//!
//! The folder `examples` of the crate has small programs for it, which tests
//! run: `progress`, `resolve` and `step-by-step`.
//!
//! # What `Ok` means
//!
//! Every subvolume of the input holds what was sent, is on disk, has
//! its received UUID and is read-only. A subvolume in which anything failed is
//! left writable and without received UUID, and the receive ends in a
//! [`ReceiveError`] that says what failed and where. [`Options::max_errors`]
//! only decides how much is tried in spite of that.
//!
//! Paths of the stream are resolved beneath the new subvolume, without
//! following symbolic links; data goes to regular files only. Nothing of the
//! process is changed: no umask, working directory or signal handler. Nothing
//! is printed.
//!
//! What [`Options`] leave out on purpose makes no failure: the subvolume is
//! marked as received, and [`Outcome::FinishedButFor`] tells it from one that
//! has everything.
//!
//! # Privileges
//!
//! Capabilities decide, not the user id. Without one, what needs it fails and
//! says so, but for the two that have a fallback.
//!
//! | capability | for |
//! |---|---|
//! | `CAP_CHOWN`, `CAP_FOWNER`, `CAP_DAC_OVERRIDE` | owners, modes and times of any file |
//! | `CAP_FSETID` | keeping set-id bits |
//! | `CAP_MKNOD` | device nodes |
//! | `CAP_SETFCAP` | file capabilities |
//! | `CAP_LINUX_IMMUTABLE` | immutable and append-only files |
//! | `CAP_SYS_ADMIN` | `trusted.*` attributes; encoded writes (else decoded); the UUID tree (else subvolumes are walked); with `CAP_DAC_READ_SEARCH` and `CAP_LEASE`, noticing who opens a file at the last moment (else not noticed) |
//! | `CAP_DAC_READ_SEARCH` | sources outside of what is mounted (else paths are tried) |
//!
//! # Memory
//!
//! Bounded, whatever the stream: see [`Receiver`], [`BtrfsDestination`],
//! [`Planner`] and [`btrfs_lineage::Resolver`], each of which states its share. For
//! streams that kernels write, less than 64 MiB in all.
//!
//! # Logging
//!
//! Decisions are told through `tracing`: at level `info` which subvolume was
//! taken as a source, and when one is marked as received; at level `debug` which
//! were considered, what has to be done another way than asked, and
//! checkpoints. Single extents that are copied or decoded are at level `trace`. Nothing is told for
//! commands that are simply carried out, and without a subscriber nothing is
//! put together. Destinations work on threads of their own: a subscriber has to
//! be the global default to hear them.
//!
//! # Features
//!
//! `resume`, on by default: receives that go on where they stopped, [`resume`].
//! Without it the crate needs neither `sha2` nor `serde_json`.
//!
//! `serde`, off by default, adds `serde::Serialize` to reports, events, errors
//! and what [`dry_run`] finds, for formats with keys such as JSON;
//! `docs/json.md` of the repository has the keys.
//!
//! The crate is for Linux, and has no dependency that compiles
//! or links C. Which kernel features it uses, and what it does without them,
//! stands in `docs/kernel.md` of the repository.

mod confine;
mod destination;
pub mod dry_run;
mod error;
mod observer;
mod options;
mod plan;
mod policy;
mod receiver;
mod report;
#[cfg(feature = "resume")]
pub mod resume;
#[cfg(feature = "serde")]
mod serial;
mod step_error;
mod xattr;

pub use btrfs_lineage;
pub use btrfs_sendstream;

/// The body of a fuzz target that what is public does not suffice for.
#[cfg(fuzzing)]
#[doc(hidden)]
pub use confine::fuzzing::confine as fuzz_confine;

pub use btrfs_sendstream::decompress::DecodeError;
pub use destination::btrfs::{BtrfsDestination, BtrfsDestinationBuilder};
pub use destination::directory::{DirectoryDestination, DirectoryDestinationBuilder};
pub use destination::{Begun, Destination, Finished, Withheld};
pub use error::{
    Barrier, Cause, ExtractionProblem, Failure, Occupant, OpenError, ReceiveError, StopReason,
};
pub use observer::{Event, Observer, Totals};
pub use options::{Cancel, OnError, Options};
pub use plan::op::{NewInode, NewSubvolume, Op, SourceId, Step};
pub use plan::{Planner, Rules};
pub use policy::{PatternError, XattrPattern};
pub use receiver::{Flow, Receiver};
pub use report::{
    Fallbacks, Lack, LeftOut, NotKept, NotKeptSummary, Outcome, Report, SubvolumeReport,
};
pub use step_error::StepError;
