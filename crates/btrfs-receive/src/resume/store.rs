//! The directory of an unfinished receive: its lock, its journal and its
//! checkpoints.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use btrfs_sendstream::SubvolumeName;
use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fstat, fsync, mkdirat, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::error::ResumeError;
use super::journal::{FORMAT, Journal, Unreadable};
use crate::destination::btrfs::root::{self, Entry};
use btrfs_ioctl::{self as sys, ROOT_INODE};

/// The directory of all unfinished receives, in the directory that subvolumes
/// are received in.
pub(super) const FOLDER: &str = btrfs_lineage::STATE_DIRECTORY;

const JOURNAL: &str = "journal";
const NEW_JOURNAL: &str = "journal.new";
const LOCK: &str = "lock";

/// Another may look at the lock for a moment, or remove the directory while
/// it is opened; and a process that another thread starts has the lock until it
/// executes its program.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Journals are read up to here: more than all that may wait takes.
const MAX_JOURNAL: u64 = 256 << 20;

/// The opened and locked directory of one unfinished receive.
#[derive(Debug)]
pub(super) struct Store {
    folder: OwnedFd,
    base: OwnedFd,
    name: Vec<u8>,
    directory: OwnedFd,
    path: PathBuf,
    /// Held until dropped.
    _lock: OwnedFd,
}

