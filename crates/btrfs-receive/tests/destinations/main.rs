//! The same operations on every destination: random sequences are applied to
//! btrfs and to the model, must end alike each time, and must leave the same
//! subvolume.

#[path = "../memory_model/call.rs"]
mod call;
#[path = "../memory_model/compare.rs"]
mod compare;

use std::cell::Cell;
use std::process::ExitCode;

use btrfs_receive::memory::{Inode, Kind, MemoryDestination, Tree};
use btrfs_receive::{BtrfsDestination, Destination, NewSubvolume, Op, Step};
use btrfs_sendstream::{Bytes, CloneRange, Position, StreamPath, SubvolumeName};
use btrfs_testkit::{LoopFilesystem, subvolume};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use call::{Call, call};
use compare::differences;

const STREAM: Uuid = Uuid::from_u128(0x5eed);
/// `BTRFS_INODE_NODATACOW`.
const NODATACOW: u64 = 1 << 1;

const AT: Position = Position {
    stream: 1,
    command: 1,
    offset: 0,
};

fn path(text: &'static str) -> StreamPath {
    StreamPath::parse(Bytes::from_static(text.as_bytes())).unwrap()
}

/// The operation that does what a call does; `None` for what the root gets
/// at the end only, and what no operation stands for.
fn operation(call: Call, fused: bool) -> Option<Op> {
    Some(match call {
        Call::SetXattr(path, ..)
        | Call::SetAttributes(path, _)
        | Call::Chmod(path, _)
        | Call::Chown(path, ..)
        | Call::SetTimes(path, _)
            if path.is_root() =>
        {
            return None;
        }
        Call::ResetTimes => return None,
        Call::Create(to, kind, mode) => Op::Create {
            path: to,
            created_as: fused.then(|| path("o300-7-0")),
            kind,
            mode: Some(mode & 0o777),
        },
        Call::Rename(path, to) => Op::Rename { path, to },
        Call::Link(path, existing) => Op::Link { path, existing },
        Call::Unlink(path) => Op::Unlink { path },
        Call::Rmdir(path) => Op::Rmdir { path },
        Call::SetXattr(path, name, data) => Op::SetXattr {
            path,
            name: Bytes::from_static(name),
            data,
        },
        Call::RemoveXattr(path, name) => Op::RemoveXattr {
            path,
            name: Bytes::from_static(name),
        },
        Call::Write(path, offset, data) => {
            let (first, second) = data.split_at(data.len() / 2);
            let data = [first, second].map(Bytes::copy_from_slice).to_vec();
            Op::Write { path, offset, data }
        }
        Call::Truncate(path, size) => Op::Truncate { path, size },
        Call::Fallocate(path, mode, offset, len) => Op::Fallocate {
            path,
            mode,
            offset,
            len,
        },
        Call::CopyRange(path, offset, source_path, source_offset, len) => Op::Clone(CloneRange {
            path,
            offset,
            len,
            source_uuid: STREAM,
            source_ctransid: 7,
            source_path,
            source_offset,
        }),
        Call::Chown(path, uid, gid) => Op::Chown { path, uid, gid },
        Call::Chmod(path, mode) => Op::Chmod { path, mode },
        Call::SetAttributes(path, attributes) => Op::FileAttr { path, attributes },
        Call::SetTimes(path, time) => Op::Utimes {
            path,
            atime: time,
            mtime: Some(time),
        },
    })
}

/// Applies one operation; what it said if it failed, else nothing.
fn apply(destination: &mut impl Destination, op: &Op) -> String {
    let mut failures = Vec::new();
    failures.extend(destination.apply(Step::new(op.clone(), AT)).err());
    while let Err(failure) = destination.settle() {
        failures.push(failure);
    }
    failures.iter().map(|failure| failure.to_string()).collect()
}

/// Whether nothing stands at a path, but something could.
fn is_free(tree: &Tree, path: &StreamPath) -> bool {
    let parent = path.parent().map(|parent| parent.to_owned());
    let parent = parent.and_then(|parent| tree.get(&parent));
    tree.get(path).is_none() && matches!(parent.map(Inode::kind), Some(Kind::Directory(_)))
}

fn is_directory(tree: &Tree, path: &StreamPath) -> bool {
    matches!(tree.get(path).map(Inode::kind), Some(Kind::Directory(_)))
}

fn destinations_agree() {
    let filesystem = LoopFilesystem::new();
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(100),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let number = Cell::new(0);
    let calls = prop::collection::vec((call(), any::<bool>()), 1..60);
    let result = runner.run(&calls, |calls| {
        number.set(number.get() + 1);
        let name = format!("sub{}", number.get());
        let subvolume = SubvolumeName::parse(Bytes::from(name.clone())).unwrap();
        let new = NewSubvolume::new(subvolume, STREAM, 7, None);
        let mut model = MemoryDestination::new();
        let mut btrfs = BtrfsDestination::open(filesystem.path()).unwrap();
        model.begin(&new, AT).unwrap();
        btrfs.begin(&new, AT).unwrap();
        for (call, fused) in calls {
            // A fused creation that fails leaves the first name or not.
            let tree = model.subvolumes()[0].tree();
            let fused = fused && matches!(&call, Call::Create(path, ..) if is_free(tree, path));
            // btrfs fails where a NOCOW directory refuses compression; the
            // model counts it, as both do for files.
            let nocow_directory = matches!(&call, Call::SetAttributes(path, bits)
                if bits & NODATACOW != 0 && is_directory(tree, path));
            if nocow_directory {
                continue;
            }
            if let Some(op) = operation(call, fused) {
                let (ours, theirs) = (apply(&mut model, &op), apply(&mut btrfs, &op));
                let alike = ours.is_empty() == theirs.is_empty();
                prop_assert!(alike, "{op:?}: model {ours:?}, btrfs {theirs:?}");
            }
        }
        model.finish(AT).unwrap();
        btrfs.finish(AT).unwrap();
        let path = filesystem.path().join(name);
        let differences = differences(model.subvolumes()[0].tree(), &path);
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
        subvolume::delete(&path);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn main() -> ExitCode {
    btrfs_testkit::main([btrfs_testkit::test!(destinations_agree)])
}
