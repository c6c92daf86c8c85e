//! A place to receive hostile streams in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{files, subvolume};

/// The directory that a stream is received in, and one beside the subvolume
/// that must never change. A link `../canary` in the subvolume leads to it.
#[derive(Debug)]
pub struct Site {
    directory: PathBuf,
    before: BTreeMap<PathBuf, Trace>,
}

/// What a change of an inode cannot leave as it is.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    ctime: (i64, i64),
    content: Vec<u8>,
}

impl Site {
    /// Makes the directory and the canary.
    pub fn new(parent: &Path, name: &str) -> Self {
        let directory = parent.join(name);
        let canary = directory.join("canary");
        fs::create_dir_all(canary.join("sub")).unwrap();
        fs::write(canary.join("file"), [b'c'; 4096]).unwrap();
        files::set_xattr(&canary.join("file"), "user.canary", b"sings").unwrap();
        let before = traces(&canary);
        Self { directory, before }
    }

    /// The directory to receive in.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// What was changed outside of the subvolumes.
    pub fn damage(&self) -> Vec<String> {
        let now = traces(&self.directory.join("canary"));
        let paths: BTreeSet<_> = self.before.keys().chain(now.keys()).collect();
        paths
            .into_iter()
            .filter(|path| self.before.get(*path) != now.get(*path))
            .map(|path| format!("{} was changed", path.display()))
            .collect()
    }

    /// Panics if anything outside of the subvolumes was changed.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert_eq!(self.damage(), Vec::<String>::new());
    }

    /// Subvolumes in the directory: how many are finished, which is stamped
    /// and read-only, and how many are neither.
    ///
    /// # Errors
    ///
    /// A subvolume is between the two, which is a lie.
    pub fn subvolumes(&self) -> Result<(u64, u64), String> {
        let (mut finished, mut partial) = (0, 0);
        for entry in fs::read_dir(&self.directory).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() == "canary" {
                continue;
            }
            let facts = subvolume::facts(&path);
            match (facts.received_uuid.is_some(), facts.read_only) {
                (true, true) => finished += 1,
                (false, false) => partial += 1,
                state => return Err(format!("{}: {state:?}", path.display())),
            }
        }
        Ok((finished, partial))
    }

    /// Deletes the subvolumes, so that they are nobody's parent.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.directory).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() != "canary" {
                subvolume::delete(&path);
            }
        }
    }
}

fn traces(top: &Path) -> BTreeMap<PathBuf, Trace> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mut content = Vec::new();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if meta.is_file() {
            content = fs::read(&path).unwrap();
        }
        let trace = Trace {
            inode: meta.ino(),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            links: meta.nlink(),
            ctime: (meta.ctime(), meta.ctime_nsec()),
            content,
        };
        found.insert(path, trace);
    }
    found
}
