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
        Test::anywhere("a_wrapper_may_call_btrfs", a_wrapper_may_call_btrfs),
        btrfs_testkit::test!(without_proc_it_ends_too),
        btrfs_testkit::test!(raised_privileges_trust_no_environment),
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
    assert!(stderr(&output).starts_with("ERROR: no other btrfs after this one in PATH"));
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
    assert!(stderr(&output).contains("is btrfs-recv-rs: set"));
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
        stderr(&output).contains("is not started a second time"),
        "{}",
        stderr(&output)
    );
    // A real one behind both of them is found.
    let mut command = place.command(&["ours", "real", "last"], &["version"]);
    add_real(&place.join("last"));
    assert_eq!(command.output().unwrap().status.code(), Some(7));
}

/// Another stand-in for the real program, in a new directory.
fn add_real(directory: &Path) {
    fs::create_dir(directory).unwrap();
    write_program(&directory.join("btrfs"), "#!/bin/sh\nexit 7\n");
}

/// One that calls it by its name finds this program again.
fn a_wrapper_may_call_btrfs() {
    let place = Place::new();
    let wrapper = "#!/bin/sh\necho wrapped >&2\nbtrfs \"$@\"\n";
    write_program(&place.join("real/btrfs"), wrapper);
    // Alone it would call itself for ever.
    let mut command = place.command(&["ours", "real"], &["version"]);
    let output = command.output().unwrap();
    let path = place.join("real/btrfs");
    let expected = format!(
        "wrapped\nERROR: {} called btrfs again, and is not started a second time: set \
         BTRFS_RECV_RS_BTRFS to the path of the real btrfs\n",
        path.display()
    );
    assert_eq!(stderr(&output), expected);
    assert_eq!(output.status.code(), Some(127));
    let output = command.env("BTRFS_RECV_RS_BTRFS", &path).output().unwrap();
    assert_eq!(stderr(&output), expected);
    // The real one behind it is what it wants.
    add_real(&place.join("last"));
    let mut command = place.command(&["ours", "real", "last"], &["version"]);
    let output = command.output().unwrap();
    assert_eq!(stderr(&output), "wrapped\n");
    assert_eq!(output.status.code(), Some(7));
}

/// Called by its name alone, it cannot know which program it is.
fn without_proc_it_ends_too() {
    let place = Place::new();
    let run = |directories: &[&str], program: &str| {
        let mut command = place.command(directories, &[]);
        let search = command.get_envs().find(|(name, _)| *name == "PATH");
        let search = search.unwrap().1.unwrap().to_owned();
        command = Command::new("unshare");
        let script = "mount -t tmpfs none /proc && PATH=$1 && $2 version";
        command.args(["-m", "--", "sh", "-c", script, "sh"]);
        command.arg(search).arg(program).output().unwrap()
    };
    for program in ["btrfs", place.join("ours/btrfs").to_str().unwrap()] {
        let output = run(&["ours", "real"], program);
        assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
        let output = run(&["ours"], program);
        assert_eq!(output.status.code(), Some(127), "{}", stderr(&output));
        assert!(stderr(&output).starts_with("ERROR: "));
    }
}

/// A set-user-ID copy, or one with file capabilities, runs nothing that its
/// caller chose.
fn raised_privileges_trust_no_environment() {
    let place = Place::new();
    fs::create_dir(place.join("copies")).unwrap();
    let copy = place.join("copies/btrfs");
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    for path in ["", "copies", "real"] {
        fs::set_permissions(place.join(path), open(0o755)).unwrap();
    }
    let real = place.join("real");
    let run = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(&copy).arg("--version");
        command.env(
            "PATH",
            format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", real.display()),
        );
        command.output().unwrap()
    };
    let is_stand_in = |output: &Output| output.stdout.starts_with(b"real ");
    let install = |mode| {
        install(Path::new(COMMAND), &copy);
        fs::set_permissions(&copy, open(mode)).unwrap();
    };
    install(0o755);
    assert!(is_stand_in(&run()));
    install(0o4755);
    let output = run();
    assert!(output.stdout.starts_with(b"btrfs-progs v"), "{output:?}");
    install(0o2755);
    std::os::unix::fs::chown(&copy, None, Some(1)).unwrap();
    fs::set_permissions(&copy, open(0o2755)).unwrap();
    let output = run();
    assert!(output.stdout.starts_with(b"btrfs-progs v"), "{output:?}");
    install(0o755);
    let mut setcap = Command::new("setcap");
    let status = setcap.arg("cap_sys_admin+ep").arg(&copy).status();
    assert!(status.unwrap().success());
    let output = run();
    assert!(output.stdout.starts_with(b"btrfs-progs v"), "{output:?}");
    let named = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&copy)
        .arg("--version")
        .env("BTRFS_RECV_RS_BTRFS", real.join("btrfs"))
        .output()
        .unwrap();
    assert!(named.stdout.starts_with(b"btrfs-progs v"), "{named:?}");
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
