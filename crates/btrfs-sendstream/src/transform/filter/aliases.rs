//! Names that are left out, of files that are kept under another.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Position;

/// A name that is left out.
#[derive(Debug)]
struct Alias {
    /// The name that is kept.
    kept: Vec<u8>,
    /// Set if the file must lose that name before the subvolume ends: the
    /// LINK's place.
    owed: Option<Position>,
}

/// Names that are left out, of files that are kept under another.
///
/// While both exist, the stream may change the file under either. Kernels
/// take the first name, which for a new file is the one it was created with;
/// the first name of an older file may be the new one from now on, without a
/// word in later streams.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    aliases: BTreeMap<Vec<u8>, Alias>,
    /// The names that are kept, each with one that is left out.
    kept: BTreeSet<(Vec<u8>, Vec<u8>)>,
    len: usize,
}

impl Aliases {
    /// Remembers a name, and returns how many bytes that makes.
    pub(super) fn add(&mut self, path: &[u8], kept: &[u8], owed: Option<Position>) -> usize {
        self.remove(path);
        self.len += 2 * (path.len() + kept.len());
        self.kept.insert((kept.to_vec(), path.to_vec()));
        let kept = kept.to_vec();
        self.aliases.insert(path.to_vec(), Alias { kept, owed });
        self.len
    }

    /// The name under which this one's file is kept.
    pub(super) fn kept_as(&self, path: &[u8]) -> Option<&[u8]> {
        self.aliases.get(path).map(|alias| alias.kept.as_slice())
    }

    /// One that lies below a directory.
    pub(super) fn below(&self, path: &[u8]) -> Option<&[u8]> {
        let prefix = [path, b"/"].concat();
        let (name, alias) = self.aliases.range(prefix.clone()..).next()?;
        name.starts_with(&prefix).then_some(alias.kept.as_slice())
    }

    /// A name is gone: that of an alias, or that under which one is kept.
    pub(super) fn remove(&mut self, path: &[u8]) {
        self.forget(path);
        let first = (path.to_vec(), Vec::new());
        let gone = self
            .kept
            .range(first..)
            .take_while(|(kept, _)| kept == path);
        let gone: Vec<_> = gone.map(|(_, alias)| alias.clone()).collect();
        for alias in gone {
            self.forget(&alias);
        }
    }

    /// What is kept, and what lies below it, has another name now; whatever
    /// had that name is gone.
    pub(super) fn renamed(&mut self, from: &[u8], to: &[u8]) {
        if from == to {
            return;
        }
        self.remove(to);
        let below = |kept: &[u8]| {
            let rest = kept.strip_prefix(from)?;
            matches!(rest.first(), None | Some(b'/')).then(|| [to, rest].concat())
        };
        let first = (from.to_vec(), Vec::new());
        let concerned: Vec<_> = self
            .kept
            .range(first..)
            .take_while(|(kept, _)| kept.starts_with(from))
            .filter_map(|(kept, alias)| Some((alias.clone(), below(kept)?)))
            .collect();
        for (alias, kept) in concerned {
            let owed = self.aliases.get(&alias).and_then(|alias| alias.owed);
            self.add(&alias, &kept, owed);
        }
    }

    /// A file that should have lost its kept name and has not: both names,
    /// and where the second was given.
    pub(super) fn owed(&self) -> Option<(&[u8], &[u8], Position)> {
        self.aliases
            .iter()
            .find_map(|(path, alias)| Some((path.as_slice(), alias.kept.as_slice(), alias.owed?)))
    }

    fn forget(&mut self, path: &[u8]) {
        if let Some(alias) = self.aliases.remove(path) {
            self.len -= 2 * (path.len() + alias.kept.len());
            self.kept.remove(&(alias.kept, path.to_vec()));
        }
    }
}
