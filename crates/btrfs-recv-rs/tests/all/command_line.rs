//! What callers see of the command line: channels, texts, exit status.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"));
    command
        .args(args)
        .env_remove("POSIXLY_CORRECT")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn help_and_version_go_to_standard_output() {
    for args in [
        &["--help"][..],
        &["receive", "--help"],
        &["-f", "x", "--he", "PATH"],
    ] {
        let output = run(args);
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(output.stdout.starts_with(b"usage: "));
    }
    let output = run(&["--version"]);
    let expected = concat!("btrfs-recv-rs ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(output.stdout, expected.as_bytes());
}

#[test]
fn wrong_options_are_refused_in_the_words_callers_look_for() {
    for (args, text) in [
        (
            &["--x", "D"][..],
            "btrfs-recv-rs: unrecognized option '--x'",
        ),
        (&["D", "-Z"], "btrfs-recv-rs: invalid option 'Z'"),
        (
            &["-ef"],
            "btrfs-recv-rs: option requires an argument -- 'f'",
        ),
        (
            &["--max-errors"],
            "btrfs-recv-rs: option '--max-errors' requires an argument",
        ),
        (
            &["--ver", "D"],
            "btrfs-recv-rs: option '--ver' is ambiguous; possibilities: '--ver",
        ),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty());
        let (first, rest) = stderr(&output).split_once('\n').unwrap();
        assert!(first.starts_with(text), "{first}");
        assert_eq!(rest, "Try 'btrfs-recv-rs --help' for more information\n");
    }
}

/// On a line of its own, behind the one that callers look for.
#[test]
fn a_slip_in_an_option_is_met_with_a_suggestion() {
    for (option, hint) in [
        ("--verfy", "Did you mean 'sendstream verify'?"),
        ("--resume", "Did you mean '--resumable'?"),
        (
            "--restore",
            "To receive a stream, no option is needed: btrfs-recv-rs -f STREAM PATH",
        ),
    ] {
        let output = run(&[option, "D"]);
        assert_eq!(output.status.code(), Some(1), "{option}");
        let expected = format!(
            "btrfs-recv-rs: unrecognized option '{option}'\n{hint}\n\
             Try 'btrfs-recv-rs --help' for more information\n"
        );
        assert_eq!(stderr(&output), expected);
    }
}

/// The letters of other commands, but not in the place of `btrfs receive`.
#[test]
fn help_and_version_have_letters() {
    for args in [&["-h"][..], &["receive", "-h"], &["D", "-qh"], &["help"]] {
        let output = run(args);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{args:?}"
        );
        assert!(output.stdout.starts_with(b"usage: "), "{args:?}");
    }
    assert!(run(&["-V"]).stdout.starts_with(b"btrfs-recv-rs "));
    for (program, args, letter) in [
        ("btrfs-receive", &["-h"][..], 'h'),
        ("btrfs-receive", &["-V"], 'V'),
        ("btrfs", &["receive", "-h"], 'h'),
        ("btrfs", &["receive", "D", "-V"], 'V'),
    ] {
        let output = command(args).arg0(program).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{program} {args:?}");
        let expected = format!("btrfs-recv-rs: invalid option '{letter}'\n");
        assert!(stderr(&output).starts_with(&expected), "{program} {args:?}");
    }
    // A path, as ever.
    let output = run(&["receive", "help"]);
    assert!(stderr(&output).contains("realpath(help) failed"));
}

#[test]
fn the_status_of_what_is_no_btrfs_is_an_error() {
    for (path, text) in [
        (
            "/proc",
            "ERROR: /proc doesn't belong to btrfs mount point\n",
        ),
        (
            "/no/such",
            "ERROR: cannot open /no/such: No such file or directory\n",
        ),
    ] {
        let output = run(&["--status", path]);
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert!(output.stdout.is_empty());
        assert_eq!(stderr(&output), text);
    }
}

#[test]
fn a_wrong_number_of_paths_shows_the_usage() {
    for (args, text) in [
        (&[][..], "exactly 1 argument expected, 0 given"),
        (
            &["a", "b"],
            "exactly 1 argument expected, 2 given (a stream file is given with -f)",
        ),
        (
            &["--dump", "a"],
            "exactly 0 arguments expected with --dump, 1 given (a stream file is given with -f)",
        ),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let expected = format!("btrfs-recv-rs: {text}\nusage: ");
        assert!(stderr(&output).starts_with(&expected), "{args:?}");
    }
}

#[test]
fn posixly_correct_ends_the_options_at_the_path() {
    let output = command(&["D", "-e"])
        .env("POSIXLY_CORRECT", "")
        .output()
        .unwrap();
    assert!(stderr(&output).contains("exactly 1 argument expected, 2 given"));
}

#[test]
fn max_errors_has_to_be_a_number() {
    let output = run(&["-E", "0x10", "D"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "ERROR: invalid value for --max-errors: '0x10'\n"
    );
}

#[test]
fn a_missing_file_is_a_failure() {
    for args in [&["-f", "/no/such", "/"][..], &["--dump", "-f", "/no/such"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(
            stderr(&output),
            "ERROR: cannot open /no/such: No such file or directory\n"
        );
    }
}

#[test]
fn a_dash_is_the_name_of_a_file() {
    let output = command(&["--dump", "-f", "-"])
        .current_dir("/proc")
        .output()
        .unwrap();
    assert_eq!(
        stderr(&output),
        "ERROR: cannot open -: No such file or directory\n"
    );
}

#[test]
fn may_be_called_btrfs_receive() {
    let mut command = command(&["--dump"]);
    let output = command.arg0("btrfs-receive").output().unwrap();
    assert!(stderr(&output).starts_with("ERROR: empty stream is not considered valid: "));
    // As a first argument it is the verb, as a second one a path.
    let output = run(&["receive", "receive", "x"]);
    assert!(stderr(&output).contains("2 given"));
}

/// Half a manual page is no success.
#[test]
fn what_cannot_be_written_is_an_error() {
    for args in [&["--help"][..], &["--version"]] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut command = Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"));
        let output = command.args(args).stdout(full.unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let end = ": No space left on device\n";
        assert!(stderr.starts_with("ERROR: cannot write"), "{stderr}");
        assert!(stderr.ends_with(end), "{stderr}");
    }
}

#[test]
fn what_another_command_does_now_is_named() {
    let output = run(&["--verify", "/archive"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let first = stderr(&output).lines().next();
    let expected = "btrfs-recv-rs: --verify: use `sendstream verify`";
    assert_eq!(first, Some(expected));
}
