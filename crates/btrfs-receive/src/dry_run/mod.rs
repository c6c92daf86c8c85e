//! Checks whether a stream can be received, without writing to the
//! destination.
//!
//! A [`DryRun`] verifies a stream as
//! [`Verifier`](btrfs_sendstream::inspect::Verifier) does, with or
//! without file data, and looks up what a receive needs: free names, parents and
//! clone sources, support for compressed extents, and free space.

mod place;
mod refused;
mod rights;
mod sources;
mod space;

use std::io::Read;
use std::path::{Path, PathBuf};

use btrfs_sendstream::inspect::{Checker, SubvolumeSummary, VerifyOptions, VerifyReport};
use btrfs_sendstream::{
    CloneRange, Command, CommandBuf, Item, NewSubvolume, Position, SourceId, SubvolumeName,
};
use uuid::Uuid;

use crate::error::{Cause, Conflict, Failure, OpenError};
use crate::options::Options;
use btrfs_lineage::NoSource;
pub use place::{DecodeReason, Place};
pub use rights::MissingCapability;
pub use sources::FoundSource;
use sources::Sources;
pub use space::Space;

/// A dry run of receives into one destination.
///
/// Memory: that of a [`Verifier`](btrfs_sendstream::inspect::Verifier), of a
/// [`Resolver`](btrfs_lineage::Resolver), and what the report lists.
pub struct DryRun {
    place: Place,
    sources: Sources,
    options: VerifyOptions,
    receive: Options,
}

/// Settings for a [`DryRun`].
#[derive(Debug, Default)]
#[must_use]
pub struct DryRunBuilder {
    jail: Option<PathBuf>,
    refuse_writable: bool,
    force_decompress: bool,
    atomic: bool,
    receive: Options,
    parent: Option<PathBuf>,
    clone_sources: Vec<(PathBuf, Option<Uuid>)>,
    options: VerifyOptions,
}

impl DryRunBuilder {
    /// As [`BtrfsDestinationBuilder::jail`](crate::BtrfsDestinationBuilder::jail).
    pub fn jail(mut self, directory: impl Into<PathBuf>) -> Self {
        self.jail = Some(directory.into());
        self
    }

    /// As
    /// [`BtrfsDestinationBuilder::refuse_writable_sources`](crate::BtrfsDestinationBuilder::refuse_writable_sources).
    pub fn refuse_writable_sources(mut self, refuse: bool) -> Self {
        self.refuse_writable = refuse;
        self
    }

    /// As
    /// [`BtrfsDestinationBuilder::force_decompress`](crate::BtrfsDestinationBuilder::force_decompress).
    pub fn force_decompress(mut self, always: bool) -> Self {
        self.force_decompress = always;
        self
    }

    /// As
    /// [`BtrfsDestinationBuilder::atomic`](crate::BtrfsDestinationBuilder::atomic).
    pub fn atomic(mut self, atomic: bool) -> Self {
        self.atomic = atomic;
        self
    }

    /// Sets the options of the receive. Limits, and whether unknown commands are
    /// skipped, are those of [`verify`](Self::verify).
    pub fn receive(mut self, options: Options) -> Self {
        self.receive = options;
        self
    }

    /// As
    /// [`BtrfsDestinationBuilder::parent`](crate::BtrfsDestinationBuilder::parent).
    pub fn parent(mut self, subvolume: impl Into<PathBuf>) -> Self {
        self.parent = Some(subvolume.into());
        self
    }

    /// As
    /// [`BtrfsDestinationBuilder::clone_source`](crate::BtrfsDestinationBuilder::clone_source).
    pub fn clone_source(mut self, subvolume: impl Into<PathBuf>, stands_for: Option<Uuid>) -> Self {
        self.clone_sources.push((subvolume.into(), stands_for));
        self
    }

    /// Sets how the stream is verified. A stream without file data is always
    /// accepted.
    pub fn verify(mut self, options: VerifyOptions) -> Self {
        self.options = options;
        self
    }

    /// Opens `directory`, the destination.
    ///
    /// # Errors
    /// It cannot be opened or is not on a btrfs.
    pub fn open(self, directory: impl AsRef<Path>) -> Result<DryRun, OpenError> {
        let directory = directory.as_ref();
        let place = Place::open(directory, self.force_decompress, self.atomic)?;
        let sources = Sources::open(&place, directory, &self)?;
        let mut options = self.options;
        options.allow_no_data = true;
        Ok(DryRun {
            place,
            sources,
            options,
            receive: self.receive,
        })
    }
}

