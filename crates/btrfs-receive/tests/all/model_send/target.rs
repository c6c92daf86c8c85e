//! Histories on the memory model.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_model::{Inode, Kind, Tree};
use btrfs_receive::{Cause, NewInode};
use btrfs_sendstream::{Bytes, StreamPath, Timespec};
use btrfs_testkit::Time;
use btrfs_testkit::files::pattern;
use btrfs_testkit::history::{Flag, Step, Target, What};

/// What a tree and its snapshots may use, each.
const LIMIT: u64 = 1 << 26;

/// Offsets and lengths are taken modulo this, which keeps blocks whole:
/// thousands of histories are to be played in the time of a few large ones.
const LARGEST: u64 = 1 << 16;

/// Where one side of an exchange waits; no history has this name.
const ASIDE: &str = "\u{1}aside";

/// A tree with a history, and the snapshots taken of it.
pub(crate) struct Model {
    tree: Tree,
    snapshots: Vec<Tree>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            tree: Tree::new(LIMIT),
            snapshots: Vec::new(),
        }
    }

    /// The snapshots, oldest first.
    pub(crate) fn snapshots(&self) -> &[Tree] {
        &self.snapshots
    }

    fn names(&mut self, step: &Step) -> Result<(), Cause> {
        let tree = &mut self.tree;
        match step {
            Step::Snapshot => {
                self.snapshots.push(tree.clone());
                Ok(())
            }
            Step::Make { path, what, target } => {
                tree.create(&stream_path(path), &new_inode(*what, target), 0o755)
            }
            Step::Rename { from, to } => tree.rename(&stream_path(from), &stream_path(to)),
            Step::Exchange { a, b } => {
                let (a, b, aside) = (
                    stream_path(a),
                    stream_path(b),
                    stream_path(Path::new(ASIDE)),
                );
                tree.rename(&a, &aside)?;
                tree.rename(&b, &a)?;
                tree.rename(&aside, &b)
            }
            Step::Link { existing, new } => tree.link(&stream_path(new), &stream_path(existing)),
            Step::Remove { path } => remove(tree, &stream_path(path)),
            _ => self.data(step),
        }
    }

    fn data(&mut self, step: &Step) -> Result<(), Cause> {
        let tree = &mut self.tree;
        let within = |number: u64| number % LARGEST;
        match step {
            Step::Write {
                path,
                offset,
                length,
                seed,
                compressible,
            } => {
                let length = within(*length as u64) as usize;
                let data = pattern(*seed, length, *compressible);
                tree.write(&stream_path(path), within(*offset), &data)
            }
            Step::Truncate { path, size } => tree.truncate(&stream_path(path), within(*size)),
            Step::Punch {
                path,
                offset,
                length,
            } => tree.fallocate(&stream_path(path), 3, within(*offset), within(*length)),
            Step::Preallocate {
                path,
                offset,
                length,
                keep_size,
            } => {
                let mode = u32::from(*keep_size);
                tree.fallocate(&stream_path(path), mode, within(*offset), within(*length))
            }
            Step::Share { from, to, range } => {
                let (from_offset, offset, length) = *range;
                let (to, from) = (stream_path(to), stream_path(from));
                let (offset, from_offset) = (within(offset), within(from_offset));
                let cloned =
                    tree.clone_range(&to, offset, None, &from, from_offset, within(length));
                cloned.map(drop)
            }
            Step::Reflink { from, to } => {
                let (from, to) = (stream_path(from), stream_path(to));
                let size = tree
                    .get(&from)
                    .and_then(Inode::content)
                    .map_or(0, |c| c.size());
                tree.create(&to, &NewInode::File, 0o644)?;
                tree.clone_range(&to, 0, None, &from, 0, size).map(drop)
            }
            Step::Sync { .. } => Ok(()),
            _ => self.metadata(step),
        }
    }

    fn metadata(&mut self, step: &Step) -> Result<(), Cause> {
        let tree = &mut self.tree;
        match step {
            Step::SetXattr { path, name, value } => {
                let value = Bytes::copy_from_slice(value);
                tree.set_xattr(&stream_path(path), name.as_bytes(), &value)
            }
            Step::RemoveXattr { path, name } => {
                tree.remove_xattr(&stream_path(path), name.as_bytes())
            }
            Step::SetMode { path, mode } => tree.chmod(&stream_path(path), *mode),
            Step::SetOwner { path, uid, gid } => tree.chown(&stream_path(path), *uid, *gid),
            Step::SetTimes { path, atime, mtime } => {
                tree.set_times(&stream_path(path), time(*atime), Some(time(*mtime)))
            }
            Step::SetFlag { path, flag, on } => {
                let path = stream_path(path);
                let old = tree.get(&path).map_or(0, Inode::attributes);
                let bit = bit(*flag);
                tree.set_attributes(&path, if *on { old | bit } else { old & !bit })
            }
            _ => Ok(()),
        }
    }
}

impl Target for Model {
    fn carry_out(&mut self, step: &Step) -> io::Result<()> {
        self.names(step)
            .map_err(|cause| io::Error::other(cause.to_string()))
    }
}

/// Removes a file, or a directory with all below it.
fn remove(tree: &mut Tree, path: &StreamPath) -> Result<(), Cause> {
    if !matches!(tree.get(path).map(Inode::kind), Some(Kind::Directory(_))) {
        return tree.unlink(path);
    }
    let mut below: Vec<(StreamPath, bool)> = tree
        .entries()
        .filter(|entry| entry.path.starts_with(path))
        .map(|entry| {
            let is_directory = matches!(entry.inode.kind(), Kind::Directory(_));
            (entry.path, is_directory)
        })
        .collect();
    // What a directory holds comes after it.
    while let Some((path, is_directory)) = below.pop() {
        match is_directory {
            true => tree.rmdir(&path)?,
            false => tree.unlink(&path)?,
        }
    }
    Ok(())
}

fn stream_path(path: &Path) -> StreamPath {
    let bytes = path.as_os_str().as_bytes();
    StreamPath::parse(Bytes::copy_from_slice(bytes)).unwrap()
}

fn new_inode(what: What, target: &Path) -> NewInode {
    let rdev = |major: u16, minor: u32| {
        u64::from(minor & 0xff | u32::from(major) << 8 | (minor & !0xff) << 12)
    };
    match what {
        What::File => NewInode::File,
        What::Directory => NewInode::Directory,
        What::Symlink(_) => NewInode::Symlink {
            target: Bytes::copy_from_slice(target.as_os_str().as_bytes()),
        },
        What::Fifo => NewInode::Fifo { mode: 0o10644 },
        What::Socket => NewInode::Socket { mode: 0o140_644 },
        What::CharDevice(major, minor) => NewInode::Device {
            mode: 0o20644,
            rdev: rdev(major, minor),
        },
        What::BlockDevice(major, minor) => NewInode::Device {
            mode: 0o60644,
            rdev: rdev(major, minor),
        },
    }
}

fn time(time: Time) -> Timespec {
    Timespec {
        seconds: time.seconds,
        nanoseconds: time.nanoseconds,
    }
}

/// `BTRFS_INODE_*` (`fs/btrfs/btrfs_inode.h`).
fn bit(flag: Flag) -> u64 {
    1 << match flag {
        Flag::NoCow => 1,
        Flag::NoCompress => 3,
        Flag::Sync => 5,
        Flag::Immutable => 6,
        Flag::Append => 7,
        Flag::NoDump => 8,
        Flag::NoAtime => 9,
        Flag::Compress => 11,
    }
}
