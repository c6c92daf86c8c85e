//! Called as `btrfs`: what is handed over, and what is not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_testkit::Test;

const COMMAND: &str = env!("CARGO_BIN_EXE_btrfs-recv-rs");

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("other_verbs_are_handed_over", other_verbs_are_handed_over),
        Test::anywhere("a_receive_is_not", a_receive_is_not),
        Test::anywhere("unknown_options_are_refused", unknown_options_are_refused),
        Test::anywhere("no_real_btrfs_is_an_error", no_real_btrfs_is_an_error),
        Test::anywhere("a_copy_is_not_the_real_one", a_copy_is_not_the_real_one),
        btrfs_testkit::test!(the_version_is_that_of_btrfs_progs),
    ]
}

/// A directory with the command as `btrfs`, one with a stand-in for the real
/// program, and one with nothing.
struct Place {
    top: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        for name in ["ours", "real", "none"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        symlink(COMMAND, top.path().join("ours/btrfs")).unwrap();
        let stand_in = "#!/bin/sh\nprintf 'real %s' \"$0\"; printf ' [%s]' \"$@\"; exit 7\n";
        write_program(&top.path().join("real/btrfs"), stand_in);
        Self { top }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// Runs the command as `btrfs`, with these directories as `PATH`.
    fn command(&self, directories: &[&str], args: &[&str]) -> Command {
        let directories = directories.iter().map(|name| self.join(name));
        let mut command = Command::new(self.join("ours/btrfs"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::join_paths(directories).unwrap())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(&["none", "ours", "real"], args)
            .output()
            .unwrap()
    }
}

pub(crate) fn write_program(path: &Path, text: &str) {
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(text.as_bytes()).unwrap();
    install(written.path(), path);
}

/// Copies a program, in a process of its own: a program that is open for
/// writing cannot be started, and a child that another test has just forked
/// would keep it open.
pub(crate) fn install(from: &Path, to: &Path) {
    let status = Command::new("install").args([from, to]).status().unwrap();
    assert!(status.success());
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn other_verbs_are_handed_over() {
    let place = Place::new();
    let real = place.join("real/btrfs");
    for args in [
        &["subvolume", "show", "/a b"][..],
        &["--version"],
        &["help", "send"],
        &["re", "/d"],
        &["-v", "--format", "json", "filesystem", "df", "receive"],
    ] {
        let output = place.run(args);
        let words: String = args.iter().map(|arg| format!(" [{arg}]")).collect();
        assert_eq!(stdout(&output), format!("real {}{words}", real.display()));
        assert_eq!(output.status.code(), Some(7), "{args:?}");
    }
}

fn a_receive_is_not() {
    let place = Place::new();
    for args in [
        &["receive", "--dump"][..],
        &["rec", "--dump"],
        &["-q", "receive", "--dump"],
        &["--log=quiet", "receive", "--dump"],
    ] {
        let output = place.run(args);
        assert!(
            stderr(&output).starts_with("ERROR: empty stream"),
            "{args:?}"
        );
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
    for args in [&["receive", "--help"], &["help", "receive"]] {
        let output = place.run(args);
        assert!(stdout(&output).starts_with("usage: btrfs-recv-rs"));
    }
}

fn unknown_options_are_refused() {
    let place = Place::new();
    let output = place.run(&["--new", "receive", "/d"]);
    assert_eq!(output.status.code(), Some(129));
    assert_eq!(
        stderr(&output),
        "btrfs-recv-rs: unrecognized option '--new' before receive\n"
    );
}

fn no_real_btrfs_is_an_error() {
    let place = Place::new();
    let mut command = place.command(&["none", "ours"], &["subvolume", "list", "/"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(stderr(&output).starts_with("ERROR: there is no other btrfs behind this one in PATH"));
    // It can be named.
    let output = command.env("BTRFS_RECV_RS_BTRFS", place.join("real/btrfs"));
    assert_eq!(output.output().unwrap().status.code(), Some(7));
    let output = command
        .env("BTRFS_RECV_RS_BTRFS", "/no/such")
        .output()
        .unwrap();
    assert_eq!(
        stderr(&output),
        "ERROR: cannot run /no/such: No such file or directory (os error 2)\n"
    );
    let output = command
        .env("BTRFS_RECV_RS_BTRFS", COMMAND)
        .output()
        .unwrap();
    assert!(stderr(&output).contains("is btrfs-recv-rs again"));
    // A receive needs none.
    let mut command = place.command(&[], &["receive", "--dump"]);
    assert!(stderr(&command.output().unwrap()).starts_with("ERROR: empty stream"));
}

/// Two installed copies must not call each other for ever.
fn a_copy_is_not_the_real_one() {
    let place = Place::new();
    fs::remove_file(place.join("real/btrfs")).unwrap();
    install(Path::new(COMMAND), &place.join("real/btrfs"));
    let output = place.run(&["subvolume", "list", "/"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(
        stderr(&output).contains("is btrfs-recv-rs again"),
        "{}",
        stderr(&output)
    );
}

/// snapper and others read the version, and have to know it.
fn the_version_is_that_of_btrfs_progs() {
    let place = Place::new();
    let search = std::env::var_os("PATH").unwrap();
    let mut directories = vec![place.join("ours")];
    directories.extend(std::env::split_paths(&search));
    let output = Command::new("btrfs")
        .arg("--version")
        .env("PATH", std::env::join_paths(directories).unwrap())
        .output()
        .unwrap();
    let expected = Command::new("btrfs").arg("--version").output().unwrap();
    assert!(expected.stdout.starts_with(b"btrfs-progs v"));
    assert_eq!(output, expected);
}
