//! Parents and clone sources, at the destination or earlier in the input.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;

use btrfs_sendstream::{Bytes, CloneRange, StreamPath};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::fcntl_dupfd_cloexec;
use uuid::Uuid;

use super::{DryRunBuilder, Place};
use crate::confine::{Access, Root};
use crate::error::{Cause, OpenError};
use crate::plan::op::{NewSubvolume, SourceId};
use btrfs_lineage::SourceUsed;
use btrfs_lineage::{NoSource, Resolver};

/// Most subvolumes of an input that later ones can have as source; more are
/// rare, and those are looked for at the destination.
const MAX_EARLIER: usize = 65_536;

/// Most answers that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// A parent or clone source that a receive would use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FoundSource {
    /// A subvolume on the filesystem of the destination.
    There(SourceUsed),
    /// A subvolume that comes earlier in the same input.
    Earlier(SourceId),
}

/// Finds sources.
pub(super) struct Sources {
    resolver: Resolver,
    /// Serves as the parent that is named next.
    parent: Option<OwnedFd>,
    /// UUIDs and names of the subvolumes that the input brought so far.
    earlier: HashSet<Uuid>,
    names: HashSet<Bytes>,
    /// Those that were missing: each is searched for, and told of, once.
    missing: HashSet<SourceId>,
    /// What was cloned from last, with the files known to be there.
    last: Option<(SourceId, Root, FoundSource)>,
    files: HashMap<StreamPath, u64>,
}

impl Sources {
    pub(super) fn open(
        place: &Place,
        directory: &Path,
        how: &DryRunBuilder,
    ) -> Result<Self, OpenError> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, path, flags, Mode::empty())
        };
        let mut resolver = Resolver::builder().refuse_writable_sources(how.refuse_writable);
        if let Some(jail) = &how.jail {
            let fd = open(jail).map_err(|errno| OpenError::new("open", jail, errno))?;
            resolver = resolver.jail(fd);
        }
        let mut resolver = resolver
            .build(&place.fd)
            .map_err(|error| OpenError::new("open", directory, error))?;
        for (path, stands_for) in &how.clone_sources {
            open(path)
                .map_err(Into::into)
                .and_then(|fd| resolver.add_named(fd, *stands_for))
                .map_err(|error| OpenError::source(path, error))?;
        }
        let mut parent = None;
        if let Some(path) = &how.parent {
            let fd = open(path).map_err(|errno| OpenError::source(path, errno))?;
            resolver
                .check_named(&fd)
                .map_err(|error| OpenError::source(path, error))?;
            parent = Some(fd);
        }
        Ok(Self {
            parent,
            resolver,
            earlier: HashSet::new(),
            names: HashSet::new(),
            missing: HashSet::new(),
            last: None,
            files: HashMap::new(),
        })
    }

    /// Forgets what came before.
    pub(super) fn begin_input(&mut self) {
        self.earlier.clear();
        self.names.clear();
        self.missing.clear();
        self.last = None;
        self.files.clear();
        self.resolver.set_under_construction(None);
    }

    /// A subvolume of the input would be there from now on.
    pub(super) fn end_subvolume(&mut self, new: &NewSubvolume) {
        if self.earlier.len() < MAX_EARLIER {
            self.earlier.insert(new.uuid);
            let name = new.name.as_bytes();
            self.names.insert(Bytes::copy_from_slice(name));
        }
    }

    /// Whether an earlier subvolume of the input has the name.
    pub(super) fn is_name_taken(&self, new: &NewSubvolume) -> bool {
        self.names.contains(new.name.as_bytes())
    }

    /// The subvolume that a receive would take for the parent of a snapshot.
    pub(super) fn parent(&mut self, wanted: SourceId) -> Result<FoundSource, Cause> {
        if let Some(parent) = self.parent.take() {
            self.resolver
                .add_named(parent, Some(wanted.uuid))
                .map_err(|error| Cause::system("open", error))?;
            // Named, it goes before what the input brings.
            return Ok(FoundSource::There(self.resolver.resolve(wanted)?.used()));
        }
        Ok(self.find(wanted)?)
    }

    /// The subvolume that a receive would take.
    pub(super) fn find(&mut self, wanted: SourceId) -> Result<FoundSource, Box<NoSource>> {
        if self.earlier.contains(&wanted.uuid) {
            return Ok(FoundSource::Earlier(wanted));
        }
        let source = self.resolver.resolve(wanted)?;
        Ok(FoundSource::There(source.used()))
    }

    /// The subvolume that a range would be cloned from, if the file is there
    /// and long enough. `None` if the subvolume is missing and was told of
    /// before.
    pub(super) fn check_clone(&mut self, clone: &CloneRange) -> Result<Option<FoundSource>, Cause> {
        let wanted = SourceId {
            uuid: clone.source_uuid,
            ctransid: clone.source_ctransid,
        };
        if self.earlier.contains(&wanted.uuid) {
            return Ok(Some(FoundSource::Earlier(wanted)));
        }
        if self.missing.contains(&wanted) {
            return Ok(None);
        }
        if self.last.as_ref().is_none_or(|(last, ..)| *last != wanted) {
            self.files.clear();
            self.last = None;
            let source = self.resolver.resolve(wanted).inspect_err(|_| {
                if self.missing.len() < MAX_REMEMBERED {
                    self.missing.insert(wanted);
                }
            })?;
            let fd = fcntl_dupfd_cloexec(&*source, 0).map_err(|it| Cause::system("dup", it))?;
            let found = FoundSource::There(source.used());
            self.last = Some((wanted, Root::open_as(fd, false)?, found));
        }
        let Some((_, root, found)) = &self.last else {
            return Ok(None);
        };
        let size = match self.files.get(&clone.source_path) {
            Some(&size) => size,
            None => {
                let file = root.open_file(&clone.source_path, Access::Read)?;
                let stat = fstat(&file).map_err(|errno| Cause::system("fstat", errno))?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                if self.files.len() >= MAX_REMEMBERED {
                    self.files.clear();
                }
                let path = clone.source_path.borrow().to_owned();
                self.files.insert(path, size);
                size
            }
        };
        let end = clone.source_offset.saturating_add(clone.len);
        if end > size {
            return Err(Cause::SourceTooShort { size, wanted: end });
        }
        Ok(Some(found.clone()))
    }
}
