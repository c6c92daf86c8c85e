//! Makes a half-built subvolume what it was at a checkpoint.
//!
//! The kernel sends the changes from a snapshot of the one to the other, without
//! file data, and an ordinary receiver applies them. Where file data differs, the
//! range is cloned from the checkpoint.
//!
//! Inodes that are gone are made again under new numbers. A stream does not have
//! their flags, which are therefore taken from the checkpoint; and what is set at
//! the end by inode number gets the new numbers.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use btrfs_sendstream::{
    CloneRange, Command, CommandBuf, Item, Position, Reader, StreamPath, SubvolumeName,
};
use rustix::fs::fstat;
use rustix::pipe::{PipeFlags, pipe_with};
use uuid::Uuid;

use super::error::ResumeError;
use super::journal::Checkpoint;
use super::state::{Active, Place, is_intact};
use super::store::open_directory;
use crate::destination::btrfs::BtrfsDestination;
use crate::destination::btrfs::checkpoint::{DeferredFlags, attributes, snapshot};
use crate::destination::{Begun, Destination, Finished};
use crate::error::{Cause, Failure, ReceiveError};
use crate::plan::op::{NewSubvolume, Step};
use crate::receiver::Receiver;
use crate::report::SourceUsed;
use crate::sys;

/// Snapshot of what is there, to compare with the checkpoint.
const BASE: &str = "rollback-base";

/// No filesystem has larger blocks (`BTRFS_MAX_METADATA_BLOCKSIZE`, which limits
/// those of data, too).
const LARGEST_BLOCK: u64 = 64 << 10;

/// Makes `new`, which is half built or gone, what it was at the newest checkpoint,
/// and takes it under construction. Returns the parent, if it had to be created
/// again.
pub(super) fn roll_back(
    destination: &mut BtrfsDestination,
    place: &Place,
    active: &mut Active,
    new: &NewSubvolume,
    at: Position,
) -> Result<Option<SourceUsed>, Failure> {
    let name = new.name.as_bytes();
    let failed = |cause| Failure::new(at, "resume", name, cause);
    let resume = |error| failure(at, error);
    let Some(checkpoint) = active.journal.checkpoints.last().cloned() else {
        return Err(failed(Cause::NothingToFinish));
    };
    let built_as = active.journal.built_as.clone();
    let mut there = place.is_working(&active.journal, &built_as);
    if there && active.journal.verity {
        place.delete(&built_as).map_err(resume)?;
        there = false;
    }
    let mut parent = None;
    if there {
        destination.reopen(new, active.journal.working, at)?;
    } else {
        active.created(Uuid::nil()).map_err(resume)?;
        parent = destination.begin(new, at)?.parent;
        let created = place.uuid_of(&built_as).unwrap_or_default();
        active.created(created).map_err(resume)?;
    }
    if !is_intact(&active.store, &checkpoint) {
        let path = active.store.path().join(checkpoint.name());
        return Err(resume(ResumeError::CheckpointChanged { path }));
    }
    let store = active.store.directory();
    let mut rollback = Rollback::new(place, store, &built_as, &checkpoint, at).map_err(failed)?;
    rollback.apply(destination)?;
    let flags = rollback.renumbered(checkpoint.flags);
    destination.restore(flags, checkpoint.fallbacks, at)?;
    active.store.delete(BASE.as_bytes()).map_err(resume)?;
    Ok(parent)
}

pub(super) fn failure(at: Position, error: ResumeError) -> Failure {
    Failure::new(at, "resume", b"", Cause::Resume(Box::new(error)))
}

struct Rollback {
    /// The checkpoint: its root, its UUID and its id.
    checkpoint: (OwnedFd, Uuid, u64),
    /// The id of the snapshot of what is there.
    base: u64,
    at: Position,
    /// Inodes that something is set on at the end, by their number in the
    /// checkpoint: their number now and its generation, if it is another.
    renumbered: HashMap<u64, Option<(u64, u32)>>,
    /// The regular file that was created last, by its number in the checkpoint.
    /// Data of a new file follows its creation, before that of any other inode.
    created: u64,
    /// The number of the first regular file that was created. Numbers are given
    /// in ascending order: those below are of inodes that were there before.
    first_created: Option<u64>,
    /// The path of the file that ranges were restored of last, and its size in the
    /// checkpoint.
    open: Option<(StreamPath, u64)>,
}

