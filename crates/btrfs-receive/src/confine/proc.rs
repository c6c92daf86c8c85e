//! What has to go through `/proc/self`.

use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, PROC_SUPER_MAGIC, StatxFlags, chmodat, fstatfs, openat, statx,
};
use rustix::io::Errno;
use rustix::path::DecInt;

/// A descriptor of `/proc/self/fd`: turns an `O_PATH` descriptor into one
/// that can be used, without going back to a name.
#[derive(Debug)]
pub(super) struct ProcFd(OwnedFd);

impl ProcFd {
    /// `None` if no proc filesystem is mounted on `/proc`.
    pub(super) fn open() -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, "/proc/self/fd", flags, Mode::empty()).ok()?;
        let found = fstatfs(&fd).ok()?;
        (found.f_type == PROC_SUPER_MAGIC).then_some(Self(fd))
    }

    /// Opens the inode of `fd` once more, with other flags.
    pub(super) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        openat(&self.0, DecInt::from_fd(fd), flags, Mode::empty())
    }

    /// `fchmod` for an `O_PATH` descriptor.
    pub(super) fn chmod(&self, fd: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
        chmodat(&self.0, DecInt::from_fd(fd), mode, AtFlags::empty())
    }

    /// A path to `name` in `directory` for calls that take nothing else. Such
    /// a call must not follow a symbolic link in the last component.
    pub(super) fn path_to(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
        let mut path = b"/proc/self/fd/".to_vec();
        path.extend_from_slice(DecInt::from_fd(directory).as_bytes());
        path.push(b'/');
        path.extend_from_slice(name);
        path
    }
}

/// The id of the mount that `fd` was opened on: from `statx` since Linux
/// 5.8, else from proc; `None` where there is neither.
pub(super) fn mount_id(fd: BorrowedFd<'_>) -> Option<u64> {
    if let Ok(found) = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        && found.stx_mask & StatxFlags::MNT_ID.bits() != 0
    {
        return Some(found.stx_mnt_id);
    }
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}
