//! What is unfinished in a directory, and how to get rid of it.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Mode, OFlags, openat};
use uuid::Uuid;

use super::error::ResumeError;
use super::find::working;
use super::state::State;
use super::store::{FOLDER, Store, identity, list, open_folder};
use crate::destination::btrfs::naming::SUFFIX;
use crate::destination::btrfs::remains::{Remains, remains};
use crate::sys;

/// An unfinished receive that was made resumable.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unfinished {
    /// Name of the subvolume.
    pub name: OsString,
    /// What is known of it, or why nothing is: [`ResumeError::Locked`] while
    /// a receive is at work on it.
    pub progress: Result<Progress, ResumeError>,
}

/// How far an unfinished receive has come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The name it is built under.
    pub built_as: OsString,
    /// The UUID that the stream gives the subvolume.
    pub uuid: Uuid,
    /// Whether the stream is an incremental one.
    pub incremental: bool,
    /// When the first of its receives began.
    pub started: SystemTime,
    /// When the newest checkpoint was taken; `None`: there is none, and it
    /// starts over.
    pub taken: Option<SystemTime>,
    /// Bytes of the stream that the newest checkpoint holds, counted from the
    /// command that begins the subvolume.
    pub offset: u64,
    /// Commands that it holds.
    pub commands: u64,
    /// Checkpoints kept.
    pub checkpoints: usize,
    /// [`ResumeOptions::hint`](super::ResumeOptions::hint) of the last receive.
    pub hint: String,
}

/// A subvolume that a receive may have left incomplete: it is writable and has
/// no received UUID. So has every subvolume that people made, and one that is
/// being received right now. Or one that only lacks its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover {
    /// Its name.
    pub name: OsString,
    /// It is a snapshot of another subvolume.
    pub is_snapshot: bool,
    /// It is complete, and an [atomic](crate::BtrfsDestinationBuilder::atomic)
    /// receive was stopped before it could give it this name.
    pub lacks_name: Option<OsString>,
}

