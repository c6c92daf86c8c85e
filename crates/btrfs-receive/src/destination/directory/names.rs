//! Filesystems that change names, or take two names for one.
//!
//! VFAT drops a dot at the end of a name, some filesystems do not tell small
//! letters from capital ones, others bring Unicode into another form. Files
//! created there could be called otherwise than in the stream, or one could
//! replace another. So wherever a filesystem is not known to store every name
//! as it is, directories are listed after names were given, a few thousand at
//! a time; and nothing is renamed onto another name for the same file.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::AsFd;

use btrfs_sendstream::{Bytes, StreamPath};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstatfs, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::confine::{BTRFS_SUPER_MAGIC, PathCache, Root};
use crate::error::{Cause, is_errno, named};

/// Names that wait to be looked for at most, and bytes of their paths.
const MAX_WAITING: usize = 8192;
const MAX_BYTES: usize = 1 << 20;

/// `f_type` of filesystems that store every name as it is, and whose inode
/// numbers and file handles stay the same for good (`linux/magic.h`).
const WELL_KNOWN: &[u64] = &[
    BTRFS_SUPER_MAGIC,
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0xf2f5_2010, // F2FS
    0x0102_1994, // tmpfs
];

/// Whether files lie on one of the common filesystems of Linux.
pub(super) fn is_well_known(file: impl AsFd) -> bool {
    // The type of `f_type` differs between architectures.
    fstatfs(file).is_ok_and(|found| WELL_KNOWN.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

/// Whether the filesystem stores every name as it is and tells any two apart,
/// for all that can be known without trying. Directories of ext4, F2FS and
/// tmpfs can be made so that they do not tell letters apart.
pub(super) fn keeps_any(directory: impl AsFd) -> bool {
    /// `FS_CASEFOLD_FL` (`linux/fs.h`).
    const CASEFOLD: u32 = 0x4000_0000;
    is_well_known(&directory)
        && rustix::fs::ioctl_getflags(&directory).map_or(true, |flags| flags.bits() & CASEFOLD == 0)
}

/// Names that were given and not yet looked for.
pub(super) struct GivenNames {
    /// `None`: every name is stored as it is.
    waiting: Option<PathCache<()>>,
    bytes: usize,
}

impl GivenNames {
    /// For the tree beneath `root`, which is empty.
    pub(super) fn new(root: &Root) -> Result<Self, Cause> {
        let faithful = keeps_any(root.fd()) && tells_letters_apart(root.fd())?;
        Ok(Self {
            waiting: (!faithful).then(|| PathCache::new(usize::MAX)),
            bytes: 0,
        })
    }

    /// The file at `path` was given this name.
    pub(super) fn given(&mut self, root: &Root, path: &StreamPath) -> Result<(), Cause> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(());
        };
        waiting.insert(path.as_bytes(), ());
        self.bytes += path.as_bytes().len();
        if waiting.len() >= MAX_WAITING || self.bytes >= MAX_BYTES {
            return self.check(root);
        }
        Ok(())
    }

    /// What was at `path` is gone.
    pub(super) fn removed(&mut self, path: &StreamPath) {
        if let Some(waiting) = &mut self.waiting {
            waiting.remove(path.as_bytes());
        }
    }

    /// Renames, which replaces what has that very name, as `rename(2)` does,
    /// but nothing else.
    pub(super) fn rename(
        &mut self,
        root: &Root,
        path: &StreamPath,
        to: &StreamPath,
    ) -> Result<(), Cause> {
        if self.waiting.is_none() {
            return root.rename(path, to, true);
        }
        let done = root.rename(path, to, false);
        let is_taken = match &done {
            Err(cause) if is_errno(cause, Errno::EXIST) => true,
            // Not every filesystem can rename without replacing.
            Err(cause) if is_errno(cause, Errno::INVAL) => match root.inode(to) {
                Ok(_) => true,
                Err(cause) if is_errno(&cause, Errno::NOENT) => false,
                Err(cause) => return Err(cause),
            },
            _ => return self.follow(root, path, to, done),
        };
        if is_taken && !is_listed(root, to)? && !is_one_file(root, path, to)? {
            return Err(taken(to));
        }
        let done = root.rename(path, to, true);
        self.follow(root, path, to, done)
    }

    fn follow(
        &mut self,
        root: &Root,
        path: &StreamPath,
        to: &StreamPath,
        done: Result<(), Cause>,
    ) -> Result<(), Cause> {
        done?;
        if let Some(waiting) = &mut self.waiting {
            waiting.rename(path.as_bytes(), to.as_bytes());
        }
        self.given(root, to)
    }

    /// Why `path` could not be created: if the name is taken by one that is
    /// written otherwise, that.
    pub(super) fn explain(&self, root: &Root, path: &StreamPath, cause: Cause) -> Cause {
        let is_other = self.waiting.is_some()
            && is_errno(&cause, Errno::EXIST)
            && is_listed(root, path).is_ok_and(|listed| !listed);
        if is_other { taken(path) } else { cause }
    }

    /// Looks for all names that were given since the last time.
    pub(super) fn check(&mut self, root: &Root) -> Result<(), Cause> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(());
        };
        let waiting = std::mem::replace(waiting, PathCache::new(usize::MAX));
        self.bytes = 0;
        let mut missing: BTreeMap<Vec<u8>, HashSet<Vec<u8>>> = BTreeMap::new();
        for (path, ()) in waiting.into_entries() {
            let (directory, name) = divided(&path);
            let names = missing.entry(directory.to_vec()).or_default();
            names.insert(name.to_vec());
        }
        for (directory, mut names) in missing {
            let path = StreamPath::parse(Bytes::from(directory)).map_err(|_| Cause::RootItself)?;
            let fd = root.open_directory(&path)?;
            each_name(&fd, |name| {
                names.remove(name);
                names.is_empty()
            })?;
            if let Some(name) = names.into_iter().next() {
                let path = match path.is_root() {
                    true => name,
                    false => [path.as_bytes(), b"/", &name].concat(),
                };
                let (path, taken) = (Bytes::from(path), false);
                return Err(Cause::NameNotStored { path, taken });
            }
        }
        Ok(())
    }
}

