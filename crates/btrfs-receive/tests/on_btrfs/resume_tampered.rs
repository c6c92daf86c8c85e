//! Receives that go on after somebody touched what was left, or found its
//! place taken.

use std::fs;
use std::path::Path;
use std::process::Command;

use btrfs_receive::resume::{
    ResumableReceiver, ResumeError, ResumeOptions, abandon, delete_leftover, leftovers, unfinished,
};
use btrfs_receive::{BtrfsDestination, Cause, Event, Observer, Options};
use btrfs_testkit::{Compared, Sender, Test, assert_same_tree_in, files, subvolume, test};
use rustix::fs::{CWD, FileType, IFlags, Mode, mknodat};

use crate::resume::{FOLDER, Log, reason, receive, receiver, streams};
use crate::support::{Pair, assert_received};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(what_was_put_on_the_root_is_not_handed_down),
        test!(what_was_put_on_directories_is_not_handed_down),
        test!(ends_that_were_cut_off_come_back),
        test!(a_subvolume_put_inside_is_noticed),
        test!(only_names_are_abandoned),
        test!(a_name_taken_while_comparing_is_left_alone),
        test!(a_stranger_is_not_taken_for_what_was_just_created),
        test!(other_files_in_the_state_do_not_hang),
        test!(a_folder_that_was_received_is_refused),
        test!(a_checkpoint_that_is_changed_while_comparing_is_not_used),
        test!(snapshots_that_nothing_names_go_away),
        test!(abandoning_can_be_interrupted),
        test!(what_is_being_received_is_no_leftover),
        test!(a_change_of_names_can_be_interrupted),
        test!(mounted_with_other_options),
    ]
}

/// Receives the first half of the full stream, with checkpoints; gives back
/// the stream.
fn half(pair: &Pair) -> Vec<u8> {
    let (full, _) = streams(pair);
    let mut log = Log::default();
    receive(&full[..full.len() / 2], pair.to.path(), 50_000, &mut log).unwrap_err();
    full
}

/// Goes on, and compares.
#[track_caller]
fn goes_on(pair: &Pair, stream: &[u8]) {
    let mut log = Log::default();
    receive(stream, pair.to.path(), 50_000, &mut log).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(log.count("resumed"), 1);
    assert_received(&pair.from.path().join("first"), &pair.received("first"));
    assert!(!pair.received(FOLDER).exists());
}

/// What is made again in the root inherits nothing from it.
fn what_was_put_on_the_root_is_not_handed_down() {
    let pair = Pair::new();
    let full = half(&pair);
    let root = pair.received("first");
    for entry in fs::read_dir(&root).unwrap().flatten() {
        let path = entry.path();
        let _ = match entry.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
    }
    files::set_xattr(&root, "system.posix_acl_default", &files::acl(77, 7)).unwrap();
    files::set_xattr(&root, "btrfs.compression", b"zstd").unwrap();
    files::set_mode(&root, 0o2777).unwrap();
    files::change_flags(&root, IFlags::IMMUTABLE, IFlags::empty()).unwrap();
    goes_on(&pair, &full);
}

/// The same for directories that stay.
fn what_was_put_on_directories_is_not_handed_down() {
    let pair = Pair::new();
    let full = half(&pair);
    let mut changed = 0;
    let mut directories = vec![pair.received("first")];
    while let Some(directory) = directories.pop() {
        let entries: Vec<_> = fs::read_dir(&directory).unwrap().flatten().collect();
        for entry in entries {
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => _ = fs::remove_file(entry.path()),
            }
        }
        files::set_xattr(&directory, "system.posix_acl_default", &files::acl(77, 7)).unwrap();
        files::set_xattr(&directory, "btrfs.compression", b"lzo").unwrap();
        files::set_mode(&directory, 0o2777).unwrap();
        let _ = files::change_flags(&directory, IFlags::APPEND, IFlags::empty());
        changed += 1;
    }
    assert!(changed > 1);
    goes_on(&pair, &full);
}

