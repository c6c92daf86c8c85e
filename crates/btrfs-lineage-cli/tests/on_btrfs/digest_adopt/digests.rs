//! The digest itself.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use btrfs_lineage::digest::{DigestError, DigestOptions, digest};
use btrfs_testkit::{LoopFilesystem, Sender, Test, files, reference_receive, subvolume, test};
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use super::support::{document, document_with, program, receive, run, sample, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(another_implementation_agrees).needs("python3"),
        test!(threads_make_no_difference),
        test!(layout_makes_no_difference),
        test!(every_receive_gives_the_same),
        test!(writable_ones_are_refused),
        test!(what_is_mounted_is_refused),
        test!(differences_are_named),
        test!(the_json_is_documented),
        test!(what_cannot_be_sent_is_refused),
        test!(hidden_attributes_are_not_left_out),
        test!(it_can_be_cancelled),
    ]
}

/// By `docs/digest.md`, in Python.
fn in_python(path: &Path) -> String {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/on_btrfs/digest_adopt/digest.py"
    );
    let output = Command::new("python3")
        .args([script, "--tree"])
        .arg(path)
        .output()
        .unwrap();
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    stdout
}

fn another_implementation_agrees() {
    let filesystem = LoopFilesystem::new();
    let (work, snapshot) = sample(&filesystem);
    add_large(&work);
    let second = filesystem.path().join("second");
    subvolume::snapshot_read_only(&work, &second);
    for path in [&snapshot, &second] {
        let output = run(&["digest", "--tree"], &[path]);
        let (stdout, stderr) = text(&output);
        assert!(output.status.success(), "{stderr}");
        let ours: Vec<_> = stdout.lines().map(|line| &line[..64]).collect();
        let theirs = in_python(path);
        let theirs: Vec<_> = theirs.lines().collect();
        assert_eq!(ours, theirs);
    }
}

/// Files of many chunks, with holes.
fn add_large(work: &Path) {
    let bytes = files::pattern(7, 9 << 20, false);
    for (name, offset) in [("big data", 0), ("big sparse", (40 << 20) + 12_345)] {
        files::write(&work.join(name), offset, &bytes).unwrap();
    }
    files::write(&work.join("big zeros"), 0, &vec![0; 12 << 20]).unwrap();
    files::truncate(&work.join("big hole"), 12 << 20).unwrap();
}

fn threads_make_no_difference() {
    let filesystem = LoopFilesystem::new();
    let (work, _) = sample(&filesystem);
    add_large(&work);
    // More names than wait at once.
    let wide = work.join("wide");
    std::fs::create_dir(&wide).unwrap();
    for number in 0..6_000 {
        std::fs::write(wide.join(format!("{number}")), format!("{number}")).unwrap();
    }
    for number in 0..500 {
        let directory = work.join(format!("deep/{number}/in/here"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("file"), "x").unwrap();
    }
    // A writable one has another ctransid each time that something is written back.
    let still = subvolume::snapshot_read_only(&work, &work.with_file_name("still"));
    let one = document_with(&still, |options| {
        options.threads = 1;
        options.tree = true;
    });
    for threads in [2, 3, 8] {
        let many = document_with(&still, |options| {
            options.threads = threads;
            options.tree = true;
        });
        assert_eq!(one, many, "{threads} threads");
    }
    assert_eq!(one.names as usize, one.tree.unwrap().len() - 1);
}

fn layout_makes_no_difference() {
    let filesystem = LoopFilesystem::builder().build();
    let (work, _) = sample(&filesystem);
    add_large(&work);
    let digest = || document(&work).sha256;
    let before = digest();
    program(
        "btrfs",
        &["filesystem", "defragment", "-r", "-czstd"],
        &[&work],
    );
    // Zeros in the place of a hole, a hole in the place of zeros: neither
    // changes what is read.
    let mtime = std::fs::metadata(work.join("big hole"))
        .unwrap()
        .modified()
        .unwrap();
    files::write(&work.join("big hole"), 0, &vec![0; 3 << 20]).unwrap();
    std::fs::File::open(work.join("big hole"))
        .unwrap()
        .set_modified(mtime)
        .unwrap();
    let mtime = std::fs::metadata(work.join("big zeros"))
        .unwrap()
        .modified()
        .unwrap();
    files::punch(&work.join("big zeros"), 1 << 20, 5 << 20).unwrap();
    std::fs::File::open(work.join("big zeros"))
        .unwrap()
        .set_modified(mtime)
        .unwrap();
    assert_eq!(before, digest());
}

fn every_receive_gives_the_same() {
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    btrfs_testkit::Sample::for_reference().build(&work);
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    let expected = document(&first);
    assert_eq!(expected.nested_subvolumes, 1);
    for sender in [
        Sender::new(&first),
        Sender::new(&first).version(2),
        Sender::new(&first).version(2).compressed(),
    ] {
        let stream = sender.to_vec();
        for reference in [false, true] {
            let to = LoopFilesystem::new();
            let received = if reference {
                reference_receive(&stream, to.path())
            } else {
                receive(&stream, to.path())
            };
            received.unwrap();
            let path = to.path().join("first");
            let found = document(&path);
            if found.sha256 != expected.sha256 {
                let (stdout, _) = text(&run(&["digest", "--compare"], &[&first, &path]));
                panic!("by the reference: {reference}\n{stdout}");
            }
            assert_eq!(found.received_uuid, Some(expected.uuid));
            assert_eq!(found.stransid, Some(expected.ctransid));
            assert_eq!(found.sent_as.uuid, expected.sent_as.uuid);
        }
    }
}

fn writable_ones_are_refused() {
    let filesystem = LoopFilesystem::new();
    let (work, snapshot) = sample(&filesystem);
    let output = run(&["digest"], &[&work]);
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stderr.contains("writable") && stdout.is_empty(), "{stderr}");
    let digest = |args: &[&str], path: &Path| {
        let output = run(args, &[path]);
        assert!(output.status.success(), "{output:?}");
        text(&output).0[..64].to_owned()
    };
    let expected = digest(&["digest"], &snapshot);
    assert_eq!(digest(&["digest", "--writable"], &work), expected);
    for (path, why) in [
        (filesystem.path().join("first/plain"), "not the root"),
        (filesystem.path().join("none"), "No such file"),
        (Path::new("/proc").to_owned(), "not the root"),
    ] {
        let output = run(&["digest"], &[&path]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).1.contains(why), "{output:?}");
    }
}

