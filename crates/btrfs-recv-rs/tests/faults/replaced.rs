//! `--replace` that ends at any system call, by an error, by a signal and by a power
//! cut.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};

use crate::power_cut::{cut, inner};
use crate::support::{COMMAND, Places, noise, one_in, receive, seed};

/// The calls that change something, or that decide what is changed.
const CALLS: [&str; 9] = [
    "ioctl",
    "openat",
    "renameat2",
    "fsync",
    "statx",
    "newfstatat",
    "fcntl",
    "getdents64",
    "pread64",
];

/// The name of the old subvolume, and of the new one.
const NAME: &str = "home";

pub(crate) fn tests() -> Vec<Test> {
    let faults = ["error=EIO:signal=KILL", "error=EIO"];
    let tests = faults.into_iter().flat_map(|fault| {
        ["--keep-old=before", "--delete-old", ""]
            .map(|option| test!(nothing_is_ever_missing, fault, option).needs("strace"))
    });
    tests.collect()
}

/// What there is besides the received subvolume.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// Whether the name is that of the new subvolume; `None` if nothing has it.
    is_new: Option<bool>,
    /// The name of the old one.
    old: Option<String>,
    /// How many complete new ones there are.
    new: usize,
}

/// Looks at everything, and checks what is complete.
fn look(directory: &Path, context: &str) -> State {
    let received = directory.join("first");
    let facts = subvolume::facts(&received);
    assert!(
        facts.read_only && facts.received_uuid.is_some(),
        "{context}"
    );
    let mut state = State {
        is_new: None,
        old: None,
        new: 0,
    };
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if ["first", "template"].contains(&&*name) {
            continue;
        }
        assert_eq!(path.metadata().unwrap().ino(), 256, "{context}: {path:?}");
        let is_old = path.join("mine").exists();
        let is_known = [NAME, "before"].contains(&&*name) || name.starts_with("home.restoring-");
        assert!(is_known, "{context}: {name}");
        if name == NAME {
            state.is_new = Some(!is_old);
        }
        if is_old {
            assert_eq!(state.old, None, "{context}");
            assert_eq!(
                fs::read(path.join("mine")).unwrap(),
                noise(1, 5000),
                "{context}"
            );
            state.old = Some(name);
        } else {
            let facts = subvolume::facts(&path);
            assert!(
                !facts.read_only && facts.received_uuid.is_none(),
                "{context}"
            );
            btrfs_testkit::assert_same_tree(&received, &path);
            state.new += 1;
        }
    }
    state
}

/// What has to hold at any moment.
fn check(directory: &Path, option: &str, context: &str) -> State {
    let state = look(directory, context);
    let context = format!("{context}: {state:?}");
    assert!(state.new <= 1, "{context}");
    match state.is_new {
        // Nothing had the name.
        None => assert_eq!(option, "", "{context}"),
        Some(false) => assert_eq!(state.old.as_deref(), Some(NAME), "{context}"),
        Some(true) => match option {
            "--keep-old=before" => assert!(state.old.is_some(), "{context}"),
            "" => assert_eq!(state.old, None, "{context}"),
            _ => {}
        },
    }
    state
}

