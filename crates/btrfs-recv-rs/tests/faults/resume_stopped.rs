//! Resumable receives that are stopped at each of their system calls, by
//! strace(1): while a subvolume is put back, while a checkpoint is written,
//! while the end is made. The next receive completes it, both where the
//! receiver was killed and where the power went at that moment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use btrfs_testkit::{LoopFilesystem, SentSample, Test, subvolume, test};

use crate::injected::no_strace;
use crate::resumed::FOLDER;
use crate::support::{COMMAND, Places, one_in, open_up, run, seed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(stopped_at_each_call, false),
        test!(stopped_at_each_call, true),
    ]
}

/// What putting back, checkpoints and the end consist of.
const CALLS: [&str; 7] = [
    "ioctl",
    "fsync",
    "syncfs",
    "renameat",
    "renameat2",
    "unlinkat",
    "mkdirat",
];

/// Of each kind all of the first calls are stopped at, and of the others one
/// in so many.
const ALL_OF_FIRST: usize = 4;
const ONE_IN: usize = 12;

/// Checkpoints, one that is about to be deleted, the snapshot to compare with;
/// the journal, the one that is to replace it, the lock.
const MOST_KEPT: usize = 4 + 1 + 1 + 3;

struct Stopped {
    sent: SentSample,
    outer: LoopFilesystem,
    /// A disk on which the first subvolume is complete, and the second was
    /// interrupted between two checkpoints.
    prepared: PathBuf,
    options: &'static [&'static str],
}

impl Stopped {
    fn new(atomic: bool) -> Self {
        let sent = SentSample::new();
        let outer = LoopFilesystem::builder().size(4 << 30).build();
        let options: &[&str] = if atomic { &["--atomic"] } else { &[] };
        let prepared = outer.path().join("prepared");
        let to = LoopFilesystem::builder().directory(outer.path()).build();
        let magic = b"btrfs-stream\0";
        let second = sent.stream.windows(magic.len()).rposition(|it| it == magic);
        let second = second.unwrap();
        let cut = &sent.stream[..second + (sent.stream.len() - second) * 4 / 5];
        let output = run(receive(to.path(), options, "").arg("--max-errors=1"), cut);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let suffix = if atomic { ".receiving" } else { "" };
        let half_built = to.path().join(format!("second{suffix}"));
        for entry in std::fs::read_dir(&half_built).unwrap().flatten().step_by(2) {
            let path = entry.path();
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
        to.sync();
        copy(to.image(), &prepared);
        Self {
            sent,
            outer,
            prepared,
            options,
        }
    }

    /// Stops a receive at the k-th call of a kind that a thread of it makes;
    /// `false` if there is no such call.
    fn stop_at(&self, call: &str, k: usize) -> bool {
        let image = self.outer.path().join("image");
        let cut = self.outer.path().join("cut");
        for path in [&image, &cut] {
            let _ = std::fs::remove_file(path);
        }
        copy(&self.prepared, &image);
        let to = LoopFilesystem::builder().existing_image(&image).build();
        let inject = format!("{call}:signal=KILL:when={k}");
        let output = run(
            &mut receive(to.path(), self.options, &inject),
            &self.sent.stream,
        );
        if output.status.success() {
            self.check(to.path());
            return false;
        }
        copy(&image, &cut);
        self.goes_on(to.path(), &inject);
        drop(to);
        let reborn = LoopFilesystem::builder().existing_image(&cut).build();
        self.goes_on(reborn.path(), &format!("{inject}, power cut"));
        true
    }

    /// Nothing stamped is incomplete; and another receive completes the rest.
    fn goes_on(&self, directory: &Path, when: &str) {
        for name in ["first", "second", "second.receiving"] {
            let path = directory.join(name);
            let facts = path.exists().then(|| subvolume::facts(&path));
            if let Some(facts) = facts.filter(|facts| facts.received_uuid.is_some()) {
                let sent = name.trim_end_matches(".receiving");
                let sent = self.sent.from.path().join(sent);
                if !facts.read_only {
                    open_up(&sent, &path);
                }
                btrfs_testkit::assert_same_tree(&sent, &path);
            }
        }
        let kept = std::fs::read_dir(directory.join(FOLDER).join("second"));
        let kept = kept.map_or(0, |entries| entries.count());
        assert!(kept <= MOST_KEPT, "{when}: {kept}");
        let output = run(&mut receive(directory, self.options, ""), &self.sent.stream);
        assert!(output.status.success(), "{when}: {}", text(&output));
        self.check(directory);
    }

    fn check(&self, directory: &Path) {
        for name in ["first", "second"] {
            let (sent, path) = (self.sent.from.path().join(name), directory.join(name));
            let facts = subvolume::facts(&path);
            assert!(facts.read_only);
            assert_eq!(facts.received_uuid, Some(subvolume::facts(&sent).uuid));
            btrfs_testkit::assert_same_tree(&sent, &path);
        }
        assert!(!directory.join(FOLDER).exists());
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 2);
    }
}

/// The command, under strace(1) if anything is to be injected.
fn receive(directory: &Path, options: &[&str], inject: &str) -> Command {
    let mut command = match inject.split_once(':') {
        None => Command::new(COMMAND),
        Some((calls, _)) => {
            let mut command = Command::new("strace");
            // Not with --seccomp-bpf, which strace 6.1 injects no signals with.
            command.args(["-f", "-qq", "-o", "/dev/null"]);
            command.args(["-e", &format!("trace={calls}")]);
            command.args(["-e", &format!("inject={inject}"), COMMAND]);
            command
        }
    };
    command.args(["--resumable", "--checkpoint-every", "8K"]);
    command.args(options).arg(directory);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Copies an image by reference: the disk at that moment.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .args(["--reflink=always", "--sparse=auto"])
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
}

fn stopped_at_each_call(atomic: bool) {
    if no_strace() {
        return;
    }
    let one_in = one_in(ONE_IN);
    let stopped = Stopped::new(atomic);
    let mut places = Places(seed());
    let mut count = 0;
    for call in CALLS {
        let mut k = 1;
        while stopped.stop_at(call, k) {
            count += 1;
            k += 1;
            if k > ALL_OF_FIRST {
                k += places.below(2 * one_in - 1);
            }
        }
        eprintln!("{call}: up to {k}");
    }
    assert!(count > 20, "{count}");
}
