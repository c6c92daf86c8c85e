//! Makes a half-built subvolume what it was at a checkpoint.
//!
//! The kernel sends the changes from a snapshot of the one to the other, without
//! file data, and an ordinary receiver applies them. Where file data differs, the
//! range is cloned from the checkpoint.
//!
//! Inodes that are gone are made again under new numbers. A stream does not have
//! their flags, which are therefore taken from the checkpoint; and what is set at
//! the end by inode number gets the new numbers. Kernels before 6.0 send version
//! 1, which has no flags at all.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;

use btrfs_sendstream::{
    CloneRange, Command, CommandBuf, Item, Position, Reader, StreamPath, SubvolumeName, Version,
};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use uuid::Uuid;

use super::error::ResumeError;
use super::journal::Checkpoint;
use super::state::{Active, Place, is_intact};
use super::store::open_directory;
use crate::destination::btrfs::checkpoint::{DeferredFlags, attributes, snapshot};
use crate::destination::btrfs::{BtrfsDestination, THREAD_STACK};
use crate::destination::{Begun, Destination, Finished};
use crate::error::{Cause, Failure, ReceiveError};
use crate::plan::op::{NewSubvolume, Step};
use crate::receiver::Receiver;
use btrfs_ioctl as sys;
use btrfs_lineage::SourceUsed;

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
) -> Result<Option<SourceUsed>, Cause> {
    let Some(checkpoint) = active.journal.checkpoints.last().cloned() else {
        return Err(Cause::NothingToFinish);
    };
    let built_as = active.journal.built_as.clone();
    let mut is_there = place.is_working(&active.journal, &built_as);
    if is_there && active.journal.verity {
        place.delete(&built_as)?;
        is_there = false;
    }
    let mut parent = None;
    if is_there {
        destination.reopen(new, active.journal.working)?;
    } else {
        active.created(Uuid::nil())?;
        let begun = destination.begin(new, Position::default());
        parent = begun.map_err(|failure| *failure.cause)?.parent;
        active.created(place.uuid_of(&built_as).unwrap_or_default())?;
    }
    if !is_intact(&active.store, &checkpoint) {
        let path = active.store.path().join(checkpoint.name());
        return Err(ResumeError::CheckpointChanged { path }.into());
    }
    let mut rollback = Rollback::new(place, active.store.directory(), &built_as, &checkpoint)?;
    rollback.apply(destination)?;
    let flags = rollback.renumbered(checkpoint.flags);
    destination.restore(flags, checkpoint.fallbacks)?;
    active.store.delete(BASE.as_bytes())?;
    Ok(parent)
}

struct Rollback {
    /// The checkpoint: its root, its UUID and its id.
    checkpoint: (OwnedFd, Uuid, u64),
    /// The id of the snapshot of what is there.
    base: u64,
    /// Inodes that something is set on at the end, by their number in the
    /// checkpoint: their number now and its generation, if it is another.
    renumbered: HashMap<u64, Option<(u64, u32)>>,
    /// The regular file that was created last, by its number in the checkpoint.
    /// Data of a new file follows its creation, before that of any other inode.
    created: u64,
    /// The number of the first regular file that was created. Numbers are given
    /// in ascending order: those below are of inodes that were there before.
    first_created: Option<u64>,
    /// If the stream has no flags.
    without_flags: Option<NoFlags>,
    /// The path of the file that ranges were restored of last, and its size in the
    /// checkpoint.
    open: Option<(StreamPath, u64)>,
}

/// What a stream of version 1 needs besides.
#[derive(Default)]
struct NoFlags {
    /// The number of the first regular file or directory that was created:
    /// those have got their flags.
    first_made: Option<u64>,
}

impl Rollback {
    fn new(
        place: &Place,
        store: &OwnedFd,
        built_as: &SubvolumeName,
        checkpoint: &Checkpoint,
    ) -> Result<Self, Cause> {
        let open = |at: &OwnedFd, name: &[u8]| {
            open_directory(at, name).map_err(|errno| Cause::system("openat", errno))
        };
        let working = open(&place.directory, built_as.as_bytes())?;
        let root = open(store, checkpoint.name().as_bytes())?;
        let info = sys::subvolume_info(&root)
            .map_err(|errno| Cause::system("BTRFS_IOC_GET_SUBVOL_INFO", errno))?;
        let forbidding = checkpoint.flags.forbidding.iter().map(|it| it.0);
        let compression = checkpoint.flags.compression.iter().map(|it| it.0);
        let waiting = forbidding.chain(compression);
        Ok(Self {
            checkpoint: (root, info.uuid, info.id),
            base: snapshot(working, store, BASE)?.id,
            renumbered: waiting.map(|inode| (inode, None)).collect(),
            created: 0,
            first_created: None,
            without_flags: None,
            open: None,
        })
    }

