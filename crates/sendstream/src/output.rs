//! Where a stream goes: standard output, or a file that exists only if it is
//! complete.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use btrfs_sendstream::Writer;
use rustix::fs::{FileType, OFlags, Stat, fcntl_getfl, fstat, stat};
use tempfile::TempPath;

use crate::Failure;
use crate::args::Io;

/// What a file is called while it is written, with six letters or digits
/// between the two.
const UNFINISHED: (&str, &str) = (".sendstream-", ".partial");

/// An output that was opened.
pub(crate) struct Destination {
    pub(crate) writer: Writer<File>,
    name: String,
    unfinished: Option<Unfinished>,
}

/// A file under a name of its own beside the one it is to get; removed when it
/// is dropped.
struct Unfinished {
    path: TempPath,
    target: PathBuf,
    replace: bool,
}

impl Destination {
    /// Opens what the options say.
    pub(crate) fn open(io: &Io) -> Result<Self, Failure> {
        match &io.output {
            Some(path) => Self::create(path, io.force),
            None if io::stdout().is_terminal() => Err(Failure::Terminal),
            None if was_closed(io::stdout().as_fd()) => Err(Failure::Closed),
            None => Self::standard_output(),
        }
    }

    /// Standard output, without the line buffer of its usual handle.
    fn standard_output() -> Result<Self, Failure> {
        let name = "standard output".to_owned();
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Ok(Self {
                writer: Writer::new(File::from(descriptor)),
                name,
                unfinished: None,
            }),
            Err(error) => Err(Failure::File { file: name, error }),
        }
    }

    /// Makes a file. What was there under the name stays until the new one is
    /// complete, so that the input may be the output, and a failure costs
    /// nothing.
    pub(crate) fn create(path: &Path, replace: bool) -> Result<Self, Failure> {
        let name = path.display().to_string();
        match create(path, replace) {
            Ok((file, unfinished)) => Ok(Self {
                writer: Writer::new(file),
                name,
                unfinished,
            }),
            Err(error) => Err(Failure::File { file: name, error }),
        }
    }

    /// Hands everything over; a file is on disk then.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self {
            writer,
            name: file,
            unfinished,
        } = self;
        let sink = match writer.finish() {
            Ok(sink) => sink,
            Err(error) => {
                let error = error.into_error();
                return Err(Failure::Finish { file, error });
            }
        };
        match unfinished.map(|unfinished| unfinished.publish(&sink)) {
            Some(Err(error)) => Err(Failure::File { file, error }),
            _ => Ok(()),
        }
    }
}

/// Whether a standard descriptor was closed when the program began. Rust then
/// opens `/dev/null` in its place, for reading and writing, and everything
/// written would be lost without an error. Shells open `/dev/null` for writing
/// only.
pub(crate) fn was_closed(descriptor: BorrowedFd<'_>) -> bool {
    let both = fcntl_getfl(descriptor).is_ok_and(|flags| flags.contains(OFlags::RDWR));
    let (here, null) = (fstat(descriptor), stat("/dev/null"));
    both && here.is_ok_and(|here| null.is_ok_and(|null| is_same_device(&here, &null)))
}

fn is_same_device(one: &Stat, other: &Stat) -> bool {
    let kinds = [one, other].map(|it| FileType::from_raw_mode(it.st_mode));
    kinds == [FileType::CharacterDevice; 2] && one.st_rdev == other.st_rdev
}

fn create(path: &Path, replace: bool) -> io::Result<(File, Option<Unfinished>)> {
    let target = match fs::symlink_metadata(path) {
        Ok(_) if !replace => return Err(exists()),
        // What a link points to is replaced, not the link.
        Ok(_) => path.canonicalize()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    if fs::metadata(&target).is_ok_and(|facts| !facts.is_file()) {
        // A device or pipe is not ours to remove.
        let file = OpenOptions::new().write(true).open(&target)?;
        return Ok((file, None));
    }
    let (file, path) = tempfile::Builder::new()
        .prefix(UNFINISHED.0)
        .suffix(UNFINISHED.1)
        // Less what the process masks, as for any new file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory_of(&target))?
        .into_parts();
    let unfinished = Unfinished {
        path,
        target,
        replace,
    };
    Ok((file, Some(unfinished)))
}

fn exists() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "exists already")
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Unfinished {
    /// Gives the file its name when it is on disk.
    fn publish(self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        let result = if self.replace {
            self.path.persist(&self.target)
        } else {
            self.path.persist_noclobber(&self.target)
        };
        result.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => error.error,
        })?;
        File::open(directory_of(&self.target))?.sync_all()
    }
}
