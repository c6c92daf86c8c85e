//! System calls of the model on the content and metadata of one inode.

use btrfs_sendstream::{Bytes, EnableVerity, StreamPath, Timespec};
use rustix::io::Errno;

use super::content::{Content, PIECE_COST};
use super::inode::{Kind, NODATASUM, PLAIN, VERITY};
use super::tree::Tree;
use super::xattr;
use btrfs_receive::Cause;

/// The largest offset in a file.
const OFFSET_MAX: u64 = i64::MAX as u64;

/// The sector size of the modelled filesystem.
const SECTOR: u64 = 4096;

/// `FALLOC_FL_*` of `linux/falloc.h`.
const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const ZERO_RANGE: u32 = 16;

/// Most that a change adds to the metadata of an inode without being asked
/// to: `btrfs.compression`.
const SMALL_XATTR: u64 = 256;

impl Tree {
    /// As `setxattr(2)`, not following a symbolic link.
    ///
    /// # Errors
    /// As that call.
    pub fn set_xattr(
        &mut self,
        path: &StreamPath,
        name: &[u8],
        value: &Bytes,
    ) -> Result<(), Cause> {
        let growth = xattr::cost(name, value);
        self.change(path, "setxattr", growth, |inode, _| {
            inode.set_xattr(name, value)
        })
    }

    /// As `removexattr(2)`, not following a symbolic link, but an attribute
    /// that is missing is no error.
    ///
    /// # Errors
    /// As that call.
    pub fn remove_xattr(&mut self, path: &StreamPath, name: &[u8]) -> Result<(), Cause> {
        self.change(path, "removexattr", 0, |inode, _| inode.remove_xattr(name))
    }

    /// As `lchown(2)` with both ids.
    ///
    /// # Errors
    /// As that call; [`Cause::OutOfRange`] for `u32::MAX`, which is no id.
    pub fn chown(&mut self, path: &StreamPath, uid: u32, gid: u32) -> Result<(), Cause> {
        for (what, id) in [("user id", uid), ("group id", gid)] {
            if id == u32::MAX {
                return Err(Cause::OutOfRange {
                    what,
                    value: id.into(),
                });
            }
        }
        self.change(path, "fchownat", 0, |inode, _| {
            inode.chown(uid, gid);
            Ok(())
        })
    }

    /// As `chmod(2)`.
    ///
    /// # Errors
    /// As that call, and EOPNOTSUPP for a symbolic link.
    pub fn chmod(&mut self, path: &StreamPath, mode: u32) -> Result<(), Cause> {
        self.change(path, "fchmodat2", 0, |inode, _| inode.chmod(mode))
    }

    /// As `utimensat(2)`, not following a symbolic link.
    ///
    /// # Errors
    /// As that call: EINVAL for a second or more of nanoseconds.
    pub fn set_times(
        &mut self,
        path: &StreamPath,
        atime: Timespec,
        mtime: Option<Timespec>,
    ) -> Result<(), Cause> {
        self.change(path, "utimensat", 0, |inode, _| {
            if [Some(atime), mtime]
                .iter()
                .flatten()
                .any(|t| t.nanoseconds >= 1_000_000_000)
            {
                return Err(Errno::INVAL);
            }
            inode.atime = atime;
            inode.mtime = mtime.unwrap_or(inode.mtime);
            Ok(())
        })
    }

    /// As `FS_IOC_SETFLAGS` with the flags that `BTRFS_INODE_*` bits stand
    /// for; bits that it cannot set are passed over.
    ///
    /// # Errors
    /// As that ioctl; [`Cause::NoInodeFlags`] for anything but regular files
    /// and directories.
    pub fn set_attributes(&mut self, path: &StreamPath, attributes: u64) -> Result<(), Cause> {
        let number = self.with_flags(path)?;
        self.change_inode(number, "FS_IOC_SETFLAGS", SMALL_XATTR, |inode, _| {
            inode.set_flags(attributes)
        })
    }

