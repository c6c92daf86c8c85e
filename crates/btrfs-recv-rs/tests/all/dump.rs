//! `--dump` against what `btrfs receive --dump` of btrfs-progs 6.19 printed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use btrfs_testkit::output_with_input;

fn dump() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"));
    command.arg("--dump").env("TZ", "UTC").stdin(Stdio::null());
    command
}

fn streams() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams")
}

fn stream(name: &str) -> Vec<u8> {
    fs::read(streams().join(name)).unwrap()
}

/// Offset just behind the first END command.
fn end_of_first_stream(stream: &[u8]) -> usize {
    let mut at = 17;
    loop {
        let header = &stream[at..at + 10];
        let length = u32::from_le_bytes(header[..4].try_into().unwrap());
        at += 10 + length as usize;
        if header[4..6] == [21, 0] {
            return at;
        }
    }
}

#[test]
fn equals_the_reference() {
    let mut compared = 0;
    for entry in fs::read_dir(streams()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "stream")
        {
            continue;
        }
        let reference = fs::read(path.with_extension("dump")).unwrap();
        let bytes = fs::read(&path).unwrap();
        let output = dump().arg("-f").arg(&path).output().unwrap();
        assert!(output.status.success(), "{path:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{path:?}");
        // The reference stops after the first stream.
        if end_of_first_stream(&bytes) == bytes.len() {
            assert!(output.stdout == reference, "{path:?}");
        } else {
            assert!(output.stdout.starts_with(&reference), "{path:?}");
            assert!(output.stdout.len() > reference.len(), "{path:?}");
        }
        compared += 1;
    }
    assert!(compared >= 13, "only {compared} streams found");
}

#[test]
fn every_stream_of_the_input_is_printed() {
    let twice = [stream("full.v1.stream"), stream("incr.v1.stream")].concat();
    let both = [
        fs::read(streams().join("full.v1.dump")).unwrap(),
        fs::read(streams().join("incr.v1.dump")).unwrap(),
    ]
    .concat();
    assert_eq!(output_with_input(&mut dump(), &twice).stdout, both);
}

#[test]
fn times_are_local() {
    let mut command = dump();
    command.env("TZ", "America/New_York").arg("-f");
    let output = command
        .arg(streams().join("full.v2.stream"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // 2026-11-22T11:05:47+0000 in winter.
    assert!(text.contains("atime=2026-11-22T06:05:47-0500"), "{text}");
}

#[test]
fn prints_what_it_understood_before_an_error() {
    let reference = fs::read_to_string(streams().join("incr.v1.dump")).unwrap();
    let mut bytes = stream("incr.v1.stream");
    bytes.truncate(bytes.len() - 10);
    let output = output_with_input(&mut dump(), &bytes);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, reference.as_bytes());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = stderr.lines().collect();
    let beginnings = [
        "ERROR: the input ends ",
        "ERROR:   likely: ",
        "ERROR:   to do: ",
        "ERROR: failed to dump the send stream: ",
    ];
    assert_eq!(lines.len(), beginnings.len(), "{stderr}");
    let mut pairs = lines.iter().zip(beginnings);
    assert!(
        pairs.all(|(line, beginning)| line.starts_with(beginning)),
        "{stderr}"
    );
}

/// The hint is for a dump, and nothing calls the stream damaged.
#[test]
fn a_packed_stream_is_recognised() {
    let output = output_with_input(&mut dump(), b"\x1f\x8b\x08 and so on, for a while");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("compressed with gzip"), "{stderr}");
    let hint =
        "to do: use --decompress, or unpack it first: gzip -dc FILE | btrfs-recv-rs --dump\n";
    assert!(stderr.ends_with(hint), "{stderr}");
}

#[test]
fn empty_input_is_an_error() {
    let output = dump().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output
            .stderr
            .starts_with(b"ERROR: empty stream is not considered valid: ")
    );
}

#[test]
fn waits_for_input_that_is_not_ready() {
    let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let mut child = dump()
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(reader)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reference = fs::read(streams().join("full.v1.dump")).unwrap();
    let bytes = stream("full.v1.stream");
    let (first, rest) = bytes.split_at(100);
    writer.write_all(first).unwrap();
    std::thread::yield_now();
    writer.write_all(rest).unwrap();
    drop(writer);
    let mut text = Vec::new();
    stdout.read_to_end(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(text == reference);
}

#[test]
fn ends_quietly_when_nobody_reads() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = dump();
    command.arg("-f").arg(streams().join("full.v1.stream"));
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(13));
    assert!(output.stderr.is_empty());
}

#[test]
fn a_full_disk_is_reported() {
    let mut command = dump();
    command.arg("-f").arg(streams().join("full.v1.stream"));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        output.stderr,
        b"ERROR: failed to dump the send stream: No space left on device\n"
    );
}
