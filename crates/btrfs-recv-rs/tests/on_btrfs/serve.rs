//! `--serve`: what another host may ask for by ssh.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use btrfs_sendstream::{Command, CommandRef, StreamPath, SubvolumeName, Version};
use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};
use uuid::Uuid;

use crate::support::{command, encode, names_in, run_with_input, text};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(streams_are_received_in_the_directory_and_below),
        test!(everything_else_is_refused_and_changes_nothing),
        test!(paths_lead_nowhere_else),
        test!(a_path_that_changes_meanwhile_leads_nowhere_else),
        test!(each_query_needs_its_switch),
        test!(what_exists_stays),
        test!(each_request_is_logged_in_one_line),
        test!(rules_are_needed),
        test!(capabilities_suffice),
    ]
}

const OWN: Uuid = Uuid::from_u128(0x1111);
const OTHER: Uuid = Uuid::from_u128(0x2222);

fn subvol(name: &'static str) -> CommandRef<'static> {
    Command::Subvol {
        name: SubvolumeName::parse(name.as_bytes()).unwrap(),
        uuid: OWN,
        ctransid: 7,
    }
}

fn full(name: &'static str, commands: &[CommandRef<'static>]) -> Vec<u8> {
    let all = [&[subvol(name)], commands, &[Command::End]].concat();
    encode(Version::V1, &all)
}

fn change(name: &'static str) -> Vec<u8> {
    let snapshot = Command::Snapshot {
        name: SubvolumeName::parse(name.as_bytes()).unwrap(),
        uuid: OTHER,
        ctransid: 9,
        parent_uuid: OWN,
        parent_ctransid: 7,
    };
    encode(Version::V1, &[snapshot, Command::End])
}

