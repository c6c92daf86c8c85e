//! The resolver for kernels without `openat2`: one component at a time.
//!
//! A [`StreamPath`](btrfs_sendstream::StreamPath) has no `..`, so a walk
//! can only leave the subvolume over a symbolic link, a mount point or the
//! root of another subvolume. Each component is opened with `O_NOFOLLOW`
//! and looked at through its descriptor before the next one is opened
//! beneath it; nothing is looked at by name first, so nothing can be swapped
//! in between.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::{Boundary, OpenError, proc};
use crate::error::Barrier;

/// Opens `path`, which is not empty, beneath `directory`; as `O_PATH`, and
/// not following a symbolic link in the last component.
pub(super) fn open(
    boundary: &Boundary,
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, OpenError> {
    let mut opened: Option<OwnedFd> = None;
    let mut start = 0;
    loop {
        let from = opened.as_ref().map_or(directory, |fd| fd.as_fd());
        let rest = &path[start..];
        let slash = rest.iter().position(|&byte| byte == b'/');
        let (name, flags) = match slash {
            Some(slash) => (&rest[..slash], OFlags::DIRECTORY),
            None => (rest, flags),
        };
        let end = start + name.len();
        let fd = step(from, name, flags, end)?;
        boundary.check(fd.as_fd(), end)?;
        if slash.is_none() {
            return Ok(fd);
        }
        opened = Some(fd);
        start = end + 1;
    }
}

fn step(
    directory: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
    end: usize,
) -> Result<OwnedFd, OpenError> {
    let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty()).map_err(|errno| match errno {
        // With O_DIRECTORY a symbolic link gives ENOTDIR. This look by name
        // only chooses the words of an error.
        Errno::NOTDIR | Errno::LOOP if is_symlink(directory, name) => OpenError::Escape {
            end,
            barrier: Barrier::SymbolicLink,
        },
        _ => OpenError::System("openat", errno),
    })
}

fn is_symlink(directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

impl Boundary {
    /// Whether `fd`, opened for a path up to byte `end`, is still inside.
    fn check(&self, fd: BorrowedFd<'_>, end: usize) -> Result<(), OpenError> {
        if self.mount.is_some() && proc::mount_id(fd) != self.mount {
            let barrier = Barrier::MountPoint;
            return Err(OpenError::Escape { end, barrier });
        }
        let stat = fstat(fd).map_err(|errno| OpenError::System("fstat", errno))?;
        if !self.has_device(stat.st_dev) {
            let barrier = Barrier::OtherSubvolume;
            return Err(OpenError::Escape { end, barrier });
        }
        Ok(())
    }
}
