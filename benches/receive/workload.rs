//! What is received: trees, made anew each time from fixed seeds.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Name of the subvolume that is filled.
pub(crate) const FIRST: &str = "work";

/// A kind of stream.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Fills the subvolume; with `then` it is received beforehand.
    pub(crate) fill: fn(&Path, f64),
    /// What is sent after that.
    pub(crate) then: Option<Then>,
    /// Whether to send compressed extents as they are, from a filesystem
    /// that compresses.
    pub(crate) compressed: bool,
    /// What a plain copy of the same tree is made with, if that means
    /// anything.
    pub(crate) copy: Option<Copy>,
    /// Milliseconds that each read of the receiver's disk takes.
    pub(crate) read_ms: Option<u64>,
    /// Whether the receiver's filesystem counts with qgroups.
    pub(crate) quota: bool,
}

/// A second subvolume.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// The first one, changed by this: an incremental stream.
    Changed(fn(&Path, f64)),
    /// The first one, changed by this, and sent in full: the receiver has the
    /// first one, but the stream does not refer to it.
    InFull(fn(&Path, f64)),
    /// Another one, filled by this, with the first as clone source.
    Other(fn(&Path, f64)),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Copy {
    /// `cp -a`
    Cp,
    /// `dd bs=1M` of the one file.
    Dd,
    /// `dd bs=1M` of the stream.
    Raw,
}

/// Small files in a stream of version 1.
const PLAIN: Workload = Workload {
    name: "small",
    fill: small_files,
    then: None,
    compressed: false,
    copy: None,
    read_ms: None,
    quota: false,
};

pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "small",
        copy: Some(Copy::Cp),
        ..PLAIN
    },
    Workload {
        name: "incremental",
        then: Some(Then::Changed(change_small_files)),
        ..PLAIN
    },
    Workload {
        name: "clones",
        fill: clone_sources,
        then: Some(Then::Other(clone_much)),
        ..PLAIN
    },
    Workload {
        name: "own-clones",
        fill: clone_sources,
        then: Some(Then::Changed(clone_much)),
        ..PLAIN
    },
    Workload {
        name: "large",
        fill: one_large_file,
        copy: Some(Copy::Dd),
        ..PLAIN
    },
    Workload {
        name: "medium",
        fill: medium_files,
        copy: Some(Copy::Cp),
        ..PLAIN
    },
    Workload {
        name: "compressed",
        fill: text_files,
        compressed: true,
        copy: Some(Copy::Cp),
        ..PLAIN
    },
    Workload {
        name: "image",
        fill: files_of_the_system,
        compressed: true,
        copy: Some(Copy::Raw),
        ..PLAIN
    },
    Workload {
        name: "hardlinks",
        fill: generations,
        copy: Some(Copy::Cp),
        ..PLAIN
    },
    Workload {
        name: "quota",
        copy: Some(Copy::Cp),
        quota: true,
        ..PLAIN
    },
    Workload {
        name: "cold-incremental-1",
        then: Some(Then::Changed(change_small_files)),
        read_ms: Some(1),
        ..PLAIN
    },
    Workload {
        name: "cold-incremental-8",
        then: Some(Then::Changed(change_small_files)),
        read_ms: Some(8),
        ..PLAIN
    },
    Workload {
        name: "cold-full-1",
        then: Some(Then::InFull(change_small_files)),
        read_ms: Some(1),
        ..PLAIN
    },
    Workload {
        name: "cold-full-8",
        then: Some(Then::InFull(change_small_files)),
        read_ms: Some(8),
        ..PLAIN
    },
];

/// A plain generator: the same numbers every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }

    /// Bytes that no compressor shortens.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Words out of a few thousand, which compress as text does.
    fn text(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 16);
        while bytes.len() < len {
            let word = self.below(4096).wrapping_mul(2_654_435_761) % 90_000_007;
            bytes.extend_from_slice(format!("{word:x} ").as_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// `count`, made smaller or larger, at least 1.
fn scaled(count: u64, scale: f64) -> u64 {
    ((count as f64 * scale) as u64).max(1)
}

fn must<T>(result: std::io::Result<T>, path: &Path) -> T {
    result.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) {
    must(fs::write(path, bytes), path);
}

fn directory_of(root: &Path, number: u64) -> PathBuf {
    root.join(format!("d{}", number / 300))
        .join(format!("e{}", number / 12 % 25))
}

fn small_file(root: &Path, number: u64) -> PathBuf {
    directory_of(root, number).join(format!("file-{number}.rs"))
}

/// 27,000 files in 2,300 directories: most of a few KiB, one in nine empty
/// or a symbolic link, owners and modes as a home directory has them.
fn small_files(root: &Path, scale: f64) {
    let mut random = Random(0x5eed_0001);
    for number in 0..scaled(27_000, scale) {
        let path = small_file(root, number);
        if number % 12 == 0 {
            let directory = directory_of(root, number);
            must(fs::create_dir_all(&directory), &directory);
        }
        match number % 18 {
            0 => write(&path, b""),
            1 => must(symlink(format!("file-{}.rs", number - 1), &path), &path),
            _ => {
                let most = 1 << (8 + random.below(8));
                let len = random.below(most);
                write(&path, &random.text(len as usize));
            }
        }
        must(lchown(&path, Some(1000), Some(1000)), &path);
        if number % 7 == 2 {
            must(
                fs::set_permissions(&path, PermissionsExt::from_mode(0o755)),
                &path,
            );
        }
    }
}

/// Renames, deletes, rewrites and adds: a tenth of the files each, and some
/// whole directories renamed.
fn change_small_files(root: &Path, scale: f64) {
    let mut random = Random(0x5eed_0002);
    let count = scaled(27_000, scale);
    for number in 0..count {
        let path = small_file(root, number);
        match random.below(10) {
            0 => must(fs::rename(&path, path.with_extension("renamed")), &path),
            1 => must(fs::remove_file(&path), &path),
            2 if number % 18 > 1 => {
                let len = random.below(8192) as usize;
                write(&path, &random.text(len));
            }
            3 => write(&path.with_extension("new"), &random.text(2000)),
            4 if number % 18 > 1 => {
                must(
                    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)),
                    &path,
                );
            }
            _ => {}
        }
    }
    for number in (0..count / 300).step_by(3) {
        let (from, to) = (format!("d{number}"), format!("moved-{number}"));
        must(fs::rename(root.join(&from), root.join(to)), root);
    }
}

