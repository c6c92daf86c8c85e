//! What a tree of files looks like, recorded so that two can be compared.

mod compare;
mod entry;
mod walk;

pub use compare::{Compared, Difference, assert_same_tree, assert_same_tree_in, compare};
pub use entry::{Content, Entry, Kind, Time};
pub use walk::{Tree, Walk};
