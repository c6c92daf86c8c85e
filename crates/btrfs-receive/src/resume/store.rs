//! The directory that keeps an unfinished receive: its lock, its state file
//! and its checkpoints.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
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
use uuid::Uuid;

use super::error::ResumeError;
use super::state::State;
use super::text::{self, Unreadable};
use crate::destination::btrfs::subvolume::ROOT_INODE;
use crate::sys;

/// The directory of all unfinished receives, in the directory that subvolumes
/// are received in.
pub(crate) const FOLDER: &str = "btrfs-recv-rs.unfinished";

const STATE: &str = "state";
const NEW_STATE: &str = "state.new";
const LOCK: &str = "lock";
const WORKING: &str = "working";

/// Another may look at the lock for a moment, or remove the directory while
/// it is opened.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// State files are read up to here: more than all that may wait takes.
const MAX_STATE: u64 = 256 << 20;

/// The opened and locked directory of one unfinished receive.
#[derive(Debug)]
pub(crate) struct Store {
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
    pub(crate) fn open(
        base: impl AsFd,
        path: &Path,
        name: &[u8],
        create: bool,
    ) -> Result<Option<Self>, ResumeError> {
        // Everything in that directory is the store's to delete.
        if SubvolumeName::parse(name).is_err() {
            return Ok(None);
        }
        let path = path.join(FOLDER).join(OsStr::from_bytes(name));
        let mut held = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            match Self::try_open(&base, &path, name, create) {
                // Removed while it was opened.
                Err(ResumeError::System { error, .. })
                    if create && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(ResumeError::System { error, .. })
                    if error.kind() == std::io::ErrorKind::NotFound =>
                {
                    return Ok(None);
                }
                Err(locked @ ResumeError::Locked { .. }) => held = Some(locked),
                result => return result.map(Some),
            }
        }
        Err(held.unwrap_or_else(|| ResumeError::system("openat", &path, Errno::NOENT)))
    }

    fn try_open(
        base: impl AsFd,
        path: &Path,
        name: &[u8],
        create: bool,
    ) -> Result<Self, ResumeError> {
        let failed = |call| move |errno| ResumeError::system(call, path, errno);
        let base = rustix::io::fcntl_dupfd_cloexec(base, 3).map_err(failed("fcntl"))?;
        if create {
            make_directory(&base, FOLDER.as_bytes()).map_err(failed("mkdirat"))?;
        }
        let folder = open_folder(&base, path.parent().unwrap_or(path))?;
        if create {
            make_directory(&folder, name).map_err(failed("mkdirat"))?;
        }
        let directory = open_directory(&folder, name).map_err(failed("openat"))?;
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // What else may lie there does not block.
        let flags = flags | OFlags::NONBLOCK;
        let mode = Mode::from_raw_mode(0o600);
        let mut lock = File::from(openat(&directory, LOCK, flags, mode).map_err(failed("openat"))?);
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                let pid = pid.trim().parse().ok();
                return Err(ResumeError::Locked { pid });
            }
            Err(errno) => return Err(ResumeError::system("flock", path, errno)),
        }
        // Who removed the directory held the lock of a file that is gone.
        if fstat(&lock).map_err(failed("fstat"))?.st_nlink == 0 {
            return Err(ResumeError::system("openat", path, Errno::NOENT));
        }
        // For people; the lock holds without it.
        let _ = lock.set_len(0);
        let _ = write!(lock, "{}", std::process::id());
        Ok(Self {
            folder,
            base,
            name: name.to_vec(),
            directory,
            path: path.to_owned(),
            _lock: lock.into(),
        })
    }

    /// Where the checkpoints lie.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Its path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The state, if one was written.
    pub(crate) fn read(&self) -> Result<Option<State>, ResumeError> {
        read_state(&self.directory, &self.path)
    }

    /// The state for `name` while another holds the lock, if it can be read:
    /// it is only ever replaced as a whole.
    pub(crate) fn peek(base: impl AsFd, name: &[u8]) -> Option<State> {
        let folder = open_folder(base, Path::new("")).ok()?;
        let directory = open_directory(folder, name).ok()?;
        read_state(&directory, Path::new("")).ok().flatten()
    }

    /// Whether there is more than the lock.
    pub(crate) fn holds_anything(&self) -> Result<bool, ResumeError> {
        let lock = LOCK.as_bytes();
        Ok(self.entries()?.iter().any(|name| name != lock))
    }

    /// Names in the directory.
    fn entries(&self) -> Result<Vec<Vec<u8>>, ResumeError> {
        list(&self.directory).map_err(|errno| ResumeError::system("getdents64", &self.path, errno))
    }

    /// Replaces the state, durably: after a power cut it is there or the one
    /// before it is.
    pub(crate) fn write(&self, state: &State) -> Result<(), ResumeError> {
        let path = self.path.join(NEW_STATE);
        let failed = |call| {
            let path = path.clone();
            move |errno| ResumeError::system(call, &path, errno)
        };
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(&self.directory, NEW_STATE, flags, mode).map_err(failed("openat"))?;
        let mut file = File::from(file);
        file.write_all(text::encode(state).as_bytes())
            .map_err(|error| ResumeError::System {
                call: "write",
                path: path.clone(),
                error,
            })?;
        fsync(&file).map_err(failed("fsync"))?;
        renameat(&self.directory, NEW_STATE, &self.directory, STATE).map_err(failed("renameat"))?;
        fsync(&self.directory).map_err(failed("fsync"))?;
        // So that the directory itself is found again.
        fsync(&self.folder).map_err(failed("fsync"))?;
        fsync(&self.base).map_err(failed("fsync"))
    }

    /// What [`note_working`] wrote last, if it did.
    pub(crate) fn noted_working(&self) -> Option<Uuid> {
        let mut text = String::new();
        let file = open_regular(&self.directory, WORKING).ok()?;
        file.take(64).read_to_string(&mut text).ok()?;
        text.parse().ok()
    }

    /// Deletes a snapshot in the directory; it may be gone already.
    pub(crate) fn delete(&self, name: &str) -> Result<(), ResumeError> {
        match sys::snap_destroy(&self.directory, name.as_bytes()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(ResumeError::system(
                "BTRFS_IOC_SNAP_DESTROY",
                &self.path.join(name),
                errno,
            )),
        }
    }

    /// Deletes everything but the lock, the state and these: what a receive
    /// that was killed has left behind.
    pub(crate) fn sweep(&self, keep: &[String]) -> Result<(), ResumeError> {
        for name in self.entries()? {
            let kept = [LOCK, STATE, WORKING].into_iter();
            let mut kept = kept.chain(keep.iter().map(String::as_str));
            if !kept.any(|kept| kept.as_bytes() == name) {
                self.remove_entry(&name)?;
            }
        }
        Ok(())
    }

    /// Deletes what [`note_working`] wrote.
    pub(crate) fn forget_working(&self) -> Result<(), ResumeError> {
        self.remove_entry(WORKING.as_bytes())
    }

    /// Deletes all of it, and the directory of all unfinished receives, if
    /// this was the last.
    ///
    /// The state goes last but for the lock: as long as there is anything, it
    /// can be seen what that is.
    pub(crate) fn remove(self) -> Result<(), ResumeError> {
        let failed = |call| {
            let path = self.path.clone();
            move |errno| ResumeError::system(call, &path, errno)
        };
        self.sweep(&[])?;
        self.remove_entry(WORKING.as_bytes())?;
        self.remove_entry(STATE.as_bytes())?;
        unlinkat(&self.directory, LOCK, AtFlags::empty()).map_err(failed("unlinkat"))?;
        unlinkat(&self.folder, &self.name[..], AtFlags::REMOVEDIR).map_err(failed("unlinkat"))?;
        match unlinkat(&self.base, FOLDER, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
            Err(errno) => Err(ResumeError::system("unlinkat", &self.path, errno)),
        }
    }

    /// Deletes a file or a snapshot; it may be gone already.
    fn remove_entry(&self, name: &[u8]) -> Result<(), ResumeError> {
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

fn read_state(directory: &OwnedFd, path: &Path) -> Result<Option<State>, ResumeError> {
    let path = path.join(STATE);
    let file = match open_regular(directory, STATE) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO) => return Err(ResumeError::Damaged { path }),
        Err(errno) => return Err(ResumeError::system("openat", &path, errno)),
    };
    let mut bytes = Vec::new();
    if let Err(error) = file.take(MAX_STATE).read_to_end(&mut bytes) {
        return Err(match error.kind() {
            std::io::ErrorKind::IsADirectory => ResumeError::Damaged { path },
            _ => ResumeError::System {
                call: "read",
                path,
                error,
            },
        });
    }
    match text::decode(&bytes) {
        Ok(state) => Ok(Some(state)),
        Err(Unreadable::Newer(format)) => Err(ResumeError::Newer { path, format }),
        Err(Unreadable::Damaged) => Err(ResumeError::Damaged { path }),
    }
}