/// Files to clone from: 100 MiB in files of 256 KiB.
fn clone_sources(root: &Path, scale: f64) {
    let mut random = Random(0x5eed_0003);
    for number in 0..scaled(400, scale) {
        let path = root.join(format!("source-{number}"));
        write(&path, &random.bytes(256 << 10));
    }
}

/// 20,000 clones of one block each, no two of them adjacent: 200 files.
fn clone_much(root: &Path, scale: f64) {
    let from = root.with_file_name(FIRST);
    let mut random = Random(0x5eed_0004);
    let sources = scaled(400, scale);
    for number in 0..scaled(200, scale) {
        let path = root.join(format!("target-{number}"));
        let target = must(fs::File::create_new(&path), &path);
        for block in 0..100 {
            let source = from.join(format!("source-{}", random.below(sources)));
            let source = must(fs::File::open(&source), &source);
            let (mut from, mut to) = (random.below(64) * 4096, block * 4096);
            let shared =
                rustix::fs::copy_file_range(&source, Some(&mut from), &target, Some(&mut to), 4096);
            assert_eq!(shared, Ok(4096), "{}", path.display());
        }
    }
}

/// 1 GiB that does not compress.
fn one_large_file(root: &Path, scale: f64) {
    let mut random = Random(0x5eed_0005);
    let path = root.join("large");
    let mut file = must(fs::File::create_new(&path), &path);
    for _ in 0..scaled(1024, scale) {
        must(file.write_all(&random.bytes(1 << 20)), &path);
    }
}

/// 400 files of 2 MiB on average.
fn medium_files(root: &Path, scale: f64) {
    let mut random = Random(0x5eed_0006);
    for number in 0..scaled(400, scale) {
        let len = (1 << 20) + random.below(2 << 20) as usize;
        write(&root.join(format!("medium-{number}")), &random.bytes(len));
    }
}

/// 3,000 files of text, 600 MB.
fn text_files(root: &Path, scale: f64) {
    let mut random = Random(0x5eed_0007);
    for number in 0..scaled(3000, scale) {
        let len = random.below(400 << 10) as usize;
        write(&root.join(format!("text-{number}")), &random.text(len));
    }
}

/// The largest file of an image that is copied.
const LARGEST_OF_IMAGE: u64 = 128 << 10;

/// 50,000 small files of this system, in the order of their names, and a
/// symbolic link for every third of them. They are taken several times where
/// `/usr` has fewer.
fn files_of_the_system(root: &Path, scale: f64) {
    let count = scaled(50_000, scale);
    let mut number = 0;
    for copy in 0.. {
        let (before, target) = (number, root.join(format!("usr-{copy}")));
        take_small_files(Path::new("/usr"), &target, &mut number, count);
        if number == count {
            break;
        }
        assert!(number > before, "/usr has no small files");
    }
}

/// Copies from the directory `from` until `number` is `count`.
fn take_small_files(from: &Path, to: &Path, number: &mut u64, count: u64) {
    must(fs::create_dir(to), to);
    let entries = must(fs::read_dir(from), from);
    let mut entries: Vec<_> = entries.map(|entry| must(entry, from)).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if *number == count {
            return;
        }
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let meta = must(entry.metadata(), &from);
        if meta.is_dir() {
            take_small_files(&from, &to, number, count);
        } else if meta.is_file() && meta.len() <= LARGEST_OF_IMAGE {
            must(fs::copy(&from, &to), &to);
            if number.is_multiple_of(3) {
                let mut link = to.clone().into_os_string();
                link.push(".link");
                must(symlink(entry.file_name(), &link), Path::new(&link));
            }
            *number += 1;
        }
    }
}

/// Twenty generations of 2,000 files, as rsnapshot makes them: what did not
/// change, nineteen of twenty files, is a link to the file of the generation
/// before.
fn generations(root: &Path, scale: f64) {
    let mut random = Random(0x5eed_0008);
    for generation in 0..20 {
        let now = root.join(format!("daily.{generation}"));
        let before = root.join(format!("daily.{}", generation - 1));
        for number in 0..scaled(2000, scale) {
            let path = small_file(&now, number);
            if number % 12 == 0 {
                let directory = directory_of(&now, number);
                must(fs::create_dir_all(&directory), &directory);
            }
            if generation > 0 && random.below(20) > 0 {
                must(fs::hard_link(small_file(&before, number), &path), &path);
            } else {
                let most = 1 << (8 + random.below(8));
                let len = random.below(most) as usize;
                write(&path, &random.text(len));
            }
        }
    }
}
