//! An adoption that ends at any system call.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};

use super::adoptions::Hosts;
use super::support::{COMMAND, document};

/// The calls of an adoption that change something, or that it depends on.
const CALLS: [&str; 10] = [
    "ioctl",
    "openat",
    "mkdirat",
    "flock",
    "renameat2",
    "unlinkat",
    "fsync",
    "syncfs",
    "pread64",
    "getdents64",
];

pub(crate) fn tests() -> Vec<Test> {
    let all = ["error=EIO:signal=KILL", "error=EIO", "error=EPERM"];
    let tests = all.into_iter().flat_map(|fault| {
        [
            test!(nothing_false_is_marked, fault, true).needs("strace"),
            test!(nothing_false_is_marked, fault, false).needs("strace"),
        ]
    });
    tests.chain([test!(a_power_cut_at_any_moment)]).collect()
}

/// `equal`: whether the copy is to be adopted or to be refused.
fn nothing_false_is_marked(fault: &'static str, equal: bool) {
    let hosts = Hosts::with(
        |work| {
            std::fs::create_dir(work.join("directory")).unwrap();
            std::fs::write(work.join("directory/file"), "text").unwrap();
        },
        |_| {},
    );
    let original = hosts.copy("cp");
    if !equal {
        std::fs::write(original.join("more"), "text").unwrap();
    }
    subvolume::set_read_only(&original, true);
    let copy = hosts.to.path().join("run");
    let mut ends = 0;
    for call in CALLS {
        for k in 1.. {
            subvolume::snapshot_read_only(&original, &copy);
            let inject = format!("inject={call}:{fault}:when={k}");
            let was_injected = adopt_with(&hosts, &copy, call, &inject);
            let adopted = check(&hosts, hosts.to.path(), &inject);
            assert!(equal || adopted == 0, "{inject}: {adopted} are marked");
            // Whoever tries again succeeds.
            let (status, stdout, stderr) = hosts.adopt(&[], &copy);
            assert_eq!(
                status,
                Some(i32::from(!equal)),
                "{inject}: {stdout}{stderr}"
            );
            check(&hosts, hosts.to.path(), &inject);
            let facts = subvolume::facts(&copy);
            assert!(facts.read_only);
            assert_eq!(facts.received_uuid.is_some(), equal);
            for path in subvolumes(hosts.to.path()) {
                if path != original {
                    subvolume::delete(&path);
                }
            }
            for entry in std::fs::read_dir(hosts.to.path()).unwrap() {
                let path = entry.unwrap().path();
                assert!(path == original, "{inject}: {path:?} is left");
            }
            if !was_injected {
                break;
            }
            ends += 1;
        }
    }
    eprintln!("{fault}, equal: {equal}: ended at {ends} calls");
    assert!(ends > 20);
}

/// Whether the fault came.
fn adopt_with(hosts: &Hosts, copy: &Path, call: &str, inject: &str) -> bool {
    let log = hosts.from.path().join("log");
    let output = Command::new("strace")
        .args(["-f", "-q", "--seccomp-bpf", "-o"])
        .arg(&log)
        .args(["-e", &format!("trace={call}"), "-e", inject])
        .args([COMMAND, "adopt", "--threads=1", "--digest"])
        .arg(&hosts.saved)
        .arg(copy)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    // strace ends by the signal that ended what it ran.
    output.status.code().is_none() || log.contains("INJECTED")
}

/// Everything that is marked as received is the same as what was sent, and
/// read-only or out of reach. Returns how many are marked.
fn check(hosts: &Hosts, directory: &Path, inject: &str) -> usize {
    let expected = document(&hosts.first).sha256;
    let mut marked = 0;
    for path in subvolumes(directory) {
        let facts = subvolume::facts(&path);
        if facts.received_uuid.is_none() {
            continue;
        }
        marked += 1;
        assert_eq!(document(&path).sha256, expected, "{inject}: {path:?}");
        let around = path.parent().unwrap();
        let is_private = around != directory && around.metadata().unwrap().mode() & 0o777 == 0o700;
        assert!(facts.read_only || is_private, "{inject}: {path:?}");
    }
    marked
}

/// Every subvolume in `directory`, and in private directories there.
fn subvolumes(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.metadata().unwrap().ino() == 256 {
            found.push(path);
        } else {
            found.extend(subvolumes(&path));
        }
    }
    found
}

/// Copies of the disk as it was at any moment of an adoption.
fn a_power_cut_at_any_moment() {
    const MOST_CHECKED: usize = 40;
    let outer = LoopFilesystem::builder().size(3 << 30).build();
    let build = |work: &Path| {
        for number in 0..200 {
            std::fs::write(work.join(format!("{number}")), vec![number; 20_000]).unwrap();
        }
    };
    let mut hosts = Hosts::with(build, |_| {});
    hosts.to = LoopFilesystem::builder().directory(outer.path()).build();
    let copy = hosts.copy("cp");
    let image = hosts.to.image().to_owned();
    let done = AtomicBool::new(false);
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (status, _, stderr) = hosts.adopt(&["--make-read-only"], &copy);
            assert_eq!(status, Some(0), "{stderr}");
            done.store(true, Ordering::Relaxed);
        });
        loop {
            // The last is from after the end.
            let is_last = done.load(Ordering::Relaxed);
            let to = outer.path().join(format!("copy {}", copies.len()));
            let status = Command::new("cp")
                .args(["--reflink=always", "--sparse=auto"])
                .args([&image, &to])
                .status();
            assert!(status.unwrap().success());
            copies.push(to);
            if is_last {
                break;
            }
        }
    });
    // Two filesystems of one UUID are not mounted at once.
    drop(std::mem::replace(&mut hosts.to, LoopFilesystem::new()));
    let step = copies.len().div_ceil(MOST_CHECKED);
    let last = copies.len() - 1;
    let some = (0..copies.len()).filter(|at| at % step == 0 || *at == last);
    let marked: Vec<_> = some
        .map(|at| {
            let filesystem = LoopFilesystem::builder()
                .existing_image(&copies[at])
                .build();
            check(&hosts, filesystem.path(), &format!("copy {at}"))
        })
        .collect();
    eprintln!("marked as received in each copy: {marked:?}");
    assert_eq!(marked.last(), Some(&1));
}
