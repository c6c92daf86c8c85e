//! Everything that happens inside one subvolume, and nothing outside it.
//!
//! A [`Root`] holds the subvolume. Every operation resolves the directory
//! that a path lies in, beneath that descriptor, and then acts on
//! (descriptor, last name) with a call that does not follow a symbolic link
//! there. No path is ever given to the kernel from the process's working
//! directory.
//!
//! What holds whatever the stream or another process does to the tree:
//! - no symbolic link and no magic link is followed, in any component;
//! - no mount point on the way is crossed, and no directory of another
//!   subvolume is entered. The kernel's `RESOLVE_NO_XDEV` lets nested
//!   subvolumes pass, as nothing is mounted there; they are told by their
//!   `st_dev`. One that can be entered was made during the receive: a
//!   snapshot shows those of its source as empty directories, which nothing
//!   can be put into, and which count as other subvolumes too;
//! - file data goes to regular files only, never to devices or FIFOs, which
//!   are not even opened.
//!
//! What does not: calls that take (directory, name) act on what has that
//! name at that moment. If another process mounts something there, or
//! creates a subvolume there, then owner, times or extended attributes of
//! that mount's or subvolume's root are set. Both take a privileged process
//! or the owner of the directory.
//!
//! Directories are kept open in a cache, see [`cache`]: a descriptor stays
//! on its directory wherever that is renamed to. On btrfs a directory cannot
//! leave its subvolume, so a descriptor kept is as confined as a fresh one.

mod cache;
mod change;
mod file;
// A test that the fuzzer runs too, without the dependencies of tests.
#[cfg(any(test, fuzzing))]
#[allow(unreachable_pub)]
#[path = "tests/fuzzing.rs"]
pub mod fuzzing;
mod metadata;
mod openat2;
mod proc;
#[cfg(test)]
mod tests;
mod walk;

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use btrfs_sendstream::{Bytes, StreamPath};
use rustix::fs::{OFlags, fstat, fstatfs};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::{Barrier, Cause};
pub(crate) use cache::PathCache;
pub(crate) use file::{Access, Inode};
pub(crate) use metadata::{XattrHolder, timestamps};
use proc::ProcFd;

/// Most directories that one [`Root`] keeps open. Consecutive commands of a
/// stream stay in few directories; 256 descriptors are a quarter of the
/// usual limit of 1,024.
pub(crate) const MAX_DIRECTORIES: usize = 256;

/// A subvolume, and the only way to anything inside it.
///
/// It belongs to one thread at a time (`Send`, not `Sync`).
pub(crate) struct Root {
    directory: Arc<Directory>,
    boundary: Boundary,
    resolver: Resolver,
    proc_fd: Option<ProcFd>,
    cache: RefCell<PathCache<Arc<Directory>>>,
}

/// An open directory of a subvolume.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

/// How paths are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// By the kernel in one call, Linux 5.6 and later.
    Openat2,
    /// One component after the other.
    Walk,
}

/// `f_type` of btrfs (`linux/magic.h`).
pub(crate) const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;

/// What tells a descriptor inside the subvolume from one outside.
#[derive(Clone, Copy, Debug)]
struct Boundary {
    /// `st_dev`; each subvolume has its own. `None` on other filesystems: they
    /// have no subvolumes, and on an overlay files can have another `st_dev` than
    /// directories.
    device: Option<u64>,
    /// Id of the mount, if it can be found out.
    mount: Option<u64>,
}

/// Why a resolver did not open something. `end` counts the bytes of the
/// path given to it, up to the end of the component it was refused at.
#[derive(Debug, PartialEq, Eq)]
enum OpenError {
    System(&'static str, Errno),
    Escape { end: usize, barrier: Barrier },
}

impl OpenError {
    /// The same error for a path that has `skipped` bytes before.
    fn after(self, skipped: usize) -> Self {
        match self {
            Self::System(..) => self,
            Self::Escape { end, barrier } => Self::Escape {
                end: skipped + end,
                barrier,
            },
        }
    }
}

impl Root {
    /// Takes the root directory of a subvolume, opened for reading
    /// (`O_RDONLY | O_DIRECTORY`, not `O_PATH`).
    ///
    /// Looks at `/proc` once: calls that need it must not be made from
    /// inside a chroot that was entered later.
    ///
    /// # Errors
    /// `fstat` or `fstatfs` failed.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Cause> {
        let resolver = openat2::probe(fd.as_fd());
        Self::with_resolver(fd, resolver)
    }

    /// As [`Root::new`]; with `walk` as on a kernel without `openat2`.
    pub(crate) fn open_as(fd: OwnedFd, walk: bool) -> Result<Self, Cause> {
        match walk {
            true => Self::with_resolver(fd, Resolver::Walk),
            false => Self::new(fd),
        }
    }

    /// As [`Root::new`], with the resolver given.
    pub(crate) fn with_resolver(fd: OwnedFd, resolver: Resolver) -> Result<Self, Cause> {
        let stat = fstat(&fd).map_err(|errno| Cause::system("fstat", errno))?;
        let facts = fstatfs(&fd).map_err(|errno| Cause::system("fstatfs", errno))?;
        // The type of `f_type` differs between architectures.
        let is_btrfs = facts.f_type as u64 & 0xffff_ffff == BTRFS_SUPER_MAGIC;
        let mount = proc::mount_id(fd.as_fd());
        let boundary = Boundary {
            // Without the id of the mount, it is all there is.
            device: (is_btrfs || mount.is_none()).then_some(stat.st_dev),
            mount,
        };
        Ok(Self {
            directory: Arc::new(Directory(fd)),
            boundary,
            resolver,
            proc_fd: ProcFd::open(),
            cache: RefCell::new(PathCache::new(cache_capacity())),
        })
    }

