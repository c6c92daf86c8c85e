//! The beginning of a subvolume: created or taken as a snapshot, and closed.

use std::os::fd::{AsFd, OwnedFd};

use btrfs_lineage::{INSIDE, PrivateDirectory};
use btrfs_sendstream::Bytes;
use rustix::fs::{
    AtFlags, IFlags, Mode, fchmod, fgetxattr, fremovexattr, fstat, ioctl_getflags, ioctl_setflags,
    statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};
use tracing::debug;

use super::private;
use super::root::{CLOSED, close, left_incomplete, open_root, taken};
use crate::destination::DeferredAttributes;
use crate::destination::tree::flags::{self, INHERITED_FL, SharedFlags};
use crate::destination::tree::times::times_of;
use crate::error::{Cause, named};
use crate::plan::op::NewSubvolume;
use crate::xattr::{COMPRESSION, DEFAULT_ACL};
use btrfs_ioctl::{self as sys, XFlags};

/// Creates an empty subvolume whose root only its owner can enter.
pub(super) fn create(
    destination: &OwnedFd,
    name: &[u8],
    new: &NewSubvolume,
) -> Result<OwnedFd, Cause> {
    let private = private_directory(destination, name, new)?;
    sys::subvol_create(&private, INSIDE).map_err(named("BTRFS_IOC_SUBVOL_CREATE"))?;
    let made = open_root(&private, INSIDE).and_then(|root| {
        fchmod(&root, Mode::from_raw_mode(CLOSED)).map_err(named("fchmod"))?;
        clean(&root)?;
        Ok(root)
    });
    bring_out(&private, destination, name, new, made)
}

/// A private directory for the subvolume that is to be called `name`.
fn private_directory(
    destination: &OwnedFd,
    name: &[u8],
    new: &NewSubvolume,
) -> Result<PrivateDirectory, Cause> {
    match statat(destination, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => private::make(destination, new),
        Err(errno) => Err(Cause::system("fstatat", errno)),
        Ok(_) => Err(taken(destination, name, new)),
    }
}

/// Gives what was `made` in a private directory its name.
fn bring_out<T>(
    private: &PrivateDirectory,
    destination: &OwnedFd,
    name: &[u8],
    new: &NewSubvolume,
    made: Result<T, Cause>,
) -> Result<T, Cause> {
    let Err(errno) = private::bring_out(private, name) else {
        return made.map_err(left_incomplete);
    };
    // Nothing of it was seen by anybody.
    if private::delete_inside(private).is_err() {
        debug!("what was created in the private directory stays there");
    }
    Err(match errno {
        Errno::EXIST => taken(destination, name, new),
        errno => Cause::system("renameat2", errno),
    })
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

/// Takes a writable snapshot of `parent` that nobody else can enter. `look`
/// sees its root as it was taken.
pub(super) fn snapshot(
    destination: &OwnedFd,
    name: &[u8],
    new: &NewSubvolume,
    parent: impl AsFd,
    look: impl FnOnce(&OwnedFd),
    waiting: &SharedFlags,
) -> Result<(OwnedFd, DeferredAttributes), Cause> {
    may_close(&parent)?;
    let private = private_directory(destination, name, new)?;
    sys::snap_create(&private, INSIDE, parent, false).map_err(named("BTRFS_IOC_SNAP_CREATE_V2"))?;
    let made = open_root(&private, INSIDE).and_then(|root| {
        look(&root);
        let deferred = defer_attributes(&root, waiting)?;
        Ok((root, deferred))
    });
    bring_out(&private, destination, name, new, made)
}

/// Whether the root of a snapshot of `parent` can be closed: a snapshot that
/// cannot be closed is not taken.
fn may_close(parent: impl AsFd) -> Result<(), Cause> {
    let lacks =
        |one| !capabilities(None).is_ok_and(|capabilities| capabilities.effective.contains(one));
    let flags = sys::fs_get_xflags(&parent).map_err(named("FS_IOC_FSGETXATTR"))?;
    if flags.intersects(XFlags::IMMUTABLE | XFlags::APPEND) && lacks(CapabilitySet::LINUX_IMMUTABLE)
    {
        return Err(Cause::system("FS_IOC_FSSETXATTR", Errno::PERM));
    }
    let owner = fstat(&parent).map_err(named("fstat"))?.st_uid;
    if owner != geteuid().as_raw() && lacks(CapabilitySet::CHOWN) {
        return Err(Cause::system("fchown", Errno::PERM));
    }
    Ok(())
}

/// Takes off the root of a snapshot what new inodes would inherit, notes what
/// they would change, and closes it to everybody else.
///
/// An immutable or append-only root is made changeable until the end.
pub(super) fn defer_attributes(
    root: &OwnedFd,
    waiting: &SharedFlags,
) -> Result<DeferredAttributes, Cause> {
    let xflags = sys::fs_get_xflags(root).map_err(named("FS_IOC_FSGETXATTR"))?;
    flags::lift(root, waiting)?;
    let stat = fstat(root).map_err(named("fstat"))?;
    let mut deferred = DeferredAttributes {
        times: Some(times_of(&stat)),
        default_acl: take_xattr(root, DEFAULT_ACL)?,
        ..DeferredAttributes::default()
    };
    // Before the attribute goes: removing it changes the flags.
    let old = ioctl_getflags(root)
        .map_err(named("FS_IOC_GETFLAGS"))?
        .bits();
    deferred.compression = take_xattr(root, COMPRESSION)?;
    if old & INHERITED_FL != 0 {
        let cleared = IFlags::from_bits_retain(old & !INHERITED_FL);
        ioctl_setflags(root, cleared).map_err(named("FS_IOC_SETFLAGS"))?;
        deferred.attributes = Some(flags::to_attributes(old, xflags));
    }
    if stat.st_uid != geteuid().as_raw() {
        deferred.owner = Some((stat.st_uid, stat.st_gid));
    }
    deferred.mode = Some(stat.st_mode & 0o7777);
    close(root)?;
    Ok(deferred)
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
