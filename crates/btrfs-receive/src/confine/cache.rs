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
pub(crate) struct PathCache<D> {
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

impl<D: Clone> PathCache<D> {
    /// A cache of at most `capacity` directories, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            capacity: capacity.max(1),
            clock: 0,
            prefix: Vec::new(),
        }
    }

    /// The directory at `path`, which counts as used.
    pub(crate) fn get(&mut self, path: &[u8]) -> Option<D> {
        self.clock += 1;
        let entry = self.entries.get_mut(path)?;
        entry.last_used = self.clock;
        Some(entry.directory.clone())
    }

    /// Keeps `directory` as what `path` names.
    pub(crate) fn insert(&mut self, path: &[u8], directory: D) {
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

    /// Drops `path` alone.
    pub(crate) fn remove_one(&mut self, path: &[u8]) {
        self.entries.remove(path);
    }

    /// Drops `path` and everything below it.
    pub(crate) fn remove(&mut self, path: &[u8]) {
        self.entries.remove(path);
        while let Some(key) = self.first_below(path) {
            self.entries.remove(&key);
        }
    }

    /// Follows a rename that succeeded: what is at and below `to` was
    /// replaced by what is at and below `from`.
    pub(crate) fn rename(&mut self, from: &[u8], to: &[u8]) {
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
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Everything, in the order of paths.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (Box<[u8]>, D)> {
        let entries = self.entries.into_iter();
        entries.map(|(path, entry)| (path, entry.directory))
    }

    /// How many directories are kept.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(capacity: usize, paths: &[&str]) -> PathCache<String> {
        let mut cache = PathCache::new(capacity);
        for path in paths {
            cache.insert(path.as_bytes(), (*path).to_owned());
        }
        cache
    }

    /// Everything in the cache, "path=directory".
    fn list(cache: &PathCache<String>) -> Vec<String> {
        let entries = cache.entries.iter();
        entries
            .map(|(path, entry)| format!("{}={}", path.escape_ascii(), entry.directory))
            .collect()
    }

    #[test]
    fn the_one_unused_for_longest_goes_first() {
        let mut cache = filled(3, &["a", "b", "c"]);
        assert!(cache.get(b"a").is_some());
        cache.insert(b"d", "d".to_owned());
        assert_eq!(list(&cache), ["a=a", "c=c", "d=d"]);
        // Replacing an entry takes no room.
        cache.insert(b"a", "new".to_owned());
        assert_eq!(list(&cache), ["a=new", "c=c", "d=d"]);
        cache.insert(b"e", "e".to_owned());
        assert_eq!(list(&cache), ["a=new", "d=d", "e=e"]);
    }

    #[test]
    fn there_is_room_for_one_at_least() {
        let mut cache = filled(0, &["a", "b"]);
        assert_eq!(cache.get(b"b"), Some("b".to_owned()));
        assert_eq!(cache.get(b"a"), None);
    }

    #[test]
    fn a_rename_takes_along_what_is_below() {
        let mut cache = filled(9, &["a", "a!", "a/x", "a/x/y", "ab", "b", "b/z"]);
        cache.rename(b"a", b"b");
        assert_eq!(
            list(&cache),
            ["a!=a!", "ab=ab", "b=a", "b/x=a/x", "b/x/y=a/x/y"]
        );
    }

    #[test]
    fn a_rename_moves_what_is_below_an_entry_that_is_gone() {
        let mut cache = filled(9, &["a/x", "b/x"]);
        cache.rename(b"a", b"c/d");
        assert_eq!(list(&cache), ["b/x=b/x", "c/d/x=a/x"]);
        cache.rename(b"c/d/x", b"c");
        assert_eq!(list(&cache), ["b/x=b/x"]);
    }

    #[test]
    fn a_rename_of_something_unknown_still_replaces() {
        let mut cache = filled(9, &["b", "b/x", "c"]);
        cache.rename(b"a", b"b");
        assert_eq!(list(&cache), ["c=c"]);
    }

    #[test]
    fn a_rename_onto_itself_changes_nothing() {
        let mut cache = filled(9, &["a", "a/x"]);
        cache.rename(b"a", b"a");
        assert_eq!(list(&cache), ["a=a", "a/x=a/x"]);
        // Not a rename that can succeed.
        cache.rename(b"a", b"a/x/y");
        assert!(list(&cache).is_empty());
    }

    #[test]
    fn removal_takes_along_what_is_below() {
        let mut cache = filled(9, &["a", "a!", "a/x", "a/x/y", "ab"]);
        cache.remove(b"a");
        assert_eq!(list(&cache), ["a!=a!", "ab=ab"]);
    }
}
