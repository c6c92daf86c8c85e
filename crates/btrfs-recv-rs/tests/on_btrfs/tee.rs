//! `--tee`: the input in a file, or no subvolume.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use btrfs_testkit::{LoopFilesystem, Mount, Sender, Test, assert_same_tree, subvolume, test};

use crate::digest::line;
use crate::packed::packed;
use crate::support::{Sent, command, names_in, receive, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(the_input_is_stored_as_it_came),
        test!(a_file_may_have_been_read_in_part),
        test!(a_file_that_is_read_twice_is_stored_once),
        test!(nothing_is_replaced),
        test!(a_name_that_was_taken_meanwhile_is_left_alone),
        test!(of_what_cannot_be_received_nothing_stays),
        test!(without_room_nothing_is_complete),
        test!(the_input_is_on_disk_before_the_subvolume_is_complete),
        test!(what_cannot_be_synced_is_not_complete),
        test!(a_digest_is_compared_as_well),
        test!(it_has_no_end_that_was_chosen_by_an_option),
    ]
}

/// Receives from a pipe, and stores the input in `file`.
fn store(stream: &[u8], file: &Path, options: &[&str], into: &Path) -> Output {
    let tee = format!("--tee={}", file.display());
    receive(stream, &[options, &[&tee]].concat(), into)
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", text(output).1);
}

#[track_caller]
fn assert_failure(output: &Output, expected: &str) {
    let (_, stderr) = text(output);
    assert!(
        !output.status.success() && stderr.contains(expected),
        "{stderr}"
    );
}

fn assert_incomplete(path: &Path) {
    let facts = subvolume::facts(path);
    assert!(
        !facts.read_only && facts.received_uuid.is_none(),
        "{facts:?}"
    );
}

fn the_input_is_stored_as_it_came() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let both = [&sent.full[..], &sent.incremental].concat();
    let directory = tempfile::tempdir().unwrap();
    for (number, (input, options)) in [
        (both.clone(), &[][..]),
        (both.clone(), &["--buffer=1M", "--atomic"]),
        (both.clone(), &["--sandbox"]),
        (both.clone(), &["--decompress"]),
        (packed("zstd", &both), &["--decompress", "--sandbox"]),
        (packed("xz -T2", &both), &["--decompress", "--resumable"]),
    ]
    .into_iter()
    .enumerate()
    {
        let into = to.path().join(number.to_string());
        fs::create_dir(&into).unwrap();
        let name = format!("stored {number}");
        let file = directory.path().join(&name);
        assert_success(&store(&input, &file, options, &into));
        assert!(fs::read(&file).unwrap() == input, "{options:?}");
        assert_eq!(names_in(directory.path()), [name]);
        fs::remove_file(&file).unwrap();
        assert_same_tree(&sent.from.path().join("second"), &into.join("second"));
    }
    // Beside the subvolume, by a relative name.
    let into = to.path().join("here");
    fs::create_dir(&into).unwrap();
    let mut command = command(&["--tee=stored", "-f"]);
    let input = directory.path().join("input");
    fs::write(&input, &sent.full).unwrap();
    let command = command.arg(&input).arg(".").current_dir(&into);
    assert_success(&command.output().unwrap());
    assert_eq!(names_in(&into), ["first", "stored"]);
    assert!(fs::read(into.join("stored")).unwrap() == sent.full);
}

/// As after `read line` in a script.
fn a_file_may_have_been_read_in_part() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let directory = tempfile::tempdir().unwrap();
    for options in [&["--tee"][..], &["--decompress", "--tee"]] {
        let file = directory.path().join(options.len().to_string());
        let output = receive_from(6, &sent.full, options, &file, to.path());
        assert_success(&output);
        assert!(fs::read(&file).unwrap() == sent.full);
        subvolume::delete(&to.path().join("first"));
    }
}

/// Standard input is a file of which the first bytes were read.
fn receive_from(read: usize, stream: &[u8], options: &[&str], file: &Path, into: &Path) -> Output {
    let whole = tempfile::NamedTempFile::new().unwrap();
    fs::write(whole.path(), [&vec![b'x'; read][..], stream].concat()).unwrap();
    let mut stdin = File::open(whole.path()).unwrap();
    stdin.seek(SeekFrom::Start(read as u64)).unwrap();
    let mut command = command(options);
    let command = command.arg(file).arg(into).stdin(stdin);
    command.output().unwrap()
}

