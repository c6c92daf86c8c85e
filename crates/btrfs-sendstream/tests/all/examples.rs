//! Every example of the crate, run as a program over streams of kernels.

use std::collections::BTreeSet;
use std::path::Path;

use btrfs_sendstream::{Command, Item, Reader};
use btrfs_testkit::{examples_of, run_example};

const NONE: [&str; 0] = [];

/// A stream that a kernel wrote; `None` where there is no repository around
/// the crate.
fn stream(name: &str) -> Option<Vec<u8>> {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    let path = streams.join(format!("{name}.stream"));
    streams.is_dir().then(|| std::fs::read(path).unwrap())
}

#[test]
fn each_is_tested_here() {
    let tested = ["list", "rename-subvolume", "tee", "tokio", "transform"];
    let tested: BTreeSet<String> = tested.map(str::to_owned).into();
    assert_eq!(examples_of(env!("CARGO_MANIFEST_DIR")), tested);
}

#[test]
fn list() {
    let Some(input) = stream("incr-clone.v2") else {
        return;
    };
    let output = run_example("list", NONE, &input);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("a stream of version 2\nsnapshot "),
        "{text}"
    );
    assert!(text.contains("\nclone "), "{text}");
    assert!(text.ends_with("\nend\n"), "{text}");
}

#[test]
fn tee() {
    let Some(mut input) = stream("multi.v1") else {
        return;
    };
    let output = run_example("tee", NONE, &input);
    assert!(output.status.success());
    assert!(output.stdout == input);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("2 subvolumes: all in order"), "{text}");

    let middle = input.len() / 2;
    input[middle] ^= 1;
    let output = run_example("tee", NONE, &input);
    assert!(!output.status.success());
}

#[test]
fn rename_subvolume() {
    let commands = |input: &[u8]| {
        let (mut reader, mut commands) = (Reader::new(input), Vec::new());
        while let Some(item) = reader.next_owned().unwrap() {
            if let Item::Command(command) = item {
                commands.push(command);
            }
        }
        commands
    };
    for name in ["full.v1", "incr.v2"] {
        let Some(input) = stream(name) else {
            return;
        };
        let output = run_example("rename-subvolume", ["new name"], &input);
        assert!(output.status.success());
        let (old, new) = (commands(&input), commands(&output.stdout));
        assert_eq!(old[1..], new[1..]);
        match &new[0] {
            Command::Subvol { name, .. } | Command::Snapshot { name, .. } => {
                assert_eq!(name.as_bytes(), b"new name");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        !run_example("rename-subvolume", ["a/b"], b"")
            .status
            .success()
    );
}

#[test]
fn tokio() {
    let Some(input) = stream("encoded-zstd.v2") else {
        return;
    };
    let output = run_example("tokio", NONE, &input);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("Subvol {"), "{text}");
    assert!(text.ends_with(" commands\n"), "{text}");
    // Cut, also between two commands, it is an error.
    let cut = &input[..input.len() - 10];
    assert!(!run_example("tokio", NONE, cut).status.success());
}

#[test]
fn transform() {
    let Some(input) = stream("full.v1") else {
        return;
    };
    let paths = |input: &[u8]| {
        let (mut reader, mut paths) = (Reader::new(input), BTreeSet::new());
        while let Some(item) = reader.next_owned().unwrap() {
            if let Item::Command(command) = item {
                paths.extend(command.path().map(|path| path.as_bytes().to_vec()));
            }
        }
        paths
    };
    let all = paths(&input);
    let output = run_example("transform", ["inline"], &input);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("extents compressed"), "{said}");
    let kept = paths(&output.stdout);
    assert!(all.contains(&b"inline"[..]) && kept.is_subset(&all));
    assert!(!kept.contains(&b"inline"[..]));
    assert!(
        !run_example("transform", ["a/../b"], &input)
            .status
            .success()
    );
}
