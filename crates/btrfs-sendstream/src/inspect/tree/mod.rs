//! The tree of a subvolume, from its full stream and the incremental streams after it.
//!
//! [`NameTree`] follows the names; here is what it does not store: the attributes of
//! each inode.

#[cfg(test)]
mod tests;
mod walk;

use bytes::Bytes;

use super::names::{InodeId, InodeKind, NameError, NameTree, ROOT};
use crate::{Command, NewSubvolume, SourceId, StreamPath, Timespec, ValueError};

pub use walk::TreeEntry;

/// `FALLOC_FL_KEEP_SIZE` of `linux/falloc.h`.
const KEEP_SIZE: u32 = 1;

/// `S_IFMT` and `S_IFBLK` of `linux/stat.h`.
const TYPE_BITS: u64 = 0o170_000;
const BLOCK_DEVICE: u64 = 0o060_000;

/// The names and attributes of a subvolume, built from its full stream and the
/// incremental streams after it, without a filesystem.
///
/// File data and extended attributes are not stored; streams of `btrfs send --no-data`
/// will do. Apply all commands of the full stream, then those of each incremental stream
/// in order. A tree is that of a subvolume only if its stream was read to the end
/// without an error.
///
/// Memory: less than 1 KiB for each name and 2 KiB for each directory of the subvolume,
/// plus twice the bytes of names and of the targets of symbolic links, up to the limit
/// that was passed. It does not depend on the size of files, nor on the number of
/// streams.
///
/// ```
/// use btrfs_sendstream::inspect::Tree;
/// # use btrfs_sendstream::{Command, Item, Reader, StreamPath, SubvolumeName, Uuid, Version, Writer};
/// # let mut writer = Writer::new(Vec::new());
/// # writer.header(Version::V1)?;
/// # writer.command(&Command::Subvol {
/// #     name: SubvolumeName::parse(&b"home"[..])?,
/// #     uuid: Uuid::from_u128(1),
/// #     ctransid: 7,
/// # })?;
/// # let path = StreamPath::parse(&b"notes"[..])?;
/// # writer.command(&Command::Mkfile { path, ino: 257 })?;
/// # writer.command(&Command::Write { path, offset: 4096, data: &b"text"[..] })?;
/// # writer.command(&Command::<&[u8]>::End)?;
/// # let stream = writer.finish()?;
///
/// let mut tree = Tree::new(1 << 30);
/// let mut reader = Reader::new(&stream[..]);
/// while let Some(item) = reader.next_item()? {
///     if let Item::Command(command) = item {
///         tree.apply(&command)?;
///     }
/// }
/// let entries: Vec<_> = tree.entries().collect();
/// assert_eq!(entries[0].path, "");
/// assert_eq!(entries[1].path, "notes");
/// assert_eq!(entries[1].size, Some(4100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Tree {
    names: NameTree,
    /// By [`InodeId`]. Of an inode that was removed, what was known stays until the
    /// place is used again.
    details: Vec<Details>,
    /// Bytes of the link targets in `details`.
    targets: u64,
    subvolume: Option<NewSubvolume>,
}

/// What is known of an inode beside its names.
#[derive(Clone, Debug, Default)]
struct Details {
    size: u64,
    mode: Option<u32>,
    owner: Option<(u64, u64)>,
    mtime: Option<Timespec>,
    device: Option<Device>,
    target: Option<Box<[u8]>>,
}

/// The kind and number of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Device {
    /// Whether it is a block device; otherwise it is a character device.
    pub block: bool,
    /// The major number, of 12 bits.
    pub major: u32,
    /// The minor number, of 20 bits.
    pub minor: u32,
}

impl Device {
    /// From the mode and the number of a MKNOD command. Numbers have 32 bits: minor
    /// bits 0 to 7 and 20 to 31, major bits 8 to 19 (`new_encode_dev` in the kernel).
    fn new(mode: u64, rdev: u64) -> Self {
        let bits = |number: u64| u32::try_from(number).unwrap_or_default();
        Self {
            block: mode & TYPE_BITS == BLOCK_DEVICE,
            major: bits((rdev >> 8) & 0xfff),
            minor: bits((rdev & 0xff) | ((rdev >> 12) & 0xf_ff00)),
        }
    }
}

/// Why a command cannot be applied to a [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The command contradicts those before it, or the limit on memory was reached.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A value with which no receiver can apply the command.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A full stream, and the tree is that of a subvolume already.
    #[error("a second full stream begins: {} {}", quoted(new), new.uuid)]
    SecondSubvolume {
        /// The subvolume of the stream.
        new: Box<NewSubvolume>,
    },
    /// An incremental stream, and no stream was applied before.
    #[error(
        "the stream of {} is incremental, and its parent {} is missing",
        quoted(new),
        parent.uuid
    )]
    NoParent {
        /// The subvolume of the stream.
        new: Box<NewSubvolume>,
        /// Its parent.
        parent: SourceId,
    },
    /// An incremental stream, and the tree is not that of its parent.
    #[error(
        "the parent of {} is {} with transid {}, and the stream before it is of {} {} with \
         transid {}",
        quoted(new),
        parent.uuid,
        parent.ctransid,
        quoted(found),
        found.uuid,
        found.ctransid
    )]
    OtherParent {
        /// The subvolume of the stream.
        new: Box<NewSubvolume>,
        /// Its parent. Both its UUID and its ctransid have to be those of the tree:
        /// a subvolume that was made writable and changed has the same UUID.
        parent: SourceId,
        /// The subvolume of the tree.
        found: Box<NewSubvolume>,
    },
}

fn quoted(subvolume: &NewSubvolume) -> String {
    super::Quoted(subvolume.name.as_bytes()).to_string()
}

