//! The serialisation that is hashed: `docs/digest.md` of the repository
//! describes it, and changes along with this file.

use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use super::document::{Attribute, Device, Kind, Time, TreeEntry};
use super::sha::Sha;

/// What the digest of the subvolume begins with.
const MAGIC: &[u8] = b"btrfs-lineage digest 1\n";

/// The name of an extended attribute, and its value.
pub(super) type Xattr = (Vec<u8>, Vec<u8>);

/// Metadata of an inode, as far as it is part of the digest.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) links: u64,
    /// Sorted by name.
    pub(super) xattrs: Vec<Xattr>,
}

impl Kind {
    /// That of an inode.
    pub(super) fn of(file_type: FileType) -> Option<Self> {
        Some(match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Unknown => return None,
        })
    }

    fn code(self) -> u8 {
        match self {
            Self::File => b'f',
            Self::Directory => b'd',
            Self::Symlink => b'l',
            Self::Fifo => b'p',
            Self::Socket => b's',
            Self::CharacterDevice => b'c',
            Self::BlockDevice => b'b',
        }
    }
}

/// The record of an inode, to which what depends on its kind is added.
pub(super) struct Record {
    hasher: Sha256,
    entry: Option<Box<TreeEntry>>,
}

/// An inode that is complete.
#[derive(Clone)]
pub(super) struct Recorded {
    pub(super) sha256: Sha,
    /// Without its path.
    pub(super) entry: Option<Box<TreeEntry>>,
}

impl Record {
    /// Begins the record; `listed` if there is to be an entry of the tree too.
    pub(super) fn begin(inode: &Inode, listed: bool) -> Self {
        let mut record = Self {
            hasher: Sha256::new(),
            entry: None,
        };
        record.hasher.update([inode.kind.code()]);
        record.number(inode.mode.into());
        record.number(inode.uid.into());
        record.number(inode.gid.into());
        record.number(inode.mtime.seconds.cast_unsigned());
        record.number(inode.mtime.nanoseconds.into());
        record.number(inode.links);
        record.number(inode.xattrs.len() as u64);
        for (name, value) in &inode.xattrs {
            record.bytes(name);
            record.bytes(value);
        }
        if listed {
            let attribute = |(name, value): &Xattr| Attribute {
                name: name.clone().into(),
                sha256: Sha(Sha256::digest(value).into()),
            };
            record.entry = Some(Box::new(TreeEntry {
                kind: inode.kind,
                mode: inode.mode,
                uid: inode.uid,
                gid: inode.gid,
                mtime: inode.mtime,
                links: inode.links,
                xattrs: inode.xattrs.iter().map(attribute).collect(),
                ..TreeEntry::default()
            }));
        }
        record
    }

    pub(super) fn file(mut self, size: u64, content: Sha) -> Recorded {
        self.number(size);
        self.hasher.update(content.0);
        if let Some(entry) = &mut self.entry {
            entry.size = Some(size);
            entry.content = Some(content);
        }
        self.end()
    }

    pub(super) fn symlink(mut self, target: &[u8]) -> Recorded {
        self.bytes(target);
        if let Some(entry) = &mut self.entry {
            entry.target = Some(target.to_vec().into());
        }
        self.end()
    }

    pub(super) fn device(mut self, device: Device) -> Recorded {
        self.number(device.major.into());
        self.number(device.minor.into());
        if let Some(entry) = &mut self.entry {
            entry.device = Some(device);
        }
        self.end()
    }

    /// A FIFO or socket, which has nothing else.
    pub(super) fn plain(self) -> Recorded {
        self.end()
    }

    /// A directory with these names, sorted.
    pub(super) fn directory<'a>(
        mut self,
        count: usize,
        names: impl Iterator<Item = (&'a [u8], Sha)>,
    ) -> Recorded {
        self.number(count as u64);
        for (name, sha256) in names {
            self.bytes(name);
            self.hasher.update(sha256.0);
        }
        self.end()
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn end(self) -> Recorded {
        let sha256 = Sha(self.hasher.finalize().into());
        let mut entry = self.entry;
        if let Some(entry) = &mut entry {
            entry.sha256 = sha256;
        }
        Recorded { sha256, entry }
    }
}

/// The digest of the subvolume, of that of its root and of which names are
/// hard links of which: for each name of an inode that has several, in order,
/// the number of the first name of the same inode.
pub(super) fn subvolume(root: Sha, first_names: impl Iterator<Item = u64>) -> Sha {
    let mut links = Sha256::new();
    for first in first_names {
        links.update(first.to_le_bytes());
    }
    let mut whole = Sha256::new();
    whole.update(MAGIC);
    whole.update(root.0);
    whole.update(links.finalize());
    Sha(whole.finalize().into())
}
