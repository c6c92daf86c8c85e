//! `--writable` and `--replace`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use btrfs_sendstream::{Command, SubvolumeName, Uuid, Version};
use btrfs_testkit::{LoopFilesystem, Test, assert_same_tree, files, subvolume, test};
use rustix::fs::IFlags;
use serde_json::Value;

use crate::support::{Sent, command, encode, names_in, receive, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_writable_snapshot_beside_the_received_one),
        test!(a_free_name_is_taken_by_replace_too),
        test!(the_old_one_gets_another_name),
        test!(the_old_one_is_deleted),
        test!(the_last_subvolume_is_meant),
        test!(a_chain_that_is_complete_goes_on_with_the_snapshot),
        test!(in_a_sandbox),
        test!(what_is_in_the_way_is_found_before_the_receive),
        test!(what_is_mounted_is_replaced_and_not_deleted),
        test!(what_cannot_be_deleted_stays_under_another_name),
        test!(what_comes_in_between_is_found),
        test!(a_failed_receive_replaces_nothing),
        test!(an_immutable_root),
        test!(what_an_interruption_left_is_reported),
        test!(a_snapshot_of_the_same_is_replaced),
        test!(what_happened_is_told_in_json),
        test!(anywhere_on_the_filesystem),
        test!(others_who_rename_meanwhile),
    ]
}

/// A destination with a subvolume `home` that holds the file `mine`.
fn with_home() -> (LoopFilesystem, PathBuf) {
    let to = LoopFilesystem::new();
    let home = subvolume::create(&to.path().join("home"));
    fs::write(home.join("mine"), "mine").unwrap();
    (to, home)
}

fn is_old(path: &Path) -> bool {
    path.join("mine").exists()
}

/// Runs a program that has to succeed.
#[track_caller]
fn program(name: &str, arguments: &[&Path]) {
    let status = std::process::Command::new(name).args(arguments).status();
    assert!(status.unwrap().success(), "{name} {arguments:?}");
}

/// The received subvolume is complete, and `writable` is a writable snapshot of it.
#[track_caller]
fn check(received: &Path, writable: &Path) {
    let (of, made) = (subvolume::facts(received), subvolume::facts(writable));
    assert!(of.read_only && of.received_uuid.is_some());
    assert!(!made.read_only && made.received_uuid.is_none(), "{made:?}");
    assert_eq!(made.send_transid, 0);
    assert_eq!(made.parent_uuid, Some(of.uuid));
    assert_same_tree(received, writable);
}

fn a_writable_snapshot_beside_the_received_one() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let output = receive(&sent.full, &["--writable=home"], to.path());
    let (_, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    let said = "home is a writable snapshot of first\n";
    assert!(stderr.ends_with(said), "{stderr}");
    let (first, home) = (to.path().join("first"), to.path().join("home"));
    check(&first, &home);
    fs::write(home.join("new"), "new").unwrap();
    // The received one goes on being a parent.
    let output = receive(&sent.incremental, &["-q", "--writable=work"], to.path());
    assert!(output.status.success(), "{}", text(&output).1);
    assert_eq!(text(&output).1, "");
    check(&to.path().join("second"), &to.path().join("work"));
    assert_same_tree(&sent.from.path().join("second"), &to.path().join("second"));
    assert_eq!(names_in(to.path()), ["first", "home", "second", "work"]);
}

fn a_free_name_is_taken_by_replace_too() {
    for options in [&["--replace=home"][..], &["--replace=home", "--delete-old"]] {
        let (sent, to) = (Sent::small(), LoopFilesystem::new());
        let output = receive(&sent.full, options, to.path());
        assert!(output.status.success(), "{}", text(&output).1);
        check(&to.path().join("first"), &to.path().join("home"));
        assert_eq!(names_in(to.path()), ["first", "home"]);
    }
}

