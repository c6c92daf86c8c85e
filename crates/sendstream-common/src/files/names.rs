//! The names of a subvolume, now and at the end of each earlier subvolume of its chain.
//!
//! A CLONE may read a file of an earlier subvolume, under the name that it had there.
//! So a name that changes does not replace what it referred to, unless that was in the
//! same subvolume. [`Tree`](btrfs_sendstream::inspect::Tree) has seen each command
//! before, so that none of them contradicts the names here.

use std::collections::BTreeMap;

use btrfs_sendstream::StreamPath;
use btrfs_sendstream::inspect::InodeKind;

use super::memory::{Memory, OutOfMemory};

/// An inode. Numbers are never used again.
pub type Node = u32;

/// Number of a subvolume in the chain, from 0.
pub(super) type State = u32;

/// The root of the subvolume.
pub(super) const ROOT: Node = 0;

/// In [`Versions`]: the name does not exist.
const NONE: Node = Node::MAX;

/// What an inode and a name are reckoned to cost, besides the bytes of the name.
const NODE_COST: u64 = 128;
const NAME_COST: u64 = 192;
const VERSION_COST: u64 = 16;

/// What a command created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A device node.
    Device {
        /// Mode with type bits, as in the stream.
        mode: u64,
        /// Device number, as in the stream.
        rdev: u64,
    },
    /// A FIFO, with the mode in the stream.
    Fifo(u64),
    /// A socket, with the mode in the stream.
    Socket(u64),
}

impl Made {
    /// The kind of file.
    pub fn kind(&self) -> InodeKind {
        match self {
            Self::File => InodeKind::File,
            Self::Directory => InodeKind::Directory,
            Self::Symlink(_) => InodeKind::Symlink,
            Self::Device { .. } => InodeKind::Device,
            Self::Fifo(_) => InodeKind::Fifo,
            Self::Socket(_) => InodeKind::Socket,
        }
    }
}

/// The inode that a name referred to, from a subvolume on: in the order of the chain, and
/// never twice the same in a row.
type Versions = Vec<(State, Node)>;

#[derive(Debug)]
struct Inode {
    made: Made,
    names: BTreeMap<Box<[u8]>, Versions>,
    /// The size of a file, from a subvolume on.
    sizes: Vec<(State, u64)>,
}

