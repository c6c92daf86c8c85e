//! What a path, a tree and another process can try, with both resolvers.
//!
//! They run on any filesystem that the temporary directory lies on, as any
//! user; what takes root is left out without it.

mod btrfs;
mod corpus;
mod escapes;
mod follows;
mod limits;
mod operations;
mod races;
mod root;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use btrfs_sendstream::{Bytes, StreamPath};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tempfile::TempDir;

use super::{Resolver, Root};
use crate::error::{Barrier, Cause};

/// A tree to work in, and one beside it that must never change.
struct Fixture {
    directory: TempDir,
    root: Root,
}

impl Fixture {
    fn new(resolver: Resolver) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir_all(outside.join("sub")).unwrap();
        fs::write(outside.join("file"), b"precious").unwrap();
        fs::write(outside.join("sub/file"), b"precious too").unwrap();
        let inside = directory.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let root = Root::with_resolver(open_directory(&inside), resolver).unwrap();
        Self { directory, root }
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.directory.path().join("inside").join(path)
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.directory.path().join("outside").join(path)
    }

    /// The same subvolume, as if on a system without proc.
    fn without_proc(mut self) -> Self {
        self.root.proc_fd = None;
        self
    }

    /// Everything about the tree outside that a call could have changed.
    /// The change time moves with every change of an inode.
    fn canary(&self) -> Vec<(PathBuf, u64, u32, i64, i64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut left = vec![self.outside("")];
        while let Some(path) = left.pop() {
            let meta = fs::symlink_metadata(&path).unwrap();
            let mut content = Vec::new();
            if meta.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            } else {
                content = fs::read(&path).unwrap();
            }
            let (ctime, nsec) = (meta.ctime(), meta.ctime_nsec());
            found.push((path, meta.nlink(), meta.mode(), ctime, nsec, content));
        }
        found.sort();
        found
    }
}

fn open_directory(path: &Path) -> rustix::fd::OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).unwrap()
}

/// Runs a case with each resolver, each time in a fresh tree.
fn with_both(case: impl Fn(Fixture)) {
    for resolver in [Resolver::Openat2, Resolver::Walk] {
        eprintln!("resolver: {resolver:?}");
        case(Fixture::new(resolver));
    }
}

fn path(text: &str) -> StreamPath {
    StreamPath::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// The errno of a system call that failed, by its name; panics otherwise.
#[track_caller]
fn errno<T>(result: Result<T, Cause>) -> rustix::io::Errno {
    match result {
        Err(Cause::System { error, .. }) => rustix::io::Errno::from_io_error(&error).unwrap(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it worked"),
    }
}

#[track_caller]
fn assert_escape<T>(result: Result<T, Cause>, at: &str, expected: Barrier) {
    match result {
        Err(Cause::Escape { path, barrier }) => {
            assert_eq!((&path[..], barrier), (at.as_bytes(), expected));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it worked"),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn content(file: &mut File) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}