fn the_old_one_gets_another_name() {
    let sent = Sent::new();
    let long = "x".repeat(255);
    for (option, old) in [
        (None, "home.old"),
        (Some(format!("--keep-old={long}")), &*long),
    ] {
        let (to, home) = with_home();
        let id = subvolume::facts(&home).id;
        let options: Vec<_> = ["--replace=home"]
            .into_iter()
            .chain(option.as_deref())
            .collect();
        // Who uses the old one goes on doing so.
        let mut open = fs::File::options()
            .append(true)
            .open(home.join("mine"))
            .unwrap();
        let output = receive(&sent.full, &options, to.path());
        let (_, stderr) = text(&output);
        assert!(output.status.success(), "{stderr}");
        let said = format!("home is a writable snapshot of first; the old one is {old}\n");
        assert!(stderr.ends_with(&said), "{stderr}");
        check(&to.path().join("first"), &home);
        std::io::Write::write_all(&mut open, b" too").unwrap();
        let old = to.path().join(old);
        assert_eq!(subvolume::facts(&old).id, id);
        assert_eq!(fs::read_to_string(old.join("mine")).unwrap(), "mine too");
        assert_eq!(names_in(to.path()).len(), 3);
    }
}

fn the_old_one_is_deleted() {
    let sent = Sent::new();
    let (to, home) = with_home();
    let options = ["--replace=home", "--delete-old"];
    let output = receive(&sent.full, &options, to.path());
    let (_, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.ends_with("; the old one was deleted\n"), "{stderr}");
    check(&to.path().join("first"), &home);
    assert_eq!(names_in(to.path()), ["first", "home"]);
}

fn the_last_subvolume_is_meant() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let input = [&sent.full[..], &sent.incremental].concat();
    let output = receive(&input, &["--writable=home"], to.path());
    assert!(output.status.success(), "{}", text(&output).1);
    check(&to.path().join("second"), &to.path().join("home"));
    // The first stream alone.
    let to = LoopFilesystem::new();
    let output = receive(&input, &["-e", "--writable=home"], to.path());
    assert!(output.status.success(), "{}", text(&output).1);
    check(&to.path().join("first"), &to.path().join("home"));
    // Under another name.
    let to = LoopFilesystem::new();
    let options = ["--name=other", "--atomic", "--writable=first"];
    let output = receive(&sent.full, &options, to.path());
    assert!(output.status.success(), "{}", text(&output).1);
    check(&to.path().join("other"), &to.path().join("first"));
}

fn chain(sent: &Sent, options: &[&str], to: &Path) -> std::process::Output {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("b"), &sent.full).unwrap();
    fs::write(directory.path().join("a"), &sent.incremental).unwrap();
    let mut command = command(options);
    command.arg("--chain").arg(directory.path()).arg(to);
    command.output().unwrap()
}

fn a_chain_that_is_complete_goes_on_with_the_snapshot() {
    let sent = Sent::small();
    let (to, home) = with_home();
    assert!(
        chain(&sent, &["--writable=first.rw"], to.path())
            .status
            .success()
    );
    check(&to.path().join("second"), &to.path().join("first.rw"));
    let output = chain(&sent, &["--replace=home"], to.path());
    let (_, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("second is already complete"), "{stderr}");
    check(&to.path().join("second"), &home);
    assert!(is_old(&to.path().join("home.old")));
}

fn in_a_sandbox() {
    let sent = Sent::new();
    for option in ["--keep-old=before", "--delete-old"] {
        let (to, home) = with_home();
        let options = ["--sandbox", "--replace=home", option];
        let output = receive(&sent.full, &options, to.path());
        assert!(output.status.success(), "{}", text(&output).1);
        check(&to.path().join("first"), &home);
        let is_kept = option != "--delete-old";
        assert_eq!(to.path().join("before").exists(), is_kept);
    }
}

/// Runs a receive that has to be refused before it begins.
#[track_caller]
fn refused(sent: &Sent, options: &[&str], to: &Path, whys: &[&str]) {
    let before = names_in(to);
    let output = receive(&sent.full, options, to);
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for why in ["nothing is received: ", "ERROR:   to do: "]
        .iter()
        .chain(whys)
    {
        assert!(stderr.contains(why), "{why}: {stderr}");
    }
    assert_eq!(names_in(to), before);
}

