//! Where the state of an unfinished receive lies, what it may say, and the
//! names that subvolumes can have.

use std::fs;
use std::path::Path;
use std::process::Command;

use btrfs_receive::btrfs_sendstream::SubvolumeName;
use btrfs_receive::resume::{ResumableReceiver, ResumeError, ResumeOptions, unfinished};
use btrfs_receive::{BtrfsDestination, Options, ReceiveError};
use btrfs_testkit::{LoopFilesystem, Test, assert_same_tree, corpus, subvolume, test};
use sha2::{Digest as _, Sha256};

use crate::resume::{FOLDER, Log, reason, receive, receiver, streams};
use crate::support::{Pair, assert_received, try_receive};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(another_filesystem_is_refused_at_once),
        test!(a_read_only_place_is_refused_at_once),
        test!(a_read_only_filesystem_shows_what_is_unfinished),
        test!(destinations_that_share_a_place),
        test!(long_and_strange_names, false),
        test!(long_and_strange_names, true),
        test!(no_value_of_a_journal_is_trusted),
        test!(with_quotas),
        test!(hostile_streams_get_the_same_answer, 1),
        test!(hostile_streams_get_the_same_answer, 1 << 20),
    ]
}

fn with_state_in(directory: &Path, state: &Path) -> Result<ResumableReceiver, ResumeError> {
    let mut options = ResumeOptions::default();
    options.every_bytes = 50_000;
    options.directory = Some(state.to_owned());
    let destination = BtrfsDestination::open(directory).unwrap();
    ResumableReceiver::new(destination, Options::default(), options)
}

/// And not when the first checkpoint is due.
fn another_filesystem_is_refused_at_once() {
    let pair = Pair::new();
    let other = LoopFilesystem::new();
    let plain = tempfile::tempdir().unwrap();
    for place in [other.path(), plain.path()] {
        let refused = with_state_in(pair.to.path(), place).unwrap_err();
        assert!(
            matches!(refused, ResumeError::OtherFilesystem { .. }),
            "{refused}"
        );
        assert_eq!(fs::read_dir(place).unwrap().count(), 0);
    }
}

fn a_read_only_place_is_refused_at_once() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let place = subvolume::create(&pair.received("place"));
    subvolume::set_read_only(&place, true);
    let mut receiver = with_state_in(pair.to.path(), &place).unwrap();
    let refused = reason(
        receiver
            .receive(&full[..], &mut Log::default())
            .map_err(Box::new),
    );
    assert!(refused.to_string().contains("Read-only"), "{refused}");
    assert!(!pair.received("first").exists());
}

/// As a filesystem is after an error: what is unfinished can still be seen.
fn a_read_only_filesystem_shows_what_is_unfinished() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let mut log = Log::default();
    receive(&full[..full.len() / 2], pair.to.path(), 50_000, &mut log).unwrap_err();
    let found = |directory: &Path| {
        let found = unfinished(directory, None).unwrap().remove(0);
        found.progress.unwrap().offset
    };
    let read_only = pair.to.mount("");
    let status = Command::new("mount")
        .args(["-o", "remount,ro,bind"])
        .arg(read_only.path())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(found(read_only.path()), found(pair.to.path()));
}

/// The same name in two directories: the second neither takes what belongs to
/// the first, nor changes it.
fn destinations_that_share_a_place() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let [a, b, place] = ["a", "b", "place"].map(|name| pair.received(name));
    for directory in [&a, &b, &place] {
        fs::create_dir(directory).unwrap();
    }
    let cut = &full[..full.len() / 2];
    let mut log = Log::default();
    let mut first = with_state_in(&a, &place).unwrap();
    first.receive(cut, &mut log).unwrap_err();
    let state = fs::read(place.join(FOLDER).join("first/journal")).unwrap();
    let mut second = with_state_in(&b, &place).unwrap();
    let refused = reason(second.receive(&full[..], &mut log).map_err(Box::new));
    assert!(
        matches!(refused, ResumeError::Elsewhere { .. }),
        "{refused}"
    );
    assert_eq!(fs::read_dir(&b).unwrap().count(), 0);
    let after = fs::read(place.join(FOLDER).join("first/journal")).unwrap();
    assert_eq!(state, after);
    with_state_in(&a, &place)
        .unwrap()
        .receive(&full[..], &mut log)
        .unwrap();
    assert_eq!(log.count("resumed"), 1);
    assert_same_tree(&pair.from.path().join("first"), &a.join("first"));
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

