//! Names that are not where they will stay.
//!
//! A kernel creates each inode under a temporary name in the root, `o257-8-0`,
//! and gives it its place afterwards: at once, or, for a directory whose
//! parent comes later, after things were made inside it. A directory that is
//! to be removed gets such a name too. No rule of a filter speaks of these
//! names, so it is remembered what is behind each.

use std::collections::BTreeMap;

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

#[derive(Debug, Default)]
pub(super) struct Names {
    /// Temporary names made by this stream, and every name below them.
    fresh: BTreeMap<Vec<u8>, Kind>,
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
        self.fresh.get(path).copied()
    }

    /// Remembers a fresh name, and forgets what had it before. `false`: there
    /// are too many.
    #[must_use]
    pub(super) fn add(&mut self, path: &[u8], kind: Kind) -> bool {
        self.remove(path);
        self.fresh.insert(path.to_vec(), kind);
        self.len += path.len() + COST;
        self.len <= MAX_LEN
    }

    /// Remembers that what was there before has a temporary name now, and
    /// forgets what had it before. `false`: there are too many.
    #[must_use]
    pub(super) fn add_moved(&mut self, path: &[u8], was: Vec<u8>) -> bool {
        self.remove(path);
        self.len += path.len() + was.len() + COST;
        self.moved.insert(path.to_vec(), was);
        self.len <= MAX_LEN
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
    pub(super) fn at_and_below(&self, path: &[u8]) -> Vec<(Vec<u8>, Kind)> {
        let names = self.fresh.range(path.to_vec()..);
        let mut names: Vec<_> = names
            .take_while(|(name, _)| name.starts_with(path))
            .filter(|(name, _)| matches!(name.get(path.len()), None | Some(b'/')))
            .map(|(name, kind)| (name.clone(), *kind))
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
