//! The kernel's resolver, Linux 5.6 and later.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tracing::debug;

use super::{Boundary, OpenError, Resolver, walk};
use crate::error::Barrier;

/// Longest path the kernel takes in one call: `PATH_MAX` with its NUL.
const MAX_PATH: usize = 4096 - 1;

/// The kernel gives EAGAIN when a rename or mount elsewhere kept it from
/// telling whether the path stays beneath. That takes a `..`, which our
/// paths have not; the bound only makes sure that nothing can loop here.
const MAX_RETRIES: usize = 128;

/// Which resolver this kernel, and the filter on system calls that the
/// process may run under, allow.
pub(super) fn probe(root: BorrowedFd<'_>) -> Resolver {
    match call(root, b".", OFlags::DIRECTORY) {
        // Old container runtimes give EPERM for calls they do not know.
        Err(errno @ (Errno::NOSYS | Errno::PERM)) => {
            debug!(%errno, "no openat2: paths are walked component by component");
            Resolver::Walk
        }
        _ => Resolver::Openat2,
    }
}

/// Opens `path`, which is not empty, beneath `directory`; as `O_PATH`, and
/// not following a symbolic link in the last component.
///
/// A path too long for one call is opened in pieces, each beneath the one
/// before.
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
        let (piece, piece_flags) = next_piece(&path[start..], flags)?;
        let fd = call(from, piece, piece_flags)
            .map_err(|errno| explain(boundary, from, piece, piece_flags, errno).after(start))?;
        start += piece.len() + 1;
        if start > path.len() {
            return Ok(fd);
        }
        opened = Some(fd);
    }
}

/// As much of `path` as fits into one call, and the flags to open it with:
/// every piece but the last is a directory.
fn next_piece(path: &[u8], flags: OFlags) -> Result<(&[u8], OFlags), OpenError> {
    let Some(most) = path.get(..=MAX_PATH) else {
        return Ok((path, flags));
    };
    match most.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => Ok((&path[..slash], OFlags::DIRECTORY)),
        None => Err(OpenError::System("openat2", Errno::NAMETOOLONG)),
    }
}

fn call(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let mut retries = 0;
    loop {
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if retries < MAX_RETRIES => retries += 1,
            result => return result,
        }
    }
}

/// Finds out what a refusal was about: the kernel does not say at which
/// component, and ENOTDIR may be a symbolic link or a file.
fn explain(
    boundary: &Boundary,
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    errno: Errno,
) -> OpenError {
    let barrier = match errno {
        Errno::LOOP => Some(Barrier::SymbolicLink),
        Errno::XDEV => Some(Barrier::MountPoint),
        Errno::NOTDIR => None,
        _ => return OpenError::System("openat2", errno),
    };
    match (walk::open(boundary, directory, path, flags), barrier) {
        (Err(found @ OpenError::Escape { .. }), _) => found,
        // The tree changed since; what the kernel said still counts.
        (_, Some(barrier)) => OpenError::Escape {
            end: path.len(),
            barrier,
        },
        (_, None) => OpenError::System("openat2", errno),
    }
}
