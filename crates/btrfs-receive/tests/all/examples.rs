//! Every example of the crate, run as a program.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use btrfs_testkit::{
    LoopFilesystem, Sender, Test, assert_same_tree, examples_of, run_example, subvolume, test,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("each_is_tested_here", each_is_tested_here),
        Test::anywhere("step_by_step", step_by_step),
        test!(backup),
        test!(progress),
        test!(resolve),
    ]
}

fn each_is_tested_here() {
    let tested = ["backup", "progress", "resolve", "step-by-step"];
    let tested: BTreeSet<String> = tested.map(str::to_owned).into();
    assert_eq!(examples_of(env!("CARGO_MANIFEST_DIR")), tested);
}

#[track_caller]
fn succeeded(output: Output) -> (String, String) {
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{out}{err}");
    (out, err)
}

fn step_by_step() {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    if !streams.is_dir() {
        return;
    }
    let input = std::fs::read(streams.join("full.v2.stream")).unwrap();
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (text, _) = succeeded(run_example("step-by-step", [directory.path()], &input));
    assert!(text.contains("command 1, byte 17: subvol"), "{text}");
    assert!(text.ends_with("1 finished\n"), "{text}");
    let output = run_example("step-by-step", [other.path()], &input[..input.len() - 10]);
    assert!(!output.status.success());
}

fn backup() {
    let (fs, new) = (LoopFilesystem::new(), LoopFilesystem::new());
    let (archive, plain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |words: &[&str], path: &Path, input: &[u8]| {
        let mut arguments = vec![words[0].as_ref(), archive.path().as_os_str()];
        arguments.extend(words[1..].iter().map(OsStr::new));
        if path != archive.path() {
            arguments.push(path.as_os_str());
        }
        run_example("backup", arguments, input)
    };
    let here = archive.path();
    let work = subvolume::create(&fs.path().join("work"));
    std::fs::write(work.join("file"), vec![7; 3 << 20]).unwrap();
    let snapshot = |name: &str| {
        std::fs::write(work.join(name), name).unwrap();
        subvolume::snapshot_read_only(&work, &fs.path().join(name))
    };

    let (first, other) = (snapshot("first"), snapshot("other"));
    let (options, err) = succeeded(run(&["parent"], &first, b""));
    assert_eq!(options, "");
    assert!(err.contains("has to be sent whole"), "{err}");
    let full = Sender::new(&first).to_vec();
    let cut = run(&["store"], here, &full[..full.len() - 10]);
    assert!(!cut.status.success());
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 0);
    succeeded(run(&["store"], here, &full));
    assert!(
        !run(&["store"], here, &full).status.success(),
        "it is there"
    );
    assert!(!run(&["parent"], &first, b"").status.success());

    // From the first to the third, beside another.
    succeeded(run(&["store"], here, &Sender::new(&other).to_vec()));
    let second = snapshot("second");
    let increment = Sender::new(&second).parent(&first).to_vec();
    succeeded(run(&["store"], here, &increment));
    let third = snapshot("third");
    let (options, _) = succeeded(run(&["parent"], &third, b""));
    let options: Vec<&str> = options.lines().collect();
    assert_eq!(options[..2], ["-p", second.to_str().unwrap()]);
    let sent = Command::new("btrfs")
        .args(["send", "--quiet"])
        .args(&options)
        .arg(&third)
        .output()
        .unwrap();
    succeeded(run(&["store"], here, &sent.stdout));
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 4);
    let (tree, _) = succeeded(run(&["list"], here, b""));
    let mut lines: Vec<&str> = tree.lines().collect();
    assert!(
        lines.iter().position(|it| *it == "first") < lines.iter().position(|it| *it == "  second")
    );
    lines.sort_unstable();
    assert_eq!(lines, ["    third", "  second", "first", "other"]);

    let (text, _) = succeeded(run(&["restore", "second"], new.path(), b""));
    assert_eq!(text, "first: complete\nsecond: complete\n");
    assert_same_tree(&second, &new.path().join("second"));
    let (text, _) = succeeded(run(&["restore", "third"], new.path(), b""));
    assert!(text.starts_with("first: already complete\n"), "{text}");
    assert!(
        text.ends_with("second: already complete\nthird: complete\n"),
        "{text}"
    );
    assert_same_tree(&third, &new.path().join("third"));
    let (text, _) = succeeded(run(&["restore", "second"], plain.path(), b""));
    assert!(text.contains("second: complete"), "{text}");
    let restored = std::fs::read(plain.path().join("second/second")).unwrap();
    assert_eq!(restored, b"second");
}

fn progress() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("file"), vec![7; 3 << 20]).unwrap();
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    let input = Sender::new(&first).to_vec();
    let (out, err) = succeeded(run_example("progress", [to.path()], &input));
    assert!(out.starts_with("1 subvolumes, "), "{out}");
    assert!(err.starts_with("receiving first\n1 MiB, "), "{err}");
    assert!(err.ends_with("first is complete and on disk\n"), "{err}");
    assert_same_tree(&first, &to.path().join("first"));
}

fn resolve() {
    let fs = LoopFilesystem::new();
    let work = subvolume::create(&fs.path().join("work"));
    let first = subvolume::snapshot_read_only(&work, &fs.path().join("first"));
    std::fs::write(work.join("file"), b"new").unwrap();
    let second = subvolume::snapshot_read_only(&work, &fs.path().join("second"));
    let input = Sender::new(&second).parent(&first).to_vec();

    let (out, _) = succeeded(run_example("resolve", [fs.path()], &input));
    let id = subvolume::facts(&first).id;
    assert!(out.starts_with("second needs "), "{out}");
    assert!(out.ends_with(&format!("chosen: subvolume {id}\n")), "{out}");

    let other = LoopFilesystem::new();
    let output = run_example("resolve", [other.path()], &input);
    assert!(!output.status.success());
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
}
