//! Where programs find the subvolumes: by paths in what is mounted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use btrfs_lineage::{Mounts, SearchPlace};

/// Where the paths of a listing begin.
pub(super) enum Places {
    /// In a directory.
    Directory(PathBuf),
    /// At the top level of the filesystem that the path lies on.
    Filesystem(Mounts, PathBuf),
    /// It is not known.
    Nowhere,
}

impl Places {
    /// For a listing that was made in `path`: of what lies beneath it, or as a search
    /// in `place` shows it.
    pub(super) fn of(path: &Path, below: bool, place: SearchPlace) -> Self {
        if below {
            return Self::Directory(path.to_owned());
        }
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let Ok(mounts) = Mounts::read() else {
            return Self::Nowhere;
        };
        if place != SearchPlace::Mount {
            return Self::Filesystem(mounts, path);
        }
        let point = mounts.point(&path).map(Path::to_owned);
        point.map_or(Self::Nowhere, Self::Directory)
    }

    /// A path by which programs find what the listing has at `path`; `None` if it
    /// lies outside of what is mounted.
    pub(super) fn find(&self, path: &[u8]) -> Option<PathBuf> {
        match self {
            Self::Directory(directory) if path.is_empty() => Some(directory.clone()),
            Self::Directory(directory) => {
                let found = directory.join(OsStr::from_bytes(path));
                found.symlink_metadata().is_ok().then_some(found)
            }
            Self::Filesystem(mounts, at) => mounts.entry(path, at),
            Self::Nowhere => None,
        }
    }
}
