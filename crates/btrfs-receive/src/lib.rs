//! Applies btrfs send streams: what `btrfs receive` does, as a library.
//!
//! A send stream is a list of commands (*make a file*, *rename*, *write*)
//! that turns an empty subvolume, or a snapshot of its parent, into a copy of
//! a snapshot elsewhere. This crate applies them to a mounted btrfs, to a plain
//! directory, or to a [`Destination`] of your own.
//!
//! ```no_run
//! use btrfs_receive::{BtrfsDestination, Receiver};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let destination = BtrfsDestination::open("/backup")?;
//!     let report = Receiver::new(destination).receive(std::io::stdin(), &mut ())?;
//!     for subvolume in &report.subvolumes {
//!         println!("{}: {}", subvolume.name, subvolume.outcome);
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
//! - An [`Observer`] receives events: progress, failures, and the outcome of
//!   each subvolume.
//! - [`Options::cancel`] stops a receive, from another thread or a signal
//!   handler.
//! - [`BtrfsDestinationBuilder::choose_sources`] lets the caller choose parents
//!   and clone sources; [`btrfs_lineage::Resolver`] finds them without a receive.
//! - [`BtrfsDestinationBuilder::check_before_seal`] lets the caller check a
//!   complete subvolume before it is marked as received.
//! - A [`Filter`] judges each command before it is applied; the crate
//!   `btrfs-accept` has one that follows written rules.
//! - [`Receiver::item`] applies commands one by one.
//! - [`Planner`] converts commands to operations, for a [`Destination`] of your
//!   own or for other uses.
//!
//! The examples `progress`, `resolve` and `step-by-step` show how. The example `backup`
//! is a small backup tool: it verifies and stores streams, lists them, restores a
//! subvolume from all that it depends on, and finds the parent for the next
//! `btrfs send`. What reads stored streams is in
//! [`btrfs_sendstream::inspect`], and what compares the
//! subvolumes of two hosts in [`btrfs_lineage`].
//!
//! # What `Ok` means
//!
//! Every subvolume in the input is complete, on disk, has its received UUID and
//! is read-only. If anything fails, the subvolume stays writable and without
//! received UUID, and the receive returns a [`ReceiveError`] with the operation,
//! the position and the cause. [`Options::max_errors`] sets only how many more
//! commands are tried. Before Linux 5.8, the kernel does not report every failed
//! write: see [`reports_failed_writes`].
//!
//! Paths in the stream are resolved beneath the new subvolume, without following
//! symbolic links, and data is written to regular files only. The process is not
//! changed: not its umask, working directory or signal handlers. Nothing is
//! printed.
//!
//! Excluding something by [`Options`] is not a failure: the subvolume is marked
//! as received, and its outcome is [`Outcome::FinishedWithOmissions`].
//!
//! # Privileges
//!
//! A receive needs capabilities, whatever the user id. An operation that lacks
//! its capability fails, unless the table shows a fallback.
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
//! The use of memory is bounded, whatever the stream contains: see [`Receiver`],
//! [`BtrfsDestination`], [`Planner`] and [`btrfs_lineage::Resolver`]. Streams written by
//! kernels need less than 64 MiB.
//!
//! # Logging
//!
//! Decisions are logged with `tracing`. Level `info`: the sources used, and
//! subvolumes that are marked as received. Level `debug`: the candidates for
//! sources, fallbacks, and checkpoints. Level `trace`: single extents that are
//! copied or decoded. Successful commands are not logged. Destinations have
//! threads of their own: set the subscriber as the global default to get their
//! events.
//!
//! # Features
//!
//! `resume`, on by default: interrupted receives can be resumed; see [`resume`].
//! Without it the crate needs neither `sha2` nor `serde_json`.
//!
//! `serde`, off by default: `serde::Serialize` for reports, events, errors and
//! the results of [`dry_run`], for formats with keys such as JSON. `docs/json.md`
//! in the repository describes the keys.
//!
//! The crate is for Linux, and has no dependencies in C. `docs/kernel.md` in the
//! repository lists the kernel features that it uses, and the fallbacks.

mod allocation;
mod confine;
mod destination;
pub mod dry_run;
mod error;
mod filter;
mod kernel;
mod observer;
mod options;
mod plan;
mod policy;
mod qgroup;
mod receiver;
mod report;
#[cfg(feature = "resume")]
pub mod resume;
#[cfg(feature = "serde")]
mod serial;
mod step_error;
mod timing;
mod xattr;

pub use btrfs_lineage;
pub use btrfs_sendstream;

/// The bodies of fuzz targets that what is public does not suffice for.
#[cfg(fuzzing)]
#[doc(hidden)]
pub use {
    confine::fuzzing::confine as fuzz_confine, destination::btrfs::fuzzing::lanes as fuzz_lanes,
};

pub use allocation::{AllocatedSpace, Allocation};
pub use btrfs_sendstream::decompress::DecodeError;
pub use destination::btrfs::{BeforeSeal, BtrfsDestination, BtrfsDestinationBuilder};
pub use destination::directory::{DirectoryDestination, DirectoryDestinationBuilder};
pub use destination::{Begun, DeferredAttributes, Destination, Finished};
pub use error::{
    Barrier, Cause, Conflict, ExtractionProblem, Failure, OpenError, ReceiveError, StopReason,
};
pub use filter::{Filter, Verdict};
pub use kernel::{reports_failed_writes, running_kernel};
pub use observer::{Event, Observer, Totals};
pub use options::{Cancel, OnError, Options};
pub use plan::op::{NewInode, NewSubvolume, Op, SourceId, Step};
pub use plan::{Planner, Rules};
pub use policy::{PatternError, XattrPattern, matches_pattern};
pub use qgroup::QgroupLimit;
pub use receiver::{Flow, Receiver};
pub use report::{
    Excluded, Fallbacks, Loss, LossKind, LossSummary, Outcome, Report, SubvolumeReport, Waits,
};
pub use step_error::StepError;
