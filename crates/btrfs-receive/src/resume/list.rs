//! What is unfinished in a directory, and how to get rid of it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use uuid::Uuid;

use super::error::ResumeError;
use super::state::State;
use super::store::{FOLDER, Store, open_directory};
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
/// being received right now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover {
    /// Its name.
    pub name: OsString,
    /// It is a snapshot of another subvolume.
    pub is_snapshot: bool,
}

/// What is unfinished in `directory`: where subvolumes are received, or
/// [`ResumeOptions::directory`](super::ResumeOptions::directory).
///
/// # Errors
/// The directory cannot be read. One that holds nothing unfinished is no
/// error.
pub fn unfinished(directory: impl AsRef<Path>) -> Result<Vec<Unfinished>, ResumeError> {
    let path = directory.as_ref();
    let base = open(path)?;
    let folder = match open_directory(&base, FOLDER.as_bytes()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(ResumeError::system("openat", path, errno)),
    };
    let mut all = Vec::new();
    for name in names(&folder, path)? {
        let progress = match Store::open(&base, path, &name, false) {
            Ok(Some(store)) => store.read(),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        let progress = match progress {
            Ok(Some(state)) => Ok(progress_of(&state)),
            // Stopped before anything was created.
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        let name = OsString::from_vec(name);
        all.push(Unfinished { name, progress });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Removes an unfinished receive: the half-built subvolume, its checkpoints,
/// and its state. `destination` is where subvolumes are received, `kept` where
/// the state is, if that is another directory. `false`: there is none of this
/// name.
///
/// # Errors
/// A receive is at work on it; a later version of the program left it; or
/// something cannot be deleted.
pub fn abandon(
    destination: impl AsRef<Path>,
    kept: Option<&Path>,
    name: &[u8],
) -> Result<bool, ResumeError> {
    let (path, kept) = (
        destination.as_ref(),
        kept.unwrap_or_else(|| destination.as_ref()),
    );
    let (directory, base) = (open(path)?, open(kept)?);
    let Some(store) = Store::open(&base, kept, name, false)? else {
        return Ok(false);
    };
    match store.read() {
        Ok(Some(state)) if !state.working.is_nil() => {
            let working = state.built_as.as_bytes();
            if let Remains::Subvolume(info) = remains(&directory, working)
                && info.uuid == state.working
                && !info.read_only
            {
                sys::snap_destroy(&directory, working)
                    .map_err(|errno| ResumeError::system("BTRFS_IOC_SNAP_DESTROY", path, errno))?;
            }
        }
        // What it belonged to is not known any more.
        Ok(_) | Err(ResumeError::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    store.remove()?;
    Ok(true)
}

/// Subvolumes in `directory` that a receive may have left, but for those that
/// [`unfinished`] knows.
///
/// # Errors
/// The directory cannot be read.
pub fn leftovers(directory: impl AsRef<Path>) -> Result<Vec<Leftover>, ResumeError> {
    let path = directory.as_ref();
    let base = open(path)?;
    let known: Vec<OsString> = unfinished(path)?
        .into_iter()
        .flat_map(|one| match one.progress {
            Ok(progress) => [Some(one.name), Some(progress.built_as)],
            Err(_) => [Some(one.name), None],
        })
        .flatten()
        .collect();
    let mut all = Vec::new();
    for name in names(&base, path)? {
        if let Remains::Subvolume(info) = remains(&base, &name)
            && !info.read_only
            && info.received_uuid.is_nil()
        {
            let name = OsString::from_vec(name);
            if !known.contains(&name) {
                let is_snapshot = !info.parent_uuid.is_nil();
                all.push(Leftover { name, is_snapshot });
            }
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Deletes a subvolume that [`leftovers`] lists. `false`: it does not.
///
/// # Errors
/// It cannot be deleted.
pub fn delete_leftover(directory: impl AsRef<Path>, name: &[u8]) -> Result<bool, ResumeError> {
    let path = directory.as_ref();
    let listed = leftovers(path)?;
    if !listed.iter().any(|one| one.name.as_encoded_bytes() == name) {
        return Ok(false);
    }
    sys::snap_destroy(open(path)?, name)
        .map_err(|errno| ResumeError::system("BTRFS_IOC_SNAP_DESTROY", path, errno))?;
    Ok(true)
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

fn names(directory: &OwnedFd, path: &Path) -> Result<Vec<Vec<u8>>, ResumeError> {
    let failed = |errno| ResumeError::system("getdents64", path, errno);
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
        if !matches!(&name[..], b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

fn open(path: &Path) -> Result<OwnedFd, ResumeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| ResumeError::system("open", path, errno))
}
