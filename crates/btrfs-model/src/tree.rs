//! The model tree: inodes and names, and what system calls do to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use btrfs_sendstream::{Bytes, StreamPath, Timespec};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::content::Content;
use super::inode::{INODE_COST, Inode, Kind};
use btrfs_receive::NewInode;
use btrfs_receive::{Barrier, Cause};

/// The inode number of a subvolume's root.
pub(super) const ROOT: u64 = 256;

/// What a name costs beside its bytes, towards the limit of the model.
const NAME_COST: u64 = 128;

/// Longest name, without NUL (`linux/limits.h`). Paths may have any length:
/// what is too long for one system call is resolved in several.
const NAME_MAX: usize = 255;
/// Longest target of a symbolic link, without NUL (`PATH_MAX`).
const TARGET_MAX: usize = 4095;

/// Most names of one inode (`BTRFS_LINK_MAX`).
const LINK_MAX: u32 = 65_535;

/// Where the clock of a model starts, in seconds; it moves on by one second
/// with every change.
const EPOCH: i64 = 1_000_000_000;

/// A model of a btrfs subvolume, in memory.
///
/// Its operations are those of the kernel, run by root under umask 0, on a
/// filesystem with sectors of 4 KiB and nodes of 16 KiB: they have the same
/// side effects on modes, owners, times and extended attributes, let new
/// inodes inherit from their directory, and fail in the same cases. In three
/// ways it differs: symbolic links are never followed, data goes to regular
/// files only, and the immutable and append-only flags are recorded without
/// effect. Time is a counter, so that results repeat.
///
/// A copy shares its inodes with the original until one of them changes.
#[derive(Clone, Debug)]
pub struct Tree {
    pub(super) inodes: BTreeMap<u64, Arc<Inode>>,
    next: u64,
    clock: i64,
    used: u64,
    limit: u64,
}

impl Tree {
    /// An empty tree, its root owned by root with mode 0o755, which may use
    /// about `limit` bytes of memory.
    pub fn new(limit: u64) -> Self {
        let now = Timespec {
            seconds: EPOCH,
            nanoseconds: 0,
        };
        let root = Inode::new(Kind::Directory(BTreeMap::new()), 0o755, now);
        Self {
            inodes: BTreeMap::from([(ROOT, Arc::new(root))]),
            next: ROOT + 1,
            clock: EPOCH,
            used: INODE_COST,
            limit,
        }
    }