    /// As `FS_IOC_FSSETXATTR`, which sets SYNC, IMMUTABLE, APPEND, NODUMP and
    /// NOATIME alone, and leaves `btrfs.compression` as it is.
    ///
    /// # Errors
    /// As [`Tree::set_attributes`].
    pub(super) fn set_plain_attributes(
        &mut self,
        path: &StreamPath,
        attributes: u64,
    ) -> Result<(), Cause> {
        let number = self.with_flags(path)?;
        self.change_inode(number, "FS_IOC_FSSETXATTR", 0, |inode, _| {
            inode.attributes = inode.attributes & !PLAIN | attributes & PLAIN;
            Ok(())
        })
    }

    /// The number of an inode that can have flags.
    fn with_flags(&self, path: &StreamPath) -> Result<u64, Cause> {
        let number = self.resolve(path.borrow(), "openat2")?;
        match self.inodes.get(&number) {
            Some(inode) if !inode.kind.has_flags() => Err(Cause::NoInodeFlags {
                found: inode.kind.name(),
            }),
            _ => Ok(number),
        }
    }

    /// As `pwrite(2)`.
    ///
    /// # Errors
    /// As that call; [`Cause::NotRegularFile`] for anything else.
    pub fn write(&mut self, path: &StreamPath, offset: u64, data: &[u8]) -> Result<(), Cause> {
        let len = data.len() as u64;
        let growth = len + 2 * PIECE_COST;
        self.change_content(path, "pwrite", growth, |content| {
            end_of(offset, len)?;
            if data.is_empty() {
                return Ok(false);
            }
            // A copy: a slice would keep the whole buffer of the stream.
            content.write(offset, Bytes::copy_from_slice(data));
            Ok(true)
        })
    }

    /// As `ftruncate(2)`.
    ///
    /// # Errors
    /// As that call; [`Cause::NotRegularFile`] for anything else.
    pub fn truncate(&mut self, path: &StreamPath, size: u64) -> Result<(), Cause> {
        self.change_content(path, "ftruncate", PIECE_COST, |content| {
            end_of(size, 0)?;
            content.truncate(size);
            Ok(true)
        })
    }

    /// As `fallocate(2)`; what is allocated costs nothing.
    ///
    /// # Errors
    /// As that call; [`Cause::NotRegularFile`] for anything else.
    pub fn fallocate(
        &mut self,
        path: &StreamPath,
        mode: u32,
        offset: u64,
        len: u64,
    ) -> Result<(), Cause> {
        self.change_content(path, "fallocate", PIECE_COST, |content| {
            if offset > OFFSET_MAX || len > OFFSET_MAX || len == 0 {
                return Err(Errno::INVAL);
            }
            let change = mode & !KEEP_SIZE;
            if !matches!(change, 0 | PUNCH_HOLE | ZERO_RANGE) || mode == PUNCH_HOLE {
                return Err(Errno::OPNOTSUPP);
            }
            let end = end_of(offset, len).map_err(|_| Errno::FBIG)?;
            if change == PUNCH_HOLE {
                // In the middle of a hole the kernel finds nothing to do, but
                // it looks at no more sectors than the length has.
                let start = offset - offset % SECTOR;
                let looked_at = len.next_multiple_of(SECTOR);
                let found = start + looked_at < end || !content.range(start, looked_at).is_empty();
                content.punch(offset, len);
                return Ok(found);
            }
            if change == ZERO_RANGE {
                content.punch(offset, len);
            }
            if mode & KEEP_SIZE == 0 && end > content.size() {
                content.truncate(end);
            }
            Ok(true)
        })
    }

