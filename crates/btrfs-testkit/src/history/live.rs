//! Histories on a real btrfs.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, IFlags};

use super::operation::{Flag, What};
use super::step::{Step, Target};
use crate::{files, subvolume};

/// A subvolume with a history, and the snapshots taken of it.
#[derive(Debug)]
pub struct Live {
    work: PathBuf,
    directory: PathBuf,
    snapshots: Vec<PathBuf>,
}

impl Live {
    /// Makes an empty subvolume in `directory`; snapshots will lie beside it.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn new(directory: &Path) -> Self {
        Self {
            work: subvolume::create(&directory.join("work")),
            directory: directory.to_owned(),
            snapshots: Vec::new(),
        }
    }

    /// The subvolume that changes.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// The snapshots, oldest first.
    pub fn snapshots(&self) -> &[PathBuf] {
        &self.snapshots
    }

    fn make(&self, path: &Path, what: What, target: &Path) -> io::Result<()> {
        let path = self.work.join(path);
        let node = |kind, major: u16, minor| files::make_node(&path, kind, (major.into(), minor));
        match what {
            What::File => files::make_file(&path),
            What::Directory => std::fs::create_dir(&path),
            What::Symlink(_) => std::os::unix::fs::symlink(target, &path),
            What::Fifo => node(FileType::Fifo, 0, 0),
            What::Socket => node(FileType::Socket, 0, 0),
            What::CharDevice(major, minor) => node(FileType::CharacterDevice, major, minor),
            What::BlockDevice(major, minor) => node(FileType::BlockDevice, major, minor),
        }
    }

    fn names(&self, step: &Step) -> io::Result<()> {
        let at = |path: &Path| self.work.join(path);
        match step {
            Step::Make { path, what, target } => self.make(path, *what, target),
            Step::Rename { from, to } => std::fs::rename(at(from), at(to)),
            Step::Exchange { a, b } => files::exchange(&at(a), &at(b)),
            Step::Link { existing, new } => files::link(&at(existing), &at(new)),
            Step::Remove { path } => remove(&at(path)),
            _ => self.data(step),
        }
    }

    fn data(&self, step: &Step) -> io::Result<()> {
        let at = |path: &Path| self.work.join(path);
        match step {
            Step::Write {
                path,
                offset,
                length,
                seed,
                compressible,
            } => files::write(
                &at(path),
                *offset,
                &files::pattern(*seed, *length, *compressible),
            ),
            Step::Truncate { path, size } => files::truncate(&at(path), *size),
            Step::Punch {
                path,
                offset,
                length,
            } => files::punch(&at(path), *offset, *length),
            Step::Preallocate {
                path,
                offset,
                length,
                keep_size,
            } => files::preallocate(&at(path), *offset, *length, *keep_size),
            Step::Share { from, to, range } => files::share(&at(from), &at(to), *range),
            Step::Reflink { from, to } => {
                files::make_file(&at(to))?;
                // Refused between files with and without checksums; the
                // empty file stays then.
                files::reflink(&at(from), &at(to)).or(Ok(()))
            }
            Step::Sync { path } => files::sync(&at(path)),
            _ => self.metadata(step),
        }
    }

    fn metadata(&self, step: &Step) -> io::Result<()> {
        let at = |path: &Path| self.work.join(path);
        match step {
            Step::SetXattr { path, name, value } => {
                let path = at(path);
                match files::set_xattr(&path, name, value) {
                    // Btrfs wants room for both values in one node.
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                        files::remove_xattr(&path, name)?;
                        files::set_xattr(&path, name, value)
                    }
                    other => other,
                }
            }
            Step::RemoveXattr { path, name } => files::remove_xattr(&at(path), name),
            Step::SetMode { path, mode } => files::set_mode(&at(path), *mode),
            Step::SetOwner { path, uid, gid } => files::set_owner(&at(path), *uid, *gid),
            Step::SetTimes { path, atime, mtime } => files::set_times(&at(path), *atime, *mtime),
            Step::SetFlag { path, flag, on } => {
                let (flag, none) = (bits(*flag), IFlags::empty());
                let (set, clear) = if *on { (flag, none) } else { (none, flag) };
                files::change_flags(&at(path), set, clear)
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Target for Live {
    fn carry_out(&mut self, step: &Step) -> io::Result<()> {
        if *step == Step::Snapshot {
            let path = self
                .directory
                .join(format!("snapshot-{}", self.snapshots.len()));
            self.snapshots
                .push(subvolume::snapshot_read_only(&self.work, &path));
            return Ok(());
        }
        self.names(step)
    }
}

/// Removes a file or a whole directory, or nothing: a protected file below
/// leaves its directories in place, which only a catalogue could know.
fn remove(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.is_dir() {
        return std::fs::remove_file(path);
    }
    unprotect(path)?;
    std::fs::remove_dir_all(path)
}

/// Lifts immutable and append-only from a directory and all below it.
fn unprotect(directory: &Path) -> io::Result<()> {
    let protection = IFlags::IMMUTABLE | IFlags::APPEND;
    files::change_flags(directory, IFlags::empty(), protection)?;
    for item in std::fs::read_dir(directory)? {
        let item = item?;
        let kind = item.file_type()?;
        if kind.is_dir() {
            unprotect(&item.path())?;
        } else if kind.is_file() {
            files::change_flags(&item.path(), IFlags::empty(), protection)?;
        }
    }
    Ok(())
}

fn bits(flag: Flag) -> IFlags {
    match flag {
        Flag::NoDump => IFlags::NODUMP,
        Flag::NoAtime => IFlags::NOATIME,
        Flag::Sync => IFlags::SYNC,
        Flag::NoCow => IFlags::NOCOW,
        Flag::Compress => IFlags::COMPRESSED,
        // FS_NOCOMP_FL, which rustix has no name for.
        Flag::NoCompress => IFlags::from_bits_retain(0x400),
        Flag::Immutable => IFlags::IMMUTABLE,
        Flag::Append => IFlags::APPEND,
    }
}
