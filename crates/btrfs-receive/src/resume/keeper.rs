//! What the receiver asks: whether to go on with something, when to take a
//! checkpoint, and what to write down.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use btrfs_sendstream::SubvolumeName;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{CapabilitySet, capabilities};
use uuid::Uuid;

use super::error::ResumeError;
use super::hash::StreamHash;
use super::state::{Checkpoint, MAX_TRUSTED, State};
use super::store::{FOLDER, Store, identity, is_one_filesystem};
use super::{ResumeOptions, now};
use crate::destination::btrfs::{BtrfsDestination, Captured};
use crate::plan::op::{NewSubvolume, Op};
use crate::report::LeftOut;

/// Commands between looks at the clock.
const CLOCK: u64 = 64;

/// Keeps the state of the subvolume under construction.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) options: ResumeOptions,
    /// Where subvolumes are created.
    pub(super) destination: OwnedFd,
    /// Subvolume and inode of that.
    pub(super) identity: (u64, u64),
    /// Where the directory of unfinished receives lies, and its path.
    pub(super) base: (OwnedFd, PathBuf),
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    store: Store,
    state: State,
    hash: StreamHash,
    /// Commands of the subvolume so far.
    commands: u64,
    /// While the beginning of the stream is compared: what has to be met.
    ahead: Vec<Boundary>,
    /// Up to here the stream is known to be the same.
    same: u64,
    /// Where the last checkpoint that was met lies.
    met: Option<u64>,
    last: (u64, Instant),
    /// No more checkpoints can be taken.
    closed: bool,
}

/// A place whose hash is known; met from the last to the first.
#[derive(Debug)]
struct Boundary {
    offset: u64,
    digest: super::hash::Digest,
    is_checkpoint: bool,
}

/// What there is of a subvolume that a stream begins.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Nothing: create it.
    Fresh,
    /// It is complete.
    Complete,
    /// The newest checkpoint that can be used holds so many bytes.
    Unfinished(u64),
}

/// Where comparing has come to.
#[derive(Debug)]
pub(crate) enum Reached {
    /// More has to be compared.
    NotYet,
    /// The newest checkpoint: everything up to it is the same.
    Checkpoint(Box<Restoring>),
}

/// What a destination needs to put a subvolume back to a checkpoint.
#[derive(Debug)]
pub(crate) struct Restoring {
    /// The directory of the checkpoints.
    pub(crate) place: OwnedFd,
    /// The checkpoint.
    pub(crate) checkpoint: Checkpoint,
    /// The half-built subvolume, which may be gone: then a new one is made.
    pub(crate) working: Uuid,
    /// Make a new one in any case.
    pub(crate) replace: bool,
}

