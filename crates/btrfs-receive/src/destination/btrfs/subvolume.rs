//! The life of a subvolume: created or taken as a snapshot, then sealed.

use std::os::fd::{AsFd, OwnedFd};

use btrfs_sendstream::{Bytes, Timespec};
use rustix::fs::{
    IFlags, Mode, OFlags, Stat, fchmod, fgetxattr, fremovexattr, fstat, ioctl_getflags,
    ioctl_setflags, openat, syncfs,
};
use rustix::io::Errno;
use rustix::process::umask;
use tracing::{debug, info};
use uuid::Uuid;

use super::encoded::Accepted;
use super::error::named;
use super::flags::{self, INHERITED_FL, SharedFlags};
use crate::destination::Withheld;
use crate::error::{Cause, Occupant};
use crate::plan::op::NewSubvolume;
use crate::sys;
use crate::xattr::{COMPRESSION, DEFAULT_ACL};

/// Inode number of every subvolume's root, `BTRFS_FIRST_FREE_OBJECTID`.
pub(crate) const ROOT_INODE: u64 = 256;

/// Mode of a new subvolume's root until the stream's own is set at the end.
const CLOSED: u32 = 0o700;

/// Creates an empty subvolume whose root only its owner can enter.
pub(super) fn create(
    destination: &OwnedFd,
    name: &[u8],
    new: &NewSubvolume,
    private_umask: bool,
) -> Result<OwnedFd, Cause> {
    if private_umask {
        umask(Mode::from_raw_mode(0o777 & !CLOSED));
    }
    let created = sys::subvol_create(destination, name);
    if private_umask {
        umask(Mode::empty());
    }
    created.map_err(|errno| not_made(destination, name, new, "BTRFS_IOC_SUBVOL_CREATE", errno))?;
    let root = open_root(destination, name).map_err(left_incomplete)?;
    fchmod(&root, Mode::from_raw_mode(CLOSED))
        .map_err(named("fchmod"))
        .and_then(|()| clean(&root))
        .map_err(left_incomplete)?;
    Ok(root)
}

/// Takes off a new root what it got from the root of the subvolume around
/// it: the kernel hands `btrfs.compression` on.
fn clean(root: &OwnedFd) -> Result<(), Cause> {
    take_xattr(root, COMPRESSION)?;
    let flags = ioctl_getflags(root)
        .map_err(named("FS_IOC_GETFLAGS"))?
        .bits();
    if flags & INHERITED_FL != 0 {
        let cleared = IFlags::from_bits_retain(flags & !INHERITED_FL);
        ioctl_setflags(root, cleared).map_err(named("FS_IOC_SETFLAGS"))?;
    }
    Ok(())
}

/// Takes a writable snapshot of `parent`.
pub(super) fn snapshot(
    destination: &OwnedFd,
    name: &[u8],
    new: &NewSubvolume,
    parent: impl AsFd,
) -> Result<OwnedFd, Cause> {
    sys::snap_create(destination, name, parent, false)
        .map_err(|errno| not_made(destination, name, new, "BTRFS_IOC_SNAP_CREATE_V2", errno))?;
    open_root(destination, name).map_err(left_incomplete)
}

/// A failure after the subvolume came into being.
pub(super) fn left_incomplete(cause: Cause) -> Cause {
    Cause::LeftIncomplete {
        cause: Box::new(cause),
    }
}

/// Why the subvolume could not be made; if its name is taken, by what.
fn not_made(
    destination: &OwnedFd,
    name: &[u8],
    new: &NewSubvolume,
    call: &'static str,
    errno: Errno,
) -> Cause {
    match errno {
        Errno::EXIST => taken(destination, name, new),
        errno => Cause::system(call, errno),
    }
}

/// The name that `new` was to be built under is taken.
pub(crate) fn taken(destination: &OwnedFd, name: &[u8], new: &NewSubvolume) -> Cause {
    let by = occupant(destination, name, new);
    match name == new.name.as_bytes() {
        true => Cause::NameTaken { by },
        false => Cause::BuildNameTaken {
            built_as: name.escape_ascii().to_string(),
            by,
        },
    }
}

/// What to say if `cause` is in the way of `new`: that the same subvolume is
/// there already comes first, for whoever has it needs its parent no more.
pub(crate) fn or_the_same(destination: &OwnedFd, new: &NewSubvolume, cause: Cause) -> Cause {
    match occupant(destination, new.name.as_bytes(), new) {
        by @ Occupant::Same => Cause::NameTaken { by },
        _ => cause,
    }
}

/// What has the name that `new` was to get.
pub(crate) fn occupant(destination: &OwnedFd, name: &[u8], new: &NewSubvolume) -> Occupant {
    match open_root(destination, name) {
        Ok(fd) if fstat(&fd).is_ok_and(|stat| stat.st_ino == ROOT_INODE) => {
            match sys::subvolume_info(&fd) {
                Ok(info) if info.received_uuid.is_nil() && !info.read_only => Occupant::Incomplete,
                Ok(info)
                    if info.read_only
                        && (info.received_uuid, info.stransid) == (new.uuid, new.ctransid) =>
                {
                    Occupant::Same
                }
                _ => Occupant::Other,
            }
        }
        _ => Occupant::NoSubvolume,
    }
}

