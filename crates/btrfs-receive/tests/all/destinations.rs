//! The same operations on every destination: random sequences are applied to
//! btrfs and to the model, must end alike each time, and must leave the same
//! subvolume.

use std::cell::Cell;

use btrfs_model::{Inode, Kind, MemoryDestination, Tree};
use btrfs_receive::{BtrfsDestination, Destination, NewSubvolume};
use btrfs_sendstream::{Bytes, StreamPath, SubvolumeName};
use btrfs_testkit::{LoopFilesystem, Test, property_runner, subvolume, test};
use proptest::prelude::*;

use crate::call::{Call, call};
use crate::compare::differences;
use crate::operation::{AT, STREAM, apply, is_free, operation};

/// `BTRFS_INODE_NODATACOW`.
const NODATACOW: u64 = 1 << 1;

fn is_directory(tree: &Tree, path: &StreamPath) -> bool {
    matches!(tree.get(path).map(Inode::kind), Some(Kind::Directory(_)))
}

fn destinations_agree() {
    let filesystem = LoopFilesystem::new();
    let mut runner = property_runner(100);
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

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(destinations_agree)]
}