impl std::fmt::Debug for DryRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("DryRun");
        debug.field("place", &self.place).finish_non_exhaustive()
    }
}

/// The result of a dry run.
#[derive(Debug)]
#[non_exhaustive]
pub struct DryRunReport {
    /// The verification of the stream, for any destination.
    pub stream: VerifyReport,
    /// What would fail at this destination, in the order of the input, with the
    /// cause: the first [`VerifyReport::MAX_FINDINGS`].
    pub failures: Vec<Failure>,
    /// Number of further failures.
    pub more_failures: u64,
    /// The result for each subvolume in [`VerifyReport::subvolumes`].
    pub forecasts: Vec<Forecast>,
    /// The space needed, an estimate, and the free space.
    pub space: Space,
}

impl DryRunReport {
    /// Returns whether no problem was found, and there is enough space.
    pub fn is_good(&self) -> bool {
        self.stream.is_good() && self.failures.is_empty() && self.space.is_enough()
    }
}

/// The result for one subvolume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Forecast {
    /// What has its name already.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub conflict: Option<Conflict>,
    /// The parent, if the stream is incremental and it was found.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub parent: Option<FoundSource>,
    /// The clone sources that were found; the first
    /// [`SubvolumeSummary::MAX_CLONE_SOURCES`].
    pub clone_sources: Vec<FoundSource>,
    /// Number of compressed extents that would be decompressed.
    pub decoded: u64,
    /// Why the first of them would be decompressed.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub decode_reason: Option<DecodeReason>,
    /// The capabilities that are missing, each once.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub missing_capabilities: Vec<MissingCapability>,
    /// Bytes of file data that would be stored, as far as is known.
    #[cfg_attr(feature = "serde", serde(skip))]
    stored: u64,
    /// Whether its creation would fail, so that nothing of it is applied.
    #[cfg_attr(feature = "serde", serde(skip))]
    failed: bool,
}

