//! The system calls of a stream and nothing else: the floor.
//!
//! The stream is decoded into a list first. Then one thread makes, for each
//! command, the call that it stands for, with paths relative to the
//! subvolume's descriptor; nothing is planned, checked or fused. The file
//! written to last, and the file cloned from last, stay open.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use btrfs_sendstream::{
    Bytes, CloneRange, Command, CommandBuf, Item, Reader, StreamPath, Timespec,
};
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::calls;

type Outcome = Result<(), String>;

/// Decodes `stream`, makes its subvolume below `directory`, and replays the
/// rest. Prints wall and CPU time in seconds.
pub(crate) fn replay(stream: &Path, directory: &Path) -> Outcome {
    let commands = decoded(stream)?;
    let mut replayer = Replayer::begin(&commands, directory)?;
    let (wall, cpu) = (Instant::now(), cpu_time());
    for command in &commands {
        replayer
            .command(command)
            .map_err(|error| format!("{error} at {:?} {:?}", command.kind(), command.path()))?;
    }
    drop(replayer.written.take());
    rustix::fs::syncfs(&replayer.root).map_err(|errno| errno.to_string())?;
    let cpu = cpu_time() - cpu;
    println!("{} {}", wall.elapsed().as_secs_f64(), cpu.as_secs_f64());
    Ok(())
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

fn decoded(stream: &Path) -> Result<Vec<CommandBuf>, String> {
    let file = File::open(stream).map_err(|error| error.to_string())?;
    let mut reader = Reader::new(BufReader::new(file));
    let mut commands = Vec::new();
    while let Some(item) = reader.next_owned().map_err(|error| error.to_string())? {
        if let Item::Command(command) = item {
            commands.push(command);
        }
    }
    Ok(commands)
}

struct Replayer {
    root: OwnedFd,
    /// Where clones come from, if not from the subvolume itself.
    other: Option<OwnedFd>,
    own: btrfs_sendstream::Uuid,
    written: Option<(StreamPath, File)>,
    read: Option<(StreamPath, File)>,
}

impl Replayer {
    /// Makes the subvolume, or the snapshot of the only other one there.
    fn begin(commands: &[CommandBuf], directory: &Path) -> Result<Self, String> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| errno.to_string())
        };
        let (name, own, is_snapshot) = match commands.first() {
            Some(Command::Subvol { name, uuid, .. }) => (name, uuid, false),
            Some(Command::Snapshot { name, uuid, .. }) => (name, uuid, true),
            _ => return Err("no subvolume in the stream".to_owned()),
        };
        let target = directory.join(String::from_utf8_lossy(name.as_bytes()).as_ref());
        let other = std::fs::read_dir(directory)
            .map_err(|error| error.to_string())?
            .next()
            .transpose()
            .map_err(|error| error.to_string())?
            .map(|entry| entry.path());
        match (is_snapshot, &other) {
            (true, None) => return Err("no parent".to_owned()),
            (true, Some(other)) => {
                btrfs_testkit::subvolume::snapshot_writable(other, &target);
            }
            (false, _) => {
                btrfs_testkit::subvolume::create(&target);
            }
        }
        let other = other.as_deref().map(open).transpose()?;
        Ok(Self {
            root: open(&target)?,
            other,
            own: *own,
            written: None,
            read: None,
        })
    }

    fn command(&mut self, command: &CommandBuf) -> Outcome {
        match command {
            Command::Write { path, offset, data } => {
                let file = self.file(path)?;
                let written = file.write_all_at(data, *offset);
                written.map_err(|error| error.to_string())
            }
            Command::EncodedWrite(write) => {
                let file = self.file(&write.path)?;
                calls::encoded_write(file, write).map_err(|error| error.to_string())
            }
            Command::Clone(range) => self.clone_range(range),
            Command::Truncate { path, size } => {
                let result = rustix::fs::ftruncate(self.file(path)?, *size);
                result.map_err(|errno| errno.to_string())
            }
            Command::Fallocate {
                path,
                mode,
                offset,
                len,
            } => {
                let mode = FallocateFlags::from_bits_retain(*mode);
                let result = rustix::fs::fallocate(self.file(path)?, mode, *offset, *len);
                result.map_err(|errno| errno.to_string())
            }
            Command::SetXattr { path, name, data } => {
                let result =
                    rustix::fs::fsetxattr(self.file(path)?, &name[..], data, XattrFlags::empty());
                result.map_err(|errno| errno.to_string())
            }
            command => name_or_metadata(&self.root, command).map_err(|errno| errno.to_string()),
        }
    }

    fn clone_range(&mut self, range: &CloneRange) -> Outcome {
        if self
            .read
            .as_ref()
            .is_none_or(|(path, _)| *path != range.source_path)
        {
            let from = match &self.other {
                Some(other) if range.source_uuid != self.own => other,
                _ => &self.root,
            };
            let file = open(from, &range.source_path, OFlags::RDONLY)?;
            self.read = Some((range.source_path.clone(), file));
        }
        self.file(&range.path)?;
        let (Some((_, from)), Some((_, to))) = (&self.read, &self.written) else {
            return Err("nothing open".to_owned());
        };
        calls::clone_range(from, range.source_offset, range.len, to, range.offset)
            .map_err(|error| error.to_string())
    }

    /// The file for writing; the same as last time if it can be.
    fn file(&mut self, path: &StreamPath) -> Result<&File, String> {
        if self.written.as_ref().is_none_or(|(open, _)| open != path) {
            let file = open(&self.root, path, OFlags::RDWR)?;
            self.written = Some((path.clone(), file));
        }
        let written = self.written.as_ref();
        written.map(|(_, file)| file).ok_or("not open".to_owned())
    }
}

