//! `list`: what a subvolume contains, from streams that a kernel sent, and by hand.

use std::fs;
use std::process::{Command, Output};

use btrfs_sendstream::{Command as Sent, StreamPath, SubvolumeName, Timespec, Uuid};

use crate::streams::{build, full_stream, kernel_stream};

fn list(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sendstream"))
        .arg("list")
        .args(args)
        .env("TZ", "UTC")
        .output()
        .unwrap()
}

fn ok(args: &[&str]) -> String {
    let output = list(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is said where nothing may be listed.
fn fails(args: &[&str]) -> String {
    let output = list(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_chain_may_be_given_in_any_order_and_packed() {
    let (full, incremental) = (kernel_stream("full.v1"), kernel_stream("incr.v2"));
    let (first, both) = (
        ok(&["-l", &full]),
        ok(&["-l", &kernel_stream("concat-mixed")]),
    );
    assert_ne!(first, both);
    assert!(both.starts_with("drwx"));
    assert_eq!(ok(&["-l", &full, &incremental]), both);
    assert_eq!(ok(&["-l", &incremental, &full]), both);
    assert_eq!(ok(&["-l", "--subvolume=s1", &incremental, &full]), first);
    assert_eq!(ok(&["-l", "--subvolume=s2", &incremental, &full]), both);
    // The same changes without data.
    let no_data = kernel_stream("incr-nodata.v1");
    assert_eq!(ok(&["-l", &full, &no_data]), both);
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    fs::copy(&full, directory.path().join("z.stream")).unwrap();
    let gzip = Command::new("gzip").args(["-c", &incremental]).output();
    fs::write(directory.path().join("a.gz"), gzip.unwrap().stdout).unwrap();
    assert_eq!(ok(&["-l", at]), both);
}

#[test]
fn no_tree_is_printed_that_is_not_whole() {
    let (full, incremental) = (kernel_stream("full.v1"), kernel_stream("incr.v2"));
    let message = fails(&[&incremental]);
    assert!(message.contains("and its parent"), "{message}");
    assert!(
        message.contains("add the stream of the parent"),
        "{message}"
    );
    // Two subvolumes that do not make one tree.
    let message = fails(&[&kernel_stream("multi.v1")]);
    assert!(message.contains("a second full stream begins"), "{message}");
    let message = fails(&[&full, "--subvolume=other"]);
    assert!(message.contains("no stream begins with"), "{message}");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let stream = fs::read(&full).unwrap();
    fs::write(at("cut"), &stream[..stream.len() - 20]).unwrap();
    fails(&[&at("cut")]);
    fails(&[&at("cut"), &incremental]);
    let mut damaged = stream.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(at("damaged"), damaged).unwrap();
    fails(&[&at("damaged"), &incremental]);
    // The newest stream may be the one that cannot be read.
    fs::write(at("unreadable"), damaged_beginning(&stream)).unwrap();
    let message = fails(&[&at("unreadable"), &full]);
    assert!(message.contains("choose the subvolume"), "{message}");
    let output = list(&["--subvolume=s1", &at("unreadable"), &full]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), ok(&[&full]));
    // Of several files, each has one subvolume.
    let other = build(&full_stream("other", 5, &[]));
    fs::write(at("other"), other).unwrap();
    // A parent with the same UUID and another transid is another state of it.
    let changed = Sent::Snapshot {
        name: SubvolumeName::parse(&b"next"[..]).unwrap(),
        uuid: Uuid::from_u128(6),
        ctransid: 9,
        parent_uuid: Uuid::from_u128(5),
        parent_ctransid: 8,
    };
    fs::write(at("next"), build(&[changed, Sent::End])).unwrap();
    let message = fails(&[&at("other"), &at("next")]);
    assert!(message.contains("one UUID with two transids"), "{message}");
    let (mixed, other) = (kernel_stream("concat-mixed"), at("other"));
    let message = fails(&["--subvolume=s1", &mixed, &other]);
    assert!(message.contains("sendstream split"), "{message}");
    let message = fails(&[&full, &other]);
    assert!(message.contains("choose one with --subvolume"), "{message}");
    assert_eq!(ok(&["--subvolume=other", &full, &other]), ".\n");
    let uuid = "--subvolume=00000000-0000-0000-0000-000000000005";
    assert_eq!(ok(&[uuid, &full, &other]), ".\n");
}

fn damaged_beginning(stream: &[u8]) -> Vec<u8> {
    let mut damaged = stream.to_vec();
    damaged[40] ^= 1;
    damaged
}

#[test]
fn names_stay_on_their_line() {
    let path = |text: &'static [u8]| StreamPath::parse(text).unwrap();
    let file = path(b"d/a b\n\xff");
    let time = Timespec {
        seconds: 1_700_000_000,
        nanoseconds: 5,
    };
    let stream = full_stream(
        "s",
        1,
        &[
            Sent::Mkdir {
                path: path(b"d"),
                ino: 257,
            },
            Sent::Mkfile {
                path: file,
                ino: 258,
            },
            Sent::Write {
                path: file,
                offset: 10,
                data: b"text",
            },
            Sent::Chown {
                path: file,
                uid: 1000,
                gid: 100,
            },
            Sent::Chmod {
                path: file,
                mode: 0o4754,
            },
            Sent::Utimes {
                path: file,
                atime: time,
                mtime: time,
                ctime: time,
                otime: None,
            },
            Sent::Symlink {
                path: path(b"l"),
                ino: 259,
                target: b"to here",
            },
            Sent::Mknod {
                path: path(b"null"),
                ino: 260,
                rdev: 0x103,
                mode: 0o020_666,
            },
        ],
    );
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("stream");
    fs::write(&at, build(&stream)).unwrap();
    let at = at.to_str().unwrap();
    assert_eq!(ok(&[at]), ".\nd\nd/a\\ b\\n\\377\nl\nnull\n");
    let expected = "\
d?????????   1     ?     ?            - ? .
d?????????   1     ?     ?            - ? d
-rwsr-xr--   1  1000   100           14 2023-11-14T22:13:20+0000 d/a\\ b\\n\\377
lrwxrwxrwx   1     ?     ?            - ? l -> to\\ here
c?????????   1     ?     ?          1,3 ? null
";
    assert_eq!(ok(&["--long", at]), expected);
    let raw = list(&["-0", at]).stdout;
    assert_eq!(raw, b".\0d\0d/a b\n\xff\0l\0null\0");
}
