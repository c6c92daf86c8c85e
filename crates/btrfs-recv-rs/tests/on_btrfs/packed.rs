//! `--decompress`: compressed streams in every mode that reads one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use btrfs_testkit::{LoopFilesystem, Sender, Test, assert_same_tree, subvolume, test};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Sent, command, names_in, receive, run_with_input, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(compressed_streams_are_received),
        test!(what_is_not_compressed_is_received_as_well),
        test!(what_is_cut_off_is_not_complete),
        test!(a_frame_has_to_be_good_before_its_stream_is_complete),
        test!(what_follows_a_complete_stream_is_an_error),
        test!(a_set_may_be_compressed_in_part),
        test!(only_the_named_format_is_read),
        test!(the_first_stream_of_a_compressed_input_may_be_enough),
        test!(other_modes_read_compressed_streams),
        test!(a_signal_ends_the_wait_for_compressed_input),
        test!(a_compressed_stream_is_resumed),
        test!(another_compressed_stream_is_received_from_its_beginning),
    ]
}

const WRITERS: [(&str, &str); 6] = [
    ("zstd", "zstd"),
    ("zstd", "pzstd -p 2"),
    ("zstd", "zstd --long=27 -19"),
    ("gzip", "gzip"),
    ("lz4", "lz4 -BD"),
    ("xz", "xz -1 -T2 --block-size=65536"),
];

/// What `writer`, a program and its arguments, makes of `stream`.
pub(crate) fn packed(writer: &str, stream: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), stream).unwrap();
    let mut words = writer.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .arg("-c")
        .stdin(File::open(file.path()).unwrap())
        .output()
        .unwrap_or_else(|error| panic!("{writer}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{writer}: {stderr}");
    output.stdout
}

/// Receives a file; gives standard error, and whether that succeeded.
fn receive_file(stream: &[u8], options: &[&str], into: &Path) -> (String, bool) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), stream).unwrap();
    let mut command = command(options);
    let output = command.arg("-f").arg(file.path()).arg(into).output();
    let output = output.unwrap();
    (text(&output).1.to_owned(), output.status.success())
}

#[track_caller]
fn assert_incomplete(path: &Path) {
    if path.exists() {
        let facts = subvolume::facts(path);
        assert!(!facts.read_only);
        assert!(facts.received_uuid.is_none(), "{facts:?}");
    }
}

fn compressed_streams_are_received() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    for (number, (format, writer)) in WRITERS.iter().enumerate() {
        let into = to.path().join(number.to_string());
        fs::create_dir(&into).unwrap();
        let option = format!("--decompress={format}");
        let output = receive(&packed(writer, &sent.full), &["--decompress"], &into);
        assert!(output.status.success(), "{writer}: {}", text(&output).1);
        let incremental = packed(writer, &sent.incremental);
        let (stderr, success) = receive_file(&incremental, &[&option, "--sandbox"], &into);
        assert!(success, "{writer}: {stderr}");
        for name in ["first", "second"] {
            assert!(subvolume::facts(&into.join(name)).read_only);
            assert_same_tree(&sent.from.path().join(name), &into.join(name));
        }
    }
    // Both in one input, of small frames, and with a small buffer.
    let both = [&sent.full[..], &sent.incremental].concat();
    let frames: Vec<u8> = both
        .chunks(5000)
        .flat_map(|it| packed("zstd", it))
        .collect();
    for options in [&["--decompress"][..], &["--decompress", "--buffer=100"]] {
        let into = to.path().join(format!("with {}", options.len()));
        fs::create_dir(&into).unwrap();
        let (stderr, success) = receive_file(&frames, options, &into);
        assert!(success, "{stderr}");
        assert_same_tree(&sent.from.path().join("second"), &into.join("second"));
    }
}

fn what_is_not_compressed_is_received_as_well() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let output = receive(&sent.full, &["--decompress"], to.path());
    assert!(output.status.success(), "{}", text(&output).1);
    let (stderr, success) = receive_file(&sent.incremental, &["--decompress"], to.path());
    assert!(success, "{stderr}");
    // Its errors are those of streams that need not be unpacked.
    for (input, expected) in [
        (&b""[..], "the input is empty"),
        (
            b"Welcome to nas!\n",
            "text that begins with \"Welcome to nas!\"",
        ),
        (b"BZh91AY", "bzip2 -dc FILE | btrfs-recv-rs PATH"),
        (&sent.full[..60], "(stream 1, command 1, byte 17)"),
    ] {
        let output = receive(input, &["--decompress"], to.path());
        let (_, stderr) = text(&output);
        assert!(
            !output.status.success() && stderr.contains(expected),
            "{stderr}"
        );
    }
    let output = receive(&packed("gzip", b"Welcome!\n"), &["--decompress"], to.path());
    let (_, stderr) = text(&output);
    assert!(
        stderr.contains("text that begins with \"Welcome!\""),
        "{stderr}"
    );
    // Without the option, nothing is unpacked.
    let output = receive(&packed("xz", &sent.full), &[], to.path());
    let (_, stderr) = text(&output);
    let advice = "use --decompress, or unpack it first: xz -dc FILE | btrfs-recv-rs PATH";
    assert!(
        !output.status.success() && stderr.contains(advice),
        "{stderr}"
    );
}

