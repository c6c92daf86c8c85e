//! `cat-file`: files of streams that a kernel sent, and of streams by hand. Random
//! histories are in the tests of `btrfs-receive`.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use btrfs_sendstream::{
    CloneRange, Command as Sent, CommandRef, EncodedWrite, StreamPath, SubvolumeName, Uuid,
};
use tempfile::TempDir;

use crate::streams::{build, full_stream, kernel_stream};

fn run(command: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sendstream"))
        .arg(command)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn ok(args: &[&str]) -> Vec<u8> {
    let output = run("cat-file", args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    output.stdout
}

/// What is said where nothing may be printed.
fn fails(args: &[&str]) -> String {
    let output = run("cat-file", args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn path(text: &str) -> StreamPath<&[u8]> {
    StreamPath::parse(text.as_bytes()).unwrap()
}

fn mkfile(at: &str) -> CommandRef<'_> {
    let path = path(at);
    Sent::Mkfile { path, ino: 257 }
}

fn mkdir(at: &str) -> CommandRef<'_> {
    let path = path(at);
    Sent::Mkdir { path, ino: 257 }
}

fn write<'a>(at: &'a str, offset: u64, data: &'a str) -> CommandRef<'a> {
    let (path, data) = (path(at), data.as_bytes());
    Sent::Write { path, offset, data }
}

fn truncate(at: &str, size: u64) -> CommandRef<'_> {
    let path = path(at);
    Sent::Truncate { path, size }
}

fn rename<'a>(from: &'a str, to: &'a str) -> CommandRef<'a> {
    let (path, to) = (path(from), path(to));
    Sent::Rename { path, to }
}

fn link<'a>(at: &'a str, existing: &'a str) -> CommandRef<'a> {
    let (path, existing) = (path(at), path(existing));
    Sent::Link { path, existing }
}

fn unlink(at: &str) -> CommandRef<'_> {
    let path = path(at);
    Sent::Unlink { path }
}

fn fallocate(at: &str, mode: u32, offset: u64, len: u64) -> CommandRef<'_> {
    let path = path(at);
    Sent::Fallocate {
        path,
        mode,
        offset,
        len,
    }
}

/// Clones `len` bytes from a file of a subvolume with the transid 7.
fn clone<'a>(
    (at, offset): (&'a str, u64),
    len: u64,
    uuid: u128,
    (from, source_offset): (&'a str, u64),
) -> CommandRef<'a> {
    Sent::Clone(CloneRange {
        path: path(at),
        offset,
        len,
        source_uuid: Uuid::from_u128(uuid),
        source_ctransid: 7,
        source_path: path(from),
        source_offset,
    })
}

fn incremental<'a>(
    name: &'a str,
    (uuid, parent): (u128, u128),
    commands: &[CommandRef<'a>],
) -> Vec<CommandRef<'a>> {
    let first = Sent::Snapshot {
        name: SubvolumeName::parse(name.as_bytes()).unwrap(),
        uuid: Uuid::from_u128(uuid),
        ctransid: 7,
        parent_uuid: Uuid::from_u128(parent),
        parent_ctransid: 7,
    };
    [&[first], commands, &[Sent::End]].concat()
}