impl Tree {
    /// Creates a tree for which no stream was read. It uses about `max_memory` bytes at
    /// most.
    pub fn new(max_memory: u64) -> Self {
        Self {
            names: NameTree::new(true, max_memory),
            details: vec![Details::default()],
            targets: 0,
            subvolume: None,
        }
    }

    /// Returns the subvolume that the last SUBVOL or SNAPSHOT command began.
    pub fn subvolume(&self) -> Option<&NewSubvolume> {
        self.subvolume.as_ref()
    }

    /// Applies a command.
    ///
    /// # Errors
    /// The command cannot be applied, or a SNAPSHOT command does not have the tree as
    /// its parent. After an error the tree is that of no subvolume.
    pub fn apply<B: AsRef<[u8]>>(&mut self, command: &Command<B>) -> Result<(), TreeError> {
        command.check_values()?;
        if let Some(new) = NewSubvolume::copied(command) {
            return self.begin(new);
        }
        self.names.apply(command)?;
        match command {
            Command::Mkfile { path, .. }
            | Command::Mkdir { path, .. }
            | Command::Mkfifo { path, .. }
            | Command::Mksock { path, .. } => self.create(path, Details::default())?,
            Command::Mknod {
                path, rdev, mode, ..
            } => {
                let device = Some(Device::new(*mode, *rdev));
                self.create(
                    path,
                    Details {
                        device,
                        ..Details::default()
                    },
                )?;
            }
            Command::Symlink { path, target, .. } => {
                let target = Some(target.as_ref().into());
                self.create(
                    path,
                    Details {
                        target,
                        ..Details::default()
                    },
                )?;
            }
            Command::Chmod { path, mode } => {
                let mode = u32::try_from(*mode).ok();
                self.change(path, |details| details.mode = mode)?;
            }
            Command::Chown { path, uid, gid } => {
                self.change(path, |details| details.owner = Some((*uid, *gid)))?;
            }
            Command::Utimes { path, mtime, .. } => {
                self.change(path, |details| details.mtime = Some(*mtime))?;
            }
            Command::Truncate { path, size } => {
                self.change(path, |details| details.size = *size)?;
            }
            Command::Write { path, offset, data } => {
                self.grow(path, *offset, data.as_ref().len() as u64)?;
            }
            Command::EncodedWrite(write) => {
                self.grow(&write.path, write.offset, write.unencoded_file_len)?;
            }
            Command::Clone(clone) => self.grow(&clone.path, clone.offset, clone.len)?,
            Command::UpdateExtent { path, offset, len } => self.grow(path, *offset, *len)?,
            Command::Fallocate {
                path,
                mode,
                offset,
                len,
            } => {
                // Kernels send no other mode than 3, which does not change the size.
                if mode & KEEP_SIZE == 0 {
                    self.grow(path, *offset, *len)?;
                }
            }
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::End
            | Command::FileAttr { .. }
            | Command::EnableVerity(_) => {}
        }
        Ok(())
    }

    fn begin(&mut self, new: NewSubvolume) -> Result<(), TreeError> {
        match (new.parent, &self.subvolume) {
            (None, None) => {}
            (None, Some(_)) => return Err(TreeError::SecondSubvolume { new: Box::new(new) }),
            (Some(parent), None) => {
                let new = Box::new(new);
                return Err(TreeError::NoParent { new, parent });
            }
            (Some(parent), Some(found)) => {
                if (parent.uuid, parent.ctransid) != (found.uuid, found.ctransid) {
                    let (new, found) = (Box::new(new), Box::new(found.clone()));
                    return Err(TreeError::OtherParent { new, parent, found });
                }
            }
        }
        self.subvolume = Some(new);
        Ok(())
    }

    /// Notes what is known of an inode that a command just created.
    fn create<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        details: Details,
    ) -> Result<(), NameError> {
        let place = self.names.find(&path.borrow())? as usize;
        if self.details.len() <= place {
            self.details.resize_with(place + 1, Details::default);
        }
        let bytes = |details: &Details| details.target.as_ref().map_or(0, |it| it.len() as u64);
        self.targets += bytes(&details);
        if let Some(old) = self.details.get_mut(place) {
            self.targets -= bytes(old);
            *old = details;
        }
        let table = self.details.capacity() * size_of::<Details>();
        self.names.room().take(table as u64 + self.targets)
    }

    fn change<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        change: impl FnOnce(&mut Details),
    ) -> Result<(), NameError> {
        let id = self.names.find(&path.borrow())?;
        if let Some(details) = self.details.get_mut(id as usize) {
            change(details);
        }
        Ok(())
    }

    /// A range of a file is written, which may end beyond its end.
    fn grow<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        offset: u64,
        len: u64,
    ) -> Result<(), NameError> {
        self.change(path, |details| {
            if len > 0 {
                details.size = details.size.max(offset.saturating_add(len));
            }
        })
    }

    /// Returns the root and everything below it: each directory before its content,
    /// and the content of a directory by name. The names of a file that has several are
    /// an entry each.
    pub fn entries(&self) -> impl Iterator<Item = TreeEntry> {
        walk::Walk::new(self)
    }

    fn entry(&self, path: &[u8], id: InodeId) -> TreeEntry {
        let kind = self.names.kind(id);
        let details = self.details.get(id as usize).cloned().unwrap_or_default();
        TreeEntry {
            path: Bytes::copy_from_slice(path),
            kind,
            links: self.names.links(id),
            size: (kind == InodeKind::File).then_some(details.size),
            mode: details.mode,
            uid: details.owner.map(|(uid, _)| uid),
            gid: details.owner.map(|(_, gid)| gid),
            mtime: details.mtime,
            target: details.target.map(Bytes::from),
            device: details.device,
        }
    }
}
