//! Writable sources that were marked as received: what Incus continues from.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use btrfs_receive::dry_run::{DryRun, FoundSource};
use btrfs_receive::{BtrfsDestination, Event, Observer, Receiver, Report};
use btrfs_sendstream::Uuid;
use btrfs_testkit::{LoopFilesystem, Test, files, subvolume, test};

use crate::sources::{Change, directory, no_source, receive, try_receive};
use crate::support::Script;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        // Linux 5.10 sends data where later kernels send clones.
        test!(a_parent_is_received_made_writable_and_marked_again).needs_version(2),
        // Linux 5.10 sends data where later kernels send clones.
        test!(access_times_are_a_change).needs_version(2),
        test!(what_fsync_wrote_before_a_power_cut_is_a_change),
        test!(a_change_after_the_parent_was_looked_at_is_noticed),
        test!(a_read_only_parent_comes_first),
        test!(a_plain_uuid_is_not_enough),
        test!(the_last_resort_can_be_refused),
        test!(a_clone_source_that_is_writable),
        test!(a_clone_source_that_changes_meanwhile),
    ]
}

/// What Incus does: it receives, makes the subvolume writable, by which it
/// loses its received UUID, gives it another name, and marks it as received
/// again.
fn refreshed(change: &Change) -> PathBuf {
    receive(&change.full(), change.to());
    let received = change.to().join("first");
    subvolume::set_read_only(&received, false);
    assert_eq!(subvolume::facts(&received).received_uuid, None);
    let volume = directory(&change.to().join("custom")).join("volume");
    std::fs::rename(&received, &volume).unwrap();
    subvolume::stamp(&volume, &subvolume::facts(&change.first).uuid, 0);
    let facts = subvolume::facts(&volume);
    assert!(
        !facts.read_only && facts.received_uuid.is_some(),
        "{facts:?}"
    );
    volume
}

#[track_caller]
fn assert_parent(report: &Report, at: &Path, may_have_changed: bool) {
    let used = report.subvolumes[0].parent.as_ref().unwrap();
    assert_eq!(used.subvolume_id, subvolume::facts(at).id);
    assert!(used.writable && !used.unverified, "{used:?}");
    assert_eq!(used.may_have_changed, may_have_changed);
}

fn a_parent_is_received_made_writable_and_marked_again() {
    let change = Change::new();
    let volume = refreshed(&change);
    let into = directory(&change.to().join("into"));
    let report = change.assert_arrives(&into);
    assert_parent(&report, &volume, false);
    // Its file was cloned, and it is the source of that as well.
    let [cloned] = &report.subvolumes[0].clone_sources[..] else {
        panic!("{report:?}");
    };
    assert_eq!(Some(cloned), report.subvolumes[0].parent.as_ref());
    // Taking a snapshot of it changed nothing that counts.
    let again = directory(&change.to().join("again"));
    assert_parent(&change.assert_arrives(&again), &volume, false);
}

fn access_times_are_a_change() {
    let change = Change::new();
    let volume = refreshed(&change);
    let file = File::open(volume.join("directory/data")).unwrap();
    let now = FileTimes::new().set_accessed(SystemTime::now());
    file.set_times(now).unwrap();
    let into = directory(&change.to().join("into"));
    let report = change.assert_arrives(&into);
    assert_parent(&report, &volume, true);
    assert!(report.subvolumes[0].clone_sources[0].may_have_changed);
}