fn what_is_in_the_way_is_found_before_the_receive() {
    let sent = Sent::small();
    let (to, home) = with_home();
    let at = to.path();
    refused(
        &sent,
        &["--writable=home"],
        at,
        &["/home exists", "--replace=NAME"],
    );
    fs::write(at.join("file"), "").unwrap();
    fs::create_dir(at.join("directory")).unwrap();
    symlink("home", at.join("link")).unwrap();
    symlink("nowhere", at.join("dangling")).unwrap();
    for name in ["file", "directory", "link", "dangling"] {
        let whys = [&*format!("/{name} is not a subvolume"), "rename or delete"];
        refused(&sent, &[&format!("--replace={name}")], at, &whys);
        refused(
            &sent,
            &[&format!("--replace={name}"), "--delete-old"],
            at,
            &whys,
        );
        refused(&sent, &[&format!("--writable={name}")], at, &["exists"]);
        let keep = format!("--keep-old={name}");
        refused(
            &sent,
            &["--replace=home", &keep],
            at,
            &[&format!("/{name} exists")],
        );
    }
    fs::create_dir(at.join("home.old")).unwrap();
    refused(&sent, &["--replace=home"], at, &["/home.old exists"]);
    fs::remove_dir(at.join("home.old")).unwrap();
    let inner = subvolume::create(&home.join("inner"));
    let whys = ["/home contains other subvolumes", "subvolume list -o"];
    refused(&sent, &["--replace=home"], at, &whys);
    subvolume::delete(&inner);
    subvolume::set_read_only(&home, true);
    let whys = ["/home is read-only, and is not deleted", "--keep-old"];
    refused(&sent, &["--replace=home", "--delete-old"], at, &whys);
    assert!(is_old(&home));
    // But it is replaced.
    let output = receive(&sent.full, &["--replace=home"], at);
    assert!(output.status.success(), "{}", text(&output).1);
    check(&at.join("first"), &home);
    assert!(subvolume::facts(&at.join("home.old")).read_only);
}

/// The kernel deletes what is mounted.
fn what_is_mounted_is_replaced_and_not_deleted() {
    let sent = Sent::small();
    let (to, home) = with_home();
    let at = to.path();
    let mount = to.mount("subvol=home");
    let whys = ["/home is mounted, and is not deleted", "findmnt"];
    refused(&sent, &["--replace=home", "--delete-old"], at, &whys);
    drop(mount);
    // A directory in it counts, too.
    fs::create_dir(home.join("directory")).unwrap();
    let mount = to.bind(&home.join("directory"));
    refused(&sent, &["--replace=home", "--delete-old"], at, &whys);
    drop(mount);
    // Over itself, and another filesystem over it.
    for what in [&home, LoopFilesystem::new().path()] {
        program("mount", &["--bind".as_ref(), what, &home]);
        let output = receive(&sent.full, &["--replace=home"], at);
        let (_, stderr) = text(&output);
        program("umount", &[&home]);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("/home is a mount point"), "{stderr}");
        assert!(stderr.contains("to do: unmount "), "{stderr}");
        if at.join("first").exists() {
            subvolume::delete(&at.join("first"));
        }
        assert_eq!(names_in(at), ["home"]);
        assert!(is_old(&home));
    }
    let mount = to.mount("subvol=home");
    let output = receive(&sent.full, &["--replace=home"], at);
    assert!(output.status.success(), "{}", text(&output).1);
    check(&at.join("first"), &home);
    assert!(is_old(mount.path()) && is_old(&at.join("home.old")));
}