/// Within its last block the end of a file is cut off without a change to any
/// extent, and zero when the file grows again.
fn ends_that_were_cut_off_come_back() {
    let pair = Pair::new();
    let work = subvolume::create(&pair.from.path().join("work"));
    for (name, len) in [("a", 3000), ("b", 20_000), ("c", 100), ("z", 900_000)] {
        let data: Vec<u8> = (0..len).map(|at| (at % 251) as u8 + 1).collect();
        fs::write(work.join(name), data).unwrap();
    }
    let first = subvolume::snapshot_read_only(&work, &pair.from.path().join("first"));
    let stream = Sender::new(&first).version(2).to_vec();
    let mut log = Log::default();
    receive(
        &stream[..stream.len() / 2],
        pair.to.path(),
        50_000,
        &mut log,
    )
    .unwrap_err();
    for (name, len) in [("a", 100), ("b", 19_999), ("c", 99)] {
        let path = pair.received("first").join(name);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(len).unwrap();
    }
    goes_on(&pair, &stream);
}

/// A path would have whatever it leads to deleted.
fn only_names_are_abandoned() {
    let pair = Pair::new();
    half(&pair);
    let precious = pair.received("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), b"x").unwrap();
    let path = precious.as_os_str().as_encoded_bytes();
    for name in [path, b"..", b".", b"../precious", b"first/..", b""] {
        let abandoned = abandon(pair.to.path(), None, name);
        assert!(!abandoned.unwrap(), "{}", name.escape_ascii());
    }
    assert_eq!(fs::read(precious.join("file")).unwrap(), b"x");
    assert!(abandon(pair.to.path(), None, b"first").unwrap());
    assert!(!pair.received("first").exists());
}

/// It would stay there, in a result that is said to hold what was sent.
fn a_subvolume_put_inside_is_noticed() {
    let pair = Pair::new();
    let full = half(&pair);
    let inside = pair.received("first").join("inside");
    subvolume::create(&inside);
    let mut log = Log::default();
    let refused = reason(receive(&full, pair.to.path(), 50_000, &mut log));
    assert!(matches!(refused, ResumeError::Changed { .. }), "{refused}");
    assert!(inside.exists());
    subvolume::delete(&inside);
    goes_on(&pair, &full);
}

/// The half-built subvolume was deleted, and another made while the beginning
/// of the stream was compared.
fn a_name_taken_while_comparing_is_left_alone() {
    struct Taking<'a>(&'a Path);
    impl Observer for Taking<'_> {
        fn event(&mut self, event: Event<'_>) {
            if let Event::Comparing { .. } = event {
                fs::write(subvolume::create(self.0).join("mine"), b"x").unwrap();
            }
        }
    }
    let pair = Pair::new();
    let full = half(&pair);
    let name = pair.received("first");
    subvolume::delete(&name);
    let failed = receiver(pair.to.path(), 50_000, false).receive(&full[..], &mut Taking(&name));
    let failure = failed.unwrap_err().first_failure.unwrap();
    assert!(
        matches!(*failure.cause, Cause::NameTaken { .. }),
        "{failure}"
    );
    assert_eq!(fs::read(name.join("mine")).unwrap(), b"x");
    let mut log = Log::default();
    let refused = reason(receive(&full, pair.to.path(), 50_000, &mut log));
    assert!(matches!(refused, ResumeError::Changed { .. }), "{refused}");
    assert_eq!(fs::read(name.join("mine")).unwrap(), b"x");
    subvolume::delete(&name);
    goes_on(&pair, &full);
}

/// Stopped before the subvolume was created; somebody else creates one.
fn a_stranger_is_not_taken_for_what_was_just_created() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    struct Copy<'a>(&'a Path, Vec<u8>);
    impl Observer for Copy<'_> {
        fn event(&mut self, event: Event<'_>) {
            if let Event::SubvolumeCreated { .. } = event {
                self.1 = fs::read(self.0).unwrap();
            }
        }
    }
    let state = pair.received(FOLDER).join("first/journal");
    let mut copy = Copy(&state, Vec::new());
    let cut = &full[..full.len() / 2];
    let mut first = receiver(pair.to.path(), u64::MAX, false);
    first.receive(cut, &mut copy).unwrap_err();
    let name = pair.received("first");
    subvolume::delete(&name);
    subvolume::delete(&state.with_file_name("checkpoint-1"));
    fs::write(&state, copy.1).unwrap();
    fs::write(subvolume::create(&name).join("mine"), b"x").unwrap();
    let mut log = Log::default();
    let refused = reason(receive(&full, pair.to.path(), u64::MAX, &mut log));
    assert!(matches!(refused, ResumeError::Changed { .. }), "{refused}");
    assert_eq!(fs::read(name.join("mine")).unwrap(), b"x");
    // Empty, it is what the receive had just created.
    fs::remove_file(name.join("mine")).unwrap();
    receive(&full, pair.to.path(), u64::MAX, &mut log).unwrap();
    assert_received(&pair.from.path().join("first"), &name);
}

