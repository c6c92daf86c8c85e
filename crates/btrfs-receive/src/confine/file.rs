//! Inodes, and the way from a path to file data.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use btrfs_sendstream::StreamPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::{Root, escape};
use crate::error::{Barrier, Cause};

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading; leaves the access time alone where that is allowed.
    Read,
    /// Reading and writing: a clone within one file needs both.
    Write,
}

/// Anything in the subvolume, found but not opened: an `O_PATH` descriptor,
/// also of a symbolic link.
#[derive(Debug)]
pub(crate) struct Inode {
    fd: OwnedFd,
    stat: Stat,
}

impl Inode {
    /// What it is.
    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// What `fstat` said when it was found.
    pub(crate) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// What it is, in words for an error.
    pub(super) fn found(&self) -> &'static str {
        match self.file_type() {
            FileType::RegularFile => "regular file",
            FileType::Directory => "directory",
            FileType::Symlink => "symbolic link",
            FileType::Fifo => "FIFO",
            FileType::Socket => "socket",
            FileType::CharacterDevice => "character device",
            FileType::BlockDevice => "block device",
            FileType::Unknown => "file of unknown type",
        }
    }
}

impl AsFd for Inode {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Root {
    /// Finds what `path` names, without opening it and without following a
    /// symbolic link. Not for the empty path: [`Root::fd`] is the root.
    ///
    /// # Errors
    /// As [`Root::parent`].
    pub(crate) fn inode(&self, path: &StreamPath) -> Result<Inode, Cause> {
        self.inode_at(path.as_bytes())
    }

    /// What kind of inode `path` names, not followed if a symbolic link.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `fstatat(2)`.
    pub(crate) fn file_type(&self, path: &StreamPath) -> Result<FileType, Cause> {
        let (directory, name) = self.parent(path)?;
        let stat = statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| Cause::system("fstatat", errno))?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// Opens a regular file.
    ///
    /// The inode is found and looked at first and opened afterwards, by its
    /// descriptor: opening a device can have effects by itself (a tape
    /// rewinds), and opening a FIFO waits for the other end.
    ///
    /// # Errors
    /// [`Cause::NotRegularFile`] for anything else, a symbolic link
    /// included; otherwise as [`Root::parent`].
    pub(crate) fn open_file(&self, path: &StreamPath, access: Access) -> Result<OwnedFd, Cause> {
        if path.is_root() {
            return Err(Cause::NotRegularFile { found: "directory" });
        }
        let inode = self.inode(path)?;
        self.open_inode(path, &inode, access)
    }

    /// Opens a regular file that [`Root::inode`] found under `path`.
    ///
    /// # Errors
    /// [`Cause::NotRegularFile`] for anything else; those of `open(2)`.
    pub(crate) fn open_inode(
        &self,
        path: &StreamPath,
        inode: &Inode,
        access: Access,
    ) -> Result<OwnedFd, Cause> {
        if inode.file_type() != FileType::RegularFile {
            return Err(Cause::NotRegularFile {
                found: inode.found(),
            });
        }
        match access {
            Access::Write => self.reopen(path.as_bytes(), inode, OFlags::RDWR),
            Access::Read => self.reopen_quietly(path.as_bytes(), inode),
        }
    }

    /// Opens a directory, the root for the empty path, to list what it holds.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `openat(2)`.
    pub(crate) fn open_directory(&self, path: &StreamPath) -> Result<OwnedFd, Cause> {
        let directory = self.directory_at(path.as_bytes())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.making_room(|| openat(directory.as_fd(), c".", flags, Mode::empty()))
            .map_err(|errno| Cause::system("openat", errno))
    }

    pub(super) fn inode_at(&self, path: &[u8]) -> Result<Inode, Cause> {
        let (directory, name) = self.parent_at(path)?;
        let start = path.len() - name.len();
        let fd = self.open(&directory, path, start, OFlags::empty())?;
        let stat = fstat(&fd).map_err(|errno| Cause::system("fstat", errno))?;
        self.check_device(path, stat.st_dev)?;
        Ok(Inode { fd, stat })
    }

    /// Opens an inode for reading without changing its access time, which
    /// only its owner and `CAP_FOWNER` may ask for.
    fn reopen_quietly(&self, path: &[u8], inode: &Inode) -> Result<OwnedFd, Cause> {
        match self.reopen(path, inode, OFlags::RDONLY | OFlags::NOATIME) {
            Err(Cause::System { error, .. })
                if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) =>
            {
                self.reopen(path, inode, OFlags::RDONLY)
            }
            result => result,
        }
    }

    /// Opens an inode that was found under `path`: a regular file or a
    /// directory.
    ///
    /// Without proc it is opened by name and compared afterwards. Another
    /// process could have put a device there in between, which is then
    /// opened and closed again; that process must be allowed to make device
    /// nodes.
    pub(super) fn reopen(
        &self,
        path: &[u8],
        inode: &Inode,
        flags: OFlags,
    ) -> Result<OwnedFd, Cause> {
        if let Some(proc_fd) = &self.proc_fd {
            return self
                .making_room(|| proc_fd.reopen(inode.as_fd(), flags))
                .map_err(|errno| Cause::system("open", errno));
        }
        let (directory, name) = self.parent_at(path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = self
            .making_room(|| openat(directory.as_fd(), name, flags, Mode::empty()))
            .map_err(|errno| Cause::system("openat", errno))?;
        let stat = fstat(&fd).map_err(|errno| Cause::system("fstat", errno))?;
        if (stat.st_dev, stat.st_ino) != (inode.stat.st_dev, inode.stat.st_ino) {
            return Err(escape(path, Barrier::Replaced));
        }
        Ok(fd)
    }
}
