//! The disk as it is after a cut of power: a copy of the backing file, which
//! lies on another btrfs and is shared in an instant.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use btrfs_testkit::{LoopFilesystem, Sender, SentSample, Test, subvolume, test};

use crate::support::{COMMAND, check_after_a_cut, noise, receive};

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(right_after_the_exit), test!(at_any_moment)]
}

/// Makes a filesystem whose backing file lies on `outer`.
pub(crate) fn inner(outer: &LoopFilesystem) -> LoopFilesystem {
    LoopFilesystem::builder().directory(outer.path()).build()
}

/// Copies the backing file by reference.
pub(crate) fn cut(image: &Path, copy: &Path) {
    let status = Command::new("cp")
        .args(["--reflink=always", "--sparse=auto"])
        .args([image, copy])
        .status();
    assert!(status.unwrap().success());
}

/// Lets `command` receive `stream` into `to`, and cuts the power again and
/// again meanwhile. The copies lie on `outer`, in the order they were made.
pub(crate) fn cut_while_receiving(
    command: &mut Command,
    stream: &[u8],
    to: LoopFilesystem,
    outer: &LoopFilesystem,
) -> Vec<PathBuf> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let done = AtomicBool::new(false);
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| stdin.write_all(stream).map(|()| drop(stdin)));
        scope.spawn(|| {
            assert!(child.wait().unwrap().success());
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let copy = outer.path().join(format!("copy {}", copies.len()));
            cut(to.image(), &copy);
            copies.push(copy);
        }
    });
    copies
}

/// At most so many of `copies`, from the first to the last.
pub(crate) fn some_of(copies: &[PathBuf], most: usize) -> impl Iterator<Item = &PathBuf> {
    copies.iter().step_by(copies.len().div_ceil(most).max(1))
}

/// Mounts the copy of a disk whose original is no longer mounted; checks it
/// and returns how many subvolumes carry a received UUID, and how many of
/// these are writable.
fn reborn(copy: &Path, from: &Path) -> (usize, usize) {
    let filesystem = LoopFilesystem::builder().existing_image(copy).build();
    check_after_a_cut(filesystem.path(), from)
}

fn right_after_the_exit() {
    let sent = SentSample::new();
    let outer = LoopFilesystem::builder().size(3 << 30).build();
    let to = inner(&outer);
    let copy = outer.path().join("copy");

    let output = receive(&sent.stream, to.path());
    cut(to.image(), &copy);

    assert!(output.status.success(), "{output:?}");
    drop(to);
    assert_eq!(reborn(&copy, sent.from.path()), (2, 0));
}

fn at_any_moment() {
    const SNAPSHOTS: u64 = 6;
    const MOST_CHECKED: usize = 80;
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    let mut stream = Vec::new();
    let mut parent: Option<PathBuf> = None;
    for round in 0..SNAPSHOTS {
        for number in 0..40 {
            let name = work.join(format!("file {}", (round * 25 + number) % 90));
            std::fs::write(name, noise(round * 99 + number, 60_000)).unwrap();
        }
        let path = from.path().join(format!("snap {round}"));
        let snapshot = subvolume::snapshot_read_only(&work, &path);
        let mut sender = Sender::new(&snapshot);
        if let Some(parent) = &parent {
            sender = sender.parent(parent);
        }
        stream.extend(sender.to_vec());
        parent = Some(snapshot);
    }

    let outer = LoopFilesystem::builder().size(3 << 30).build();
    let to = inner(&outer);
    let command = &mut Command::new(COMMAND);
    command.arg(to.path());
    let copies = cut_while_receiving(command, &stream, to, &outer);
    let found: Vec<_> = some_of(&copies, MOST_CHECKED)
        .map(|copy| reborn(copy, from.path()))
        .collect();
    eprintln!("received subvolumes, writable ones, in each copy: {found:?}");
    assert!(found.is_sorted_by_key(|(received, _)| *received));
    assert!(found.iter().all(|(_, writable)| *writable <= 1));
}