fn what_is_mounted_is_refused() {
    let filesystem = LoopFilesystem::new();
    let (work, snapshot) = sample(&filesystem);
    for (over, what) in [
        ("plain", work.join("directories")),
        ("plain", filesystem.path().join("first")),
        ("plain/small", work.join("plain/medium")),
        ("plain/small", work.join("plain/small")),
    ] {
        let at = snapshot.join(over);
        let what = if what.exists() { what } else { work.clone() };
        program("mount", &["--bind"], &[&what, &at]);
        let output = run(&["digest"], &[&snapshot]);
        program("umount", &[], &[&at]);
        let (stdout, stderr) = text(&output);
        assert_eq!(output.status.code(), Some(1), "{over} {what:?}: {stdout}");
        assert!(stderr.contains("mounted"), "{stderr}");
    }
    assert!(run(&["digest"], &[&snapshot]).status.success());
}

fn differences_are_named() {
    let filesystem = LoopFilesystem::new();
    let work = subvolume::create(&filesystem.path().join("work"));
    for name in ["a", "b", "c", "d", "e"] {
        std::fs::write(work.join(name), "text").unwrap();
    }
    std::fs::create_dir_all(work.join("gone/below")).unwrap();
    std::fs::hard_link(work.join("a"), work.join("a link")).unwrap();
    std::fs::hard_link(work.join("b"), work.join("b link")).unwrap();
    let before = subvolume::snapshot_read_only(&work, &filesystem.path().join("before"));
    let saved = filesystem.path().join("saved.json");
    let output = run(&["digest", "--json", "--tree"], &[&before]);
    assert!(output.status.success(), "{output:?}");
    std::fs::write(&saved, &output.stdout).unwrap();
    let short = filesystem.path().join("short.json");
    std::fs::write(&short, run(&["digest", "--json"], &[&before]).stdout).unwrap();

    let compare = |a: &Path, b: &Path| {
        let output = run(&["digest", "--writable", "--compare"], &[a, b]);
        (output.status.code(), text(&output))
    };
    for same in [&before, &saved, &short] {
        let (status, (stdout, stderr)) = compare(same, &before);
        assert_eq!(status, Some(0), "{stderr}");
        assert!(stdout.is_empty());
    }
    // From another host.
    let mut from_pipe = Command::new(super::support::COMMAND);
    from_pipe.args(["digest", "--compare", "-"]).arg(&before);
    from_pipe.stdin(std::fs::File::open(&saved).unwrap());
    assert!(from_pipe.status().unwrap().success());
    std::fs::write(work.join("c"), "next").unwrap();
    files::set_mode(&work.join("d"), 0o4711).unwrap();
    files::set_xattr(&work.join("e"), "user.new", b"value").unwrap();
    std::fs::remove_dir_all(work.join("gone")).unwrap();
    std::fs::create_dir_all(work.join("new/below")).unwrap();
    let (status, (stdout, stderr)) = compare(&saved, &work);
    assert_eq!(status, Some(1));
    assert!(stderr.contains("differ"), "{stderr}");
    for line in [
        "c: content: expected ",
        "c: mtime: expected ",
        "d: mode: expected 0644, found 4711",
        "e: xattr user.new: expected nothing, found ",
        "gone: missing (directory)",
        "new: not expected (directory)",
        ".: mtime: expected ",
    ] {
        assert!(stdout.contains(line), "{line}\n{stdout}");
    }
    assert!(!stdout.contains("below"), "{stdout}");
    let (status, (stdout, stderr)) = compare(&short, &work);
    assert_eq!((status, &*stdout), (Some(1), ""));
    assert!(stderr.contains("--tree"), "{stderr}");
}

