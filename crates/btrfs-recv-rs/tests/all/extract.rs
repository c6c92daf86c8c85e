//! `--extract`: streams into plain directories, as whoever runs the tests and
//! as an ordinary user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn stored(name: &str) -> PathBuf {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    streams.join(name)
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"))
}

/// The program as an ordinary user, if that can be had from here.
fn as_user(place: &Path) -> Command {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return program();
    }
    // A copy, since the user may not enter the directory of this one. Not
    // written by this process, which could not execute it meanwhile.
    let copy = place.join("program");
    let program = env!("CARGO_BIN_EXE_btrfs-recv-rs");
    let copied = Command::new("cp").arg(program).arg(&copy).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(copy);
    command
}

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        std::os::unix::fs::chown(place.path(), Some(65_534), Some(65_534)).unwrap();
    }
    place
}

fn extract(mut command: Command, stream: &str, into: &Path, options: &[&str]) -> Output {
    let input = fs::File::open(stored(stream)).unwrap();
    let command = command
        .arg("--extract")
        .args(options)
        .arg(into)
        .stdin(input);
    command.output().unwrap()
}

#[track_caller]
fn stderr(output: &Output, success: bool) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), success, "{text}");
    text
}

#[test]
fn a_chain_is_extracted_by_an_ordinary_user() {
    let place = place();
    let text = stderr(
        &extract(as_user(place.path()), "full.v2.stream", place.path(), &[]),
        true,
    );
    assert!(
        text.starts_with("At subvol s1\nWARNING: s1: could not set "),
        "{text}"
    );
    assert!(text.contains("--extract-report=FILE lists them"), "{text}");
    let output = extract(as_user(place.path()), "incr.v2.stream", place.path(), &[]);
    assert_eq!(output.stdout, b"At snapshot s2\n");
    let text = stderr(&output, true);
    assert!(text.contains("its parent lacks "), "{text}");
    for name in ["s1", "s2"] {
        assert!(place.path().join(name).is_dir());
    }
}

#[test]
fn what_is_not_kept_is_listed() {
    let place = place();
    let list = place.path().join("list.json");
    let option = format!("--extract-report={}", list.display());
    let output = extract(
        as_user(place.path()),
        "full.v2.stream",
        place.path(),
        &[&option],
    );
    let text = stderr(&output, true);
    assert!(!text.contains("--extract-report"), "{text}");
    let list = fs::read_to_string(list).unwrap();
    assert!(list.lines().count() > 10, "{list}");
    for line in list.lines() {
        let start = r#"{"subvolume":"s1","path"#;
        assert!(line.starts_with(start) && line.ends_with('}'), "{line}");
    }
    assert!(list.contains(r#""loss":"owner","uid":"#), "{list}");
}

#[test]
fn a_missing_parent_is_named() {
    let place = place();
    let output = extract(program(), "incr.v2.stream", place.path(), &[]);
    let text = stderr(&output, false);
    assert!(
        text.starts_with("ERROR: creating snapshot s2 failed: no complete extraction"),
        "{text}"
    );
    assert!(fs::read_dir(place.path()).unwrap().next().is_none());
}

#[test]
fn what_is_left_behind_is_named() {
    let place = place();
    let input = place.path().join("cut");
    let whole = fs::read(stored("full.v2.stream")).unwrap();
    fs::write(&input, &whole[..whole.len() / 2]).unwrap();
    let mut command = program();
    let command = command
        .arg("--extract")
        .arg("-f")
        .arg(&input)
        .arg(place.path());
    let text = stderr(&command.output().unwrap(), false);
    let left = place.path().join("s1.incomplete");
    let advice = format!("{0} is incomplete; remove it (rm -r {0})", left.display());
    assert!(text.contains(&advice), "{text}");
    assert!(left.is_dir());
    let text = stderr(
        &extract(program(), "full.v2.stream", place.path(), &[]),
        false,
    );
    assert!(text.contains("did not finish"), "{text}");
}

#[test]
fn the_options_of_a_list_need_an_extraction() {
    let output = program().args(["--extract-report=x", "/nowhere"]).output();
    let text = stderr(&output.unwrap(), false);
    assert!(text.contains("needs --extract"), "{text}");
}

/// The extraction is complete, and who asked for its report has to learn that
/// there is none. A reader that went away does not want it.
#[test]
fn a_report_that_is_lost_is_a_failure() {
    let run = |stdout: std::process::Stdio, into: &Path| {
        let input = fs::File::open(stored("full.v2.stream")).unwrap();
        let mut command = program();
        command.args(["--extract", "--json"]).arg(into);
        let child = command.stdin(input).stdout(stdout);
        let child = child.stderr(std::process::Stdio::piped()).spawn().unwrap();
        child.wait_with_output().unwrap()
    };
    let place = place();
    let (full, gone) = (place.path().join("full"), place.path().join("gone"));
    for directory in [&full, &gone] {
        fs::create_dir(directory).unwrap();
    }
    let no_room = fs::File::options().write(true).open("/dev/full").unwrap();
    let text = stderr(&run(no_room.into(), &full), false);
    assert!(
        text.ends_with(
            "ERROR: the receive is complete, but its report is not: cannot write JSON to standard \
             output: No space left on device\n"
        ),
        "{text}"
    );
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let text = stderr(&run(writer.into(), &gone), true);
    assert!(!text.contains("ERROR"), "{text}");
    for directory in [full, gone] {
        assert!(directory.join("s1").is_dir());
    }
}

/// Whoever reads slowly gets everything, even from a pipe that does not block.
#[test]
fn a_report_waits_for_its_reader() {
    use std::io::Read;
    let place = place();
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let input = fs::File::open(stored("full.v2.stream")).unwrap();
    let mut command = program();
    command.args(["--extract", "--json"]).arg(place.path());
    let mut child = command.stdin(input).stdout(writer).spawn().unwrap();
    drop(command);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    let last = text.lines().last().unwrap();
    assert!(last.contains(r#""event":"end","success":true"#), "{last}");
}