    /// Keeps at most this many directories open from now on.
    pub(crate) fn keep_directories(&mut self, most: usize) {
        *self.cache.get_mut() = PathCache::new(most);
    }

    /// The descriptor of the subvolume's root, as it was given.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The directory that holds `path`, and its name there.
    ///
    /// # Errors
    /// [`Cause::RootItself`] for the empty path; [`Cause::Escape`] if the
    /// path leads out of the subvolume or over a symbolic link;
    /// [`Cause::System`] if the directory is not there or is none.
    pub(crate) fn parent<'p>(
        &self,
        path: &'p StreamPath,
    ) -> Result<(Arc<Directory>, &'p [u8]), Cause> {
        self.parent_at(path.as_bytes())
    }

    fn parent_at<'p>(&self, path: &'p [u8]) -> Result<(Arc<Directory>, &'p [u8]), Cause> {
        if path.is_empty() {
            return Err(Cause::RootItself);
        }
        match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Ok((self.directory_at(&path[..slash])?, &path[slash + 1..])),
            None => Ok((Arc::clone(&self.directory), path)),
        }
    }

    /// A directory, the subvolume's root for the empty path.
    fn directory_at(&self, path: &[u8]) -> Result<Arc<Directory>, Cause> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.directory));
        }
        if let Some(directory) = self.cache.borrow_mut().get(path) {
            return Ok(directory);
        }
        let (start, base) = self.nearest(path);
        let fd = self.open(&base, path, start, OFlags::DIRECTORY)?;
        let stat = fstat(&fd).map_err(|errno| Cause::system("fstat", errno))?;
        self.check_device(path, stat.st_dev)?;
        let directory = Arc::new(Directory(fd));
        self.cache.borrow_mut().insert(path, Arc::clone(&directory));
        Ok(directory)
    }

    /// The closest ancestor of `path` that is open, and where the rest of
    /// `path` begins.
    fn nearest(&self, path: &[u8]) -> (usize, Arc<Directory>) {
        let mut cache = self.cache.borrow_mut();
        let mut end = path.len();
        while let Some(slash) = path[..end].iter().rposition(|&byte| byte == b'/') {
            if let Some(directory) = cache.get(&path[..slash]) {
                return (slash + 1, directory);
            }
            end = slash;
        }
        (0, Arc::clone(&self.directory))
    }

    /// Opens `path[start..]` beneath `base` as an `O_PATH` descriptor that
    /// may be of a symbolic link, unless `flags` has `O_DIRECTORY`.
    fn open(
        &self,
        base: &Directory,
        path: &[u8],
        start: usize,
        flags: OFlags,
    ) -> Result<OwnedFd, Cause> {
        let rest = &path[start..];
        let open = || match self.resolver {
            Resolver::Openat2 => openat2::open(&self.boundary, base.as_fd(), rest, flags),
            Resolver::Walk => walk::open(&self.boundary, base.as_fd(), rest, flags),
        };
        let mut result = open();
        if matches!(&result, Err(OpenError::System(_, errno)) if out_of_descriptors(*errno)) {
            self.cache.borrow_mut().clear();
            result = open();
        }
        result.map_err(|error| match error {
            OpenError::System(call, errno) => Cause::system(call, errno),
            OpenError::Escape { end, barrier } => escape(&path[..start + end], barrier),
        })
    }

    /// Whether a directory is kept open for `path`: then it is one, without
    /// asking the kernel. `false` says nothing.
    pub(crate) fn is_known_directory(&self, path: &StreamPath) -> bool {
        self.cache.borrow_mut().get(path.as_bytes()).is_some()
    }

    /// Makes a call that returns a descriptor; if none are left, once more
    /// after closing what the cache holds.
    fn making_room<T>(&self, call: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match call() {
            Err(errno) if out_of_descriptors(errno) => {
                self.cache.borrow_mut().clear();
                call()
            }
            result => result,
        }
    }

    /// Refuses what does not belong to this subvolume.
    fn check_device(&self, path: &[u8], device: u64) -> Result<(), Cause> {
        if self.boundary.has_device(device) {
            return Ok(());
        }
        Err(escape(path, Barrier::OtherSubvolume))
    }
}

impl Boundary {
    /// Whether what has this `st_dev` is inside, as far as that tells.
    fn has_device(&self, device: u64) -> bool {
        self.device.is_none_or(|own| own == device)
    }
}

impl AsFd for Directory {
    /// An `O_PATH` descriptor, except for the subvolume's root.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn escape(path: &[u8], barrier: Barrier) -> Cause {
    Cause::Escape {
        path: Bytes::copy_from_slice(path),
        barrier,
    }
}

fn out_of_descriptors(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}

/// A quarter of the descriptors the process may have, so that two roots (a
/// clone source is one) leave room for files.
fn cache_capacity() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(allowed / 4)
        .map_or(MAX_DIRECTORIES, |quarter| quarter.clamp(1, MAX_DIRECTORIES))
}
