//! The examples, run as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use btrfs_receive::btrfs_sendstream::{
    Command as StreamCommand, StreamPath, SubvolumeName, Version, Writer,
};
use btrfs_testkit::{Test, document, output_with_input, subvolume, test};
use serde_json::Value;

use crate::calls::{Place, UUID, stream};
use crate::program::{CRATE, With, compile, libraries, run};

/// Most lines of an example.
const MAX_LINES: usize = 30;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(receive_in_c).needs("cc"),
        test!(events_are_those_of_the_command).needs("cc"),
        test!(receive_in_go).needs("cc").needs_with("go", "version"),
    ]
}

/// The file of an example, which is short.
pub(crate) fn example(name: &str) -> String {
    let file = format!("examples/{name}");
    let source = std::fs::read_to_string(format!("{CRATE}/{file}")).unwrap();
    assert!(source.lines().count() <= MAX_LINES, "{name} is too long");
    file
}

fn receive_in_c() {
    let program = compile(&example("receive.c"), With::Static);
    let text = receives(&program);
    let first = "{\"event\":\"subvolume_begins\",\"stream\":1,\"command\":1,\"byte\":17,";
    assert!(text.starts_with(first), "{text}");
}

/// docs/json.md has what the command prints about a stream that was cut.
fn events_are_those_of_the_command() {
    let documented = document::repository().join("docs/json.md");
    let documented = std::fs::read_to_string(documented).unwrap();
    let (_, documented) = documented.split_once("<!-- cut -->").unwrap();
    let documented = documented.split("```").nth(1).unwrap();
    let documented: Vec<_> = documented.lines().skip(1).map(comparable).collect();
    let path = || StreamPath::parse(&b"caf\xe9"[..]).unwrap();
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V2).unwrap();
    let name = SubvolumeName::parse(&b"monday"[..]).unwrap();
    let (uuid, ctransid) = (UUID, 7);
    for command in [
        StreamCommand::Subvol {
            name,
            uuid,
            ctransid,
        },
        StreamCommand::Mkfile {
            path: path(),
            ino: 257,
        },
        StreamCommand::Write {
            path: path(),
            offset: 0,
            data: &b"content"[..],
        },
        StreamCommand::End,
    ] {
        writer.command(&command).unwrap();
    }
    let stream = writer.finish().unwrap();
    let place = Place::new();
    let program = compile(&example("receive.c"), With::Static);
    let mut receive = Command::new(program);
    let output = output_with_input(receive.arg(place.directory("to")), &stream[..133]);
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<_> = printed.lines().map(comparable).collect();
    let (end, documented) = documented.split_last().unwrap();
    assert_eq!(end["event"], "end");
    assert_eq!(printed, documented);
}

/// A line without advice and times.
fn comparable(line: &str) -> Value {
    let mut event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    for key in ["likely", "to_do", "waits"] {
        event.as_object_mut().unwrap().remove(key);
    }
    event
}

fn receive_in_go() {
    let file = example("receive.go");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("receive");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(file);
    go.current_dir(CRATE)
        // What Go compiles of itself is the same the next time.
        .env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go"))
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "1")
        .env("CGO_CFLAGS", format!("-I{CRATE}/include"))
        .env("CGO_LDFLAGS", shared());
    run(&mut go);
    let text = receives(&program);
    assert!(
        text.starts_with("{\"event\":\"report\",\"success\":true,"),
        "{text}"
    );
}

fn shared() -> String {
    format!("-L{} -lbtrfs_receive_c", libraries().display())
}

/// Checks that a program receives what it is given, and fails where it has to.
/// Returns what it printed.
fn receives(program: &Path) -> String {
    let place = Place::new();
    let to: PathBuf = place.directory("to");
    let run = |input: &[u8]| {
        let mut command = Command::new(program);
        command.arg(&to).env("LD_LIBRARY_PATH", libraries());
        output_with_input(&mut command, input)
    };
    let output = run(&stream("home", false));
    assert!(output.status.success(), "{output:?}");
    assert!(to.join("home/hi").is_dir());
    assert!(subvolume::facts(&to.join("home")).read_only);
    let failed = run(b"");
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(failed.stderr, b"the input is empty (byte 0)\n");
    String::from_utf8(output.stdout).unwrap()
}
