//! The same operations on a directory and on the model: random sequences
//! must end alike each time, and must leave the same tree, also when the
//! tree is then copied as a parent.

use std::cell::Cell;

use btrfs_model::MemoryDestination;
use btrfs_receive::{Destination, DirectoryDestination, NewSubvolume, SourceId};
use btrfs_sendstream::{Bytes, SubvolumeName};
use btrfs_testkit::{LoopFilesystem, Test, property_runner, test};
use proptest::prelude::*;
use uuid::Uuid;

use crate::call::{Call, call};
use crate::compare::differences;
use crate::operation::{AT, STREAM, apply, is_free, operation};

fn new(name: &str, uuid: Uuid, parent: Option<SourceId>) -> NewSubvolume {
    let name = SubvolumeName::parse(Bytes::from(name.to_owned())).unwrap();
    NewSubvolume::new(name, uuid, 7, parent)
}

fn directory_and_model_agree() {
    let filesystem = LoopFilesystem::new();
    let number = Cell::new(0);
    let calls = prop::collection::vec((call(), any::<bool>()), 1..60);
    let result = property_runner(100).run(&calls, |calls| {
        number.set(number.get() + 1);
        let into = filesystem.path().join(number.get().to_string());
        std::fs::create_dir(&into).unwrap();
        let mut model = MemoryDestination::new();
        let mut directory = DirectoryDestination::open(&into).unwrap();
        model.begin(&new("s", STREAM, None), AT).unwrap();
        directory.begin(&new("s", STREAM, None), AT).unwrap();
        for (call, fused) in calls {
            // Flags are left out.
            if matches!(call, Call::SetAttributes(..)) {
                continue;
            }
            // A fused creation that fails leaves the first name or not.
            let tree = model.subvolumes()[0].tree();
            let fused = fused && matches!(&call, Call::Create(path, ..) if is_free(tree, path));
            let attribute = matches!(call, Call::SetXattr(..) | Call::RemoveXattr(..));
            if let Some(op) = operation(call, fused) {
                let ours = apply(&mut model, &op);
                if attribute && !ours.is_empty() {
                    // Refused by the kernel too, and left out.
                    continue;
                }
                let theirs = apply(&mut directory, &op);
                let alike = ours.is_empty() == theirs.is_empty();
                prop_assert!(alike, "{op:?}: model {ours:?}, directory {theirs:?}");
            }
        }
        model.finish(AT).unwrap();
        directory.finish(AT).unwrap();
        let tree = model.subvolumes()[0].tree();
        let found = differences(tree, &into.join("s"));
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
        let parent = SourceId {
            uuid: STREAM,
            ctransid: 7,
        };
        let copy = new("copy", Uuid::from_u128(1), Some(parent));
        directory.begin(&copy, AT).unwrap();
        directory.finish(AT).unwrap();
        let found: Vec<_> = differences(tree, &into.join("copy"));
        // What the root gets at the end is the caller's to apply.
        let found: Vec<_> = found.iter().filter(|l| !l.starts_with("\"\"")).collect();
        prop_assert!(found.is_empty(), "copy: {found:#?}");
        std::fs::remove_dir_all(&into).unwrap();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(directory_and_model_agree)]
}