fn path(path: &'static str) -> StreamPath<&'static [u8]> {
    StreamPath::parse(path.as_bytes()).unwrap()
}

/// What a key with these rules gets for `line`.
fn serve(rules: &str, line: &str, stream: &[u8], directory: &Path) -> Output {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules = format!("names = [\"*\"]\n[serve]\n{rules}");
    fs::write(file.path(), rules).unwrap();
    let option = format!("--accept={}", file.path().display());
    let mut command = command(&["--serve", &option]);
    command
        .arg(directory)
        .env("SSH_ORIGINAL_COMMAND", line)
        .env("SSH_CONNECTION", "192.0.2.7 4711 192.0.2.1 22");
    run_with_input(&mut command, stream)
}

#[track_caller]
fn assert_refused(output: &Output, line: &str) {
    assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
    let (stdout, stderr) = text(output);
    assert_eq!(stdout, "", "{line}");
    assert!(
        stderr.starts_with("ERROR: refused by this host: "),
        "{line}: {stderr}"
    );
}

/// What a receive printed, but for the warning of `--sandbox` before Linux 5.19.
fn printed(output: &Output) -> (&str, &str) {
    let (stdout, stderr) = text(output);
    let warning = "WARNING: --sandbox: this kernel has no Landlock";
    match stderr.split_once('\n') {
        Some((first, rest)) if first.starts_with(warning) => (stdout, rest),
        _ => (stdout, stderr),
    }
}

fn streams_are_received_in_the_directory_and_below() {
    let to = LoopFilesystem::new();
    let served = to.path().join("it's served");
    fs::create_dir_all(served.join("below/a")).unwrap();
    let quoted = |path: &Path| format!("'{}'", path.to_str().unwrap().replace('\'', "'\\''"));
    let line = format!("btrfs receive {}", quoted(&served.join("")));
    let output = serve("", &line, &full("some", &[]), &served);
    assert!(output.status.success(), "{output:?}");
    // As the clients of btrfs receive want it.
    assert_eq!(printed(&output), ("", "At subvol some\n"));
    // The parent may lie anywhere in what is served.
    let line = format!(
        "exec sh -c \"trap '' PIPE\" {}",
        quoted(&served.join("below"))
    );
    assert_refused(&serve("", &line, &change("next"), &served), &line);
    let line = format!(
        "sudo -n btrfs receive -e {}",
        quoted(&served.join("below/a"))
    );
    for sandbox in ["sandbox = true", "sandbox = false"] {
        let output = serve(sandbox, &line, &change("next"), &served);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(printed(&output), ("At snapshot next\n", ""));
        let next = served.join("below/a/next");
        let facts = subvolume::facts(&next);
        assert!(facts.read_only && facts.received_uuid.is_some());
        subvolume::delete(&next);
    }
    // And nowhere else.
    let elsewhere = to.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let line = format!("btrfs receive {}", quoted(&elsewhere));
    let output = serve("", &line, &change("next"), &elsewhere);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(names_in(&elsewhere), [""; 0]);
    // Rules hold.
    let chmod = Command::Chmod {
        path: path(""),
        mode: 0o4755,
    };
    let output = serve("", &line, &full("bad", &[chmod]), &elsewhere);
    assert!(text(&output).1.contains("refused by the rule setuid"));
    assert_eq!(names_in(&elsewhere), [""; 0]);
}

fn everything_else_is_refused_and_changes_nothing() {
    let to = LoopFilesystem::new();
    let here = to.path().to_str().unwrap();
    assert!(
        serve(
            "",
            &format!("btrfs receive {here}"),
            &full("some", &[]),
            to.path()
        )
        .status
        .success()
    );
    let before = subvolume::facts(&to.path().join("some"));
    for line in [
        "",
        "sh",
        "id",
        "btrfs subvolume delete HERE/some",
        "sudo -n btrfs subvolume delete --commit-each 'HERE/some'",
        "btrfs property set HERE/some ro false",
        "btrfs subvolume snapshot HERE/some HERE/copy",
        "btrfs send HERE/some",
        "btrfs receive HERE; touch HERE/x",
        "btrfs receive HERE && touch HERE/x",
        "btrfs receive HERE\ntouch HERE/x",
        "btrfs receive $(touch HERE/x)",
        "btrfs receive `touch HERE/x`",
        "cat | btrfs receive HERE",
        "btrfs receive HERE > HERE/x",
        "btrfs receive --accept=/etc/shadow HERE",
        "btrfs receive --name=x HERE",
        "btrfs receive --on-error=keep HERE",
        "btrfs receive -f /etc/shadow HERE",
        "btrfs receive --abandon HERE some",
        "btrfs-recv-rs --abandon HERE",
        "btrfs-recv-rs --extract HERE",
        "btrfs-recv-rs --serve HERE",
        "mkdir HERE/x",
        "touch HERE/x",
        "rm -rf HERE",
        "mv HERE/some HERE/x",
        "readlink -e HERE",
        "cat /proc/self/mountinfo",
        "btrfs subvolume list HERE",
        "btrfs subvolume show HERE/some",
        "btrfs --version",
        "internal-sftp",
    ] {
        let line = line.replace("HERE", here);
        assert_refused(&serve("", &line, &full("more", &[]), to.path()), &line);
        assert_eq!(names_in(to.path()), ["some"], "{line}");
        let after = subvolume::facts(&to.path().join("some"));
        assert_eq!(format!("{after:?}"), format!("{before:?}"), "{line}");
    }
}

fn paths_lead_nowhere_else() {
    let to = LoopFilesystem::new();
    let (served, other) = (to.path().join("served"), to.path().join("served2"));
    for directory in [&served.join("a"), &other] {
        fs::create_dir_all(directory).unwrap();
    }
    symlink(&other, served.join("link")).unwrap();
    symlink("..", served.join("up")).unwrap();
    let line = format!("btrfs receive {}", served.display());
    let link = Command::Symlink {
        path: path("link"),
        ino: 258,
        target: b"../../served2",
    };
    let directory = Command::Mkdir {
        path: path("directory"),
        ino: 259,
    };
    let output = serve("", &line, &full("some", &[link, directory]), &served);
    assert!(output.status.success(), "{output:?}");
    let tmpfs = btrfs_testkit::Mount::tmpfs(1 << 20);
    fs::create_dir(served.join("mounted")).unwrap();
    let bound = std::process::Command::new("mount")
        .arg("--bind")
        .args([&other, &served.join("mounted")])
        .status();
    assert!(bound.unwrap().success());
    let here = served.to_str().unwrap();
    for asked in [
        "HERE2",
        "HERE/..",
        "HERE/../served2",
        "HERE/a/../../served2",
        "HERE/link",
        "HERE/up/served2",
        "HERE/some/link",
        "HERE/some",
        "HERE/some/directory",
        "HERE/mounted",
        "HERE/missing",
        "/",
        "/proc/self/cwd",
        "/proc/self/root",
        "served",
        ".",
        "''",
        tmpfs.path().to_str().unwrap(),
    ] {
        let line = format!("btrfs receive {}", asked.replace("HERE", here));
        assert_refused(&serve("", &line, &full("more", &[]), &served), &line);
        assert_eq!(names_in(&other), [""; 0], "{asked}");
    }
    std::process::Command::new("umount")
        .arg(served.join("mounted"))
        .status()
        .unwrap();
    // A directory that is named by a link is the one it leads to.
    symlink(&served, to.path().join("named")).unwrap();
    for asked in ["named/a", "served/a"] {
        let line = format!("btrfs receive {}/{asked}", to.path().display());
        let output = serve("", &line, &full("more", &[]), &to.path().join("named"));
        assert!(output.status.success(), "{asked}: {output:?}");
        subvolume::delete(&served.join("a/more"));
    }
}

/// The other side changes what it receives, while the path is looked at.
fn a_path_that_changes_meanwhile_leads_nowhere_else() {
    let to = LoopFilesystem::new();
    let (served, other) = (to.path().join("served"), to.path().join("other"));
    for directory in [&served.join("a"), &other] {
        fs::create_dir_all(directory).unwrap();
    }
    symlink(&other, served.join("b")).unwrap();
    let stop = AtomicBool::new(false);
    let line = format!("btrfs receive {}", served.join("a").display());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (a, b) = (served.join("a"), served.join("b"));
                btrfs_testkit::files::exchange(&a, &b).unwrap();
            }
        });
        for _ in 0..40 {
            serve("", &line, &full("some", &[]), &served);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(names_in(&other), [""; 0]);
}

