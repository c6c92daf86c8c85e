//! Resumable receives under every kind of interruption.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use btrfs_sendstream::{Item, Reader};
use btrfs_testkit::{
    LoopFilesystem, Sample, Sender, Test, assert_same_tree, files, subvolume, test,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::power_cut::{cut_while_receiving, inner, some_of};
use crate::support::{COMMAND, Places, noise, run, seed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(interrupted_at_random_points).needs_version(2),
        test!(after_a_power_cut),
        test!(after_the_filesystem_was_full),
        test!(status_and_abandon),
    ]
}

pub(crate) const FOLDER: &str = "btrfs-recv-rs.unfinished";

/// Two snapshots, and their streams in one input.
struct Sent {
    from: LoopFilesystem,
    stream: Vec<u8>,
}

impl Sent {
    /// The sample, with compressed data, clones, hundreds of small files and
    /// directories that change places.
    fn new() -> Self {
        let from = LoopFilesystem::builder()
            .mount_options("compress-force=zstd")
            .build();
        let work = subvolume::create(&from.path().join("work"));
        Sample::default().build(&work);
        for directory in 0..8 {
            let path = work.join(format!("dir {directory}"));
            fs::create_dir(&path).unwrap();
            for number in 0..40 {
                let content = noise(directory * 100 + number, 20 + number as usize * 90);
                fs::write(path.join(format!("small {number}")), content).unwrap();
            }
            let text = format!("text {directory} ").repeat(20_000);
            fs::write(path.join("text"), text).unwrap();
            fs::write(path.join("large"), noise(directory, 300_000)).unwrap();
            files::reflink(&path.join("large"), &path.join("copy")).unwrap();
        }
        let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
        Sample::default().change(&work);
        for directory in (0..8).step_by(2) {
            let path = |number| work.join(format!("dir {number}"));
            files::exchange(&path(directory), &path(directory + 1)).unwrap();
            fs::rename(
                path(directory).join("copy"),
                path(directory + 1).join("moved"),
            )
            .unwrap();
            files::write(&path(directory).join("large"), 8192, &noise(99, 50_000)).unwrap();
            for number in 0..40 {
                let small = path(directory).join(format!("small {number}"));
                match number % 4 {
                    0 => fs::remove_file(small).unwrap(),
                    1 => fs::write(small, noise(number, 5000)).unwrap(),
                    2 => {
                        fs::rename(&small, path(directory + 1).join(format!("x {number}"))).unwrap()
                    }
                    _ => {}
                }
            }
            files::reflink(
                &path(directory + 1).join("text"),
                &path(directory).join("another"),
            )
            .unwrap();
        }
        let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
        let sender = |snapshot: &Path| Sender::new(snapshot).version(2).compressed();
        let mut stream = sender(&first).to_vec();
        stream.extend(sender(&second).parent(&first).to_vec());
        assert_mixed(&stream);
        Self { from, stream }
    }

    /// Both subvolumes are there as they were sent, and nothing else is.
    fn check(&self, directory: &Path) {
        let (first, second) = (directory.join("first"), directory.join("second"));
        for (path, name) in [(&first, "first"), (&second, "second")] {
            let sent = self.from.path().join(name);
            let facts = subvolume::facts(path);
            assert!(facts.read_only);
            assert_eq!(facts.received_uuid, Some(subvolume::facts(&sent).uuid));
            assert_same_tree(&sent, path);
        }
        assert_eq!(subvolume::facts(&first).parent_uuid, None);
        let parent = subvolume::facts(&second).parent_uuid;
        assert_eq!(parent, Some(subvolume::facts(&first).uuid));
        assert_eq!(fs::read_dir(directory).unwrap().count(), 2);
    }
}

/// The stream has everything that a receive may be interrupted in.
fn assert_mixed(stream: &[u8]) {
    let mut counts = BTreeMap::new();
    let mut reader = Reader::new(stream);
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Command(command) = item {
            *counts.entry(command.kind().name()).or_insert(0) += 1;
        }
    }
    for (kind, least) in [
        ("mkfile", 300),
        ("mkdir", 8),
        ("write", 300),
        ("encoded_write", 10),
        ("clone", 8),
        ("link", 20),
        ("unlink", 20),
        ("rename", 20),
        ("truncate", 10),
        ("set_xattr", 5),
        ("chmod", 300),
        ("utimes", 300),
    ] {
        let count = counts.get(kind).copied().unwrap_or(0);
        assert!(count >= least, "{kind}: {count} in {counts:?}");
    }
}

/// The command with checkpoints as often as that.
fn command(directory: &Path, every: &str, options: &[&str]) -> Command {
    // Signals that are ignored when the command starts stay ignored.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=HUP,INT,TERM", COMMAND])
        .args(["--resumable", "--checkpoint-every", every])
        .args(options)
        .arg(directory);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Cut or killed at `RESUME_POINTS` places, 100 unless that is set; each
/// receive is interrupted up to three times before it may end.
fn interrupted_at_random_points() {
    let sent = Sent::new();
    let points = std::env::var("RESUME_POINTS").map_or(100, |points| points.parse().unwrap());
    let mut places = Places(seed());
    let to = LoopFilesystem::new();
    let (mut done, mut receives, mut resumed) = (0, 0, 0);
    while done < points {
        let options: &[&str] = if places.below(2) == 0 {
            &["--atomic"]
        } else {
            &[]
        };
        for _ in 0..=places.below(3) {
            let place = places.below(sent.stream.len());
            let how = places.below(4);
            eprintln!(
                "{done}: {place} of {}, {how}, {options:?}",
                sent.stream.len()
            );
            interrupt(
                &mut command(to.path(), "300K", options),
                &sent.stream,
                place,
                how,
            );
            done += 1;
        }
        let output = run(&mut command(to.path(), "300K", options), &sent.stream);
        assert!(output.status.success(), "{}", text(&output));
        resumed += usize::from(text(&output).contains("resuming "));
        receives += 1;
        sent.check(to.path());
        for name in ["second", "first"] {
            subvolume::delete(&to.path().join(name));
        }
    }
    eprintln!("{resumed} of {receives} receives that were completed went on from a checkpoint");
    assert!(resumed * 2 > receives);
}

/// Writes the stream up to a place, and ends the receiver there: by the end of
/// its input, or by a signal.
fn interrupt(command: &mut Command, stream: &[u8], place: usize, how: usize) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Nothing reads what comes after the end.
    let _ = stdin.write_all(&stream[..place]);
    let signal = [
        None,
        Some(Signal::TERM),
        Some(Signal::KILL),
        Some(Signal::KILL),
    ][how];
    if let Some(signal) = signal {
        kill_process(Pid::from_child(&child), signal).unwrap();
    }
    drop(stdin);
    assert!(!child.wait().unwrap().success());
}

