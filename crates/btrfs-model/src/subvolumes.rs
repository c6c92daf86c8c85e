//! The subvolumes of a model, and how a stream's source is found among them.

use btrfs_sendstream::Bytes;
use uuid::Uuid;

use super::tree::Tree;
use btrfs_lineage::SourceUsed;
use btrfs_receive::Cause;
use btrfs_sendstream::SourceId;

/// The first id that a subvolume can have.
const FIRST_ID: u64 = 256;

/// A subvolume of a model.
#[derive(Clone, Debug)]
pub struct Subvolume {
    pub(super) id: u64,
    pub(super) name: Bytes,
    pub(super) uuid: Uuid,
    pub(super) received: Option<Received>,
    pub(super) read_only: bool,
    pub(super) tree: Tree,
}

/// What marks a subvolume as received completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The received UUID.
    pub uuid: Uuid,
    /// ctransid of the subvolume on the sender's filesystem.
    pub stransid: u64,
}

impl Subvolume {
    /// Its id; 256 and up, in the order in which subvolumes were made.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its own UUID; not the one that it was received with.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its received UUID and stransid, if it was finished.
    pub fn received(&self) -> Option<Received> {
        self.received
    }

    /// Whether it is read-only, as finished ones are.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// What it holds.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) fn used_as(&self, wanted: SourceId) -> SourceUsed {
        let mut used = SourceUsed::new(wanted, self.id, self.uuid);
        used.path = Some(self.name.clone());
        used
    }

    /// How well it serves as a source, less being better; `None` if it does
    /// not. Writable ones never do: their content may have changed.
    fn rank(&self, wanted: SourceId) -> Option<u8> {
        if !self.read_only {
            return None;
        }
        match self.received {
            Some(received) if received.uuid == wanted.uuid => {
                Some(if received.stransid == wanted.ctransid {
                    0
                } else {
                    2
                })
            }
            _ => (self.uuid == wanted.uuid).then_some(1),
        }
    }
}

/// All subvolumes of a model, by id.
#[derive(Default)]
pub(super) struct Subvolumes(Vec<Subvolume>);

impl Subvolumes {
    pub(super) fn all(&self) -> &[Subvolume] {
        &self.0
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Subvolume> {
        self.0.last_mut()
    }

    /// Takes the last one away.
    pub(super) fn remove_last(&mut self) {
        self.0.pop();
    }

    /// The last one, and those before it.
    pub(super) fn split_last_mut(&mut self) -> Option<(&[Subvolume], &mut Subvolume)> {
        let (last, others) = self.0.split_last_mut()?;
        Some((others, last))
    }

    /// Bytes of memory that they use.
    pub(super) fn used(&self) -> u64 {
        self.0.iter().map(|subvolume| subvolume.tree.used()).sum()
    }

    /// Adds a writable one, with a UUID that follows from its id.
    pub(super) fn add(&mut self, name: Bytes, tree: Tree) -> &mut Subvolume {
        let index = self.0.len();
        let id = FIRST_ID + index as u64;
        self.0.push(Subvolume {
            id,
            name,
            uuid: Uuid::from_u128(u128::from(id) << 64 | 0x6d65_6d6f_7279),
            received: None,
            read_only: false,
            tree,
        });
        &mut self.0[index]
    }
}

/// The subvolume that serves best as a source.
pub(super) fn find(subvolumes: &[Subvolume], wanted: SourceId) -> Result<&Subvolume, Cause> {
    subvolumes
        .iter()
        .filter_map(|subvolume| Some((subvolume.rank(wanted)?, subvolume)))
        .min_by_key(|&(rank, subvolume)| (rank, subvolume.id))
        .map(|(_, subvolume)| subvolume)
        .ok_or(Cause::SourceNotFound { wanted })
}
