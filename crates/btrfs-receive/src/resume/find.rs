//! What there is of an earlier receive, and what can be made of it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use btrfs_sendstream::SubvolumeName;
use rustix::fs::{RenameFlags, fsync, renameat_with};
use rustix::io::Errno;
use uuid::Uuid;

use super::error::ResumeError;
use super::keeper::{Keeper, Opened, is_same};
use super::state::{Checkpoint, State};
use super::store::{Store, list};
use crate::destination::btrfs::private::{Private, is_unguessable};
use crate::destination::btrfs::remains::{Remains, remains};
use crate::plan::op::NewSubvolume;
use crate::sys::{self, SubvolumeInfo};

impl Keeper {
    /// Whether `name` is the complete result.
    pub(super) fn is_complete(&self, name: &[u8], new: &NewSubvolume) -> bool {
        match remains(&self.destination, name) {
            Remains::Subvolume(info) => {
                info.read_only && (info.received_uuid, info.stransid) == (new.uuid, new.ctransid)
            }
            _ => false,
        }
    }

    /// A receiver that is killed while it creates a subvolume, or gives it its
    /// name, leaves it under another for that moment. Brings the half-built one
    /// back, deletes what was about to become one.
    pub(super) fn bring_back(&self, name: &[u8], working: Uuid, built_as: &[u8]) {
        for found in list(&self.destination).unwrap_or_default() {
            if !is_unguessable(&found, name) {
                continue;
            }
            match remains(&self.destination, &found) {
                Remains::Subvolume(info) if info.uuid == working => {
                    let (at, flags) = (&self.destination, RenameFlags::NOREPLACE);
                    let _ = renameat_with(at, &found[..], at, built_as, flags);
                }
                Remains::Subvolume(_) | Remains::Nothing => {}
                Remains::Other => {
                    if let Some(private) = Private::left(&self.destination, &found) {
                        private.empty(working, built_as);
                    }
                }
            }
        }
    }

    /// Makes the names in the destination survive a power cut: the receive
    /// that completed a subvolume may have been stopped before it did.
    pub(super) fn keep_name(&self) -> Result<(), ResumeError> {
        let (_, path) = &self.base;
        fsync(&self.destination).map_err(|errno| ResumeError::system("fsync", path, errno))
    }

    /// Removes what was kept of a receive that is complete.
    pub(super) fn tidy(&self, new: &NewSubvolume) -> Result<(), ResumeError> {
        let (base, path) = &self.base;
        match Store::open(base, path, new.name.as_bytes(), false)? {
            Some(store) => match store.read()? {
                Some(state) if !is_same(&state.new, new) => Ok(()),
                Some(state) if state.directory != self.identity => Ok(()),
                _ => store.remove(),
            },
            None => Ok(()),
        }
    }

    /// Writes down that `new` is about to be created; not if its name is
    /// taken.
    pub(super) fn intend(
        &self,
        store: &Store,
        new: &NewSubvolume,
        built_as: SubvolumeName,
    ) -> Result<Option<State>, ResumeError> {
        for name in [&built_as, &new.name] {
            if !matches!(
                remains(&self.destination, name.as_bytes()),
                Remains::Nothing
            ) {
                return Ok(None);
            }
        }
        store.forget_working()?;
        let (hash_data, hint) = (self.options.hash_data, &self.options.hint);
        let state = State::new(new.clone(), built_as, self.identity, hash_data, hint);
        store.write(&state)?;
        Ok(Some(state))
    }

    /// Finds out what can be made of an earlier receive.
    pub(super) fn find(
        &self,
        store: &Store,
        mut state: State,
        new: &NewSubvolume,
        built_as: SubvolumeName,
    ) -> Result<(Option<State>, Opened), ResumeError> {
        if state.directory != self.identity {
            let path = store.path().to_owned();
            return Err(ResumeError::Elsewhere { path });
        }
        if !is_same(&state.new, new) {
            return Err(ResumeError::OtherStream {
                uuid: state.new.uuid,
                ctransid: state.new.ctransid,
            });
        }
        let built = state.built_as.as_bytes();
        self.bring_back(new.name.as_bytes(), working(&state, store), built);
        if self.is_complete(built, new) {
            // Only its name was missing.
            self.rename(&state.built_as, &new.name)?;
            self.keep_name()?;
            return Ok((None, Opened::Complete));
        }
        self.look_at_working(&mut state, &built_as, store)?;
        if state.built_as != built_as {
            self.rename(&state.built_as, &built_as)?;
            state.built_as = built_as;
        }
        state.hint.clone_from(&self.options.hint);
        state.checkpoints.retain(|one| is_intact(store, one));
        let names: Vec<_> = state.checkpoints.iter().map(Checkpoint::name).collect();
        match state.checkpoints.last() {
            Some(newest) => {
                let opened = Opened::Unfinished(newest.offset);
                store.write(&state)?;
                store.sweep(&names)?;
                Ok((Some(state), opened))
            }
            None => self.start_over(store, &state, new),
        }
    }

