//! A copy of an earlier extraction, which an incremental stream begins with.
//!
//! Data is shared where the filesystem can, else copied, holes as holes.
//! Files with several names keep them: the first of its names is linked into
//! a directory set aside, under the number of its inode, and found there when
//! the next one comes. So nothing has to be remembered, and memory does not
//! grow with the tree: one path, and one position for each level of it. The
//! upper levels stay open, since going on where a listing was left reads all
//! of a block again.

use std::os::fd::OwnedFd;

use btrfs_sendstream::{Bytes, StreamPath, Timespec};
use rustix::fs::{AtFlags, Dir, FileType, Stat, linkat, readlinkat};
use rustix::io::Errno;

use super::place::Workshop;
use super::tree::Tree;
use crate::confine::{Access, Inode, Root};
use crate::destination::DeferredAttributes;
use crate::destination::tree::data::DataWriter;
use crate::destination::tree::times::times_of;
use crate::error::{Cause, named};
use crate::report::LossKind;
use crate::xattr::{COMPRESSION, DEFAULT_ACL};

/// Levels that stay open while what lies below them is copied.
const MAX_OPEN: usize = 32;

/// Copies a tree into an empty one.
pub(super) struct Copier<'a> {
    pub(super) from: &'a Root,
    pub(super) to: &'a mut Tree,
    pub(super) data: &'a mut DataWriter,
    /// On the same filesystem as `to`.
    pub(super) workshop: &'a Workshop,
}

/// A directory that is being copied.
struct Level {
    path: StreamPath,
    /// Its listing, while that is open.
    entries: Option<Dir>,
    /// Where to go on listing it.
    position: i64,
    times: (Timespec, Timespec),
}

