//! Single files from stored streams: the full stream of a subvolume, and the incremental
//! streams after it.
//!
//! Each stream is read up to twice. A [`History`] reads all of them in order, follows the
//! names, and notes what each command does to which inode in a temporary file. When it is
//! known what is wanted, those notes are read backwards to find the few commands that
//! made it ([`Needs`]), which the second reading hands over. So the content is right
//! whatever came after or before: renames, links, clones, holes, truncation.
//!
//! Memory: less than 2 KiB for each name and 4 KiB for each directory that one of the
//! subvolumes has, four times the bytes of the names and of the targets of symbolic links,
//! and 256 bytes for each extent of the wanted files, up to the limits. The temporary file
//! has 48 bytes for each command that changes an inode.

mod fetch;
mod history;
mod index;
mod log;
mod memory;
mod names;
mod needs;
mod selection;
#[cfg(test)]
mod tests;
mod words;

pub use fetch::{Fetch, FetchError, Needs};
pub use history::{History, Inapplicable, NotFound, ReadError};
pub use index::{Index, IndexError, Indexed, MAGIC, name_of_index, write_index};
pub use memory::OutOfMemory;
pub use names::{Made, Node};
pub use needs::LocateError;
pub use selection::{SelectError, Selection};
pub use words::{described, operation, shown, user_path};
