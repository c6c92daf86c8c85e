//! Stored streams: the files that a command line names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::input::cannot_open;

/// How every stream begins.
const MAGIC: &[u8] = b"btrfs-stream\0";

/// How files begin that hold a stream, but packed.
const PACKED: &[(&[u8], &str)] = &[
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

/// The files that hold streams, and what else there was.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// In the order given; those of a directory by name.
    pub(crate) files: Vec<PathBuf>,
    /// Files in a directory that hold no stream. What may be one that is
    /// packed is said to be, for it is not looked at.
    pub(crate) passed_over: Vec<(PathBuf, Option<&'static str>)>,
    /// Files in a directory that could not be looked at, and why.
    pub(crate) unreadable: Vec<String>,
}

impl Stored {
    /// Finds the files that `paths`, files and directories, stand for.
    ///
    /// Directories are not searched further down, and names that begin with a
    /// dot are left alone.
    ///
    /// # Errors
    /// Something cannot be opened or listed; the text says what.
    pub(crate) fn find(paths: &[PathBuf]) -> Result<Self, String> {
        let mut stored = Self::default();
        for path in paths {
            let said = |error: io::Error| cannot_open(path, &error);
            if !fs::metadata(path).map_err(said)?.is_dir() {
                stored.files.push(path.clone());
                continue;
            }
            let entries = fs::read_dir(path).map_err(said)?;
            let mut found = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(said)?;
            found.sort();
            for path in found {
                stored.add(path);
            }
        }
        Ok(stored)
    }

    /// Adds a file of a directory, if it is one and seems to be a stream.
    fn add(&mut self, path: PathBuf) {
        let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
        if path.file_name().is_some_and(hidden) || !path.is_file() {
            return;
        }
        let start = match beginning(&path) {
            Ok(start) => start,
            Err(error) => return self.unreadable.push(cannot_open(&path, &error)),
        };
        // A stream that was cut that early still is one, and a bad one.
        if MAGIC.starts_with(&start) {
            self.files.push(path);
        } else {
            let packed = PACKED.iter().find(|(magic, _)| start.starts_with(magic));
            self.passed_over.push((path, packed.map(|(_, name)| *name)));
        }
    }
}

/// The first bytes of a file, as many as the magic has.
fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MAGIC.len() as u64;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