/// Pipes, links and directories where the state's files are.
fn other_files_in_the_state_do_not_hang() {
    let pair = Pair::new();
    let full = half(&pair);
    let folder = pair.received(FOLDER).join("first");
    let elsewhere = pair.received("elsewhere");
    fs::write(&elsewhere, b"x").unwrap();
    let mut log = Log::default();
    for name in ["journal", "journal.new", "lock"] {
        let path = folder.join(name);
        let old = fs::read(&path).ok();
        for kind in 0..3 {
            let _ = fs::remove_file(&path);
            match kind {
                0 => mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
                1 => std::os::unix::fs::symlink(&elsewhere, &path).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            let cut = &full[..200];
            receive(cut, pair.to.path(), 50_000, &mut log).unwrap_err();
            unfinished(pair.to.path(), None).unwrap();
            assert_eq!(fs::read(&elsewhere).unwrap(), b"x", "{name}");
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&path);
        }
        if let Some(old) = old {
            fs::write(&path, old).unwrap();
        }
    }
    fs::remove_file(&elsewhere).unwrap();
    goes_on(&pair, &full);
}

/// A subvolume of that name came from a stream, and so may what is in it; or
/// something else is there.
fn a_folder_that_was_received_is_refused() {
    let pair = Pair::new();
    let folder = pair.received(FOLDER);
    let refuse = |expected| {
        let directory = pair.to.path();
        let destination = BtrfsDestination::open(directory).unwrap();
        let options = ResumeOptions::default();
        let refused = ResumableReceiver::new(destination, Options::default(), options);
        let mut refusals = vec![refused.unwrap_err()];
        refusals.extend(unfinished(directory, None).err());
        refusals.extend(leftovers(directory, None).err());
        refusals.extend(abandon(directory, None, b"first").err());
        assert_eq!(refusals.len(), 4);
        for refused in refusals {
            let is_expected = matches!(
                refused,
                ResumeError::FolderTaken { what, ref path } if what == expected && *path == folder
            );
            assert!(is_expected, "{refused}");
        }
    };
    subvolume::create(&folder);
    fs::create_dir(folder.join("first")).unwrap();
    fs::write(folder.join("first/state"), "").unwrap();
    refuse("a subvolume");
    assert_eq!(fs::read_dir(folder.join("first")).unwrap().count(), 1);
    subvolume::delete(&folder);
    fs::write(&folder, "").unwrap();
    refuse("no directory");
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    files::set_mode(&folder, 0o777).unwrap();
    refuse("a directory that other users can write to");
    files::set_mode(&folder, 0o755).unwrap();
    std::os::unix::fs::chown(&folder, Some(1000), None).unwrap();
    refuse("a directory of another user");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

/// It was compared with what it was, then something else took its place.
fn a_checkpoint_that_is_changed_while_comparing_is_not_used() {
    struct Changing<'a>(&'a Path, &'a dyn Fn(&Path));
    impl Observer for Changing<'_> {
        fn event(&mut self, event: Event<'_>) {
            if let Event::Comparing { .. } = event {
                self.1(self.0);
            }
        }
    }
    let pair = Pair::new();
    let full = half(&pair);
    let folder = pair.received(FOLDER).join("first");
    let newest = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let numbers = names.filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok());
        let newest: u64 = numbers.max().unwrap();
        folder.join(format!("checkpoint-{newest}"))
    };
    let written = |folder: &Path| {
        let checkpoint = newest(folder);
        subvolume::set_read_only(&checkpoint, false);
        fs::write(checkpoint.join("x"), b"x").unwrap();
        files::sync(&checkpoint.join("x")).unwrap();
        subvolume::set_read_only(&checkpoint, true);
    };
    let exchanged = |folder: &Path| {
        let checkpoint = newest(folder);
        subvolume::delete(&checkpoint);
        subvolume::snapshot_read_only(&pair.received("first"), &checkpoint);
    };
    let changes: [&dyn Fn(&Path); 2] = [&written, &exchanged];
    for change in changes {
        let mut changing = Changing(&folder, change);
        let failed = receiver(pair.to.path(), u64::MAX, false).receive(&full[..], &mut changing);
        let refused = reason(failed.map_err(Box::new));
        assert!(
            matches!(refused, ResumeError::CheckpointChanged { .. }),
            "{refused}"
        );
    }
    goes_on(&pair, &full);
}

