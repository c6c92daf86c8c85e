//! Makes a received subvolume usable: a writable snapshot of it, under a name that
//! is free or that another subvolume has.
//!
//! A received subvolume is read-only, and stays so: made writable in place, it would
//! be a parent with the wrong content. A writable snapshot shares all data, and
//! the kernel gives it no received UUID.
//!
//! # How a subvolume is replaced
//! 1. The snapshot is taken, beside the subvolume that it is to replace, under a
//!    name that cannot be guessed. The kernel commits it to disk.
//! 2. Both exchange their names in one rename, and the directory is synced.
//! 3. The old one gets the name that it is to have, or is deleted.
//!
//! So at every moment, also after a power cut, the name is that of the old subvolume
//! or of the complete new one, and the old one exists until the new one has its
//! name on disk. What an interruption leaves has the name with `.restoring-` and
//! 16 digits: the new one before step 2, the old one after it.
//! [`WritableSnapshot::leftovers`] lists these; nothing deletes them.
//!
//! Who has files of the old subvolume open, or has mounted it, goes on using the old
//! one. The kernel deletes a subvolume that is mounted, after which its mount is
//! empty; so what is mounted in the mount namespace of this process is not deleted.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use btrfs_ioctl::{self as sys, SubvolumeInfo, XFlags};
use btrfs_sendstream::{SourceId, SubvolumeName};
use rustix::fs::{AtFlags, RenameFlags, StatxFlags, fsync, renameat_with, statat, statx};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use tracing::info;
use uuid::Uuid;

use super::PrivateDirectory;
use super::entry::{self, EntryError};

/// What is between the name and the digits.
const INFIX: &[u8] = b".restoring-";

/// What is mounted where.
const MOUNTS: &str = "/proc/self/mountinfo";

/// What to do with a subvolume that has the name of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// Nothing: the name has to be free.
    Refuse,
    /// Replace it, and give it this name, which has to be free.
    Rename(SubvolumeName),
    /// Replace it, and delete it. Only a writable subvolume, which is not mounted, is
    /// deleted.
    Delete,
}

/// A writable snapshot that is to be taken of a received subvolume.
#[derive(Debug)]
pub struct WritableSnapshot {
    directory: OwnedFd,
    name: SubvolumeName,
    existing: Existing,
    /// `/proc/self/mountinfo`, if something may be deleted.
    mounts: Option<File>,
}

/// A writable snapshot that was taken. It is on disk, and has its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// Its id.
    pub subvolume_id: u64,
    /// Its UUID.
    pub uuid: Uuid,
    /// The subvolume that had the name before, if there was one.
    pub replaced: Option<Replaced>,
}

/// A subvolume that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replaced {
    /// Its id.
    pub subvolume_id: u64,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its name now; `None` if it was deleted.
    pub name: Option<SubvolumeName>,
}

/// Why there is no writable snapshot, or why the one it replaces is not what it was
/// to be.
///
/// Nothing is changed then, except with [`Unverified`](Self::Unverified) and
/// [`OldLeft`](Self::OldLeft).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WritableError {
    /// Something has the name that the snapshot is to have, or the name that the
    /// subvolume it replaces is to have.
    #[error("{name} exists")]
    Exists {
        /// The name.
        name: SubvolumeName,
    },
    /// What has the name is not a subvolume, but a file or a plain directory.
    #[error("{name} is not a subvolume")]
    NotASubvolume {
        /// The name.
        name: SubvolumeName,
    },
    /// Something is mounted where the name is.
    #[error("{name} is a mount point")]
    MountPoint {
        /// The name.
        name: SubvolumeName,
    },
    /// Other subvolumes are in the one to be replaced, and would leave with it.
    #[error("other subvolumes are in {name}")]
    HoldsSubvolumes {
        /// The name.
        name: SubvolumeName,
    },
    /// The subvolume to be replaced is the received one itself.
    #[error("{name} is the received subvolume itself")]
    Itself {
        /// The name.
        name: SubvolumeName,
    },
    /// The subvolume to be deleted is read-only, as backups are.
    #[error("{name} is read-only, and is not deleted")]
    ReadOnly {
        /// The name.
        name: SubvolumeName,
    },
    /// The subvolume to be deleted is mounted.
    #[error("{name} is mounted, and is not deleted")]
    Mounted {
        /// The name.
        name: SubvolumeName,
    },
    /// No complete received subvolume has the name of the one to take a snapshot of.
    #[error("{name} is not the subvolume that was received")]
    NotReceived {
        /// The name.
        name: SubvolumeName,
    },
    /// Another process moved or replaced one of the subvolumes.
    #[error("another process moved or replaced a subvolume")]
    Moved,
    /// A system call failed.
    #[error("{call}: {error}")]
    System {
        /// The call, by the name of its manual page, or the ioctl.
        call: &'static str,
        /// The error of the call.
        #[source]
        error: io::Error,
    },
    /// A snapshot was taken, and cannot be looked at. It has not replaced anything.
    #[error("a snapshot was taken as {}, but {call}: {error}", called.escape_ascii())]
    Unverified {
        /// What the snapshot is called.
        called: Vec<u8>,
        /// The call that failed.
        call: &'static str,
        /// The error of the call.
        #[source]
        error: io::Error,
    },
    /// The snapshot has its name. What it replaced was not deleted or did not get its
    /// name, and exists under another.
    #[error(
        "the replaced subvolume is called {} now: {call}: {error}", called.escape_ascii()
    )]
    OldLeft {
        /// The snapshot.
        taken: Box<Taken>,
        /// What the replaced subvolume is called.
        called: Vec<u8>,
        /// The call that failed.
        call: &'static str,
        /// The error of the call.
        #[source]
        error: io::Error,
    },
}