/// Opens a file of ours for reading. What else may lie there does not block.
fn open_regular(directory: &OwnedFd, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    openat(directory, name, flags, Mode::empty()).map(File::from)
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

/// Which directory it is: its subvolume and its inode, which stay when it is
/// renamed or mounted elsewhere.
pub(super) fn identity(directory: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    let inode = fstat(directory)?.st_ino;
    Ok((sys::containing_subvolume(directory)?, inode))
}

/// Whether both lie on one btrfs.
pub(super) fn is_one_filesystem(a: &OwnedFd, b: &OwnedFd) -> bool {
    match (sys::fs_info(a), sys::fs_info(b)) {
        (Ok(a), Ok(b)) => a.fsid == b.fsid,
        _ => false,
    }
}

/// Writes down, in the directory of an unfinished receive, that the subvolume
/// with this UUID is its own: it was created to be made equal to a checkpoint,
/// which takes a while, and is not in the state before that is done. A nil
/// UUID says that it is about to be created. Counts more than the state.
pub(crate) fn note_working(directory: &OwnedFd, uuid: Uuid) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(directory, WORKING, flags, mode)?;
    rustix::io::write(&file, uuid.to_string().as_bytes())?;
    fsync(&file)?;
    fsync(directory)
}

/// Opens the directory of all unfinished receives, if that is what has its
/// name. `path` is its path, for messages.
///
/// A subvolume of that name was received, and what it holds came with a
/// stream. What somebody else owns or can write to is not to be believed
/// either: what the state names is deleted.
pub(super) fn open_folder(base: impl AsFd, path: &Path) -> Result<OwnedFd, ResumeError> {
    let failed = |call| move |errno| ResumeError::system(call, path, errno);
    let taken = |what| ResumeError::FolderTaken {
        path: path.to_owned(),
        what,
    };
    let folder = match open_directory(&base, FOLDER.as_bytes()) {
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(taken("no directory")),
        result => result.map_err(failed("openat"))?,
    };
    let found = fstat(&folder).map_err(failed("fstat"))?;
    let around = fstat(&base).map_err(failed("fstat"))?;
    if found.st_ino == ROOT_INODE {
        return Err(taken("a subvolume"));
    }
    // Who owns the directory around it can replace everything in any case.
    if ![geteuid().as_raw(), around.st_uid].contains(&found.st_uid) {
        return Err(taken("a directory of another user"));
    }
    if found.st_mode & 0o022 != 0 {
        return Err(taken("a directory that other users can write to"));
    }
    Ok(folder)
}

fn make_directory(at: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    match mkdirat(at, name, Mode::from_raw_mode(0o700)) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

pub(crate) fn open_directory(at: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}
