//! Receives that are interrupted, and go on.

use std::fs;
use std::path::Path;

use btrfs_receive::resume::{ResumableReceiver, ResumeError, ResumeOptions, unfinished};
use btrfs_receive::{
    BtrfsDestination, Cause, Event, Observer, Options, Outcome, ReceiveError, Report,
};
use btrfs_testkit::{Sample, Sender, Test, files, subvolume, test};

use crate::support::{Pair, assert_received, sample};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(goes_on_after_a_cut, false),
        test!(goes_on_after_a_cut, true),
        test!(stopped_before_the_name_came_back),
        test!(another_stream_is_refused),
        test!(what_is_gone_is_built_again),
        test!(what_was_changed_is_noticed),
        test!(a_different_beginning_goes_back).needs_version(2),
        test!(data_is_compared_by_its_checksum),
        test!(an_earlier_end_is_a_difference),
        test!(only_one_receive_at_a_time),
        test!(two_receives_of_one_stream_at_once),
        test!(nothing_is_left_where_nothing_was_created),
        test!(an_empty_folder_goes_with_the_next_receive),
    ]
}

pub(crate) const FOLDER: &str = "btrfs-recv-rs.unfinished";

/// What happened, in words.
#[derive(Default)]
pub(crate) struct Log(Vec<String>);

impl Observer for Log {
    fn event(&mut self, event: Event<'_>) {
        self.0.push(match event {
            Event::Checkpoint { .. } => "checkpoint".into(),
            Event::Resumed { .. } => "resumed".into(),
            Event::SubvolumeCreated { .. } => "created".into(),
            Event::SubvolumePresent(_) => "present".into(),
            Event::SubvolumeFinished(_) => "finished".into(),
            _ => return,
        });
    }
}

impl Log {
    pub(crate) fn count(&self, word: &str) -> usize {
        self.0.iter().filter(|entry| *entry == word).count()
    }
}

pub(crate) fn receiver(directory: &Path, every: u64, atomic: bool) -> ResumableReceiver {
    let mut options = ResumeOptions::default();
    options.every_bytes = every;
    let destination = BtrfsDestination::builder().atomic(atomic).open(directory);
    ResumableReceiver::new(destination.unwrap(), Options::default(), options).unwrap()
}

pub(crate) fn receive(
    stream: &[u8],
    directory: &Path,
    every: u64,
    log: &mut Log,
) -> Result<Report, Box<ReceiveError>> {
    receiver(directory, every, false)
        .receive(stream, log)
        .map_err(Box::new)
}

/// The reason why a receive could not go on.
#[track_caller]
pub(crate) fn reason(result: Result<Report, Box<ReceiveError>>) -> ResumeError {
    let failure = result.unwrap_err().first_failure.unwrap();
    match *failure.cause {
        Cause::Resume(error) => *error,
        other => panic!("{other}"),
    }
}

/// The full and the incremental stream of the sample.
pub(crate) fn streams(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    let (first, second) = sample(&pair.from, Sample::default());
    let full = Sender::new(&first).version(2).to_vec();
    (
        full,
        Sender::new(&second).parent(&first).version(2).to_vec(),
    )
}

/// A receiver that was killed when the subvolume was complete, and before it
/// had its name again.
fn stopped_before_the_name_came_back() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let [whole, stopped] = ["whole", "stopped"].map(|name| pair.received(name));
    for directory in [&whole, &stopped] {
        fs::create_dir(directory).unwrap();
    }
    let mut log = Log::default();
    receive(&full, &whole, 20_000, &mut log).unwrap();
    let complete = subvolume::facts(&whole.join("first"));
    receive(&full[..full.len() / 2], &stopped, 20_000, &mut log).unwrap_err();
    let aside = stopped.join("first.receiving-0123456789abcdef");
    fs::rename(stopped.join("first"), &aside).unwrap();
    let uuid = complete.received_uuid.unwrap();
    subvolume::stamp(&aside, &uuid, complete.send_transid);
    subvolume::set_read_only(&aside, true);
    let report = receive(&full, &stopped, 20_000, &mut log).unwrap();
    assert_eq!(report.subvolumes[0].outcome, Outcome::AlreadyComplete);
    let names = fs::read_dir(stopped).unwrap().flatten();
    let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["first"]);
}

