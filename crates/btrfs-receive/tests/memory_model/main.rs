//! The model in memory against the kernel: random sequences of calls are
//! made on both, must end alike each time, and must leave the same tree.

mod call;
mod kernel;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use btrfs_receive::Cause;
use btrfs_receive::memory::{Inode, Kind, Tree};
use btrfs_sendstream::{StreamPath, Timespec};
use btrfs_testkit::{LoopFilesystem, subvolume};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::io::Errno;

use call::{Call, call};
use kernel::{FLAGS, Kernel};

/// The first second of the model's clock, and long before today: what is
/// later was not set by a call but moved by a change.
const MOVED: i64 = 1_000_000_000;

/// `FALLOC_FL_PUNCH_HOLE` and `KEEP_SIZE`, as streams carry them.
const PUNCH_HOLE: u32 = 3;

/// What a call that failed came to, in the terms of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Errno(i32),
    NotRegular,
    NoFlags,
    Root,
    TooShort,
    Other,
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno.raw_os_error())
    }
}

impl From<Cause> for Outcome {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::System { error, .. } => Self::Errno(error.raw_os_error().unwrap_or(0)),
            Cause::NotRegularFile { .. } => Self::NotRegular,
            Cause::NoInodeFlags { .. } => Self::NoFlags,
            Cause::RootItself => Self::Root,
            Cause::SourceTooShort { .. } => Self::TooShort,
            // A symbolic link in the way.
            Cause::Escape { .. } => Errno::LOOP.into(),
            _ => Self::Other,
        }
    }
}

fn make_on_model(tree: &mut Tree, call: &Call) -> Result<(), Outcome> {
    let result = match call {
        Call::Create(path, kind, mode) => tree.create(path, kind, *mode),
        Call::Rename(path, to) => tree.rename(path, to),
        Call::Link(path, existing) => tree.link(path, existing),
        Call::Unlink(path) => tree.unlink(path),
        Call::Rmdir(path) => tree.rmdir(path),
        Call::SetXattr(path, name, value) => tree.set_xattr(path, name, value),
        Call::RemoveXattr(path, name) => tree.remove_xattr(path, name),
        Call::Write(path, offset, data) => tree.write(path, *offset, data),
        Call::Truncate(path, size) => tree.truncate(path, *size),
        Call::Fallocate(path, mode, offset, len) => tree.fallocate(path, *mode, *offset, *len),
        Call::CopyRange(path, offset, from, from_offset, len) => tree
            .clone_range(path, *offset, None, from, *from_offset, *len)
            .map(drop),
        Call::Chown(path, uid, gid) => tree.chown(path, *uid, *gid),
        Call::Chmod(path, mode) => tree.chmod(path, *mode),
        Call::SetAttributes(path, attributes) => tree.set_attributes(path, *attributes),
        Call::SetTimes(path, time) => tree.set_times(path, *time, Some(*time)),
        Call::ResetTimes => {
            let paths: Vec<StreamPath> = tree.entries().map(|entry| entry.path).collect();
            for path in paths {
                tree.set_times(&path, Timespec::default(), Some(Timespec::default()))
                    .unwrap();
            }
            Ok(())
        }
    };
    result.map_err(Outcome::from)
}

/// What differs between the model and what is on disk.
fn differences(model: &Tree, disk: &Path) -> Vec<String> {
    let found = btrfs_testkit::Tree::read(disk);
    let mut lines = Vec::new();
    let mut first_names = BTreeMap::new();
    let mut names = 0;
    for entry in model.entries() {
        names += 1;
        let path = entry.path.as_bytes();
        let first = first_names.entry(entry.number).or_insert(path.to_vec());
        let Some(on_disk) = found.get(path) else {
            lines.push(format!("{:?}: not on disk", entry.path));
            continue;
        };
        let (ours, theirs) = (of_model(entry.inode, first), of_disk(on_disk));
        for ((field, ours), (_, theirs)) in ours.iter().zip(&theirs) {
            if ours != theirs {
                lines.push(format!(
                    "{:?}: {field} is {ours}, on disk {theirs}",
                    entry.path
                ));
            }
        }
        let (ours, theirs) = (entry.inode.mtime(), on_disk.mtime.seconds);
        if ours.seconds.min(theirs) < MOVED && ours.seconds != theirs {
            lines.push(format!(
                "{:?}: mtime {}, on disk {theirs}",
                entry.path, ours.seconds
            ));
        }
        if let Some(content) = entry.inode.content() {
            let mut expected = vec![0; usize::try_from(content.size()).unwrap()];
            content.read_at(0, &mut expected);
            let content = std::fs::read(disk.join(OsStr::from_bytes(path))).unwrap();
            if content != expected {
                lines.push(format!("{:?}: content differs", entry.path));
            }
        }
    }
    if names != found.entries.len() {
        lines.push(format!("{names} names, on disk {}", found.entries.len()));
    }
    lines
}

