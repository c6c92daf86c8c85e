//! `--chain` and `--dry-run` on a filesystem.

use std::fs;
use std::path::Path;

use btrfs_testkit::{LoopFilesystem, Sender, Test, assert_same_tree, subvolume, test};

use crate::support::{Sent, command, names_in, receive, run_with_input, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_set_is_received_in_order),
        test!(what_is_there_is_skipped),
        test!(nothing_is_received_of_a_set_with_a_gap),
        test!(a_parent_at_the_destination_closes_the_gap),
        test!(what_is_there_needs_no_parent),
        test!(a_set_goes_on_where_it_was_interrupted),
        test!(a_set_is_received_in_a_sandbox),
        test!(what_cannot_be_read_twice_is_refused),
        test!(nothing_in_a_directory_is_skipped_in_silence),
        test!(a_dry_run_answers_before_data_is_sent),
    ]
}

/// Writes the streams into a directory, in the wrong order by name.
fn stored(sent: &Sent) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), &sent.incremental).unwrap();
    fs::write(directory.path().join("b"), &sent.full).unwrap();
    directory
}

/// Runs `--chain`; gives standard output, standard error, and whether it
/// succeeded.
fn chain(sources: &[&Path], destination: &Path) -> (String, String, bool) {
    let mut command = command(&[]);
    for source in sources {
        command.arg("--chain").arg(source);
    }
    let output = command.arg(destination).output().unwrap();
    let (stdout, stderr) = text(&output);
    (
        stdout.to_owned(),
        stderr.to_owned(),
        output.status.success(),
    )
}

fn a_set_is_received_in_order() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = stored(&sent);
    let (stdout, stderr, success) = chain(&[stored.path()], to.path());
    assert!(success, "{stderr}");
    assert_eq!(stdout, "At snapshot second\n");
    assert_eq!(stderr, "At subvol first\n");
    for name in ["first", "second"] {
        assert!(subvolume::facts(&to.path().join(name)).read_only);
    }
}

fn what_is_there_is_skipped() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = stored(&sent);
    assert!(receive(&sent.full, &[], to.path()).status.success());
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(success, "{stderr}");
    let skipped = "first is already complete\n";
    assert!(stderr.ends_with(skipped), "{stderr}");
    // All of it.
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(success, "{stderr}");
    assert_eq!(stderr.matches("is already complete").count(), 2, "{stderr}");
    // One that is not complete stands in the way.
    let second = to.path().join("second");
    subvolume::delete(&second);
    subvolume::create(&second);
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(!success);
    assert!(stderr.contains("a writable subvolume"), "{stderr}");
}

fn nothing_is_received_of_a_set_with_a_gap() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = stored(&sent);
    fs::remove_file(stored.path().join("b")).unwrap();
    let third = subvolume::snapshot_read_only(
        &sent.from.path().join("work"),
        &sent.from.path().join("third"),
    );
    fs::write(
        stored.path().join("c"),
        Sender::new(&third).version(2).to_vec(),
    )
    .unwrap();
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(!success);
    assert!(stderr.contains("the parent of second"), "{stderr}");
    assert!(stderr.ends_with("ERROR: nothing was received\n"));
    assert!(names_in(to.path()).is_empty());
    // Nor of one that is damaged.
    let mut damaged = sent.full.clone();
    // The checksum of END: other places are lengths on some kernels.
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(stored.path().join("b"), &damaged).unwrap();
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(!success);
    assert!(stderr.contains("crc32"), "{stderr}");
    assert!(names_in(to.path()).is_empty());
}

fn a_parent_at_the_destination_closes_the_gap() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = stored(&sent);
    let elsewhere = to.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    assert!(receive(&sent.full, &[], &elsewhere).status.success());
    let file = stored.path().join("a");
    let (_, stderr, success) = chain(&[&file], to.path());
    assert!(success, "{stderr}");
    assert!(to.path().join("second").exists());
}

