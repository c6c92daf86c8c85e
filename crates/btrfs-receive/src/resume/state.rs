//! What there is of an earlier receive, what can be made of it, and how far the
//! stream is known to be the same.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use btrfs_lineage::PrivateDirectory;
use btrfs_sendstream::SubvolumeName;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, fstat, fsync, openat, renameat_with};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use uuid::Uuid;

use super::error::ResumeError;
use super::hash::{Mark, StreamHash};
use super::journal::{Checkpoint, Journal, RootAttribute, snapshot_name};
use super::options::ResumeOptions;
use super::store::{FOLDER, Store, entry, list, open_directory, open_folder, remove_empty_folder};
use crate::destination::btrfs::checkpoint::Snapshot;
use crate::destination::btrfs::private::{self, is_unguessable};
use crate::destination::btrfs::root::Entry;
use crate::plan::op::NewSubvolume;
use crate::receiver::Paused;
use btrfs_ioctl::{self as sys, SubvolumeInfo};

/// Commands between looks at the clock.
const CLOCK: u64 = 64;

/// Where subvolumes are received, and where the state of unfinished ones is.
#[derive(Debug)]
pub(super) struct Place {
    /// Where subvolumes are created.
    pub(super) directory: OwnedFd,
    /// Subvolume and inode of that, which stay when it is renamed or mounted
    /// elsewhere; `None` where nothing can be unfinished.
    pub(super) identity: Option<(u64, u64)>,
    /// Where the directory of unfinished receives lies.
    pub(super) base: OwnedFd,
    /// Its path, for messages.
    pub(super) path: PathBuf,
}

impl Place {
    /// `state` is where the state is, if that is another directory.
    pub(super) fn open(directory: &Path, state: Option<&Path>) -> Result<Self, ResumeError> {
        let fd = open_path(directory)?;
        Self::of(fd, directory, state)
    }

    /// As [`open`](Self::open), with the directory open already.
    pub(super) fn of(
        directory: OwnedFd,
        path: &Path,
        state: Option<&Path>,
    ) -> Result<Self, ResumeError> {
        let base = match state {
            Some(path) => open_path(path)?,
            None => fcntl_dupfd_cloexec(&directory, 3)
                .map_err(|errno| ResumeError::system("fcntl", path, errno))?,
        };
        let inode = fstat(&directory).map(|stat| stat.st_ino);
        let identity = inode.and_then(|inode| Ok((sys::containing_subvolume(&directory)?, inode)));
        Ok(Self {
            directory,
            identity: identity.ok(),
            base,
            path: state.unwrap_or(path).to_owned(),
        })
    }

    /// Fails early where a resumable receive would fail when it begins.
    pub(super) fn check(&self) -> Result<(), ResumeError> {
        let fsid = |fd| sys::fs_info(fd).map(|info| info.fsid);
        match (fsid(&self.directory), fsid(&self.base)) {
            (Ok(a), Ok(b)) if a == b => {}
            _ => {
                let path = self.path.clone();
                return Err(ResumeError::OtherFilesystem { path });
            }
        }
        if self.identity.is_none() {
            let call = "BTRFS_IOC_INO_LOOKUP";
            return Err(ResumeError::system(call, &self.path, Errno::NOTTY));
        }
        open_folder(&self.base, &self.path).map(|_| ())
    }

    /// Whether a journal belongs to what is received here.
    pub(super) fn is_of(&self, journal: &Journal) -> bool {
        self.identity == Some(journal.directory)
    }

    pub(super) fn store(&self, name: &[u8], create: bool) -> Result<Option<Store>, ResumeError> {
        Store::open(&self.base, &self.path, name, create)
    }