/// Of an interrupted receive of another stream nothing can be used, and the
/// receiver goes back in its input, which does not begin at the beginning of
/// the file.
fn a_file_that_is_read_twice_is_stored_once() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let other = Sender::new(&sent.from.path().join("first"));
    let other = other.version(1).to_vec();
    let directory = tempfile::tempdir().unwrap();
    let option = "--checkpoint-every=64K";
    for (number, input) in [other.clone(), packed("gzip", &other)].iter().enumerate() {
        let cut = &sent.full[..sent.full.len() * 2 / 3];
        assert!(!receive(cut, &[option], to.path()).status.success());
        let file = directory.path().join(number.to_string());
        let options = [option, "--decompress", "--tee"];
        assert_success(&receive_from(6, input, &options, &file, to.path()));
        assert!(fs::read(&file).unwrap() == *input);
        subvolume::delete(&to.path().join("first"));
    }
}

fn nothing_is_replaced() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), b"precious").unwrap();
    symlink("nowhere", at("link")).unwrap();
    symlink("file", at("link to a file")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    for name in ["file", "link", "link to a file", "directory"] {
        let output = store(&sent.full, &at(name), &[], to.path());
        assert_failure(&output, "the file exists already");
    }
    for (name, expected) in [
        ("missing/file", "No such file or directory"),
        ("file/file", "Not a directory"),
        ("..", "exists already"),
        ("", "exists already"),
    ] {
        assert_failure(&store(&sent.full, &at(name), &[], to.path()), expected);
    }
    let mut command = command(&["--tee="]);
    let output = command.arg(to.path()).output().unwrap();
    assert_failure(&output, "cannot store the input in ");
    assert_eq!(fs::read(at("file")).unwrap(), b"precious");
    assert!(!at("nowhere").exists());
    assert_eq!(names_in(directory.path()).len(), 4);
    assert!(names_in(to.path()).is_empty());
}

fn a_name_that_was_taken_meanwhile_is_left_alone() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let mut child = command(&["--tee"])
        .arg(&file)
        .arg(to.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&sent.full).unwrap();
    // When the subvolume is complete, all but the end of the input was read.
    while !subvolume_is_complete(&to.path().join("first")) {
        std::thread::yield_now();
    }
    fs::write(&file, b"precious").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_failure(&output, "the file exists already");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert_eq!(names_in(directory.path()), ["file"]);
}

/// Also while it is sealed, when it has another name for a moment.
fn subvolume_is_complete(path: &Path) -> bool {
    let mut command = Command::new("btrfs");
    command.args(["property", "get", "-ts"]).arg(path).arg("ro");
    command.output().unwrap().stdout == b"ro=true\n"
}

fn of_what_cannot_be_received_nothing_stays() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let cut = &sent.full[..sent.full.len() - 1];
    for (input, options) in [
        (cut.to_vec(), &[][..]),
        (sent.incremental.clone(), &[]),
        (b"no stream".to_vec(), &["--sandbox"]),
        (packed("zstd", cut), &["--decompress", "--sandbox"]),
    ] {
        assert!(!store(&input, &file, options, to.path()).status.success());
        assert!(names_in(directory.path()).is_empty(), "{options:?}");
    }
    assert_incomplete(&to.path().join("first"));
    // A signal ends it in the same way.
    let mut child = command(&["--name=other", "--tee"])
        .arg(&file)
        .arg(to.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(cut).unwrap();
    while names_in(directory.path()).is_empty() {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(!child.wait_with_output().unwrap().status.success());
    assert!(names_in(directory.path()).is_empty());
}

fn without_room_nothing_is_complete() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let small = Mount::tmpfs(64 << 10);
    let file = small.path().join("file");
    for options in [&[][..], &["--buffer=64K"]] {
        let output = store(&sent.full, &file, options, to.path());
        assert_failure(&output, "cannot store the input in ");
        assert_failure(&output, "No space left on device");
        assert_failure(&output, "make room for the file of --tee");
        assert!(names_in(small.path()).is_empty());
        // If it was begun at all.
        if to.path().join("first").exists() {
            assert_incomplete(&to.path().join("first"));
            subvolume::delete(&to.path().join("first"));
        }
    }
}

/// Runs the command below strace; gives its output, and the calls.
fn traced(trace: &[&str], stream: &Path, file: &Path, into: &Path) -> Option<(Output, String)> {
    traced_with(trace, &[], stream, file, into)
}