    /// Makes sure that the half-built subvolume is the one that was left, or
    /// gone.
    fn look_at_working(
        &self,
        state: &mut State,
        wanted: &SubvolumeName,
        store: &Store,
    ) -> Result<(), ResumeError> {
        state.working = working(state, store);
        if self.is_working(state, wanted) && !self.is_working(state, &state.built_as) {
            // It was renamed, which could not be written down.
            state.built_as = wanted.clone();
        }
        let name = state.built_as.as_bytes();
        let what = match remains(&self.destination, name) {
            Remains::Nothing => return Ok(()),
            Remains::Other => "something else has its name",
            Remains::Subvolume(info) if info.uuid == state.working => match () {
                () if info.read_only => "it was made read-only",
                () if self.holds_subvolumes(name) => "there is a subvolume in it",
                () => return Ok(()),
            },
            Remains::Subvolume(info)
                if state.working.is_nil() && self.is_new(name, &info, &state.new) =>
            {
                return self.delete_working(name);
            }
            Remains::Subvolume(_) => "another subvolume has its name",
        };
        let name = state.built_as.to_string();
        Err(ResumeError::Changed { name, what })
    }

    fn is_working(&self, state: &State, name: &SubvolumeName) -> bool {
        matches!(
            remains(&self.destination, name.as_bytes()),
            Remains::Subvolume(info) if !state.working.is_nil() && info.uuid == state.working
        )
    }

    /// Whether it was created just now, by a receiver that was stopped before
    /// it could write down which one it is: nothing has come into it yet.
    fn is_new(&self, name: &[u8], info: &SubvolumeInfo, new: &NewSubvolume) -> bool {
        let untouched = match new.parent {
            None => self.open_name(name).is_ok_and(|fd| is_empty(&fd)),
            Some(_) => !info.parent_uuid.is_nil() && info.ctransid <= info.otransid + 2,
        };
        untouched && !info.read_only && info.received_uuid.is_nil()
    }

    /// What a snapshot does not hold, and no stream takes away.
    fn holds_subvolumes(&self, name: &[u8]) -> bool {
        let found = self
            .open_name(name)
            .map(|fd| sys::subvolume_rootrefs(fd, 1));
        !matches!(found, Ok(Ok(found)) if found.is_empty())
    }

    fn open_name(&self, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        super::open_directory(&self.destination, name)
    }

    /// Deletes what is there of the half-built subvolume.
    fn start_over(
        &self,
        store: &Store,
        state: &State,
        new: &NewSubvolume,
    ) -> Result<(Option<State>, Opened), ResumeError> {
        if self.is_working(state, &state.built_as) {
            self.delete_working(state.built_as.as_bytes())?;
        }
        store.sweep(&[])?;
        let state = self.intend(store, new, state.built_as.clone())?;
        Ok((state, Opened::Fresh))
    }

    /// Durably: a state that knows nothing of it comes next.
    fn delete_working(&self, name: &[u8]) -> Result<(), ResumeError> {
        match sys::snap_destroy(&self.destination, name) {
            Ok(()) | Err(Errno::NOENT) => self.keep_name(),
            Err(errno) => {
                let path = PathBuf::from(name.escape_ascii().to_string());
                Err(ResumeError::system("BTRFS_IOC_SNAP_DESTROY", &path, errno))
            }
        }
    }

    pub(super) fn rename(
        &self,
        from: &SubvolumeName,
        to: &SubvolumeName,
    ) -> Result<(), ResumeError> {
        let (at, flags) = (&self.destination, RenameFlags::NOREPLACE);
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
}

/// The UUID of the half-built subvolume; nil if it was about to be created.
pub(super) fn working(state: &State, store: &Store) -> Uuid {
    store.noted_working().unwrap_or(state.working)
}

fn is_empty(directory: &OwnedFd) -> bool {
    list(directory).is_ok_and(|names| names.is_empty())
}

/// Whether the snapshot is there and as it was taken.
fn is_intact(store: &Store, checkpoint: &Checkpoint) -> bool {
    match remains(store.directory(), checkpoint.name().as_bytes()) {
        Remains::Subvolume(info) => {
            info.read_only && (info.uuid, info.ctransid) == (checkpoint.uuid, checkpoint.ctransid)
        }
        _ => false,
    }
}
