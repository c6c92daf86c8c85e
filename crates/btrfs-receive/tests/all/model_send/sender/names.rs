//! Which names exist: in a tree, or on the receiver at some moment.

use std::collections::{BTreeMap, BTreeSet};

use btrfs_model::{Kind, Tree};
use btrfs_sendstream::{Bytes, StreamPath};

/// The inode number of a subvolume's root.
pub(super) const ROOT: u64 = 256;

/// A name: the directory's inode number, and its bytes.
pub(super) type Place = (u64, Vec<u8>);

/// Names both ways: what is at a place, and at which places an inode is.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    inodes: BTreeMap<Place, u64>,
    places: BTreeMap<u64, BTreeSet<Place>>,
}

impl Names {
    pub(super) fn of(tree: &Tree) -> Self {
        let mut names = Self::default();
        for entry in tree.entries() {
            if let Kind::Directory(children) = entry.inode.kind() {
                for (name, &number) in children {
                    names.add((entry.number, name.to_vec()), number);
                }
            }
        }
        names
    }

    pub(super) fn add(&mut self, place: Place, inode: u64) {
        self.places.entry(inode).or_default().insert(place.clone());
        assert_eq!(self.inodes.insert(place, inode), None, "a name taken twice");
    }

    pub(super) fn remove(&mut self, place: &Place) {
        let inode = self.inodes.remove(place).expect("a name that is there");
        let places = self.places.get_mut(&inode).unwrap();
        places.remove(place);
        if places.is_empty() {
            self.places.remove(&inode);
        }
    }

    /// What is at a place.
    pub(super) fn at(&self, place: &Place) -> Option<u64> {
        self.inodes.get(place).copied()
    }

    /// Whether an inode is anywhere.
    pub(super) fn has(&self, inode: u64) -> bool {
        inode == ROOT || self.places.contains_key(&inode)
    }

    /// All places of an inode.
    pub(super) fn places(&self, inode: u64) -> Vec<Place> {
        let places = self.places.get(&inode);
        places.into_iter().flatten().cloned().collect()
    }

    pub(super) fn is_empty(&self, directory: u64) -> bool {
        let children = self.inodes.range((directory, Vec::new())..);
        children.take_while(|((d, _), _)| *d == directory).count() == 0
    }

    /// Whether a directory is another one, or lies below it.
    pub(super) fn is_within(&self, mut directory: u64, ancestor: u64) -> bool {
        while directory != ancestor {
            match self.places(directory).first() {
                Some((parent, _)) => directory = *parent,
                None => return false,
            }
        }
        true
    }

    /// The path of a place.
    pub(super) fn path_of(&self, (directory, name): &Place) -> StreamPath {
        let mut bytes = self.path(*directory).into_inner().to_vec();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        StreamPath::parse(Bytes::from(bytes)).unwrap()
    }

    /// The path of an inode, by its first name.
    pub(super) fn path(&self, inode: u64) -> StreamPath {
        match self.places(inode).first() {
            Some(place) => self.path_of(place),
            None => StreamPath::default(),
        }
    }
}