impl DryRun {
    /// Opens `directory` with the default settings.
    ///
    /// # Errors
    /// It cannot be opened or is not on a btrfs.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(directory)
    }

    /// Returns a builder, for other settings.
    pub fn builder() -> DryRunBuilder {
        DryRunBuilder::default()
    }

    /// Returns the destination.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Finds the subvolume that would be used as parent or clone source.
    ///
    /// # Errors
    /// There is none; the error lists the candidates.
    pub fn find_source(&mut self, wanted: SourceId) -> Result<FoundSource, Box<NoSource>> {
        self.sources.find(wanted)
    }

    /// Reads `input` to its end, or as far as it can be decoded, and checks
    /// whether it can be received. Changes nothing.
    pub fn run(&mut self, input: impl Read) -> DryRunReport {
        let mut reader = self.options.reader(input);
        let mut run = Run {
            checker: Checker::new(self.options),
            failures: Failures::default(),
            forecasts: Vec::new(),
            current: None,
            name: self.receive.name.clone(),
            begun: 0,
        };
        self.sources.begin_input();
        let mut end = 0;
        loop {
            if self.receive.cancel.is_cancelled() {
                run.checker.cancelled(reader.position());
                break;
            }
            match reader.next_owned() {
                Ok(Some(item)) => {
                    let start = std::mem::replace(&mut end, reader.consumed());
                    let at = reader.position();
                    run.checker.item(&item, at, end - start);
                    if let Item::Command(command) = &item {
                        self.command(command, at, &mut run);
                        if self.receive.stop_at_end && matches!(command, Command::End) {
                            break;
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    run.checker.stream_error(error);
                    break;
                }
            }
        }
        self.end_subvolume(&mut run);
        let stream = run.checker.finish();
        DryRunReport {
            space: self.place.space(&stream, &run.forecasts),
            failures: run.failures.listed,
            more_failures: run.failures.more,
            forecasts: run.forecasts,
            stream,
        }
    }

    fn command(&mut self, command: &CommandBuf, at: Position, run: &mut Run) {
        if let Some(new) = NewSubvolume::from_command(command) {
            self.end_subvolume(run);
            self.begin(&new, at, run);
            return;
        }
        let Run {
            current, failures, ..
        } = run;
        let Some((new, forecast)) = current else {
            return;
        };
        if self.receive.excludes(command).is_some() {
            return;
        }
        if let Some(cause) = refused::refusal(command, self.place.node_size) {
            failures.add(at, command, cause);
        }
        if let Some(missing) = self.place.rights.missing(command)
            && !forecast.missing_capabilities.contains(&missing)
        {
            forecast.missing_capabilities.push(missing);
            failures.add(at, command, missing.cause());
        }
        if let Some(cause) = self.place.rights.refuses_owner(command) {
            failures.add(at, command, cause);
        }
        match command {
            Command::End => self.end_subvolume(run),
            Command::EnableVerity(verity) => {
                if let Some(cause) = self.place.refuses_verity(verity) {
                    failures.add(at, command, cause);
                }
            }
            Command::Write { data, .. } => forecast.stored += data.len() as u64,
            Command::UpdateExtent { len, .. } => {
                forecast.stored = forecast.stored.saturating_add(*len);
            }
            Command::EncodedWrite(write) => match self.place.why_decoded(write) {
                Some(reason) => {
                    forecast.decoded += 1;
                    forecast.decode_reason.get_or_insert(reason);
                    let len = write.unencoded_file_len;
                    forecast.stored = forecast.stored.saturating_add(len);
                }
                None => forecast.stored += write.data.len() as u64,
            },
            Command::Clone(clone) if !new.is_source_of(clone) => {
                if let Err(cause) = self.clone_source(clone, forecast) {
                    failures.add(at, command, cause);
                }
            }
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Mkfile { .. }
            | Command::Mkdir { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Clone(_)
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Utimes { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. } => {}
        }
    }

    fn begin(&mut self, new: &NewSubvolume, at: Position, run: &mut Run) {
        let chosen = run.name.take();
        run.begun += 1;
        let name = chosen.unwrap_or_else(|| new.name.borrow().to_owned());
        let mut new = new.clone();
        new.name = name;
        let mut forecast = Forecast::default();
        let created = if self.receive.name.is_some() && run.begun > 1 {
            Err(Cause::SecondSubvolume)
        } else {
            self.creation(&new, &mut forecast)
        };
        if let Err(cause) = created {
            if let Cause::NameTaken { by } = &cause {
                forecast.conflict = Some(*by);
            }
            forecast.failed = true;
            let operation = new.command().name();
            let failure = Failure::new(at, operation, new.name.as_bytes(), cause);
            run.failures.push(failure);
        }
        run.current = Some((new, forecast));
    }

    /// In the order in which a receive does it: the first that fails is its
    /// failure.
    fn creation(&mut self, new: &NewSubvolume, forecast: &mut Forecast) -> Result<(), Cause> {
        self.place.check_final_name(new)?;
        if let Some(wanted) = new.parent {
            let found = self.sources.parent(wanted);
            forecast.parent = Some(found.map_err(|cause| self.place.or_the_same(new, cause))?);
        }
        self.place.check_creation(new)?;
        if self.sources.is_name_taken(new) {
            let by = Conflict::Other;
            return Err(Cause::NameTaken { by });
        }
        Ok(())
    }

    fn clone_source(&mut self, clone: &CloneRange, forecast: &mut Forecast) -> Result<(), Cause> {
        let Some(found) = self.sources.check_clone(clone)? else {
            return Ok(());
        };
        if forecast.clone_sources.len() < SubvolumeSummary::MAX_CLONE_SOURCES
            && !forecast.clone_sources.contains(&found)
        {
            forecast.clone_sources.push(found);
        }
        Ok(())
    }

    fn end_subvolume(&mut self, run: &mut Run) {
        if let Some((new, forecast)) = run.current.take() {
            if !forecast.failed {
                self.sources.end_subvolume(&new);
            }
            if run.forecasts.len() < VerifyReport::MAX_SUBVOLUMES {
                run.forecasts.push(forecast);
            }
        }
    }
}

/// One input.
struct Run {
    checker: Checker,
    failures: Failures,
    forecasts: Vec<Forecast>,
    current: Option<(NewSubvolume, Forecast)>,
    /// What the first subvolume is to be called, until it begins.
    name: Option<SubvolumeName>,
    /// Subvolumes that began.
    begun: u64,
}

/// What would fail, up to a limit.
#[derive(Default)]
struct Failures {
    listed: Vec<Failure>,
    more: u64,
}

impl Failures {
    fn add(&mut self, at: Position, command: &CommandBuf, cause: Cause) {
        let path = command.path().unwrap_or_default();
        let operation = command.kind().name();
        self.push(Failure::new(at, operation, path.as_bytes(), cause));
    }

    fn push(&mut self, failure: Failure) {
        if self.listed.len() < VerifyReport::MAX_FINDINGS {
            self.listed.push(failure);
        } else {
            self.more += 1;
        }
    }
}