    /// Bytes of memory used, as if nothing were shared with other trees.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// What [`Tree::used`] has to be.
    #[cfg(test)]
    pub(super) fn recount(&self) -> u64 {
        let names = |inode: &Inode| match &inode.kind {
            Kind::Directory(names) => names.keys().map(|name| name_cost(name)).sum(),
            _ => 0,
        };
        let inodes = self.inodes.values();
        inodes.map(|inode| inode.cost() + names(inode)).sum()
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Creates an inode as `open(2)`, `mkdir(2)`, `symlink(2)` and
    /// `mknod(2)` do: what its directory hands down, it gets. `mode` is for
    /// files and directories; nodes take that of `kind`.
    ///
    /// # Errors
    /// As those calls; [`Cause::OutOfRange`] for a device that is none.
    pub fn create(&mut self, path: &StreamPath, kind: &NewInode, mode: u32) -> Result<(), Cause> {
        let call = create_call(kind);
        let (directory, name) = self.parent(path.borrow(), call)?;
        check_name(name, call)?;
        if self.child(directory, name).is_some() {
            return Err(Cause::system(call, Errno::EXIST));
        }
        let (kind, mode) = new_kind(kind, mode)?;
        let mut inode = Inode::new(kind, mode, self.tick());
        if let Some(directory) = self.inodes.get(&directory) {
            inode.inherit(directory);
        }
        let cost = inode.cost();
        self.check_room(cost + name_cost(name))?;
        self.used += cost;
        let number = self.next;
        self.next += 1;
        self.inodes.insert(number, Arc::new(inode));
        self.add_name(directory, name, number);
        Ok(())
    }

    /// As `rename(2)`: replaces what stands at the new name, a directory
    /// only if it is empty.
    ///
    /// # Errors
    /// As that call.
    pub fn rename(&mut self, path: &StreamPath, to: &StreamPath) -> Result<(), Cause> {
        let call = "renameat2";
        let error = |errno| Cause::system(call, errno);
        let (from, old) = self.parent(path.borrow(), call)?;
        let (into, new) = self.parent(to.borrow(), call)?;
        let moved = self.child(from, old).ok_or(error(Errno::NOENT))?;
        check_name(new, call)?;
        let replaced = self.child(into, new);
        if self.passes(to.borrow(), moved) {
            return Err(error(Errno::INVAL));
        }
        if let Some(replaced) = replaced {
            if self.passes(path.borrow(), replaced) {
                return Err(error(Errno::NOTEMPTY));
            }
            if replaced == moved {
                return Ok(());
            }
            match (self.names(moved), self.names(replaced)) {
                (Some(_), None) => return Err(error(Errno::NOTDIR)),
                (None, Some(_)) => return Err(error(Errno::ISDIR)),
                (Some(_), Some(names)) if !names.is_empty() => {
                    return Err(error(Errno::NOTEMPTY));
                }
                _ => {}
            }
        }
        // The old name goes first, but the new one may be longer.
        self.check_room(name_cost(new))?;
        self.tick();
        if replaced.is_some() {
            self.remove_name(into, new);
        }
        self.remove_name(from, old);
        self.add_name(into, new, moved);
        if let Some(replaced) = replaced {
            self.drop_link(replaced);
        }
        Ok(())
    }

    /// As `link(2)`.
    ///
    /// # Errors
    /// As that call.
    pub fn link(&mut self, path: &StreamPath, existing: &StreamPath) -> Result<(), Cause> {
        let call = "linkat";
        let error = |errno| Cause::system(call, errno);
        if existing.is_root() {
            return Err(Cause::RootItself);
        }
        let number = self.resolve(existing.borrow(), call)?;
        let (directory, name) = self.parent(path.borrow(), call)?;
        check_name(name, call)?;
        if self.child(directory, name).is_some() {
            return Err(error(Errno::EXIST));
        }
        if self.names(number).is_some() {
            return Err(error(Errno::PERM));
        }
        if self
            .inodes
            .get(&number)
            .is_some_and(|i| i.links >= LINK_MAX)
        {
            return Err(error(Errno::MLINK));
        }
        self.check_room(name_cost(name))?;
        self.tick();
        if let Some(inode) = self.inodes.get_mut(&number) {
            Arc::make_mut(inode).links += 1;
        }
        self.add_name(directory, name, number);
        Ok(())
    }

    /// As `unlink(2)`.
    ///
    /// # Errors
    /// As that call.
    pub fn unlink(&mut self, path: &StreamPath) -> Result<(), Cause> {
        let call = "unlinkat";
        let (directory, name) = self.parent(path.borrow(), call)?;
        let number = self
            .child(directory, name)
            .ok_or(Cause::system(call, Errno::NOENT))?;
        if self.names(number).is_some() {
            return Err(Cause::system(call, Errno::ISDIR));
        }
        self.tick();
        self.remove_name(directory, name);
        self.drop_link(number);
        Ok(())
    }

    /// As `rmdir(2)`.
    ///
    /// # Errors
    /// As that call.
    pub fn rmdir(&mut self, path: &StreamPath) -> Result<(), Cause> {
        let call = "unlinkat";
        let error = |errno| Cause::system(call, errno);
        let (directory, name) = self.parent(path.borrow(), call)?;
        let number = self.child(directory, name).ok_or(error(Errno::NOENT))?;
        match self.names(number) {
            None => return Err(error(Errno::NOTDIR)),
            Some(names) if !names.is_empty() => return Err(error(Errno::NOTEMPTY)),
            Some(_) => {}
        }
        self.tick();
        self.remove_name(directory, name);
        self.drop_link(number);
        Ok(())
    }

    /// The inode that a path names.
    pub fn get(&self, path: &StreamPath) -> Option<&Inode> {
        let number = self.resolve(path.borrow(), "openat2").ok()?;
        self.inodes.get(&number).map(Arc::as_ref)
    }

    /// The inode for a change.
    pub(super) fn change(
        &mut self,
        path: &StreamPath,
        call: &'static str,
        growth: u64,
        change: impl FnOnce(&mut Inode, Timespec) -> Result<(), Errno>,
    ) -> Result<(), Cause> {
        let number = self.resolve(path.borrow(), call)?;
        self.change_inode(number, call, growth, change)
    }

    pub(super) fn change_inode(
        &mut self,
        number: u64,
        call: &'static str,
        growth: u64,
        change: impl FnOnce(&mut Inode, Timespec) -> Result<(), Errno>,
    ) -> Result<(), Cause> {
        self.check_room(growth)?;
        let now = self.tick();
        let Some(inode) = self.inodes.get_mut(&number) else {
            return Err(Cause::system(call, Errno::NOENT));
        };
        let inode = Arc::make_mut(inode);
        let before = inode.cost();
        let result = change(inode, now);
        self.used = self.used - before + inode.cost();
        result.map_err(|errno| Cause::system(call, errno))
    }

    pub(super) fn file(&self, path: &StreamPath) -> Result<(u64, &Content), Cause> {
        let number = self.resolve(path.borrow(), "openat2")?;
        let inode = self.inodes.get(&number);
        let inode = inode.ok_or(Cause::system("openat2", Errno::NOENT))?;
        match &inode.kind {
            Kind::File(content) => Ok((number, content)),
            kind => Err(Cause::NotRegularFile { found: kind.name() }),
        }
    }

    pub(super) fn resolve(
        &self,
        path: StreamPath<&[u8]>,
        call: &'static str,
    ) -> Result<u64, Cause> {
        if path.is_root() {
            return Ok(ROOT);
        }
        let (directory, name) = self.parent(path, call)?;
        check_name(name, call)?;
        self.child(directory, name)
            .ok_or(Cause::system(call, Errno::NOENT))
    }

    /// The directory that holds a name, and the name.
    fn parent<'p>(
        &self,
        path: StreamPath<&'p [u8]>,
        call: &'static str,
    ) -> Result<(u64, &'p [u8]), Cause> {
        let bytes = path.into_inner();
        if bytes.is_empty() {
            return Err(Cause::RootItself);
        }
        let mut directory = ROOT;
        let mut start = 0;
        for (slash, _) in bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'/') {
            let name = bytes.get(start..slash).unwrap_or_default();
            check_name(name, call)?;
            directory = self
                .child(directory, name)
                .ok_or(Cause::system(call, Errno::NOENT))?;
            match self.inodes.get(&directory).map(|inode| &inode.kind) {
                Some(Kind::Directory(_)) => {}
                Some(Kind::Symlink(_)) => {
                    return Err(Cause::Escape {
                        path: Bytes::copy_from_slice(bytes.get(..slash).unwrap_or_default()),
                        barrier: Barrier::SymbolicLink,
                    });
                }
                _ => return Err(Cause::system(call, Errno::NOTDIR)),
            }
            start = slash + 1;
        }
        Ok((directory, bytes.get(start..).unwrap_or_default()))
    }

    /// Whether a directory on the way to `path` is `number`.
    fn passes(&self, path: StreamPath<&[u8]>, number: u64) -> bool {
        let bytes = path.into_inner();
        let mut directory = ROOT;
        let mut names = bytes.split(|&byte| byte == b'/');
        names.next_back();
        for name in names {
            match self.child(directory, name) {
                Some(child) => directory = child,
                None => return false,
            }
            if directory == number {
                return true;
            }
        }
        false
    }

    fn names(&self, number: u64) -> Option<&BTreeMap<Bytes, u64>> {
        match &self.inodes.get(&number)?.kind {
            Kind::Directory(names) => Some(names),
            _ => None,
        }
    }

    fn child(&self, directory: u64, name: &[u8]) -> Option<u64> {
        self.names(directory)?.get(name).copied()
    }

    fn add_name(&mut self, directory: u64, name: &[u8], number: u64) {
        let now = self.now();
        if let Some(inode) = self.inodes.get_mut(&directory) {
            let inode = Arc::make_mut(inode);
            inode.mtime = now;
            if let Kind::Directory(names) = &mut inode.kind {
                names.insert(Bytes::copy_from_slice(name), number);
                self.used += name_cost(name);
            }
        }
    }

    fn remove_name(&mut self, directory: u64, name: &[u8]) {
        let now = self.now();
        if let Some(inode) = self.inodes.get_mut(&directory) {
            let inode = Arc::make_mut(inode);
            inode.mtime = now;
            if let Kind::Directory(names) = &mut inode.kind
                && names.remove(name).is_some()
            {
                self.used -= name_cost(name);
            }
        }
    }

    fn drop_link(&mut self, number: u64) {
        let Some(inode) = self.inodes.get_mut(&number) else {
            return;
        };
        if inode.links > 1 {
            Arc::make_mut(inode).links -= 1;
            return;
        }
        self.used -= inode.cost();
        self.inodes.remove(&number);
    }

    fn now(&self) -> Timespec {
        Timespec {
            seconds: self.clock,
            nanoseconds: 0,
        }
    }

    fn tick(&mut self) -> Timespec {
        self.clock = self.clock.saturating_add(1);
        self.now()
    }

    pub(super) fn check_room(&self, growth: u64) -> Result<(), Cause> {
        if self.used.saturating_add(growth) > self.limit {
            return Err(Cause::Limit {
                what: "bytes of memory of the model",
                limit: self.limit,
            });
        }
        Ok(())
    }
}

