//! `--digest`: complete is what has the digest of the sender's.

use std::fs::File;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use btrfs_lineage::digest::{DigestOptions, digest};
use btrfs_testkit::{LoopFilesystem, Sample, Sender, Test, files, subvolume, test};

use crate::support::{names_in, receive, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(what_is_the_same_is_complete, ""),
        test!(what_is_the_same_is_complete, "--sandbox"),
        test!(what_is_the_same_is_complete, "--resumable"),
        test!(what_differs_is_not_complete),
        test!(the_root_counts),
        test!(a_changed_parent_is_found),
        test!(a_file_that_is_none_is_refused),
    ]
}

/// A line with the digest of a subvolume.
pub(crate) fn line(subvolume: &Path, tree: bool) -> Vec<u8> {
    let mut options = DigestOptions::default();
    options.tree = tree;
    let document = digest(File::open(subvolume).unwrap(), options).unwrap();
    let mut line = Vec::new();
    document.write(&mut line).unwrap();
    line.push(b'\n');
    line
}

fn save(from: &LoopFilesystem, lines: &[Vec<u8>]) -> String {
    let path = from.path().join("digests");
    std::fs::write(&path, lines.concat()).unwrap();
    format!("--digest={}", path.display())
}

fn is_complete(path: &Path) -> bool {
    let facts = subvolume::facts(path);
    assert_eq!(facts.read_only, facts.received_uuid.is_some());
    facts.read_only
}

/// `first` and `second`, with every kind of file, and a root with everything.
fn sample(from: &LoopFilesystem) -> (PathBuf, PathBuf) {
    let work = subvolume::create(&from.path().join("work"));
    Sample::default().build(&work);
    chown(&work, Some(1000), Some(1001)).unwrap();
    files::set_xattr(&work, "system.posix_acl_access", &files::acl(1234, 5)).unwrap();
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    Sample::default().change(&work);
    files::set_mode(&work, 0o705).unwrap();
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    (first, second)
}

fn what_is_the_same_is_complete(option: &'static str) {
    let from = LoopFilesystem::new();
    let (first, second) = sample(&from);
    let file = save(&from, &[line(&second, false), line(&first, true)]);
    for version in [1, 2] {
        let to = LoopFilesystem::new();
        let mut stream = Sender::new(&first).version(version).to_vec();
        let change = Sender::new(&second).parent(&first).version(version);
        stream.extend(change.to_vec());
        let mut options = vec![&*file];
        options.extend(Some(option).filter(|it| !it.is_empty()));
        let output = receive(&stream, &options, to.path());
        assert!(output.status.success(), "{}", text(&output).1);
        assert!(is_complete(&to.path().join("first")));
        assert!(is_complete(&to.path().join("second")));
    }
}

fn what_differs_is_not_complete() {
    let from = LoopFilesystem::new();
    let (first, second) = sample(&from);
    let stream = Sender::new(&first).version(2).to_vec();
    let expected = String::from_utf8(line(&first, false)).unwrap();
    let (_, digits) = expected.split_once("\"sha256\":\"").unwrap();
    for tree in [false, true] {
        let to = LoopFilesystem::new();
        let file = save(&from, &[line(&first, tree)]);
        let options = [&*file, "--exclude-xattr=user.*"];
        let output = receive(&stream, &options, to.path());
        let stderr = text(&output).1;
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&digits[..64]), "{stderr}");
        assert!(
            stderr.contains("the digest of the subvolume is "),
            "{stderr}"
        );
        let named = ".: xattr user.root: expected ";
        assert_eq!(stderr.contains(named), tree, "{stderr}");
        assert!(!is_complete(&to.path().join("first")));
    }
    // Of another subvolume, or deleted as the options say.
    let to = LoopFilesystem::new();
    let file = save(&from, &[line(&second, false)]);
    let output = receive(&stream, &[&file, "--on-error=delete"], to.path());
    let stderr = text(&output).1;
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("has no digest of the subvolume"),
        "{stderr}"
    );
    assert!(stderr.contains("btrfs-lineage digest --json"), "{stderr}");
    assert!(names_in(to.path()).is_empty());
    // Of the parent.
    let file = save(&from, &[line(&first, false)]);
    let change = Sender::new(&second).parent(&first).version(2).to_vec();
    let stream = [stream, change].concat();
    let output = receive(&stream, &[&file], to.path());
    let stderr = text(&output).1;
    let named = format!(
        "has no digest of the subvolume {}, but one of its parent",
        subvolume::facts(&second).uuid
    );
    assert!(stderr.contains(&named), "{stderr}");
}