/// The disk as it is at moments during a receive: each copy of it goes on.
fn after_a_power_cut() {
    const MOST_CHECKED: usize = 12;
    let sent = Sent::new();
    let outer = LoopFilesystem::builder().size(3 << 30).build();
    let to = inner(&outer);
    let atomic = &mut command(to.path(), "300K", &["--atomic"]);
    let copies = cut_while_receiving(atomic, &sent.stream, to, &outer);
    let (mut resumed, mut checked) = (0, 0);
    for copy in some_of(&copies, MOST_CHECKED) {
        checked += 1;
        let to = LoopFilesystem::builder().existing_image(copy).build();
        let output = run(&mut command(to.path(), "300K", &["--atomic"]), &sent.stream);
        assert!(output.status.success(), "{}", text(&output));
        resumed += usize::from(text(&output).contains("resuming "));
        sent.check(to.path());
    }
    eprintln!("{resumed} of {checked} went on from a checkpoint");
}

/// No space left; then there is some.
fn after_the_filesystem_was_full() {
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    for number in 0..60 {
        let content = noise(number + 1, 1_000_000);
        fs::write(work.join(format!("file {number}")), content).unwrap();
    }
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snap"));
    let stream = Sender::new(&snapshot).to_vec();
    let to = LoopFilesystem::builder().size(300 << 20).build();
    let ballast = to.path().join("ballast");
    fs::write(&ballast, vec![1; 100]).unwrap();
    let mut file = fs::File::options().append(true).open(&ballast).unwrap();
    let mut left = rustix::fs::statvfs(to.path()).unwrap();
    let mut round = 0;
    while left.f_bavail * left.f_bsize > 40 << 20 {
        round += 1;
        file.write_all(&noise(round, 4 << 20)).unwrap();
        to.sync();
        left = rustix::fs::statvfs(to.path()).unwrap();
    }
    let output = run(&mut command(to.path(), "5M", &[]), &stream);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("No space left on device"),
        "{}",
        text(&output)
    );
    assert!(
        text(&output).contains("resume from byte"),
        "{}",
        text(&output)
    );
    fs::remove_file(&ballast).unwrap();
    drop(file);
    to.sync();
    // What was given to data is free for metadata only after this, or when
    // the kernel comes round to it.
    let balance = ["balance", "start", "-dusage=10"];
    let balanced = Command::new("btrfs").args(balance).arg(to.path()).output();
    assert!(balanced.unwrap().status.success());
    let output = run(&mut command(to.path(), "5M", &[]), &stream);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("resuming snap"), "{}", text(&output));
    assert_same_tree(&snapshot, &to.path().join("snap"));
    assert!(!to.path().join(FOLDER).exists());
}

/// What is unfinished is shown with the command that resumes it, and is gone
/// when it is abandoned; what people made stays unless it is named.
fn status_and_abandon() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    subvolume::create(&to.path().join("mine"));
    subvolume::create(&to.path().join("--mine"));
    interrupt(
        &mut command(to.path(), "300K", &["--atomic"]),
        &sent.stream,
        700_000,
        0,
    );
    let ask = |arguments: &[&str]| {
        let output = Command::new(COMMAND).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text)
    };
    let directory = to.path().to_str().unwrap();
    let (success, text) = ask(&["--status", directory]);
    assert!(success);
    for part in [
        format!("{directory}/first: unfinished (full), started "),
        "built as: first.receiving\n".to_owned(),
        format!("--resumable --checkpoint-every 300K --atomic {directory}\n"),
        format!("btrfs-recv-rs --abandon {directory} first\n"),
        format!("btrfs-recv-rs --abandon {directory} mine\n"),
        format!("btrfs-recv-rs --abandon -- {directory} --mine\n"),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    let (success, text) = ask(&["--abandon", directory]);
    assert!(success);
    assert_eq!(text, format!("removed {directory}/first\n"));
    let names: Vec<_> = fs::read_dir(to.path()).unwrap().flatten().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(ask(&["--abandon", "--", directory, "--mine"]).0);
    // The state is damaged: what it belonged to goes as well.
    interrupt(
        &mut command(to.path(), "300K", &[]),
        &sent.stream,
        700_000,
        0,
    );
    fs::write(to.path().join(FOLDER).join("first/journal"), b"").unwrap();
    assert!(ask(&["--abandon", directory, "first"]).0);
    assert!(!to.path().join("first").exists());
    assert!(!ask(&["--abandon", directory, "nothing"]).0);
    assert!(ask(&["--abandon", directory, "mine"]).0);
    let nothing = format!("no unfinished receives in {directory}\n");
    assert_eq!(ask(&["--status", directory]), (true, nothing));
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}
