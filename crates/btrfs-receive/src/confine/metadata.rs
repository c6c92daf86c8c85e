//! Calls that change what an inode says about itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use btrfs_sendstream::{StreamPath, Timespec};
use rustix::fs::{
    AtFlags, FileType, Gid, OFlags, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod,
    fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, futimens, lgetxattr, llistxattr,
    lremovexattr, lsetxattr, utimensat,
};
use rustix::io::Errno;

use super::change::{out_of_range, permissions};
use super::{Directory, Inode, Root};
use crate::error::{Cause, named};

impl Root {
    /// Creates or replaces an extended attribute, of a symbolic link itself
    /// if that is what `path` names.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `setxattr(2)`.
    pub(crate) fn set_xattr(
        &self,
        path: &StreamPath,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Cause> {
        self.xattr_holder(path)?
            .replace(name, value)
            .map_err(named("setxattr"))
    }

    /// Removes an extended attribute; one that is missing is no error.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `removexattr(2)`.
    pub(crate) fn remove_xattr(&self, path: &StreamPath, name: &[u8]) -> Result<(), Cause> {
        match self.xattr_holder(path)?.remove(name) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) => Err(Cause::system("removexattr", errno)),
        }
    }

    /// Calls `give` with each extended attribute, name and value, of a
    /// symbolic link itself if that is what `path` names. None where the
    /// filesystem has no such thing.
    ///
    /// # Errors
    /// As [`Root::parent`], those of `listxattr(2)` and `getxattr(2)`, and
    /// what `give` returns.
    pub(crate) fn each_xattr(
        &self,
        path: &StreamPath,
        mut give: impl FnMut(&[u8], &[u8]) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        let holder = self.xattr_holder(path)?;
        let names = match whole(|names| holder.list(names)) {
            Ok(names) => names,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
            Err(errno) => return Err(Cause::system("listxattr", errno)),
        };
        for name in names.split(|byte| *byte == 0).filter(|n| !n.is_empty()) {
            match whole(|value| holder.get(name, value)) {
                Ok(value) => give(name, &value)?,
                // Listed, and not to be read: as if it were not there.
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(errno) => return Err(Cause::system("getxattr", errno)),
            }
        }
        Ok(())
    }

    /// Sets the owner, of a symbolic link itself if that is what `path`
    /// names.
    ///
    /// # Errors
    /// [`Cause::OutOfRange`] for the id that means "leave it" to the kernel;
    /// as [`Root::parent`]; those of `fchownat(2)`.
    pub(crate) fn chown(&self, path: &StreamPath, uid: u32, gid: u32) -> Result<(), Cause> {
        for (what, id) in [("user id", uid), ("group id", gid)] {
            if id == u32::MAX {
                return Err(out_of_range(what, id.into()));
            }
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        if path.is_root() {
            return fchown(self.fd(), uid, gid).map_err(named("fchown"));
        }
        let (directory, name) = self.parent(path)?;
        chownat(&*directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(named("fchownat"))
    }

    /// Sets the times, of a symbolic link itself if that is what `path`
    /// names; without `mtime` only the time of access.
    ///
    /// # Errors
    /// [`Cause::OutOfRange`] for nanoseconds of a second or more, among
    /// which are the values that mean "now" and "leave it" to the kernel;
    /// as [`Root::parent`]; those of `utimensat(2)`.
    pub(crate) fn utimens(
        &self,
        path: &StreamPath,
        atime: Timespec,
        mtime: Option<Timespec>,
    ) -> Result<(), Cause> {
        let times = timestamps(atime, mtime)?;
        if path.is_root() {
            return futimens(self.fd(), &times).map_err(named("futimens"));
        }
        let (directory, name) = self.parent(path)?;
        utimensat(&*directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(named("utimensat"))
    }

    /// Sets the permission bits, of anything but a symbolic link, and makes
    /// sure that set-id bits were kept.
    ///
    /// # Errors
    /// [`Cause::ModeNotSet`]; [`Cause::NoProc`]; `EOPNOTSUPP` for a symbolic
    /// link; as [`Root::parent`]; those of `chmod(2)`.
    pub(crate) fn chmod(&self, path: &StreamPath, mode: u32) -> Result<(), Cause> {
        if mode > 0o7777 {
            return Err(out_of_range("mode", mode.into()));
        }
        if path.is_root() {
            fchmod(self.fd(), permissions(mode)).map_err(named("fchmod"))?;
            return check_mode(self.fd(), mode);
        }
        let inode = self.inode(path)?;
        match (&self.proc_fd, inode.file_type()) {
            (_, FileType::Symlink) => return Err(Cause::system("chmod", Errno::OPNOTSUPP)),
            (Some(proc_fd), _) => proc_fd
                .chmod(inode.as_fd(), permissions(mode))
                .map_err(named("chmod"))?,
            (None, FileType::RegularFile | FileType::Directory) => {
                let fd = self.reopen(path.as_bytes(), &inode, OFlags::RDONLY)?;
                fchmod(fd, permissions(mode)).map_err(named("fchmod"))?;
            }
            (None, _) => return Err(no_proc(&inode)),
        }
        check_mode(inode.as_fd(), mode)
    }

    /// A descriptor for inode flags, of a regular file or a directory.
    ///
    /// # Errors
    /// [`Cause::NoInodeFlags`] for anything else; as [`Root::parent`].
    pub(crate) fn open_for_flags(&self, path: &StreamPath) -> Result<OwnedFd, Cause> {
        if path.is_root() {
            return rustix::io::fcntl_dupfd_cloexec(self.fd(), 0).map_err(named("dup"));
        }
        let inode = self.inode(path)?;
        match inode.file_type() {
            FileType::RegularFile | FileType::Directory => {
                self.reopen(path.as_bytes(), &inode, OFlags::RDONLY)
            }
            _ => Err(Cause::NoInodeFlags {
                found: inode.found(),
            }),
        }
    }

    /// How the extended attributes of what `path` names are reached.
    fn xattr_holder(&self, path: &StreamPath) -> Result<XattrHolder<'_>, Cause> {
        if path.is_root() {
            return Ok(XattrHolder::Fd(self.fd()));
        }
        if let Some(proc_fd) = &self.proc_fd {
            let (directory, name) = self.parent(path)?;
            return Ok(XattrHolder::Path {
                path: proc_fd.path_to(directory.as_fd(), name),
                _directory: directory,
            });
        }
        let inode = self.inode(path)?;
        match inode.file_type() {
            FileType::RegularFile | FileType::Directory => self
                .reopen(path.as_bytes(), &inode, OFlags::RDONLY)
                .map(XattrHolder::Open),
            _ => Err(no_proc(&inode)),
        }
    }
}

/// Where extended attributes are set and removed.
///
/// There is no call for an `O_PATH` descriptor before Linux 6.13, so the
/// usual way is a path through `/proc/self/fd`, with the calls that do not
/// follow a symbolic link in the last component.
pub(crate) enum XattrHolder<'r> {
    /// By a descriptor of somebody else's.
    Fd(BorrowedFd<'r>),
    Path {
        path: Vec<u8>,
        /// Stays open: the path goes through its descriptor.
        _directory: Arc<Directory>,
    },
    Open(OwnedFd),
}

impl XattrHolder<'_> {
    /// Creates an attribute, or replaces its value.
    ///
    /// btrfs can refuse with `ENOSPC` to replace a value by a larger one where
    /// the larger one alone would fit. The old value is then removed first, and
    /// comes back if the new one does not fit either.
    pub(crate) fn replace(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let result = self.set(name, value);
        if result != Err(Errno::NOSPC) {
            return result;
        }
        let Ok(old) = whole(|value| self.get(name, value)) else {
            return result;
        };
        if self.remove(name).is_err() {
            return result;
        }
        self.set(name, value).inspect_err(|_| {
            let _ = self.set(name, &old);
        })
    }

    fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Fd(fd) => fsetxattr(fd, name, value, flags),
            Self::Path { path, .. } => lsetxattr(path.as_slice(), name, value, flags),
            Self::Open(fd) => fsetxattr(fd, name, value, flags),
        }
    }

    fn list(&self, names: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Fd(fd) => flistxattr(fd, names),
            Self::Path { path, .. } => llistxattr(path.as_slice(), names),
            Self::Open(fd) => flistxattr(fd, names),
        }
    }

    fn get(&self, name: &[u8], value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Fd(fd) => fgetxattr(fd, name, value),
            Self::Path { path, .. } => lgetxattr(path.as_slice(), name, value),
            Self::Open(fd) => fgetxattr(fd, name, value),
        }
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Fd(fd) => fremovexattr(fd, name),
            Self::Path { path, .. } => lremovexattr(path.as_slice(), name),
            Self::Open(fd) => fremovexattr(fd, name),
        }
    }
}