fn acl(work: &Path, user: u32, permissions: u16) {
    let acl = files::acl(user, permissions);
    files::set_xattr(work, "system.posix_acl_access", &acl).unwrap();
}

/// What is set after the check is part of it.
fn the_root_counts() {
    type Change = fn(&Path);
    let build: [Change; 3] = [
        |_| {},
        |work| files::set_mode(work, 0o2751).unwrap(),
        |work| {
            acl(work, 1234, 5);
            files::set_mode(work, 0o1745).unwrap();
        },
    ];
    let change: [Change; 5] = [
        |_| {},
        |work| chown(work, Some(5), Some(6)).unwrap(),
        |work| files::set_mode(work, 0o4710).unwrap(),
        |work| acl(work, 77, 1),
        |work| _ = files::remove_xattr(work, "system.posix_acl_access"),
    ];
    for (at, build) in build.into_iter().enumerate() {
        let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
        for (number, change) in change.into_iter().enumerate() {
            let work = subvolume::create(&from.path().join(format!("work {number}")));
            build(&work);
            let name = |which: &str| from.path().join(format!("{which} {number}"));
            let first = subvolume::snapshot_read_only(&work, &name("first"));
            change(&work);
            std::fs::write(work.join("file"), "text").unwrap();
            let second = subvolume::snapshot_read_only(&work, &name("second"));
            let mut stream = Sender::new(&first).to_vec();
            stream.extend(Sender::new(&second).parent(&first).to_vec());
            let file = save(&from, &[line(&first, true), line(&second, true)]);
            let output = receive(&stream, &[&file], to.path());
            assert!(
                output.status.success(),
                "{at} {number}: {}",
                text(&output).1
            );
            // And what was foreseen is what came.
            let received = to.path().join(format!("second {number}"));
            btrfs_testkit::assert_same_tree(&second, &received);
        }
    }
}

/// Another state of the parent, which no UUID tells from the right one.
fn a_changed_parent_is_found() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("file"), "text").unwrap();
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    std::fs::write(work.join("more"), "text").unwrap();
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    let output = receive(&Sender::new(&first).to_vec(), &[], to.path());
    assert!(output.status.success());
    let parent = to.path().join("first");
    let uuid = subvolume::facts(&parent).received_uuid.unwrap();
    subvolume::set_read_only(&parent, false);
    std::fs::write(parent.join("file"), "next").unwrap();
    subvolume::stamp(&parent, &uuid, 7);
    subvolume::set_read_only(&parent, true);
    let stream = Sender::new(&second).parent(&first).to_vec();
    let file = save(&from, &[line(&second, true)]);
    let output = receive(&stream, &[&file], to.path());
    let stderr = text(&output).1;
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("file: content: expected "), "{stderr}");
    assert!(!is_complete(&to.path().join("second")));
}

fn a_file_that_is_none_is_refused() {
    let to = LoopFilesystem::new();
    let file = to.path().join("file");
    for (content, why) in [
        (&b""[..], "no digest"),
        (b"{}", "line 1: missing field"),
        (b"\n{\"format\":9}\n", "line 2: the digest has format 9"),
        (b"\xff", "line 1: "),
    ] {
        std::fs::write(&file, content).unwrap();
        let option = format!("--digest={}", file.display());
        let output = receive(b"", &[&option], to.path());
        let stderr = text(&output).1;
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&option) && stderr.contains(why), "{stderr}");
    }
}