    /// Has the kernel send what differs, and applies it.
    fn apply(&mut self, destination: &mut BtrfsDestination) -> Result<(), Cause> {
        let system = |call, error| Cause::System { call, error };
        let (output, input) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Cause::system("pipe2", errno))?;
        let root = self.checkpoint.0.try_clone();
        let root = root.map_err(|error| system("fcntl", error))?;
        let base = self.base;
        thread::scope(|scope| {
            let sender = thread::Builder::new()
                .name("btrfs-changes".into())
                .stack_size(THREAD_STACK)
                .spawn_scoped(scope, move || {
                    match sys::send_changes(&root, base, &input, 2) {
                        // Nothing was sent.
                        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                            sys::send_changes(&root, base, &input, 1)
                        }
                        result => result,
                    }
                })
                .map_err(|error| system("clone", error))?;
            let mut output = File::from(output);
            let applied = self.apply_stream(destination, &output);
            // A sender whose pipe is closed gets a signal.
            let _ = io::copy(&mut output, &mut io::sink());
            match sender.join() {
                Ok(Ok(())) => applied,
                // No stream at all, for this reason.
                Ok(Err(errno)) => Err(Cause::system("BTRFS_IOC_SEND", errno)),
                Err(_) => Err(Cause::ThreadPanicked),
            }
        })
    }

    fn apply_stream(
        &mut self,
        destination: &mut BtrfsDestination,
        stream: &File,
    ) -> Result<(), Cause> {
        let mut reader = Reader::new(stream);
        let mut receiver = Receiver::new(Unsealed(destination));
        let malformed = |error: btrfs_sendstream::Error| Cause::System {
            call: "BTRFS_IOC_SEND",
            error: io::Error::other(error.to_string()),
        };
        while let Some(item) = reader.next_owned().map_err(malformed)? {
            match item {
                Item::Header(version) if version < Version::V2 => {
                    self.without_flags = Some(NoFlags::default());
                }
                Item::Command(command) => self.command(command, &mut receiver)?,
                _ => {}
            }
        }
        receiver.end(&mut ()).map(|_| ()).map_err(cause)
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

    fn command(&mut self, command: CommandBuf, to: &mut Unsealing<'_>) -> Result<(), Cause> {
        let made = match &command {
            // Also what the kernel would clone from elsewhere.
            Command::UpdateExtent { path, offset, len }
            | Command::Clone(CloneRange {
                path, offset, len, ..
            }) => return self.restore_range(path.clone(), *offset, *len, to),
            Command::Truncate { path, size } => return self.truncate(path.clone(), *size, to),
            Command::Mkfile { path, ino } => Some((path.clone(), *ino, true)),
            Command::Mkdir { path, ino } => Some((path.clone(), *ino, false)),
            // The last command for an inode, whatever changed in it.
            Command::Utimes { path, .. } => {
                self.restore_flags(path, to)?;
                None
            }
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Write { .. }
            | Command::EncodedWrite(_)
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. }
            | Command::EnableVerity(_)
            | Command::End => None,
        };
        self.open = None;
        hand_on(command, to)?;
        match made {
            Some((path, inode, is_file)) => self.made(path, inode, is_file, to),
            None => Ok(()),
        }
    }

    /// An inode of the checkpoint was made again.
    fn made(
        &mut self,
        path: StreamPath,
        inode: u64,
        is_file: bool,
        to: &mut Unsealing<'_>,
    ) -> Result<(), Cause> {
        if is_file {
            self.created = inode;
        }
        let waits = self.renumbered.contains_key(&inode);
        let first = self.without_flags.as_ref();
        let first = first.is_some_and(|it| it.first_made.is_none());
        if waits || first || is_file && self.first_created.is_none() {
            let (_, now, generation) = look(&path, to)?;
            if is_file {
                self.first_created.get_or_insert(now);
            }
            if let Some(without_flags) = &mut self.without_flags {
                without_flags.first_made.get_or_insert(now);
            }
            if let Some(entry) = self.renumbered.get_mut(&inode) {
                *entry = Some((now, generation));
            }
        }
        match attributes(self.open_inode(inode)?)? {
            0 => Ok(()),
            // Before there is data, on which NOCOW would be refused.
            attributes => hand_on(Command::FileAttr { path, attributes }, to),
        }
    }

    /// Where the stream has no flags, gives an inode that was there before those
    /// that it has in the checkpoint.
    fn restore_flags(&mut self, path: &StreamPath, to: &mut Unsealing<'_>) -> Result<(), Cause> {
        let Some(without_flags) = &self.without_flags else {
            return Ok(());
        };
        if path.is_root() {
            // Those of the root wait for the end, with the rest of its attributes.
            return Ok(());
        }
        to.settle(&mut ()).map_err(cause)?;
        let (stat, _) = to.destination_mut().0.inode(path)?;
        let has_flags = matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::RegularFile | FileType::Directory
        );
        let was_made = without_flags.first_made.is_some_and(|it| it <= stat.st_ino);
        if was_made || !has_flags {
            return Ok(());
        }
        let attributes = attributes(self.open_inode(stat.st_ino)?)?;
        let path = path.clone();
        hand_on(Command::FileAttr { path, attributes }, to)
    }

    fn truncate(
        &mut self,
        path: StreamPath,
        size: u64,
        to: &mut Unsealing<'_>,
    ) -> Result<(), Cause> {
        let (before, ..) = look(&path, to)?;
        let truncated = path.clone();
        hand_on(
            Command::Truncate {
                path: truncated,
                size,
            },
            to,
        )?;
        // What lies behind the old end in its block is zero now. In the checkpoint
        // it may be something else in the same extent, of which the kernel
        // therefore sends nothing.
        let start = before - before % LARGEST_BLOCK;
        if before < size && start < before {
            self.restore_range(path, start, LARGEST_BLOCK, to)?;
        }
        Ok(())
    }

    /// Makes a range of a file what it is in the checkpoint.
    fn restore_range(
        &mut self,
        path: StreamPath,
        offset: u64,
        len: u64,
        to: &mut Unsealing<'_>,
    ) -> Result<(), Cause> {
        let size = match &self.open {
            Some((open, size)) if *open == path => *size,
            _ => {
                let size = self.open_source(&path, to)?;
                self.open = Some((path.clone(), size));
                size
            }
        };
        let len = len.min(size.saturating_sub(offset));
        if offset.saturating_add(len) == size {
            // The end of a file can be cloned only to the end of one.
            let path = path.clone();
            hand_on(Command::Truncate { path, size }, to)?;
        }
        if len == 0 {
            return Ok(());
        }
        let clone = CloneRange {
            source_path: path.clone(),
            path,
            offset,
            len,
            source_uuid: self.checkpoint.1,
            source_ctransid: 0,
            source_offset: offset,
        };
        hand_on(Command::Clone(clone), to)
    }

    /// Has the destination clone from what the file at `path` is in the
    /// checkpoint. Returns its size there.
    fn open_source(&self, path: &StreamPath, to: &mut Unsealing<'_>) -> Result<u64, Cause> {
        let (_, now, _) = look(path, to)?;
        let file = self.open_inode(match self.first_created {
            Some(first) if now >= first => self.created,
            _ => now,
        })?;
        let stat = fstat(&file).map_err(|errno| Cause::system("fstat", errno))?;
        to.destination_mut().0.clone_from(self.checkpoint.1, file)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Opens a regular file or a directory of the checkpoint.
    fn open_inode(&self, inode: u64) -> Result<OwnedFd, Cause> {
        let (root, _, id) = &self.checkpoint;
        let opened = match sys::open_inode(root, *id, inode, 0) {
            // Before Linux 6.2, 0 is a generation like any other.
            Err(Errno::STALE) => match sys::stored_generation(root, *id, inode) {
                Ok(Some(generation)) => sys::open_inode(root, *id, inode, generation),
                Ok(None) => Err(Errno::STALE),
                Err(errno) => return Err(Cause::system("BTRFS_IOC_TREE_SEARCH_V2", errno)),
            },
            result => result,
        };
        opened.map_err(|errno| Cause::system("open_by_handle_at", errno))
    }
}

