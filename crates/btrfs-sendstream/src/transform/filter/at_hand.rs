//! The file that the stream gave its last further names.

use std::collections::BTreeSet;

/// The names of the file that was linked last, so far as they are kept.
///
/// A kernel sends all that concerns one inode before it comes to the next:
/// first its names, then, under the one that it takes for the first, its data
/// and metadata, the times at least.
#[derive(Debug, Default)]
pub(super) struct AtHand {
    names: BTreeSet<Vec<u8>>,
    /// Nothing but names was sent for it yet.
    waiting: bool,
}

impl AtHand {
    /// A name that is kept is given to a file that is kept. `old`: the file
    /// may have names that the stream does not tell.
    pub(super) fn linked(&mut self, path: &[u8], existing: &[u8], old: bool) {
        if !self.names.contains(existing) {
            self.names = BTreeSet::from([existing.to_vec()]);
            self.waiting = old;
        }
        self.names.insert(path.to_vec());
    }

    /// A name is gone.
    pub(super) fn removed(&mut self, path: &[u8]) {
        self.names.remove(path);
    }

    /// Something gets another name: where that takes names of the file along,
    /// they are known no more.
    pub(super) fn renamed(&mut self, from: &[u8]) {
        let moves = |name: &Vec<u8>| {
            let rest = name.strip_prefix(from);
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        if self.names.iter().any(moves) {
            *self = Self::default();
        }
    }

    /// The names of the same file as this one, and this one.
    pub(super) fn names_of(&self, path: &[u8]) -> BTreeSet<Vec<u8>> {
        if self.names.contains(path) {
            self.names.clone()
        } else {
            BTreeSet::from([path.to_vec()])
        }
    }

    /// Something is changed under this name.
    pub(super) fn changed(&mut self, path: &[u8]) {
        if self.names.contains(path) {
            self.waiting = false;
        }
    }

    /// The file that a change under a name that is excluded must be for: the
    /// file at hand, if nothing was sent under a name that is kept.
    pub(super) fn expected(&self) -> Option<&[u8]> {
        let name = self.names.first().filter(|_| self.waiting)?;
        Some(name.as_slice())
    }
}