/// What is unfinished in `directory`, where subvolumes are received. `kept` is
/// where the state is, if that is another directory.
///
/// # Errors
/// A directory cannot be read. One that holds nothing unfinished is no error.
pub fn unfinished(
    directory: impl AsRef<Path>,
    kept: Option<&Path>,
) -> Result<Vec<Unfinished>, ResumeError> {
    let place = Place::open(directory.as_ref(), kept)?;
    let mut all = Vec::new();
    for name in place.names()? {
        let state = match Store::open(&place.base, &place.kept, &name, false) {
            Ok(Some(store)) => store.read().and_then(|state| match state {
                // Stopped before anything was created.
                None if !store.holds_anything()? => Ok(None),
                None => Err(ResumeError::Damaged {
                    path: store.path().to_owned(),
                }),
                state => Ok(state),
            }),
            Ok(None) => continue,
            // There is no receive at work there.
            Err(ResumeError::System { error, .. })
                if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
            {
                Ok(Store::peek(&place.base, &name))
            }
            Err(error) => Err(error),
        };
        let progress = match state {
            Ok(Some(state)) if !place.is_of(&state) => continue,
            Ok(Some(state)) => Ok(progress_of(&state)),
            Ok(None) => continue,
            Err(ResumeError::Locked { .. })
                if Store::peek(&place.base, &name).is_some_and(|state| !place.is_of(&state)) =>
            {
                continue;
            }
            Err(error) => Err(error),
        };
        let name = OsString::from_vec(name);
        all.push(Unfinished { name, progress });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Removes an unfinished receive: the half-built subvolume, its checkpoints,
/// and its state. `directory` is where subvolumes are received, `kept` where
/// the state is, if that is another directory. `false`: there is none of this
/// name.
///
/// # Errors
/// A receive is at work on it; it belongs to another directory; a later
/// version of the program left it; or something cannot be deleted.
pub fn abandon(
    directory: impl AsRef<Path>,
    kept: Option<&Path>,
    name: &[u8],
) -> Result<bool, ResumeError> {
    let place = Place::open(directory.as_ref(), kept)?;
    let Some(store) = Store::open(&place.base, &place.kept, name, false)? else {
        return Ok(false);
    };
    match store.read() {
        Ok(Some(state)) if !place.is_of(&state) => {
            let path = store.path().to_owned();
            return Err(ResumeError::Elsewhere { path });
        }
        Ok(Some(state)) => {
            let built_as = state.built_as.as_bytes();
            if let Remains::Subvolume(info) = remains(&place.directory, built_as)
                && info.uuid == working(&state, &store)
                && !info.read_only
            {
                let path = directory.as_ref().join(OsStr::from_bytes(built_as));
                sys::snap_destroy(&place.directory, built_as)
                    .map_err(|errno| ResumeError::system("BTRFS_IOC_SNAP_DESTROY", &path, errno))?;
            }
        }
        // What it belonged to is not known any more.
        Ok(None) | Err(ResumeError::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    store.remove()?;
    Ok(true)
}

/// Subvolumes in `directory` that a receive may have left, but for those that
/// [`unfinished`] knows.
///
/// # Errors
/// A directory cannot be read.
pub fn leftovers(
    directory: impl AsRef<Path>,
    kept: Option<&Path>,
) -> Result<Vec<Leftover>, ResumeError> {
    let path = directory.as_ref();
    let place = Place::open(path, kept)?;
    let mut known = Vec::new();
    for name in place.names()? {
        match Store::peek(&place.base, &name) {
            Some(state) if !place.is_of(&state) => continue,
            Some(state) => known.push(state.built_as.as_bytes().to_vec()),
            None => {}
        }
        known.push(name);
    }
    let mut all = Vec::new();
    let failed = |errno| ResumeError::system("getdents64", path, errno);
    for name in list(&place.directory).map_err(failed)? {
        let Remains::Subvolume(info) = remains(&place.directory, &name) else {
            continue;
        };
        let lacks_name = match (info.read_only, info.received_uuid.is_nil()) {
            (false, true) => None,
            (true, false) => match name.strip_suffix(SUFFIX) {
                Some(own) if !own.is_empty() => Some(OsString::from_vec(own.to_vec())),
                _ => continue,
            },
            _ => continue,
        };
        if !known.contains(&name) {
            all.push(Leftover {
                name: OsString::from_vec(name),
                is_snapshot: !info.parent_uuid.is_nil(),
                lacks_name,
            });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Deletes a subvolume that [`leftovers`] lists as incomplete. `false`: it
/// does not.
///
/// # Errors
/// It cannot be deleted.
pub fn delete_leftover(
    directory: impl AsRef<Path>,
    kept: Option<&Path>,
    name: &[u8],
) -> Result<bool, ResumeError> {
    let path = directory.as_ref();
    let listed = leftovers(path, kept)?;
    let mut listed = listed.iter().filter(|one| one.lacks_name.is_none());
    if !listed.any(|one| one.name.as_encoded_bytes() == name) {
        return Ok(false);
    }
    sys::snap_destroy(open(path)?, name)
        .map_err(|errno| ResumeError::system("BTRFS_IOC_SNAP_DESTROY", path, errno))?;
    Ok(true)
}

/// Where subvolumes are received, and where their state is.
struct Place {
    directory: OwnedFd,
    /// `None` where nothing can be unfinished.
    identity: Option<(u64, u64)>,
    base: OwnedFd,
    kept: PathBuf,
}

impl Place {
    fn open(directory: &Path, kept: Option<&Path>) -> Result<Self, ResumeError> {
        let kept = kept.unwrap_or(directory);
        let (fd, base) = (open(directory)?, open(kept)?);
        Ok(Self {
            identity: identity(&fd).ok(),
            directory: fd,
            base,
            kept: kept.to_owned(),
        })
    }

    /// Whether a state belongs to what is received here.
    fn is_of(&self, state: &State) -> bool {
        self.identity == Some(state.directory)
    }

    /// Names of subvolumes of which there is a state.
    fn names(&self) -> Result<Vec<Vec<u8>>, ResumeError> {
        let failed = |errno| ResumeError::system("getdents64", &self.kept, errno);
        match open_folder(&self.base, &self.kept.join(FOLDER)) {
            Ok(folder) => list(&folder).map_err(failed),
            Err(ResumeError::System { error, .. })
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

fn progress_of(state: &State) -> Progress {
    let newest = state.checkpoints.last();
    let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    Progress {
        built_as: OsString::from_vec(state.built_as.as_bytes().to_vec()),
        uuid: state.new.uuid,
        incremental: state.new.parent.is_some(),
        started: time(state.started),
        taken: newest.map(|newest| time(newest.taken)),
        offset: newest.map_or(0, |newest| newest.offset),
        commands: newest.map_or(0, |newest| newest.commands),
        checkpoints: state.checkpoints.len(),
        hint: state.hint.clone(),
    }
}

fn open(path: &Path) -> Result<OwnedFd, ResumeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| ResumeError::system("open", path, errno))
}
