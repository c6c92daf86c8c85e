//! The examples, run as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use btrfs_testkit::{Test, output_with_input, subvolume, test};

use crate::calls::{Place, stream};
use crate::program::{CRATE, With, compile, libraries, run};

/// Most lines of an example.
const MAX_LINES: usize = 30;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(receive_in_c).needs("cc"),
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