/// Whether a directory lists this very name.
pub(super) fn lists(directory: impl AsFd, name: &[u8]) -> Result<bool, Cause> {
    let mut found = false;
    each_name(directory, |other| {
        found |= other == name;
        found
    })?;
    Ok(found)
}

/// Calls `take` with the names in a directory until it returns `true`.
fn each_name(directory: impl AsFd, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), Cause> {
    for entry in Dir::read_from(directory).map_err(named("getdents"))? {
        let entry = entry.map_err(named("getdents"))?;
        if take(entry.file_name().to_bytes()) {
            break;
        }
    }
    Ok(())
}

fn is_listed(root: &Root, path: &StreamPath) -> Result<bool, Cause> {
    let (directory, name) = divided(path.as_bytes());
    let directory = StreamPath::parse(Bytes::copy_from_slice(directory));
    let directory = directory.map_err(|_| Cause::RootItself)?;
    lists(root.open_directory(&directory)?, name)
}

/// Whether both names are of one file that has no others: the spelling of its
/// name changes.
fn is_one_file(root: &Root, path: &StreamPath, to: &StreamPath) -> Result<bool, Cause> {
    let (one, other) = (root.inode(path)?, root.inode(to)?);
    let id = |inode: &crate::confine::Inode| (inode.stat().st_dev, inode.stat().st_ino);
    Ok(id(&one) == id(&other))
}

fn taken(path: &StreamPath) -> Cause {
    Cause::NameNotStored {
        path: Bytes::copy_from_slice(path.as_bytes()),
        taken: true,
    }
}

/// The directory, and the name in it.
fn divided(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let (directory, name) = path.split_at(slash);
            (directory, name.get(1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

/// Tries it in an empty directory.
fn tells_letters_apart(directory: impl AsFd) -> Result<bool, Cause> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(&directory, c"a", flags, Mode::RUSR).map_err(named("openat"))?;
    let found = statat(&directory, c"A", AtFlags::SYMLINK_NOFOLLOW);
    unlinkat(&directory, c"a", AtFlags::empty()).map_err(named("unlinkat"))?;
    Ok(found.is_err())
}
