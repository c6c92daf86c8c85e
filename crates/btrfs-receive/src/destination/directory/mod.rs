//! A plain directory, on any filesystem: each subvolume becomes a directory
//! in it.
//!
//! The caller's thread does all the work. What is made inside an extraction
//! goes through the same [`Root`](crate::confine::Root) as on btrfs, so that
//! no path of a stream leads out of it.

mod build;
mod copy;
mod names;
mod notes;
mod place;
mod record;
mod sources;
mod tree;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use btrfs_sendstream::{Position, SubvolumeName};
use rustix::fs::syncfs;
use rustix::io::fcntl_dupfd_cloexec;

use self::build::{Build, Tools};
use self::copy::Copier;
use self::notes::{Notes, Sink};
use self::place::Place;
use self::record::Record;
use self::sources::Sources;
use self::tree::Tree;
use super::tree::data::DataWriter;
use super::{Begun, DeferredAttributes, Destination, Finished};
use crate::confine::Root;
use crate::error::{Cause, Failure, OpenError, named};
use crate::plan::op::{NewSubvolume, SourceId, Step};
use crate::report::Loss;
use crate::step_error::StepError;

/// A directory on any filesystem, in which subvolumes are extracted as plain
/// directories. Needs no privileges.
///
/// Each is built as `NAME.incomplete`, becomes `NAME` once everything is on
/// disk, and then gets a record in `.btrfs-extract/UUID.TRANSID`. Only what has
/// a record serves as parent of an incremental stream or as clone source, and
/// only for streams that name both its UUID and its ctransid. An
/// incremental stream begins with a copy of its parent, which shares data
/// where the filesystem can. Extractions are not read-only: whoever changes
/// one that is still to serve as a parent gets the changes in what follows.
///
/// Content is kept, or the extraction fails: data, names, links. A filesystem
/// that stores a name in another form, or takes two names for one, makes it
/// fail with [`Cause::NameNotStored`]. The rest is kept as far as the filesystem and the privileges
/// of the process allow, and otherwise lost, counted and listed: see
/// [`LossKind`](crate::LossKind) and
/// [`SubvolumeReport::losses`](crate::SubvolumeReport::losses). Inode
/// flags and fs-verity are always lost. An ordinary user owns all files; they get no
/// set-id bits, and their owner may always read them.
///
/// Memory: 32 MiB of notes on files that go without something, one operation,
/// and up to a few hundred open descriptors.
pub struct DirectoryDestination {
    place: Place,
    data: DataWriter,
    sources: Sources,
    sink: Option<Sink>,
    partial: bool,
    current: Option<Build>,
    /// What nobody has asked for yet, in the order of the stream.
    failures: VecDeque<Failure>,
    /// Root and name of what was created last, until it is finished or given
    /// up.
    created: Option<(OwnedFd, SubvolumeName)>,
}

/// Settings for a [`DirectoryDestination`].
#[derive(Default)]
#[must_use]
pub struct DirectoryDestinationBuilder {
    sink: Option<Sink>,
    partial: bool,
}

impl DirectoryDestinationBuilder {
    /// Hands over every loss, where a report lists only the first:
    /// one by one, before the extraction is marked as complete. It is not if
    /// `take` fails.
    ///
    /// Paths are those of the end, except for what found no room in 16 MiB of
    /// memory; that is handed over at once.
    pub fn losses(mut self, take: impl FnMut(&Loss) -> io::Result<()> + Send + 'static) -> Self {
        self.sink = Some(Box::new(take));
        self
    }

    /// Sets whether the streams have only a part of each subvolume. Then an extraction
    /// gets no record, so that none serves as parent or clone source.
    pub fn partial(mut self, partial: bool) -> Self {
        self.partial = partial;
        self
    }

    /// Opens `directory`, which must exist.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(self, directory: impl AsRef<Path>) -> Result<DirectoryDestination, OpenError> {
        Ok(DirectoryDestination {
            place: Place::open(directory.as_ref())?,
            data: DataWriter::decoding(),
            sources: Sources::default(),
            sink: self.sink,
            partial: self.partial,
            current: None,
            failures: VecDeque::new(),
            created: None,
        })
    }
}

