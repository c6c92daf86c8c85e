//! What the parent has under the names of the stream.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;

use super::sizes::Size;
use crate::command::{Command, StreamPath};
use crate::error::Position;
use crate::transform::{TransformError, TransformErrorKind};

/// Bytes that names and sizes take at most.
const MAX_LEN: usize = 32 * 1024 * 1024;

/// What a name or a size costs beside its bytes.
const COST: usize = 64;

/// A file or directory in the parent of an incremental stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentEntry {
    /// Its inode number.
    pub inode: u64,
    /// Its size in bytes, if it is a regular file.
    pub size: u64,
}

pub(super) type LookUp =
    Box<dyn FnMut(&StreamPath) -> io::Result<Option<ParentEntry>> + Send + 'static>;

/// Where a name of the subvolume under construction leads.
#[derive(Clone, Debug)]
enum Origin {
    /// To what the parent has under this path.
    Parent(Vec<u8>),
    /// To nothing in the parent.
    New,
}

/// The parent, as far as this stream has not changed it yet.
///
/// Only names that lead elsewhere than in the parent are remembered, and only
/// sizes that are not as they were there.
pub(super) struct Parent {
    look_up: LookUp,
    names: BTreeMap<Vec<u8>, Origin>,
    /// By inode number.
    sizes: HashMap<u64, Size>,
    /// Bytes in `names`.
    len: usize,
    subvolumes: u64,
    /// The stream is on top of this parent, and everything could be
    /// remembered.
    usable: bool,
}

impl fmt::Debug for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parent")
            .field("names", &self.names)
            .field("sizes", &self.sizes)
            .field("usable", &self.usable)
            .finish_non_exhaustive()
    }
}

impl Parent {
    pub(super) fn new(look_up: LookUp) -> Self {
        Self {
            look_up,
            names: BTreeMap::new(),
            sizes: HashMap::new(),
            len: 0,
            subvolumes: 0,
            usable: false,
        }
    }

    /// Begins with another subvolume.
    pub(super) fn begin(&mut self, incremental: bool) {
        self.give_up();
        // What is on top of the second subvolume is not this one.
        self.usable = incremental && self.subvolumes == 0;
        self.subvolumes += 1;
    }

    /// Follows a command that changes names.
    ///
    /// # Errors
    /// The parent cannot be read.
    pub(super) fn command(
        &mut self,
        command: &Command,
        at: Position,
    ) -> Result<(), TransformError> {
        let failed = |error: io::Error| TransformErrorKind::Other(error.into()).at(at);
        if !self.usable {
            return Ok(());
        }
        match command {
            Command::Rename { path, to } if path != to => self.rename(path, to).map_err(failed),
            Command::Link { path, existing } => self.link(path, existing).map_err(failed),
            Command::Mkfile { path, .. }
            | Command::Mkdir { path, .. }
            | Command::Mknod { path, .. }
            | Command::Mkfifo { path, .. }
            | Command::Mksock { path, .. }
            | Command::Symlink { path, .. }
            | Command::Unlink { path }
            | Command::Rmdir { path } => self.is_new(path.as_bytes()).map_err(failed),
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Rename { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Write { .. }
            | Command::Clone(_)
            | Command::EncodedWrite(_)
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Utimes { .. }
            | Command::UpdateExtent { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. }
            | Command::EnableVerity(_)
            | Command::End => Ok(()),
        }
    }

    /// The inode of an existing file, and what is known about its length.
    ///
    /// # Errors
    /// The parent cannot be read.
    pub(super) fn file(&mut self, path: &StreamPath) -> io::Result<Option<(u64, Size)>> {
        let Some(entry) = self.entry(path.as_bytes())? else {
            return Ok(None);
        };
        let size = self.sizes.get(&entry.inode).copied();
        let size = size.unwrap_or(Size::exactly(entry.size));
        Ok(Some((entry.inode, size)))
    }

    /// A file has another length than before.
    pub(super) fn set_size(&mut self, inode: u64, size: Size) {
        self.sizes.insert(inode, size);
        self.check_bounds();
    }

    /// What the parent has under a name, wherever that leads.
    fn entry(&mut self, path: &[u8]) -> io::Result<Option<ParentEntry>> {
        match self.origin(path) {
            Some(origin) => self.in_parent(origin),
            None => Ok(None),
        }
    }

    fn in_parent(&mut self, path: Vec<u8>) -> io::Result<Option<ParentEntry>> {
        match StreamPath::parse(path.into()) {
            Ok(path) => (self.look_up)(&path),
            // Put together of two paths, it can be too long for one.
            Err(_) => Ok(None),
        }
    }

    /// The path in the parent that a name leads to.
    fn origin(&self, path: &[u8]) -> Option<Vec<u8>> {
        if !self.usable {
            return None;
        }
        let slashes = path
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'/');
        let ends = std::iter::once(path.len()).chain(slashes.map(|(index, _)| index));
        for end in ends {
            let (above, rest) = path.split_at(end);
            match self.names.get(above) {
                Some(Origin::Parent(was)) => return Some([was.as_slice(), rest].concat()),
                Some(Origin::New) => return None,
                None => {}
            }
        }
        Some(path.to_vec())
    }

    fn rename(&mut self, from: &StreamPath, to: &StreamPath) -> io::Result<()> {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let origin = self.existing_origin(from)?;
        let below = self.remove(from);
        self.is_new(to)?;
        if let Some(origin) = origin {
            self.insert(to.to_vec(), Origin::Parent(origin));
        }
        for (rest, origin) in below {
            self.insert([to, &rest].concat(), origin);
        }
        self.is_new(from)
    }

