//! How a stream contradicts itself about names.

use bytes::Bytes;

use super::InodeKind;
use crate::inspect::Quoted;

/// An operation that cannot succeed, as the stream itself shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing has the name: it was never made, or removed before.
    #[error("{} does not exist", Quoted(path))]
    Missing {
        /// The first component that is missing, with what leads to it.
        path: Bytes,
    },
    /// The name is taken.
    #[error("{} exists already ({})", Quoted(path), kind.name())]
    Exists {
        /// The name.
        path: Bytes,
        /// What has it.
        kind: InodeKind,
    },
    /// A directory is needed.
    #[error("{} is not a directory ({})", Quoted(path), kind.name())]
    NotDirectory {
        /// Where one is needed.
        path: Bytes,
        /// What is there.
        kind: InodeKind,
    },
    /// Something other than a directory is needed.
    #[error("{} is a directory", Quoted(path))]
    IsDirectory {
        /// Where a directory is.
        path: Bytes,
    },
    /// A directory that is to be removed or replaced has entries.
    #[error("the directory {} is not empty", Quoted(path))]
    NotEmpty {
        /// The directory.
        path: Bytes,
    },
    /// Data goes to regular files, and is cloned from them.
    #[error("{} is not a regular file ({})", Quoted(path), kind.name())]
    NotFile {
        /// The path.
        path: Bytes,
        /// What is there.
        kind: InodeKind,
    },
    /// Permission bits or inode flags for what cannot have them.
    #[error("a {} does not support this", kind.name())]
    Unsuitable {
        /// What it is.
        kind: InodeKind,
    },
    /// A directory would come to lie within itself.
    #[error("the directory would be moved into itself, to {}", Quoted(path))]
    WithinItself {
        /// Where it was to go.
        path: Bytes,
    },
    /// A name of more than 255 bytes.
    #[error("the name has {len} bytes, more than 255")]
    NameTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A path of more than 4,095 bytes, which no sender builds: directories
    /// were moved into one another.
    #[error("a path would have {len} bytes or more, more than 4095")]
    PathTooLong {
        /// Its length in bytes, as far as it was followed.
        len: usize,
    },
    /// More than 65,535 names for one file.
    #[error("the file has 65535 names already")]
    TooManyLinks,
    /// The root cannot be made, moved, linked or removed.
    #[error("the root of the subvolume cannot be created, moved, linked or removed")]
    Root,
    /// More names than memory was granted for: from here on they were not
    /// checked.
    #[error("names use more than {limit} bytes of memory; the rest was not checked")]
    TooMany {
        /// The memory granted, in bytes.
        limit: u64,
    },
}