/// Cut at many places, one receive after the other, each of which comes
/// further.
fn goes_on_after_a_cut(atomic: bool) {
    let pair = Pair::new();
    let (full, incremental) = streams(&pair);
    let mut log = Log::default();
    let steps = 10;
    for (name, stream) in [("first", &full), ("second", &incremental)] {
        for step in 1..steps {
            let cut = &stream[..stream.len() * step / steps];
            let error = receiver(pair.to.path(), 20_000, atomic).receive(cut, &mut log);
            let error = error.unwrap_err();
            assert_eq!(error.report.failures, 0, "{error}");
            assert!(error.report.subvolumes[0].checkpoint.is_some());
            let suffix = if atomic { ".receiving" } else { "" };
            damage(&pair.received(&format!("{name}{suffix}")), step);
        }
        let report = receiver(pair.to.path(), 20_000, atomic).receive(&stream[..], &mut log);
        let report = report.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(report.finished, 1);
        assert!(report.subvolumes[0].resumed_at.is_some());
        assert_received(&pair.from.path().join(name), &pair.received(name));
    }
    assert_eq!((log.count("resumed"), log.count("created")), (18, 2));
    let (first, second) = (pair.received("first"), pair.received("second"));
    assert_eq!(subvolume::facts(&first).parent_uuid, None);
    let parent = subvolume::facts(&second).parent_uuid;
    assert_eq!(parent, Some(subvolume::facts(&first).uuid));
    assert!(!pair.received(FOLDER).exists());
    let both = [full, incremental].concat();
    let again = receive(&both, pair.to.path(), 200_000, &mut log).unwrap();
    assert_eq!(again.subvolumes[1].outcome, Outcome::AlreadyComplete);
    assert_eq!(log.count("present"), 2);
}

/// Does what a receiver may have done after its last checkpoint, and worse.
fn damage(half_built: &Path, step: usize) {
    use rustix::fs::IFlags;

    fs::write(half_built.join("after the checkpoint"), b"x").unwrap();
    for entry in fs::read_dir(half_built)
        .unwrap()
        .flatten()
        .skip(step % 3)
        .take(step)
    {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            let _ = fs::remove_dir_all(path);
        } else if path.is_file() && step.is_multiple_of(2) {
            let _ = fs::write(&path, b"something else");
            let _ = files::change_flags(&path, IFlags::IMMUTABLE, IFlags::empty());
        } else {
            let _ = fs::remove_file(path);
        }
    }
}

fn another_stream_is_refused() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let mut log = Log::default();
    receive(&full[..full.len() / 2], pair.to.path(), 100_000, &mut log).unwrap_err();
    let state = pair.received(FOLDER).join("first/journal");
    let before = fs::read(&state).unwrap();
    // Another subvolume of the same name.
    subvolume::delete(&pair.from.path().join("first"));
    let other = pair.snapshot("first");
    let other = Sender::new(&other).version(2).to_vec();
    let refused = reason(receive(&other, pair.to.path(), 100_000, &mut log));
    assert!(
        matches!(refused, ResumeError::OtherStream { .. }),
        "{refused}"
    );
    assert_eq!(fs::read(&state).unwrap(), before);
    // A later version's state is refused, and left alone too.
    let later = String::from_utf8(before.clone()).unwrap();
    let later = later.replacen(r#""format":2"#, r#""format":9"#, 1);
    fs::write(&state, later).unwrap();
    let refused = reason(receive(&full, pair.to.path(), 100_000, &mut log));
    assert!(
        matches!(refused, ResumeError::Newer { format: 9, .. }),
        "{refused}"
    );
    fs::write(&state, before).unwrap();
    receive(&full, pair.to.path(), 100_000, &mut log).unwrap();
}