fn each_query_needs_its_switch() {
    let to = LoopFilesystem::new();
    let here = to.path().to_str().unwrap();
    let receive = format!("btrfs receive {here}");
    assert!(
        serve("", &receive, &full("some", &[]), to.path())
            .status
            .success()
    );
    let all = ["list", "show", "readlink", "mounts", "version"];
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for (name, line, part) in [
        (
            "list",
            "btrfs subvolume list -a -c -u -q -R 'HERE'",
            "path some",
        ),
        (
            "show",
            "sudo -n btrfs subvolume show 'HERE/some'",
            "Received UUID",
        ),
        ("readlink", "readlink -v -e 'HERE/'", here),
        ("mounts", "cat /proc/self/mountinfo", here),
        ("version", "btrfs --version", "btrfs-progs v"),
    ] {
        let line = line.replace("HERE", here);
        let output = serve(&format!("queries = [\"{name}\"]"), &line, b"", to.path());
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(text(&output).0.contains(part), "{line}: {output:?}");
        let others: Vec<_> = all.iter().filter(|it| **it != name).collect();
        let output = serve(&format!("queries = {others:?}"), &line, b"", to.path());
        assert_refused(&output, &line);
    }
    assert!(mountinfo.contains(here));
    // The list is the same at the mount point, which is above.
    let below = to.path().join("below");
    fs::create_dir(&below).unwrap();
    let line = format!("btrfs subvolume list {here}");
    let output = serve("queries = [\"list\"]", &line, b"", &below);
    assert!(text(&output).0.contains("path some"), "{output:?}");
    for line in [
        "btrfs subvolume show HERE",
        "btrfs subvolume list HERE/below/../..",
        "btrfs subvolume list HERE/other",
    ] {
        let line = line.replace("HERE", here);
        let rules = "queries = [\"list\", \"show\"]";
        assert_refused(&serve(rules, &line, b"", &below), &line);
    }
    let every = format!("queries = {all:?}");
    for line in [
        "btrfs subvolume show /",
        "btrfs subvolume show HERE/..",
        "btrfs subvolume list /",
        "readlink -e /",
        "readlink -e HERE/../",
        "readlink -e /etc",
        "cat /etc/passwd",
        "btrfs subvolume show -r 5 HERE",
        "btrfs subvolume list --help HERE",
        "btrfs filesystem show",
    ] {
        let line = line.replace("HERE", here);
        assert_refused(&serve(&every, &line, b"", to.path()), &line);
    }
}

/// Whatever is received and refused: append only.
fn what_exists_stays() {
    let to = LoopFilesystem::new();
    let line = format!("btrfs receive --max-errors=0 {}", to.path().display());
    assert!(
        serve("", &line, &full("some", &[]), to.path())
            .status
            .success()
    );
    subvolume::create(&to.path().join("writable"));
    fs::create_dir(to.path().join("directory")).unwrap();
    fs::write(to.path().join("file"), b"content").unwrap();
    let all = ["directory", "file", "some", "writable"];
    let facts = |name| format!("{:?}", subvolume::facts(&to.path().join(name)));
    let before = [facts("some"), facts("writable")];
    let chmod = Command::Chmod {
        path: path(""),
        mode: 0o4755,
    };
    for name in all {
        for commands in [&[][..], std::slice::from_ref(&chmod)] {
            let output = serve("", &line, &full(name, commands), to.path());
            assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        }
        let output = serve("", &line, &change(name), to.path());
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
    }
    assert_eq!(names_in(to.path()), all);
    assert_eq!([facts("some"), facts("writable")], before);
    assert_eq!(fs::read(to.path().join("file")).unwrap(), b"content");
}