impl Inode {
    fn new(made: Made) -> Self {
        Self {
            made,
            names: BTreeMap::new(),
            sizes: Vec::new(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Names {
    inodes: Vec<Inode>,
    /// The subvolume that commands change.
    now: State,
    /// What was found last: commands on one file come in rows.
    last: Option<(Vec<u8>, Node)>,
}

/// How far a path leads.
pub(super) enum Found<'a> {
    Node(Node),
    /// The first `len` bytes of the path lead to `there`, which has no such name or is
    /// no directory.
    Stops {
        len: usize,
        there: &'a Made,
    },
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            inodes: vec![Inode::new(Made::Directory)],
            now: 0,
            last: None,
        }
    }

    /// Commands change the next subvolume from here on.
    pub(super) fn begin(&mut self, state: State) {
        self.now = state;
    }

    pub(super) fn made(&self, node: Node) -> Option<&Made> {
        Some(&self.inode(node)?.made)
    }

    fn inode(&self, node: Node) -> Option<&Inode> {
        self.inodes.get(usize::try_from(node).ok()?)
    }

    fn inode_mut(&mut self, node: Node) -> Option<&mut Inode> {
        self.inodes.get_mut(usize::try_from(node).ok()?)
    }

    /// The size of a file at the end of a subvolume, or now.
    pub(super) fn size(&self, node: Node, state: State) -> u64 {
        let sizes = self.inode(node).map_or(&[][..], |inode| &inode.sizes);
        at(sizes, state).unwrap_or_default()
    }

    /// The size of a file now.
    pub(super) fn size_now(&self, node: Node) -> u64 {
        self.size(node, self.now)
    }

    pub(super) fn set_size(
        &mut self,
        node: Node,
        size: u64,
        memory: &mut Memory,
    ) -> Result<(), OutOfMemory> {
        let now = self.now;
        if let Some(inode) = self.inode_mut(node) {
            match inode.sizes.last_mut() {
                Some((_, old)) if *old == size => {}
                Some((state, old)) if *state == now => *old = size,
                _ => {
                    memory.take(VERSION_COST)?;
                    inode.sizes.push((now, size));
                }
            }
        }
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        path: &StreamPath<&[u8]>,
        made: Made,
        memory: &mut Memory,
    ) -> Result<Node, OutOfMemory> {
        let target = match &made {
            Made::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        memory.take(NODE_COST + target)?;
        // No inode has the number of NONE: memory ends long before.
        let node = Node::try_from(self.inodes.len()).unwrap_or(NONE);
        self.inodes.push(Inode::new(made));
        self.set(path, node, memory)?;
        Ok(node)
    }

    pub(super) fn link(
        &mut self,
        path: &StreamPath<&[u8]>,
        existing: &StreamPath<&[u8]>,
        memory: &mut Memory,
    ) -> Result<(), OutOfMemory> {
        match self.find_now(existing) {
            Some(node) => self.set(path, node, memory),
            None => Ok(()),
        }
    }

    pub(super) fn remove(
        &mut self,
        path: &StreamPath<&[u8]>,
        memory: &mut Memory,
    ) -> Result<(), OutOfMemory> {
        self.set(path, NONE, memory)
    }

    /// As rename(2): replaces what has the new name, and leaves two names of one file as
    /// they are.
    pub(super) fn rename(
        &mut self,
        path: &StreamPath<&[u8]>,
        to: &StreamPath<&[u8]>,
        memory: &mut Memory,
    ) -> Result<(), OutOfMemory> {
        let Some(node) = self.find_now(path) else {
            return Ok(());
        };
        if self.find_now(to) == Some(node) {
            return Ok(());
        }
        self.set(to, node, memory)?;
        self.set(path, NONE, memory)
    }

    /// Sets what a name refers to.
    fn set(
        &mut self,
        path: &StreamPath<&[u8]>,
        node: Node,
        memory: &mut Memory,
    ) -> Result<(), OutOfMemory> {
        self.last = None;
        let now = self.now;
        let Some((directory, name)) = path.split() else {
            return Ok(());
        };
        let Some(directory) = self
            .find_now(&directory)
            .and_then(|directory| self.inode_mut(directory))
        else {
            return Ok(());
        };
        if !directory.names.contains_key(name) {
            memory.take(NAME_COST + name.len() as u64)?;
            directory.names.insert(name.into(), Versions::new());
        }
        let Some(versions) = directory.names.get_mut(name) else {
            return Ok(());
        };
        if versions.last().is_some_and(|(state, _)| *state == now) {
            versions.pop();
            memory.give(VERSION_COST);
        }
        if versions.last().map_or(NONE, |(_, node)| *node) != node {
            memory.take(VERSION_COST)?;
            versions.push((now, node));
        }
        if versions.is_empty() {
            directory.names.remove(name);
            memory.give(NAME_COST + name.len() as u64);
        }
        Ok(())
    }

    /// What a path refers to now.
    pub(super) fn find_now(&self, path: &StreamPath<&[u8]>) -> Option<Node> {
        self.find_at(path, self.now)
    }

    /// The same for a command that changes an inode.
    pub(super) fn find_again(&mut self, path: &StreamPath<&[u8]>) -> Option<Node> {
        if let Some((last, node)) = &self.last
            && last == path.as_bytes()
        {
            return Some(*node);
        }
        let node = self.find_now(path)?;
        let (last, found) = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(path.as_bytes());
        *found = node;
        Some(node)
    }

    /// What a path referred to at the end of a subvolume, or now.
    pub(super) fn find_at(&self, path: &StreamPath<&[u8]>, state: State) -> Option<Node> {
        match self.follow(path, state) {
            Found::Node(node) => Some(node),
            Found::Stops { .. } => None,
        }
    }

    pub(super) fn follow(&self, path: &StreamPath<&[u8]>, state: State) -> Found<'_> {
        let (mut here, mut seen) = (ROOT, 0);
        for name in path.components() {
            match self.child(here, name, state) {
                Some(node) => here = node,
                None => {
                    let there = self.made(here).unwrap_or(&Made::Directory);
                    return Found::Stops { len: seen, there };
                }
            }
            seen += name.len() + usize::from(seen > 0);
        }
        Found::Node(here)
    }

    fn child(&self, directory: Node, name: &[u8], state: State) -> Option<Node> {
        at(self.inode(directory)?.names.get(name)?, state).filter(|node| *node != NONE)
    }

    /// The names that a directory has now.
    pub(super) fn children(&self, directory: Node) -> impl Iterator<Item = (&[u8], Node)> {
        let names = self.inode(directory).into_iter().flat_map(|it| &it.names);
        names.filter_map(|(name, versions)| {
            let (_, node) = versions.last().filter(|(_, node)| *node != NONE)?;
            Some((&**name, *node))
        })
    }
}

/// The version of a state: the last that is not of a later one.
fn at<T: Copy>(versions: &[(State, T)], state: State) -> Option<T> {
    let later = versions.partition_point(|(from, _)| *from <= state);
    let (_, value) = versions.get(later.checked_sub(1)?)?;
    Some(*value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> StreamPath<&[u8]> {
        StreamPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn earlier_names_are_still_there() {
        let (mut names, mut memory) = (Names::new(), Memory::new(1 << 20));
        let memory = &mut memory;
        let directory = names.create(&path("d"), Made::Directory, memory).unwrap();
        let file = names.create(&path("d/f"), Made::File, memory).unwrap();
        names.set_size(file, 5, memory).unwrap();
        names.begin(1);
        names.rename(&path("d"), &path("e"), memory).unwrap();
        names.remove(&path("e/f"), memory).unwrap();
        let other = names.create(&path("e/f"), Made::File, memory).unwrap();
        names.set_size(file, 9, memory).unwrap();
        names.begin(2);
        names.remove(&path("e/f"), memory).unwrap();
        for (at, state, expected) in [
            ("d/f", 0, Some(file)),
            ("e/f", 0, None),
            ("d", 1, None),
            ("e", 1, Some(directory)),
            ("e/f", 1, Some(other)),
            ("e/f", 2, None),
        ] {
            assert_eq!(names.find_at(&path(at), state), expected, "{at} in {state}");
        }
        assert_eq!((names.size(file, 0), names.size(file, 2)), (5, 9));
    }

    /// What came and went in one subvolume leaves nothing.
    #[test]
    fn temporary_names_take_no_memory() {
        let (mut names, mut memory) = (Names::new(), Memory::new(1 << 20));
        names.create(&path("f"), Made::File, &mut memory).unwrap();
        let before = memory.left();
        for _ in 0..100 {
            names.rename(&path("f"), &path("g"), &mut memory).unwrap();
            names.rename(&path("g"), &path("f"), &mut memory).unwrap();
            names.link(&path("h"), &path("f"), &mut memory).unwrap();
            names.rename(&path("h"), &path("f"), &mut memory).unwrap();
            names.remove(&path("h"), &mut memory).unwrap();
        }
        assert_eq!(memory.left(), before);
    }
}