fn what_is_gone_is_built_again() {
    let pair = Pair::new();
    let (full, incremental) = streams(&pair);
    let mut log = Log::default();
    for (name, stream) in [("first", full), ("second", incremental)] {
        receive(
            &stream[..stream.len() / 2],
            pair.to.path(),
            50_000,
            &mut log,
        )
        .unwrap_err();
        let resumed = log.count("resumed");
        // The half-built subvolume: from the checkpoint, which has everything.
        subvolume::delete(&pair.received(name));
        receive(
            &stream[..stream.len() * 2 / 3],
            pair.to.path(),
            50_000,
            &mut log,
        )
        .unwrap_err();
        assert_eq!(log.count("resumed"), resumed + 1);
        // The newest checkpoint: from the one before.
        let folder = pair.received(FOLDER).join(name);
        let kept = unfinished(pair.to.path(), None)
            .unwrap()
            .remove(0)
            .progress
            .unwrap();
        assert!(kept.checkpoints > 1);
        let newest = fs::read_dir(&folder).unwrap().flatten();
        let newest = newest.filter(|entry| entry.file_type().unwrap().is_dir());
        let number = |path: &Path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.rsplit('-').next().unwrap().parse::<u64>().unwrap()
        };
        let newest = newest
            .map(|entry| entry.path())
            .max_by_key(|path| number(path));
        subvolume::delete(&newest.unwrap());
        receive(&stream, pair.to.path(), 50_000, &mut log).unwrap();
        assert_eq!(log.count("resumed"), resumed + 2);
        assert_received(&pair.from.path().join(name), &pair.received(name));
    }
}

fn what_was_changed_is_noticed() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let mut log = Log::default();
    let half = &full[..full.len() / 2];
    receive(half, pair.to.path(), u64::MAX, &mut log).unwrap_err();
    let working = pair.received("first");
    subvolume::set_read_only(&working, true);
    let refused = reason(receive(&full, pair.to.path(), u64::MAX, &mut log));
    assert!(matches!(refused, ResumeError::Changed { .. }), "{refused}");
    subvolume::set_read_only(&working, false);
    // Replaced by a stranger's.
    fs::rename(&working, pair.received("moved")).unwrap();
    subvolume::create(&working);
    let refused = reason(receive(&full, pair.to.path(), u64::MAX, &mut log));
    assert!(matches!(refused, ResumeError::Changed { .. }), "{refused}");
    subvolume::delete(&working);
    fs::rename(pair.received("moved"), &working).unwrap();
    // The only checkpoint was written to: starts over.
    let checkpoint = pair.received(FOLDER).join("first/checkpoint-1");
    subvolume::set_read_only(&checkpoint, false);
    fs::write(checkpoint.join("x"), b"x").unwrap();
    files::sync(&checkpoint.join("x")).unwrap();
    subvolume::set_read_only(&checkpoint, true);
    receive(&full, pair.to.path(), u64::MAX, &mut log).unwrap();
    assert_eq!((log.count("created"), log.count("resumed")), (2, 0));
    assert_received(&pair.from.path().join("first"), &working);
}

/// The same subvolume, whose stream differs in the middle: version 1 instead
/// of 2 differs from the first inode with times.
fn a_different_beginning_goes_back() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let other = Sender::new(&pair.from.path().join("first")).to_vec();
    let mut log = Log::default();
    let half = &full[..full.len() / 2];
    receive(half, pair.to.path(), 50_000, &mut log).unwrap_err();
    let differs = reason(receive(&other, pair.to.path(), 50_000, &mut log));
    assert!(
        matches!(differs, ResumeError::Differs { from: None, .. }),
        "{differs}"
    );
    receive(half, pair.to.path(), 50_000, &mut log).unwrap_err();
    assert_eq!(log.count("resumed"), 0);
    // From a file it takes one run.
    let file = std::io::Cursor::new(&other);
    receiver(pair.to.path(), 50_000, false)
        .receive_file(file, &mut log)
        .unwrap();
    assert_received(&pair.from.path().join("first"), &pair.received("first"));
    assert!(!pair.received(FOLDER).exists());
}