/// The kernel brings it back when it mounts, and leaves the transaction id of
/// the subvolume as it was.
fn what_fsync_wrote_before_a_power_cut_is_a_change() {
    let change = Change::new();
    let volume = refreshed(&change);
    let file = File::options()
        .write(true)
        .open(volume.join("directory/data"));
    let file = file.unwrap();
    file.write_all_at(b"changed", 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let scratch = tempfile::tempdir_in(btrfs_testkit::scratch_dir()).unwrap();
    let image = scratch.path().join("image");
    std::fs::copy(change.pair.to.image(), &image).unwrap();
    let stream = change.difference();
    let Change { pair, .. } = change;
    // The copy has the same UUID, and cannot be mounted beside it.
    drop(pair.to);
    let after = LoopFilesystem::builder().existing_image(&image).build();
    let volume = after.path().join("custom/volume");
    let data = std::fs::read(volume.join("directory/data")).unwrap();
    assert!(data.starts_with(b"changed"));
    let report = receive(&stream, after.path());
    assert_parent(&report, &volume, true);
}

/// The data is in memory only, and nothing of it shows, until the kernel
/// writes it back to take the snapshot.
fn a_change_after_the_parent_was_looked_at_is_noticed() {
    let change = Change::new();
    let volume = refreshed(&change);
    let file = File::options()
        .write(true)
        .open(volume.join("directory/data"));
    file.unwrap().write_all_at(b"changed", 0).unwrap();
    let stream = Script::change_of(&volume, "second").file("new").end();
    let report = crate::support::receive(&stream, change.to());
    assert_parent(&report, &volume, true);
    // What was written before is in the snapshot.
    let data = std::fs::read(change.to().join("second/directory/data")).unwrap();
    assert!(data.starts_with(b"changed"));
}

fn a_read_only_parent_comes_first() {
    let change = Change::new();
    refreshed(&change);
    // Received later, and known by another state of the sender's.
    receive(&change.full(), change.to());
    let first = change.to().join("first");
    let copy = subvolume::snapshot_read_only(&first, &change.to().join("copy"));
    subvolume::delete(&first);
    let into = directory(&change.to().join("into"));
    let report = change.assert_arrives(&into);
    let used = report.subvolumes[0].parent.as_ref().unwrap();
    assert_eq!(used.subvolume_id, subvolume::facts(&copy).id);
    assert!(!used.writable && !used.may_have_changed, "{used:?}");
}

/// The subvolume itself, which was not received: not even if it is marked as
/// received from another one.
fn a_plain_uuid_is_not_enough() {
    let change = Change::new();
    let stream = change.difference();
    subvolume::set_read_only(&change.first, false);
    subvolume::stamp(&change.first, &Uuid::from_u128(5).to_string(), 0);
    let into = directory(&change.pair.from.path().join("into"));
    let error = try_receive(&stream, &into).unwrap_err();
    let message = no_source(&error);
    assert!(message.contains("writable"), "{message}");
    assert!(!into.join("second").exists());
}

fn the_last_resort_can_be_refused() {
    let change = Change::new();
    let volume = refreshed(&change);
    let stream = change.difference();
    let destination = BtrfsDestination::builder()
        .refuse_writable_sources(true)
        .open(change.to())
        .unwrap();
    let error = Receiver::new(destination)
        .receive(&stream[..], &mut ())
        .unwrap_err();
    let message = no_source(&error);
    assert!(
        message.contains("it is writable, so it may have changed"),
        "{message}"
    );
    assert!(!change.to().join("second").exists());
    let dry_run = |refuse: bool| {
        let builder = DryRun::builder().refuse_writable_sources(refuse);
        builder.open(change.to()).unwrap().run(&stream[..])
    };
    let forecast = dry_run(true);
    let problem = forecast.failures[0].cause.to_string();
    assert_eq!(problem, error.first_failure.unwrap().cause.to_string());
    let forecast = dry_run(false);
    let Some(FoundSource::There(used)) = &forecast.forecasts[0].parent else {
        panic!("{forecast:?}");
    };
    assert_eq!(used.subvolume_id, subvolume::facts(&volume).id);
    assert!(used.writable && !used.may_have_changed, "{used:?}");
}

/// A writable subvolume with a file, marked as received, and a stream that
/// clones from it.
fn clone_source(to: &LoopFilesystem) -> (PathBuf, Vec<u8>, Vec<u8>) {
    let data = files::pattern(3, 65_536, false);
    let source = subvolume::create(&to.path().join("source"));
    std::fs::write(source.join("file"), &data).unwrap();
    to.sync();
    let wanted = Uuid::from_u128(77);
    subvolume::stamp(&source, &wanted.to_string(), 5);
    let stream = Script::full("clone")
        .file("a")
        .clone_from((wanted, 5), "file", "a", (0, 0, 65_536))
        .end();
    (source, data, stream)
}

fn a_clone_source_that_is_writable() {
    let to = LoopFilesystem::new();
    let (source, data, stream) = clone_source(&to);
    let report = receive(&stream, to.path());
    let [used] = &report.subvolumes[0].clone_sources[..] else {
        panic!("{report:?}");
    };
    assert_eq!(used.subvolume_id, subvolume::facts(&source).id);
    assert!(used.writable && !used.may_have_changed, "{used:?}");
    assert_eq!(std::fs::read(to.path().join("clone/a")).unwrap(), data);
}

/// Changes a file when the subvolume has been created.
struct Meddler(PathBuf);

impl Observer for Meddler {
    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::SubvolumeCreated { .. }) {
            let file = File::options().write(true).open(&self.0).unwrap();
            file.write_all_at(b"changed", 0).unwrap();
        }
    }
}

fn a_clone_source_that_changes_meanwhile() {
    let to = LoopFilesystem::new();
    let (source, _, stream) = clone_source(&to);
    let forecast = DryRun::open(to.path()).unwrap().run(&stream[..]);
    let FoundSource::There(used) = &forecast.forecasts[0].clone_sources[0] else {
        panic!("{forecast:?}");
    };
    assert!(used.writable && !used.may_have_changed, "{used:?}");
    let destination = BtrfsDestination::open(to.path()).unwrap();
    let report = Receiver::new(destination)
        .receive(&stream[..], &mut Meddler(source.join("file")))
        .unwrap();
    let used = &report.subvolumes[0].clone_sources[0];
    assert!(used.writable && used.may_have_changed, "{used:?}");
}
