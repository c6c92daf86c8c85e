//! `index`: what `list` and `cat-file` say with an index and without, and indexes that are
//! damaged, stale or lie.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::streams::kernel_stream;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sendstream"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn said(output: &Output, success: bool) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), success, "{text}");
    text
}

/// An archive of two streams, one of them compressed.
fn archive() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name| directory.path().join(name);
    fs::copy(kernel_stream("full.v1"), at("z")).unwrap();
    let incremental = kernel_stream("incr.v2");
    let packed = Command::new("gzip").args(["-c", &incremental]).output();
    fs::write(at("a.gz"), packed.unwrap().stdout).unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    (directory, path)
}

/// The paths of regular files in what `list` prints.
fn files(at: &str) -> Vec<String> {
    let listed = run(&["list", "--format=json", at]).stdout;
    let listed = String::from_utf8(listed).unwrap();
    let lines = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines = lines.filter(|it: &serde_json::Value| it["kind"] == "file");
    let paths = lines.filter_map(|it| Some(it["path"].as_str()?.to_owned()));
    paths.collect()
}

/// Damages the first stream, except for its ends, without a trace in its size and time.
fn damage(stream: &Path) {
    let file = File::options().write(true).read(true).open(stream).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let len = file.metadata().unwrap().len();
    assert!(len > 3 * 64 * 1024);
    let middle = vec![0; usize::try_from(len).unwrap() - 2 * 64 * 1024];
    file.write_all_at(&middle, 64 * 1024).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn an_index_changes_nothing() {
    let (directory, at) = archive();
    let commands: Vec<Vec<String>> = {
        let words = |words: &[&str]| words.iter().map(|&it| it.to_owned()).collect();
        let mut commands = vec![words(&["list", "--long", &at])];
        for path in files(&at) {
            commands.push(words(&["cat-file", &path, &at]));
        }
        commands.push(words(&["list", "--long", "--subvolume=s1", &at]));
        commands.push(words(&["cat-file", "none", &at]));
        commands
    };
    assert!(commands.len() > 10);
    let all = || -> Vec<Output> {
        let runs = commands.iter().map(|words| {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            run(&words)
        });
        runs.collect()
    };
    let before = all();
    let indexed = said(&run(&["index", &at]), true);
    assert_eq!(indexed, "");
    for name in ["z.index", "a.gz.index"] {
        let index = directory.path().join(name);
        let mode = fs::metadata(index).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644 & mode);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
    assert_eq!(all(), before);
    // Once more, with the indexes there, which are no streams.
    assert_eq!(said(&run(&["index", &at]), true), "");
    assert_eq!(said(&run(&["verify", &at]), true), "");
}

#[test]
fn an_index_saves_reading_the_stream() {
    let directory = tempfile::tempdir().unwrap();
    let stream = directory.path().join("s");
    fs::copy(kernel_stream("full.v1"), &stream).unwrap();
    let at = stream.to_str().unwrap();
    let listed = run(&["list", at]).stdout;
    said(&run(&["index", at]), true);
    damage(&stream);
    let output = run(&["list", at]);
    assert_eq!(said(&output, true), "");
    assert_eq!(output.stdout, listed);
    said(&run(&["list", "--no-index", at]), false);
    // What is damaged is noticed where it is read.
    let (mut good, mut bad) = (0, 0);
    for path in files(at) {
        let output = run(&["cat-file", &path, at]);
        if output.status.success() {
            let whole = run(&["cat-file", &path, &kernel_stream("full.v1")]);
            assert_eq!(output.stdout, whole.stdout, "{path}");
            good += 1;
        } else {
            assert!(output.stdout.is_empty());
            bad += 1;
        }
        let output = run(&["cat-file", "--no-index", &path, at]);
        assert!(output.stdout.is_empty());
        said(&output, false);
    }
    assert!(good > 0 && bad > 0, "{good} {bad}");
    // Nor is a damaged stream indexed, and an index stays as it was.
    let index = fs::read(directory.path().join("s.index")).unwrap();
    said(&run(&["index", at]), false);
    assert_eq!(fs::read(directory.path().join("s.index")).unwrap(), index);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

/// A stream with its index, and what `list` prints.
fn indexed() -> (TempDir, PathBuf, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name| directory.path().join(name);
    let (stream, index) = (at("s"), at("s.index"));
    fs::copy(kernel_stream("full.v1"), &stream).unwrap();
    said(&run(&["index", stream.to_str().unwrap()]), true);
    let listed = run(&["list", "--long", "--no-index", stream.to_str().unwrap()]);
    (directory, stream, index, listed.stdout)
}

#[test]
fn an_index_that_does_not_fit_is_not_used() {
    let (_directory, stream, index, listed) = indexed();
    let at = stream.to_str().unwrap();
    let check = |expected: &str| {
        let output = run(&["list", "--long", at]);
        let text = said(&output, true);
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(output.stdout, listed, "{expected}");
    };
    let whole = fs::read(&index).unwrap();
    check("");
    for len in [0, 10, 40, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&index, &whole[..len]).unwrap();
        check("s.index is not used: the index is damaged");
    }
    let step = whole.len() / 50;
    for at in (0..whole.len()).step_by(step.max(1)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&index, damaged).unwrap();
        check("s.index is not used: the ");
    }
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    check("s.index is not used: the index is damaged");
    fs::remove_dir(&index).unwrap();
    let made = Command::new("mkfifo").arg(&index).status();
    assert!(made.unwrap().success());
    check("s.index is not used: the index is damaged");
    fs::remove_file(&index).unwrap();
    fs::write(&index, &whole).unwrap();
    check("");
    fs::set_permissions(&index, fs::Permissions::from_mode(0o666)).unwrap();
    check("another user");
    fs::set_permissions(&index, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().write(true).open(&stream).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    check("the stream has been changed or copied");
    file.set_modified(modified).unwrap();
    let output = run(&["list", at]);
    assert_eq!(said(&output, true), "");
}