fn of(call: &'static str) -> impl Fn(Errno) -> WritableError {
    move |errno| WritableError::System {
        call,
        error: errno.into(),
    }
}

fn cannot_look(error: io::Error) -> WritableError {
    let call = MOUNTS;
    WritableError::System { call, error }
}

impl WritableSnapshot {
    /// A snapshot `name` in a directory that is open for reading. A sandbox can be
    /// entered afterwards.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated; to delete what it replaces,
    /// `/proc/self/mountinfo` cannot be opened.
    pub fn new(
        directory: impl AsFd,
        name: SubvolumeName,
        existing: Existing,
    ) -> Result<Self, WritableError> {
        let directory = fcntl_dupfd_cloexec(directory, 3).map_err(of("fcntl"))?;
        let mounts = match existing {
            Existing::Delete => Some(File::open(MOUNTS).map_err(cannot_look)?),
            Existing::Refuse | Existing::Rename(_) => None,
        };
        Ok(Self {
            directory,
            name,
            existing,
            mounts,
        })
    }

    /// Returns the name of the snapshot.
    pub fn name(&self) -> &SubvolumeName {
        &self.name
    }

    /// Looks for what would prevent the snapshot, before there is anything to
    /// take it of: a name that is taken, a subvolume that cannot be replaced.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn check(&self) -> Result<(), WritableError> {
        self.old().map(drop)
    }

    /// Takes a writable snapshot of the subvolume `of` in the same directory, which
    /// must be read-only and marked as received from `received`.
    ///
    /// Needs `CAP_FOWNER` if the root of the subvolume is somebody else's; to delete
    /// what it replaces, `CAP_SYS_ADMIN` or the mount option
    /// `user_subvol_rm_allowed`, and Linux 5.7.
    ///
    /// # Errors
    /// See [`WritableError`].
    pub fn take(&self, of: &SubvolumeName, received: SourceId) -> Result<Taken, WritableError> {
        let (root, source) = match entry::open(&self.directory, of.as_bytes()) {
            Err(EntryError::NotASubvolume | EntryError::System(_, Errno::NOENT)) => {
                return Err(WritableError::NotReceived { name: of.clone() });
            }
            found => found.map_err(|error| self.failed(error))?,
        };
        if !source.read_only
            || (source.received_uuid, source.stransid) != (received.uuid, received.ctransid)
        {
            return Err(WritableError::NotReceived { name: of.clone() });
        }
        let old = self.old()?;
        if old.as_ref().is_some_and(|old| old.id == source.id) {
            let name = self.name.clone();
            return Err(WritableError::Itself { name });
        }
        let taken = match old {
            None => self.create(&root, &source)?,
            Some(old) => self.replace(&root, &source, &old)?,
        };
        let id = taken.subvolume_id;
        info!(id, name = %self.name, "writable snapshot of {of}");
        Ok(taken)
    }

    /// The names in the directory that interrupted calls of [`take`](Self::take) left,
    /// of snapshots that did not get this name or of subvolumes that had it.
    pub fn leftovers(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<_> = entry::unguessable(&self.directory, &self.prefix())
            .into_iter()
            .collect();
        names.sort_unstable();
        names
    }

    /// The subvolume to be replaced, if there is one.
    ///
    /// # Errors
    /// It cannot be replaced.
    fn old(&self) -> Result<Option<SubvolumeInfo>, WritableError> {
        if !self.exists(&self.name)? {
            return Ok(None);
        }
        let name = || self.name.clone();
        if self.existing == Existing::Refuse {
            return Err(WritableError::Exists { name: name() });
        }
        let found = entry::open(&self.directory, self.name.as_bytes());
        let (root, old) = found.map_err(|error| self.failed(error))?;
        entry::check_place(&self.directory, &old).map_err(|error| self.failed(error))?;
        if entry::holds_subvolumes(&root).map_err(|error| self.failed(error))? {
            return Err(WritableError::HoldsSubvolumes { name: name() });
        }
        match &self.existing {
            Existing::Rename(to) if self.exists(to)? => {
                return Err(WritableError::Exists { name: to.clone() });
            }
            Existing::Delete if old.read_only => {
                return Err(WritableError::ReadOnly { name: name() });
            }
            Existing::Delete if self.is_mounted(old.id)? => {
                return Err(WritableError::Mounted { name: name() });
            }
            Existing::Refuse | Existing::Rename(_) | Existing::Delete => {}
        }
        Ok(Some(old))
    }

    /// Whether the subvolume `id`, or a directory in it, is mounted somewhere in this
    /// mount namespace.
    fn is_mounted(&self, id: u64) -> Result<bool, WritableError> {
        let Some(file) = &self.mounts else {
            return Ok(false);
        };
        let mut table = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let read = file.read_at(&mut piece, table.len() as u64);
            match read.map_err(cannot_look)? {
                0 => break,
                len => table.extend_from_slice(piece.get(..len).unwrap_or_default()),
            }
        }
        let mask = StatxFlags::MNT_ID;
        let here = statx(&self.directory, c"", AtFlags::EMPTY_PATH, mask).map_err(of("statx"))?;
        is_mounted(&table, here.stx_mnt_id, id).ok_or_else(|| cannot_look(Errno::NOENT.into()))
    }

    fn exists(&self, name: &SubvolumeName) -> Result<bool, WritableError> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        match statat(&self.directory, name.as_bytes(), nofollow) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(of("fstatat")(errno)),
        }
    }

    /// Takes the snapshot under its own name, which was free.
    fn create(
        &self,
        source: &OwnedFd,
        source_info: &SubvolumeInfo,
    ) -> Result<Taken, WritableError> {
        let made = self.snapshot(self.name.as_bytes(), source, source_info)?;
        Ok(Taken {
            subvolume_id: made.id,
            uuid: made.uuid,
            replaced: None,
        })
    }

    fn replace(
        &self,
        source: &OwnedFd,
        source_info: &SubvolumeInfo,
        old: &SubvolumeInfo,
    ) -> Result<Taken, WritableError> {
        let aside = PrivateDirectory::unguessable(&self.prefix());
        let made = self.snapshot(&aside, source, source_info)?;
        let (new, replaced) = ((&aside[..], made.id), (self.name.as_bytes(), old.id));
        if let Err(error) = entry::exchange(&self.directory, new, replaced) {
            self.discard(&aside, made.id);
            return Err(self.failed(error));
        }
        let taken = |name| Taken {
            subvolume_id: made.id,
            uuid: made.uuid,
            replaced: Some(Replaced {
                subvolume_id: old.id,
                uuid: old.uuid,
                name,
            }),
        };
        let left = |called: &[u8], call, errno: Errno| WritableError::OldLeft {
            taken: Box::new(taken(SubvolumeName::parse(called.to_vec().into()).ok())),
            called: called.to_vec(),
            call,
            error: errno.into(),
        };
        match &self.existing {
            Existing::Rename(to) => {
                let (directory, to_name) = (&self.directory, to.as_bytes());
                let how = RenameFlags::NOREPLACE;
                renameat_with(directory, &aside[..], directory, to_name, how)
                    .map_err(|errno| left(&aside, "renameat2", errno))?;
                fsync(directory).map_err(|errno| left(to_name, "fsync", errno))?;
                Ok(taken(Some(to.clone())))
            }
            // By its id: a name may be another's by now.
            Existing::Delete => sys::subvol_destroy(&self.directory, old.id)
                .map(|()| taken(None))
                .map_err(|errno| left(&aside, "BTRFS_IOC_SNAP_DESTROY_V2", errno)),
            // There was nothing to replace.
            Existing::Refuse => Err(WritableError::Moved),
        }
    }

    /// Takes the snapshot under the name `name`, and makes sure that it is what that
    /// name refers to.
    fn snapshot(
        &self,
        name: &[u8],
        source: &OwnedFd,
        source_info: &SubvolumeInfo,
    ) -> Result<SubvolumeInfo, WritableError> {
        match sys::snap_create(&self.directory, name, source, false) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let name = self.name.clone();
                return Err(WritableError::Exists { name });
            }
            Err(errno) => return Err(of("BTRFS_IOC_SNAP_CREATE_V2")(errno)),
        }
        let (_, made) = entry::open(&self.directory, name).map_err(|error| match error {
            EntryError::System(call, errno) => WritableError::Unverified {
                called: name.to_vec(),
                call,
                error: errno.into(),
            },
            _ => WritableError::Moved,
        })?;
        if made.parent_uuid == source_info.uuid && !made.read_only {
            Ok(made)
        } else {
            Err(WritableError::Moved)
        }
    }

    /// Deletes a snapshot that did not get its name.
    fn discard(&self, aside: &[u8], id: u64) {
        let Ok((root, info)) = entry::open(&self.directory, aside) else {
            return;
        };
        if info.id == id {
            // A root that is immutable or append-only cannot be deleted.
            if let Ok(flags) = sys::fs_get_xflags(&root) {
                let _ = sys::fs_set_xflags(&root, flags - (XFlags::IMMUTABLE | XFlags::APPEND));
            }
            let _ = sys::snap_destroy(&self.directory, aside);
        }
    }

    fn prefix(&self) -> Vec<u8> {
        entry::prefix(self.name.as_bytes(), INFIX)
    }

    fn failed(&self, error: EntryError) -> WritableError {
        let name = self.name.clone();
        match error {
            EntryError::NotASubvolume
            | EntryError::System("openat", Errno::NOTDIR | Errno::LOOP) => {
                WritableError::NotASubvolume { name }
            }
            EntryError::NotAnEntry | EntryError::System("renameat2", Errno::BUSY) => {
                WritableError::MountPoint { name }
            }
            EntryError::Moved => WritableError::Moved,
            EntryError::System(call, errno) => of(call)(errno),
        }
    }
}

