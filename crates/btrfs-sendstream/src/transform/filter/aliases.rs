//! Names that are excluded, of files that are kept under another.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Position;

/// A name that is excluded.
#[derive(Debug, Default)]
struct Alias {
    /// The names of the file that are kept, as far as the stream tells. Never
    /// empty.
    kept: BTreeSet<Vec<u8>>,
    /// Set if the file must lose these names before the subvolume ends: the
    /// LINK's place.
    owed: Option<Position>,
}

/// Names that are excluded, of files that are kept under another.
///
/// While both exist, the stream may change the file under either. Kernels
/// take the first name, which for a new file is the one it was created with;
/// the first name of an older file may be the new one from now on, without a
/// word in later streams.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    aliases: BTreeMap<Vec<u8>, Alias>,
    /// The names that are kept, each with one that is excluded.
    kept: BTreeSet<(Vec<u8>, Vec<u8>)>,
    len: usize,
}

impl Aliases {
    /// Remembers a name that is excluded, of a file with these names that are
    /// kept.
    pub(super) fn add<'a>(
        &mut self,
        path: &[u8],
        kept: impl IntoIterator<Item = &'a [u8]>,
        owed: Option<Position>,
    ) {
        self.remove(path);
        for kept in kept {
            self.pair(path, kept);
        }
        if let Some(alias) = self.aliases.get_mut(path) {
            alias.owed = owed;
        }
    }

    /// A file gets a further name that is kept.
    pub(super) fn linked(&mut self, path: &[u8], existing: &[u8]) {
        for alias in self.of(existing) {
            self.pair(&alias, path);
        }
    }

    /// Bytes of all these names.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A name under which this one's file is kept.
    pub(super) fn kept_as(&self, path: &[u8]) -> Option<&[u8]> {
        let alias = self.aliases.get(path)?;
        alias.kept.first().map(Vec::as_slice)
    }

    /// All of them.
    pub(super) fn all_kept(&self, path: &[u8]) -> BTreeSet<Vec<u8>> {
        let alias = self.aliases.get(path);
        alias.map(|alias| alias.kept.clone()).unwrap_or_default()
    }

    /// One that lies below a directory.
    pub(super) fn below(&self, path: &[u8]) -> Option<&[u8]> {
        let prefix = [path, b"/"].concat();
        let (name, alias) = self.aliases.range(prefix.clone()..).next()?;
        let kept = alias.kept.first()?;
        name.starts_with(&prefix).then_some(kept.as_slice())
    }

    /// A name is gone: that of an alias, or that under which one is kept.
    pub(super) fn remove(&mut self, path: &[u8]) {
        for kept in self.all_kept(path) {
            self.part(path, &kept);
        }
        for alias in self.of(path) {
            self.part(&alias, path);
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
            .filter_map(|(kept, alias)| Some((alias.clone(), kept.clone(), below(kept)?)))
            .collect();
        for (alias, was, kept) in concerned {
            // First the new one: an alias without any is forgotten.
            self.pair(&alias, &kept);
            self.part(&alias, &was);
        }
    }

    /// A file that should have lost its kept name and has not: both names,
    /// and where the second was given.
    pub(super) fn owed(&self) -> Option<(&[u8], &[u8], Position)> {
        self.aliases.iter().find_map(|(path, alias)| {
            let kept = alias.kept.first()?;
            Some((path.as_slice(), kept.as_slice(), alias.owed?))
        })
    }

    /// The names that are excluded of a file that is kept as `kept`.
    fn of(&self, kept: &[u8]) -> Vec<Vec<u8>> {
        let first = (kept.to_vec(), Vec::new());
        let pairs = self.kept.range(first..);
        pairs
            .take_while(|(name, _)| name == kept)
            .map(|(_, alias)| alias.clone())
            .collect()
    }

    fn pair(&mut self, alias: &[u8], kept: &[u8]) {
        let names = &mut self.aliases.entry(alias.to_vec()).or_default().kept;
        if names.insert(kept.to_vec()) {
            self.kept.insert((kept.to_vec(), alias.to_vec()));
            self.len += 2 * (alias.len() + kept.len());
        }
    }

    fn part(&mut self, alias: &[u8], kept: &[u8]) {
        let Some(names) = self.aliases.get_mut(alias).map(|alias| &mut alias.kept) else {
            return;
        };
        if names.remove(kept) {
            self.len -= 2 * (alias.len() + kept.len());
            self.kept.remove(&(kept.to_vec(), alias.to_vec()));
        }
        if names.is_empty() {
            self.aliases.remove(alias);
        }
    }
}