impl std::fmt::Debug for DirectoryDestinationBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectoryDestinationBuilder")
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DirectoryDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DirectoryDestination")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl DirectoryDestination {
    /// Opens `directory`, which must exist, with the default settings.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::builder().open(directory)
    }

    /// Settings other than the default.
    pub fn builder() -> DirectoryDestinationBuilder {
        DirectoryDestinationBuilder::default()
    }

    fn start(&mut self, new: &NewSubvolume) -> Result<Begun, Cause> {
        self.abandon();
        let parent = match new.parent {
            None => None,
            Some(wanted) => Some((wanted, self.place.find(wanted)?)),
        };
        let root = self.place.begin(new, !self.partial)?;
        self.created = fcntl_dupfd_cloexec(&root, 0)
            .ok()
            .map(|root| (root, new.name.clone()));
        self.fill(new, root, parent)
            .map_err(|cause| Cause::LeftIncomplete {
                cause: Box::new(cause),
            })
    }

    /// Makes a new directory the one under construction, with a copy of the
    /// parent in it.
    fn fill(
        &mut self,
        new: &NewSubvolume,
        root: OwnedFd,
        parent: Option<(SourceId, (OwnedFd, Record))>,
    ) -> Result<Begun, Cause> {
        let mut tree = Tree::new(
            Root::new(root)?,
            Notes::new(new.name.clone(), self.sink.take()),
        )?;
        let mut begun = Begun::default();
        let mut of_parent = 0;
        if let Some((wanted, (fd, record))) = parent {
            begun.parent = Some(sources::used(wanted, &record.name));
            of_parent = record.losses;
            let deferred = self.copy(new, fd, &mut tree);
            match deferred {
                Ok(deferred) => begun.deferred = deferred,
                Err(cause) => {
                    self.sink = tree.notes.into_sink();
                    return Err(cause);
                }
            }
        }
        self.current = Some(Build::new(new.clone(), tree, of_parent));
        Ok(begun)
    }

    fn copy(
        &mut self,
        new: &NewSubvolume,
        parent: OwnedFd,
        tree: &mut Tree,
    ) -> Result<DeferredAttributes, Cause> {
        let from = Root::new(parent)?;
        let workshop = self.place.workshop(new.uuid)?;
        let copier = Copier {
            from: &from,
            to: tree,
            data: &mut self.data,
            workshop: &workshop,
        };
        let deferred = copier.copy();
        // How a copy came about is no fallback of the stream's.
        self.data.take_fallbacks();
        deferred
    }

    fn complete(&mut self, build: &mut Build) -> Result<Finished, Cause> {
        build.close_files();
        build.tree.names.check(&build.tree.root)?;
        build.tree.set_waiting_modes()?;
        let mut finished = Finished {
            fallbacks: self.data.take_fallbacks(),
            clone_sources: self.sources.close(),
            losses: build.tree.notes.finish()?,
            ..Finished::default()
        };
        finished.losses.of_parent = build.of_parent;
        // On a descriptor from before the first write: a failed write-back
        // is reported once to each.
        syncfs(build.tree.root.fd()).map_err(named("syncfs"))?;
        let new = &build.new;
        let record = Record {
            name: new.name.clone(),
            id: SourceId {
                uuid: new.uuid,
                ctransid: new.ctransid,
            },
            parent: new.parent,
            born: None,
            losses: finished.losses.total(),
        };
        let root = build.tree.root.fd();
        self.place.finish(root, &record, !self.partial)?;
        self.created = None;
        Ok(finished)
    }
}

impl Destination for DirectoryDestination {
    fn built_as(&self, new: &NewSubvolume) -> SubvolumeName {
        place::incomplete(&new.name)
    }

    fn begin(&mut self, new: &NewSubvolume, at: Position) -> Result<Begun, Failure> {
        self.start(new)
            .map_err(|cause| Failure::new(at, new.command().name(), new.name.as_bytes(), cause))
    }

    fn apply(&mut self, step: Step) {
        let mut tools = Tools {
            place: &self.place,
            data: &mut self.data,
            sources: &mut self.sources,
        };
        let done = match &mut self.current {
            Some(build) => build.apply(&step, &mut tools),
            None => Err(StepError::from(Cause::NothingToFinish).of(&step)),
        };
        self.failures.extend(done.err());
    }

    fn next_failure(&mut self) -> Option<Failure> {
        self.failures.pop_front()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.next_failure().map_or(Ok(()), Err)
    }

    fn finish(&mut self, at: Position) -> Result<Finished, Failure> {
        let Some(mut build) = self.current.take() else {
            return Err(Failure::new(at, "finish", b"", Cause::NothingToFinish));
        };
        let finished = self.complete(&mut build);
        let name = build.new.name.clone();
        self.sink = build.tree.notes.into_sink();
        finished.map_err(|cause| Failure::new(at, "finish", name.as_bytes(), cause))
    }

    fn abandon(&mut self) {
        if let Some(build) = self.current.take() {
            self.sink = build.tree.notes.into_sink();
        }
        self.failures.clear();
        self.created = None;
        self.sources.close();
        self.data.take_fallbacks();
    }

    fn discard(&mut self) -> Result<bool, Cause> {
        let created = self.created.take();
        self.abandon();
        match created {
            Some((root, name)) => self.place.discard(&root, &name),
            None => Ok(false),
        }
    }
}