/// Old backups are deleted, and their streams too.
fn what_is_there_needs_no_parent() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = stored(&sent);
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(success, "{stderr}");
    subvolume::delete(&to.path().join("first"));
    let file = stored.path().join("a");
    let (_, stderr, success) = chain(&[&file], to.path());
    assert!(success, "{stderr}");
    assert!(stderr.ends_with("second is already complete\n"), "{stderr}");
}

fn a_set_goes_on_where_it_was_interrupted() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let stored = stored(&sent);
    let options = ["--resumable", "--checkpoint-every=16K", "--atomic"];
    let cut = &sent.full[..sent.full.len() * 2 / 3];
    assert!(!receive(cut, &options, to.path()).status.success());
    assert!(to.path().join("first.receiving").exists());
    let mut command = command(&options);
    command.arg("--chain").arg(stored.path()).arg(to.path());
    let output = command.output().unwrap();
    let (_, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("comparing"), "{stderr}");
    assert_eq!(names_in(to.path()), ["first", "second"]);
    for name in ["first", "second"] {
        assert_same_tree(&sent.from.path().join(name), &to.path().join(name));
    }
    // Again there is nothing to do.
    let output = command.output().unwrap();
    let (_, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("is already complete").count(), 2, "{stderr}");
}

fn a_set_is_received_in_a_sandbox() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = stored(&sent);
    let mut command = command(&["--sandbox", "--chain"]);
    let output = command.arg(stored.path()).arg(to.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names_in(to.path()), ["first", "second"]);
}

fn what_cannot_be_read_twice_is_refused() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = stored(&sent);
    let fifo = stored.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    // In a directory it is skipped.
    let (_, stderr, success) = chain(&[&fifo, stored.path()], to.path());
    assert!(!success);
    assert!(stderr.contains("is not a regular file"), "{stderr}");
    assert!(names_in(to.path()).is_empty());
}

/// A damaged stream further down, and one that is compressed.
fn nothing_in_a_directory_is_skipped_in_silence() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = stored(&sent);
    let below = stored.path().join("2024");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("c"), &sent.full[..sent.full.len() - 20]).unwrap();
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(!success);
    assert!(stderr.contains("2024/c: "), "{stderr}");
    fs::remove_file(below.join("c")).unwrap();
    fs::write(below.join("c.gz"), b"\x1f\x8b\x08").unwrap();
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(!success);
    assert!(stderr.contains("c.gz is compressed with gzip"), "{stderr}");
    assert!(stderr.contains("move it out of the directory"), "{stderr}");
    assert!(names_in(to.path()).is_empty());
    fs::remove_file(below.join("c.gz")).unwrap();
    fs::rename(stored.path().join("a"), below.join("a")).unwrap();
    let (_, stderr, success) = chain(&[stored.path()], to.path());
    assert!(success, "{stderr}");
    assert_eq!(names_in(to.path()), ["first", "second"]);
}

fn a_dry_run_answers_before_data_is_sent() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let second = sent.from.path().join("second");
    let no_data = Sender::new(&second)
        .parent(&sent.from.path().join("first"))
        .no_data()
        .to_vec();
    let dry_run = || {
        let mut command = command(&["--dry-run"]);
        run_with_input(command.arg(to.path()), &no_data)
    };
    let output = dry_run();
    let (stdout, stderr) = text(&output);
    assert!(!output.status.success());
    assert!(stdout.ends_with("a receive would FAIL\n"), "{stdout}");
    assert!(
        stderr.contains(": snapshot \"second\": no subvolume here is, or was received from, the"),
        "{stderr}"
    );
    assert!(receive(&sent.full, &[], to.path()).status.success());
    let output = dry_run();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("parent found: subvolume"), "{stdout}");
    assert!(stdout.contains(" at first\n"), "{stdout}");
    assert!(stdout.ends_with("no problem was found\n"));
    assert_eq!(names_in(to.path()), ["first"]);
}