    /// Looks for what there is of `new`, and locks it. `raw` is the command that
    /// begins it.
    pub(super) fn begin(
        &self,
        new: &NewSubvolume,
        built_as: SubvolumeName,
        options: &ResumeOptions,
        raw: &[u8],
    ) -> Result<Begun, ResumeError> {
        let name = new.name.as_bytes();
        if name == FOLDER.as_bytes() && options.directory.is_none() {
            return Err(ResumeError::Reserved);
        }
        if self.is_complete(&new.name, new) {
            // The receive that completed it may have been stopped before this.
            self.bring_back(&new.name, Uuid::nil(), &new.name);
            self.sync_names()?;
            self.tidy(new)?;
            return Ok(Begun::Complete);
        }
        let Some(store) = self.store(name, true)? else {
            return Ok(Begun::NameTaken);
        };
        let journal = match store.read()? {
            Some(journal) if !self.is_of(&journal) => {
                let path = store.path().to_owned();
                return Err(ResumeError::Elsewhere { path });
            }
            Some(journal) if !journal.is_of(new) => {
                let (uuid, ctransid) = journal.stream;
                return Err(ResumeError::OtherStream { uuid, ctransid });
            }
            journal => journal,
        };
        let complete = journal.as_ref().map_or(&built_as, |it| &it.built_as);
        let working = journal.as_ref().map_or(Uuid::nil(), |it| it.working);
        self.bring_back(&new.name, working, complete);
        if self.is_complete(complete, new) {
            // Only its name was missing, which it may have by now.
            if complete != &new.name {
                self.rename(complete, &new.name)?;
            }
            self.sync_names()?;
            store.remove()?;
            return Ok(Begun::Complete);
        }
        if let Some(mut journal) = journal {
            self.look_at_working(&mut journal, &built_as, new)?;
            journal.hint.clone_from(&options.hint);
            journal.checkpoints.retain(|one| is_intact(&store, one));
            let newest = journal.newest();
            journal.cut(newest);
            if newest > 0 {
                let checkpoints = journal.checkpoints.iter().map(Checkpoint::name);
                let names: Vec<_> = checkpoints.collect();
                store.write(&journal)?;
                store.sweep(&names)?;
                return Ok(Begun::Unfinished(Active::new(store, journal, raw)));
            }
            if self.is_working(&journal, &built_as) {
                self.delete(&built_as)?;
            }
        }
        // Nothing, or nothing to go on from.
        store.sweep(&[])?;
        for name in [&built_as, &new.name] {
            if !matches!(entry(&self.directory, name.as_bytes()), Entry::Nothing) {
                // As creating the subvolume will find.
                store.remove()?;
                return Ok(Begun::NameTaken);
            }
        }
        let identity = self.identity.unwrap_or_default();
        let journal = Journal::new(new, built_as, identity, &options.hint, now());
        store.write(&journal)?;
        Ok(Begun::Fresh(Active::new(store, journal, raw)))
    }

    /// A receiver that is killed while it creates a subvolume, or gives it its
    /// name, leaves it under another for that moment. Brings the half-built one
    /// back, deletes what was about to become one.
    fn bring_back(&self, name: &SubvolumeName, working: Uuid, built_as: &SubvolumeName) {
        let at = &self.directory;
        for found in list(at).unwrap_or_default() {
            if !is_unguessable(&found, name.as_bytes()) {
                continue;
            }
            match entry(at, &found) {
                Entry::Subvolume(info) if info.uuid == working => {
                    let flags = RenameFlags::NOREPLACE;
                    let _ = renameat_with(at, &found[..], at, built_as.as_bytes(), flags);
                }
                Entry::Subvolume(_) | Entry::Nothing => {}
                Entry::Other => {
                    if let Some(left) = PrivateDirectory::left(at, found) {
                        private::empty(&left, working, built_as.as_bytes());
                    }
                }
            }
        }
    }

    /// Whether `name` is the complete result.
    fn is_complete(&self, name: &SubvolumeName, new: &NewSubvolume) -> bool {
        match entry(&self.directory, name.as_bytes()) {
            Entry::Subvolume(info) => {
                info.read_only && (info.received_uuid, info.stransid) == (new.uuid, new.ctransid)
            }
            _ => false,
        }
    }

    /// Removes the state of a receive that is complete.
    fn tidy(&self, new: &NewSubvolume) -> Result<(), ResumeError> {
        match self.store(new.name.as_bytes(), false)? {
            Some(store) => match store.read()? {
                Some(journal) if !journal.is_of(new) || !self.is_of(&journal) => Ok(()),
                _ => store.remove(),
            },
            None => {
                remove_empty_folder(&self.base);
                Ok(())
            }
        }
    }

    /// Makes sure that the half-built subvolume is the one that was left, or
    /// gone, and that it has the name that it is to be built under.
    fn look_at_working(
        &self,
        journal: &mut Journal,
        wanted: &SubvolumeName,
        new: &NewSubvolume,
    ) -> Result<(), ResumeError> {
        if self.is_working(journal, wanted) && !self.is_working(journal, &journal.built_as) {
            // It was renamed, and the receive stopped before it could be noted.
            journal.built_as = wanted.clone();
        }
        let built_as = &journal.built_as;
        let name = built_as.as_bytes();
        let changed = match entry(&self.directory, name) {
            Entry::Nothing => None,
            Entry::Other => Some("something else has its name"),
            Entry::Subvolume(info) if info.uuid == journal.working => {
                if info.read_only {
                    Some("it was made read-only")
                } else if self.holds_subvolumes(name) {
                    Some("there is a subvolume in it")
                } else {
                    None
                }
            }
            Entry::Subvolume(info) if journal.working.is_nil() && self.is_new(name, &info, new) => {
                self.delete(built_as)?;
                None
            }
            Entry::Subvolume(_) => Some("another subvolume has its name"),
        };
        if let Some(what) = changed {
            let name = built_as.to_string();
            return Err(ResumeError::Changed { name, what });
        }
        if built_as != wanted {
            self.rename(built_as, wanted)?;
            journal.built_as = wanted.clone();
        }
        Ok(())
    }

