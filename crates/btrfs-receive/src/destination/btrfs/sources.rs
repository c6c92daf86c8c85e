//! Files that are cloned from.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use btrfs_sendstream::CloneRange;
use rustix::io::fcntl_dupfd_cloexec;
use uuid::Uuid;

use crate::confine::{Access, PathCache, Root};
use crate::destination::tree::open_file::{OpenFile, file_capacity};
use crate::error::{Cause, named};
use crate::plan::op::SourceId;
use btrfs_lineage::SourceUsed;
use btrfs_lineage::{Resolver, Source};

/// Source subvolumes kept open at most; a stream rarely names more than its
/// parent.
const MAX_SOURCES: usize = 2;

/// Sources that are listed in a report at most.
const MAX_REPORTED: usize = 256;

/// Writable sources at most that are looked at again at the end; more may
/// have changed.
const MAX_WRITABLE: usize = 16;

/// Finds parents and clone sources, for one subvolume after the other.
pub(super) struct SourceFinder {
    resolver: Resolver,
    /// Serves as the parent that is named next.
    parent: Option<OwnedFd>,
    /// Resolve paths without `openat2`.
    walk: bool,
}

impl SourceFinder {
    /// Whatever parent a stream names first, `parent` serves as it.
    pub(super) fn new(resolver: Resolver, parent: Option<OwnedFd>, walk: bool) -> Self {
        Self {
            resolver,
            parent,
            walk,
        }
    }

    /// A subvolume is created, which is no source of its own; its id is known
    /// once it is there.
    pub(super) fn set_under_construction(&mut self, id: Option<u64>) {
        self.resolver.set_under_construction(id);
    }

    /// Finds the parent of a snapshot.
    pub(super) fn parent(&mut self, wanted: SourceId) -> Result<Arc<Source>, Cause> {
        if let Some(parent) = self.parent.take() {
            self.resolver
                .add_named(parent, Some(wanted.uuid))
                .map_err(|error| Cause::system("open", error))?;
        }
        Ok(self.resolver.resolve(wanted)?)
    }

    /// The only way into a subvolume, given its root directory.
    pub(super) fn confine(&self, fd: OwnedFd) -> Result<Root, Cause> {
        Root::open_as(fd, self.walk)
    }
}

/// What the subvolume under construction is cloned from.
#[derive(Default)]
pub(super) struct CloneSources {
    /// The one used last comes last.
    open: Vec<(SourceId, SourceRoot)>,
    used: Vec<SourceUsed>,
    /// Those of `used` that are writable, and were unchanged when they were
    /// opened.
    writable: Vec<Arc<Source>>,
    /// A file that stands for every path of the source with this UUID.
    file: Option<(Uuid, Arc<OpenFile>)>,
}

struct SourceRoot {
    root: Root,
    files: PathCache<Arc<OpenFile>>,
}

impl CloneSources {
    /// The sources used. Everything that was cloned has to be on disk, and so
    /// has what others wrote before it was.
    pub(super) fn into_used(self) -> Vec<SourceUsed> {
        let mut all = self.used;
        for source in self.writable {
            let changed = !source.is_unchanged_in(&*source);
            let same = all.iter_mut().filter(|used| used.wanted == source.wanted());
            same.for_each(|used| used.may_have_changed |= changed);
        }
        all
    }

    /// Closes everything.
    pub(super) fn close(&mut self) {
        self.open.clear();
        self.file = None;
    }

    /// From now on clones from the subvolume with this UUID, which is not
    /// searched for, are clones from `file`, whatever path they name.
    #[cfg(feature = "resume")]
    pub(super) fn set_file(&mut self, uuid: Uuid, file: OwnedFd) {
        self.file = Some((uuid, Arc::new(OpenFile::existing(file, false))));
    }

    /// Opens the file a range is cloned from.
    ///
    /// The path is resolved beneath the source subvolume, as confined as
    /// any path of the subvolume under construction.
    pub(super) fn open(
        &mut self,
        clone: &CloneRange,
        finder: &mut SourceFinder,
    ) -> Result<Arc<OpenFile>, Cause> {
        if let Some((uuid, file)) = &self.file
            && *uuid == clone.source_uuid
        {
            return Ok(Arc::clone(file));
        }
        let wanted = SourceId {
            uuid: clone.source_uuid,
            ctransid: clone.source_ctransid,
        };
        let source = self.root(wanted, finder)?;
        let path = clone.source_path.as_bytes();
        if let Some(file) = source.files.get(path) {
            return Ok(file);
        }
        let fd = source.root.open_file(&clone.source_path, Access::Read)?;
        let file = Arc::new(OpenFile::existing(fd, false));
        source.files.insert(path, Arc::clone(&file));
        Ok(file)
    }

    fn root(
        &mut self,
        wanted: SourceId,
        finder: &mut SourceFinder,
    ) -> Result<&mut SourceRoot, Cause> {
        let entry = match self.open.iter().position(|(id, _)| *id == wanted) {
            Some(index) => self.open.remove(index),
            None => (wanted, self.open_root(wanted, finder)?),
        };
        if self.open.len() >= MAX_SOURCES {
            self.open.remove(0);
        }
        let last = self.open.len();
        self.open.push(entry);
        Ok(&mut self.open[last].1)
    }

    /// Notes a source for the report.
    fn note(&mut self, source: &Arc<Source>) {
        let mut used = source.used();
        let is_same =
            |it: &SourceUsed| (it.wanted, it.subvolume_id) == (used.wanted, used.subvolume_id);
        if self.used.len() >= MAX_REPORTED || self.used.iter().any(is_same) {
            return;
        }
        if used.writable && !used.may_have_changed {
            if self.writable.len() < MAX_WRITABLE {
                self.writable.push(Arc::clone(source));
            } else {
                used.may_have_changed = true;
            }
        }
        self.used.push(used);
    }

    fn open_root(
        &mut self,
        wanted: SourceId,
        finder: &mut SourceFinder,
    ) -> Result<SourceRoot, Cause> {
        let source = finder.resolver.resolve(wanted)?;
        self.note(&source);
        let fd = fcntl_dupfd_cloexec(&*source, 0).map_err(named("dup"))?;
        let mut root = finder.confine(fd)?;
        let capacity = file_capacity();
        root.keep_directories(capacity / 2);
        let files = PathCache::new(capacity);
        Ok(SourceRoot { root, files })
    }
}
