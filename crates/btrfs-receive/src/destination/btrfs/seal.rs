//! The end of a subvolume: on disk, marked as received, read-only, under its
//! name; and nobody has changed it since it was created.
//!
//! Who has a file open for writing can go on writing when the subvolume is
//! read-only. So its root stays closed to everybody else until the last
//! moment, and what opens it (its owner, its mode, its ACL) comes between
//! the mark and the read-only flag, which the kernel keeps apart: a read-only
//! subvolume takes neither. For this moment it has a name that cannot be
//! guessed.
//!
//! A private directory will not do: a read-only subvolume cannot be moved out
//! of its directory (`EROFS`). A read-only snapshot in its place would be
//! safe from everybody, but has a parent UUID, which callers take for an
//! error after a full receive and follow after an incremental one. Only a
//! root that is immutable or append-only is replaced by a snapshot, since
//! such a root cannot be renamed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use btrfs_lineage::INSIDE;
use btrfs_sendstream::Position;
use rustix::fs::{RenameFlags, fsync, renameat_with, syncfs};
use rustix::io::Errno;
use tracing::{debug, info};
use uuid::Uuid;

use super::naming::Naming;
use super::private::{self, unguessable};
use super::root::{close, entry, moved, open_root, taken};
use super::unfinished;
use super::watch::{Before, Watch};
use crate::destination::tree::encoded::Accepted;
use crate::error::{Cause, Failure, named};
use crate::plan::op::NewSubvolume;
use btrfs_ioctl::{self as sys, XFlags};

/// What is to be sealed.
pub(super) struct Sealing<'a> {
    pub(super) destination: &'a OwnedFd,
    pub(super) naming: Naming,
    pub(super) new: &'a NewSubvolume,
    /// Its root. Must be a descriptor that was opened before the first write:
    /// syncfs(2) reports a failed write-back once to each. The ioctls that
    /// follow report none.
    pub(super) root: &'a OwnedFd,
    /// Its id.
    pub(super) id: u64,
    /// Encoded data, the loss of which syncfs(2) does not report either.
    pub(super) accepted: &'a Accepted,
    /// Immutable and append-only, if the root is to be that.
    pub(super) forbidding: XFlags,
    pub(super) at: Position,
}

/// A subvolume that is marked as received.
struct Marked {
    id: u64,
    /// The transaction in which it was marked.
    rtransid: u64,
    /// Whether it was marked as [`unfinished`] too, which has to be undone.
    unfinished: bool,
}