impl Keeper {
    pub(crate) fn new(
        options: ResumeOptions,
        destination: &BtrfsDestination,
    ) -> Result<Self, ResumeError> {
        let (directory, path) = destination
            .directory()
            .map_err(|errno| ResumeError::system("fcntl", Path::new("."), errno))?;
        if !capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN)) {
            return Err(ResumeError::NotPrivileged);
        }
        let base = match &options.directory {
            Some(path) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let fd = openat(CWD, path, flags, Mode::empty())
                    .map_err(|errno| ResumeError::system("open", path, errno))?;
                if !is_one_filesystem(&fd, &directory) {
                    return Err(ResumeError::OtherFilesystem { path: path.clone() });
                }
                (fd, path.clone())
            }
            None => {
                let fd = rustix::io::fcntl_dupfd_cloexec(&directory, 3)
                    .map_err(|errno| ResumeError::system("fcntl", &path, errno))?;
                (fd, path.clone())
            }
        };
        let identity = identity(&directory)
            .map_err(|errno| ResumeError::system("BTRFS_IOC_INO_LOOKUP", &path, errno))?;
        Ok(Self {
            options,
            destination: directory,
            identity,
            base,
            current: None,
        })
    }

    /// Whether what was received before is passed over in files, unread.
    pub(crate) fn trusts_files(&self) -> bool {
        self.options.trust_files
    }

    /// Looks for what there is of `new`, and locks it. `raw` is the command.
    pub(crate) fn open(
        &mut self,
        new: &NewSubvolume,
        built_as: SubvolumeName,
        raw: &[u8],
    ) -> Result<Opened, ResumeError> {
        self.current = None;
        let name = new.name.as_bytes();
        if name == FOLDER.as_bytes() && self.options.directory.is_none() {
            return Err(ResumeError::Reserved);
        }
        if self.is_complete(name, new) {
            self.bring_back(name, Uuid::nil(), name);
            self.keep_name()?;
            self.tidy(new)?;
            return Ok(Opened::Complete);
        }
        let (base, path) = &self.base;
        let Some(store) = Store::open(base, path, name, true)? else {
            return Ok(Opened::Fresh);
        };
        let (state, opened) = match store.read()? {
            None if built_as != new.name && self.is_complete(built_as.as_bytes(), new) => {
                // Its receive, which kept no state, was stopped at the end.
                self.rename(&built_as, &new.name)?;
                self.keep_name()?;
                (None, Opened::Complete)
            }
            None => {
                store.sweep(&[])?;
                (self.intend(&store, new, built_as)?, Opened::Fresh)
            }
            Some(state) => self.find(&store, state, new, built_as)?,
        };
        if matches!(opened, Opened::Complete) {
            store.remove()?;
            return Ok(opened);
        }
        let Some(state) = state else {
            // The name is taken, as creating the subvolume will find.
            store.remove()?;
            return Ok(opened);
        };
        self.current = Some(Current::new(store, state, raw));
        Ok(opened)
    }

    /// The subvolume exists; `None`: it could not be created.
    pub(crate) fn created(&mut self, working: Option<Uuid>) -> Result<(), ResumeError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        current.last = (current.hash.offset(), Instant::now());
        match working {
            Some(uuid) => {
                current.state.working = uuid;
                current.store.write(&current.state)
            }
            None => match self.current.take() {
                // Nothing was created.
                Some(current) => current.store.remove(),
                None => Ok(()),
            },
        }
    }

    /// Compares one more command.
    pub(crate) fn compare(&mut self, raw: &[u8]) -> Result<Reached, ResumeError> {
        let Some(current) = &mut self.current else {
            return Ok(Reached::NotYet);
        };
        current.take(raw);
        let offset = current.hash.offset();
        let Some(next) = current.ahead.last() else {
            return Ok(Reached::NotYet);
        };
        if offset < next.offset {
            return Ok(Reached::NotYet);
        }
        if offset > next.offset || current.hash.digest() != next.digest {
            let before = next.offset;
            return Err(current.differs(before)?);
        }
        current.same = offset;
        if next.is_checkpoint {
            current.met = Some(offset);
        }
        current.ahead.pop();
        if current.ahead.is_empty() {
            return Ok(Reached::Checkpoint(Box::new(current.restoring()?)));
        }
        Ok(Reached::NotYet)
    }

    /// Takes it that the stream is the same up to the newest checkpoint. Gives
    /// back how many bytes and commands have to be passed over, too; `None`:
    /// it has to be compared after all.
    pub(crate) fn trust(&mut self) -> Result<Option<(Box<Restoring>, u64, u64)>, ResumeError> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        let Some(newest) = current.state.checkpoints.last() else {
            return Ok(None);
        };
        let (offset, commands) = (newest.offset, newest.commands);
        let bytes = offset.checked_sub(current.hash.offset());
        let (Some(bytes), Some(more)) = (bytes, commands.checked_sub(current.commands)) else {
            return Ok(None);
        };
        let trusted = &mut current.state.trusted;
        if trusted.len() >= MAX_TRUSTED {
            return Ok(None);
        }
        if trusted.last() != Some(&offset) {
            trusted.push(offset);
        }
        current.hash.trust(offset, &newest.digest);
        current.commands = commands;
        current.ahead.clear();
        current.met = Some(offset);
        Ok(Some((Box::new(current.restoring()?), bytes, more)))
    }

    /// The subvolume ends before everything was compared.
    pub(crate) fn ended_early(&mut self) -> Result<ResumeError, ResumeError> {
        match &mut self.current {
            Some(current) => {
                let offset = current.hash.offset();
                current.differs(offset)
            }
            None => Ok(ResumeError::Unsupported),
        }
    }

    /// Takes the bytes of a command that was handed on to be applied.
    pub(crate) fn applied(&mut self, raw: &[u8]) {
        if let Some(current) = &mut self.current {
            current.take(raw);
            current.hash.mark(&mut current.state.marks);
        }
    }

    /// Whether it is time for a checkpoint.
    pub(crate) fn is_due(&self) -> bool {
        let Some(current) = self.current.as_ref().filter(|current| !current.closed) else {
            return false;
        };
        let (offset, at) = current.last;
        current.hash.offset() - offset >= self.options.every_bytes
            || current.commands.is_multiple_of(CLOCK) && at.elapsed() >= self.options.every
    }

    /// Where to take a checkpoint and under which name; `None` if nothing was
    /// done since the last, or none can be taken.
    pub(crate) fn next_checkpoint(&self) -> Option<(OwnedFd, String)> {
        let current = self.current.as_ref()?;
        if current.closed || !current.ahead.is_empty() || current.hash.offset() == current.last.0 {
            return None;
        }
        let place = rustix::io::fcntl_dupfd_cloexec(current.store.directory(), 3).ok()?;
        Some((place, format!("checkpoint-{}", current.state.next)))
    }

    /// Writes down a checkpoint; returns its offset.
    pub(crate) fn add(
        &mut self,
        captured: Captured,
        root: Vec<Op>,
        left_out: LeftOut,
    ) -> Result<u64, ResumeError> {
        let Some(current) = &mut self.current else {
            return Ok(0);
        };
        let offset = current.hash.offset();
        let removed = current.state.push(Checkpoint {
            number: current.state.next,
            uuid: captured.uuid,
            ctransid: captured.ctransid,
            offset,
            digest: current.hash.digest(),
            commands: current.commands,
            taken: now(),
            root,
            deferred: captured.deferred,
            fallbacks: captured.fallbacks,
            left_out,
        });
        if let Err(error) = current.store.write(&current.state) {
            // Nobody will find it.
            current.state.checkpoints.pop();
            return Err(error);
        }
        current.last = (offset, Instant::now());
        if let Some(removed) = removed {
            current.store.delete(&removed.name())?;
        }
        Ok(offset)
    }

    /// Verity is about to be enabled on a file: it cannot be taken back by
    /// applying changes, and the kernel does not send it. So no checkpoint is
    /// taken any more, and an earlier one is built anew.
    pub(crate) fn verity(&mut self) -> Result<(), ResumeError> {
        match &mut self.current {
            Some(current) if !current.closed => {
                current.closed = true;
                current.state.verity = true;
                current.store.write(&current.state)
            }
            _ => Ok(()),
        }
    }

    /// The newest checkpoint of what is under construction, in bytes of the
    /// stream; 0 before the first.
    pub(crate) fn kept(&self) -> Option<u64> {
        let current = self.current.as_ref()?;
        let newest = current.state.checkpoints.last();
        Some(newest.map_or(0, |newest| newest.offset))
    }

    /// The subvolume is complete: nothing needs to be kept.
    pub(crate) fn finished(&mut self) -> Result<(), ResumeError> {
        match self.current.take() {
            Some(current) => current.store.remove(),
            None => Ok(()),
        }
    }

    /// Leaves what is kept as it is, for another time.
    pub(crate) fn leave(&mut self) {
        self.current = None;
    }
}

