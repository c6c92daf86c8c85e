//! Directories on their way to a digest.

use std::sync::{Arc, Mutex};

use rustix::fs::FileType;

use super::document::TreeEntry;
use super::record::{Record, Recorded};
use super::sha::Sha;

/// A directory whose digest is not complete.
pub(super) struct Node {
    /// The directory that holds it, and its number there; none for the root.
    pub(super) parent: Option<(Arc<Node>, usize)>,
    /// Bytes in its path.
    pub(super) path_len: usize,
    pub(super) names: Vec<Entry>,
    pub(super) state: Mutex<NodeState>,
}

/// A name in a directory.
pub(super) struct Entry {
    pub(super) name: Box<[u8]>,
    pub(super) inode: u64,
    pub(super) kind: FileType,
}

pub(super) struct NodeState {
    pub(super) slots: Vec<Slot>,
    /// How many are pending.
    pub(super) pending: usize,
    pub(super) record: Option<Record>,
}

/// What became of a name.
pub(super) enum Slot {
    Pending,
    /// A nested subvolume, which is not sent.
    Nested,
    Inode {
        sha256: Sha,
        /// The number of the inode, if it has several names.
        linked: Option<u64>,
        entry: Option<Box<TreeEntry>>,
    },
    Directory(Box<Subtree>),
}

/// A directory that is complete.
pub(super) struct Subtree {
    pub(super) sha256: Sha,
    /// Names in the directory itself.
    pub(super) names: usize,
    /// Subvolumes there.
    pub(super) nested: usize,
    /// The inode of each name in it, in order, whose inode has several.
    pub(super) links: Vec<u64>,
    /// Everything in it, and itself first. Their paths have to be completed.
    pub(super) tree: Vec<TreeEntry>,
}

impl Node {
    pub(super) fn path_of(&self, index: usize) -> Vec<u8> {
        let mut names = vec![self.name(index)];
        let mut node = self;
        while let Some((parent, index)) = &node.parent {
            names.push(parent.name(*index));
            node = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    pub(super) fn name(&self, index: usize) -> &[u8] {
        self.names.get(index).map_or(b"", |entry| &entry.name)
    }

    /// Hashes a directory all of whose names are complete.
    pub(super) fn complete(&self, record: Record, slots: Vec<Slot>) -> Subtree {
        let sent = slots.iter().zip(&self.names).filter_map(|(slot, entry)| {
            let sha256 = match slot {
                Slot::Pending | Slot::Nested => return None,
                Slot::Inode { sha256, .. } => *sha256,
                Slot::Directory(subtree) => subtree.sha256,
            };
            Some((&entry.name[..], sha256))
        });
        let is_sent = |slot: &&Slot| !matches!(slot, Slot::Nested);
        let count = slots.iter().filter(is_sent).count();
        let Recorded { sha256, entry } = record.directory(count, sent);
        let nested = slots.len() - count;
        let (mut links, mut tree) = (Vec::new(), Vec::new());
        tree.extend(entry.map(|entry| *entry));
        for (slot, Entry { name, .. }) in slots.into_iter().zip(&self.names) {
            match slot {
                Slot::Pending | Slot::Nested => {}
                Slot::Inode { linked, entry, .. } => {
                    links.extend(linked);
                    tree.extend(entry.map(|entry| TreeEntry {
                        path: name.to_vec().into(),
                        ..*entry
                    }));
                }
                Slot::Directory(subtree) => {
                    let Subtree {
                        links: mut inner,
                        tree: entries,
                        ..
                    } = *subtree;
                    // The shorter list is copied where that is possible.
                    if links.is_empty() {
                        links = inner;
                    } else {
                        links.append(&mut inner);
                    }
                    tree.extend(entries.into_iter().map(|mut entry| {
                        let mut path = name.to_vec();
                        if !entry.path.is_empty() {
                            path.push(b'/');
                            path.extend_from_slice(&entry.path);
                        }
                        entry.path = path.into();
                        entry
                    }));
                }
            }
        }
        Subtree {
            sha256,
            names: count,
            nested,
            links,
            tree,
        }
    }
}