/// All that a call has to tell, which may be as long as the kernel lets
/// values and lists of names be (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
fn whole(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 512];
    let mut result = call(&mut buffer);
    if result == Err(Errno::RANGE) {
        buffer.resize(1 << 16, 0);
        result = call(&mut buffer);
    }
    buffer.truncate(result?);
    Ok(buffer)
}

/// Without `CAP_FSETID` the kernel drops the setgid bit and reports success.
fn check_mode(fd: impl AsFd, wanted: u32) -> Result<(), Cause> {
    if wanted & 0o7000 == 0 {
        return Ok(());
    }
    let kept = fstat(fd).map_err(named("fstat"))?.st_mode & 0o7777;
    if kept == wanted {
        Ok(())
    } else {
        Err(Cause::ModeNotSet { wanted, kept })
    }
}

/// The times as the kernel takes them; without `mtime` that one is left as
/// it is.
///
/// # Errors
/// [`Cause::OutOfRange`] for nanoseconds of a second or more.
pub(crate) fn timestamps(atime: Timespec, mtime: Option<Timespec>) -> Result<Timestamps, Cause> {
    let keep = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    Ok(Timestamps {
        last_access: kernel_time(atime)?,
        last_modification: mtime.map_or(Ok(keep), kernel_time)?,
    })
}

fn kernel_time(time: Timespec) -> Result<rustix::fs::Timespec, Cause> {
    if time.nanoseconds >= 1_000_000_000 {
        return Err(out_of_range("nanoseconds", time.nanoseconds.into()));
    }
    Ok(rustix::fs::Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    })
}

fn no_proc(inode: &Inode) -> Cause {
    Cause::NoProc {
        found: inode.found(),
    }
}