fn long_and_strange_names(atomic: bool) {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let long = "n".repeat(255);
    let names: [&[u8]; 5] = [
        long.as_bytes(),
        b"new\nline\n",
        b"\xff not text",
        b"journal",
        FOLDER.as_bytes(),
    ];
    for name in names {
        let mut options = Options::default();
        options.name = Some(SubvolumeName::parse(name.to_vec().into()).unwrap());
        let receive = |stream: &[u8], log: &mut Log| {
            let mut how = ResumeOptions::default();
            how.every_bytes = 50_000;
            let builder = BtrfsDestination::builder().atomic(atomic);
            let destination = builder.open(pair.to.path()).unwrap();
            ResumableReceiver::new(destination, options.clone(), how)
                .unwrap()
                .receive(stream, log)
        };
        let mut log = Log::default();
        receive(&full[..full.len() / 2], &mut log).unwrap_err();
        let received = pair.to.path().join(as_path(name));
        let result = receive(&full, &mut log);
        if name == FOLDER.as_bytes() {
            let refused = reason(result.map_err(Box::new));
            assert!(matches!(refused, ResumeError::Reserved), "{refused}");
            assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 0);
            continue;
        }
        result.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(log.count("resumed"), 1);
        assert_received(&pair.from.path().join("first"), &received);
        subvolume::delete(&received);
        assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 0);
    }
}

fn as_path(name: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;

    Path::new(std::ffi::OsStr::from_bytes(name))
}

/// Each number and each text replaced by others, with the checksum made good:
/// whatever it says, it can be listed, and nothing panics.
fn no_value_of_a_journal_is_trusted() {
    let pair = Pair::new();
    let (full, _) = streams(&pair);
    let mut log = Log::default();
    receive(&full[..full.len() / 2], pair.to.path(), 50_000, &mut log).unwrap_err();
    let path = pair.received(FOLDER).join("first/journal");
    let good = fs::read_to_string(&path).unwrap();
    let body = good.lines().nth(1).unwrap();
    let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut values = Vec::new();
    let mut rest = 0;
    while let Some(start) = body[rest..].find(is_inside).map(|at| rest + at) {
        let end = body[start..].find(|c| !is_inside(c));
        rest = end.map_or(body.len(), |end| start + end);
        values.push(start..rest);
    }
    for value in values {
        for other in [
            "0",
            "-1",
            "18446744073709551615",
            "99999999999999999999",
            "",
            "é",
            "[]",
        ] {
            let mut body = body.to_owned();
            body.replace_range(value.clone(), other);
            let hash = Sha256::digest(body.as_bytes());
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let journal = format!("{{\"format\":2,\"sha256\":\"{hash}\"}}\n{body}\n");
            fs::write(&path, journal).unwrap();
            unfinished(pair.to.path(), None).unwrap();
        }
    }
    fs::write(&path, good).unwrap();
    receive(&full, pair.to.path(), 50_000, &mut log).unwrap();
    assert_eq!(log.count("resumed"), 1);
}

fn with_quotas() {
    let pair = Pair::new();
    let quotas = Command::new("btrfs")
        .args(["quota", "enable"])
        .arg(pair.to.path())
        .status();
    assert!(quotas.unwrap().success());
    let (full, incremental) = streams(&pair);
    let mut log = Log::default();
    for (name, stream) in [("first", full), ("second", incremental)] {
        for part in 1..4 {
            let cut = &stream[..stream.len() * part / 4];
            receive(cut, pair.to.path(), 20_000, &mut log).unwrap_err();
        }
        receive(&stream, pair.to.path(), 20_000, &mut log).unwrap();
        assert_received(&pair.from.path().join(name), &pair.received(name));
    }
    assert_eq!(log.count("resumed"), 6);
}

/// A checkpoint after every command, or none: what is refused is refused
/// either way, and at the same place.
fn hostile_streams_get_the_same_answer(every: u64) {
    let to = LoopFilesystem::new();
    let plain = LoopFilesystem::new();
    // What is complete is passed over here, by the same stream as well.
    let others = |case: &corpus::Case| !case.name.starts_with("subvol-exists");
    for case in corpus::load().into_iter().filter(others) {
        let expected = try_receive(&case.bytes, plain.path());
        for length in [case.bytes.len() / 2, case.bytes.len()] {
            let mut log = Log::default();
            let result = receiver(to.path(), every, false).receive(&case.bytes[..length], &mut log);
            if length < case.bytes.len() {
                continue;
            }
            let (Err(error), Err(expected)) = (&result, &expected) else {
                assert_eq!(result.is_ok(), expected.is_ok(), "{}", case.name);
                continue;
            };
            // Not in the same words: what is searched for a source includes
            // checkpoints, and nothing is fused across one.
            let place = |error: &ReceiveError| match &error.first_failure {
                Some(failure) => failure.at.to_string(),
                None => error.to_string(),
            };
            assert_eq!(place(error), place(expected), "{}", case.name);
        }
        for one in unfinished(to.path(), None).unwrap() {
            use std::os::unix::ffi::OsStrExt;
            btrfs_receive::resume::abandon(to.path(), None, one.name.as_bytes()).unwrap();
        }
        for directory in [to.path(), plain.path()] {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    subvolume::delete(&entry.path());
                }
            }
        }
    }
}
