//! `dump --format=json` and `--format=summary`. What they print stands in
//! `tests/golden`; run with `UPDATE_GOLDEN=1` to write it anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_sendstream::{
    CloneRange, Command as Sent, CommandKind, CommandRef, EnableVerity, EncodedWrite, StreamPath,
    SubvolumeName, Timespec, Uuid, Version, Writer,
};

fn streams() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams")
}

fn dump(format: &str, file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sendstream"))
        .args(["dump", &format!("--format={format}")])
        .arg(file)
        .env("TZ", "Asia/Tokyo")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}exit status {}\n",
        std::str::from_utf8(&output.stdout).unwrap(),
        std::str::from_utf8(&output.stderr).unwrap(),
        output.status.code().unwrap()
    )
}

#[track_caller]
fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == found,
        "{}: expected\n{expected}\nfound\n{found}",
        path.display()
    );
}

fn path(bytes: &'static [u8]) -> StreamPath<&'static [u8]> {
    StreamPath::parse(bytes).unwrap()
}

fn time(seconds: i64, nanoseconds: u32) -> Timespec {
    Timespec {
        seconds,
        nanoseconds,
    }
}

/// A stream with every command.
fn every_command() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V3).unwrap();
    let commands = [inodes(), names_and_metadata(), data()].concat();
    for &kind in CommandKind::ALL {
        assert!(commands.iter().any(|it| it.kind() == kind), "{kind}");
    }
    for command in &commands {
        writer.command(command).unwrap();
    }
    writer.finish().unwrap()
}

fn inodes() -> Vec<CommandRef<'static>> {
    let name = |name| SubvolumeName::parse(name).unwrap();
    let (ino, rdev) = (257, 0x0801);
    vec![
        Sent::Subvol {
            name: name(&b"a \"b\"\n"[..]),
            uuid: Uuid::from_u128(1),
            ctransid: u64::MAX,
        },
        Sent::Snapshot {
            name: name(&b"\xff"[..]),
            uuid: Uuid::from_u128(2),
            ctransid: 8,
            parent_uuid: Uuid::from_u128(1),
            parent_ctransid: 7,
        },
        Sent::Mkfile {
            path: path(b"\xfe\n"),
            ino,
        },
        Sent::Mkdir {
            path: path("ä".as_bytes()),
            ino,
        },
        Sent::Mknod {
            path: path(b"n"),
            ino,
            rdev,
            mode: 0o60_644,
        },
        Sent::Mkfifo {
            path: path(b"p"),
            ino,
            rdev: 0,
            mode: 0o10_000,
        },
        Sent::Mksock {
            path: path(b"s"),
            ino,
            rdev: 0,
            mode: 0o140_755,
        },
        Sent::Symlink {
            path: path(b"l"),
            ino,
            target: b"\x80/\\",
        },
    ]
}

fn names_and_metadata() -> Vec<CommandRef<'static>> {
    vec![
        Sent::Rename {
            path: path(b"a"),
            to: path(b"b/c"),
        },
        Sent::Link {
            path: path(b"b/d"),
            existing: path(b"b/c"),
        },
        Sent::Unlink { path: path(b"b/d") },
        Sent::Rmdir { path: path(b"r") },
        Sent::SetXattr {
            path: path(b""),
            name: b"user.x",
            data: b"\0\xff",
        },
        Sent::RemoveXattr {
            path: path(b""),
            name: b"user.y",
        },
        Sent::Chmod {
            path: path(b"f"),
            mode: 0o4755,
        },
        Sent::Chown {
            path: path(b"f"),
            uid: 1000,
            gid: u64::from(u32::MAX),
        },
        Sent::Utimes {
            path: path(b"f"),
            atime: time(0, 1),
            mtime: time(-1, 999_999_999),
            ctime: time(253_402_300_800, 0),
            otime: Some(time(1_709_251_199, 0)),
        },
        Sent::Utimes {
            path: path(b"g"),
            atime: time(0, 0),
            mtime: time(0, 0),
            ctime: time(0, 0),
            otime: None,
        },
        Sent::FileAttr {
            path: path(b"f"),
            attributes: 0x11,
        },
    ]
}

