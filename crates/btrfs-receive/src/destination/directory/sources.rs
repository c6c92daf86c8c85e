//! Earlier extractions, as parent and to clone from.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use btrfs_sendstream::CloneRange;

use super::place::Place;
use crate::confine::{Access, PathCache, Root};
use crate::destination::tree::open_file::file_capacity;
use crate::error::Cause;
use crate::plan::op::SourceId;
use btrfs_lineage::SourceUsed;

/// Extractions kept open at most; a stream rarely names more than its parent.
const MAX_SOURCES: usize = 2;

/// Sources that are listed in a report at most.
const MAX_REPORTED: usize = 256;

/// The extractions that a stream clones from.
#[derive(Default)]
pub(super) struct Sources {
    /// The one used last comes last.
    open: Vec<(SourceId, Source)>,
    used: Vec<SourceUsed>,
}

struct Source {
    root: Root,
    files: PathCache<Arc<OwnedFd>>,
}

impl Sources {
    /// Opens the file a range is cloned from, resolved beneath the source as
    /// any path of the tree under construction is beneath that.
    pub(super) fn open(
        &mut self,
        place: &Place,
        clone: &CloneRange,
    ) -> Result<Arc<OwnedFd>, Cause> {
        let wanted = SourceId {
            uuid: clone.source_uuid,
            ctransid: clone.source_ctransid,
        };
        let source = self.source(place, wanted)?;
        let path = clone.source_path.as_bytes();
        if let Some(file) = source.files.get(path) {
            return Ok(file);
        }
        let file = source.root.open_file(&clone.source_path, Access::Read)?;
        let file = Arc::new(file);
        source.files.insert(path, Arc::clone(&file));
        Ok(file)
    }

    /// Closes everything; the sources used since the last call.
    pub(super) fn close(&mut self) -> Vec<SourceUsed> {
        self.open.clear();
        std::mem::take(&mut self.used)
    }

    fn source(&mut self, place: &Place, wanted: SourceId) -> Result<&mut Source, Cause> {
        let entry = match self.open.iter().position(|(id, _)| *id == wanted) {
            Some(index) => self.open.remove(index),
            None => (wanted, self.open_source(place, wanted)?),
        };
        if self.open.len() >= MAX_SOURCES {
            self.open.remove(0);
        }
        let last = self.open.len();
        self.open.push(entry);
        Ok(&mut self.open[last].1)
    }

    fn open_source(&mut self, place: &Place, wanted: SourceId) -> Result<Source, Cause> {
        let (fd, record) = place.find(wanted)?;
        let used = used(wanted, &record.name);
        if self.used.len() < MAX_REPORTED && !self.used.contains(&used) {
            self.used.push(used);
        }
        let mut root = Root::new(fd)?;
        let capacity = file_capacity();
        root.keep_directories(capacity / 2);
        let files = PathCache::new(capacity);
        Ok(Source { root, files })
    }
}

/// How an extraction that was used is reported.
pub(super) fn used(wanted: SourceId, name: &btrfs_sendstream::SubvolumeName) -> SourceUsed {
    let mut used = SourceUsed::new(wanted, 0, wanted.uuid);
    used.path = Some(name.clone().into_inner());
    used
}
