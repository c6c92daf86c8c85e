//! From the id of a subvolume to a descriptor of its root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use btrfs_sendstream::Bytes;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::{Errno, Result};
use uuid::Uuid;

use btrfs_ioctl::{self as sys, ROOT_INODE, RootRef, SubvolumeInfo, TOP_LEVEL};

/// Most subvolumes within each other that are followed.
pub(super) const MAX_DEPTH: usize = 128;

/// Most directories that are climbed to the root of a mount.
const MAX_CLIMB: usize = 4096;

/// Longest path that is put together, in bytes.
const MAX_PATH: usize = 64 << 10;

/// How directories are opened: never through a symbolic link.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A subvolume that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    pub(super) info: SubvolumeInfo,
    /// Its path from where the walk began; `None` if opened by handle.
    pub(super) path: Option<Bytes>,
}

/// Opens the top level of the btrfs that `directory` lies on, also if that is
/// not mounted: above it is every subvolume that may become a source, which is
/// what a caller has to leave within reach that locks itself up.
///
/// # Errors
/// `EPERM` without `CAP_DAC_READ_SEARCH` in the initial user namespace;
/// `ESTALE` if this is no btrfs.
pub fn top_level(directory: impl AsFd) -> std::io::Result<OwnedFd> {
    let generation = sys::stored_generation(&directory, TOP_LEVEL, ROOT_INODE);
    // 0 is "any" to later kernels.
    let generation = generation.ok().flatten().unwrap_or(0);
    Ok(sys::open_subvolume(directory, TOP_LEVEL, generation)?)
}

/// The id of the subvolume that `fd` lies in.
///
/// # Errors
/// `ENOTTY` if this is no btrfs.
pub fn subvolume_id(fd: impl AsFd) -> std::io::Result<u64> {
    Ok(sys::containing_subvolume(fd)?)
}

/// Opens subvolumes by their id alone, wherever they lie.
#[derive(Debug)]
pub(super) struct Opener {
    mount: OwnedFd,
    fsid: Uuid,
    refused: Option<Errno>,
}

impl Opener {
    /// `mount` is a directory on a mount of the filesystem.
    ///
    /// # Errors
    /// `ENOTTY` if it is not btrfs.
    pub(super) fn new(mount: OwnedFd) -> Result<Self> {
        let fsid = sys::fs_info(&mount)?.fsid;
        Ok(Self {
            mount,
            fsid,
            refused: None,
        })
    }

    pub(super) fn mount(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// Which filesystem this is.
    pub(super) fn fsid(&self) -> Uuid {
        self.fsid
    }

    /// Whether the kernel, or what filters system calls, does not let this
    /// process open handles.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Opens the root of the subvolume `id` by its handle.
    ///
    /// # Errors
    /// `ENOENT` if there is no such subvolume; `ESTALE` if there is none or
    /// this kernel wants its generation, which could not be found out;
    /// otherwise those of `open_by_handle_at(2)`.
    pub(super) fn open(&mut self, id: u64) -> Result<Opened> {
        if let Some(errno) = self.refused {
            return Err(errno);
        }
        let fd = match sys::open_subvolume(&self.mount, id, 0) {
            Err(Errno::STALE) => self.open_with_generation(id)?,
            Err(errno @ (Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP)) => {
                self.refused = Some(errno);
                return Err(errno);
            }
            result => result?,
        };
        let info = sys::subvolume_info(&fd)?;
        Ok(Opened {
            fd,
            info,
            path: None,
        })
    }

    /// Kernels before 6.2 want the generation of the root's inode.
    fn open_with_generation(&self, id: u64) -> Result<OwnedFd> {
        match sys::stored_generation(&self.mount, id, ROOT_INODE) {
            Ok(Some(generation)) => sys::open_subvolume(&self.mount, id, generation),
            Ok(None) | Err(Errno::NOENT) => Err(Errno::NOENT),
            Err(_) => Err(Errno::STALE),
        }
    }

    /// The path from the top of the filesystem to a subvolume.
    ///
    /// # Errors
    /// A subvolume on the way could not be opened by handle, or the path is
    /// too long or too deep to be put together.
    pub(super) fn path_from_top(&mut self, info: &SubvolumeInfo) -> Result<Bytes> {
        let mut steps = Vec::new();
        let mut length = 0;
        let (mut id, mut parent, mut dir_id) = (info.id, info.parent_id, info.dir_id);
        while id != TOP_LEVEL {
            if steps.len() >= MAX_DEPTH {
                return Err(Errno::NAMETOOLONG);
            }
            let above = self.open(parent)?;
            let step = step(above.fd.as_fd(), RootRef { id, dir_id })?;
            length += step.len() + 1;
            if length > MAX_PATH {
                return Err(Errno::NAMETOOLONG);
            }
            steps.push(step);
            (id, parent, dir_id) = (parent, above.info.parent_id, above.info.dir_id);
        }
        steps.reverse();
        Ok(steps.join(&b'/').into())
    }
}

/// Opens a subvolume by its path beneath `directory`, which lies in the
/// subvolume that contains it.
///
/// # Errors
/// `EACCES` if it is not beneath; `ENOENT` also if what is at that path is
/// not this subvolume, as something is mounted over it.
pub(super) fn open_beneath(
    directory: BorrowedFd<'_>,
    child: RootRef,
    fsid: Uuid,
) -> Result<(Opened, Vec<u8>)> {
    let path = step(directory, child)?;
    let mut opened: Option<OwnedFd> = None;
    for name in path.split(|&byte| byte == b'/') {
        let from = opened.as_ref().map_or(directory, |fd| fd.as_fd());
        opened = Some(openat(from, name, DIRECTORY, Mode::empty())?);
    }
    let fd = opened.ok_or(Errno::NOENT)?;
    if sys::containing_subvolume(&fd)? != child.id
        || !is_subvolume_root(&fd)?
        || sys::fs_info(&fd)?.fsid != fsid
    {
        return Err(Errno::NOENT);
    }
    let info = sys::subvolume_info(&fd)?;
    let opened = Opened {
        fd,
        info,
        path: None,
    };
    Ok((opened, path))
}

/// The path from a directory to a subvolume, which lies in the same
/// subvolume as it.
fn step(directory: BorrowedFd<'_>, child: RootRef) -> Result<Vec<u8>> {
    let found = sys::ino_lookup_user(directory, child.id, child.dir_id)?;
    let mut path = found.directory;
    path.extend_from_slice(&found.name);
    Ok(path)
}

/// Whether `fd` is the root directory of a subvolume.
pub(super) fn is_subvolume_root(fd: impl AsFd) -> Result<bool> {
    Ok(fstat(fd)?.st_ino == ROOT_INODE)
}

/// The root directory of the mount that `fd`, a directory, lies on; or as far
/// up as this process may go. Without `openat2(2)`, Linux 5.6, `fd` itself.
pub(super) fn mount_root(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut here = openat(fd, c".", DIRECTORY, Mode::empty())?;
    // What is mounted over the root of a mount is not entered.
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_CLIMB {
        let Ok(above) = openat2(&here, c"..", DIRECTORY, Mode::empty(), resolve) else {
            break;
        };
        let (old, new) = (fstat(&here)?, fstat(&above)?);
        if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
            break;
        }
        here = above;
    }
    Ok(here)
}
