//! Makes a half-built subvolume what it was at a checkpoint.
//!
//! The kernel says what differs: a send from a snapshot of the one to the
//! other, without file data. Its commands are applied like those of any
//! stream; where file data differs, the range is cloned from the checkpoint.
//!
//! Inodes that are gone are made again under new numbers. A stream says
//! nothing of their flags, which are therefore taken from the checkpoint; and
//! what waits for the end by inode number gets the new ones.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use btrfs_sendstream::{Command, CommandBuf, Item, Position, Reader, StreamPath};
use rustix::fs::{AtFlags, Stat, fstat, ioctl_getflags, statat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::Engine;
use super::checkpoint::snapshot;
use super::content::OpenFile;
use super::error::named;
use super::flags;
use super::namespace::Tools;
use super::subvolume;
use super::worker::THREAD_STACK;
use crate::error::{Cause, Failure};
use crate::plan::Planner;
use crate::plan::op::{NewSubvolume, Step};
use crate::resume::Restoring;
use crate::sys;

/// Snapshot of what is there, to compare with the checkpoint.
const BASE: &str = "rebuild-base";

/// No filesystem has larger blocks (`BTRFS_MAX_METADATA_BLOCKSIZE`, which limits
/// those of data, too).
const LARGEST_BLOCK: u64 = 64 << 10;

/// A checkpoint that is gone back to.
pub(super) struct Source {
    root: OwnedFd,
    id: u64,
    /// The regular file that was created last: its number now, and in the
    /// checkpoint. Data of a new file follows its creation, before that of
    /// any other inode.
    created: Option<(u64, u64)>,
    /// The file that was opened last, by its number in the checkpoint.
    open: Option<(u64, Arc<OpenFile>)>,
    /// Inodes that wait for something, by their number in the checkpoint:
    /// their number now and its generation, if it is another.
    renumbered: HashMap<u64, Option<(u64, u32)>>,
}

impl Source {
    /// The file of the checkpoint that `file` is, or is to become.
    pub(super) fn of(&mut self, file: &OpenFile) -> Result<Arc<OpenFile>, Cause> {
        let now = fstat(file).map_err(named("fstat"))?.st_ino;
        let (inode, generation) = match self.created {
            Some((created, inode)) if created == now => (inode, 0),
            _ => (now, sys::inode_generation(file).unwrap_or(0)),
        };
        if let Some((open, file)) = &self.open
            && *open == inode
        {
            return Ok(Arc::clone(file));
        }
        let fd = sys::open_inode(&self.root, self.id, inode, generation)
            .map_err(named("open_by_handle_at"))?;
        let file = Arc::new(OpenFile::existing(fd, false));
        self.open = Some((inode, Arc::clone(&file)));
        Ok(file)
    }

    /// The flags of an inode of the checkpoint, as FILEATTR carries them;
    /// `None` for kinds that have none.
    fn attributes(&self, inode: u64) -> Result<Option<u64>, Cause> {
        let fd = match sys::open_inode(&self.root, self.id, inode, 0) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(Cause::system("open_by_handle_at", errno)),
        };
        let flags = ioctl_getflags(&fd).map_err(named("FS_IOC_GETFLAGS"))?;
        let xflags = sys::fs_get_xflags(&fd).map_err(named("FS_IOC_FSGETXATTR"))?;
        Ok(Some(flags::to_attributes(flags.bits(), xflags)))
    }
}