    /// Whether `name` is the half-built subvolume.
    pub(super) fn is_working(&self, journal: &Journal, name: &SubvolumeName) -> bool {
        self.uuid_of(name)
            .is_some_and(|uuid| !uuid.is_nil() && uuid == journal.working)
    }

    /// The UUID of the subvolume that is called `name`.
    pub(super) fn uuid_of(&self, name: &SubvolumeName) -> Option<Uuid> {
        match entry(&self.directory, name.as_bytes()) {
            Entry::Subvolume(info) => Some(info.uuid),
            _ => None,
        }
    }

    /// Whether it was created just now, by a receiver that was stopped before
    /// it could write down which one it is: nothing has come into it yet.
    fn is_new(&self, name: &[u8], info: &SubvolumeInfo, new: &NewSubvolume) -> bool {
        let untouched = match new.parent {
            None => open_directory(&self.directory, name)
                .is_ok_and(|fd| list(&fd).is_ok_and(|names| names.is_empty())),
            Some(_) => !info.parent_uuid.is_nil() && info.ctransid <= info.otransid + 2,
        };
        untouched && !info.read_only && info.received_uuid.is_nil()
    }

    /// What a snapshot does not hold, and no stream takes away.
    fn holds_subvolumes(&self, name: &[u8]) -> bool {
        let found =
            open_directory(&self.directory, name).and_then(|fd| sys::subvolume_rootrefs(fd, 1));
        !found.is_ok_and(|found| found.is_empty())
    }

    /// Deletes the half-built subvolume, durably: a journal that knows nothing of
    /// it comes next.
    pub(super) fn delete(&self, name: &SubvolumeName) -> Result<(), ResumeError> {
        match sys::snap_destroy(&self.directory, name.as_bytes()) {
            Ok(()) | Err(Errno::NOENT) => self.sync_names(),
            Err(errno) => {
                let path = PathBuf::from(name.to_string());
                Err(ResumeError::system("BTRFS_IOC_SNAP_DESTROY", &path, errno))
            }
        }
    }

    fn rename(&self, from: &SubvolumeName, to: &SubvolumeName) -> Result<(), ResumeError> {
        let (at, flags) = (&self.directory, RenameFlags::NOREPLACE);
        match renameat_with(at, from.as_bytes(), at, to.as_bytes(), flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::EXIST) => Err(ResumeError::NotRenamed {
                name: from.to_string(),
                to: to.to_string(),
            }),
            Err(errno) => {
                let path = PathBuf::from(to.to_string());
                Err(ResumeError::system("renameat2", &path, errno))
            }
        }
    }

    /// Makes the names of subvolumes survive a power cut.
    fn sync_names(&self) -> Result<(), ResumeError> {
        fsync(&self.directory).map_err(|errno| ResumeError::system("fsync", &self.path, errno))
    }
}

/// What there is of a subvolume that a stream begins.
#[derive(Debug)]
pub(super) enum Begun {
    /// Nothing: it is to be created.
    Fresh(Active),
    /// It is complete.
    Complete,
    /// It is half built.
    Unfinished(Active),
    /// Nothing, and something else has its name: creating it will fail.
    NameTaken,
}

/// The subvolume that is being received.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) store: Store,
    pub(super) journal: Journal,
    hash: StreamHash,
    /// Commands so far.
    commands: u64,
    /// While the beginning of the stream is compared: what has to be met, the
    /// next one last. The first is that of the newest checkpoint.
    ahead: Vec<Mark>,
    /// Up to here the stream is known to be the same.
    same: u64,
    /// Where the last checkpoint or the receive began, and when.
    last: (u64, Instant),
}

impl Active {
    fn new(store: Store, journal: Journal, raw: &[u8]) -> Self {
        let checkpoints = journal.checkpoints.iter().map(|one| &one.mark);
        let mut ahead: Vec<_> = checkpoints.chain(&journal.marks).cloned().collect();
        ahead.sort_by_key(|mark| std::cmp::Reverse(mark.offset));
        let mut active = Self {
            hash: StreamHash::new(&journal.marks),
            store,
            journal,
            commands: 0,
            ahead,
            same: 0,
            last: (0, Instant::now()),
        };
        active.take(raw);
        active
    }