fn what_is_cut_off_is_not_complete() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    for (number, (_, writer)) in WRITERS.iter().enumerate() {
        let packed = packed(writer, &sent.full);
        let into = to.path().join(number.to_string());
        for len in [
            1,
            3,
            20,
            packed.len() / 2,
            packed.len() - 5,
            packed.len() - 1,
        ] {
            fs::create_dir(&into).unwrap();
            for output in [
                receive(&packed[..len], &["--decompress"], &into)
                    .status
                    .success(),
                receive_file(&packed[..len], &["--decompress", "--atomic"], &into).1,
            ] {
                assert!(!output, "{writer}, {len}");
                for name in names_in(&into) {
                    assert_incomplete(&into.join(name));
                }
            }
            for name in names_in(&into) {
                subvolume::delete(&into.join(name));
            }
            fs::remove_dir(&into).unwrap();
        }
    }
}

/// The last of what a frame contains is received when its checksum was compared.
fn a_frame_has_to_be_good_before_its_stream_is_complete() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    for (_, writer) in WRITERS {
        let mut packed = packed(writer, &sent.full);
        let last = packed.len() - 1;
        packed[last] ^= 1;
        let (stderr, success) = receive_file(&packed, &["--decompress"], to.path());
        assert!(
            !success && stderr.contains("the compressed data is damaged"),
            "{stderr}"
        );
        assert!(
            stderr.contains(" of the compressed input), unpacked up to stream 1, command "),
            "{stderr}"
        );
        assert_incomplete(&to.path().join("first"));
        subvolume::delete(&to.path().join("first"));
    }
}

/// As it is where nothing is compressed.
fn what_follows_a_complete_stream_is_an_error() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    for (_, writer) in WRITERS {
        let packed = [&packed(writer, &sent.full)[..], b"more"].concat();
        let (stderr, success) = receive_file(&packed, &["--decompress"], to.path());
        let expected = "something else follows the compressed data";
        assert!(!success && stderr.contains(expected), "{stderr}");
        assert!(subvolume::facts(&to.path().join("first")).read_only);
        subvolume::delete(&to.path().join("first"));
    }
}

fn a_set_may_be_compressed_in_part() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let stored = tempfile::tempdir().unwrap();
    let at = stored.path();
    fs::write(at.join("a.zst"), packed("zstd", &sent.incremental)).unwrap();
    fs::write(at.join("b"), &sent.full).unwrap();
    fs::write(
        at.join("notes.gz"),
        packed("gzip", b"Do not forget the milk"),
    )
    .unwrap();
    let chain = |options: &[&str]| {
        let mut command = command(options);
        let command = command.arg("--chain").arg(at).arg(to.path());
        let output = command.output().unwrap();
        (text(&output).1.to_owned(), output.status.success())
    };
    let (stderr, success) = chain(&[]);
    assert!(
        !success && stderr.contains("use --decompress, unpack it"),
        "{stderr}"
    );
    // One that is damaged at its end.
    let mut damaged = packed("lz4", &sent.full);
    damaged.pop();
    fs::write(at.join("c.lz4"), &damaged).unwrap();
    let (stderr, success) = chain(&["--decompress"]);
    assert!(!success && stderr.contains("c.lz4: "), "{stderr}");
    // One that is damaged at its beginning.
    fs::write(at.join("c.lz4"), &damaged[..10]).unwrap();
    let (stderr, success) = chain(&["--decompress"]);
    assert!(
        !success && stderr.contains("c.lz4: lz4: the compressed"),
        "{stderr}"
    );
    fs::remove_file(at.join("c.lz4")).unwrap();
    assert!(names_in(to.path()).is_empty());
    let (stderr, success) = chain(&["--decompress", "--resumable", "--sandbox"]);
    assert!(success, "{stderr}");
    assert!(
        stderr.contains("notes.gz is not a send stream: skipped"),
        "{stderr}"
    );
    assert_eq!(names_in(to.path()), ["first", "second"]);
    assert_same_tree(&sent.from.path().join("second"), &to.path().join("second"));
}

