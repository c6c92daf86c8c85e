//! Operations stay beneath the root they were given: the body of the fuzz
//! target `confine`, compiled for tests and with `--cfg fuzzing`.
//!
//! A directory stands in for the subvolume: what is to be proved, that no
//! path leads out of it, does not depend on btrfs. Mount points and nested
//! subvolumes, which need one, are left to the tests of `confine`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use btrfs_sendstream::{Bytes, StreamPath, Timespec};
use rustix::fs::{CWD, Mode, OFlags, ftruncate, openat};

use super::{Access, Resolver, Root};
use crate::error::Cause;

/// Operations of one run at most.
const MAX_OPERATIONS: usize = 64;

const NAMES: [&str; 6] = ["a", "b", "c", "up", "out", "etc"];

/// Carries out operations made of `data` in a directory with symbolic links
/// that lead out of it, once with each way of resolving paths. Nothing beside
/// that directory may change, and both ways must end with the same names.
pub fn confine(data: &[u8]) {
    let listings: Vec<_> = [Resolver::Openat2, Resolver::Walk]
        .into_iter()
        .map(|resolver| {
            let room = Room::new();
            let before = room.outside();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = openat(CWD, room.0.join("inside"), flags, Mode::empty());
            let root = Root::with_resolver(fd.expect("it was just made"), resolver);
            let root = root.expect("a directory can be a root");
            let mut input = Choices(data);
            for _ in 0..MAX_OPERATIONS {
                if input.0.is_empty() {
                    break;
                }
                operation(&mut input, &root);
            }
            assert_eq!(room.outside(), before, "{resolver:?}");
            room.inside()
        })
        .collect();
    assert!(listings.windows(2).all(|pair| pair[0] == pair[1]));
}

/// One operation; whether it succeeds does not matter.
fn operation(input: &mut Choices<'_>, root: &Root) {
    let (path, other) = (path(input), path(input));
    let mode = u32::from(input.byte()) | 0o700;
    let result: Result<(), Cause> = match input.below(17) {
        0 | 1 => root.mkdir(&path, mode),
        2 => root.create_file(&path, mode).map(drop),
        3 => root.symlink(&path, input.of(&TARGETS).as_bytes()),
        4 | 5 => root.rename(&path, &other, input.byte() & 1 == 1),
        6 => root.link(&path, &other),
        7 => root.unlink(&path),
        8 => root.rmdir(&path),
        9 => root.chmod(&path, mode),
        10 => root.chown(&path, 12, 34),
        11 => root.set_xattr(&path, b"user.a", b"value"),
        12 => root.remove_xattr(&path, b"user.a"),
        13 => root
            .open_file(&path, Access::Write)
            .and_then(|file| ftruncate(file, 1).map_err(|errno| Cause::system("ftruncate", errno))),
        14 => root.utimens(&path, Timespec::default(), Some(Timespec::default())),
        15 => root.mkfifo(&path, mode),
        _ => root.open_file(&path, Access::Write).map(drop),
    };
    drop(result);
}

const TARGETS: [&str; 6] = ["..", "../outside", "/", "../outside/file", ".", "a"];

/// Up to four components, as a stream may send them.
fn path(input: &mut Choices<'_>) -> StreamPath {
    let mut names = Vec::new();
    for _ in 0..input.below(4) {
        names.push(input.of(&NAMES));
    }
    StreamPath::parse(Bytes::from(names.join("/"))).unwrap_or_default()
}

/// What the fuzzer's bytes choose: one byte for each choice, zero when there
/// are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    fn of(&mut self, choices: &[&'static str]) -> &'static str {
        let chosen = self.below(choices.len());
        choices[chosen]
    }
}

/// A directory with one to work in and one that must not change.
struct Room(PathBuf);

impl Room {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("confine-{}-{number}", std::process::id());
        let room = Self(std::env::temp_dir().join(name));
        room.fill().expect("the temporary directory can be used");
        room
    }

    fn fill(&self) -> std::io::Result<()> {
        let (outside, inside) = (self.0.join("outside"), self.0.join("inside"));
        fs::create_dir_all(outside.join("a/b"))?;
        fs::write(outside.join("file"), b"precious")?;
        fs::write(outside.join("a/c"), b"precious too")?;
        fs::create_dir_all(inside.join("a"))?;
        let link = std::os::unix::fs::symlink::<&Path, PathBuf>;
        link(Path::new(".."), inside.join("up"))?;
        link(Path::new("../outside"), inside.join("out"))?;
        link(Path::new("../../outside/a"), inside.join("a/b"))
    }

    /// Everything beside the working directory that a call could have
    /// changed; the change time moves with every change of an inode.
    fn outside(&self) -> Vec<(PathBuf, u64, u32, i64, i64, Vec<u8>)> {
        let mut found = Vec::new();
        for path in self.walk("outside") {
            let meta = fs::symlink_metadata(&path).expect("it was listed");
            let content = fs::read(&path).unwrap_or_default();
            let times = (meta.ctime(), meta.ctime_nsec());
            found.push((path, meta.nlink(), meta.mode(), times.0, times.1, content));
        }
        let beside = fs::read_dir(&self.0).expect("it was made").count();
        assert_eq!(beside, 2, "something was made beside the root");
        found
    }

    /// Names and modes of the working directory.
    fn inside(&self) -> Vec<(PathBuf, u32)> {
        let top = self.0.join("inside");
        self.walk("inside")
            .into_iter()
            .map(|path| {
                let mode = fs::symlink_metadata(&path).map_or(0, |meta| meta.mode());
                (path.strip_prefix(&top).unwrap_or(&path).to_owned(), mode)
            })
            .collect()
    }

    fn walk(&self, directory: &str) -> Vec<PathBuf> {
        let (mut found, mut left) = (Vec::new(), vec![self.0.join(directory)]);
        while let Some(path) = left.pop() {
            if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                let entries = fs::read_dir(&path).expect("it can be read");
                left.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
            }
            found.push(path);
        }
        found.sort();
        found
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