type Fields = Vec<(&'static str, String)>;

fn of_model(inode: &Inode, first_name: &[u8]) -> Fields {
    let (size, rdev) = match inode.kind() {
        Kind::File(content) => (content.size(), 0),
        Kind::Symlink(target) => (target.len() as u64, 0),
        Kind::CharacterDevice(number) | Kind::BlockDevice(number) => (0, u64::from(*number)),
        _ => (0, 0),
    };
    // Other kinds of inode inherit flags too, but nothing shows them.
    let shown = matches!(inode.kind(), Kind::File(_) | Kind::Directory(_));
    let flags = FLAGS
        .iter()
        .filter(|(bit, _)| shown && inode.attributes() & bit != 0);
    let is_directory = matches!(inode.kind(), Kind::Directory(_));
    let links = if is_directory {
        1
    } else {
        inode.links().into()
    };
    let xattrs: BTreeMap<_, _> = inode
        .xattrs()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    fields(
        inode.kind().name(),
        (inode.mode(), inode.uid(), inode.gid()),
        (if is_directory { 0 } else { size }, rdev, links),
        (&xattrs, flags.fold(0, |all, (_, flag)| all | flag)),
        first_name,
    )
}

fn of_disk(entry: &btrfs_testkit::Entry) -> Fields {
    let kind = match entry.kind {
        btrfs_testkit::Kind::File => "regular file",
        btrfs_testkit::Kind::Directory => "directory",
        btrfs_testkit::Kind::Symlink => "symbolic link",
        btrfs_testkit::Kind::Fifo => "FIFO",
        btrfs_testkit::Kind::Socket => "socket",
        btrfs_testkit::Kind::CharDevice => "character device",
        btrfs_testkit::Kind::BlockDevice => "block device",
        btrfs_testkit::Kind::Subvolume => "subvolume",
    };
    let size = if kind == "directory" { 0 } else { entry.size };
    fields(
        kind,
        (entry.mode, entry.uid, entry.gid),
        (size, entry.rdev, entry.links),
        (&entry.xattrs, entry.flags),
        &entry.first_link,
    )
}

fn fields(
    kind: &str,
    (mode, uid, gid): (u32, u32, u32),
    (size, rdev, links): (u64, u64, u64),
    (xattrs, flags): (&BTreeMap<Vec<u8>, Vec<u8>>, u32),
    first_name: &[u8],
) -> Fields {
    vec![
        ("kind", kind.to_owned()),
        ("mode", format!("{mode:04o}")),
        ("owner", format!("{uid}:{gid}")),
        ("size", size.to_string()),
        ("device number", format!("{rdev:#x}")),
        ("links", links.to_string()),
        ("xattrs", format!("{xattrs:02x?}")),
        ("flags", format!("{flags:#x}")),
        ("first name", first_name.escape_ascii().to_string()),
    ]
}

fn the_model_does_what_the_kernel_does() {
    let filesystem = LoopFilesystem::new();
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(200),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let number = Cell::new(0);
    let calls = prop::collection::vec(call(), 1..80);
    let result = runner.run(&calls, |calls| {
        number.set(number.get() + 1);
        let path = filesystem.path().join(number.get().to_string());
        subvolume::create(&path);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let outcome = run(&calls, &path);
        subvolume::delete(&path);
        outcome
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn run(calls: &[Call], path: &Path) -> Result<(), TestCaseError> {
    let kernel = Kernel::new(path);
    let mut tree = Tree::new(1 << 26);
    let mut allocated = false;
    for call in calls {
        // What was allocated is no hole to the kernel, but to the model it
        // is: whether punching changes anything, they see differently.
        if let Call::Fallocate(_, mode, ..) = call {
            if *mode == PUNCH_HOLE && allocated {
                continue;
            }
            allocated |= *mode != PUNCH_HOLE;
        }
        let (ours, theirs) = (make_on_model(&mut tree, call), kernel.make(call));
        prop_assert_eq!(ours, theirs, "{:?}", call);
    }
    let differences = differences(&tree, path);
    prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::empty());
    btrfs_testkit::main([btrfs_testkit::test!(the_model_does_what_the_kernel_does)])
}