impl Current {
    fn new(store: Store, state: State, raw: &[u8]) -> Self {
        let boundary = |offset, digest, is_checkpoint| Boundary {
            offset,
            digest,
            is_checkpoint,
        };
        let newest = state.checkpoints.last().map_or(0, |last| last.offset);
        let marks = state.marks.iter().filter(|mark| mark.offset < newest);
        let checkpoints = state.checkpoints.iter();
        let mut ahead: Vec<_> = checkpoints
            .map(|one| boundary(one.offset, one.digest, true))
            .chain(marks.map(|mark| boundary(mark.offset, mark.digest, false)))
            .collect();
        // A checkpoint where a mark is takes its place.
        ahead.sort_by_key(|one| (one.offset, !one.is_checkpoint));
        ahead.dedup_by_key(|one| one.offset);
        ahead.reverse();
        let mut current = Self {
            hash: StreamHash::new(&state.trusted, state.hash_data),
            store,
            state,
            commands: 0,
            ahead,
            same: 0,
            met: None,
            last: (0, Instant::now()),
            closed: false,
        };
        current.take(raw);
        current
    }

    fn take(&mut self, raw: &[u8]) {
        self.hash.update(raw);
        self.commands += 1;
    }

    /// Goes back to the newest checkpoint before the first difference.
    fn differs(&mut self, before: u64) -> Result<ResumeError, ResumeError> {
        let removed = self.state.cut(self.met.unwrap_or(0));
        self.store.write(&self.state)?;
        for checkpoint in removed {
            self.store.delete(&checkpoint.name())?;
        }
        Ok(ResumeError::Differs {
            after: self.same,
            before,
            from: self.met,
        })
    }

    /// What the destination needs now that the newest checkpoint was met.
    fn restoring(&mut self) -> Result<Restoring, ResumeError> {
        let newest = self.state.checkpoints.last();
        let (Some(checkpoint), directory) = (newest.cloned(), self.store.directory()) else {
            return Err(ResumeError::Unsupported);
        };
        let place = rustix::io::fcntl_dupfd_cloexec(directory, 3)
            .map_err(|errno| ResumeError::system("fcntl", self.store.path(), errno))?;
        let replace = self.state.verity;
        self.state.verity = false;
        let newest = checkpoint.offset;
        self.state.marks.retain(|mark| mark.offset <= newest);
        self.hash.go_on(&self.state.marks);
        Ok(Restoring {
            place,
            checkpoint,
            working: self.state.working,
            replace,
        })
    }
}

/// Whether both ask for the same subvolume.
pub(super) fn is_same(a: &NewSubvolume, b: &NewSubvolume) -> bool {
    (a.uuid, a.ctransid, a.parent) == (b.uuid, b.ctransid, b.parent)
}
