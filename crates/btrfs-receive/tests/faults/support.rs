//! Streams, random numbers, and what must hold after a failure.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use btrfs_model::{Ignored, MemoryDestination};
use btrfs_sendstream::{Command, StreamPath, SubvolumeName, Timespec, Version, Writer};
use btrfs_testkit::subvolume;
use uuid::Uuid;

/// Numbers that look random; the seed is printed.
pub(crate) struct Random(u64);

impl Random {
    /// Seeded from the clock, or from `FAULTS_SEED`.
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = match std::env::var("FAULTS_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => now.as_nanos() as u64 | 1,
        };
        eprintln!("FAULTS_SEED={seed}");
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A stored stream from a kernel.
pub(crate) fn stored(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    std::fs::read(directory.join(name)).unwrap()
}

/// A stream of a few hundred bytes with one subvolume.
pub(crate) fn tiny() -> Vec<u8> {
    let path = |name: &'static [u8]| StreamPath::parse(name).unwrap();
    let time = Timespec {
        seconds: 1,
        nanoseconds: 2,
    };
    let commands = [
        Command::Subvol {
            name: SubvolumeName::parse(&b"tiny"[..]).unwrap(),
            uuid: Uuid::from_u128(7),
            ctransid: 8,
        },
        Command::Mkdir {
            path: path(b"o257-7-0"),
            ino: 257,
        },
        Command::Rename {
            path: path(b"o257-7-0"),
            to: path(b"directory"),
        },
        Command::Mkfile {
            path: path(b"directory/file"),
            ino: 258,
        },
        Command::Write {
            path: path(b"directory/file"),
            offset: 3,
            data: b"some content",
        },
        Command::SetXattr {
            path: path(b"directory/file"),
            name: b"user.name",
            data: b"value",
        },
        Command::Chmod {
            path: path(b"directory/file"),
            mode: 0o640,
        },
        Command::Link {
            path: path(b"link"),
            existing: path(b"directory/file"),
        },
        Command::Symlink {
            path: path(b"symlink"),
            ino: 259,
            target: b"directory",
        },
        Command::Utimes {
            path: path(b""),
            atime: time,
            mtime: time,
            ctime: time,
            otime: Some(time),
        },
        Command::End,
    ];
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V2).unwrap();
    for command in &commands {
        writer.command::<&[u8]>(command).unwrap();
    }
    writer.finish().unwrap()
}

/// Panics if anything in `found` counts as received and is not as in
/// `complete`, or is read-only and does not count as received. Returns how
/// many count.
pub(crate) fn check_memory(found: &MemoryDestination, complete: &MemoryDestination) -> usize {
    let mut received = 0;
    for subvolume in found.subvolumes() {
        if subvolume.received().is_none() {
            assert!(!subvolume.is_read_only());
            continue;
        }
        received += 1;
        let expected = complete.subvolume(subvolume.name()).unwrap();
        let differences = expected
            .tree()
            .differences(subvolume.tree(), Ignored::default());
        assert!(differences.is_empty(), "{differences:#?}");
    }
    received
}

/// The same for subvolumes in a directory. Deletes them.
pub(crate) fn check_and_clear(directory: &Path, from: &Path) -> usize {
    let mut received = 0;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let facts = subvolume::facts(&path);
        if facts.received_uuid.is_some() {
            assert!(facts.read_only);
            received += 1;
            btrfs_testkit::assert_same_tree(&from.join(path.file_name().unwrap()), &path);
        } else {
            assert!(!facts.read_only);
        }
        subvolume::delete(&path);
    }
    received
}
