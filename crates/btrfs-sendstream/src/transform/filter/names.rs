//! Names that are not where they will stay.
//!
//! A kernel creates each inode under a temporary name in the root, `o257-8-0`,
//! and gives it its place afterwards: at once, or, for a directory whose
//! parent comes later, after things were made inside it. A directory that is
//! to be removed gets such a name too. No rule of a filter speaks of these
//! names, so it is remembered what is behind each.

use std::collections::{BTreeMap, BTreeSet};

use super::links::Links;

/// What a new name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Other,
    /// It was there before the stream began: nobody knows what it holds.
    Unknown,
}

/// Bytes of names that are remembered at most.
pub(super) const MAX_LEN: usize = 16 * 1024 * 1024;

/// What a name costs beside its bytes.
const COST: usize = 64;

/// What has a fresh name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    pub(super) kind: Kind,
    /// The same for all names of a file.
    inode: u64,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    /// Temporary names made by this stream, and every name below them.
    fresh: BTreeMap<Vec<u8>, Fresh>,
    /// How many different things have had such names.
    inodes: u64,
    /// Those of them that have several names.
    linked: BTreeSet<u64>,
    links: Links,
    /// Temporary names of what was there before, with the name it had then.
    moved: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes in both.
    len: usize,
}

impl Names {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a path is one made by this stream below a temporary name, or
    /// such a name itself.
    pub(super) fn is_fresh(&self, path: &[u8]) -> bool {
        self.fresh.contains_key(split_first(path).0)
    }

    /// The path under which the rules know a path that is not fresh.
    pub(super) fn origin(&self, path: &[u8]) -> Vec<u8> {
        let (first, rest) = split_first(path);
        match self.moved.get(first) {
            Some(was) => [was, rest].concat(),
            None => path.to_vec(),
        }
    }

    /// Whether something that was there before has this temporary name.
    pub(super) fn is_moved(&self, path: &[u8]) -> bool {
        self.moved.contains_key(path)
    }

    /// What a fresh name belongs to.
    pub(super) fn kind(&self, path: &[u8]) -> Option<Kind> {
        self.fresh.get(path).map(|fresh| fresh.kind)
    }

    /// Remembers a fresh name of something new, and forgets what had it
    /// before. `false`: there are too many.
    #[must_use]
    pub(super) fn add(&mut self, path: &[u8], kind: Kind) -> bool {
        let fresh = self.new_inode(kind);
        self.put(path, fresh)
    }

    /// The same for something that has, or had, a fresh name already.
    #[must_use]
    pub(super) fn put(&mut self, path: &[u8], fresh: Fresh) -> bool {
        self.remove(path);
        self.fresh.insert(path.to_vec(), fresh);
        self.len += path.len() + COST;
        self.is_within_bounds()
    }

    /// Remembers a further name of a file; one of the two at least is fresh.
    /// Returns what it belongs to, and whether `existing` has its place.
    pub(super) fn link(&mut self, existing: &[u8]) -> (Fresh, bool) {
        let known = self.fresh.get(existing).copied();
        let fresh = known.unwrap_or_else(|| self.new_inode(Kind::Other));
        self.len += COST;
        self.linked.insert(fresh.inode);
        (fresh, known.is_none())
    }

    /// What had a fresh name has its place. Returns the name of the same file
    /// on the other side of the border, if there is one.
    pub(super) fn settle(&mut self, fresh: Fresh, place: &[u8], kept: bool) -> Option<Vec<u8>> {
        if !self.linked.contains(&fresh.inode) {
            return None;
        }
        self.links.settle(fresh.inode, place, kept)
    }

    pub(super) fn is_within_bounds(&self) -> bool {
        self.len + self.links.len() <= MAX_LEN
    }

    fn new_inode(&mut self, kind: Kind) -> Fresh {
        self.inodes += 1;
        let inode = self.inodes;
        Fresh { kind, inode }
    }

    /// Remembers that what was there before has a temporary name now, and
    /// forgets what had it before. `false`: there are too many.
    #[must_use]
    pub(super) fn add_moved(&mut self, path: &[u8], was: Vec<u8>) -> bool {
        self.remove(path);
        self.len += path.len() + was.len() + COST;
        self.moved.insert(path.to_vec(), was);
        self.is_within_bounds()
    }

    /// Forgets a name that is gone.
    pub(super) fn remove(&mut self, path: &[u8]) {
        if self.fresh.remove(path).is_some() {
            self.len -= path.len() + COST;
        }
        if let Some(was) = self.moved.remove(path) {
            self.len -= path.len() + was.len() + COST;
        }
    }

    /// The fresh names at and below a path, each before the one that holds
    /// it.
    pub(super) fn at_and_below(&self, path: &[u8]) -> Vec<(Vec<u8>, Fresh)> {
        let names = self.fresh.range(path.to_vec()..);
        let mut names: Vec<_> = names
            .take_while(|(name, _)| name.starts_with(path))
            .filter(|(name, _)| matches!(name.get(path.len()), None | Some(b'/')))
            .map(|(name, fresh)| (name.clone(), *fresh))
            .collect();
        names.reverse();
        names
    }

    /// Temporary names of what was there before, and what it was called.
    pub(super) fn moved(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let moved = self.moved.iter();
        moved.map(|(name, was)| (name.as_slice(), was.as_slice()))
    }

    /// The temporary names made by this stream that are still in use.
    pub(super) fn roots(&self) -> Vec<Vec<u8>> {
        let names = self.fresh.keys();
        names
            .filter(|name| !name.contains(&b'/'))
            .cloned()
            .collect()
    }
}

/// The first component, and the rest with its slash.
fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().position(|&byte| byte == b'/');
    path.split_at(slash.unwrap_or(path.len()))
}

/// Whether a path looks like a kernel's temporary name: `oINO-GEN-IDX` in the
/// root.
pub(super) fn is_temporary(path: &[u8]) -> bool {
    let Some(numbers) = path.strip_prefix(b"o") else {
        return false;
    };
    let mut parts = 0;
    let all = numbers.split(|&byte| byte == b'-').all(|part| {
        parts += 1;
        !part.is_empty() && part.iter().all(u8::is_ascii_digit)
    });
    all && parts == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_three_numbers() {
        for (name, temporary) in [
            ("o257-8-0", true),
            ("o257-8", false),
            ("o-257-8", false),
            ("o1-2-3-4", false),
            ("o1-2-3/a", false),
            ("p1-2-3", false),
            ("o1-2-", false),
        ] {
            assert_eq!(is_temporary(name.as_bytes()), temporary, "{name}");
        }
    }

    #[test]
    fn what_a_directory_holds_comes_before_it() {
        let mut names = Names::default();
        for name in ["o1-1-1", "o1-1-1/a", "o1-1-1/a/b", "o1-1-10", "o1-1-1-"] {
            assert!(names.add(name.as_bytes(), Kind::Other));
        }
        let found = names.at_and_below(b"o1-1-1");
        let found: Vec<_> = found.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(found, [&b"o1-1-1/a/b"[..], b"o1-1-1/a", b"o1-1-1"]);
        for name in names.fresh.clone().into_keys() {
            names.remove(&name);
        }
        assert_eq!(names.len, 0);
    }

    #[test]
    fn what_was_moved_keeps_its_origin() {
        let mut names = Names::default();
        assert!(names.add_moved(b"o1-1-1", b"a/b".to_vec()));
        assert_eq!(names.origin(b"o1-1-1/c"), b"a/b/c");
        assert_eq!(names.origin(b"o1-1-1"), b"a/b");
        assert_eq!(names.origin(b"o1-1-10/c"), b"o1-1-10/c");
    }
}