impl Store {
    /// Opens the directory for `name`; makes it if there is none and `create`
    /// says so. `path` is that of `base`, for messages.
    pub(super) fn open(
        base: impl AsFd,
        path: &Path,
        name: &[u8],
        create: bool,
    ) -> Result<Option<Self>, ResumeError> {
        // Everything in that directory is the store's to delete.
        if SubvolumeName::parse(name).is_err() {
            return Ok(None);
        }
        let mut locked = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            match Self::try_open(&base, path, name, create) {
                // Removed while it was opened.
                Err(ResumeError::System { error, .. }) if error.kind() == ErrorKind::NotFound => {
                    if !create {
                        return Ok(None);
                    }
                }
                Err(error @ ResumeError::Locked { .. }) => locked = Some(error),
                result => return result.map(Some),
            }
        }
        Err(locked.unwrap_or_else(|| ResumeError::system("openat", path, Errno::NOENT)))
    }

    fn try_open(
        base: impl AsFd,
        path: &Path,
        name: &[u8],
        create: bool,
    ) -> Result<Self, ResumeError> {
        let base = rustix::io::fcntl_dupfd_cloexec(base, 3)
            .map_err(|errno| ResumeError::system("fcntl", path, errno))?;
        if create {
            make_directory(&base, FOLDER.as_bytes())
                .map_err(|errno| ResumeError::system("mkdirat", path, errno))?;
        }
        let folder = open_folder(&base, path)?
            .ok_or_else(|| ResumeError::system("openat", path, Errno::NOENT))?;
        let path = path.join(FOLDER).join(OsStr::from_bytes(name));
        let failed = |call| {
            let path = path.clone();
            move |errno| ResumeError::system(call, &path, errno)
        };
        if create {
            make_directory(&folder, name).map_err(failed("mkdirat"))?;
        }
        let directory = open_directory(&folder, name).map_err(failed("openat"))?;
        let flags = OFlags::CREATE | OFlags::RDWR;
        let mut file = open_file(&directory, LOCK, flags).map_err(failed("openat"))?;
        lock(&mut file, FlockOperation::NonBlockingLockExclusive, &path)?;
        // Who removed the directory held the lock of a file that is gone.
        if fstat(&file).map_err(failed("fstat"))?.st_nlink == 0 {
            return Err(ResumeError::system("openat", &path, Errno::NOENT));
        }
        // For people; the lock holds without it.
        let _ = file.set_len(0);
        let _ = write!(file, "{}", std::process::id());
        Ok(Self {
            folder,
            base,
            name: name.to_vec(),
            directory,
            path,
            _lock: file.into(),
        })
    }

    /// Where the checkpoints lie.
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Its path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The journal, if one was written.
    pub(super) fn read(&self) -> Result<Option<Journal>, ResumeError> {
        read_journal(&self.directory, &self.path)
    }

    /// Replaces the journal, durably: after a power cut this one is there or the
    /// one before it.
    pub(super) fn write(&self, journal: &Journal) -> Result<(), ResumeError> {
        let path = self.path.join(NEW_JOURNAL);
        let failed = |call| {
            let path = path.clone();
            move |errno| ResumeError::system(call, &path, errno)
        };
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY;
        let mut file = open_file(&self.directory, NEW_JOURNAL, flags).map_err(failed("openat"))?;
        journal
            .encode()
            .and_then(|content| file.write_all(&content))
            .map_err(|error| ResumeError::System {
                call: "write",
                path: path.clone(),
                error,
            })?;
        fsync(&file).map_err(failed("fsync"))?;
        renameat(&self.directory, NEW_JOURNAL, &self.directory, JOURNAL)
            .map_err(failed("renameat"))?;
        // The directories that lead to it, too, so that it is found again.
        for directory in [&self.directory, &self.folder, &self.base] {
            fsync(directory).map_err(failed("fsync"))?;
        }
        Ok(())
    }

    /// Deletes all but the lock, the journal and these snapshots: what a receive
    /// that was killed has left.
    pub(super) fn sweep(&self, snapshots: &[String]) -> Result<(), ResumeError> {
        let needed = |name: &[u8]| {
            let ours = [LOCK, JOURNAL].into_iter();
            let mut needed = ours.chain(snapshots.iter().map(String::as_str));
            needed.any(|needed| needed.as_bytes() == name)
        };
        let names = list(&self.directory)
            .map_err(|errno| ResumeError::system("getdents64", &self.path, errno))?;
        for name in names {
            if !needed(&name) {
                self.delete(&name)?;
            }
        }
        Ok(())
    }

    /// Deletes all of it, and the directory of all unfinished receives, if
    /// this was the last.
    ///
    /// The journal goes last, before the lock: as long as there is anything, it
    /// can be seen what that is.
    pub(super) fn remove(self) -> Result<(), ResumeError> {
        let failed = |call| {
            let path = self.path.clone();
            move |errno| ResumeError::system(call, &path, errno)
        };
        self.sweep(&[])?;
        self.delete(JOURNAL.as_bytes())?;
        unlinkat(&self.directory, LOCK, AtFlags::empty()).map_err(failed("unlinkat"))?;
        unlinkat(&self.folder, &self.name[..], AtFlags::REMOVEDIR).map_err(failed("unlinkat"))?;
        match unlinkat(&self.base, FOLDER, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
            Err(errno) => Err(ResumeError::system("unlinkat", &self.path, errno)),
        }
    }

    /// Deletes a file or a snapshot; it may be gone already.
    pub(super) fn delete(&self, name: &[u8]) -> Result<(), ResumeError> {
        let path = || self.path.join(OsStr::from_bytes(name));
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(ResumeError::system("unlinkat", &path(), errno)),
        }
        if unlinkat(&self.directory, name, AtFlags::REMOVEDIR).is_ok() {
            return Ok(());
        }
        sys::snap_destroy(&self.directory, name)
            .map_err(|errno| ResumeError::system("BTRFS_IOC_SNAP_DESTROY", &path(), errno))
    }
}

/// Opens the directory of all unfinished receives; `None` if there is none.
///
/// # Errors
/// Something else has its name. A subvolume of that name was received, and what
/// it holds came with a stream. What somebody else owns or can write to is not
/// to be believed either: what the journal names is deleted.
pub(super) fn open_folder(base: impl AsFd, path: &Path) -> Result<Option<OwnedFd>, ResumeError> {
    let path = path.join(FOLDER);
    let failed = |call| {
        let path = path.clone();
        move |errno| ResumeError::system(call, &path, errno)
    };
    let taken = |what| {
        Err(ResumeError::FolderTaken {
            path: path.clone(),
            what,
        })
    };
    let folder = match open_directory(&base, FOLDER.as_bytes()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => return taken("no directory"),
        Err(errno) => return Err(failed("openat")(errno)),
    };
    let found = fstat(&folder).map_err(failed("fstat"))?;
    let around = fstat(&base).map_err(failed("fstat"))?;
    if found.st_ino == ROOT_INODE {
        return taken("a subvolume");
    }
    // Who owns the directory around it can replace everything in any case.
    if ![geteuid().as_raw(), around.st_uid].contains(&found.st_uid) {
        return taken("a directory of another user");
    }
    if found.st_mode & 0o022 != 0 {
        return taken("a directory that other users can write to");
    }
    Ok(Some(folder))
}

