//! The record of one file.

use std::collections::BTreeMap;
use std::fmt;

/// All that is recorded of a file, directory or other inode at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky: `07777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; for a directory, btrfs counts its names.
    pub size: u64,
    /// Access time; reading the tree may have moved it.
    pub atime: Time,
    /// Modification time.
    pub mtime: Time,
    /// Device number of a device node, 0 for all else.
    pub rdev: u64,
    /// Link target of a symlink, empty for all else.
    pub target: Vec<u8>,
    /// Content of a regular file.
    pub content: Content,
    /// Ranges `SEEK_DATA` reports, as (offset, length); empty unless asked for.
    pub layout: Vec<(u64, u64)>,
    /// Every extended attribute: ACLs, capabilities and properties included.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bits of `FS_IOC_GETFLAGS`, for files and directories.
    pub flags: u32,
    /// The number of names, for all but directories, which have 1.
    pub links: u64,
    /// The first path, in order of bytes, that leads to the same inode.
    pub first_link: Vec<u8>,
}

/// The types of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A nested subvolume, or the empty directory a snapshot has in its place.
    /// Streams do not mention either.
    Subvolume,
}

/// A time as the kernel keeps it: seconds, negative before 1970, and
/// nanoseconds that always count forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// Content as the digests of its blocks, those of zeros left out: holes and
/// written zeros read the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub(super) blocks: BTreeMap<u64, [u8; 32]>,
}

impl Content {
    /// How many bytes a block has; a difference is located to a block.
    pub const BLOCK: u64 = 4096;

    /// The offsets of the blocks in which two contents differ.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        let mine = self.blocks.iter();
        let changed = mine.filter(|(index, digest)| other.blocks.get(index) != Some(digest));
        let theirs = other.blocks.keys();
        let added = theirs.filter(|index| !self.blocks.contains_key(index));
        let mut all: Vec<u64> = changed
            .map(|(index, _)| *index)
            .chain(added.copied())
            .collect();
        all.sort_unstable();
        all.into_iter().map(|index| index * Self::BLOCK)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanoseconds)
    }
}
