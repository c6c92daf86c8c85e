//! Directories that the other side names.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};

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