fn name_cost(name: &[u8]) -> u64 {
    name.len() as u64 + NAME_COST
}

fn check_name(name: &[u8], call: &'static str) -> Result<(), Cause> {
    if name.len() > NAME_MAX {
        return Err(Cause::system(call, Errno::NAMETOOLONG));
    }
    Ok(())
}

fn create_call(kind: &NewInode) -> &'static str {
    match kind {
        NewInode::File => "openat",
        NewInode::Directory => "mkdirat",
        NewInode::Symlink { .. } => "symlinkat",
        _ => "mknodat",
    }
}

/// Kind and permission bits of a new inode.
fn new_kind(kind: &NewInode, mode: u32) -> Result<(Kind, u32), Cause> {
    Ok(match kind {
        NewInode::File => (Kind::File(Content::default()), mode & 0o7777),
        // mkdir(2) takes the sticky bit, but no set-id bits.
        NewInode::Directory => (Kind::Directory(BTreeMap::new()), mode & 0o1777),
        NewInode::Symlink { target } => {
            if target.is_empty() {
                return Err(Cause::system("symlinkat", Errno::NOENT));
            }
            if target.len() > TARGET_MAX {
                return Err(Cause::system("symlinkat", Errno::NAMETOOLONG));
            }
            (Kind::Symlink(Bytes::copy_from_slice(target)), 0o777)
        }
        NewInode::Device { mode, rdev } => (device(*mode, *rdev)?, mode & 0o7777),
        NewInode::Fifo { mode } => (Kind::Fifo, mode & 0o7777),
        NewInode::Socket { mode } => (Kind::Socket, mode & 0o7777),
    })
}

fn device(mode: u32, rdev: u64) -> Result<Kind, Cause> {
    let number = u32::try_from(rdev).map_err(|_| Cause::OutOfRange {
        what: "device number",
        value: rdev.into(),
    });
    match FileType::from_raw_mode(mode) {
        FileType::CharacterDevice => Ok(Kind::CharacterDevice(number?)),
        FileType::BlockDevice => Ok(Kind::BlockDevice(number?)),
        _ => Err(Cause::OutOfRange {
            what: "mode of a device",
            value: mode.into(),
        }),
    }
}
