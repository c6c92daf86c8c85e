//! What `verify`, `order`, `diff`, `list` and `dump` print as JSON: `docs/json.md` holds
//! examples, and each is produced here. `JSON=renew` in the environment writes
//! what is printed now into the document.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use btrfs_sendstream::{
    Command as Sent, CommandRef, StreamPath, SubvolumeName, Uuid, Version, Writer,
};
use serde_json::{Value, json};

const FIRST: Uuid = Uuid::from_u128(0x1111);
const SECOND: Uuid = Uuid::from_u128(0x2222);

fn stream(commands: &[CommandRef<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V2).unwrap();
    for command in commands {
        writer.command(command).unwrap();
    }
    writer.finish().unwrap()
}

/// A subvolume `monday` with a file whose name is not UTF-8.
fn full() -> Vec<u8> {
    let path = StreamPath::parse(&b"caf\xe9"[..]).unwrap();
    stream(&[
        Sent::Subvol {
            name: SubvolumeName::parse(&b"monday"[..]).unwrap(),
            uuid: FIRST,
            ctransid: 7,
        },
        Sent::Mkfile { path, ino: 257 },
        Sent::Write {
            path,
            offset: 0,
            data: b"content",
        },
        Sent::End,
    ])
}

/// `tuesday`, which differs from `monday` in one file.
fn incremental() -> Vec<u8> {
    let path = StreamPath::parse(&b"gone"[..]).unwrap();
    stream(&[
        Sent::Snapshot {
            name: SubvolumeName::parse(&b"tuesday"[..]).unwrap(),
            uuid: SECOND,
            ctransid: 9,
            parent_uuid: FIRST,
            parent_ctransid: 7,
        },
        Sent::Unlink { path },
        Sent::End,
    ])
}

fn sendstream(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sendstream"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn examples_are_those_of_the_document() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let renew = std::env::var_os("JSON").is_some_and(|value| value == "renew");
    let mut expected = fs::read_to_string(&document).unwrap();
    let mut wrong = Vec::new();
    for (name, command, input) in [
        ("verify", "verify", full()),
        ("dump", "dump", full()),
        ("diff", "diff", incremental()),
        ("list", "list", full()),
    ] {
        let output = sendstream(&[command, "--format=json"], &input);
        let printed = String::from_utf8(output.stdout).unwrap();
        for line in printed.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        let marker = format!("<!-- {name} -->\n\n```json\n");
        let Some(at) = expected.find(&marker) else {
            panic!("docs/json.md has no {name}");
        };
        let begin = at + marker.len();
        let end = begin + expected[begin..].find("```").unwrap();
        if expected[begin..end] != printed {
            wrong.push(format!("{name}:\n{printed}"));
            expected.replace_range(begin..end, &printed);
        }
    }
    if renew {
        fs::write(document, expected).unwrap();
    } else {
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

#[test]
fn sets_are_told_file_by_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    fs::write(directory.path().join("a"), incremental()).unwrap();
    fs::write(directory.path().join("b"), full()).unwrap();
    for (args, input) in [
        (&["verify"][..], "verified"),
        (&["order"], "verified"),
        (&["order", "--quick"], "input"),
    ] {
        let output = sendstream(&[args, &["--format=json", at]].concat(), b"");
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> = printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let of = |event: &str| -> Vec<&Value> {
            lines.iter().filter(|it| it["event"] == event).collect()
        };
        let files: Vec<_> = of(input).iter().map(|it| it["file"].clone()).collect();
        assert_eq!(files, [format!("{at}/a"), format!("{at}/b")]);
        assert_eq!(of("chain")[0]["order"], json!([1, 0]));
        assert_eq!(
            *lines.last().unwrap(),
            json!({"event": "end", "success": true})
        );
    }
}
