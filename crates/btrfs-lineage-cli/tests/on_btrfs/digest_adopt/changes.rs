//! Every single field counts.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use btrfs_lineage::adopt::{AdoptError, AdoptOptions, adopt};
use btrfs_lineage::btrfs_sendstream::Uuid;
use btrfs_testkit::{LoopFilesystem, Test, Time, files, subvolume, test};
use rustix::fs::FileType;

use super::support::document;

const CHANGES: usize = 1000;

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(a_thousand_changes_are_refused), test!(links_count)]
}

/// A number that differs from run to run, printed; `DIGEST_SEED` sets it.
fn seed() -> u64 {
    let seed = match std::env::var("DIGEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => RandomState::new().hash_one(0),
    };
    eprintln!("DIGEST_SEED={seed}");
    seed
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn tree(work: &Path) {
    for directory in ["", "a", "a/b", "c"] {
        let at = work.join(directory);
        std::fs::create_dir_all(&at).unwrap();
        for (number, size) in [0, 1, 300, 5_000, 70_000].into_iter().enumerate() {
            let name = at.join(format!("file {number}"));
            std::fs::write(&name, files::pattern(number as u8, size, false)).unwrap();
            files::set_xattr(&name, "user.a", b"value").unwrap();
        }
        symlink("target", at.join("symlink")).unwrap();
        for (name, kind) in [
            ("fifo", FileType::Fifo),
            ("socket", FileType::Socket),
            ("character device", FileType::CharacterDevice),
            ("block device", FileType::BlockDevice),
        ] {
            files::make_node(&at.join(name), kind, (300, 70_000)).unwrap();
        }
        std::fs::hard_link(at.join("file 2"), at.join("link")).unwrap();
    }
    files::truncate(&work.join("c/large"), 3 << 20).unwrap();
    files::write(&work.join("c/large"), 2 << 20, b"data").unwrap();
}

fn everything(work: &Path) -> Vec<PathBuf> {
    let mut found = vec![work.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

fn mtime(path: &Path) -> Time {
    let info = path.symlink_metadata().unwrap();
    Time {
        seconds: info.mtime(),
        nanoseconds: info.mtime_nsec() as u32,
    }
}

fn set_mtime(path: &Path, time: Time) {
    files::set_times(path, time, time).unwrap();
}

const FIELDS: usize = 15;

/// Changes one field of a file; nothing else but the modification times of the
/// file and its directory, which the caller restores. `None` if the file does
/// not have the field.
fn change(path: &Path, field: usize, random: &mut Random) -> Option<io::Result<&'static str>> {
    let info = path.symlink_metadata().unwrap();
    let kind = info.file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    let done = |name, result: io::Result<()>| Some(result.map(|()| name));
    match field {
        0 if kind.is_file() && info.size() > 0 => {
            let offset = random.below(info.size() as usize) as u64;
            let mut byte = [0];
            use std::os::unix::fs::FileExt;
            File::open(path)
                .unwrap()
                .read_exact_at(&mut byte, offset)
                .unwrap();
            byte[0] ^= 1 << random.below(8);
            done("content", files::write(path, offset, &byte))
        }
        1 if kind.is_file() => {
            let larger = info.size() + 1 + random.below(5_000) as u64;
            done("size", files::truncate(path, larger))
        }
        2 if kind.is_file() && info.size() > 0 => {
            let smaller = random.below(info.size() as usize) as u64;
            done("size", files::truncate(path, smaller))
        }
        3 if !kind.is_symlink() => {
            let mode = info.mode() & 0o7777 ^ 1 << random.below(12);
            done("mode", files::set_mode(path, mode))
        }
        // chown clears set-id bits.
        4 | 5 if info.mode() & 0o6000 == 0 || kind.is_dir() => {
            let other = random.below(100_000) as u32;
            if other == info.uid() || other == info.gid() {
                return None;
            }
            if field == 4 {
                done("uid", files::set_owner(path, other, info.gid()))
            } else {
                done("gid", files::set_owner(path, info.uid(), other))
            }
        }
        6 => {
            let mut time = mtime(path);
            time.seconds += random.below(100) as i64 - 50;
            time.nanoseconds = random.below(1_000_000_000) as u32;
            set_mtime(path, time);
            Some(Ok("mtime"))
        }
        7 if kind.is_file() || kind.is_dir() => {
            let value = files::pattern(random.below(256) as u8, 1 + random.below(300), false);
            let name = ["user.a", "user.b", "user.c"][random.below(3)];
            done("xattr", files::set_xattr(path, name, &value))
        }
        8 => {
            let value = [random.below(256) as u8, random.below(256) as u8];
            done("xattr", files::set_xattr(path, "trusted.t", &value))
        }
        9 if kind.is_file() => {
            let bits = 1 + random.below(60_000) as u32;
            let value = files::capability(bits);
            done(
                "capability",
                files::set_xattr(path, "security.capability", &value),
            )
        }
        // A mode that an ACL changes would be another field.
        10 if kind.is_dir() => {
            let acl = files::acl(1 + random.below(60_000) as u32, 5);
            done(
                "ACL",
                files::set_xattr(path, "system.posix_acl_default", &acl),
            )
        }
        11 if kind.is_symlink() => {
            let target = format!("target {}", random.below(1_000_000));
            let (uid, gid) = (info.uid(), info.gid());
            std::fs::remove_file(path).unwrap();
            symlink(target, path).unwrap();
            done("target", files::set_owner(path, uid, gid))
        }
        12 if is_device => {
            let number = (random.below(4_000) as u32, random.below(1_000_000) as u32);
            let kind = if kind.is_char_device() {
                FileType::CharacterDevice
            } else {
                FileType::BlockDevice
            };
            std::fs::remove_file(path).unwrap();
            files::make_node(path, kind, number).unwrap();
            files::set_owner(path, info.uid(), info.gid()).unwrap();
            done("device", files::set_mode(path, info.mode() & 0o7777))
        }
        13 if !kind.is_dir() => {
            let new = path.with_file_name(format!("name {}", random.below(1_000_000)));
            if new.exists() {
                return None;
            }
            done("name", std::fs::rename(path, new))
        }
        14 if kind.is_file() => {
            let new = path.with_file_name(format!("link {}", random.below(1_000_000)));
            if new.exists() {
                return None;
            }
            done("links", std::fs::hard_link(path, new))
        }
        _ => None,
    }
}

fn a_thousand_changes_are_refused() {
    let filesystem = LoopFilesystem::new();
    let work = subvolume::create(&filesystem.path().join("work"));
    tree(&work);
    let mut random = Random(seed());
    // Of another subvolume.
    let mut expected = document(&work);
    expected.uuid = Uuid::from_u128(1);
    expected.sent_as.uuid = expected.uuid;
    expected.read_only = true;
    let directory = File::open(filesystem.path()).unwrap();
    let mut options = AdoptOptions::default();
    options.make_read_only = true;
    options.dry_run = true;
    options.threads = 1;
    adopt(&directory, b"work", &expected, &options).unwrap();

    let mut fields = BTreeSet::new();
    let mut changes = 0;
    while changes < CHANGES {
        let all = everything(&work);
        let path = &all[random.below(all.len())];
        let field = random.below(FIELDS);
        let around = path.parent().unwrap();
        let (own, above) = (mtime(path), mtime(around));
        let Some(result) = change(path, field, &mut random) else {
            continue;
        };
        let field = result.unwrap_or_else(|error| panic!("{field} of {path:?}: {error}"));
        if field != "mtime" && path.symlink_metadata().is_ok() {
            set_mtime(path, own);
        }
        if path != &work {
            set_mtime(around, above);
        }
        match adopt(&directory, b"work", &expected, &options) {
            Err(AdoptError::Differs { found, .. }) => expected.sha256 = found,
            // The same value once more.
            Ok(_)
                if ["xattr", "capability", "ACL", "mtime"].contains(&field) && {
                    fields.contains(field)
                } =>
            {
                continue;
            }
            other => panic!("change {changes}, {field} of {path:?}: {other:?}"),
        }
        fields.insert(field);
        changes += 1;
    }
    eprintln!("{fields:?}");
    assert_eq!(fields.len(), 13, "{fields:?}");
    assert_eq!(document(&work).sha256, expected.sha256);
}

/// Which names are of the same file, when everything else is the same.
fn links_count() {
    let filesystem = LoopFilesystem::new();
    let mut digests = Vec::new();
    for (number, pairs) in [
        [("a", "b"), ("c", "d")],
        [("a", "c"), ("b", "d")],
        [("a", "d"), ("b", "c")],
    ]
    .into_iter()
    .enumerate()
    {
        let work = subvolume::create(&filesystem.path().join(format!("{number}")));
        let time = Time {
            seconds: 1,
            nanoseconds: 2,
        };
        std::fs::create_dir(work.join("in")).unwrap();
        for (one, other) in pairs {
            std::fs::write(work.join(one), "same").unwrap();
            std::fs::hard_link(work.join(one), work.join("in").join(other)).unwrap();
            set_mtime(&work.join(one), time);
        }
        // The same names everywhere.
        for name in ["a", "b", "c", "d"] {
            let (top, below) = (work.join(name), work.join("in").join(name));
            for (have, lack) in [(&top, &below), (&below, &top)] {
                if have.exists() && !lack.exists() {
                    std::fs::hard_link(have, lack).unwrap();
                }
            }
        }
        set_mtime(&work.join("in"), time);
        set_mtime(&work, time);
        digests.push(document(&work).sha256);
    }
    assert_ne!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
    assert_ne!(digests[1], digests[2]);
}
