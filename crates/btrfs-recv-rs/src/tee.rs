//! `--tee`: stores the input as it comes, in a file that is on disk before a
//! subvolume counts as complete.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use tempfile::TempPath;

use sendstream_common::text::strerror;

/// What the file is called while it is written, with six letters or digits
/// between the two.
const UNFINISHED: (&str, &str) = (".btrfs-recv-rs-", ".partial");

/// The file could not be created, written or given its name.
#[derive(Debug, thiserror::Error)]
#[error("cannot store the input in {}: {}", .file.display(), strerror(.error))]
pub(crate) struct TeeError {
    file: PathBuf,
    error: io::Error,
}

impl TeeError {
    /// Whether it is what made reading the input fail.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Self>())
    }
}

/// A file beside the name that it is to get; it is removed when it is dropped.
pub(crate) struct Tee {
    copy: Arc<Copy>,
    unfinished: TempPath,
}

/// What is written to it.
pub(crate) struct Copy {
    file: File,
    /// The directory that it is in.
    directory: File,
    name: PathBuf,
    /// A sync has failed. The kernel reports that once, and not what was lost.
    is_lost: AtomicBool,
}

/// The directory of a file.
pub(crate) fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Tee {
    /// Creates a file that is to be called `name`, which must not be there.
    ///
    /// # Errors
    /// It is there, or nothing can be created beside it.
    pub(crate) fn create(name: &Path) -> Result<Self, TeeError> {
        let failed = |error| TeeError {
            file: name.to_owned(),
            error,
        };
        match fs::symlink_metadata(name) {
            Ok(_) => return Err(failed(exists())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        if name.file_name().is_none() {
            return Err(failed(ErrorKind::IsADirectory.into()));
        }
        let directory = File::open(directory_of(name)).map_err(failed)?;
        let (file, unfinished) = tempfile::Builder::new()
            .prefix(UNFINISHED.0)
            .suffix(UNFINISHED.1)
            // Less what the process masks, as for any new file.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory_of(name))
            .map_err(failed)?
            .into_parts();
        let copy = Arc::new(Copy {
            file,
            directory,
            name: name.to_owned(),
            is_lost: AtomicBool::new(false),
        });
        Ok(Self { copy, unfinished })
    }

    /// What the input is written to.
    pub(crate) fn copy(&self) -> Arc<Copy> {
        Arc::clone(&self.copy)
    }

    /// Gives the file its name, now that all of the input is in it.
    ///
    /// # Errors
    /// It is not on disk, or something has the name; it is removed then.
    pub(crate) fn finish(self) -> Result<(), TeeError> {
        let Self { copy, unfinished } = self;
        copy.sync()?;
        let persisted = unfinished.persist_noclobber(&copy.name);
        persisted.map_err(|error| match error.error.kind() {
            ErrorKind::AlreadyExists => copy.failed(exists()),
            _ => copy.failed(error.error),
        })?;
        copy.directory
            .sync_all()
            .map_err(|error| copy.failed(error))
    }
}

fn exists() -> io::Error {
    io::Error::new(ErrorKind::AlreadyExists, "the file exists already")
}

impl Copy {
    fn failed(&self, error: io::Error) -> TeeError {
        TeeError {
            file: self.name.clone(),
            error,
        }
    }

    /// Writes what was read at a place of the input. What is read again is written
    /// again, at the same place.
    ///
    /// # Errors
    /// It cannot be written: a [`TeeError`].
    pub(crate) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, at);
        written.map_err(|error| io::Error::new(error.kind(), self.failed(error)))
    }

    /// Puts what was written on disk.
    ///
    /// # Errors
    /// That fails, or has failed before.
    pub(crate) fn sync(&self) -> Result<(), TeeError> {
        if self.is_lost.load(Ordering::Relaxed) {
            return Err(self.failed(Errno::IO.into()));
        }
        let synced = self.file.sync_all();
        let synced = synced.and_then(|()| self.directory.sync_all());
        synced.map_err(|error| {
            self.is_lost.store(true, Ordering::Relaxed);
            self.failed(error)
        })
    }
}