fn what_cannot_be_deleted_stays_under_another_name() {
    let sent = Sent::small();
    let (to, home) = with_home();
    let id = subvolume::facts(&home).id;
    let set = |id: u64| {
        let id = id.to_string();
        let what = ["subvolume", "set-default", &id].map(Path::new);
        program("btrfs", &[what[0], what[1], what[2], to.path()]);
    };
    set(id);
    let output = receive(
        &sent.full,
        &["--replace=home", "--delete-old", "--json"],
        to.path(),
    );
    set(5);
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let names = names_in(to.path());
    let left = &names[2];
    assert!(left.starts_with("home.restoring-"), "{names:?}");
    for part in [
        left,
        "the old subvolume is ",
        "get-default",
        "complete: first",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(stdout.contains("\"event\":\"writable\""), "{stdout}");
    assert!(
        stdout.ends_with("{\"event\":\"end\",\"success\":false}\n"),
        "{stdout}"
    );
    check(&to.path().join("first"), &home);
    assert_eq!(subvolume::facts(&to.path().join(left)).id, id);
}

/// The stream takes the name itself, which nobody can know before.
fn what_comes_in_between_is_found() {
    let sent = Sent::small();
    for (option, why) in [
        ("--writable=first", "/first exists"),
        ("--replace=first", "/first is the received subvolume itself"),
    ] {
        let to = LoopFilesystem::new();
        let output = receive(&sent.full, &[option], to.path());
        let (_, stderr) = text(&output);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        for part in [
            why,
            "is complete, but the writable snapshot of it failed",
            "complete: first",
        ] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        assert_eq!(names_in(to.path()), ["first"]);
        let facts = subvolume::facts(&to.path().join("first"));
        assert!(facts.read_only && facts.received_uuid.is_some());
    }
    // It takes the name that the old one is to have.
    let (to, home) = with_home();
    let options = ["--replace=home", "--keep-old=first"];
    let output = receive(&sent.full, &options, to.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).1.contains("/first exists"));
    assert!(is_old(&home));
    assert_eq!(names_in(to.path()), ["first", "home"]);
}

fn a_failed_receive_replaces_nothing() {
    let sent = Sent::small();
    let (to, home) = with_home();
    let cut = &sent.full[..sent.full.len() - 10];
    for (input, option) in [
        (cut, "--delete-old"),
        (&[][..], "--keep-old=before"),
        // The first of two is complete.
        (
            &[&sent.full[..], &sent.incremental[..30]].concat()[..],
            "--delete-old",
        ),
    ] {
        let output = receive(input, &["--replace=home", option], to.path());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output).1);
        assert!(is_old(&home) && !subvolume::facts(&home).read_only);
        for name in names_in(to.path()) {
            if name != "home" {
                subvolume::delete(&to.path().join(name));
            }
        }
    }
}

/// Neither the new one nor the old one can be renamed if its root is immutable.
fn an_immutable_root() {
    let (to, home) = with_home();
    let stream = encode(
        Version::V2,
        &[
            Command::Subvol {
                name: SubvolumeName::parse(&b"fixed"[..]).unwrap(),
                uuid: Uuid::from_u128(7),
                ctransid: 8,
            },
            Command::FileAttr {
                path: btrfs_sendstream::StreamPath::parse(&b""[..]).unwrap(),
                attributes: btrfs_sendstream::inode_flags::IMMUTABLE,
            },
            Command::End,
        ],
    );
    let output = receive(&stream, &["--replace=home", "--delete-old"], to.path());
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("Operation not permitted"), "{stderr}");
    assert!(is_old(&home));
    assert_eq!(names_in(to.path()), ["fixed", "home"], "{stderr}");
    subvolume::delete(&to.path().join("fixed"));
    files::change_flags(&home, IFlags::IMMUTABLE, IFlags::empty()).unwrap();
    let sent = Sent::small();
    let output = receive(&sent.full, &["--replace=home"], to.path());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(names_in(to.path()), ["first", "home"]);
    assert!(is_old(&home));
    files::change_flags(&home, IFlags::empty(), IFlags::IMMUTABLE).unwrap();
    // A free name is no rename.
    let output = receive(&stream, &["--writable=free"], to.path());
    assert!(output.status.success(), "{}", text(&output).1);
    subvolume::delete(&to.path().join("fixed"));
    subvolume::delete(&to.path().join("free"));
}

fn what_an_interruption_left_is_reported() {
    let sent = Sent::small();
    let (to, home) = with_home();
    let left = to.path().join("home.restoring-0123456789abcdef");
    subvolume::create(&left);
    subvolume::create(&to.path().join("home.restoring-0123456789abcde"));
    let output = receive(&sent.full, &["--replace=home"], to.path());
    let (_, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    let said = "home.restoring-0123456789abcdef is left from a --replace";
    assert!(stderr.contains(said), "{stderr}");
    assert_eq!(stderr.matches("WARNING").count(), 1, "{stderr}");
    assert!(left.exists());
    check(&to.path().join("first"), &home);
}

/// Both are children of the received one.
fn a_snapshot_of_the_same_is_replaced() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let home = to.path().join("home");
    assert!(
        chain(&sent, &["--replace=home"], to.path())
            .status
            .success()
    );
    fs::write(home.join("mine"), "mine").unwrap();
    assert!(
        chain(&sent, &["--replace=home"], to.path())
            .status
            .success()
    );
    assert!(is_old(&to.path().join("home.old")) && !is_old(&home));
    check(&to.path().join("second"), &home);
}