    fn link(&mut self, path: &StreamPath, existing: &StreamPath) -> io::Result<()> {
        let origin = self.existing_origin(existing.as_bytes())?;
        self.is_new(path.as_bytes())?;
        if let Some(origin) = origin {
            self.insert(path.as_bytes().to_vec(), Origin::Parent(origin));
        }
        Ok(())
    }

    /// As [`origin`](Self::origin), if something is there.
    fn existing_origin(&mut self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(origin) = self.origin(path) else {
            return Ok(None);
        };
        let entry = self.in_parent(origin.clone())?;
        Ok(entry.map(|_| origin))
    }

    /// A name leads to nothing in the parent, nor does any below it.
    fn is_new(&mut self, path: &[u8]) -> io::Result<()> {
        self.remove(path);
        if self.entry(path)?.is_some() {
            self.insert(path.to_vec(), Origin::New);
        }
        Ok(())
    }

    fn insert(&mut self, path: Vec<u8>, origin: Origin) {
        self.len += cost(&path, &origin);
        if let Some(before) = self.names.get(&path) {
            self.len -= cost(&path, before);
        }
        self.names.insert(path, origin);
        self.check_bounds();
    }

    /// Forgets a name and those below it, and returns these, without the path.
    fn remove(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Origin)> {
        let from = [path, b"/"].concat();
        let mut keys: Vec<Vec<u8>> = self
            .names
            .range(from.clone()..)
            .map(|(name, _)| name.clone())
            .take_while(|name| name.starts_with(&from))
            .collect();
        keys.push(path.to_vec());
        let mut below = Vec::new();
        for key in keys {
            let Some(origin) = self.names.remove(&key) else {
                continue;
            };
            self.len -= cost(&key, &origin);
            if let Some(rest) = key.get(path.len()..)
                && !rest.is_empty()
            {
                below.push((rest.to_vec(), origin));
            }
        }
        below
    }

    fn check_bounds(&mut self) {
        if self.len + self.sizes.len() * COST > MAX_LEN {
            self.give_up();
        }
    }

    /// Nothing is known from here on.
    fn give_up(&mut self) {
        self.usable = false;
        self.names.clear();
        self.sizes.clear();
        self.len = 0;
    }
}

fn cost(path: &[u8], origin: &Origin) -> usize {
    let origin = match origin {
        Origin::Parent(was) => was.len(),
        Origin::New => 0,
    };
    path.len() + origin + COST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> StreamPath {
        StreamPath::parse(text.to_owned().into()).unwrap()
    }

    /// A parent with these files, of as many bytes as their place says.
    fn parent(files: &'static [&'static str]) -> Parent {
        let mut parent = Parent::new(Box::new(move |path| {
            let is = |file: &str| {
                StreamPath::parse(file.as_bytes())
                    .unwrap()
                    .starts_with(path)
            };
            let found = files.iter().position(|file| is(file));
            Ok(found.map(|index| ParentEntry {
                inode: index as u64,
                size: index as u64,
            }))
        }));
        parent.usable = true;
        parent
    }

    fn size(parent: &mut Parent, at: &str) -> Option<u64> {
        let file = parent.file(&path(at)).unwrap();
        file.map(|(_, size)| size.at_least)
    }

    fn rename(parent: &mut Parent, from: &str, to: &str) {
        let (path, to) = (path(from), path(to));
        let command = Command::Rename { path, to };
        parent.command(&command, Position::default()).unwrap();
    }

    fn unlink(parent: &mut Parent, at: &str) {
        let command = Command::Unlink { path: path(at) };
        parent.command(&command, Position::default()).unwrap();
    }

    #[test]
    fn names_lead_to_what_they_were() {
        let mut parent = parent(&["a/x", "a/y", "b/x", "c"]);
        assert_eq!(size(&mut parent, "a/y"), Some(1));
        // Directories that change places.
        rename(&mut parent, "a", "o1-1-0");
        rename(&mut parent, "b", "a");
        rename(&mut parent, "a/x", "a/z");
        rename(&mut parent, "o1-1-0", "b");
        assert_eq!(size(&mut parent, "b/y"), Some(1));
        assert_eq!(size(&mut parent, "a/z"), Some(2));
        assert_eq!(size(&mut parent, "a/x"), None);
        assert_eq!(size(&mut parent, "a/y"), None);
        // What is inside goes along.
        rename(&mut parent, "a", "d");
        assert_eq!(size(&mut parent, "d/z"), Some(2));
        assert_eq!(size(&mut parent, "a/z"), None);
        rename(&mut parent, "d", "a");
        rename(&mut parent, "a/z", "a/x");
        assert_eq!(size(&mut parent, "a/x"), Some(2));
        // What is new under an old name is not the old one.
        unlink(&mut parent, "c");
        rename(&mut parent, "new", "c");
        assert_eq!(size(&mut parent, "c"), None);
        let link = Command::Link {
            path: path("e"),
            existing: path("b/y"),
        };
        parent.command(&link, Position::default()).unwrap();
        unlink(&mut parent, "b/y");
        assert_eq!(size(&mut parent, "e"), Some(1));
        parent.set_size(1, Size::exactly(100));
        assert_eq!(size(&mut parent, "e"), Some(100));
        let left: usize = parent
            .names
            .iter()
            .map(|(name, origin)| cost(name, origin))
            .sum();
        assert_eq!(parent.len, left);
    }

    #[test]
    fn too_many_names_are_given_up() {
        let mut parent = parent(&["a"]);
        let long = "n".repeat(4000);
        for number in 0..10_000 {
            let link = Command::Link {
                path: path(&format!("{number}{long}")),
                existing: path("a"),
            };
            parent.command(&link, Position::default()).unwrap();
        }
        assert!(!parent.usable && parent.names.is_empty());
        assert_eq!(size(&mut parent, "a"), None);
    }
}
