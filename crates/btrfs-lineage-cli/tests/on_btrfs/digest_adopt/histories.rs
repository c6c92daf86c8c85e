//! Whatever happened to a subvolume: what is received has the digest of what
//! was sent.

use std::path::{Path, PathBuf};

use btrfs_testkit::history::{Features, Live, Mode, histories, play};
use btrfs_testkit::{LoopFilesystem, Sender, Test, property_runner, subvolume, test};
use proptest::test_runner::TestCaseError;

use super::support::{document, document_with, receive};

/// Without the environment saying otherwise (`PROPTEST_CASES`).
const CASES: u32 = 10;

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(received_equals_sent)]
}

fn received_equals_sent() {
    let features = Features::default();
    let new = || LoopFilesystem::builder().size(4 << 30).build();
    let (from, to) = (new(), new());
    property_runner(CASES)
        .run(&histories(&features), |history| {
            let mut live = Live::new(from.path());
            play(&history, &features, &mut live);
            let outcome = [Mode::V1, Mode::V2, Mode::Compressed]
                .into_iter()
                .try_for_each(|mode| sent_and_received(live.snapshots(), mode, to.path()));
            for snapshot in live.snapshots() {
                subvolume::delete(snapshot);
            }
            subvolume::delete(live.work());
            outcome.map_err(TestCaseError::fail)
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

fn sent_and_received(snapshots: &[PathBuf], mode: Mode, directory: &Path) -> Result<(), String> {
    let mut received = Vec::new();
    let mut outcome = Ok(());
    let mut parent: Option<&PathBuf> = None;
    for snapshot in snapshots {
        let mut sender = mode.apply(Sender::new(snapshot));
        if let Some(parent) = parent {
            sender = sender.parent(parent);
        }
        parent = Some(snapshot);
        let path = directory.join(snapshot.file_name().unwrap());
        outcome = receive(&sender.to_vec(), directory);
        if outcome.is_ok() {
            received.push(path.clone());
            outcome = same(snapshot, &path).map_err(|why| format!("{mode:?}: {why}"));
        }
        if outcome.is_err() {
            break;
        }
    }
    for path in received {
        subvolume::delete(&path);
    }
    outcome
}

fn same(sent: &Path, received: &Path) -> Result<(), String> {
    let (expected, found) = (document(sent), document(received));
    if expected.sha256 == found.sha256 {
        return Ok(());
    }
    let tree = |path| {
        document_with(path, |options| options.tree = true)
            .tree
            .unwrap()
    };
    let list = btrfs_lineage::digest::differences(&tree(sent), &tree(received), 20);
    let lines: Vec<_> = list.iter().map(ToString::to_string).collect();
    Err(lines.join("\n"))
}
