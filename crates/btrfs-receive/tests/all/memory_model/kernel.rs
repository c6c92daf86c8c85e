//! Makes calls on a real filesystem.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use btrfs_receive::NewInode;
use btrfs_sendstream::{StreamPath, Timespec};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, IFlags, Mode, OFlags, ResolveFlags, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;

use super::Outcome;
use crate::call::Call;
use crate::compare::FLAGS;

/// A directory that calls are made in.
pub(crate) struct Kernel {
    path: PathBuf,
    fd: OwnedFd,
}

impl Kernel {
    pub(crate) fn new(path: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Self {
            path: path.to_owned(),
            fd: rustix::fs::open(path, flags, Mode::empty()).unwrap(),
        }
    }

    pub(crate) fn make(&self, call: &Call) -> Result<(), Outcome> {
        match call {
            Call::Create(path, kind, mode) => self.create(path, kind, *mode),
            Call::Rename(path, to) => {
                let ((from, old), (into, new)) = (self.parent(path)?, self.parent(to)?);
                Ok(rustix::fs::renameat(from, old, into, new)?)
            }
            Call::Link(path, existing) => {
                let (from, old) = self.parent(existing)?;
                let lookup = rustix::fs::statat(&from, old, AtFlags::SYMLINK_NOFOLLOW);
                lookup?;
                let (into, new) = self.parent(path)?;
                Ok(rustix::fs::linkat(from, old, into, new, AtFlags::empty())?)
            }
            Call::Unlink(path) => {
                let (parent, name) = self.parent(path)?;
                Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
            }
            Call::Rmdir(path) => {
                let (parent, name) = self.parent(path)?;
                Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
            }
            Call::SetXattr(path, name, value) => {
                let path = self.locate(path)?;
                Ok(rustix::fs::lsetxattr(
                    path,
                    *name,
                    value,
                    XattrFlags::empty(),
                )?)
            }
            Call::RemoveXattr(path, name) => {
                match rustix::fs::lremovexattr(self.locate(path)?, *name) {
                    Err(Errno::NODATA) => Ok(()),
                    result => Ok(result?),
                }
            }
            Call::Chown(path, uid, gid) => {
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                Ok(rustix::fs::chownat(
                    CWD,
                    self.locate(path)?,
                    Some(uid),
                    Some(gid),
                    flags,
                )?)
            }
            Call::Chmod(path, mode) => {
                let path = self.locate(path)?;
                if path.is_symlink() {
                    return Err(Errno::OPNOTSUPP.into());
                }
                Ok(rustix::fs::chmod(path, Mode::from_raw_mode(*mode))?)
            }
            Call::SetAttributes(path, attributes) => self.set_attributes(path, *attributes),
            Call::SetTimes(path, time) => Ok(set_times(&self.locate(path)?, *time)?),
            Call::ResetTimes => {
                reset_times(&self.path);
                Ok(())
            }
            _ => self.change_data(call),
        }
    }

    fn create(&self, path: &StreamPath, kind: &NewInode, mode: u32) -> Result<(), Outcome> {
        let (parent, name) = self.parent(path)?;
        let permissions = Mode::from_raw_mode;
        let node = |kind, mode, device| {
            rustix::fs::mknodat(&parent, name, kind, permissions(mode), device)
        };
        match kind {
            NewInode::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                rustix::fs::openat(&parent, name, flags, permissions(mode))?;
            }
            NewInode::Directory => rustix::fs::mkdirat(&parent, name, permissions(mode))?,
            NewInode::Symlink { target } => {
                rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, name)?;
            }
            NewInode::Device { mode, rdev } => {
                node(FileType::from_raw_mode(*mode), mode & 0o7777, *rdev)?;
            }
            NewInode::Fifo { mode } => node(FileType::Fifo, mode & 0o7777, 0)?,
            NewInode::Socket { mode } => node(FileType::Socket, mode & 0o7777, 0)?,
        }
        Ok(())
    }

    fn change_data(&self, call: &Call) -> Result<(), Outcome> {
        match call {
            Call::Write(path, offset, data) => {
                let file = self.file(path)?;
                assert_eq!(rustix::io::pwrite(file, data, *offset)?, data.len());
            }
            Call::Truncate(path, size) => rustix::fs::ftruncate(self.file(path)?, *size)?,
            Call::Fallocate(path, mode, offset, len) => {
                let mode = FallocateFlags::from_bits_retain(*mode);
                rustix::fs::fallocate(self.file(path)?, mode, *offset, *len)?;
            }
            Call::CopyRange(path, offset, from, from_offset, len) => {
                let (file, from) = (self.file(path)?, self.file(from)?);
                let size = u64::try_from(rustix::fs::fstat(&from)?.st_size).unwrap();
                if *len > 0 && from_offset + len > size {
                    return Err(Outcome::TooShort);
                }
                let (mut at, mut from_at, mut left) = (*offset, *from_offset, *len);
                while left > 0 {
                    let len = usize::try_from(left).unwrap();
                    let done = rustix::fs::copy_file_range(
                        &from,
                        Some(&mut from_at),
                        &file,
                        Some(&mut at),
                        len,
                    )?;
                    left -= done as u64;
                }
            }
            other => unreachable!("{other:?} changes no data"),
        }
        Ok(())
    }

    fn set_attributes(&self, path: &StreamPath, attributes: u64) -> Result<(), Outcome> {
        let path = self.locate(path)?;
        let kind = path.symlink_metadata().unwrap().file_type();
        if !kind.is_dir() && !kind.is_file() {
            return Err(Outcome::NoFlags);
        }
        let file = rustix::fs::open(path, OFlags::RDONLY, Mode::empty())?;
        let flags = FLAGS.iter().filter(|(bit, _)| attributes & bit != 0);
        let flags = flags.fold(0, |all, (_, flag)| all | flag);
        Ok(rustix::fs::ioctl_setflags(
            file,
            IFlags::from_bits_retain(flags),
        )?)
    }

    fn file(&self, path: &StreamPath) -> Result<OwnedFd, Outcome> {
        let path = self.locate(path)?;
        if !path.symlink_metadata().unwrap().is_file() {
            return Err(Outcome::NotRegular);
        }
        Ok(rustix::fs::open(path, OFlags::RDWR, Mode::empty())?)
    }

    /// The path of something that exists.
    fn locate(&self, path: &StreamPath) -> Result<PathBuf, Outcome> {
        if path.is_root() {
            return Ok(self.path.clone());
        }
        let (parent, name) = self.parent(path)?;
        rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(self.path.join(OsStr::from_bytes(path.as_bytes())))
    }

    fn parent<'p>(&self, path: &'p StreamPath) -> Result<(OwnedFd, &'p OsStr), Outcome> {
        let bytes = path.as_bytes();
        let name = path.file_name().ok_or(Outcome::Root)?;
        let parent = match bytes.len() - name.len() {
            0 => &b"."[..],
            end => &bytes[..end - 1],
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let fd = rustix::fs::openat2(&self.fd, parent, flags, Mode::empty(), resolve)?;
        Ok((fd, OsStr::from_bytes(name)))
    }
}

fn set_times(path: &Path, time: Timespec) -> Result<(), Errno> {
    let time = rustix::fs::Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

fn reset_times(path: &Path) {
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            reset_times(&entry.unwrap().path());
        }
    }
    set_times(path, Timespec::default()).unwrap();
}
