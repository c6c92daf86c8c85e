//! Directories that the other side names.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, fstat, openat2, statx};
use rustix::io::Errno;

use crate::messages::strerror;

/// The directory that is served.
pub(super) struct Place {
    /// As the administrator named it.
    given: PathBuf,
    /// Without symbolic links.
    pub(super) path: PathBuf,
    directory: OwnedFd,
}

impl Place {
    /// Opens the directory.
    ///
    /// # Errors
    /// The reason why that failed.
    pub(super) fn open(given: &Path) -> Result<Self, String> {
        let failed =
            |error: io::Error| format!("cannot open {}: {}", given.display(), strerror(&error));
        let path = std::fs::canonicalize(given).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            given: given.to_owned(),
            path,
            directory,
        })
    }

    /// Opens a directory that is this one or below it. No component may be a
    /// symbolic link, and nothing may be mounted on the way: who sends streams
    /// creates files below it.
    ///
    /// # Errors
    /// The reason why it is refused.
    pub(super) fn below(&self, asked: &[u8]) -> Result<OwnedFd, String> {
        let asked = Path::new(OsStr::from_bytes(asked));
        let rest = [&self.given, &self.path]
            .into_iter()
            .filter(|it| it.is_absolute())
            .find_map(|it| asked.strip_prefix(it).ok());
        let is_name = |it: Component<'_>| matches!(it, Component::Normal(_));
        let Some(rest) = rest.filter(|rest| rest.components().all(is_name)) else {
            return Err("the path is not below the directory that is served".to_owned());
        };
        let rest = Some(rest).filter(|rest| !rest.as_os_str().is_empty());
        openat2(
            &self.directory,
            rest.unwrap_or(Path::new(".")),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH
                | ResolveFlags::NO_SYMLINKS
                | ResolveFlags::NO_MAGICLINKS
                | ResolveFlags::NO_XDEV,
        )
        .map_err(|errno| format!("cannot open the path: {}", strerror(&errno.into())))
    }

    /// Opens a directory that is this one, below it, or above it in the same
    /// mount.
    ///
    /// # Errors
    /// The reason why it is refused.
    pub(super) fn above_or_below(&self, asked: &[u8]) -> Result<OwnedFd, String> {
        let above = Path::new(OsStr::from_bytes(asked));
        let is_above = above.is_absolute()
            && self.path.starts_with(above)
            && above.components().all(|it| it != Component::ParentDir);
        if !is_above {
            return self.below(asked);
        }
        let failed = |errno: Errno| strerror(&errno.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(above, flags, Mode::empty()).map_err(failed)?;
        let mount = |fd: &OwnedFd| {
            let asked = StatxFlags::MNT_ID;
            let facts = statx(fd, c"", AtFlags::EMPTY_PATH, asked).map_err(failed)?;
            // Before Linux 5.8 it is not known.
            let is_known = facts.stx_mask & asked.bits() != 0;
            Ok::<_, String>(is_known.then_some(facts.stx_mnt_id))
        };
        match (mount(&directory)?, mount(&self.directory)?) {
            (Some(one), Some(other)) if one == other => Ok(directory),
            _ => Err("the path is not in the mount of the directory that is served".to_owned()),
        }
    }

    /// As [`below`](Self::below), but in no other subvolume: that would be one
    /// that was received or is being received.
    ///
    /// # Errors
    /// The reason why it is refused.
    pub(super) fn to_receive_in(&self, asked: &[u8]) -> Result<OwnedFd, String> {
        let directory = self.below(asked)?;
        let device = |fd: &OwnedFd| fstat(fd).map(|facts| facts.st_dev);
        match (device(&directory), device(&self.directory)) {
            (Ok(one), Ok(other)) if one == other => Ok(directory),
            (Ok(_), Ok(_)) => Err("the path is in a subvolume of its own".to_owned()),
            (Err(errno), _) | (_, Err(errno)) => Err(strerror(&errno.into())),
        }
    }
}