fn nothing_is_ever_missing(fault: &'static str, option: &'static str) {
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    for number in 0..20 {
        fs::write(work.join(format!("file {number}")), noise(number, 9000)).unwrap();
    }
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    let stream = btrfs_testkit::Sender::new(&first).to_vec();
    let stored = tempfile::tempdir().unwrap();
    fs::write(stored.path().join("stream"), &stream).unwrap();
    let outer = LoopFilesystem::builder().size(3 << 30).build();
    let to = inner(&outer);
    assert!(receive(&stream, to.path()).status.success());
    let template = subvolume::create(&to.path().join("template"));
    fs::write(template.join("mine"), noise(1, 5000)).unwrap();

    let home = to.path().join(NAME);
    let mut copies = Vec::new();
    let mut states = BTreeSet::new();
    let mut ends = 0;
    let one_in = one_in(1);
    let mut places = Places(seed());
    for call in CALLS {
        let first = 1 + places.below(one_in);
        for k in (first..).step_by(one_in) {
            if !option.is_empty() {
                subvolume::snapshot_writable(&template, &home);
            }
            to.sync();
            let inject = format!("{call}:{fault}:when={k}");
            let arguments = [stored.path(), to.path()];
            let run = run(&inject, call, option, arguments, from.path());
            if fault.contains("KILL") {
                let copy = outer.path().join(format!("copy {}", copies.len()));
                cut(to.image(), &copy);
                copies.push((copy, inject.clone(), run.success));
            }
            let state = check(to.path(), option, &inject);
            states.insert(format!("{:?} {}", state.is_new, state.new));
            if run.success {
                let old = (option == "--keep-old=before").then(|| "before".to_owned());
                assert_eq!((state.is_new, &state.old), (Some(true), &old), "{inject}");
                assert_eq!(state.new, 1, "{inject}");
            } else if state.is_new != Some(true) {
                // Whoever tries again succeeds.
                let again = self::run("", call, option, arguments, from.path());
                assert!(again.success, "{inject}: {}", again.stderr);
                assert_eq!(look_at_name(to.path()), Some(true), "{inject}");
            }
            // The program may not have been loaded.
            let is_loaded = !run.stderr.contains("loading shared libraries");
            if !run.success && !run.is_killed && is_loaded {
                assert!(run.stderr.contains("ERROR: "), "{inject}: {}", run.stderr);
                if state.is_new == Some(true) {
                    let said = ["the old subvolume is ", "/home now, which cannot be"];
                    let is_said = said.iter().any(|it| run.stderr.contains(it));
                    assert!(is_said, "{inject}: {}", run.stderr);
                }
            }
            clear(to.path());
            if !run.is_injected {
                break;
            }
            ends += 1;
        }
    }
    eprintln!("{fault} {option}: ended at {ends} calls: {states:?}");
    if one_in == 1 {
        assert!(ends > 20);
        // Before, between and after.
        let least = if option.is_empty() { 2 } else { 3 };
        assert!(states.len() >= least, "{states:?}");
    }
    // Two filesystems of one UUID are not mounted at once.
    drop(to);
    for (copy, inject, success) in copies {
        let filesystem = LoopFilesystem::builder().existing_image(&copy).build();
        let context = format!("power cut at {inject}");
        let state = check(filesystem.path(), option, &context);
        // All of it is on disk at the exit, except for a deletion.
        if success {
            assert_eq!((state.is_new, state.new), (Some(true), 1), "{context}");
            let is_kept = state.old.as_deref() == Some("before");
            assert_eq!(is_kept, option == "--keep-old=before", "{context}");
        }
    }
}

/// How a run ended.
struct Run {
    success: bool,
    is_injected: bool,
    is_killed: bool,
    stderr: String,
}

/// Replaces, with a fault if `inject` is not empty.
fn run(inject: &str, call: &str, option: &str, paths: [&Path; 2], scratch: &Path) -> Run {
    let log = scratch.join("log");
    let mut command = Command::new("strace");
    command.args(["-f", "-q", "--seccomp-bpf", "-o"]).arg(&log);
    command.args(["-e", &format!("trace={call}")]);
    if !inject.is_empty() {
        command.args(["-e", &format!("inject={inject}")]);
    }
    command.args([COMMAND, "--replace=home"]);
    command.args(Some(option).filter(|it| !it.is_empty()));
    command.arg("--chain").args(paths);
    let output = command.stdin(Stdio::null()).output().unwrap();
    // strace ends by the signal that ended what it ran.
    let is_killed = output.status.code().is_none();
    Run {
        success: output.status.success(),
        is_injected: is_killed || fs::read_to_string(&log).unwrap().contains("INJECTED"),
        is_killed,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Whether the name is that of the new subvolume.
fn look_at_name(directory: &Path) -> Option<bool> {
    let path = directory.join(NAME);
    path.exists().then(|| !path.join("mine").exists())
}

/// Deletes what a run made.
fn clear(directory: &Path) {
    let entries = fs::read_dir(directory).unwrap();
    let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in paths {
        let name = path.file_name().unwrap();
        if name != "first" && name != "template" {
            subvolume::delete(&path);
        }
    }
}
