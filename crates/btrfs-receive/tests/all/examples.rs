//! Every example of the crate, run as a program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use btrfs_testkit::{
    LoopFilesystem, Sender, Test, assert_same_tree, examples_of, run_example, subvolume, test,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("each_is_tested_here", each_is_tested_here),
        Test::anywhere("step_by_step", step_by_step),
        test!(progress),
        test!(resolve),
    ]
}

fn each_is_tested_here() {
    let tested = ["progress", "resolve", "step-by-step"];
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
