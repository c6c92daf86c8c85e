//! The model in memory against the kernel: random sequences of calls are
//! made on both, must end alike each time, and must leave the same tree.

mod kernel;

use std::cell::Cell;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use btrfs_model::Tree;
use btrfs_receive::Cause;
use btrfs_sendstream::{StreamPath, Timespec};
use btrfs_testkit::{LoopFilesystem, Test, property_runner, subvolume, test};
use proptest::prelude::*;
use rustix::io::Errno;

use crate::call::{Call, call};
use crate::compare::differences;
use kernel::Kernel;

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

fn the_model_does_what_the_kernel_does() {
    let filesystem = LoopFilesystem::new();
    let mut runner = property_runner(200);
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

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(the_model_does_what_the_kernel_does)]
}