    fn take(&mut self, raw: &[u8]) {
        self.hash.update(raw);
        self.commands += 1;
    }

    /// Whether the beginning of the stream is still compared.
    pub(super) fn is_comparing(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Writes down the subvolume that is being built.
    pub(super) fn created(&mut self, uuid: Uuid) -> Result<(), ResumeError> {
        self.journal.working = uuid;
        self.journal.verity = false;
        self.store.write(&self.journal)
    }

    /// Checkpoints are due from here on.
    pub(super) fn start(&mut self) {
        self.last = (self.hash.offset(), Instant::now());
    }

    /// Compares one more command. Returns whether the newest checkpoint was met:
    /// everything up to it is the same.
    pub(super) fn compare(&mut self, raw: &[u8]) -> Result<bool, ResumeError> {
        self.take(raw);
        let here = self.hash.offset();
        while let Some(next) = self.ahead.last().filter(|next| next.offset <= here) {
            if *next != self.hash.mark() {
                let before = next.offset;
                return Err(self.differs(before)?);
            }
            self.same = here;
            self.ahead.pop();
        }
        Ok(self.ahead.is_empty())
    }

    /// The subvolume ends before everything was compared.
    pub(super) fn ended_early(&mut self) -> Result<ResumeError, ResumeError> {
        self.differs(self.hash.offset())
    }

    /// Goes back to the newest checkpoint before the first difference.
    fn differs(&mut self, before: u64) -> Result<ResumeError, ResumeError> {
        let removed = self.journal.cut(self.same);
        self.store.write(&self.journal)?;
        for checkpoint in removed {
            self.store.delete(checkpoint.name().as_bytes())?;
        }
        let from = self.journal.newest();
        Ok(ResumeError::Differs {
            after: self.same,
            before,
            from: (from > 0).then_some(from),
        })
    }

    /// Takes a command that was handed on to be applied. Returns whether it is
    /// time for a checkpoint.
    pub(super) fn applied(&mut self, raw: &[u8], options: &ResumeOptions) -> bool {
        self.take(raw);
        self.hash.add_due(&mut self.journal.marks);
        let (offset, at) = self.last;
        !self.journal.verity
            && (self.hash.offset() - offset >= options.every_bytes
                || self.commands.is_multiple_of(CLOCK) && at.elapsed() >= options.every)
    }

    /// Where to take a checkpoint and under which name; `None` if nothing was
    /// done since the last, or none can be taken.
    pub(super) fn next_checkpoint(&self) -> Option<(OwnedFd, String)> {
        if self.journal.verity || self.is_comparing() || self.hash.offset() == self.last.0 {
            return None;
        }
        let place = fcntl_dupfd_cloexec(self.store.directory(), 3).ok()?;
        Some((place, snapshot_name(self.journal.next)))
    }

    /// Writes down a checkpoint; returns where it ends.
    pub(super) fn add(&mut self, snapshot: Snapshot, paused: Paused) -> Result<u64, ResumeError> {
        let mark = self.hash.mark();
        let offset = mark.offset;
        let removed = self.journal.push(Checkpoint {
            number: self.journal.next,
            uuid: snapshot.uuid,
            ctransid: snapshot.ctransid,
            mark,
            commands: self.commands,
            taken: now(),
            root: paused
                .root
                .into_iter()
                .filter_map(RootAttribute::of)
                .collect(),
            flags: snapshot.flags,
            fallbacks: snapshot.fallbacks,
            excluded: paused.excluded,
        });
        if let Err(error) = self.store.write(&self.journal) {
            // Nobody will find it.
            self.journal.checkpoints.pop();
            return Err(error);
        }
        self.start();
        if let Some(removed) = removed {
            self.store.delete(removed.name().as_bytes())?;
        }
        Ok(offset)
    }

    /// Verity is about to be enabled on a file.
    pub(super) fn verity(&mut self) -> Result<(), ResumeError> {
        if self.journal.verity {
            return Ok(());
        }
        self.journal.verity = true;
        self.store.write(&self.journal)
    }
}

/// Whether the snapshot is there and as it was taken.
pub(super) fn is_intact(store: &Store, checkpoint: &Checkpoint) -> bool {
    match entry(store.directory(), checkpoint.name().as_bytes()) {
        Entry::Subvolume(info) => {
            info.read_only && (info.uuid, info.ctransid) == (checkpoint.uuid, checkpoint.ctransid)
        }
        _ => false,
    }
}

fn open_path(path: &Path) -> Result<OwnedFd, ResumeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| ResumeError::system("open", path, errno))
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