fn what_happened_is_told_in_json() {
    let sent = Sent::small();
    let (to, home) = with_home();
    let old = subvolume::facts(&home);
    let output = receive(&sent.full, &["--json", "--replace=home"], to.path());
    let (stdout, stderr) = text(&output);
    assert!(output.status.success(), "{stderr}");
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told = &lines[lines.len() - 2];
    let new = subvolume::facts(&home);
    assert_eq!(told["event"], "writable");
    assert_eq!(told["name"], "home");
    assert_eq!(told["of"], "first");
    assert_eq!(told["subvolume_id"], new.id);
    assert_eq!(told["uuid"], new.uuid);
    assert_eq!(told["replaced"]["name"], "home.old");
    assert_eq!(told["replaced"]["subvolume_id"], old.id);
    assert_eq!(told["replaced"]["uuid"], old.uuid);
    assert_eq!(lines.last().unwrap()["success"], true);
}

/// A directory in a subvolume, seen through a mount of that subvolume.
fn anywhere_on_the_filesystem() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let around = subvolume::create(&to.path().join("around"));
    fs::create_dir(around.join("directory")).unwrap();
    let home = subvolume::create(&around.join("directory/home"));
    fs::write(home.join("mine"), "mine").unwrap();
    let mount = to.mount("subvol=around");
    let at = mount.path().join("directory");
    for (option, names) in [
        ("--keep-old=before", &["before", "first", "home"][..]),
        ("--delete-old", &["before", "first", "home"]),
    ] {
        let output = receive(&sent.full, &["--replace=home", option], &at);
        assert!(output.status.success(), "{}", text(&output).1);
        check(&at.join("first"), &at.join("home"));
        assert_eq!(names_in(&at), names);
        subvolume::delete(&at.join("first"));
    }
    assert!(is_old(&around.join("directory/before")));
}

/// Somebody who may write to the directory gives the name to one subvolume and another,
/// again and again. What has the name in the end, or is deleted, is one of the two, and
/// neither is lost with the other.
fn others_who_rename_meanwhile() {
    let sent = Sent::small();
    let (mut replaced, mut refused) = (0, 0);
    for round in 0..12 {
        let (to, home) = with_home();
        assert!(receive(&sent.full, &[], to.path()).status.success());
        let other = subvolume::create(&to.path().join("other"));
        fs::write(other.join("theirs"), "theirs").unwrap();
        let stored = tempfile::tempdir().unwrap();
        fs::write(stored.path().join("stream"), &sent.full).unwrap();
        let option = if round % 2 == 0 {
            "--delete-old"
        } else {
            "--keep-old=before"
        };
        let mut command = command(&["--replace=home", option, "--chain"]);
        let mut child = command.arg(stored.path()).arg(to.path()).spawn().unwrap();
        let status = loop {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            let cwd = rustix::fs::CWD;
            let _ = rustix::fs::renameat_with(cwd, &home, cwd, &other, exchange);
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
        };
        let found = |file: &str| {
            let names = names_in(to.path()).into_iter();
            names
                .filter(|name| to.path().join(name).join(file).exists())
                .count()
        };
        let (mine, theirs, new) = (found("mine"), found("theirs"), found("file"));
        assert!(home.exists() && other.exists());
        if status.success() {
            replaced += 1;
            let gone = usize::from(option == "--delete-old");
            assert_eq!((mine + theirs, new), (2 - gone, 2), "{option}");
        } else {
            refused += 1;
            assert!(mine + theirs >= 1, "{option}");
            assert!(new >= 1, "{option}");
        }
        let first = subvolume::facts(&to.path().join("first"));
        assert!(first.read_only && first.received_uuid.is_some());
    }
    eprintln!("replaced {replaced} times, refused {refused} times");
}
