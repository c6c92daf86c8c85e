//! New inodes, which may inherit nothing from the directory they are made in.

use btrfs_sendstream::StreamPath;
use rustix::fs::{Mode, OFlags, fgetxattr, fstat, ioctl_getflags, openat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::flags::{self, INHERITED_FL, SharedFlags};
use super::open_file::OpenFile;
use super::root_names::RootNames;
use crate::confine::{PathCache, Root};
use crate::error::{Cause, named};
use crate::plan::op::NewInode;
use crate::step_error::StepError;
use crate::xattr::{COMPRESSION, DEFAULT_ACL};

/// Directories whose inheritance is remembered.
const MAX_DIRECTORIES: usize = 1024;

/// Creates inodes.
///
/// A default ACL, `btrfs.compression`, NOCOW and the set-group-id bit of a
/// directory pass to what is created in it. The subvolume's root was cleaned
/// of these, so an inode is made in its final directory only if that has
/// none of them, else in the root and then renamed.
pub(in crate::destination) struct Creator {
    /// Whether a directory hands something down.
    inherits: PathCache<bool>,
    /// The mode given to the kernel is the mode of the inode: this thread
    /// has a umask of its own, which is 0.
    exact_modes: bool,
    /// Who a new inode belongs to, once seen.
    owner: Option<Option<(u32, u32)>>,
    root_names: RootNames,
    /// For directories that let nothing in.
    flags: SharedFlags,
    /// For names of our own in the root.
    next_name: u64,
}

impl Creator {
    pub(in crate::destination) fn new(
        exact_modes: bool,
        root_names: RootNames,
        flags: SharedFlags,
    ) -> Self {
        Self {
            inherits: PathCache::new(MAX_DIRECTORIES),
            exact_modes,
            owner: None,
            root_names,
            flags,
            next_name: 0,
        }
    }

    /// Creates an inode; returns it if it is a regular file.
    pub(in crate::destination) fn create(
        &mut self,
        root: &Root,
        path: &StreamPath,
        created_as: Option<&StreamPath>,
        kind: &NewInode,
        mode: Option<u32>,
    ) -> Result<Option<OpenFile>, StepError> {
        let direct = match created_as {
            Some(first) => !self.root_names.exists(root, first)? && !self.hands_down(root, path)?,
            None => !self.hands_down(root, path)?,
        };
        self.root_names.note(path);
        if direct {
            let made = self.make(root, path, kind, mode);
            // A name that is taken is replaced by the rename, if the stream
            // has one; other errors come again, and from the right step.
            if made.is_ok() || created_as.is_none() {
                return Ok(self.made(path, kind, made)?);
            }
        }
        let first = match created_as {
            Some(first) => first.clone(),
            None => self.free_name(root)?,
        };
        self.root_names.note(&first);
        let made = self.make(root, &first, kind, mode)?;
        if let Err(cause) = root.rename(&first, path, created_as.is_some()) {
            // A name of our own must not stay behind.
            if created_as.is_none() {
                let _ = match kind {
                    NewInode::Directory => root.rmdir(&first),
                    _ => root.unlink(&first),
                };
            }
            return Err(StepError { part: 1, cause });
        }
        Ok(self.made(path, kind, Ok(made))?)
    }

    /// Something is about to get the name `path`.
    pub(in crate::destination) fn note_name(&mut self, path: &StreamPath) {
        self.root_names.note(path);
    }

    /// Who owns what this creates, if that is known.
    pub(in crate::destination) fn owner(&self) -> Option<(u32, u32)> {
        self.owner.flatten()
    }

    /// Follows a rename.
    pub(in crate::destination) fn renamed(&mut self, path: &StreamPath, to: &StreamPath) {
        self.inherits.rename(path.as_bytes(), to.as_bytes());
    }

    /// The directory at `path` is gone, or must be looked at again.
    pub(in crate::destination) fn forget(&mut self, path: &StreamPath) {
        self.inherits.remove(path.as_bytes());
    }

    /// An extended attribute of the directory at `path` is about to change.
    pub(in crate::destination) fn inheritance_changed(&mut self, path: &StreamPath, name: &[u8]) {
        if name == DEFAULT_ACL || name == COMPRESSION {
            self.forget(path);
        }
    }

    fn made(
        &mut self,
        path: &StreamPath,
        kind: &NewInode,
        made: Result<Option<OpenFile>, Cause>,
    ) -> Result<Option<OpenFile>, Cause> {
        if matches!(kind, NewInode::Directory) && made.is_ok() {
            self.inherits.remove(path.as_bytes());
            self.inherits.insert(path.as_bytes(), false);
        }
        made
    }

    fn make(
        &mut self,
        root: &Root,
        path: &StreamPath,
        kind: &NewInode,
        mode: Option<u32>,
    ) -> Result<Option<OpenFile>, Cause> {
        let bits = |default: u32| match mode {
            // Where the umask could take bits away, the mode is set after.
            Some(mode) if self.exact_modes => mode,
            _ => default,
        };
        match kind {
            NewInode::File => {
                let fd = root.create_file(path, bits(0o600))?;
                if let Some(mode) = mode
                    && !self.exact_modes
                {
                    let mode = Mode::from_raw_mode(mode);
                    rustix::fs::fchmod(&fd, mode).map_err(named("fchmod"))?;
                }
                let owner = self.owner_of_new(&fd);
                return Ok(Some(OpenFile::created(fd, owner)));
            }
            NewInode::Directory => root.mkdir(path, bits(0o700))?,
            NewInode::Symlink { target } => return root.symlink(path, target).map(|()| None),
            NewInode::Device { mode, rdev } => {
                root.mknod(path, mode & 0o170_000 | bits(mode & 0o777), *rdev)?;
            }
            NewInode::Fifo { mode } => root.mkfifo(path, bits(mode & 0o777))?,
            NewInode::Socket { mode } => root.mksock(path, bits(mode & 0o777))?,
        }
        if !self.exact_modes {
            let special = match kind {
                NewInode::Device { mode, .. }
                | NewInode::Fifo { mode }
                | NewInode::Socket { mode } => Some(mode & 0o777),
                _ => None,
            };
            if let Some(mode) = mode.or(special) {
                root.chmod(path, mode)?;
            }
        }
        Ok(None)
    }

    /// Who new inodes belong to, if that is this process. It is looked up
    /// for the first one: an idmapped mount could say otherwise.
    fn owner_of_new(&mut self, fd: &std::os::fd::OwnedFd) -> Option<(u32, u32)> {
        *self.owner.get_or_insert_with(|| {
            let expected = (geteuid().as_raw(), getegid().as_raw());
            let stat = fstat(fd).ok()?;
            ((stat.st_uid, stat.st_gid) == expected).then_some(expected)
        })
    }

    /// Whether the directory that `path` lies in passes something on. If it
    /// is immutable it is made changeable until the end.
    fn hands_down(&mut self, root: &Root, path: &StreamPath) -> Result<bool, Cause> {
        let Some(parent) = path.parent() else {
            return Err(Cause::RootItself);
        };
        if parent.is_root() {
            return Ok(false);
        }
        if let Some(known) = self.inherits.get(parent.as_bytes()) {
            return Ok(known);
        }
        let (directory, _) = root.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match openat(&*directory, c".", flags, Mode::empty()) {
            Ok(fd) => fd,
            // It cannot be read: be careful.
            Err(Errno::ACCESS) => return Ok(true),
            Err(errno) => return Err(Cause::system("openat", errno)),
        };
        let has = |name: &[u8]| match fgetxattr(&fd, name, &mut [][..] as &mut [u8]) {
            Ok(_) => true,
            Err(errno) => !matches!(errno, Errno::NODATA | Errno::OPNOTSUPP),
        };
        let stat = fstat(&fd).map_err(named("fstat"))?;
        let bits = match ioctl_getflags(&fd) {
            Ok(flags) => flags.bits(),
            // A filesystem that has no such flags.
            Err(Errno::NOTTY | Errno::OPNOTSUPP) => 0,
            Err(errno) => return Err(Cause::system("FS_IOC_GETFLAGS", errno)),
        };
        if flags::forbid_names(bits) {
            flags::lift(&fd, &self.flags)?;
        }
        let found = stat.st_mode & 0o2000 != 0
            || bits & INHERITED_FL != 0
            || has(DEFAULT_ACL)
            || has(COMPRESSION);
        self.inherits.insert(parent.as_bytes(), found);
        Ok(found)
    }

    /// A name in the root that nothing has.
    fn free_name(&mut self, root: &Root) -> Result<StreamPath, Cause> {
        loop {
            let name = format!("o0-0-{}", self.next_name).into_bytes();
            self.next_name += 1;
            let path = StreamPath::parse(name.into()).map_err(|_| Cause::RootItself)?;
            if !self.root_names.exists(root, &path)? {
                return Ok(path);
            }
        }
    }
}
