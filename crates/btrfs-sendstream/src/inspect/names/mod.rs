//! Which names exist: a subvolume without content, from its stream alone.
//!
//! Of a full stream everything is known. Of an incremental one only what the
//! stream tells: a name that it uses without having made it is taken to come
//! from the parent, and from then on is known. What the parent has besides
//! stays open, so that only contradictions count as errors.

mod apply;
mod error;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::StreamPath;
pub use error::NameError;

/// Memory that is left of what was granted.
#[derive(Debug)]
pub(crate) struct Room {
    left: u64,
    limit: u64,
}

impl Room {
    /// Takes some of it, in bytes.
    pub(crate) fn take(&mut self, cost: u64) -> Result<(), NameError> {
        let left = self.left.checked_sub(cost);
        self.left = left.ok_or(NameError::TooMany { limit: self.limit })?;
        Ok(())
    }
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum InodeKind {
    /// Part of the parent; the stream does not tell its kind.
    Unknown,
    /// Part of the parent, and not a directory.
    NoDirectory,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character or block device.
    Device,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
}

impl InodeKind {
    /// Returns its name in lower case, such as `file`, `directory` or `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NoDirectory => "no directory",
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Device => "device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }

    /// Returns whether it is [`Unknown`](Self::Unknown).
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown | Self::NoDirectory)
    }

    /// Whether it may turn out to be a regular file.
    fn may_be_file(self) -> bool {
        matches!(self, Self::Unknown | Self::NoDirectory | Self::File)
    }
}

/// Index of an inode in [`NameTree::inodes`].
pub(crate) type InodeId = u32;

/// The root of the subvolume.
pub(crate) const ROOT: InodeId = 0;

/// In a directory of the parent: a name that is known to be free.
const FREE: InodeId = InodeId::MAX;

/// What a name is reckoned to cost beside its bytes: its entry, the inode,
/// and what allocation wastes.
pub(crate) const NAME_COST: u64 = 160;

/// What a directory costs beside its name.
pub(crate) const DIRECTORY_COST: u64 = 400;

#[derive(Debug)]
pub(crate) struct Inode {
    /// Names it has, as far as they are known.
    links: u32,
    kind: InodeKind,
    /// What was changed about it, as [`Changes`] has it.
    changes: u8,
    directory: Option<Box<Directory>>,
}

#[derive(Debug, Default)]
struct Directory {
    names: BTreeMap<Box<[u8]>, InodeId>,
    /// Names that are not [`FREE`].
    used: u32,
    /// Whether there are no names but these: it was made by the stream.
    complete: bool,
}

/// Where an inode of the parent was found there.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) directory: InodeId,
    pub(crate) name: Box<[u8]>,
}

/// What a stream changed of an inode, except for its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes(u8);

impl Changes {
    pub(crate) const CONTENT: Self = Self(1);
    pub(crate) const SIZE: Self = Self(1 << 1);
    pub(crate) const MODE: Self = Self(1 << 2);
    pub(crate) const OWNER: Self = Self(1 << 3);
    pub(crate) const TIMES: Self = Self(1 << 4);
    pub(crate) const XATTRS: Self = Self(1 << 5);
    pub(crate) const FLAGS: Self = Self(1 << 6);
    pub(crate) const VERITY: Self = Self(1 << 7);

    const NAMES: [&'static str; 8] = [
        "content", "size", "mode", "owner", "times", "xattrs", "flags", "verity",
    ];

    /// Returns whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Returns the names of the changes: `content`, `size` (set by TRUNCATE, perhaps
    /// to the same value), `mode`, `owner`, `times`, `xattrs`, `flags`, `verity`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let bits = self.0;
        let set = move |bit: &usize| bits & (1 << bit) != 0;
        let indices = (0..Self::NAMES.len()).filter(set);
        indices.filter_map(|bit| Self::NAMES.get(bit).copied())
    }
}

/// The names of a subvolume.
///
/// Memory: less than 512 bytes for each name, 1 KiB for each directory, and
/// the bytes of the names; see [`NameTree::used`].
#[derive(Debug)]
pub(crate) struct NameTree {
    inodes: Vec<Inode>,
    /// Places in `inodes` that can be used again.
    unused: Vec<InodeId>,
    /// Where inodes of the parent come from, if that is wanted.
    origins: Option<BTreeMap<InodeId, Origin>>,
    used: u64,
    limit: u64,
    /// The inode that was looked up last: commands on one file come in rows.
    last: Option<(Bytes, InodeId)>,
}

/// What is known of a name in a directory.
enum Child {
    Present(InodeId),
    Absent,
    /// The parent may have it.
    Open,
}