impl Rollback {
    fn new(
        place: &Place,
        store: &OwnedFd,
        built_as: &SubvolumeName,
        checkpoint: &Checkpoint,
        at: Position,
    ) -> Result<Self, Cause> {
        let openat = |errno| Cause::system("openat", errno);
        let working = open_directory(&place.directory, built_as.as_bytes()).map_err(openat)?;
        let root = open_directory(store, checkpoint.name().as_bytes()).map_err(openat)?;
        let info = sys::subvolume_info(&root)
            .map_err(|errno| Cause::system("BTRFS_IOC_GET_SUBVOL_INFO", errno))?;
        let forbidding = checkpoint.flags.forbidding.iter().map(|it| it.0);
        let compression = checkpoint.flags.compression.iter().map(|it| it.0);
        Ok(Self {
            checkpoint: (root, info.uuid, info.id),
            base: snapshot(working, store, BASE)?.id,
            at,
            renumbered: forbidding
                .chain(compression)
                .map(|inode| (inode, None))
                .collect(),
            created: 0,
            first_created: None,
            open: None,
        })
    }

    /// Has the kernel send what differs, and applies it.
    fn apply(&mut self, destination: &mut BtrfsDestination) -> Result<(), Failure> {
        let at = self.at;
        let failed =
            |call, error: io::Error| Failure::new(at, "resume", b"", Cause::System { call, error });
        let (output, input) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed("pipe2", errno.into()))?;
        let root = self.checkpoint.0.try_clone();
        let root = root.map_err(|error| failed("fcntl", error))?;
        let base = self.base;
        thread::scope(|scope| {
            let sender = thread::Builder::new()
                .name("btrfs-changes".into())
                .spawn_scoped(scope, move || sys::send_changes(root, base, input))
                .map_err(|error| failed("clone", error))?;
            let mut output = File::from(output);
            let applied = self.apply_stream(destination, &output);
            // A sender whose pipe is closed gets a signal.
            let _ = io::copy(&mut output, &mut io::sink());
            match sender.join() {
                Ok(Ok(())) => applied,
                // No stream at all, for this reason.
                Ok(Err(errno)) => Err(failed("BTRFS_IOC_SEND", errno.into())),
                Err(_) => Err(Failure::new(at, "resume", b"", Cause::ThreadPanicked)),
            }
        })
    }

    /// The same flags for the numbers that inodes have now.
    fn renumbered(self, mut flags: DeferredFlags) -> DeferredFlags {
        for (inode, generation, _) in &mut flags.forbidding {
            if let Some(Some(now)) = self.renumbered.get(inode) {
                (*inode, *generation) = *now;
            }
        }
        for (inode, _) in &mut flags.compression {
            if let Some(Some((now, _))) = self.renumbered.get(inode) {
                *inode = *now;
            }
        }
        flags
    }

    fn apply_stream(
        &mut self,
        destination: &mut BtrfsDestination,
        stream: &File,
    ) -> Result<(), Failure> {
        let mut reader = Reader::new(stream);
        let mut receiver = Receiver::new(Unsealed(destination));
        let at = self.at;
        let failed = |error: btrfs_sendstream::Error| Cause::System {
            call: "BTRFS_IOC_SEND",
            error: io::Error::other(error.to_string()),
        };
        loop {
            let item = reader.next_owned();
            match item.map_err(|error| Failure::new(at, "resume", b"", failed(error)))? {
                Some(Item::Command(command)) => self.command(command, &mut receiver)?,
                Some(_) => {}
                None => break,
            }
        }
        let ended = receiver.end(&mut ());
        ended.map(|_| ()).map_err(|error| first(error, at))
    }

    fn command(
        &mut self,
        command: CommandBuf,
        receiver: &mut Receiver<Unsealed<'_>>,
    ) -> Result<(), Failure> {
        let made = match &command {
            // Also what the kernel would clone from elsewhere.
            Command::UpdateExtent { path, offset, len }
            | Command::Clone(CloneRange {
                path, offset, len, ..
            }) => return self.restore_range(path.clone(), *offset, *len, receiver),
            Command::Truncate { path, size } => {
                return self.truncate(path.clone(), *size, receiver);
            }
            Command::Mkfile { path, ino } => Some((path.clone(), *ino, true)),
            Command::Mkdir { path, ino } => Some((path.clone(), *ino, false)),
            _ => None,
        };
        self.open = None;
        self.item(command, receiver)?;
        match made {
            Some((path, inode, is_file)) => self.made(path, inode, is_file, receiver),
            None => Ok(()),
        }
    }

    fn item(
        &self,
        command: CommandBuf,
        receiver: &mut Receiver<Unsealed<'_>>,
    ) -> Result<(), Failure> {
        let flow = receiver.item(Item::Command(command), self.at, &mut ());
        flow.map(|_| ()).map_err(|error| first(error, self.at))
    }

    /// The size of what is at `path` now, its inode and its generation.
    fn look(
        &self,
        path: &StreamPath,
        receiver: &mut Receiver<Unsealed<'_>>,
    ) -> Result<(u64, u64, u32), Failure> {
        let settled = receiver.settle(&mut ());
        settled.map_err(|error| first(error, self.at))?;
        let (stat, generation) = receiver.destination_mut().0.inode(path, self.at)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok((size, stat.st_ino, generation))
    }

    /// An inode of the checkpoint was made again.
    fn made(
        &mut self,
        path: StreamPath,
        inode: u64,
        is_file: bool,
        receiver: &mut Receiver<Unsealed<'_>>,
    ) -> Result<(), Failure> {
        let failed = |cause| Failure::new(self.at, "resume", path.as_bytes(), cause);
        let file = self.open_inode(inode, 0).map_err(failed)?;
        let attributes = attributes(file).map_err(failed)?;
        let waits = self.renumbered.contains_key(&inode);
        if waits || is_file && self.first_created.is_none() {
            let (_, now, generation) = self.look(&path, receiver)?;
            if is_file {
                self.first_created.get_or_insert(now);
            }
            if let Some(entry) = self.renumbered.get_mut(&inode) {
                *entry = Some((now, generation));
            }
        }
        if is_file {
            self.created = inode;
        }
        if attributes == 0 {
            return Ok(());
        }
        // Before there is data, on which NOCOW would be refused.
        self.item(Command::FileAttr { path, attributes }, receiver)
    }

    /// Sets the size of a file.
    fn truncate(
        &mut self,
        path: StreamPath,
        size: u64,
        receiver: &mut Receiver<Unsealed<'_>>,
    ) -> Result<(), Failure> {
        self.open = None;
        let (before, ..) = self.look(&path, receiver)?;
        let truncate = Command::Truncate {
            path: path.clone(),
            size,
        };
        self.item(truncate, receiver)?;
        // What lies behind the old end in its block is zero now. In the checkpoint
        // it may be something else in the same extent, of which the kernel
        // therefore sends nothing.
        let start = before - before % LARGEST_BLOCK;
        if before < size && start < before {
            self.restore_range(path, start, LARGEST_BLOCK, receiver)?;
        }
        Ok(())
    }

    /// Makes a range of a file what it is in the checkpoint.
    fn restore_range(
        &mut self,
        path: StreamPath,
        offset: u64,
        len: u64,
        receiver: &mut Receiver<Unsealed<'_>>,
    ) -> Result<(), Failure> {
        let size = match &self.open {
            Some((open, size)) if *open == path => *size,
            _ => {
                let size = self.open_source(&path, receiver)?;
                self.open = Some((path.clone(), size));
                size
            }
        };
        let len = len.min(size.saturating_sub(offset));
        if offset.saturating_add(len) == size {
            // The end of a file can be cloned only to the end of one.
            let path = path.clone();
            self.item(Command::Truncate { path, size }, receiver)?;
        }
        if len == 0 {
            return Ok(());
        }
        let clone = Command::Clone(CloneRange {
            source_path: path.clone(),
            path,
            offset,
            len,
            source_uuid: self.checkpoint.1,
            source_ctransid: 0,
            source_offset: offset,
        });
        self.item(clone, receiver)
    }

    /// Has the destination clone from what the file at `path` is in the
    /// checkpoint. Returns its size there.
    fn open_source(
        &self,
        path: &StreamPath,
        receiver: &mut Receiver<Unsealed<'_>>,
    ) -> Result<u64, Failure> {
        let (_, now, generation) = self.look(path, receiver)?;
        let (inode, generation) = match self.first_created {
            Some(first) if now >= first => (self.created, 0),
            _ => (now, generation),
        };
        let failed = |cause| Failure::new(self.at, "resume", path.as_bytes(), cause);
        let file = self.open_inode(inode, generation).map_err(failed)?;
        let stat = fstat(&file).map_err(|errno| failed(Cause::system("fstat", errno)))?;
        let destination = &mut receiver.destination_mut().0;
        destination.clone_from(self.checkpoint.1, file, self.at)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Opens a regular file or a directory of the checkpoint. The generation is
    /// needed by kernels before 6.2.
    fn open_inode(&self, inode: u64, generation: u32) -> Result<OwnedFd, Cause> {
        let (root, _, id) = &self.checkpoint;
        sys::open_inode(root, *id, inode, generation)
            .map_err(|errno| Cause::system("open_by_handle_at", errno))
    }
}

/// The first failure of a receive.
fn first(error: ReceiveError, at: Position) -> Failure {
    let text = error.to_string();
    match error.first_failure {
        Some(failure) => Failure::new(at, "resume", &failure.path, *failure.cause),
        None => Failure::new(at, "resume", b"", Cause::Other(text.into())),
    }
}

/// A subvolume that is under construction already, and stays so at the end.
struct Unsealed<'a>(&'a mut BtrfsDestination);

impl Destination for Unsealed<'_> {
    fn begin(&mut self, _: &NewSubvolume, _: Position) -> Result<Begun, Failure> {
        Ok(Begun::default())
    }

    fn apply(&mut self, step: Step) -> Result<(), Failure> {
        self.0.apply(step)
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.0.settle()
    }

    fn finish(&mut self, _: Position) -> Result<Finished, Failure> {
        Ok(Finished::default())
    }

    fn abandon(&mut self) {}
}