impl Engine {
    /// Makes the subvolume `fd`, which is being built for `new`, equal to a
    /// checkpoint. Leaves what waits for the end in the flags.
    pub(super) fn rebuild(
        &mut self,
        new: &NewSubvolume,
        fd: OwnedFd,
        from: &Restoring,
    ) -> Result<(), Cause> {
        let checkpoint = subvolume::open_root(&from.place, from.checkpoint.name().as_bytes())?;
        let info = sys::subvolume_info(&checkpoint).map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?;
        match sys::snap_destroy(&from.place, BASE.as_bytes()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Cause::system("BTRFS_IOC_SNAP_DESTROY", errno)),
        }
        let base = snapshot(&fd, &from.place, BASE)?.id;
        // Clones within the checkpoint name it as their source.
        let mut named_so = new.clone();
        named_so.uuid = info.uuid;
        named_so.ctransid = info.ctransid;
        self.work_on(named_so, fd, true)?;
        let waits = from.checkpoint.deferred.forbidding.iter().map(|it| it.0);
        let waits = waits.chain(from.checkpoint.deferred.compression.iter().map(|it| it.0));
        let mut source = Source {
            root: checkpoint,
            id: info.id,
            created: None,
            open: None,
            renumbered: waits.map(|inode| (inode, None)).collect(),
        };
        let applied = self.apply_changes(&mut source, base);
        self.current = None;
        let ended = self.content.wait();
        applied?;
        if !ended {
            return Err(Cause::ThreadPanicked);
        }
        if let Err(failure) = self.failures.next() {
            return Err(*failure.cause);
        }
        self.accepted.clear();
        self.flags.import(&from.checkpoint.deferred, |inode| {
            match source.renumbered.get(&inode) {
                Some(Some((now, generation))) => (*now, Some(*generation)),
                _ => (inode, None),
            }
        });
        sys::snap_destroy(&from.place, BASE.as_bytes()).map_err(named("BTRFS_IOC_SNAP_DESTROY"))
    }

    /// Has the kernel send what differs, and applies it.
    fn apply_changes(&mut self, source: &mut Source, base: u64) -> Result<(), Cause> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC).map_err(named("pipe2"))?;
        thread::scope(|scope| {
            let root = source.root.try_clone();
            let sender = thread::Builder::new()
                .name("btrfs-changes".into())
                .stack_size(THREAD_STACK)
                .spawn_scoped(scope, move || match root {
                    Ok(root) => sys::send_changes(root, base, input),
                    Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
                })
                .map_err(|error| Cause::System {
                    call: "clone",
                    error,
                })?;
            let mut output = File::from(output);
            let applied = self.apply_stream(source, &output);
            // A sender whose pipe is closed gets a signal.
            let _ = std::io::copy(&mut output, &mut std::io::sink());
            match sender.join() {
                Ok(Ok(())) => applied,
                // No stream at all, for this reason.
                Ok(Err(errno)) => Err(Cause::system("BTRFS_IOC_SEND", errno)),
                Err(_) => Err(Cause::ThreadPanicked),
            }
        })
    }

    fn apply_stream(&mut self, source: &mut Source, stream: &File) -> Result<(), Cause> {
        let mut reader = Reader::new(stream);
        let mut planner = Planner::default();
        planner.begin(&Default::default(), Position::default());
        let mut steps = Vec::new();
        loop {
            let item = reader.next_owned().map_err(|error| Cause::System {
                call: "BTRFS_IOC_SEND",
                error: std::io::Error::other(error.to_string()),
            })?;
            match item {
                Some(Item::Command(Command::End)) | None => break,
                Some(Item::Command(command)) => {
                    self.change(command, source, &mut planner, &mut steps)?;
                }
                Some(_) => {}
            }
        }
        planner.finish(&mut steps);
        self.apply_all(&mut steps)
    }

    fn change(
        &mut self,
        command: CommandBuf,
        source: &mut Source,
        planner: &mut Planner,
        steps: &mut Vec<Step>,
    ) -> Result<(), Cause> {
        let at = Position::default();
        let made = made_by(&command);
        match command {
            Command::Subvol { .. } | Command::Snapshot { .. } => return Ok(()),
            Command::UpdateExtent { path, offset, len } => {
                planner.flush(steps);
                self.apply_all(steps)?;
                return self.restore_range(&path, offset, len, source);
            }
            Command::Truncate { path, size } => {
                planner.flush(steps);
                self.apply_all(steps)?;
                let before = self.facts_of(&path)?.st_size;
                let command = Command::Truncate {
                    path: path.clone(),
                    size,
                };
                planner.command(command, at, steps).map_err(cause_of)?;
                planner.flush(steps);
                self.apply_all(steps)?;
                // What lies behind the old end in its block is zero now. In the
                // checkpoint it may be something else in the same extent, of
                // which the kernel therefore says nothing.
                let tail = u64::try_from(before).unwrap_or(0);
                let start = tail - tail % LARGEST_BLOCK;
                return match tail < size && start < tail {
                    true => self.restore_range(&path, start, LARGEST_BLOCK, source),
                    false => Ok(()),
                };
            }
            command => planner.command(command, at, steps).map_err(cause_of)?,
        }
        if let Some((path, inode, is_file)) = made {
            // Now, so that it can be looked at.
            planner.flush(steps);
            self.apply_all(steps)?;
            return self.made(&path, inode, is_file, source);
        }
        self.apply_all(steps)
    }

    /// An inode of the checkpoint was made again at `path`.
    fn made(
        &mut self,
        path: &StreamPath,
        inode: u64,
        is_file: bool,
        source: &mut Source,
    ) -> Result<(), Cause> {
        let now = self.facts_of(path)?.st_ino;
        let Some(current) = &self.current else {
            return Err(Cause::NothingToFinish);
        };
        if is_file {
            source.created = Some((now, inode));
        }
        let Some(attributes) = source.attributes(inode)? else {
            return Ok(());
        };
        let fd = current.root.open_for_flags(path)?;
        if let Some(entry) = source.renumbered.get_mut(&inode) {
            *entry = Some((now, sys::inode_generation(&fd).unwrap_or(0)));
        }
        match attributes {
            0 => Ok(()),
            // Before there is data, which NOCOW does not go on.
            attributes => flags::apply(fd, attributes, &self.flags),
        }
    }

    fn facts_of(&self, path: &StreamPath) -> Result<Stat, Cause> {
        let Some(current) = &self.current else {
            return Err(Cause::NothingToFinish);
        };
        let (directory, name) = current.root.parent(path)?;
        statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(named("fstatat"))
    }

    fn restore_range(
        &mut self,
        path: &StreamPath,
        offset: u64,
        len: u64,
        source: &mut Source,
    ) -> Result<(), Cause> {
        let mut tools = Tools {
            share: None,
            content: &mut self.content,
            sources: &mut self.sources,
        };
        match &mut self.current {
            Some(current) => current.restore_range(path, (offset, len), source, &mut tools),
            None => Err(Cause::NothingToFinish),
        }
    }

    fn apply_all(&mut self, steps: &mut Vec<Step>) -> Result<(), Cause> {
        for step in steps.drain(..) {
            self.step(step, None);
        }
        self.failures.next().map_err(cause_of)
    }
}

fn cause_of(failure: Failure) -> Cause {
    *failure.cause
}

/// What a command creates: its path, its inode in the checkpoint, and whether
/// it is a regular file.
fn made_by(command: &CommandBuf) -> Option<(StreamPath, u64, bool)> {
    match command {
        Command::Mkfile { path, ino } => Some((path.clone(), *ino, true)),
        Command::Mkdir { path, ino } => Some((path.clone(), *ino, false)),
        _ => None,
    }
}