fn open(directory: &OwnedFd, path: &StreamPath, access: OFlags) -> Result<File, String> {
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(directory, path.as_bytes(), flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| format!("open: {errno}"))
}

fn name_or_metadata(root: impl AsFd, command: &CommandBuf) -> Result<(), Errno> {
    let root = root.as_fd();
    let node = |path: &StreamPath, kind, mode: u64, rdev| {
        let mode = Mode::from_raw_mode(mode as u32 & 0o7777);
        rustix::fs::mknodat(root, path.as_bytes(), kind, mode, rdev)
    };
    match command {
        Command::Mkfile { path, .. } => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::openat(root, path.as_bytes(), flags, Mode::from(0o600)).map(drop)
        }
        Command::Mkdir { path, .. } => {
            rustix::fs::mkdirat(root, path.as_bytes(), Mode::from(0o700))
        }
        Command::Symlink { path, target, .. } => {
            rustix::fs::symlinkat(&target[..], root, path.as_bytes())
        }
        Command::Mkfifo { path, mode, .. } => node(path, FileType::Fifo, *mode, 0),
        Command::Mksock { path, mode, .. } => node(path, FileType::Socket, *mode, 0),
        Command::Mknod {
            path, mode, rdev, ..
        } => node(path, FileType::from_raw_mode(*mode as u32), *mode, *rdev),
        Command::Rename { path, to } => {
            rustix::fs::renameat(root, path.as_bytes(), root, to.as_bytes())
        }
        Command::Link { path, existing } => {
            let flags = AtFlags::empty();
            rustix::fs::linkat(root, existing.as_bytes(), root, path.as_bytes(), flags)
        }
        Command::Unlink { path } => rustix::fs::unlinkat(root, path.as_bytes(), AtFlags::empty()),
        Command::Rmdir { path } => rustix::fs::unlinkat(root, path.as_bytes(), AtFlags::REMOVEDIR),
        Command::Chmod { path, mode } => {
            let mode = Mode::from_raw_mode(*mode as u32);
            rustix::fs::chmodat(root, or_dot(path), mode, AtFlags::empty())
        }
        Command::Chown { path, uid, gid } => rustix::fs::chownat(
            root,
            or_dot(path),
            Some(Uid::from_raw(*uid as u32)),
            Some(Gid::from_raw(*gid as u32)),
            AtFlags::SYMLINK_NOFOLLOW,
        ),
        Command::Utimes {
            path, atime, mtime, ..
        } => {
            let times = Timestamps {
                last_access: time(*atime),
                last_modification: time(*mtime),
            };
            rustix::fs::utimensat(root, or_dot(path), &times, AtFlags::SYMLINK_NOFOLLOW)
        }
        // Of no weight in these workloads, or nothing to do.
        _ => Ok(()),
    }
}

fn or_dot(path: &StreamPath<Bytes>) -> &[u8] {
    if path.is_root() {
        b"."
    } else {
        path.as_bytes()
    }
}

fn time(time: Timespec) -> rustix::fs::Timespec {
    rustix::fs::Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    }
}
