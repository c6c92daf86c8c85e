//! Directories kept open, by their path.
//!
//! A descriptor follows its inode: when a directory is renamed, its entry
//! and those below it move to the new path with it, and what the rename
//! replaced is dropped. Receivers that remember descriptors by the text of
//! a path alone have written into the wrong file.

use std::collections::BTreeMap;
use std::ops::Bound;

/// A bounded map from path to directory; the one not used for longest goes
/// first.
///
/// Paths sort so that everything below a directory stands together, which
/// makes a rename as cheap as a look-up where nothing is affected.
#[derive(Debug)]
pub(super) struct DirectoryCache<D> {
    entries: BTreeMap<Box<[u8]>, Entry<D>>,
    capacity: usize,
    clock: u64,
    /// Holds "path/" during a look-up, to spare an allocation each time.
    prefix: Vec<u8>,
}

#[derive(Debug)]
struct Entry<D> {
    directory: D,
    last_used: u64,
}

impl<D: Clone> DirectoryCache<D> {
    /// A cache of at most `capacity` directories, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            capacity: capacity.max(1),
            clock: 0,
            prefix: Vec::new(),
        }
    }

    /// The directory at `path`, which counts as used.
    pub(super) fn get(&mut self, path: &[u8]) -> Option<D> {
        self.clock += 1;
        let entry = self.entries.get_mut(path)?;
        entry.last_used = self.clock;
        Some(entry.directory.clone())
    }

    /// Keeps `directory` as what `path` names.
    pub(super) fn insert(&mut self, path: &[u8], directory: D) {
        self.clock += 1;
        if self.entries.len() >= self.capacity && !self.entries.contains_key(path) {
            self.evict();
        }
        let entry = Entry {
            directory,
            last_used: self.clock,
        };
        self.entries.insert(path.into(), entry);
    }

    /// Drops `path` and everything below it.
    pub(super) fn remove(&mut self, path: &[u8]) {
        self.entries.remove(path);
        while let Some(key) = self.first_below(path) {
            self.entries.remove(&key);
        }
    }

    /// Follows a rename that succeeded: what is at and below `to` was
    /// replaced by what is at and below `from`.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) {
        if from == to {
            return;
        }
        if is_below(to, from) {
            // The kernel refuses this; an entry moved below itself would
            // never come to rest here.
            return self.clear();
        }
        self.remove(to);
        if let Some(entry) = self.entries.remove(from) {
            self.entries.insert(to.into(), entry);
        }
        while let Some(key) = self.first_below(from) {
            if let Some(entry) = self.entries.remove(&key) {
                let moved = [to, &key[from.len()..]].concat();
                self.entries.insert(moved.into(), entry);
            }
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    fn first_below(&mut self, path: &[u8]) -> Option<Box<[u8]>> {
        self.prefix.clear();
        self.prefix.extend_from_slice(path);
        self.prefix.push(b'/');
        let from = Bound::Included(self.prefix.as_slice());
        let (key, _) = self
            .entries
            .range::<[u8], _>((from, Bound::Unbounded))
            .next()?;
        key.starts_with(&self.prefix).then(|| key.clone())
    }

    /// A scan, at most once for each directory opened, which costs more.
    fn evict(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last_used);
        if let Some((path, _)) = oldest {
            let path = path.clone();
            self.entries.remove(&path);
        }
    }
}

/// Whether `path` lies below `ancestor`.
fn is_below(path: &[u8], ancestor: &[u8]) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| rest.first() == Some(&b'/'))
}