fn traced_with(
    trace: &[&str],
    options: &[&str],
    stream: &Path,
    file: &Path,
    into: &Path,
) -> Option<(Output, String)> {
    if Command::new("strace").arg("-V").output().is_err() {
        return None;
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("strace")
        .args(["-f", "-y", "-qq", "-o"])
        .arg(log.path())
        .args(trace)
        .arg(env!("CARGO_BIN_EXE_btrfs-recv-rs"))
        .args(options)
        .arg("--tee")
        .arg(file)
        .arg("-f")
        .arg(stream)
        .arg(into)
        .output()
        .unwrap();
    Some((output, fs::read_to_string(log.path()).unwrap()))
}

fn the_input_is_on_disk_before_the_subvolume_is_complete() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let directory = tempfile::tempdir().unwrap();
    let (input, file) = (
        directory.path().join("input"),
        directory.path().join("file"),
    );
    fs::write(&input, &sent.full).unwrap();
    let calls = "-e trace=pwrite64,fsync,ioctl,renameat2,rename";
    let trace: Vec<_> = calls.split(' ').collect();
    let Some((output, log)) = traced(&trace, &input, &file, to.path()) else {
        return;
    };
    assert_success(&output);
    let lines: Vec<_> = log.lines().collect();
    let place = |what: &dyn Fn(&str) -> bool| {
        let place = lines.iter().rposition(|line| what(line));
        place.unwrap_or_else(|| panic!("{log}"))
    };
    let first = |what: &dyn Fn(&str) -> bool| {
        let place = lines.iter().position(|line| what(line));
        place.unwrap_or_else(|| panic!("{log}"))
    };
    let written = place(&|line| line.contains("pwrite64(") && line.contains(".partial"));
    let synced = first(&|line| line.contains("fsync(") && line.contains(".partial"));
    let marked = place(&|line| line.contains("BTRFS_IOC_SET_RECEIVED_SUBVOL"));
    let renamed = place(&|line| line.contains("rename") && line.contains(".partial"));
    let there = place(&|line| line.contains("fsync(") && !line.contains(".partial"));
    assert!(written < synced && synced < marked, "{log}");
    assert!(marked < renamed && renamed < there, "{log}");
}

fn what_cannot_be_synced_is_not_complete() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let directory = tempfile::tempdir().unwrap();
    let stored = tempfile::tempdir().unwrap();
    let (input, file) = (directory.path().join("input"), stored.path().join("file"));
    fs::write(&input, &sent.full).unwrap();
    // The file, its directory, and the same again when it gets its name.
    for (when, is_complete) in [(1, false), (2, false)] {
        let inject = format!("-e inject=fsync:error=EIO:when={when}");
        let trace: Vec<_> = inject.split(' ').collect();
        let Some((output, _)) = traced(&trace, &input, &file, to.path()) else {
            return;
        };
        assert_failure(&output, "cannot store the input in ");
        assert_failure(&output, "Input/output error");
        assert_eq!(subvolume_is_complete(&to.path().join("first")), is_complete);
        assert_incomplete(&to.path().join("first"));
        assert!(names_in(stored.path()).is_empty());
        subvolume::delete(&to.path().join("first"));
    }
    // The kernel says it once; the next subvolume must not be complete either.
    let second = Sender::new(&sent.from.path().join("second")).to_vec();
    fs::write(&input, [&sent.full[..], &second].concat()).unwrap();
    let trace = ["-e", "inject=fsync:error=EIO:when=1"];
    let options = ["--max-errors=0"];
    let Some((output, _)) = traced_with(&trace, &options, &input, &file, to.path()) else {
        return;
    };
    assert_failure(&output, "finish first failed: cannot store the input in ");
    assert_failure(&output, "finish second failed: cannot store the input in ");
    for name in ["first", "second"] {
        assert_incomplete(&to.path().join(name));
        subvolume::delete(&to.path().join(name));
    }
    assert!(names_in(stored.path()).is_empty());
    fs::write(&input, &sent.full).unwrap();
    // If it cannot get its name, the subvolume is complete, and an error is said.
    let trace = ["-e", "inject=renameat2:error=EIO:when=1"];
    let Some((output, log)) = traced(&trace, &input, &file, to.path()) else {
        return;
    };
    if log
        .lines()
        .any(|line| line.contains(".partial") && line.contains("INJECTED"))
    {
        assert_failure(&output, "Input/output error");
        assert!(names_in(stored.path()).is_empty());
        assert!(subvolume_is_complete(&to.path().join("first")));
    }
}

/// Both are looked at before the same seal.
fn a_digest_is_compared_as_well() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let digest = format!("--digest={}", at("digest").display());
    // That of `second` is not that of `first`.
    fs::write(at("digest"), line(&sent.from.path().join("second"), false)).unwrap();
    let output = store(&sent.full, &at("file"), &[&digest], to.path());
    assert_failure(&output, "has no digest of the subvolume");
    assert_incomplete(&to.path().join("first"));
    assert_eq!(names_in(directory.path()), ["digest"]);
    subvolume::delete(&to.path().join("first"));
    fs::write(at("digest"), line(&sent.from.path().join("first"), false)).unwrap();
    let options = [&digest[..], "--sandbox"];
    assert_success(&store(&sent.full, &at("file"), &options, to.path()));
    assert!(fs::read(at("file")).unwrap() == sent.full);
}

fn it_has_no_end_that_was_chosen_by_an_option() {
    let to = LoopFilesystem::new();
    let file = to.path().join("file");
    let output = store(b"", &file, &["-e"], to.path());
    assert_failure(&output, "--tee");
    assert!(names_in(to.path()).is_empty());
}