/// Hands a command on to the receiver.
fn hand_on(command: CommandBuf, to: &mut Unsealing<'_>) -> Result<(), Cause> {
    let flow = to.item(Item::Command(command), Position::default(), &mut ());
    flow.map(|_| ()).map_err(cause)
}

/// The size of what is at `path` now, its inode and its generation.
fn look(path: &StreamPath, to: &mut Unsealing<'_>) -> Result<(u64, u64, u32), Cause> {
    to.settle(&mut ()).map_err(cause)?;
    let (stat, generation) = to.destination_mut().0.inode(path)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    Ok((size, stat.st_ino, generation))
}

/// Why a receive ended.
fn cause(error: ReceiveError) -> Cause {
    let text = error.to_string();
    match error.first_failure {
        Some(failure) => *failure.cause,
        None => Cause::Other(text.into()),
    }
}

type Unsealing<'a> = Receiver<Unsealed<'a>>;

/// A subvolume that is under construction already, and stays so at the end.
struct Unsealed<'a>(&'a mut BtrfsDestination);

impl Destination for Unsealed<'_> {
    fn begin(&mut self, _: &NewSubvolume, _: Position) -> Result<Begun, Failure> {
        Ok(Begun::default())
    }

    fn apply(&mut self, step: Step) {
        self.0.apply(step);
    }

    fn next_failure(&mut self) -> Option<Failure> {
        self.0.next_failure()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.0.settle()
    }

    fn finish(&mut self, _: Position) -> Result<Finished, Failure> {
        Ok(Finished::default())
    }

    fn abandon(&mut self) {}
}