pub(super) fn open_root(destination: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Cause> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(destination, name, flags, Mode::empty()).map_err(named("openat"))
}

/// Takes off the root of a snapshot what new inodes would inherit, and notes
/// what they would change.
///
/// An immutable or append-only root is made changeable until the end.
pub(super) fn withhold(root: &OwnedFd, waiting: &SharedFlags) -> Result<Withheld, Cause> {
    let xflags = sys::fs_get_xflags(root).map_err(named("FS_IOC_FSGETXATTR"))?;
    flags::lift(root, waiting)?;
    let stat = fstat(root).map_err(named("fstat"))?;
    let mut withheld = Withheld {
        times: Some(times_of(&stat)),
        default_acl: take_xattr(root, DEFAULT_ACL)?,
        ..Withheld::default()
    };
    // Before the attribute goes: removing it changes the flags.
    let old = ioctl_getflags(root)
        .map_err(named("FS_IOC_GETFLAGS"))?
        .bits();
    withheld.compression = take_xattr(root, COMPRESSION)?;
    if old & INHERITED_FL != 0 {
        let cleared = IFlags::from_bits_retain(old & !INHERITED_FL);
        ioctl_setflags(root, cleared).map_err(named("FS_IOC_SETFLAGS"))?;
        withheld.attributes = Some(flags::to_attributes(old, xflags));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & 0o2000 != 0 {
        fchmod(root, Mode::from_raw_mode(mode & !0o2000)).map_err(named("fchmod"))?;
        withheld.mode = Some(mode);
    }
    Ok(withheld)
}

pub(in crate::destination) fn times_of(stat: &Stat) -> (Timespec, Timespec) {
    let time = |seconds, nanoseconds| Timespec {
        seconds,
        // Less than 1,000,000,000.
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    };
    (
        time(stat.st_atime, stat.st_atime_nsec),
        time(stat.st_mtime, stat.st_mtime_nsec),
    )
}

/// Reads and removes an extended attribute.
fn take_xattr(root: &OwnedFd, name: &[u8]) -> Result<Option<Bytes>, Cause> {
    let mut value = vec![0; 65536];
    let len = match fgetxattr(root, name, value.as_mut_slice()) {
        Ok(len) => len,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(errno) => return Err(Cause::system("fgetxattr", errno)),
    };
    value.truncate(len);
    fremovexattr(root, name).map_err(named("fremovexattr"))?;
    Ok(Some(value.into()))
}

/// Deletes the subvolume that this receive created, given by its root, unless
/// it was marked as received or made read-only. Says whether it is gone.
pub(super) fn delete(destination: &OwnedFd, root: OwnedFd) -> Result<bool, Cause> {
    let info = match sys::subvolume_info(&root) {
        Ok(info) => info,
        // Someone else deleted it.
        Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(Cause::system("BTRFS_IOC_GET_SUBVOL_INFO", errno)),
    };
    if info.read_only || !info.received_uuid.is_nil() {
        return Ok(false);
    }
    // By id, which is never used again: its name may be another's by now.
    sys::subvol_destroy(destination, info.id).map_err(named("BTRFS_IOC_SNAP_DESTROY_V2"))?;
    Ok(true)
}

/// Puts every byte on disk, then marks the subvolume as received and makes
/// it read-only. Returns the id of the subvolume.
///
/// `root` must be a descriptor that was opened before the first write:
/// syncfs(2) reports a failed write-back once to each. The ioctls that
/// follow report none. Nor does it report encoded data that was lost, which
/// `accepted` looks for.
pub(super) fn seal(root: impl AsFd, new: &NewSubvolume, accepted: &Accepted) -> Result<u64, Cause> {
    debug!(name = %new.name, "everything is applied: writing it to disk");
    syncfs(&root).map_err(named("syncfs"))?;
    accepted.verify()?;
    let id = sys::subvolume_info(&root)
        .map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?
        .id;
    sys::set_received_subvol(&root, new.uuid, new.ctransid)
        .map_err(named("BTRFS_IOC_SET_RECEIVED_SUBVOL"))?;
    if let Err(errno) = sys::subvol_set_read_only(&root, true) {
        // A writable subvolume must not say that it is complete.
        if let Err(errno) = sys::set_received_subvol(&root, Uuid::nil(), 0) {
            return Err(Cause::StampStays {
                error: errno.into(),
            });
        }
        return Err(Cause::system("BTRFS_IOC_SUBVOL_SETFLAGS", errno));
    }
    info!(id, uuid = %new.uuid, stransid = new.ctransid, "on disk, marked as received, read-only");
    Ok(id)
}