/// Removes the directory of all unfinished receives if it is empty, as a receive
/// leaves it that is killed at its very end.
pub(super) fn remove_empty_folder(base: impl AsFd) {
    if let Ok(Some(_)) = open_folder(&base, Path::new("")) {
        // Another is at work there if it is not empty.
        let _ = unlinkat(&base, FOLDER, AtFlags::REMOVEDIR);
    }
}

/// What is in the directory of an unfinished receive, as far as it can be seen
/// without the lock: the journal is only ever replaced as a whole.
pub(super) struct Seen {
    pub(super) path: PathBuf,
    pub(super) journal: Result<Option<Journal>, ResumeError>,
    /// [`ResumeError::Locked`] while a receive is at work.
    pub(super) lock: Result<(), ResumeError>,
    /// Whether there is more than the lock.
    pub(super) holds_anything: bool,
}

/// Looks into the directory for `name` in `folder`, whose path is `path`. `None` if
/// there is none.
pub(super) fn look(folder: &OwnedFd, path: &Path, name: &[u8]) -> Option<Seen> {
    let path = path.join(OsStr::from_bytes(name));
    let directory = open_directory(folder, name).ok()?;
    let try_lock = || match open_file(&directory, LOCK, OFlags::RDONLY) {
        Ok(mut file) => lock(&mut file, FlockOperation::NonBlockingLockShared, &path),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(ResumeError::system("openat", &path, errno)),
    };
    let mut locked = try_lock();
    for _ in 1..TRIES {
        if matches!(locked, Err(ResumeError::Locked { .. })) {
            std::thread::sleep(PAUSE);
            locked = try_lock();
        }
    }
    let names = list(&directory).unwrap_or_default();
    Some(Seen {
        journal: read_journal(&directory, &path),
        lock: locked,
        holds_anything: names.iter().any(|name| name != LOCK.as_bytes()),
        path,
    })
}

/// Locks an open lock file.
fn lock(file: &mut File, how: FlockOperation, path: &Path) -> Result<(), ResumeError> {
    match flock(&*file, how) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = pid.trim().parse().ok();
            Err(ResumeError::Locked { pid })
        }
        Err(errno) => Err(ResumeError::system("flock", path, errno)),
    }
}

fn read_journal(directory: &OwnedFd, path: &Path) -> Result<Option<Journal>, ResumeError> {
    let file = match open_file(directory, JOURNAL, OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO) => {
            let path = path.join(JOURNAL);
            return Err(ResumeError::Damaged { path });
        }
        Err(errno) => return Err(ResumeError::system("openat", &path.join(JOURNAL), errno)),
    };
    let path = path.join(JOURNAL);
    let mut bytes = Vec::new();
    if let Err(error) = file.take(MAX_JOURNAL).read_to_end(&mut bytes) {
        return Err(match error.kind() {
            ErrorKind::IsADirectory => ResumeError::Damaged { path },
            _ => ResumeError::System {
                call: "read",
                path,
                error,
            },
        });
    }
    match Journal::decode(&bytes) {
        Ok(journal) => Ok(Some(journal)),
        Err(Unreadable::Newer(format)) => Err(ResumeError::Newer {
            path,
            format,
            known: FORMAT,
        }),
        Err(Unreadable::Damaged) => Err(ResumeError::Damaged { path }),
    }
}

/// Opens a file of ours. What else may lie there does not block.
fn open_file(directory: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    openat(directory, name, flags, Mode::from_raw_mode(0o600)).map(File::from)
}

fn make_directory(at: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    match mkdirat(at, name, Mode::from_raw_mode(0o700)) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

pub(super) fn open_directory(at: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Names in a directory.
pub(super) fn list(directory: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(&name[..], b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// What is called `name` in `directory`; what cannot be looked at is something
/// else.
pub(super) fn entry(directory: &OwnedFd, name: &[u8]) -> Entry {
    root::entry(directory, name).unwrap_or(Entry::Other)
}