/// Stored streams, in a directory whose path is returned too.
fn stored(streams: &[(&str, &[CommandRef<'_>])]) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, commands) in streams {
        fs::write(directory.path().join(name), build(commands)).unwrap();
    }
    let at = directory.path().to_str().unwrap().to_owned();
    (directory, at)
}

/// The content of a file of the one subvolume that these commands make.
fn content(commands: &[CommandRef<'_>], file: &str) -> String {
    let stream = full_stream("s", 1, commands);
    let (_directory, at) = stored(&[("s", &stream)]);
    String::from_utf8(ok(&[file, &at])).unwrap()
}

/// The paths of regular files that are UTF-8.
fn files(streams: &[&str]) -> Vec<String> {
    let args = [&["--format=json"], streams].concat();
    let listed = String::from_utf8(run("list", &args).stdout).unwrap();
    let lines = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines = lines.filter(|it: &serde_json::Value| it["kind"] == "file");
    let paths = lines.map(|it| it["path"].as_str().map(str::to_owned));
    paths.flatten().collect()
}

#[test]
fn files_of_kernel_streams_are_the_same_in_any_form() {
    let (full, incremental) = (kernel_stream("full.v1"), kernel_stream("incr.v2"));
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    fs::copy(&full, directory.path().join("z.stream")).unwrap();
    let gzip = Command::new("gzip").args(["-c", &incremental]).output();
    fs::write(directory.path().join("a.gz"), gzip.unwrap().stdout).unwrap();
    let mixed = kernel_stream("concat-mixed");
    let paths = files(&[&mixed]);
    assert!(paths.len() > 3);
    for path in &paths {
        let expected = ok(&[path, &mixed]);
        assert_eq!(ok(&[path, &full, &incremental]), expected, "{path}");
        assert_eq!(ok(&[path, &incremental, &full]), expected, "{path}");
        let with_slashes = format!("/{path}/");
        assert_eq!(ok(&[&with_slashes, at]), expected, "{path}");
    }
    for path in files(&[&full]) {
        let expected = ok(&[&path, &full]);
        assert_eq!(ok(&["--subvolume=s1", &path, at]), expected, "{path}");
        assert_eq!(ok(&[&path, &kernel_stream("full.v2")]), expected, "{path}");
    }
}

#[test]
fn what_comes_later_counts() {
    let file = mkfile("f");
    let hello = write("f", 0, "hello world");
    for (commands, expected) in [
        (vec![file.clone()], ""),
        (
            vec![file.clone(), write("f", 3, "x"), write("f", 0, "ab")],
            "ab\0x",
        ),
        (
            vec![file.clone(), hello.clone(), write("f", 3, "XX")],
            "helXX world",
        ),
        (vec![file.clone(), hello.clone(), truncate("f", 5)], "hello"),
        (
            vec![
                file.clone(),
                hello.clone(),
                truncate("f", 2),
                truncate("f", 4),
            ],
            "he\0\0",
        ),
        (
            vec![
                file.clone(),
                hello.clone(),
                truncate("f", 2),
                write("f", 4, "z"),
            ],
            "he\0\0z",
        ),
        (
            vec![file.clone(), hello.clone(), fallocate("f", 3, 1, 3)],
            "h\0\0\0o world",
        ),
        (
            vec![file.clone(), hello.clone(), fallocate("f", 3, 9, 99)],
            "hello wor\0\0",
        ),
        (
            vec![
                file.clone(),
                hello.clone(),
                fallocate("f", 3, 0, 5),
                write("f", 1, "i"),
            ],
            "\0i\0\0\0 world",
        ),
        // Space is allocated, and the content stays.
        (
            vec![file.clone(), hello.clone(), fallocate("f", 1, 0, 99)],
            "hello world",
        ),
        (
            vec![file.clone(), hello.clone(), fallocate("f", 0, 5, 8)],
            "hello world\0\0",
        ),
        (
            vec![file.clone(), hello.clone(), fallocate("f", 0x10, 9, 3)],
            "hello wor\0\0\0",
        ),
        // Within the file, in a row, and from what was overwritten since.
        (
            vec![
                file.clone(),
                hello.clone(),
                clone(("f", 11), 5, 1, ("f", 0)),
                clone(("f", 16), 10, 1, ("f", 6)),
                write("f", 0, "HELLO"),
            ],
            "HELLO worldhelloworldhello",
        ),
        (
            vec![
                mkfile("g"),
                write("g", 0, "abcdef"),
                file.clone(),
                clone(("f", 1), 3, 1, ("g", 2)),
                truncate("g", 0),
                write("g", 0, "......"),
            ],
            "\0cde",
        ),
        // From a file that has another name then, and is gone in the end.
        (
            vec![
                mkfile("o257-7-0"),
                write("o257-7-0", 0, "abc"),
                rename("o257-7-0", "g"),
                file.clone(),
                clone(("f", 0), 3, 1, ("g", 0)),
                unlink("g"),
                mkfile("g"),
                write("g", 0, "new"),
            ],
            "abc",
        ),
        // Under its other name, which a rename leaves alone.
        (
            vec![
                file.clone(),
                link("g", "f"),
                rename("f", "g"),
                write("g", 0, "both"),
                write("f", 0, "B"),
            ],
            "Both",
        ),
        // In the place of another, whose content is gone.
        (
            vec![
                file.clone(),
                hello.clone(),
                mkfile("g"),
                write("g", 1, "G"),
                rename("g", "f"),
            ],
            "\0G",
        ),
        (
            vec![file.clone(), hello.clone(), unlink("f"), file.clone()],
            "",
        ),
    ] {
        assert_eq!(content(&commands, "f"), expected, "{commands:?}");
    }
}

#[test]
fn chains_and_their_clones() {
    let first = full_stream(
        "monday",
        1,
        &[
            mkdir("d"),
            mkfile("d/f"),
            write("d/f", 0, "monday"),
            mkfile("old"),
            write("old", 0, "OLD"),
            mkfile("gone"),
            write("gone", 0, "gone"),
        ],
    );
    let second = incremental(
        "tuesday",
        (2, 1),
        &[
            unlink("gone"),
            mkfile("gone"),
            write("gone", 0, "GONE"),
            rename("d", "e"),
            write("e/f", 0, "tues"),
            truncate("e/f", 3),
            // From the parent, under the name and with the content that it has there.
            mkfile("was"),
            clone(("was", 0), 6, 1, ("d/f", 0)),
            clone(("was", 6), 4, 1, ("gone", 0)),
            clone(("was", 10), 4, 2, ("gone", 0)),
        ],
    );
    let third = incremental(
        "wednesday",
        (3, 2),
        &[
            unlink("old"),
            // From the parent of the parent.
            clone(("was", 0), 3, 1, ("old", 0)),
            clone(("was", 14), 3, 2, ("e/f", 0)),
            rename("e", "d"),
        ],
    );
    let (directory, at) = stored(&[("a", &third), ("b", &first), ("c", &second)]);
    for (subvolume, file, expected) in [
        ("monday", "d/f", "monday"),
        ("monday", "gone", "gone"),
        ("tuesday", "e/f", "tue"),
        ("tuesday", "gone", "GONE"),
        ("tuesday", "was", "mondaygoneGONE"),
        ("tuesday", "old", "OLD"),
        ("wednesday", "was", "OLDdaygoneGONEtue"),
        ("wednesday", "d/f", "tue"),
    ] {
        let wanted = format!("--subvolume={subvolume}");
        let found = ok(&[&wanted, file, &at]);
        assert_eq!(
            String::from_utf8(found).unwrap(),
            expected,
            "{subvolume}/{file}"
        );
    }
    // Without --subvolume, the last.
    assert_eq!(ok(&["d/f", &at]), b"tue");
    for (args, expected) in [
        (
            &["old", &at][..],
            "old does not exist in subvolume wednesday; the nearest directory is . (it exists in \
             tuesday, which is earlier)",
        ),
        (&["old", &at], "--subvolume chooses"),
        (
            &["d/x/y", &at],
            "d/x/y does not exist in subvolume wednesday; the nearest directory is d\n",
        ),
        (&["d/x/y", &at], "sendstream list prints the paths"),
        (&["d/f/x", &at], "d/f is a regular file"),
        (&["d", &at], "d is a directory"),
        (&["/", &at], ": . is a directory"),
    ] {
        let message = fails(args);
        assert!(message.contains(expected), "{args:?}: {message}");
    }
    // Without the first stream there is nothing.
    fs::remove_file(directory.path().join("b")).unwrap();
    let message = fails(&["gone", &at]);
    assert!(
        message.contains("add the stream of the parent"),
        "{message}"
    );
}

#[test]
fn encoded_data_is_decoded_and_cut() {
    let text = b"0123456789".repeat(500);
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &text).unwrap();
    let zlib = encoder.finish().unwrap();
    let encoded = |data| {
        Sent::EncodedWrite(EncodedWrite {
            path: path("f"),
            offset: 4096,
            unencoded_file_len: 3000,
            unencoded_len: 8192,
            unencoded_offset: 100,
            compression: Some(1),
            encryption: None,
            data,
        })
    };
    let commands = [
        mkfile("f"),
        encoded(&zlib),
        write("f", 5000, "in the middle"),
        clone(("f", 0), 20, 1, ("f", 4096)),
        truncate("f", 7000),
    ];
    let mut expected = vec![0; 7000];
    expected[4096..].copy_from_slice(&text[100..100 + 2904]);
    expected[5000..5013].copy_from_slice(b"in the middle");
    expected.copy_within(4096..4116, 0);
    assert_eq!(content(&commands, "f").as_bytes(), expected);
    // Damaged data is noticed where it is needed, with a valid checksum.
    let damaged = full_stream("s", 1, &[mkfile("f"), encoded(&zlib[1..]), mkfile("g")]);
    let (_directory, at) = stored(&[("s", &damaged)]);
    let message = fails(&["f", &at]);
    assert!(message.contains("encoded_write f"), "{message}");
    assert_eq!(ok(&["g", &at]), b"");
}

#[test]
fn nothing_wrong_is_printed() {
    let other = clone(("f", 0), 3, 9, ("f", 0));
    for (commands, expected) in [
        (
            vec![other.clone()],
            "cloned from subvolume 00000000-0000-0000-0000-000000000009",
        ),
        (
            vec![Sent::UpdateExtent {
                path: path("f"),
                offset: 1,
                len: 2,
            }],
            "--no-data",
        ),
        (
            vec![clone(("f", 0), 1, 1, ("missing", 0))],
            "missing is not a regular file",
        ),
        (
            vec![mkdir("d"), clone(("f", 0), 1, 1, ("d", 0))],
            "d is not a regular file",
        ),
        (
            vec![clone(("f", 0), 4, 1, ("g", 0))],
            "the source ends at byte 3",
        ),
        (
            vec![clone(("g", 9), 4, 1, ("g", 0))],
            "before the end of the range",
        ),
        (vec![clone(("g", 1), 2, 1, ("g", 0))], "cloned to itself"),
        (vec![fallocate("f", 2, 0, 1)], "mode 0x2 is not supported"),
        (vec![fallocate("f", 8, 0, 1)], "mode 0x8 is not supported"),
        (vec![write("h", 0, "x")], "does not exist"),
    ] {
        let begin = [mkfile("f"), mkfile("g"), write("g", 0, "ggg")];
        let stream = full_stream("s", 1, &[&begin[..], &commands].concat());
        let (_directory, at) = stored(&[("s", &stream)]);
        let message = fails(&["f", &at]);
        assert!(message.contains(expected), "{commands:?}: {message}");
    }
    // What cannot be had matters only where it is asked for.
    let covered = [
        mkfile("f"),
        other,
        write("f", 0, "abc"),
        mkfile("g"),
        clone(("g", 0), 3, 9, ("f", 0)),
    ];
    assert_eq!(content(&covered, "f"), "abc");
    let no_data = Sent::UpdateExtent {
        path: path("g"),
        offset: 0,
        len: 9,
    };
    assert_eq!(content(&[mkfile("f"), mkfile("g"), no_data], "f"), "");
}

#[test]
fn all_of_each_stream_is_checked() {
    let stream = full_stream("s", 1, &[mkfile("f"), write("f", 0, "text"), mkfile("g")]);
    let (directory, _) = stored(&[("s", &stream)]);
    let (whole, at) = (build(&stream), directory.path().join("damaged"));
    let at_text = at.to_str().unwrap();
    for cut in 0..whole.len() {
        fs::write(&at, &whole[..cut]).unwrap();
        fails(&["f", at_text]);
        let mut damaged = whole.clone();
        damaged[cut] ^= 0x10;
        fs::write(&at, damaged).unwrap();
        let output = run("cat-file", &["f", at_text]);
        // The version in the header has no checksum.
        let good = output.status.success() && output.stdout == b"text";
        assert!(good || output.stdout.is_empty(), "{cut}: {output:?}");
        assert!(good || !output.status.success(), "{cut}: {output:?}");
    }
    let once = fails(&["f", "/dev/null"]);
    assert!(once.contains("each stream is read twice"), "{once}");
    let missing = fails(&["f", "/nonexistent"]);
    assert!(missing.contains("No such file"), "{missing}");
}

/// A snapshot that was stored twice: the stream that leads back to a full one is read.
#[test]
fn one_complete_chain_is_enough() {
    let whole = [mkfile("f"), write("f", 0, "two")];
    let second = full_stream("second", 2, &whole);
    // Their parents 9 and 8 are not stored.
    let older = incremental("second", (2, 9), &[write("f", 0, "two")]);
    let third = incremental("third", (3, 2), &[write("f", 0, "3")]);
    let other = incremental("third", (3, 8), &[write("f", 0, "3")]);
    // Parents in a circle.
    let circle = incremental("second", (2, 3), &[]);
    let (_directory, at) = stored(&[
        ("a", &other),
        ("b", &circle),
        ("c", &older),
        ("d", &third),
        ("e", &second),
    ]);
    assert_eq!(ok(&["--subvolume=third", "f", &at]), b"3wo");
    assert_eq!(ok(&["--subvolume=second", "f", &at]), b"two");
}

#[test]
fn links_and_special_files_are_named() {
    let commands = [
        mkdir("d"),
        Sent::Symlink {
            path: path("l"),
            ino: 258,
            target: b"../etc/shadow\n",
        },
        Sent::Mkfifo {
            path: path("p"),
            ino: 259,
            rdev: 0,
            mode: 0o010_644,
        },
    ];
    let (_directory, at) = stored(&[("s", &full_stream("s", 1, &commands))]);
    let message = fails(&["l", &at]);
    let expected = "l is a symbolic link to ../etc/shadow\\n, not a regular file";
    assert!(message.contains(expected), "{message}");
    let message = fails(&["l/x", &at]);
    assert!(message.contains("l is a symbolic link to"), "{message}");
    let message = fails(&["p", &at]);
    assert!(message.contains("p is a fifo"), "{message}");
    let message = fails(&["d", &at]);
    assert!(message.contains("--extract --only"), "{message}");
}

#[test]
fn paths_are_bytes() {
    let name = std::ffi::OsStr::from_bytes(b"d/a b\n\xff");
    let file = StreamPath::parse(name.as_bytes()).unwrap();
    let commands = [
        mkdir("d"),
        Sent::Mkfile {
            path: file,
            ino: 258,
        },
        Sent::Write {
            path: file,
            offset: 0,
            data: b"\0\xff\n",
        },
    ];
    let (_directory, at) = stored(&[("s", &full_stream("s", 1, &commands))]);
    let output = Command::new(env!("CARGO_BIN_EXE_sendstream"))
        .arg("cat-file")
        .args([name, at.as_ref()])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"\0\xff\n", "{output:?}");
}

/// Appended to a file, into a pipe, and where nobody reads.
#[test]
fn it_prints_anywhere() {
    let data = "0123456789".repeat(10_000);
    let stream = full_stream("s", 1, &[mkfile("f"), write("f", 4096, &data[..60_000])]);
    let (_directory, at) = stored(&[("s", &stream)]);
    let script = format!(
        "set -ex; cat={} at={at}/s; out={at}/out
        echo first > $out; $cat cat-file f $at >> $out; test $(wc -c < $out) = 64102
        $cat cat-file f $at | tail -c 60000 | cmp - <(tail -c 60000 $out)
        $cat cat-file f $at > /dev/null
        ! $cat cat-file f $at >&- 2> $out.err; grep -q 'standard output is closed' $out.err
        ! $cat cat-file f $at > /dev/full 2> $out.err; grep -q 'No space' $out.err
        ! TMPDIR=/nonexistent $cat cat-file f $at > $out 2> $out.err
        grep -q 'TMPDIR names' $out.err; test ! -s $out",
        env!("CARGO_BIN_EXE_sendstream")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