fn only_the_named_format_is_read() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    for input in [&sent.full[..], &packed("xz", &sent.full)] {
        let (stderr, success) = receive_file(input, &["--decompress=gzip"], to.path());
        let expected = "the input is not compressed with gzip (byte 0 of the compressed input)";
        assert!(!success && stderr.contains(expected), "{stderr}");
        assert!(stderr.contains("use --decompress=auto"), "{stderr}");
    }
    let long = packed("zstd --long=28", &sent.full);
    let (stderr, success) = receive_file(&long, &["--decompress"], to.path());
    assert!(
        !success && stderr.contains("a window of 268435456 bytes"),
        "{stderr}"
    );
    assert!(names_in(to.path()).is_empty());
}

fn the_first_stream_of_a_compressed_input_may_be_enough() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    let both = [&sent.full[..], &sent.incremental].concat();
    let packed = packed("zstd", &both);
    let options = ["--decompress", "-e"];
    let output = receive(&packed, &options, to.path());
    assert!(output.status.success(), "{}", text(&output).1);
    assert_eq!(names_in(to.path()), ["first"]);
    // Of what is not compressed, no more is read.
    subvolume::delete(&to.path().join("first"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &both).unwrap();
    let input = File::open(file.path()).unwrap();
    for _ in 0..2 {
        let mut command = command(&options);
        let command = command.arg(to.path()).stdin(input.try_clone().unwrap());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output).1);
    }
    assert_eq!(names_in(to.path()), ["first", "second"]);
}

fn other_modes_read_compressed_streams() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    for (_, writer) in WRITERS {
        let packed = packed(writer, &sent.full);
        let run = |options: &[&str], path: Option<&Path>| {
            let mut command = command(options);
            command.arg("--decompress").args(path);
            let output = run_with_input(&mut command, &packed);
            let (stdout, stderr) = text(&output);
            assert!(output.status.success(), "{writer}: {stderr}");
            stdout.to_owned()
        };
        assert!(run(&["--dump"], None).contains("subvol          ./first"));
        let found = run(&["--dry-run"], Some(to.path()));
        assert!(found.ends_with("no problem was found\n"), "{found}");
        let directory = tempfile::tempdir().unwrap();
        run(&["--extract"], Some(directory.path()));
        assert_eq!(
            fs::read(directory.path().join("first/file")).unwrap(),
            b"hello"
        );
        let mut command = command(&["--dump", "--decompress"]);
        let output = run_with_input(&mut command, &packed[..packed.len() - 1]);
        assert!(!output.status.success());
    }
}

fn a_signal_ends_the_wait_for_compressed_input() {
    let (sent, to) = (Sent::small(), LoopFilesystem::new());
    for (_, writer) in WRITERS {
        let packed = packed(writer, &sent.full);
        let mut child = command(&["--decompress"])
            .arg(to.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&packed[..packed.len() - 1]).unwrap();
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(15), "{}", text(&output).1);
        for name in names_in(to.path()) {
            assert_incomplete(&to.path().join(&name));
            subvolume::delete(&to.path().join(name));
        }
    }
}

fn a_compressed_stream_is_resumed() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let options = ["--decompress", "--checkpoint-every=64K"];
    for (_, writer) in WRITERS {
        let packed = packed(writer, &sent.full);
        let (stderr, success) = receive_file(&packed[..packed.len() * 2 / 3], &options, to.path());
        assert!(!success, "{stderr}");
        assert_incomplete(&to.path().join("first"));
        let (stderr, success) = receive_file(&packed, &options, to.path());
        assert!(success, "{writer}: {stderr}");
        assert_same_tree(&sent.from.path().join("first"), &to.path().join("first"));
        subvolume::delete(&to.path().join("first"));
    }
}

/// What was received of one stream is found to be of no use for another, which is
/// then read again.
fn another_compressed_stream_is_received_from_its_beginning() {
    let (sent, to) = (Sent::new(), LoopFilesystem::new());
    let first = sent.from.path().join("first");
    let other = Sender::new(&first).version(1).to_vec();
    let options = ["--decompress", "--checkpoint-every=64K"];
    for (_, writer) in WRITERS {
        let cut = &sent.full[..sent.full.len() * 2 / 3];
        let (stderr, success) = receive_file(&packed(writer, cut), &options, to.path());
        assert!(!success, "{stderr}");
        let (stderr, success) = receive_file(&packed(writer, &other), &options, to.path());
        assert!(success, "{writer}: {stderr}");
        assert_same_tree(&first, &to.path().join("first"));
        subvolume::delete(&to.path().join("first"));
    }
}