/// Whether the subvolume `id` of the filesystem that the mount `here` shows is mounted
/// somewhere, by lines of `/proc/self/mountinfo`. `None` if `here` is not among them.
fn is_mounted(table: &[u8], here: u64, id: u64) -> Option<bool> {
    let fields = |line: &[u8]| -> Vec<Vec<u8>> {
        let fields = line.split(|&byte| byte == b' ');
        fields.map(<[u8]>::to_vec).collect()
    };
    let lines: Vec<_> = table.split(|&byte| byte == b'\n').map(fields).collect();
    let here = here.to_string().into_bytes();
    let own = lines.iter().find(|line| line.first() == Some(&here))?;
    let device = own.get(2)?;
    let wanted = format!("subvolid={id}").into_bytes();
    // The options of the filesystem come last; blanks in them are escaped.
    let shows = |line: &&Vec<Vec<u8>>| {
        let mut options = line
            .last()
            .into_iter()
            .flat_map(|it| it.split(|&it| it == b','));
        line.get(2) == Some(device) && options.any(|option| option == wanted)
    };
    Some(lines.iter().any(|line| shows(&line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_known_by_its_id() {
        let table = b"\
            20 1 0:42 / /top rw shared:1 - btrfs /dev/sda1 rw,subvolid=5,subvol=/\n\
            21 1 0:42 /a /home rw - btrfs /dev/sda1 rw,subvolid=257,subvol=/a\n\
            22 1 0:42 /b/d /bound rw - btrfs /dev/sda1 rw,subvolid=258,subvol=/b\n\
            23 1 0:43 /c /other rw - btrfs /dev/sdb1 rw,subvolid=259,subvol=/c\n\
            24 1 8:1 / /boot rw - ext4 /dev/sda2 rw\n";
        for (id, mounted) in [
            (5, true),
            (257, true),
            (258, true),
            (25, false),
            (259, false),
        ] {
            assert_eq!(is_mounted(table, 20, id), Some(mounted), "{id}");
        }
        assert_eq!(is_mounted(table, 23, 259), Some(true));
        assert_eq!(is_mounted(table, 99, 5), None);
        assert_eq!(is_mounted(b"", 20, 5), None);
    }
}
