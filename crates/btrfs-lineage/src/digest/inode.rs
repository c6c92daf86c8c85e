//! Metadata of inodes, read from the filesystem.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, lgetxattr, llistxattr,
    major, minor, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::document::{Device, Kind, Time};
use super::error::Problem;
use super::record::{Inode, Record, Recorded, Xattr};

/// The kernel does not send attributes whose name is the beginning of this
/// one.
const CAPABILITY: &[u8] = b"security.capability";

/// The limit of the kernel on the value of an attribute and on a list of
/// names.
const LARGEST_XATTR: usize = 64 << 10;

/// What reads attributes; each thread has one.
pub(super) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; LARGEST_XATTR],
        }
    }

    /// The metadata of an open file or directory.
    pub(super) fn open_inode(&mut self, fd: BorrowedFd<'_>, stat: &Stat) -> Result<Inode, Problem> {
        let len = match flistxattr(fd, self.buffer.as_mut_slice()) {
            Err(Errno::OPNOTSUPP) => Ok(0),
            other => other,
        };
        let len = len.map_err(Problem::of("flistxattr"))?;
        let xattrs = self.xattrs(len, "fgetxattr", |name, buffer| fgetxattr(fd, name, buffer))?;
        inode(stat, xattrs)
    }

    /// An inode that is neither a file nor a directory, without opening it.
    pub(super) fn special(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        stat: &Stat,
        listed: bool,
    ) -> Result<Recorded, Problem> {
        // A descriptor of a symbolic link does not lead to its attributes.
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        let len = match llistxattr(&path[..], self.buffer.as_mut_slice()) {
            Err(Errno::OPNOTSUPP) => Ok(0),
            other => other,
        };
        let len = len.map_err(Problem::of("llistxattr"))?;
        let xattrs = self.xattrs(len, "lgetxattr", |name, buffer| {
            lgetxattr(&path[..], name, buffer)
        })?;
        let inode = inode(stat, xattrs)?;
        let record = Record::begin(&inode, listed);
        Ok(match inode.kind {
            Kind::Symlink => {
                let target = readlinkat(directory, name, Vec::new());
                let target = target.map_err(Problem::of("readlinkat"))?;
                record.symlink(target.as_bytes())
            }
            Kind::CharacterDevice | Kind::BlockDevice => record.device(Device {
                major: major(stat.st_rdev),
                minor: minor(stat.st_rdev),
            }),
            Kind::Fifo | Kind::Socket => record.plain(),
            Kind::File | Kind::Directory => return Err(Problem::Changed),
        })
    }

    /// The attributes whose names are in the buffer, sorted by name.
    fn xattrs(
        &mut self,
        len: usize,
        call: &'static str,
        get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    ) -> Result<Vec<Xattr>, Problem> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let list = self.buffer.get(..len).unwrap_or_default().to_vec();
        let mut names: Vec<&[u8]> = list.split(|&byte| byte == 0).collect();
        names.retain(|name| {
            !name.is_empty() && (*name == CAPABILITY || !CAPABILITY.starts_with(name))
        });
        names.sort_unstable();
        let mut xattrs = Vec::with_capacity(names.len());
        for name in names {
            let len = match get(name, &mut self.buffer) {
                Ok(len) => len,
                Err(Errno::NODATA) => return Err(Problem::Changed),
                Err(errno) => return Err(Problem::of(call)(errno)),
            };
            let value = self.buffer.get(..len).unwrap_or_default();
            xattrs.push((name.to_vec(), value.to_vec()));
        }
        Ok(xattrs)
    }
}

fn inode(stat: &Stat, xattrs: Vec<Xattr>) -> Result<Inode, Problem> {
    let kind = Kind::of(FileType::from_raw_mode(stat.st_mode)).ok_or(Problem::Changed)?;
    Ok(Inode {
        kind,
        // Those of a symbolic link mean nothing and are not sent.
        mode: if kind == Kind::Symlink {
            0
        } else {
            stat.st_mode & 0o7777
        },
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        links: if kind == Kind::Directory {
            1
        } else {
            links_of(stat)
        },
        xattrs,
    })
}

/// Names of an inode. The type of the field is not the same everywhere.
#[allow(clippy::useless_conversion)]
pub(super) fn links_of(stat: &Stat) -> u64 {
    stat.st_nlink.into()
}

/// Opens a file or directory for reading, without a trace in its access time
/// where that is permitted. Follows no symbolic link and waits for nobody.
pub(super) fn open(directory: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Problem> {
    let flags = flags
        | OFlags::RDONLY
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    match openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(&directory, name, flags, Mode::empty()),
        other => other,
    }
    .map_err(Problem::of("openat"))
}

pub(super) fn stat_of(fd: impl AsFd) -> Result<Stat, Problem> {
    fstat(fd).map_err(Problem::of("fstat"))
}

pub(super) fn stat_at(directory: impl AsFd, name: &[u8]) -> Result<Stat, Problem> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Problem::of("fstatat"))
}
