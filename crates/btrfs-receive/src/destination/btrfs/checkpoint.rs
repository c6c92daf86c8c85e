//! Checkpoints of the subvolume under construction, and going back to one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc;

use btrfs_sendstream::Position;
use rustix::fs::syncfs;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use uuid::Uuid;

use super::error::named;
use super::remains::{Remains, remains};
use super::{BtrfsDestination, Engine, Request, subvolume, unfinished};
use crate::destination::{Begun, Destination, Withheld};
use crate::error::{Cause, Failure};
use crate::plan::op::NewSubvolume;
use crate::report::Fallbacks;
use crate::resume::{Deferred, Restoring, note_working};
use crate::sys;

/// What a checkpoint is known by, and what waits for the end.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) uuid: Uuid,
    pub(crate) ctransid: u64,
    pub(crate) deferred: Deferred,
    pub(crate) fallbacks: Fallbacks,
}

/// Takes a checkpoint: `name` in the directory `place`.
pub(super) struct Capture {
    place: OwnedFd,
    name: String,
    answer: mpsc::Sender<Result<Captured, Failure>>,
    at: Position,
}

/// Puts a subvolume back to a checkpoint.
pub(super) struct Restore {
    new: NewSubvolume,
    from: Restoring,
    answer: mpsc::Sender<Result<Begun, Failure>>,
    at: Position,
}

impl BtrfsDestination {
    /// The directory that subvolumes are created in, and its path.
    pub(crate) fn directory(&self) -> rustix::io::Result<(OwnedFd, PathBuf)> {
        let (fd, path) = &self.directory;
        Ok((fcntl_dupfd_cloexec(fd, 3)?, path.clone()))
    }

    /// The UUID of the subvolume that is being built for `new`.
    pub(crate) fn working(&self, new: &NewSubvolume) -> Option<Uuid> {
        match remains(&self.directory.0, self.built_as(new).as_bytes()) {
            Remains::Subvolume(info) => Some(info.uuid),
            _ => None,
        }
    }

    /// Brings everything so far to the disk and takes a read-only snapshot of
    /// it. The caller has settled.
    pub(crate) fn checkpoint(
        &mut self,
        place: OwnedFd,
        name: String,
        at: Position,
    ) -> Result<Captured, Failure> {
        self.ask(at, "checkpoint", |answer| {
            Request::Capture(Box::new(Capture {
                place,
                name,
                answer,
                at,
            }))
        })
    }

    /// Makes a half-built subvolume what it was at a checkpoint, and the one
    /// under construction.
    pub(crate) fn restore(
        &mut self,
        new: &NewSubvolume,
        from: Restoring,
        at: Position,
    ) -> Result<Begun, Failure> {
        let new = new.clone();
        self.ask(at, "resume", |answer| {
            Request::Restore(Box::new(Restore {
                new,
                from,
                answer,
                at,
            }))
        })
    }
}

impl Engine {
    pub(super) fn answer_capture(&mut self, capture: Capture) {
        let captured = self.capture(&capture.place, &capture.name);
        let failed = |cause| Failure::new(capture.at, "checkpoint", b"", cause);
        // As with all requests, the caller may be gone.
        let _ = capture.answer.send(captured.map_err(failed));
    }

    pub(super) fn answer_restore(&mut self, restore: Restore) {
        let name = restore.new.name.clone();
        let begun = self.restore(restore.new, &restore.from);
        let failed = |cause| Failure::new(restore.at, "resume", name.as_bytes(), cause);
        let _ = restore.answer.send(begun.map_err(failed));
    }

    fn capture(&mut self, place: &OwnedFd, name: &str) -> Result<Captured, Cause> {
        if !self.content.wait() {
            return Err(Cause::ThreadPanicked);
        }
        if let Err(failure) = self.failures.next() {
            return Err(*failure.cause);
        }
        let Some(current) = &self.current else {
            return Err(Cause::NothingToFinish);
        };
        let root = current.root.fd();
        // As for the end of a subvolume: what follows reports no lost data.
        syncfs(root).map_err(named("syncfs"))?;
        self.accepted.verify()?;
        // One that was taken and could not be written down.
        match sys::snap_destroy(place, name.as_bytes()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Cause::system("BTRFS_IOC_SNAP_DESTROY", errno)),
        }
        let info = snapshot(root, place, name)?;
        let fallbacks = self
            .fallbacks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(Captured {
            uuid: info.uuid,
            ctransid: info.ctransid,
            deferred: self.flags.export(),
            fallbacks: *fallbacks,
        })
    }

    fn restore(&mut self, new: NewSubvolume, from: &Restoring) -> Result<Begun, Cause> {
        self.abandon();
        self.naming.check(&self.destination, &new)?;
        let name = self.naming.while_built(&new);
        let kept = match remains(&self.destination, name.as_bytes()) {
            Remains::Nothing => None,
            Remains::Subvolume(info) if info.uuid == from.working && from.replace => {
                sys::snap_destroy(&self.destination, name.as_bytes())
                    .map_err(named("BTRFS_IOC_SNAP_DESTROY"))?;
                None
            }
            Remains::Subvolume(info) if info.uuid == from.working => Some(info),
            _ => return Err(subvolume::taken(&self.destination, name.as_bytes(), &new)),
        };
        let (fd, parent) = match kept {
            Some(info) => {
                let fd = subvolume::open_root(&self.destination, name.as_bytes())?;
                if !info.received_uuid.is_nil() {
                    // The power went between the mark and the flag.
                    sys::set_received_subvol(&fd, Uuid::nil(), 0)
                        .map_err(named("BTRFS_IOC_SET_RECEIVED_SUBVOL"))?;
                }
                (fd, None)
            }
            None => {
                note_working(&from.place, Uuid::nil()).map_err(named("write"))?;
                let (fd, Begun { parent, .. }) = self.create(&new)?;
                let info = sys::subvolume_info(&fd).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?;
                note_working(&from.place, info.uuid).map_err(named("write"))?;
                (fd, parent)
            }
        };
        // So that nothing made again inherits anything from the root, and
        // nobody else enters it. What of this the checkpoint has is put back
        // with the rest.
        subvolume::withhold(&fd, &self.flags)?;
        unfinished::unmark(&fd)?;
        self.flags.clear();
        self.rebuild(&new, fd, from)?;
        // What differs in the root is who received it: it is closed in both.
        self.opening.clear();
        let fd = subvolume::open_root(&self.destination, name.as_bytes())?;
        *self
            .fallbacks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = from.checkpoint.fallbacks;
        self.work_on(new, fd, true)?;
        Ok(Begun {
            parent,
            withheld: Withheld::default(),
        })
    }
}

/// Takes a read-only snapshot of `root`.
pub(super) fn snapshot(
    root: impl AsFd,
    place: &OwnedFd,
    name: &str,
) -> Result<sys::SubvolumeInfo, Cause> {
    sys::snap_create(place, name.as_bytes(), root, true)
        .map_err(named("BTRFS_IOC_SNAP_CREATE_V2"))?;
    let made = subvolume::open_root(place, name.as_bytes())?;
    sys::subvolume_info(&made).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))
}