/// Left by receives that were killed before they could delete them.
fn snapshots_that_nothing_names_go_away() {
    let pair = Pair::new();
    let full = half(&pair);
    let folder = pair.received(FOLDER).join("first");
    for name in ["checkpoint-77", "rollback-base"] {
        subvolume::snapshot_read_only(&pair.received("first"), &folder.join(name));
    }
    let mut log = Log::default();
    let cut = &full[..full.len() * 2 / 3];
    receive(cut, pair.to.path(), u64::MAX, &mut log).unwrap_err();
    assert!(!folder.join("checkpoint-77").exists());
    assert!(!folder.join("rollback-base").exists());
    goes_on(&pair, &full);
}

/// What is left of a state is still found, and can be removed.
fn abandoning_can_be_interrupted() {
    let pair = Pair::new();
    half(&pair);
    let state = pair.received(FOLDER).join("first/journal");
    fs::remove_file(state).unwrap();
    let found = unfinished(pair.to.path(), None).unwrap();
    assert_eq!(found.len(), 1);
    assert!(abandon(pair.to.path(), None, b"first").unwrap());
    assert!(!pair.received(FOLDER).exists());
    // Whose it was is not known any more.
    assert!(pair.received("first").exists());
}

fn what_is_being_received_is_no_leftover() {
    struct Look<'a>(&'a Path, u32);
    impl Observer for Look<'_> {
        fn event(&mut self, event: Event<'_>) {
            if let Event::Progress { .. } | Event::Checkpoint { .. } = event {
                assert_eq!(leftovers(self.0, None).unwrap(), []);
                let built = b"first.receiving";
                assert!(!delete_leftover(self.0, None, built).unwrap());
                self.1 += 1;
            }
        }
    }
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let mut look = Look(pair.to.path(), 0);
    let mut receiver = receiver(pair.to.path(), 50_000, true);
    receiver.receive(&full[..], &mut look).unwrap();
    assert!(look.1 > 0);
}

/// Renamed for `--atomic`, and stopped before that was written down.
fn a_change_of_names_can_be_interrupted() {
    let pair = Pair::new();
    let full = half(&pair);
    fs::rename(pair.received("first"), pair.received("first.receiving")).unwrap();
    let mut log = Log::default();
    let mut receiver = receiver(pair.to.path(), 50_000, true);
    receiver.receive(&full[..], &mut log).unwrap();
    assert_eq!((log.count("resumed"), log.count("created")), (1, 0));
    assert_received(&pair.from.path().join("first"), &pair.received("first"));
    assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 1);
}

/// A file without checksums does not share data with one that has some.
fn mounted_with_other_options() {
    let mount = |pair: &Pair, option: &str| {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{option}")])
            .arg(pair.to.path())
            .status();
        assert!(status.unwrap().success());
    };
    // Files without checksums do not take that attribute.
    let compared = Compared {
        without_xattrs: vec![b"btrfs.compression".to_vec()],
        ..Compared::default()
    };
    for (first, second) in [
        ("datasum", "nodatasum"),
        ("nodatasum", "datasum"),
        ("datacow", "nodatacow"),
        ("nodatacow", "datacow"),
        ("compress=no", "compress-force=zstd"),
        ("compress-force=zstd", "compress=no"),
    ] {
        let pair = Pair::new();
        mount(&pair, first);
        let full = half(&pair);
        let received = pair.received("first");
        for entry in fs::read_dir(&received).unwrap().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        mount(&pair, second);
        let mut log = Log::default();
        receive(&full, pair.to.path(), 50_000, &mut log).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(log.count("resumed"), 1);
        assert_same_tree_in(&pair.from.path().join("first"), &received, &compared);
    }
}