fn each_request_is_logged_in_one_line() {
    let to = LoopFilesystem::new();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("log");
    let rules = format!("who = \"web1\"\nlog = \"{}\"", file.display());
    let receive = format!("btrfs receive {}", to.path().display());
    serve(&rules, &receive, &full("some", &[]), to.path());
    serve(&rules, &receive, &full("some", &[]), to.path());
    serve(&rules, "id\nbtrfs-recv-rs[1]: forged", b"", to.path());
    let log = fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = log.lines().collect();
    let from = "]: \"web1\" from \"192.0.2.7\" port \"4711\": ";
    assert!(lines.iter().all(|line| line.contains(from)), "{log}");
    let what = |line: &&str| line.split_once(from).unwrap().1.to_owned();
    assert_eq!(
        lines.iter().map(what).collect::<Vec<_>>(),
        [
            format!("receives: \"{receive}\""),
            format!("received: \"{receive}\""),
            format!("receives: \"{receive}\""),
            format!("failed: \"{receive}\""),
            "refused, the command contains '\\n', which is not supported: \
             \"id\\nbtrfs-recv-rs[1]: forged\""
                .to_owned(),
        ]
    );
    // To a socket, as the system log is one; also out of the sandbox.
    let path = scratch.path().join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    let rules = format!("who = \"web1\"\nlog = \"{}\"", path.display());
    subvolume::delete(&to.path().join("some"));
    serve(&rules, &receive, &full("some", &[]), to.path());
    for what in ["receives", "received"] {
        let mut line = [0; 1024];
        let len = socket.recv(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..len]);
        assert!(line.starts_with("<38>btrfs-recv-rs["), "{line}");
        assert!(line.contains(&format!(": {what}: ")), "{line}");
    }
    // Without the log that the rules name, nothing is served.
    let output = serve("log = \"/no/such/log\"", &receive, b"", to.path());
    assert!(text(&output).1.contains("cannot open the log"));
}

fn rules_are_needed() {
    let to = LoopFilesystem::new();
    let mut plain = command(&["--serve"]);
    plain.arg(to.path()).env("SSH_ORIGINAL_COMMAND", "id");
    let output = run_with_input(&mut plain, b"");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).1.contains("--serve needs --accept"));
    for option in ["--name=x", "--resumable", "--on-error=keep", "-e"] {
        let mut other = command(&["--serve", "--accept=/dev/null", option]);
        let output = run_with_input(other.arg(to.path()), b"");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

/// Those of the manual page, without root.
fn capabilities_suffice() {
    let to = LoopFilesystem::new();
    let rules = tempfile::NamedTempFile::new().unwrap();
    fs::write(rules.path(), "names = [\"some\"]\nsetuid = \"allow\"").unwrap();
    let capabilities = "+chown,+dac_override,+dac_read_search,+fowner,+fsetid,+mknod,+setfcap,\
                        +sys_admin";
    let bad = Command::Mknod {
        path: path("disk"),
        ino: 258,
        rdev: 0x103,
        mode: 0o60_600,
    };
    let chown = Command::Chown {
        path: path(""),
        uid: 5,
        gid: 5,
    };
    let chmod = Command::Chmod {
        path: path(""),
        mode: 0o4755,
    };
    for (commands, success) in [(&[bad, chown.clone()][..], false), (&[chown, chmod], true)] {
        let mut plain = std::process::Command::new("setpriv");
        plain
            .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
            .arg(format!("--inh-caps=-all,{capabilities}"))
            .arg(format!("--ambient-caps=-all,{capabilities}"))
            .arg(command(&[]).get_program())
            .arg("--serve")
            .arg(format!("--accept={}", rules.path().display()))
            .arg(to.path())
            .env(
                "SSH_ORIGINAL_COMMAND",
                format!("btrfs receive {}", to.path().display()),
            )
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let output = run_with_input(&mut plain, &full("some", commands));
        assert_eq!(output.status.success(), success, "{output:?}");
        let names: &[&str] = if success { &["some"] } else { &[] };
        assert_eq!(names_in(to.path()), names, "{output:?}");
    }
}
