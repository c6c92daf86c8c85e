//! `--serve` behind a real sshd: two keys of different rights, and btrbk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_testkit::{LoopFilesystem, Sender, Test, output_with_input, subvolume};

use crate::btrbk::{Btrbk, assert_backed_up, assert_incremental, change, host, names, target};
use crate::ssh::{Server, client};

const COMMAND: &str = env!("CARGO_BIN_EXE_btrfs-recv-rs");

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::on_btrfs("keys_may_do_what_their_rules_say", two_keys).needs("btrbk"),
        Test::on_btrfs("btrbk_is_served", btrbk_is_served).needs("btrbk"),
    ]
}

/// What `authorized_keys` has for a key with these rules.
fn served(btrbk: &Btrbk, name: &str, rules: &str, directory: &Path) -> String {
    let file = btrbk.join(&format!("{name}.toml"));
    fs::write(&file, rules).unwrap();
    let (file, directory) = (file.display(), directory.display());
    format!("{COMMAND} --serve --accept={file} {directory}")
}

/// Logs in with a key and asks for `line`.
fn ask(btrbk: &Btrbk, server: &Server, key: &str, line: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(btrbk.join("ours/ssh"));
    command
        .arg("-i")
        .arg(btrbk.join(key))
        .args(["-p", &server.port().to_string(), "root@127.0.0.1"])
        .args(line);
    output_with_input(&mut command, input)
}

fn snapshot_with(from: &LoopFilesystem, name: &str, mode: u32) -> Vec<u8> {
    let work = subvolume::create(&from.path().join(format!("{name}.work")));
    fs::write(work.join("program"), b"#!/bin/sh").unwrap();
    btrfs_testkit::files::set_mode(&work.join("program"), mode).unwrap();
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join(name));
    Sender::new(&snapshot).to_vec()
}

fn two_keys() {
    let btrbk = client();
    let from = LoopFilesystem::new();
    let plain = snapshot_with(&from, "plain", 0o755);
    let setuid = snapshot_with(&from, "setuid", 0o4755);
    let to = LoopFilesystem::new();
    let [mine, theirs] = ["mine", "theirs"].map(|name| {
        let directory: PathBuf = to.path().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    });
    let log = btrbk.join("log");
    let strict = format!(
        "names = [\"*\"]\n[serve]\nwho = \"strict\"\nlog = \"{}\"\n",
        log.display()
    );
    let lax = "names = [\"*\"]\nsetuid = \"allow\"\n[serve]\nqueries = [\"version\", \"show\"]\n";
    let server = Server::start(
        &btrbk,
        &[
            ("strict", served(&btrbk, "strict", &strict, &mine)),
            ("lax", served(&btrbk, "lax", lax, &theirs)),
        ],
    );
    let into = |directory: &Path| format!("btrfs receive {}", directory.display());
    let ask = |key: &str, line: &str, input: &[u8]| {
        let output = ask(&btrbk, &server, key, &[line], input);
        println!("{key}: {line:?}: {output:?}");
        output
    };
    let succeeds = |key: &str, line: &str, input: &[u8]| {
        assert!(ask(key, line, input).status.success(), "{key}: {line}");
    };
    let fails = |key: &str, line: &str, input: &[u8]| {
        let output = ask(key, line, input);
        assert_eq!(output.status.code(), Some(1), "{key}: {line}: {output:?}");
        // The client may say something before.
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.lines().any(|it| it.starts_with("ERROR: ")),
            "{stderr}"
        );
    };
    // Each into its own directory only.
    succeeds("strict", &into(&mine), &plain);
    fails("strict", &into(&theirs), &plain);
    fails("lax", &into(&mine), &plain);
    // Set-user-ID programs by one of them only.
    let output = ask("strict", &into(&mine), &setuid);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("refused by the rule setuid"), "{stderr}");
    succeeds("lax", &into(&theirs), &setuid);
    // Queries by the other.
    fails("strict", "btrfs --version", b"");
    succeeds("lax", "btrfs --version", b"");
    let copy = theirs.join("setuid");
    succeeds(
        "lax",
        &format!("btrfs subvolume show {}", copy.display()),
        b"",
    );
    // Neither has more.
    let marker = btrbk.join("marker");
    for key in ["strict", "lax"] {
        for line in [
            String::new(),
            "sh".to_owned(),
            format!("touch {}", marker.display()),
            format!("{}; touch {}", into(&mine), marker.display()),
            format!("btrfs receive $(touch {})", marker.display()),
            format!("{}\ntouch {}", into(&mine), marker.display()),
            format!("btrfs subvolume delete {}", copy.display()),
            format!("btrfs receive --accept=/dev/null {}", theirs.display()),
            format!("btrfs receive -f /etc/passwd {}", theirs.display()),
        ] {
            fails(key, &line, b"");
        }
        // The environment is not the client's to choose.
        for options in [
            &["-o", "SetEnv=SSH_ORIGINAL_COMMAND=id", "btrfs send /"][..],
            &["-o", "SetEnv=BTRFS_RECV_RS_BTRFS=/bin/sh", "id"],
            &["-t", "sh"],
        ] {
            let (before, line) = options.split_at(options.len() - 1);
            let mut command = Command::new(btrbk.join("ours/ssh"));
            command
                .arg("-i")
                .arg(btrbk.join(key))
                .args(before)
                .args(["-p", &server.port().to_string(), "root@127.0.0.1"])
                .args(line);
            let output = command.stdin(Stdio::null()).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{options:?}: {output:?}");
            let all = [output.stdout, output.stderr].concat();
            let all = String::from_utf8_lossy(&all);
            assert!(all.contains("refused by this host"), "{options:?}: {all}");
        }
    }
    assert!(!marker.exists());
    assert_eq!(names(&mine), [mine.join("plain")]);
    assert_eq!(names(&theirs), [copy]);
    let log = fs::read_to_string(log).unwrap();
    let from = "\"strict\" from \"127.0.0.1\" port ";
    assert!(log.lines().all(|line| line.contains(from)), "{log}");
    assert!(
        log.contains(": received: ") && log.contains(": refused, "),
        "{log}"
    );
}

