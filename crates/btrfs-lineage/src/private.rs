//! A directory that other users cannot enter, under a name that they cannot
//! foresee.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use btrfs_ioctl::ROOT_INODE;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, unlinkat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::geteuid;

/// Hexadecimal digits at the end of a name.
const DIGITS: usize = 16;

/// A directory that only the user of this process can enter. It is removed when
/// dropped, if it is empty.
///
/// A new subvolume, [`INSIDE`](crate::INSIDE) such a directory, is out of reach of
/// others until it is moved.
#[derive(Debug)]
pub struct PrivateDirectory {
    around: OwnedFd,
    name: Vec<u8>,
    fd: OwnedFd,
}

/// Why a [`PrivateDirectory`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirectoryError {
    /// Other users can enter it. The owner of the directory around it has put
    /// another in its place.
    #[error("another process replaced the directory {}", name.escape_ascii())]
    Replaced {
        /// Its name.
        name: Vec<u8>,
    },
    /// A system call failed.
    #[error("{call}: {error}")]
    System {
        /// The call, by the name of its manual page.
        call: &'static str,
        /// The error of the call.
        #[source]
        error: io::Error,
    },
}

fn of(call: &'static str) -> impl Fn(rustix::io::Errno) -> PrivateDirectoryError {
    move |errno| PrivateDirectoryError::System {
        call,
        error: errno.into(),
    }
}

impl PrivateDirectory {
    /// The longest prefix that [`unguessable`](Self::unguessable) leaves short enough
    /// for a name, in bytes.
    pub const MAX_PREFIX: usize = 255 - DIGITS;

    /// Returns `prefix` with 16 hexadecimal digits that nobody can foresee.
    pub fn unguessable(prefix: &[u8]) -> Vec<u8> {
        // The keys come from the kernel's random numbers.
        let digits = format!("{:016x}", RandomState::new().hash_one(0));
        [prefix, digits.as_bytes()].concat()
    }

    /// Returns whether [`unguessable`](Self::unguessable) may have made `name` from
    /// `prefix`.
    pub fn is_unguessable(name: &[u8], prefix: &[u8]) -> bool {
        name.strip_prefix(prefix)
            .is_some_and(|it| it.len() == DIGITS && it.iter().all(u8::is_ascii_hexdigit))
    }

    /// Makes the directory `name` in the directory `around`, with mode 0700.
    ///
    /// # Errors
    /// It cannot be made, or another directory is in its place.
    pub fn make(around: impl AsFd, name: Vec<u8>) -> Result<Self, PrivateDirectoryError> {
        Self::make_then(around, name, || {})
    }

    /// `made` is called once the directory exists, for tests.
    fn make_then(
        around: impl AsFd,
        name: Vec<u8>,
        made: impl FnOnce(),
    ) -> Result<Self, PrivateDirectoryError> {
        let around = fcntl_dupfd_cloexec(around, 3).map_err(of("fcntl"))?;
        mkdirat(&around, &name[..], Mode::RWXU).map_err(of("mkdirat"))?;
        made();
        let fd = match open(&around, &name) {
            Ok(fd) => fd,
            Err(errno) => {
                let _ = unlinkat(&around, &name[..], AtFlags::REMOVEDIR);
                return Err(of("openat")(errno));
            }
        };
        if !is_private(&fd) {
            return Err(PrivateDirectoryError::Replaced { name });
        }
        // Tells who finds it that it is in use.
        let _ = flock(&fd, FlockOperation::NonBlockingLockExclusive);
        Ok(Self { around, name, fd })
    }

    /// Opens one whose process was killed. `None` if `name` is no such directory, or
    /// in use.
    pub fn left(around: impl AsFd, name: Vec<u8>) -> Option<Self> {
        let fd = open(&around, &name).ok()?;
        if !is_private(&fd) {
            return None;
        }
        flock(&fd, FlockOperation::NonBlockingLockExclusive).ok()?;
        let around = fcntl_dupfd_cloexec(around, 3).ok()?;
        Some(Self { around, name, fd })
    }

    /// The directory around it.
    pub fn around(&self) -> BorrowedFd<'_> {
        self.around.as_fd()
    }
}

/// The directory, open for reading.
impl AsFd for PrivateDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = unlinkat(&self.around, &self.name[..], AtFlags::REMOVEDIR);
    }
}

fn open(around: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(around, name, flags, Mode::empty())
}

/// Whether nobody but this user can enter a directory. In a set-group-ID
/// directory it has that bit, too.
fn is_private(directory: &OwnedFd) -> bool {
    fstat(directory).is_ok_and(|found| {
        found.st_ino != ROOT_INODE
            && found.st_uid == geteuid().as_raw()
            && found.st_mode & 0o777 == 0o700
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::Path;

    use super::*;

    /// A directory of mode 0700, called `left`, in a new one of this mode.
    fn place(mode: u32) -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
        let made = directory.path().join("left");
        fs::create_dir(&made).unwrap();
        fs::set_permissions(&made, Permissions::from_mode(mode & 0o7000 | 0o700)).unwrap();
        let open = File::open(directory.path()).unwrap();
        (directory, open)
    }

    fn left(around: &File) -> Option<PrivateDirectory> {
        PrivateDirectory::left(around, b"left".to_vec())
    }

    #[test]
    fn it_is_locked_and_goes_with_its_owner() {
        let (directory, around) = place(0o755);
        let name = PrivateDirectory::unguessable(b"a.");
        assert!(PrivateDirectory::is_unguessable(&name, b"a."));
        assert!(!PrivateDirectory::is_unguessable(&name, b"a"));
        let made = PrivateDirectory::make(&around, name.clone()).unwrap();
        assert!(PrivateDirectory::left(&around, name.clone()).is_none());
        let path = directory.path().join(std::str::from_utf8(&name).unwrap());
        assert!(path.is_dir());
        drop(made);
        assert!(!path.exists());
    }

    #[test]
    fn one_that_was_left_is_found_in_a_set_group_id_directory_too() {
        for mode in [0o755, 0o2755] {
            let (directory, around) = place(mode);
            assert!(left(&around).is_some(), "{mode:o}");
            assert!(!directory.path().join("left").exists());
        }
    }

    #[test]
    fn one_that_others_can_enter_is_refused_and_stays() {
        let refused = |change: &dyn Fn(&Path)| {
            let (directory, around) = place(0o755);
            let path = directory.path().join("left");
            change(&path);
            assert!(left(&around).is_none());
            assert!(path.symlink_metadata().is_ok());
        };
        refused(&|path| fs::set_permissions(path, Permissions::from_mode(0o710)).unwrap());
        refused(&|path| {
            fs::rename(path, path.with_file_name("other")).unwrap();
            std::os::unix::fs::symlink("other", path).unwrap();
        });
        // Needs root.
        if geteuid().is_root() {
            refused(&|path| chown(path, Some(1), None).unwrap());
        }
    }

    /// Whoever owns the directory around it can put another in its place between
    /// the two calls that make it.
    #[test]
    fn one_that_was_replaced_is_not_used() {
        let (directory, around) = place(0o755);
        let path = directory.path().join("new");
        let replace = || {
            fs::remove_dir(&path).unwrap();
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        };
        let made = PrivateDirectory::make_then(&around, b"new".to_vec(), replace);
        assert!(matches!(made, Err(PrivateDirectoryError::Replaced { .. })));
        assert!(path.exists());
    }
}
