//! A mark on the root of a subvolume from before it gets its received UUID
//! until its root is as it was sent, directly before the read-only flag.
//!
//! Where a power cut or a kill ends the receive in between, the subvolume is
//! writable, has a received UUID, and a root that differs from the sender's. By
//! this mark it is not taken as a source. The call that sets the received UUID
//! and the one that sets the flag commit what was done to the mark before.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, XattrFlags, fchmod, fgetxattr, fremovexattr, fsetxattr, fstat};
use rustix::io::Errno;

use crate::error::{Cause, named};
use btrfs_lineage::UNFINISHED;

/// Sets the mark. Returns whether it has to be taken off: a stream can bring
/// an attribute of this name, which is then part of what was sent.
pub(super) fn mark(root: &OwnedFd) -> Result<bool, Cause> {
    match fgetxattr(root, UNFINISHED, &mut [0_u8; 0]) {
        Ok(_) => Ok(false),
        Err(Errno::NODATA) => {
            fsetxattr(root, UNFINISHED, b"", XattrFlags::CREATE).map_err(named("fsetxattr"))?;
            Ok(true)
        }
        Err(errno) => Err(Cause::system("fgetxattr", errno)),
    }
}

/// Takes the mark off.
pub(super) fn unmark(root: &OwnedFd) -> Result<(), Cause> {
    match fremovexattr(root, UNFINISHED) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        // Without privileges, when the root is not to be written to by its
        // owner.
        Err(Errno::ACCESS) => {
            let mode = fstat(root).map_err(named("fstat"))?.st_mode & 0o7777;
            let set = |mode| fchmod(root, Mode::from_raw_mode(mode)).map_err(named("fchmod"));
            set(mode | 0o200)?;
            let removed = fremovexattr(root, UNFINISHED).map_err(named("fremovexattr"));
            set(mode)?;
            removed
        }
        Err(errno) => Err(Cause::system("fremovexattr", errno)),
    }
}
