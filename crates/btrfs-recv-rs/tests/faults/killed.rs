//! Signals at any moment, and names that are refused.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use btrfs_testkit::{LoopFilesystem, SentSample, Test, Tree, subvolume, test};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{COMMAND, check, check_after_a_cut, clear, run, seed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_signal_at_any_moment),
        test!(a_refused_name_concerns_nobody_else),
    ]
}

/// Part of the stream is written before the signal, the rest after it, so
/// that the receiver is at work or waits for input when it arrives.
fn a_signal_at_any_moment() {
    let sent = SentSample::new();
    let to = LoopFilesystem::new();
    let mut place = seed();
    let command = std::fs::canonicalize(COMMAND).unwrap();
    for round in 0..24 {
        let signal = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP][round % 4];
        place = place
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (before, after) = sent
            .stream
            .split_at((place >> 20) as usize % sent.stream.len());
        // A signal that was ignored when the command starts stays ignored:
        // SIGHUP is under nohup, SIGINT in the background of a script.
        let mut child = Command::new("env")
            .args(["--default-signal=HUP,INT,TERM", COMMAND])
            .arg(to.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(before).unwrap();
        // Until `env` has made way for the command.
        let program = format!("/proc/{}/exe", child.id());
        while std::fs::read_link(&program).is_ok_and(|it| it != command) {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let _ = stdin.write_all(after);
        drop(stdin);

        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status:?}");
        if signal == Signal::KILL {
            check_after_a_cut(to.path(), sent.from.path());
        } else {
            assert!(check(to.path(), sent.from.path()) < 2);
        }
        clear(to.path());
    }
}

/// Nothing of a stream whose name is taken reaches the subvolume that has
/// it; the next stream of the input is received all the same.
fn a_refused_name_concerns_nobody_else() {
    let sent = SentSample::new();
    let to = LoopFilesystem::new();
    let taken = subvolume::create(&to.path().join("taken"));
    std::fs::write(taken.join("file"), b"mine").unwrap();
    let work = subvolume::create(&sent.from.path().join("other"));
    std::fs::write(work.join("file"), b"not mine").unwrap();
    let path = sent.from.path().join("taken");
    let refused = subvolume::snapshot_read_only(&work, &path);
    let mut input = btrfs_testkit::Sender::new(&refused).to_vec();
    input.extend(&sent.stream);
    let before = Tree::read(&taken);

    let output = run(Command::new(COMMAND).arg("-E0").arg(to.path()), &input);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let differences = btrfs_testkit::compare(&before, &Tree::read(&taken), &Default::default());
    assert!(differences.is_empty(), "{differences:?}");
    assert!(subvolume::facts(&taken).received_uuid.is_none());
    subvolume::delete(&taken);
    assert_eq!(check(to.path(), sent.from.path()), 2);
}
