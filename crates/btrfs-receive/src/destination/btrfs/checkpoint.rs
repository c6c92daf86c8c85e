//! What a receive that is resumed asks of its destination: a checkpoint of the
//! subvolume under construction, and to go on with one that is half built.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use btrfs_sendstream::StreamPath;
use rustix::fs::{Stat, fstat, ioctl_getflags, syncfs};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use uuid::Uuid;

use super::engine::Engine;
use super::{BtrfsDestination, root, subvolume, unfinished};
use crate::destination::tree::flags;
pub(crate) use crate::destination::tree::flags::DeferredFlags;
use crate::destination::tree::flags::SharedFlags;
use crate::error::{Cause, named};
use crate::plan::op::NewSubvolume;
use crate::report::Fallbacks;
use btrfs_ioctl as sys;

/// A read-only snapshot of the subvolume under construction, and what the
/// destination sets only at its end.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) uuid: Uuid,
    pub(crate) ctransid: u64,
    pub(crate) flags: DeferredFlags,
    pub(crate) fallbacks: Fallbacks,
}

impl BtrfsDestination {
    /// The directory that subvolumes are created in, and its path.
    pub(crate) fn directory(&self) -> rustix::io::Result<(OwnedFd, PathBuf)> {
        let (fd, path) = &self.directory;
        Ok((fcntl_dupfd_cloexec(fd, 3)?, path.clone()))
    }

    /// Brings everything so far to the disk and takes a read-only snapshot of
    /// it, `name` in `place`. Replaces a snapshot of that name.
    pub(crate) fn checkpoint(&mut self, place: OwnedFd, name: String) -> Result<Snapshot, Cause> {
        self.pipeline.call(move |engine| {
            engine.lanes.settle()?;
            let Some(construction) = &engine.construction else {
                return Err(Cause::NothingToFinish);
            };
            let namespace = &construction.namespace;
            let root = namespace.root.fd();
            // As for the end of a subvolume: what follows reports no lost data.
            syncfs(root).map_err(named("syncfs"))?;
            construction.accepted.verify()?;
            let info = snapshot(root, &place, &name)?;
            Ok(Snapshot {
                uuid: info.uuid,
                ctransid: info.ctransid,
                flags: namespace.flags.export(),
                fallbacks: engine.lanes.fallbacks(),
            })
        })
    }

    /// Takes the half-built subvolume of `new`, whose UUID is `uuid`, under
    /// construction again. What new inodes would inherit from its root is
    /// taken off it.
    pub(crate) fn reopen(&mut self, new: &NewSubvolume, uuid: Uuid) -> Result<(), Cause> {
        let new = new.clone();
        self.pipeline.call(move |engine| engine.reopen(new, uuid))?;
        // Its inodes are on disk, as those of a parent are.
        self.prefetcher.begin(true);
        Ok(())
    }

    /// An inode of the subvolume under construction, and its generation if it
    /// has one that can be read. The caller has settled.
    pub(crate) fn inode(&mut self, path: &StreamPath) -> Result<(Stat, u32), Cause> {
        let path = path.clone();
        self.pipeline.call(move |engine| {
            let Some(construction) = &engine.construction else {
                return Err(Cause::NothingToFinish);
            };
            let root = &construction.namespace.root;
            let stat = *root.inode(&path)?.stat();
            let file = root.open_for_flags(&path).ok();
            let generation = file.and_then(|file| sys::inode_generation(file).ok());
            Ok((stat, generation.unwrap_or(0)))
        })
    }

    /// From now on clones from the subvolume with this UUID are clones from
    /// `file`, whatever path they name.
    pub(crate) fn clone_from(&mut self, uuid: Uuid, file: OwnedFd) -> Result<(), Cause> {
        self.pipeline.call(move |engine| {
            let Some(construction) = &mut engine.construction else {
                return Err(Cause::NothingToFinish);
            };
            construction.sources.set_file(uuid, file);
            Ok(())
        })
    }

    /// Sets what a checkpoint was returned with, once the subvolume under
    /// construction is equal to it.
    pub(crate) fn restore(
        &mut self,
        deferred: DeferredFlags,
        fallbacks: Fallbacks,
    ) -> Result<(), Cause> {
        self.pipeline.call(move |engine| {
            engine.lanes.settle()?;
            let Some(construction) = &mut engine.construction else {
                return Err(Cause::NothingToFinish);
            };
            // What differs in the root is who received it: it is closed in
            // both.
            construction.opening.clear();
            construction.sources.close();
            construction.namespace.flags.import(deferred);
            engine.lanes.set_fallbacks(fallbacks);
            Ok(())
        })
    }
}

impl Engine {
    fn reopen(&mut self, new: NewSubvolume, uuid: Uuid) -> Result<(), Cause> {
        self.abandon();
        self.naming.check(&self.destination, &new)?;
        let name = self.naming.while_built(&new);
        let root = root::open_root(&self.destination, name.as_bytes())?;
        let is_root = fstat(&root).map_err(named("fstat"))?.st_ino == sys::ROOT_INODE;
        let info = sys::subvolume_info(&root).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?;
        if !is_root || info.uuid != uuid {
            return Err(root::taken(&self.destination, name.as_bytes(), &new));
        }
        if !info.received_uuid.is_nil() {
            // The power went between the mark and the flag.
            sys::set_received_subvol(&root, Uuid::nil(), 0)
                .map_err(named("BTRFS_IOC_SET_RECEIVED_SUBVOL"))?;
        }
        // So that nothing made again inherits anything from the root, and
        // nobody else enters it. What of this a checkpoint has is put back with
        // the rest of it, and so it need not be noted.
        subvolume::defer_attributes(&root, &SharedFlags::default())?;
        unfinished::unmark(&root)?;
        let looking = self.progress.look_in(&root, &root);
        self.work_on(new, root, SharedFlags::default(), true, looking)
    }
}

/// Takes a read-only snapshot of `root`, in place of one of that name.
pub(crate) fn snapshot(
    root: impl AsFd,
    place: &OwnedFd,
    name: &str,
) -> Result<sys::SubvolumeInfo, Cause> {
    match sys::snap_destroy(place, name.as_bytes()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(Cause::system("BTRFS_IOC_SNAP_DESTROY", errno)),
    }
    sys::snap_create(place, name.as_bytes(), root, true)
        .map_err(named("BTRFS_IOC_SNAP_CREATE_V2"))?;
    let made = root::open_root(place, name.as_bytes())?;
    sys::subvolume_info(&made).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))
}

/// The flags of an inode, as FILEATTR carries them.
pub(crate) fn attributes(inode: impl AsFd) -> Result<u64, Cause> {
    let flags = ioctl_getflags(&inode).map_err(named("FS_IOC_GETFLAGS"))?;
    let xflags = sys::fs_get_xflags(&inode).map_err(named("FS_IOC_FSGETXATTR"))?;
    Ok(flags::to_attributes(flags.bits(), xflags))
}
