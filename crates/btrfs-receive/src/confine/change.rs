//! Calls that change names. Each acts on (parent directory, last name),
//! follows nothing there, and then tells the directory cache.
//!
//! Modes are subject to the process's umask, as always at creation.

use std::os::fd::OwnedFd;

use btrfs_sendstream::StreamPath;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, mknodat, openat, renameat_with,
    symlinkat, unlinkat,
};

use super::Root;
use crate::error::{Cause, named};

impl Root {
    /// Creates a directory.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `mkdirat(2)`.
    pub(crate) fn mkdir(&self, path: &StreamPath, mode: u32) -> Result<(), Cause> {
        let (directory, name) = self.parent(path)?;
        mkdirat(&*directory, name, permissions(mode)).map_err(named("mkdirat"))?;
        self.forget(path);
        Ok(())
    }

    /// Creates an empty regular file and returns it, open for reading and
    /// writing.
    ///
    /// # Errors
    /// As [`Root::parent`]; `EEXIST` if the name is taken, be it by a
    /// dangling symbolic link; those of `openat(2)`.
    pub(crate) fn create_file(&self, path: &StreamPath, mode: u32) -> Result<OwnedFd, Cause> {
        let (directory, name) = self.parent(path)?;
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        let fd = self
            .making_room(|| openat(&*directory, name, flags, permissions(mode)))
            .map_err(named("openat"))?;
        self.forget(path);
        Ok(fd)
    }

    /// Creates a character or block device. `mode` has the type bits, `rdev`
    /// the number in the kernel's 32-bit encoding.
    ///
    /// # Errors
    /// [`Cause::OutOfRange`] for other types and larger numbers; as
    /// [`Root::parent`]; those of `mknodat(2)`.
    pub(crate) fn mknod(&self, path: &StreamPath, mode: u32, rdev: u64) -> Result<(), Cause> {
        let kind = FileType::from_raw_mode(mode);
        if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Err(out_of_range("mode of a device", mode.into()));
        }
        if u32::try_from(rdev).is_err() {
            return Err(out_of_range("device number", rdev.into()));
        }
        self.make_node(path, kind, mode, rdev)
    }

    /// Creates a FIFO; of `mode` only the permission bits count.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `mknodat(2)`.
    pub(crate) fn mkfifo(&self, path: &StreamPath, mode: u32) -> Result<(), Cause> {
        self.make_node(path, FileType::Fifo, mode, 0)
    }

    /// Creates a socket that nobody listens on; of `mode` only the
    /// permission bits count.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `mknodat(2)`.
    pub(crate) fn mksock(&self, path: &StreamPath, mode: u32) -> Result<(), Cause> {
        self.make_node(path, FileType::Socket, mode, 0)
    }

    /// Creates a symbolic link that holds `target`, whatever that is.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `symlinkat(2)`.
    pub(crate) fn symlink(&self, path: &StreamPath, target: &[u8]) -> Result<(), Cause> {
        let (directory, name) = self.parent(path)?;
        symlinkat(target, &*directory, name).map_err(named("symlinkat"))?;
        self.forget(path);
        Ok(())
    }

    /// Gives the inode at `existing`, not followed if a symbolic link, the
    /// further name `path`.
    ///
    /// # Errors
    /// As [`Root::parent`] for both, and those of `linkat(2)`.
    pub(crate) fn link(&self, existing: &StreamPath, path: &StreamPath) -> Result<(), Cause> {
        let (from, old) = self.parent(existing)?;
        let (to, new) = self.parent(path)?;
        linkat(&*from, old, &*to, new, AtFlags::empty()).map_err(named("linkat"))?;
        self.forget(path);
        Ok(())
    }

    /// Renames; with `replace` as `rename(2)` does, otherwise a name that is
    /// taken is an error.
    ///
    /// # Errors
    /// As [`Root::parent`] for both, and those of `renameat2(2)`.
    pub(crate) fn rename(
        &self,
        path: &StreamPath,
        to: &StreamPath,
        replace: bool,
    ) -> Result<(), Cause> {
        let (from, old) = self.parent(path)?;
        let (into, new) = self.parent(to)?;
        let flags = if replace {
            RenameFlags::empty()
        } else {
            RenameFlags::NOREPLACE
        };
        renameat_with(&*from, old, &*into, new, flags).map_err(named("renameat2"))?;
        self.cache
            .borrow_mut()
            .rename(path.as_bytes(), to.as_bytes());
        Ok(())
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `unlinkat(2)`.
    pub(crate) fn unlink(&self, path: &StreamPath) -> Result<(), Cause> {
        let (directory, name) = self.parent(path)?;
        unlinkat(&*directory, name, AtFlags::empty()).map_err(named("unlinkat"))?;
        self.forget(path);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As [`Root::parent`], and those of `unlinkat(2)`.
    pub(crate) fn rmdir(&self, path: &StreamPath) -> Result<(), Cause> {
        let (directory, name) = self.parent(path)?;
        unlinkat(&*directory, name, AtFlags::REMOVEDIR).map_err(named("unlinkat"))?;
        self.forget(path);
        Ok(())
    }

    fn make_node(
        &self,
        path: &StreamPath,
        kind: FileType,
        mode: u32,
        rdev: u64,
    ) -> Result<(), Cause> {
        let (directory, name) = self.parent(path)?;
        mknodat(&*directory, name, kind, permissions(mode), rdev).map_err(named("mknodat"))?;
        self.forget(path);
        Ok(())
    }

    /// After a name was made or removed: what the cache has there, if
    /// anything, is a directory that another process moved away.
    fn forget(&self, path: &StreamPath) {
        self.cache.borrow_mut().remove(path.as_bytes());
    }
}

/// Permission, set-id and sticky bits of a mode.
pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode & 0o7777)
}

pub(super) fn out_of_range(what: &'static str, value: i128) -> Cause {
    Cause::OutOfRange { what, value }
}