impl NameTree {
    /// The root of a new subvolume (`complete`) or of a snapshot. Gives up
    /// at about `limit` bytes of memory.
    pub(crate) fn new(complete: bool, limit: u64) -> Self {
        let root = Inode {
            links: 1,
            kind: InodeKind::Directory,
            changes: 0,
            directory: Some(Box::new(Directory {
                complete,
                ..Directory::default()
            })),
        };
        Self {
            inodes: vec![root],
            unused: Vec::new(),
            origins: None,
            used: DIRECTORY_COST,
            limit,
            last: None,
        }
    }

    /// Remembers where inodes of the parent come from.
    pub(crate) fn with_origins(mut self) -> Self {
        self.origins = Some(BTreeMap::new());
        self
    }

    /// The memory that names have left over.
    pub(crate) fn room(&self) -> Room {
        Room {
            left: self.limit.saturating_sub(self.used),
            limit: self.limit,
        }
    }

    /// Bytes of memory used, reckoned high.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn kind(&self, id: InodeId) -> InodeKind {
        self.inode(id)
            .map_or(InodeKind::Unknown, |inode| inode.kind)
    }

    /// The number of names it has, as far as they are known.
    pub(crate) fn links(&self, id: InodeId) -> u32 {
        self.inode(id).map_or(0, |inode| inode.links)
    }

    pub(crate) fn changes(&self, id: InodeId) -> Changes {
        Changes(self.inode(id).map_or(0, |inode| inode.changes))
    }

    pub(crate) fn origins(&self) -> impl Iterator<Item = (InodeId, &Origin)> {
        let origins = self.origins.iter().flatten();
        origins.map(|(id, origin)| (*id, origin))
    }

    pub(crate) fn origin(&self, id: InodeId) -> Option<&Origin> {
        self.origins.as_ref()?.get(&id)
    }

    /// The names in a directory that are in use.
    pub(crate) fn names(&self, id: InodeId) -> impl Iterator<Item = (&[u8], InodeId)> {
        let directory = self.directory(id);
        let names = directory.into_iter().flat_map(|it| &it.names);
        names
            .filter(|(_, id)| **id != FREE)
            .map(|(name, id)| (&**name, *id))
    }

    fn inode(&self, id: InodeId) -> Option<&Inode> {
        self.inodes.get(id as usize)
    }

    fn inode_mut(&mut self, id: InodeId) -> Option<&mut Inode> {
        self.inodes.get_mut(id as usize)
    }

    fn directory(&self, id: InodeId) -> Option<&Directory> {
        self.inode(id)?.directory.as_deref()
    }

    fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        self.inode_mut(id)?.directory.as_deref_mut()
    }

    fn child(&self, directory: InodeId, name: &[u8]) -> Child {
        let Some(directory) = self.directory(directory) else {
            return Child::Absent;
        };
        match directory.names.get(name) {
            Some(&FREE) => Child::Absent,
            Some(&id) => Child::Present(id),
            None if directory.complete => Child::Absent,
            None => Child::Open,
        }
    }

    fn charge(&mut self, cost: u64) -> Result<(), NameError> {
        let used = self.used.saturating_add(cost);
        if used > self.limit {
            return Err(NameError::TooMany { limit: self.limit });
        }
        self.used = used;
        Ok(())
    }

    /// A new inode without a name.
    fn add_inode(&mut self, kind: InodeKind, complete: bool) -> Result<InodeId, NameError> {
        let directory = match kind {
            InodeKind::Directory => {
                self.charge(DIRECTORY_COST)?;
                Some(Box::new(Directory {
                    complete,
                    ..Directory::default()
                }))
            }
            _ => None,
        };
        let inode = Inode {
            links: 0,
            kind,
            changes: 0,
            directory,
        };
        if let Some(id) = self.unused.pop()
            && let Some(place) = self.inode_mut(id)
        {
            *place = inode;
            return Ok(id);
        }
        let id = InodeId::try_from(self.inodes.len())
            .ok()
            .filter(|&id| id != FREE)
            .ok_or(NameError::TooMany { limit: self.limit })?;
        self.inodes.push(inode);
        Ok(id)
    }

    fn add_name(&mut self, at: InodeId, name: &[u8], id: InodeId) -> Result<(), NameError> {
        self.charge(NAME_COST + name.len() as u64)?;
        let Some(directory) = self.directory_mut(at) else {
            return Ok(());
        };
        directory.used += 1;
        let old = directory.names.insert(name.into(), id);
        if old.is_some() {
            self.used -= NAME_COST + name.len() as u64;
        }
        if let Some(inode) = self.inode_mut(id) {
            inode.links = inode.links.saturating_add(1);
        }
        self.last = None;
        Ok(())
    }

    /// Takes a name off; the inode stays, if need be without name.
    fn take_name(&mut self, at: InodeId, name: &[u8]) {
        self.last = None;
        let Some(directory) = self.directory_mut(at) else {
            return;
        };
        let id = if directory.complete {
            let id = directory.names.remove(name);
            self.used -= NAME_COST + name.len() as u64;
            id
        } else {
            let slot = directory.names.get_mut(name);
            slot.map(|slot| std::mem::replace(slot, FREE))
        };
        if let Some(directory) = self.directory_mut(at) {
            directory.used = directory.used.saturating_sub(1);
        }
        if let Some(inode) = id.and_then(|id| self.inode_mut(id)) {
            inode.links = inode.links.saturating_sub(1);
        }
    }

    /// Forgets an inode that has no name any more, unless it is to be told
    /// where it came from.
    fn drop_inode(&mut self, id: InodeId) {
        let unnamed = self.inode(id).is_some_and(|inode| inode.links == 0);
        if !unnamed || self.origin(id).is_some() {
            return;
        }
        let mut freed = 0;
        if let Some(inode) = self.inode_mut(id)
            && let Some(directory) = inode.directory.take()
        {
            // Names that were known to be free.
            let names = directory.names.keys();
            freed = names.map(|name| NAME_COST + name.len() as u64).sum();
            freed += DIRECTORY_COST;
        }
        self.used -= freed;
        self.unused.push(id);
    }

    /// Takes note of something that the parent has.
    fn discover(
        &mut self,
        at: InodeId,
        name: &[u8],
        kind: InodeKind,
    ) -> Result<InodeId, NameError> {
        let id = self.add_inode(kind, false)?;
        self.add_name(at, name, id)?;
        if self.origins.is_some() {
            self.charge(NAME_COST + name.len() as u64)?;
        }
        if let Some(origins) = &mut self.origins {
            let name = name.into();
            let origin = Origin {
                directory: at,
                name,
            };
            origins.insert(id, origin);
        }
        Ok(id)
    }

    /// Finds a directory.
    fn find_directory(&mut self, path: StreamPath<&[u8]>) -> Result<InodeId, NameError> {
        let mut here = ROOT;
        let mut seen = 0;
        for component in path.components() {
            seen += component.len() + usize::from(seen > 0);
            let so_far = || Bytes::copy_from_slice(path.as_bytes().get(..seen).unwrap_or_default());
            here = match self.child(here, component) {
                Child::Present(id) => id,
                Child::Absent => return Err(NameError::Missing { path: so_far() }),
                Child::Open => self.discover(here, component, InodeKind::Directory)?,
            };
            if !self.narrow_to_directory(here)? {
                return Err(NameError::NotDirectory {
                    path: so_far(),
                    kind: self.kind(here),
                });
            }
        }
        Ok(here)
    }

    /// Whether an inode is a directory; what may be one is from now on.
    fn narrow_to_directory(&mut self, id: InodeId) -> Result<bool, NameError> {
        match self.kind(id) {
            InodeKind::Directory => return Ok(true),
            InodeKind::Unknown => self.charge(DIRECTORY_COST)?,
            _ => return Ok(false),
        }
        if let Some(inode) = self.inode_mut(id) {
            inode.kind = InodeKind::Directory;
            inode.directory = Some(Box::default());
        }
        Ok(true)
    }

    /// The directory of a path, and its name there.
    fn place<'a>(&mut self, path: &'a StreamPath<&[u8]>) -> Result<(InodeId, &'a [u8]), NameError> {
        let (directory, name) = path.split().ok_or(NameError::Root)?;
        Ok((self.find_directory(directory)?, name))
    }

    /// Finds an inode by one of its names.
    pub(crate) fn find(&mut self, path: &StreamPath<&[u8]>) -> Result<InodeId, NameError> {
        if path.is_root() {
            return Ok(ROOT);
        }
        if let Some((last, id)) = &self.last
            && last == path.as_bytes()
        {
            return Ok(*id);
        }
        let (directory, name) = self.place(path)?;
        let id = match self.child(directory, name) {
            Child::Present(id) => id,
            Child::Absent => {
                let path = Bytes::copy_from_slice(path.as_bytes());
                return Err(NameError::Missing { path });
            }
            Child::Open => self.discover(directory, name, InodeKind::Unknown)?,
        };
        self.last = Some((Bytes::copy_from_slice(path.as_bytes()), id));
        Ok(id)
    }
}

/// The words of [`Changes::names`] with spaces between.
#[cfg(feature = "serde")]
impl serde::Serialize for Changes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names: Vec<_> = self.names().collect();
        serializer.serialize_str(&names.join(" "))
    }
}