    /// As `FICLONERANGE`, but what the ioctl would refuse and a copy can do
    /// is done too: returns whether it was so. 0 bytes are no bytes. The source
    /// file lies in `source_tree`, or in this tree if that is `None`.
    ///
    /// # Errors
    /// As that ioctl; [`Cause::NotRegularFile`] if one of them is none,
    /// [`Cause::SourceTooShort`].
    pub fn clone_range(
        &mut self,
        path: &StreamPath,
        offset: u64,
        source_tree: Option<&Self>,
        source_path: &StreamPath,
        source_offset: u64,
        len: u64,
    ) -> Result<bool, Cause> {
        let call = "FICLONERANGE";
        let (number, content) = self.file(path)?;
        let (source_number, from) = source_tree.unwrap_or(self).file(source_path)?;
        let flags = |tree: &Self, number| tree.inodes.get(&number).map_or(0, |i| i.attributes);
        let differ = flags(self, number) ^ flags(source_tree.unwrap_or(self), source_number);
        let invalid = |errno| Cause::system(call, errno);
        let end = end_of(offset, len).map_err(invalid)?;
        let source_end = end_of(source_offset, len).map_err(invalid)?;
        if len > 0 && source_end > from.size() {
            return Err(Cause::SourceTooShort {
                size: from.size(),
                wanted: source_end,
            });
        }
        let same_file = source_tree.is_none() && number == source_number;
        if same_file && offset < source_end && source_offset < end {
            return Err(invalid(Errno::INVAL));
        }
        let at_end = source_end == from.size() && end >= content.size();
        let aligned = |value: u64| value.is_multiple_of(SECTOR);
        let copied = !aligned(offset)
            || !aligned(source_offset)
            || !(aligned(len) || at_end)
            || differ & NODATASUM != 0;
        let pieces = from.range(source_offset, len);
        let growth = pieces
            .iter()
            .map(|(_, piece)| piece.len() as u64 + PIECE_COST);
        let growth = growth.sum::<u64>() + PIECE_COST;
        self.change_content(path, call, growth, |content| {
            if len == 0 {
                return Ok(false);
            }
            content.punch(offset, len);
            for (at, piece) in pieces {
                content.write(offset + (at - source_offset), piece);
            }
            if end > content.size() {
                content.truncate(end);
            }
            Ok(true)
        })?;
        Ok(copied && len > 0)
    }

    /// As `FS_IOC_ENABLE_VERITY`: the content cannot change any more. There
    /// are no hashes in the model.
    ///
    /// # Errors
    /// As that ioctl; [`Cause::NotRegularFile`] for anything else.
    pub fn enable_verity(&mut self, verity: &EnableVerity) -> Result<(), Cause> {
        let (number, _) = self.file(&verity.path)?;
        self.change_inode(number, "FS_IOC_ENABLE_VERITY", 0, |inode, _| {
            if inode.attributes & VERITY != 0 {
                return Err(Errno::EXIST);
            }
            if verity.salt.len() > 32 || verity.signature.len() > 16_128 {
                return Err(Errno::MSGSIZE);
            }
            let blocks = 1024..=SECTOR as u32;
            let power = verity.block_size.is_power_of_two();
            if !power
                || !blocks.contains(&verity.block_size)
                || !(1..=2).contains(&verity.algorithm)
            {
                return Err(Errno::INVAL);
            }
            inode.attributes |= VERITY;
            Ok(())
        })
    }

    /// A change of content, which says whether it changed anything.
    fn change_content(
        &mut self,
        path: &StreamPath,
        call: &'static str,
        growth: u64,
        change: impl FnOnce(&mut Content) -> Result<bool, Errno>,
    ) -> Result<(), Cause> {
        let (number, _) = self.file(path)?;
        if self
            .inodes
            .get(&number)
            .is_some_and(|inode| inode.attributes & VERITY != 0)
        {
            return Err(Cause::system("openat2", Errno::PERM));
        }
        self.change_inode(number, call, growth, |inode, now| {
            let changed = match &mut inode.kind {
                Kind::File(content) => change(content)?,
                _ => false,
            };
            if changed {
                inode.content_changed(now);
            }
            Ok(())
        })
    }
}

/// The end of a range, if a file can reach that far.
fn end_of(offset: u64, len: u64) -> Result<u64, Errno> {
    offset
        .checked_add(len)
        .filter(|&end| end <= OFFSET_MAX)
        .ok_or(Errno::INVAL)
}
