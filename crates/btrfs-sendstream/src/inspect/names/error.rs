//! How a stream contradicts itself about names.

use bytes::Bytes;

use super::InodeKind;
use crate::inspect::Quoted;

/// An operation on a name that contradicts the commands before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The path does not exist: it was not created, or was removed.
    #[error("{} does not exist", Quoted(path))]
    Missing {
        /// The path up to the first component that does not exist.
        path: Bytes,
    },
    /// The name exists already.
    #[error("{} exists already ({})", Quoted(path), kind.name())]
    Exists {
        /// The name.
        path: Bytes,
        /// The kind of file that has it.
        kind: InodeKind,
    },
    /// The operation needs a directory.
    #[error("{} is not a directory ({})", Quoted(path), kind.name())]
    NotDirectory {
        /// The path.
        path: Bytes,
        /// The kind of file at this path.
        kind: InodeKind,
    },
    /// The operation cannot be applied to a directory.
    #[error("{} is a directory", Quoted(path))]
    IsDirectory {
        /// The path.
        path: Bytes,
    },
    /// A directory that is to be removed or replaced is not empty.
    #[error("the directory {} is not empty", Quoted(path))]
    NotEmpty {
        /// The directory.
        path: Bytes,
    },
    /// Data can be written to and cloned from regular files only.
    #[error("{} is not a regular file ({})", Quoted(path), kind.name())]
    NotFile {
        /// The path.
        path: Bytes,
        /// The kind of file at this path.
        kind: InodeKind,
    },
    /// This kind of file has no permission bits or inode flags.
    #[error("a {} does not support this", kind.name())]
    Unsuitable {
        /// The kind of file.
        kind: InodeKind,
    },
    /// A directory would be moved into itself.
    #[error("the directory would be moved into itself, to {}", Quoted(path))]
    WithinItself {
        /// The new path.
        path: Bytes,
    },
    /// A name of more than 255 bytes.
    #[error("the name has {len} bytes, more than 255")]
    NameTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A path of more than 4,095 bytes, which no sender creates.
    #[error("a path would have {len} bytes or more, more than 4095")]
    PathTooLong {
        /// Its length in bytes, or less.
        len: usize,
    },
    /// More than 65,535 names for one file.
    #[error("the file has 65535 names already")]
    TooManyLinks,
    /// The root cannot be created, moved, linked or removed.
    #[error("the root of the subvolume cannot be created, moved, linked or removed")]
    Root,
    /// The limit on memory for names was reached. Names were not checked from here
    /// on.
    #[error("names use more than {limit} bytes of memory; the rest was not checked")]
    TooMany {
        /// The limit in bytes.
        limit: u64,
    },
}