/// Every key is in `docs/json.md`.
fn the_json_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, page) = page.split_once("## Digests").unwrap();
    let filesystem = LoopFilesystem::new();
    let (_, snapshot) = sample(&filesystem);
    let received = LoopFilesystem::new();
    receive(&Sender::new(&snapshot).to_vec(), received.path()).unwrap();
    let saved = filesystem.path().join("saved");
    let mut printed = Vec::new();
    for (args, paths) in [
        (&["digest", "--json", "--tree"][..], &[&snapshot][..]),
        (&["digest", "--json"], &[&received.path().join("first")]),
        (
            &[
                "digest",
                "--json",
                "--writable",
                "--max-differences=1",
                "--compare",
            ],
            &[&snapshot, &filesystem.path().join("work/nested subvolume")],
        ),
    ] {
        let paths: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
        let output = run(args, &paths);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        printed.push(value);
        if args.contains(&"--tree") {
            std::fs::write(&saved, &output.stdout).unwrap();
        }
    }
    assert_eq!(printed[1]["sha256"], printed[0]["sha256"]);
    assert_eq!(printed[1]["received_uuid"], printed[0]["uuid"]);
    assert_eq!(printed[1]["sent_as"]["uuid"], printed[0]["uuid"]);
    assert_eq!(printed[2]["same"], false);
    let adopt = format!("--digest={}", saved.display());
    for (path, dry) in [("first", "--dry-run"), ("first", "--threads=2")] {
        let path = received.path().join(path);
        let output = run(&["adopt", "--json", &adopt, dry], &[&path]);
        printed.push(serde_json::from_slice(&output.stdout).unwrap());
    }
    let other = subvolume::create(&received.path().join("other"));
    let output = run(&["adopt", "--json", "--make-read-only", &adopt], &[&other]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["outcome"], "differs");
    printed.push(value);
    let mut keys = std::collections::BTreeSet::new();
    printed.iter().for_each(|value| collect(value, &mut keys));
    assert!(keys.len() > 35, "{keys:?}");
    let missing: Vec<_> = keys
        .iter()
        .filter(|key| !page.contains(&format!("`{key}`")))
        // Of names that are no text; said once for all.
        .filter(|key| *key != "hex")
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn collect(value: &serde_json::Value, keys: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                keys.insert(key.clone());
                collect(value, keys);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, keys)),
        _ => {}
    }
}

/// So many directories in each other; the deepest one.
fn nest(work: &Path, name: &str, depth: usize) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::open(work, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&directory, name, Mode::RWXU).unwrap();
        directory = openat(&directory, name, flags, Mode::empty()).unwrap();
    }
    directory
}

/// A path of more bytes than the kernel sends; one of as many is fine.
fn what_cannot_be_sent_is_refused() {
    let filesystem = LoopFilesystem::new();
    let deep = subvolume::create(&filesystem.path().join("deep"));
    nest(&deep, "x", 2_048);
    let output = run(&["digest", "--writable"], &[&deep]);
    assert!(output.status.success(), "{output:?}");
    // With the slashes between them 4095 bytes.
    let work = subvolume::create(&filesystem.path().join("work"));
    let directory = nest(&work, &"x".repeat(255), 16);
    document(&work);
    mkdirat(&directory, "y", Mode::RWXU).unwrap();
    let output = run(&["digest", "--writable"], &[&work]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).1.contains("longer than 4095 bytes"),
        "{output:?}"
    );
}

/// `trusted.*` is hidden without CAP_SYS_ADMIN.
fn hidden_attributes_are_not_left_out() {
    let filesystem = LoopFilesystem::new();
    let (_, snapshot) = sample(&filesystem);
    let line = format!(
        "'{}' digest '{}'",
        super::support::COMMAND,
        snapshot.display()
    );
    let output = Command::new("capsh")
        .args(["--drop=cap_sys_admin", "--", "-c", &line])
        .output()
        .unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(
        stdout.is_empty() && stderr.contains("CAP_SYS_ADMIN"),
        "{stderr}"
    );
}

fn it_can_be_cancelled() {
    let filesystem = LoopFilesystem::new();
    let (_, snapshot) = sample(&filesystem);
    let options = DigestOptions::default();
    options.progress.cancel();
    let root = std::fs::File::open(&snapshot).unwrap();
    let result = digest(root, options);
    assert!(matches!(result, Err(DigestError::Cancelled)), "{result:?}");
}