/// In full and in increments, with what the documentation says that it needs.
fn btrbk_is_served() {
    let from = host();
    let (_to, backup) = target();
    let btrbk = client();
    fs::create_dir(from.path().join("snapshots")).unwrap();
    let rules = "names = [\"work.*\"]\ndevices = \"allow\"\nsetuid = \"allow\"\n\
                 setgid = \"allow\"\ncapabilities = \"allow\"\nverity = \"allow\"\n\
                 [xattrs]\notherwise = \"allow\"\n\
                 [serve]\nqueries = [\"list\", \"show\", \"readlink\", \"mounts\"]\n";
    let log = btrbk.join("log");
    let rules = format!("{rules}log = \"{}\"\n", log.display());
    let command = served(&btrbk, "rules", &rules, &backup);
    let server = Server::start(&btrbk, &[("key", command)]);
    let settings = format!(
        "ssh_user root\nssh_identity {}\ntarget_preserve_min all\n",
        btrbk.join("key").display()
    );
    for round in 0..3 {
        change(&from.path().join("work"), round);
        let volume = (from.path().to_str().unwrap(), &*server.url(&backup));
        let output = btrbk.run_with("run", &settings, volume, &["ours", "real"]);
        let (_, copy) = assert_backed_up(&output, from.path(), &backup);
        assert_incremental(&copy, round > 0);
    }
    assert_eq!(names(&backup).len(), 3);
    // All that it is allowed is used, and it can do without anything else: the
    // UUID of the top level.
    let log = fs::read_to_string(log).unwrap();
    for asked in ["subvolume list", "subvolume show", "readlink", "mountinfo"] {
        assert!(log.contains(asked), "{asked}: {log}");
    }
    let mut refused = log.lines().filter(|line| line.contains(": refused, "));
    assert!(refused.all(|line| line.contains("--rootid=5")), "{log}");
}