impl Sealing<'_> {
    /// Puts every byte on disk and does the rest. `check` sees the subvolume
    /// before it is marked; `open_up` lets others enter the root, as far as they
    /// are to. Returns the id of the subvolume.
    ///
    /// # Errors
    /// [`Destination::finish`](crate::Destination::finish) says what is left.
    pub(super) fn seal(
        self,
        check: impl FnOnce() -> Result<(), Cause>,
        open_up: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let Marked {
            id,
            rtransid,
            unfinished,
        } = self.mark(check).map_err(|cause| self.failed(cause))?;
        let open_up = || {
            open_up()?;
            if unfinished {
                // The root is complete now.
                unfinished::unmark(self.root).map_err(|cause| self.failed(cause))?;
            }
            Ok(())
        };
        let sealed = if self.forbidding.is_empty() {
            self.in_place(id, rtransid, open_up)
        } else {
            self.by_snapshot(id, open_up)
        };
        let id = sealed?;
        let NewSubvolume { uuid, ctransid, .. } = *self.new;
        info!(id, %uuid, stransid = ctransid, "on disk, marked as received, read-only");
        Ok(id)
    }

    fn failed(&self, cause: Cause) -> Failure {
        Failure::new(self.at, "finish", self.new.name.as_bytes(), cause)
    }

    /// Puts every byte on disk and marks the subvolume as received, if it has
    /// its name still and the caller agrees.
    fn mark(&self, check: impl FnOnce() -> Result<(), Cause>) -> Result<Marked, Cause> {
        let new = self.new;
        debug!(name = %new.name, "everything is applied: writing it to disk");
        syncfs(self.root).map_err(named("syncfs"))?;
        self.accepted.verify()?;
        check()?;
        let id = self.id;
        let built = self.naming.while_built(new);
        if !entry(self.destination, built.as_bytes())?.is_subvolume(id) {
            return Err(self.moved(id));
        }
        let unfinished = unfinished::mark(self.root)?;
        match sys::set_received_subvol(self.root, new.uuid, new.ctransid) {
            Ok(received) => Ok(Marked {
                id,
                rtransid: received.rtransid,
                unfinished,
            }),
            Err(errno) => {
                if unfinished {
                    let _ = unfinished::unmark(self.root);
                }
                Err(Cause::system("BTRFS_IOC_SET_RECEIVED_SUBVOL", errno))
            }
        }
    }

    fn in_place(
        &self,
        id: u64,
        rtransid: u64,
        open_up: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let aside = unguessable(self.new);
        let place = (self.destination.as_fd(), &aside[..]);
        self.take_away(id, place)?;
        let sealed = Watch::begin(self.root, id, rtransid)
            .map_err(|cause| self.failed(cause))
            .and_then(|watch| {
                open_up()?;
                self.make_read_only(watch)
                    .map_err(|cause| self.failed(cause))
            });
        let before = match sealed {
            Ok(before) => before,
            Err(failure) => {
                let failure = self.undo(failure);
                self.bring_back(place);
                return Err(failure);
            }
        };
        let revealed = self.reveal(id, &aside).map_err(|cause| self.failed(cause));
        // The kernel looks at the read-only flag before it waits for a transaction. What
        // it had let through by then may have come after the first look; now the
        // name is on disk, and so is that.
        if let Some(Err(cause)) = before.map(|before| before.unchanged()) {
            let failure = self.undo(self.failed(self.make_writable(cause)));
            let name = revealed.map_or(&aside[..], |_| self.new.name.as_bytes());
            self.bring_back((self.destination.as_fd(), name));
            return Err(failure);
        }
        revealed
    }

    fn make_read_only<'w>(&self, watch: Option<Watch<'w>>) -> Result<Option<Before<'w>>, Cause> {
        sys::subvol_set_read_only(self.root, true).map_err(named("BTRFS_IOC_SUBVOL_SETFLAGS"))?;
        let watched = watch.map(Watch::end).transpose();
        watched.map_err(|cause| self.make_writable(cause))
    }

    /// After an error that shows that it is not what was sent.
    fn make_writable(&self, cause: Cause) -> Cause {
        match sys::subvol_set_read_only(self.root, false) {
            Ok(()) => cause,
            Err(errno) => Cause::system("BTRFS_IOC_SUBVOL_SETFLAGS", errno),
        }
    }

    /// Gives the complete subvolume its own name. rename(2) alone would
    /// replace an empty directory.
    fn reveal(&self, id: u64, aside: &[u8]) -> Result<u64, Cause> {
        let name = self.new.name.as_bytes();
        let not_renamed = |called: &[u8], errno: Errno| Cause::NotRenamed {
            built_as: called.escape_ascii().to_string(),
            error: errno.into(),
        };
        if let Err(errno) = self.rename(aside, name) {
            let built = self.naming.while_built(self.new);
            match self.rename(aside, built.as_bytes()) {
                // Both are the same name.
                Ok(()) if built == self.new.name => {}
                Ok(()) => return Err(not_renamed(built.as_bytes(), errno)),
                Err(_) => return Err(not_renamed(aside, errno)),
            }
        }
        // The name has to survive a power cut, as the subvolume does.
        fsync(self.destination).map_err(|errno| not_renamed(name, errno))?;
        match entry(self.destination, name) {
            Ok(found) if !found.is_subvolume(id) => Err(self.moved(id)),
            Ok(_) | Err(_) => Ok(id),
        }
    }

    /// Where the root is to be immutable or append-only: then it cannot be
    /// renamed, and once it is read-only it cannot be made so.
    fn by_snapshot(
        &self,
        id: u64,
        open_up: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let private = private::make(self.destination, self.new)
            .map_err(|cause| self.failed(self.unmark(cause)))?;
        let place = (private.as_fd(), INSIDE);
        self.take_away(id, place)?;
        let sealed = open_up().and_then(|()| self.take_snapshot().map_err(|c| self.failed(c)));
        let flags = sys::fs_get_xflags(self.root).unwrap_or(XFlags::empty());
        let _ = sys::fs_set_xflags(self.root, flags - self.forbidding);
        match sealed {
            Ok(id) => {
                let deleted = private::delete_inside(&private);
                if let Err(errno) = deleted {
                    debug!(%errno, "the subvolume that the snapshot was taken of stays");
                    let _ = sys::set_received_subvol(self.root, Uuid::nil(), 0);
                }
                Ok(id)
            }
            Err(failure) => {
                let failure = self.undo(failure);
                self.bring_back(place);
                Err(failure)
            }
        }
    }

    fn take_snapshot(&self) -> Result<u64, Cause> {
        let flags = sys::fs_get_xflags(self.root).map_err(named("FS_IOC_FSGETXATTR"))?;
        sys::fs_set_xflags(self.root, flags | self.forbidding)
            .map_err(named("FS_IOC_FSSETXATTR"))?;
        let name = self.new.name.as_bytes();
        // With its name, in one transaction that is committed.
        match sys::snap_create(self.destination, name, self.root, true) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(taken(self.destination, name, self.new)),
            Err(errno) => return Err(Cause::system("BTRFS_IOC_SNAP_CREATE_V2", errno)),
        }
        let of = sys::subvolume_info(self.root).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?;
        let made = open_root(self.destination, name)?;
        let made = sys::subvolume_info(made).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?;
        if made.parent_uuid != of.uuid {
            return Err(self.moved(of.id));
        }
        Ok(made.id)
    }

    /// Moves what has the name that the subvolume was built under to another
    /// name, in the same directory or another; if that is not the subvolume
    /// `id`, moves it back.
    ///
    /// # Errors
    /// It was not the subvolume, or cannot be moved. The subvolume is no longer
    /// marked as received.
    fn take_away(&self, id: u64, to: Place<'_>) -> Result<(), Failure> {
        let built = self.naming.while_built(self.new);
        let (directory, name) = to;
        let cause = match rename((self.destination.as_fd(), built.as_bytes()), to) {
            Ok(()) if entry(directory, name).is_ok_and(|found| found.is_subvolume(id)) => {
                return Ok(());
            }
            Ok(()) => {
                self.bring_back(to);
                self.moved(id)
            }
            Err(Errno::NOENT) => self.moved(id),
            Err(errno) => Cause::system("renameat2", errno),
        };
        Err(self.failed(self.unmark(cause)))
    }

    /// Undoes [`take_away`](Self::take_away), if nothing has the name by now.
    fn bring_back(&self, from: Place<'_>) {
        let built = self.naming.while_built(self.new);
        let _ = rename(from, (self.destination.as_fd(), built.as_bytes()));
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        rename(
            (self.destination.as_fd(), from),
            (self.destination.as_fd(), to),
        )
    }

    /// Takes back what was done since the mark: the subvolume is incomplete.
    fn undo(&self, mut failure: Failure) -> Failure {
        let _ = close(self.root);
        *failure.cause = self.unmark(*failure.cause);
        failure
    }

    /// A writable subvolume must not say that it is complete.
    fn unmark(&self, cause: Cause) -> Cause {
        match sys::set_received_subvol(self.root, Uuid::nil(), 0) {
            Ok(_) => {
                let _ = unfinished::unmark(self.root);
                cause
            }
            Err(errno) => {
                let _ = unfinished::mark(self.root);
                Cause::StampStays {
                    error: errno.into(),
                }
            }
        }
    }

    /// Another process has renamed or moved it.
    fn moved(&self, id: u64) -> Cause {
        moved(
            self.naming,
            self.new,
            id,
            sys::subvolume_info(self.root).ok(),
        )
    }
}

/// A name in a directory.
type Place<'a> = (BorrowedFd<'a>, &'a [u8]);

/// Replaces nothing.
fn rename(from: Place<'_>, to: Place<'_>) -> Result<(), Errno> {
    renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE)
}
