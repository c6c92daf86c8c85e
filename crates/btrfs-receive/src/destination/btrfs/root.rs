//! Roots of subvolumes: opened by name, looked at, closed to others.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, fchmod, fchown, fstat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::naming::Naming;
use crate::error::{Cause, Conflict, named};
use crate::plan::op::NewSubvolume;
use btrfs_ioctl::{self as sys, ROOT_INODE, SubvolumeInfo};

/// Mode of the root until the stream's own is set at the end.
pub(super) const CLOSED: u32 = 0o700;

/// A failure after the subvolume came into being.
pub(super) fn left_incomplete(cause: Cause) -> Cause {
    Cause::LeftIncomplete {
        cause: Box::new(cause),
    }
}

/// The name that `new` was to be built under is taken.
pub(crate) fn taken(destination: &OwnedFd, name: &[u8], new: &NewSubvolume) -> Cause {
    let by = conflict(destination, name, new);
    match name == new.name.as_bytes() {
        true => Cause::NameTaken { by },
        false => Cause::BuildNameTaken {
            built_as: name.escape_ascii().to_string(),
            by,
        },
    }
}

/// Another process has renamed, moved or deleted the subvolume `id`; `info` is that of its
/// root, if it exists.
pub(super) fn moved(
    naming: Naming,
    new: &NewSubvolume,
    id: u64,
    info: Option<SubvolumeInfo>,
) -> Cause {
    Cause::Moved {
        built_as: naming.while_built(new).to_string(),
        subvolume_id: id,
        called: info.map_or_else(Vec::new, |info| info.name).into(),
    }
}

/// What to say if `cause` is in the way of `new`: that the same subvolume is
/// there already comes first, for whoever has it needs its parent no more.
pub(crate) fn or_the_same(destination: &OwnedFd, new: &NewSubvolume, cause: Cause) -> Cause {
    match conflict(destination, new.name.as_bytes(), new) {
        by @ Conflict::Same => Cause::NameTaken { by },
        _ => cause,
    }
}

/// What has the name that `new` was to get.
pub(crate) fn conflict(destination: &OwnedFd, name: &[u8], new: &NewSubvolume) -> Conflict {
    match entry(destination, name) {
        Ok(Entry::Subvolume(info)) if info.received_uuid.is_nil() && !info.read_only => {
            Conflict::Incomplete
        }
        Ok(Entry::Subvolume(info))
            if info.read_only
                && (info.received_uuid, info.stransid) == (new.uuid, new.ctransid) =>
        {
            Conflict::Same
        }
        Ok(Entry::Subvolume(_)) => Conflict::Other,
        Ok(Entry::Nothing | Entry::Other) | Err(_) => Conflict::NoSubvolume,
    }
}

/// What has a name in a directory.
#[derive(Debug)]
pub(crate) enum Entry {
    Nothing,
    Subvolume(Box<SubvolumeInfo>),
    /// Anything else.
    Other,
}

impl Entry {
    /// Whether it is the subvolume with this id.
    pub(super) fn is_subvolume(&self, id: u64) -> bool {
        matches!(self, Self::Subvolume(info) if info.id == id)
    }
}

/// What is called `name` in `directory`.
///
/// # Errors
/// It cannot be looked at.
pub(crate) fn entry(directory: impl AsFd, name: &[u8]) -> Result<Entry, Cause> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match openat(directory, name, flags, Mode::empty()) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(Entry::Nothing),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Entry::Other),
        Err(errno) => return Err(Cause::system("openat", errno)),
    };
    if fstat(&found).map_err(named("fstat"))?.st_ino != ROOT_INODE {
        return Ok(Entry::Other);
    }
    let info = sys::subvolume_info(found).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?;
    Ok(Entry::Subvolume(Box::new(info)))
}

pub(super) fn open_root(destination: impl AsFd, name: &[u8]) -> Result<OwnedFd, Cause> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(destination, name, flags, Mode::empty()).map_err(named("openat"))
}

/// Keeps everybody else out of a subvolume: who owns its root, too.
pub(super) fn close(root: &OwnedFd) -> Result<(), Cause> {
    fchown(root, Some(geteuid()), None::<Gid>).map_err(named("fchown"))?;
    fchmod(root, Mode::from_raw_mode(CLOSED)).map_err(named("fchmod"))
}