/// File data differs, and the checksum of its command does not.
fn data_is_compared_by_its_checksum() {
    // The polynomial of CRC-32C: where it is added, the checksum stays.
    let same_checksum = (1 | 0x82f6_3b78_u64 << 1).to_le_bytes();
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    // Behind the first KiB of a command in the first quarter.
    let (mut at, mut forged) = (17, full.clone());
    let place = loop {
        let len = u32::from_le_bytes(full[at..at + 4].try_into().unwrap()) as usize;
        if len > 4000 {
            break at + 3000;
        }
        at += 10 + len;
    };
    assert!(place < full.len() / 4);
    for (byte, change) in forged[place..].iter_mut().zip(same_checksum) {
        *byte ^= change;
    }
    let mut log = Log::default();
    let half = &forged[..full.len() / 2];
    receive(half, pair.to.path(), 50_000, &mut log).unwrap_err();
    let report = receive(&full, pair.to.path(), 50_000, &mut log).unwrap();
    assert!(report.subvolumes[0].resumed_at.is_some());
}

fn an_earlier_end_is_a_difference() {
    use btrfs_receive::btrfs_sendstream::{CommandRef, Item, Reader, Version, Writer};

    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let mut log = Log::default();
    receive(&full[..full.len() / 2], pair.to.path(), u64::MAX, &mut log).unwrap_err();
    let mut reader = Reader::new(&full[..]);
    let mut short = Writer::new(Vec::new());
    short.header(Version::V2).unwrap();
    for _ in 0..2 {
        if let Some(Item::Command(command)) = reader.next_item().unwrap() {
            short.command(&command).unwrap();
        }
    }
    short.command(&CommandRef::End).unwrap();
    let short = short.finish().unwrap();
    let differs = reason(receive(&short, pair.to.path(), u64::MAX, &mut log));
    assert!(
        matches!(differs, ResumeError::Differs { from: None, .. }),
        "{differs}"
    );
}

fn only_one_receive_at_a_time() {
    struct Second<'a>(&'a Path, &'a [u8], bool);
    impl Observer for Second<'_> {
        fn event(&mut self, event: Event<'_>) {
            if let Event::SubvolumeCreated { .. } = event {
                let mut log = Log::default();
                let locked = reason(receive(self.1, self.0, u64::MAX, &mut log));
                let mine = std::process::id();
                assert!(matches!(locked, ResumeError::Locked { pid: Some(pid) } if pid == mine));
                self.2 = true;
            }
        }
    }
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let mut second = Second(pair.to.path(), &full, false);
    let mut first = receiver(pair.to.path(), u64::MAX, false);
    first.receive(&full[..], &mut second).unwrap();
    assert!(second.2);
    assert!(!pair.received(FOLDER).exists());
}

/// Each either does it, or finds the other at work, or finds it done.
fn two_receives_of_one_stream_at_once() {
    let pair = Pair::new();
    let (full, incremental) = streams(&pair);
    let both = [full, incremental].concat();
    let receive = || receive(&both, pair.to.path(), 20_000, &mut Log::default());
    let results = std::thread::scope(|scope| {
        let receives = [(); 3].map(|()| scope.spawn(receive));
        receives.map(|it| it.join().unwrap())
    });
    assert!(results.iter().any(Result::is_ok));
    for result in results.into_iter().filter(Result::is_err) {
        let locked = reason(result);
        assert!(matches!(locked, ResumeError::Locked { .. }), "{locked}");
    }
    for name in ["first", "second"] {
        assert_received(&pair.from.path().join(name), &pair.received(name));
    }
    assert!(!pair.received(FOLDER).exists());
}

/// Killed when the subvolume was complete, and all but this was removed.
fn an_empty_folder_goes_with_the_next_receive() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let mut log = Log::default();
    receive(&full, pair.to.path(), u64::MAX, &mut log).unwrap();
    for inside in ["", "first"] {
        fs::create_dir_all(pair.received(FOLDER).join(inside)).unwrap();
        receive(&full, pair.to.path(), u64::MAX, &mut log).unwrap();
        assert!(!pair.received(FOLDER).exists(), "{inside}");
    }
    assert_eq!(log.count("present"), 2);
}

fn nothing_is_left_where_nothing_was_created() {
    let pair = Pair::new();
    let (full, incremental) = streams(&pair);
    let mut log = Log::default();
    // Its parent is not there.
    receive(&incremental, pair.to.path(), u64::MAX, &mut log).unwrap_err();
    assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 0);
    fs::create_dir(pair.received("first")).unwrap();
    receive(&full, pair.to.path(), u64::MAX, &mut log).unwrap_err();
    assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 1);
}
