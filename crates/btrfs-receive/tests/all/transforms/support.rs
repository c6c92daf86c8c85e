//! What these tests share: streams through a transform, and into a directory.

use std::path::{Path, PathBuf};

use btrfs_receive::btrfs_sendstream::transform::{self, Transform, TransformError};
use btrfs_receive::btrfs_sendstream::{Command, Item, Reader, Writer};
use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::{Compared, LoopFilesystem, Sample, assert_same_tree_in, subvolume};

/// The output of a transform.
pub(crate) fn transformed(
    stream: &[u8],
    mut transform: impl Transform,
) -> Result<Vec<u8>, TransformError> {
    let mut writer = Writer::new(Vec::new());
    transform::run(&mut Reader::new(stream), &mut transform, &mut writer)?;
    Ok(writer.finish().unwrap())
}

/// Receives a stream into a directory, with every extent decoded to test it.
pub(crate) fn receive(stream: &[u8], directory: &Path) -> Result<(), String> {
    let destination = BtrfsDestination::builder().check_encoded(true);
    let destination = destination
        .open(directory)
        .map_err(|error| error.to_string())?;
    let outcome = Receiver::new(destination).receive(stream, &mut ());
    outcome.map(drop).map_err(|error| format!("{error:?}"))
}

/// The commands of a stream, END included.
pub(crate) fn commands(stream: &[u8]) -> Vec<Command> {
    let mut reader = Reader::new(stream);
    let items = std::iter::from_fn(|| reader.next_owned().unwrap());
    items
        .filter_map(|item| match item {
            Item::Command(command) => Some(command),
            _ => None,
        })
        .collect()
}

/// A sample tree and its change, as two snapshots.
pub(crate) fn sample(filesystem: &LoopFilesystem) -> (PathBuf, PathBuf) {
    let path = filesystem.path();
    let work = subvolume::create(&path.join("work"));
    Sample::default().build(&work);
    let first = subvolume::snapshot_read_only(&work, &path.join("first"));
    Sample::default().change(&work);
    let second = subvolume::snapshot_read_only(&work, &path.join("second"));
    (first, second)
}

/// Asserts that a received subvolume is like the one sent, and finished.
#[track_caller]
pub(crate) fn assert_received(sent: &Path, received: &Path) {
    let compared = Compared {
        atime: true,
        ..Compared::default()
    };
    assert_same_tree_in(sent, received, &compared);
    let (sent, received) = (subvolume::facts(sent), subvolume::facts(received));
    assert!(received.read_only);
    assert_eq!(received.received_uuid, Some(sent.uuid));
}
