//! What is unfinished in a directory, and how to get rid of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::error::ResumeError;
use super::journal::Journal;
use super::state::Place;
use super::store::{FOLDER, Seen, entry, list, look, open_folder};
use crate::destination::btrfs::naming::SUFFIX;
use crate::destination::btrfs::root::Entry;
use btrfs_ioctl as sys;

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
    /// Checkpoints that there are.
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
    pub final_name: Option<OsString>,
}

/// What is unfinished in `directory`, where subvolumes are received. `state` is
/// where the state is, if that is another directory.
///
/// # Errors
/// A directory cannot be read. One that holds nothing unfinished is no error.
pub fn unfinished(
    directory: impl AsRef<Path>,
    state: Option<&Path>,
) -> Result<Vec<Unfinished>, ResumeError> {
    let place = Place::open(directory.as_ref(), state)?;
    let mut all = Vec::new();
    for (name, seen) in look_at_all(&place)? {
        let progress = match (seen.lock, seen.journal) {
            (_, Ok(Some(journal))) if !place.is_of(&journal) => continue,
            (Err(locked), _) => Err(locked),
            (Ok(()), Ok(Some(journal))) => Ok(progress_of(&journal)),
            // Stopped before anything was created.
            (Ok(()), Ok(None)) if !seen.holds_anything => continue,
            (Ok(()), Ok(None)) => Err(ResumeError::Damaged { path: seen.path }),
            (Ok(()), Err(error)) => Err(error),
        };
        let name = OsString::from_vec(name);
        all.push(Unfinished { name, progress });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Removes an unfinished receive: the half-built subvolume, its checkpoints,
/// and its state. `directory` is where subvolumes are received, `state` where
/// the state is, if that is another directory. `false`: there is none of this
/// name.
///
/// # Errors
/// A receive is at work on it; it belongs to another directory; a later
/// version of the program left it; or something cannot be deleted.
pub fn abandon(
    directory: impl AsRef<Path>,
    state: Option<&Path>,
    name: &[u8],
) -> Result<bool, ResumeError> {
    let place = Place::open(directory.as_ref(), state)?;
    let store = match place.store(name, false) {
        Ok(Some(store)) => store,
        Ok(None) => return Ok(false),
        Err(error) => return Err(error),
    };
    match store.read() {
        Ok(Some(journal)) if !place.is_of(&journal) => {
            let path = store.path().to_owned();
            return Err(ResumeError::Elsewhere { path });
        }
        Ok(Some(journal)) => {
            let built_as = journal.built_as.as_bytes();
            if let Entry::Subvolume(info) = entry(&place.directory, built_as)
                && info.uuid == journal.working
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

/// Subvolumes in `directory` that a receive may have left, except for those that
/// [`unfinished`] knows.
///
/// # Errors
/// A directory cannot be read.
pub fn leftovers(
    directory: impl AsRef<Path>,
    state: Option<&Path>,
) -> Result<Vec<Leftover>, ResumeError> {
    let path = directory.as_ref();
    let place = Place::open(path, state)?;
    let mut known = Vec::new();
    for (name, seen) in look_at_all(&place)? {
        match seen.journal {
            Ok(Some(journal)) if !place.is_of(&journal) => continue,
            Ok(Some(journal)) => known.push(journal.built_as.as_bytes().to_vec()),
            Ok(None) | Err(_) => {}
        }
        known.push(name);
    }
    let mut all = Vec::new();
    let failed = |errno| ResumeError::system("getdents64", path, errno);
    for name in list(&place.directory).map_err(failed)? {
        let Entry::Subvolume(info) = entry(&place.directory, &name) else {
            continue;
        };
        let final_name = match (info.read_only, info.received_uuid.is_nil()) {
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
                final_name,
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
    state: Option<&Path>,
    name: &[u8],
) -> Result<bool, ResumeError> {
    let path = directory.as_ref();
    let listed = leftovers(path, state)?;
    let mut listed = listed.iter().filter(|one| one.final_name.is_none());
    if !listed.any(|one| one.name.as_encoded_bytes() == name) {
        return Ok(false);
    }
    let place = Place::open(path, state)?;
    sys::snap_destroy(&place.directory, name)
        .map_err(|errno| ResumeError::system("BTRFS_IOC_SNAP_DESTROY", path, errno))?;
    Ok(true)
}

/// What there is of each unfinished receive, by the name of its subvolume.
fn look_at_all(place: &Place) -> Result<Vec<(Vec<u8>, Seen)>, ResumeError> {
    let folder = match open_folder(&place.base, &place.path) {
        Ok(Some(folder)) => folder,
        Ok(None) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let path = place.path.join(FOLDER);
    let names = list(&folder).map_err(|errno| ResumeError::system("getdents64", &path, errno))?;
    let seen = |name: Vec<u8>| look(&folder, &path, &name).map(|seen| (name, seen));
    Ok(names.into_iter().filter_map(seen).collect())
}

fn progress_of(journal: &Journal) -> Progress {
    let newest = journal.checkpoints.last();
    let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    Progress {
        built_as: OsString::from_vec(journal.built_as.as_bytes().to_vec()),
        uuid: journal.stream.0,
        incremental: journal.parent.is_some(),
        started: time(journal.started),
        taken: newest.map(|newest| time(newest.taken)),
        offset: journal.newest(),
        commands: newest.map_or(0, |newest| newest.commands),
        checkpoints: journal.checkpoints.len(),
        hint: journal.hint.clone(),
    }
}
