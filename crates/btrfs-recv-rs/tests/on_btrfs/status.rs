//! The exit status where more than the stream can go wrong, and `--status`.

use std::fs;
use std::process::Stdio;

use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};

use crate::support::{Sent, command, receive, run_with_input, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_lost_report_of_a_complete_receive),
        test!(a_small_stack_in_the_environment),
        test!(names_like_options_in_status),
        test!(names_of_ours_that_were_received),
        test!(another_subvolume_of_its_name_is_not_abandoned),
    ]
}

fn a_lost_report_of_a_complete_receive() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut receive = command(&["--json"]);
    let output = run_with_input(receive.arg(to.path()).stdout(full), &sent.full);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output).1;
    assert!(
        stderr.contains("ERROR: the receive is complete, but its report is not: "),
        "{stderr}"
    );
    let facts = subvolume::facts(&to.path().join("first"));
    assert!(facts.read_only && facts.received_uuid.is_some());
    // Nor is a status that nobody can read.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    subvolume::create(&to.path().join("left"));
    let mut status = command(&["--status"]);
    let output = status.arg(to.path()).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut status = command(&["--status"]);
    let output = status.arg(to.path()).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

/// Rust gives every thread what this variable says.
fn a_small_stack_in_the_environment() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    for (stream, options) in [
        (&sent.full, &["--progress"][..]),
        (&sent.incremental, &["--resumable"]),
    ] {
        let mut receive = command(options);
        receive.arg(to.path()).env("RUST_MIN_STACK", "1");
        let output = run_with_input(&mut receive, stream);
        assert!(output.status.success(), "{output:?}");
    }
}

fn names_like_options_in_status() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let directory = to.path().join("-d");
    fs::create_dir(&directory).unwrap();
    let output = receive(&sent.full, &["--name=x.receiving"], &directory);
    assert!(output.status.success(), "{output:?}");
    subvolume::create(&directory.join("-left"));
    let mut status = command(&["--status", "--", "-d"]);
    let output = status.current_dir(to.path()).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(stderr, "");
    assert!(
        stdout.contains("mv -nT -- -d/x.receiving -d/x\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains("btrfs-recv-rs --abandon -- -d -left\n"),
        "{stdout}"
    );
    // What is printed can be run.
    let line = stdout.lines().find_map(|line| line.split_once("mv -nT"));
    let script = format!("mv -nT{}", line.unwrap().1);
    let mut shell = std::process::Command::new("sh");
    let shell = shell.args(["-c", &script]).current_dir(to.path());
    assert!(shell.stdin(Stdio::null()).status().unwrap().success());
    assert!(directory.join("x/file").exists());
}

/// A stream can have called its subvolume what the state is called.
fn names_of_ours_that_were_received() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let output = receive(&sent.full, &["--name=btrfs-recv-rs.unfinished"], to.path());
    assert!(output.status.success(), "{output:?}");
    let mut status = command(&["--status"]);
    let output = status.arg(to.path()).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!((output.status.code(), stdout), (Some(1), ""));
    let said = format!(
        "{}/btrfs-recv-rs.unfinished: a subvolume, not the directory for the state of unfinished \
         receives",
        to.path().display()
    );
    assert!(stderr.starts_with(&format!("ERROR: {said}")), "{stderr}");
    assert!(stderr.contains("--state-dir"), "{stderr}");
    let output = receive(&sent.full, &["--resumable"], to.path());
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&said), "{stderr}");
    assert!(stderr.contains("--state-dir"), "{stderr}");
    assert!(!to.path().join("first").exists());
    // Elsewhere there is room.
    let elsewhere = to.path().join("state");
    fs::create_dir(&elsewhere).unwrap();
    let option = format!("--state-dir={}", elsewhere.display());
    let output = receive(&sent.full, &["--resumable", &option], to.path());
    assert!(output.status.success(), "{output:?}");
    let mut status = command(&["--status", &option]);
    let output = status.arg(to.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Who gives up an unfinished receive may use its name for something else.
fn another_subvolume_of_its_name_is_not_abandoned() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let cut = &sent.full[..sent.full.len() - 30];
    let output = receive(cut, &["--resumable"], to.path());
    assert_eq!(output.status.code(), Some(1));
    let (built, moved) = (to.path().join("first"), to.path().join("moved"));
    fs::rename(&built, &moved).unwrap();
    subvolume::create(&built);
    fs::write(built.join("mine"), b"").unwrap();
    let output = command(&["--status"]).arg(to.path()).output().unwrap();
    let (status, _) = text(&output);
    let directory = to.path().display();
    let remove = format!("to remove it: btrfs-recv-rs --abandon {directory} first\n");
    assert!(status.contains(&remove), "{status}");
    let mut abandon = command(&["--abandon"]);
    let output = abandon.arg(to.path()).arg("first").output().unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(built.join("mine").exists(), "{stdout}");
    let said = format!(
        "removed the unfinished receive of {directory}/first; what has that name now was not \
         changed\n"
    );
    assert_eq!(stdout, said);
    let output = command(&["--status"]).arg(to.path()).output().unwrap();
    let (status, _) = text(&output);
    assert!(!status.contains("unfinished (full)"), "{status}");
}