fn data() -> Vec<CommandRef<'static>> {
    let encoded = EncodedWrite {
        path: path(b"f"),
        offset: 4096,
        unencoded_file_len: 4096,
        unencoded_len: 8192,
        unencoded_offset: 4096,
        compression: Some(2),
        encryption: Some(0),
        data: &b"123"[..],
    };
    vec![
        Sent::Write {
            path: path(b"f"),
            offset: 1 << 40,
            data: b"hello",
        },
        Sent::Clone(CloneRange {
            path: path(b"f"),
            offset: 0,
            len: 4096,
            source_uuid: Uuid::from_u128(1),
            source_ctransid: 7,
            source_path: path(b"g"),
            source_offset: 8192,
        }),
        Sent::Truncate {
            path: path(b"f"),
            size: 5,
        },
        Sent::UpdateExtent {
            path: path(b"f"),
            offset: 0,
            len: 1,
        },
        Sent::Fallocate {
            path: path(b"f"),
            mode: 3,
            offset: 0,
            len: 4096,
        },
        Sent::EncodedWrite(encoded.clone()),
        Sent::EncodedWrite(EncodedWrite {
            compression: None,
            encryption: None,
            ..encoded
        }),
        Sent::EnableVerity(EnableVerity {
            path: path(b"f"),
            algorithm: 1,
            block_size: 4096,
            salt: &b"salt"[..],
            signature: &b""[..],
        }),
        Sent::End,
    ]
}

#[test]
fn json_has_every_field() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), every_command()).unwrap();
    let output = dump("json", file.path());
    assert_golden("dump-json", &text(&output));
}

/// The number behind a key.
fn number(line: &str, key: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("\"{key}\":")).unwrap();
    let end = rest.find(|it: char| !it.is_ascii_digit()).unwrap();
    rest[..end].parse().unwrap()
}

#[test]
fn json_says_where_everything_is() {
    for entry in fs::read_dir(streams()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|it| it != "stream") {
            continue;
        }
        let output = dump("json", &file);
        assert!(output.status.success(), "{file:?}: {output:?}");
        let mut at = 0;
        for line in std::str::from_utf8(&output.stdout).unwrap().lines() {
            assert_eq!(number(line, "byte"), at, "{file:?}: {line}");
            at += number(line, "total");
        }
        assert_eq!(at, fs::metadata(&file).unwrap().len(), "{file:?}");
    }
}

#[test]
fn what_comes_before_damage_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let cut = directory.path().join("cut");
    let whole = fs::read(streams().join("incr.v1.stream")).unwrap();
    fs::write(&cut, &whole[..whole.len() - 5]).unwrap();
    let output = dump("json", &cut);
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8(output.stdout).unwrap();
    let all = dump("json", &streams().join("incr.v1.stream")).stdout;
    let all = String::from_utf8(all).unwrap();
    assert_eq!(lines.lines().count() + 1, all.lines().count());
    assert!(all.starts_with(&lines));
    let summary = text(&dump("summary", &cut));
    let summary = summary.replace(cut.to_str().unwrap(), "cut");
    assert_golden("dump-summary-cut", &summary);
}

#[test]
fn the_summary_counts() {
    let summaries = [
        "full.v2.stream",
        "incr-nodata.v1.stream",
        "encoded-zstd.v2.stream",
        "concat-mixed.stream",
        "multi-one-end.v1.stream",
    ]
    .map(|name| {
        let text = text(&dump("summary", &streams().join(name)));
        format!("{name}\n{text}")
    });
    assert_golden("dump-summary", &summaries.join("\n"));
}

/// The formatter's own tests are in the library.
#[test]
fn text_is_that_of_the_reference() {
    for name in ["full.v2", "incr.v1"] {
        let reference = fs::read(streams().join(format!("{name}.dump"))).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_sendstream"))
            .arg("dump")
            .arg(streams().join(format!("{name}.stream")))
            .env("TZ", "UTC")
            .output()
            .unwrap();
        assert!(output.stdout == reference, "{name}");
    }
    let output = dump("text", &streams().join("full.v2.stream"));
    let text = String::from_utf8_lossy(&output.stdout);
    // 2026-11-22T11:05:47+0000 in Tokyo.
    assert!(text.contains("atime=2026-11-22T20:05:47+0900"), "{text}");
}

/// Half a dump is no success; a reader who goes away needs no message.
#[test]
fn what_cannot_be_written_is_an_error() {
    let file = streams().join("full.v2.stream");
    for command in ["dump", "diff", "verify", "order"] {
        let run = |stdout: std::process::Stdio| {
            Command::new(env!("CARGO_BIN_EXE_sendstream"))
                .arg(command)
                .arg(&file)
                .stdout(stdout)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
                .wait_with_output()
                .unwrap()
        };
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = run(full.into());
        assert_eq!(output.status.code(), Some(1), "{command}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.contains("standard output: No space left"),
            "{stderr}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run(writer.into());
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(output.stderr.is_empty(), "{command}: {output:?}");
    }
}