impl Copier<'_> {
    /// Copies everything. What the root would hand down to what is created
    /// in it, and what changes while it is filled, is returned.
    pub(super) fn copy(mut self) -> Result<DeferredAttributes, Cause> {
        let root = StreamPath::default();
        let stat = rustix::fs::fstat(self.from.fd()).map_err(named("fstat"))?;
        let mut deferred = DeferredAttributes {
            mode: Some(stat.st_mode & 0o7777),
            times: Some(times_of(&stat)),
            ..DeferredAttributes::default()
        };
        self.to.chown(&root, stat.st_uid, stat.st_gid)?;
        self.from.each_xattr(&root, |name, value| {
            let value = Bytes::copy_from_slice(value);
            match name {
                DEFAULT_ACL => deferred.default_acl = Some(value),
                COMPRESSION => deferred.compression = Some(value),
                _ => return self.to.set_xattr(&root, name, &value),
            }
            Ok(())
        })?;
        // Not yet what an ACL brought along.
        self.to.root.chmod(&root, 0o700)?;
        let mut levels = vec![Level {
            path: root,
            entries: None,
            position: 0,
            times: times_of(&stat),
        }];
        while let Some(level) = levels.last_mut() {
            let below = self.next_directory(level)?;
            if levels.len() > MAX_OPEN
                && let Some(level) = levels.last_mut()
            {
                level.entries = None;
            }
            match below {
                Some(below) => levels.push(below),
                None => {
                    if let Some(done) = levels.pop()
                        && !done.path.is_root()
                    {
                        self.finish_directory(&done)?;
                    }
                }
            }
        }
        Ok(deferred)
    }

    /// Copies what a directory holds, up to the next directory in it.
    fn next_directory(&mut self, level: &mut Level) -> Result<Option<Level>, Cause> {
        let entries = match &mut level.entries {
            Some(entries) => entries,
            closed => closed.insert(self.list(&level.path, level.position)?),
        };
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(named("getdents"))?;
            level.position = entry.offset();
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = join(&level.path, name)?;
            let inode = self.from.inode(&path)?;
            if inode.file_type() == FileType::Directory {
                self.to.root.mkdir(&path, 0o700)?;
                return Ok(Some(Level {
                    path,
                    entries: None,
                    position: 0,
                    times: times_of(inode.stat()),
                }));
            }
            self.copy_entry(&path, &inode)?;
        }
        Ok(None)
    }

    fn list(&self, path: &StreamPath, position: i64) -> Result<Dir, Cause> {
        let fd = self.from.open_directory(path)?;
        let mut entries = Dir::new(fd).map_err(named("getdents"))?;
        if position != 0 {
            entries.seek(position).map_err(named("lseek"))?;
        }
        Ok(entries)
    }

    /// What would be handed down, or changed by filling it, comes last.
    fn finish_directory(&mut self, level: &Level) -> Result<(), Cause> {
        let inode = self.from.inode(&level.path)?;
        self.copy_metadata(&level.path, inode.stat(), level.times)
    }

    fn copy_entry(&mut self, path: &StreamPath, inode: &Inode) -> Result<(), Cause> {
        let stat = inode.stat();
        let several = stat.st_nlink > 1;
        let number = format!("{}", stat.st_ino);
        if several {
            let (directory, name) = self.to.root.parent(path)?;
            let fd = &self.workshop.fd;
            match linkat(fd, &number, &*directory, name, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(Cause::system("linkat", errno)),
            }
        }
        let times = times_of(stat);
        match inode.file_type() {
            FileType::RegularFile => self.copy_file(path, inode)?,
            FileType::Symlink => self.copy_link(path)?,
            kind => self.copy_special(path, kind, stat)?,
        }
        self.copy_metadata(path, stat, times)?;
        if several {
            let (directory, name) = self.to.root.parent(path)?;
            let fd = &self.workshop.fd;
            linkat(&*directory, name, fd, &number, AtFlags::empty()).map_err(named("linkat"))?;
        }
        Ok(())
    }

    fn copy_file(&mut self, path: &StreamPath, inode: &Inode) -> Result<(), Cause> {
        let source: OwnedFd = self.from.open_inode(path, inode, Access::Read)?;
        let file = self.to.root.create_file(path, 0o600)?;
        let size = u64::try_from(inode.stat().st_size).unwrap_or(0);
        self.data.clone_range(&source, 0, &file, 0, size)
    }

    fn copy_link(&mut self, path: &StreamPath) -> Result<(), Cause> {
        let (directory, name) = self.from.parent(path)?;
        let target = readlinkat(&*directory, name, Vec::new()).map_err(named("readlinkat"))?;
        self.to.root.symlink(path, target.to_bytes())
    }

    fn copy_special(
        &mut self,
        path: &StreamPath,
        kind: FileType,
        stat: &Stat,
    ) -> Result<(), Cause> {
        let mode = stat.st_mode;
        let made = match kind {
            FileType::Fifo => self.to.root.mkfifo(path, 0o600),
            FileType::Socket => self.to.root.mksock(path, 0o600),
            _ => self
                .to
                .root
                .mknod(path, mode & !0o7777 | 0o600, stat.st_rdev),
        };
        match made {
            Err(cause) if super::tree::is_refusal(&cause) => {
                self.to.root.create_file(path, 0o600)?;
                let what = LossKind::SpecialFile {
                    mode,
                    rdev: stat.st_rdev,
                };
                self.to
                    .notes
                    .note_loss(path, what, super::tree::errno_of(&cause))
            }
            result => result,
        }
    }

    fn copy_metadata(
        &mut self,
        path: &StreamPath,
        stat: &Stat,
        (atime, mtime): (Timespec, Timespec),
    ) -> Result<(), Cause> {
        let to = &mut *self.to;
        to.chown(path, stat.st_uid, stat.st_gid)?;
        self.from
            .each_xattr(path, |name, value| to.set_xattr(path, name, value))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            to.chmod(path, stat.st_mode & 0o7777)?;
        }
        to.utimens(path, atime, Some(mtime))
    }
}

fn join(directory: &StreamPath, name: &[u8]) -> Result<StreamPath, Cause> {
    let path = match directory.is_root() {
        true => name.to_vec(),
        false => [directory.as_bytes(), b"/", name].concat(),
    };
    StreamPath::parse(Bytes::from(path)).map_err(|_| Cause::OutOfRange {
        what: "length of a path",
        value: (directory.as_bytes().len() + name.len()) as i128,
    })
}
