//! Random histories of a filesystem, and the differential test built on them.
//!
//! A [`History`] is a list of [`Operation`]s that name files by number, modulo
//! what exists when their turn comes, so that any part of a history is a
//! history too: that is what lets a failing one shrink. [`play`] turns the
//! operations into [`Step`]s with paths and has a [`Target`] carry them out: a
//! real btrfs ([`Live`]), or a model.

mod catalogue;
mod differential;
mod live;
mod operation;
mod step;
mod strategy;

pub use catalogue::play;
pub use differential::{Differential, Mode};
pub use live::Live;
pub use operation::{Flag, Operation, Pick, What};
pub use step::{Step, Target};
pub use strategy::histories;

/// What happened to a subvolume, up to and including its last snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History(pub Vec<Operation>);

/// Which kinds of events a history may hold.
///
/// The default is everything. [`for_reference`](Self::for_reference) leaves
/// out what `btrfs receive` is known to get wrong.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Default ACLs, `btrfs.compression`, setgid and flags on the root.
    pub root_inheritance: bool,
    /// Directories renamed or exchanged.
    pub directory_renames: bool,
    /// Immutable and append-only.
    pub immutable: bool,
    /// The largest xattr value in bytes; replacing needs room for both values.
    pub largest_xattr: u16,
    /// Other inode flags: NOCOW, NODUMP and the like.
    pub flags: bool,
    /// Shared extents, within the subvolume and from earlier snapshots.
    pub clones: bool,
    /// How many operations there are at most between two snapshots.
    pub operations: usize,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            root_inheritance: true,
            directory_renames: true,
            immutable: true,
            largest_xattr: 16_000,
            flags: true,
            clones: true,
            operations: 40,
        }
    }
}

impl Features {
    /// What `btrfs receive` of btrfs-progs 6.2 gets right.
    pub fn for_reference() -> Self {
        Self {
            root_inheritance: false,
            directory_renames: false,
            immutable: false,
            largest_xattr: 3_000,
            ..Self::default()
        }
    }
}
