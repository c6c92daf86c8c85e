//! A tree with every kind of file, and a set of changes to it.
//!
//! Where the histories of [`history`](crate::history) go wide at random, this
//! holds each known case once, under a name that says which.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, IFlags};

use crate::files::{self, acl, capability, pattern};
use crate::{LoopFilesystem, Sender, Time, subvolume};

/// Which of the cases to include that not every receiver keeps.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// A default ACL and `btrfs.compression` on the root: receivers that create
    /// in the root let them leak.
    pub root_inheritance: bool,
    /// A file written, its directory renamed away, and another written at the
    /// same path: receivers that remember descriptors by path mix them up.
    pub stale_path: bool,
    /// An xattr replaced by one so large that btrfs wants the old removed first.
    pub larger_xattr: bool,
    /// Immutable and append-only files: they stand in the way of later changes.
    pub immutable: bool,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            root_inheritance: true,
            stale_path: true,
            larger_xattr: true,
            immutable: true,
        }
    }
}

impl Sample {
    /// The sample without the cases `btrfs receive` gets wrong.
    pub fn for_reference() -> Self {
        Self {
            root_inheritance: false,
            stale_path: false,
            larger_xattr: false,
            immutable: false,
        }
    }

    /// Fills a new, empty subvolume.
    ///
    /// # Panics
    ///
    /// If the filesystem refuses.
    pub fn build(self, root: &Path) {
        self.try_build(root)
            .unwrap_or_else(|error| panic!("sample: {error}"));
    }

    /// Changes what [`build`](Self::build) made, for an incremental stream.
    ///
    /// # Panics
    ///
    /// If the filesystem refuses.
    pub fn change(self, root: &Path) {
        self.try_change(root)
            .unwrap_or_else(|error| panic!("sample: {error}"));
    }

    fn try_build(self, root: &Path) -> io::Result<()> {
        plain_files(root)?;
        sparse_files(root)?;
        special_files(root)?;
        names_and_links(root)?;
        metadata(root)?;
        shared_extents(root)?;
        compressed(root)?;
        directories(root)?;
        to_be_changed(root)?;
        if self.root_inheritance {
            files::set_xattr(root, "system.posix_acl_default", &acl(1234, 7))?;
            files::set_xattr(root, "btrfs.compression", b"zstd")?;
        }
        subvolume::create(&root.join("nested subvolume"));
        files::set_xattr(root, "user.root", b"on the root")?;
        files::set_mode(root, 0o751)?;
        files::set_times(root, time(-5, 1), time(1_000_000_000, 123_456_789))
    }

    fn try_change(self, root: &Path) -> io::Result<()> {
        changed_data(root)?;
        changed_names(root)?;
        changed_metadata(root)?;
        if self.stale_path {
            written_then_renamed(root)?;
        }
        if self.root_inheritance {
            make(&root.join("created under the root's ACL"), 20, 5000)?;
            std::fs::create_dir(root.join("directory under the root's ACL"))?;
        }
        if self.larger_xattr {
            let path = root.join("changing/attributes");
            files::remove_xattr(&path, "user.grows")?;
            files::set_xattr(&path, "user.grows", &pattern(60, 16_000, false))?;
        }
        if self.immutable {
            files::change_flags(
                &root.join("plain/small"),
                IFlags::IMMUTABLE,
                IFlags::empty(),
            )?;
            files::change_flags(&root.join("plain/medium"), IFlags::APPEND, IFlags::empty())?;
        }
        files::remove_xattr(root, "user.root")?;
        files::set_times(root, time(7, 7), time(1_100_000_000, 987_654_321))
    }
}

/// Offsets and lengths below are in these units where they matter.
const SECTOR: u64 = 4096;

fn time(seconds: i64, nanoseconds: u32) -> Time {
    Time {
        seconds,
        nanoseconds,
    }
}

fn bytes(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Makes a file with data that does not compress.
fn make(path: &Path, seed: u8, length: usize) -> io::Result<()> {
    std::fs::write(path, pattern(seed, length, false))
}

fn folder(root: &Path, name: &str) -> io::Result<PathBuf> {
    let path = root.join(name);
    std::fs::create_dir(&path)?;
    Ok(path)
}

fn plain_files(root: &Path) -> io::Result<()> {
    let at = folder(root, "plain")?;
    make(&at.join("empty"), 0, 0)?;
    make(&at.join("one byte"), 1, 1)?;
    make(&at.join("inline"), 2, 500)?;
    make(&at.join("small"), 3, 4096)?;
    make(&at.join("medium"), 4, 100_001)?;
    make(&at.join("large"), 5, 5 << 20)?;
    std::fs::write(at.join("zeros"), vec![0; 200_000])
}

fn sparse_files(root: &Path) -> io::Result<()> {
    let at = folder(root, "sparse")?;
    files::truncate(&at.join("only a hole"), 10 << 20)?;
    files::truncate(&at.join("a terabyte of hole"), 1 << 40)?;
    let ends = at.join("hole at both ends");
    files::write(&ends, 1 << 20, &pattern(6, 70_000, false))?;
    files::truncate(&ends, (3 << 20) + 17)?;
    let preallocated = at.join("preallocated beyond the end");
    make(&preallocated, 7, 10_000)?;
    files::preallocate(&preallocated, 16 * SECTOR, 64 * SECTOR, true)?;
    let within = at.join("preallocated within");
    files::preallocate(&within, 0, 64 * SECTOR, false)?;
    files::write(&within, 20 * SECTOR + 5, &pattern(8, 9_000, false))?;
    let punched = at.join("punched");
    make(&punched, 9, 300_000)?;
    files::punch(&punched, 10 * SECTOR, 5 * SECTOR)
}

fn special_files(root: &Path) -> io::Result<()> {
    let at = folder(root, "special")?;
    files::make_node(&at.join("fifo"), FileType::Fifo, (0, 0))?;
    files::make_node(&at.join("socket"), FileType::Socket, (0, 0))?;
    files::make_node(&at.join("null"), FileType::CharacterDevice, (1, 3))?;
    files::make_node(&at.join("block"), FileType::BlockDevice, (8, 17))?;
    files::make_node(
        &at.join("large numbers"),
        FileType::CharacterDevice,
        (300, 70_000),
    )?;
    files::make_node(
        &at.join("largest numbers"),
        FileType::BlockDevice,
        (4095, 0xF_FFFF),
    )?;
    symlink("../plain/small", at.join("link"))?;
    symlink("nowhere", at.join("dangling link"))?;
    symlink("/etc/passwd", at.join("absolute link"))?;
    symlink("x".repeat(4000), at.join("long link"))?;
    symlink(bytes(b"\xff\xfe\n"), at.join("link to bytes"))?;
    lchown(at.join("dangling link"), Some(5), Some(6))?;
    files::set_xattr(&at.join("dangling link"), "trusted.on-link", b"value")?;
    files::set_times(
        &at.join("dangling link"),
        time(3, 4),
        time(-86_400, 500_000_000),
    )
}

fn names_and_links(root: &Path) -> io::Result<()> {
    let at = folder(root, "names")?;
    for (seed, name) in [
        b"not UTF-8 \xff\xfe\x80".as_slice(),
        b"new\nline and\ttab",
        b" spaces ",
        b"-dash",
        b"*?[glob]$(x)`y`'\"\\",
        b"o257-8-0",
        b"\x01\x7f",
        "é ü 漢字".as_bytes(),
    ]
    .into_iter()
    .enumerate()
    {
        make(&at.join(bytes(name)), seed as u8, 100)?;
    }
    make(&at.join("n".repeat(255)), 1, 10)?;
    make(&root.join("o258-8-0"), 2, 10)?;
    let a = folder(&at, "a")?;
    let b = folder(&at, "b")?;
    make(&a.join("first name"), 3, 3000)?;
    files::link(&a.join("first name"), &b.join("second name"))?;
    files::link(&a.join("first name"), &root.join("third name"))?;
    symlink("target", a.join("symlink"))?;
    files::link(&a.join("symlink"), &b.join("symlink linked"))?;
    files::make_node(&a.join("fifo"), FileType::Fifo, (0, 0))?;
    files::link(&a.join("fifo"), &b.join("fifo linked"))
}

fn metadata(root: &Path) -> io::Result<()> {
    let at = folder(root, "metadata")?;
    let file = |name: &str| -> io::Result<PathBuf> {
        let path = at.join(name);
        make(&path, 10, 1000)?;
        Ok(path)
    };
    let path = file("setuid, setgid and capability")?;
    files::set_owner(&path, 1000, 1001)?;
    files::set_mode(&path, 0o6755)?;
    files::set_xattr(&path, "security.capability", &capability(0x2400))?;
    files::set_mode(&file("no permissions")?, 0)?;
    files::set_owner(&file("high owner")?, u32::MAX - 1, 1 << 31)?;
    let path = file("before 1970")?;
    files::set_times(&path, time(-2, 500_000_000), time(-3, 999_999_999))?;
    let path = file("far times")?;
    files::set_times(&path, time(1 << 33, 1), time(-(1 << 33), 2))?;
    let path = file("xattrs")?;
    files::set_xattr(&path, "user.empty", b"")?;
    files::set_xattr(&path, "user.binary \u{e9}", b"\0\xff\n")?;
    files::set_xattr(&path, "trusted.kept", b"by root")?;
    files::set_xattr(&path, "user.large", &pattern(11, 9000, false))?;
    let path = file("largest xattr")?;
    files::set_xattr(&path, "user.large", &pattern(12, 16_000, false))?;
    let path = file("acl")?;
    files::set_xattr(&path, "system.posix_acl_access", &acl(4321, 6))?;
    for (name, flag) in [
        ("nodump", IFlags::NODUMP),
        ("noatime", IFlags::NOATIME),
        ("nocow", IFlags::NOCOW),
    ] {
        let path = at.join(name);
        files::make_file(&path)?;
        files::change_flags(&path, flag, IFlags::empty())?;
        files::write(&path, 0, &pattern(13, 20_000, false))?;
    }
    Ok(())
}

fn shared_extents(root: &Path) -> io::Result<()> {
    let at = folder(root, "shared")?;
    let source = at.join("source");
    make(&source, 14, 50 * SECTOR as usize + 123)?;
    files::sync(&source)?;
    files::reflink(&source, &at.join("whole copy"))?;
    let part = at.join("part in the middle");
    make(&part, 15, 40 * SECTOR as usize)?;
    files::share(&source, &part, (10 * SECTOR, 5 * SECTOR, 8 * SECTOR))?;
    let within = at.join("within itself");
    make(&within, 16, 32 * SECTOR as usize)?;
    files::sync(&within)?;
    files::share(&within, &within, (0, 64 * SECTOR, 16 * SECTOR))?;
    let tail = at.join("unaligned tail");
    files::share(&source, &tail, (48 * SECTOR, 0, 2 * SECTOR + 123))
}

fn compressed(root: &Path) -> io::Result<()> {
    let at = folder(root, "compressed")?;
    for algorithm in ["zlib", "lzo", "zstd"] {
        let path = at.join(algorithm);
        files::make_file(&path)?;
        files::set_xattr(&path, "btrfs.compression", algorithm.as_bytes())?;
        files::write(&path, 0, &pattern(17, 400_003, true))?;
        files::sync(&path)?;
        // Makes the sender refer to parts of an extent.
        files::write(&path, 12_000, b"overwritten")?;
        files::sync(&path)?;
        let inline = at.join(format!("{algorithm} inline"));
        files::make_file(&inline)?;
        files::set_xattr(&inline, "btrfs.compression", algorithm.as_bytes())?;
        files::write(&inline, 0, &pattern(18, 1500, true))?;
        files::sync(&inline)?;
    }
    files::set_xattr(&folder(&at, "inheriting")?, "btrfs.compression", b"zstd")?;
    files::write(&at.join("inheriting/file"), 0, &pattern(19, 100_000, true))?;
    files::sync(&at.join("inheriting/file"))
}

fn directories(root: &Path) -> io::Result<()> {
    let at = folder(root, "directories")?;
    let mut deep = at.clone();
    for level in 0..40 {
        deep.push(format!("level {level}"));
    }
    std::fs::create_dir_all(&deep)?;
    make(&deep.join("at the bottom"), 21, 100)?;
    let setgid = folder(&at, "setgid")?;
    files::set_owner(&setgid, 0, 777)?;
    files::set_mode(&setgid, 0o2775)?;
    make(&setgid.join("inherits the group"), 22, 10)?;
    folder(&setgid, "inherits the bit")?;
    let listed = folder(&at, "default acl")?;
    files::set_xattr(&listed, "system.posix_acl_default", &acl(999, 5))?;
    make(&listed.join("inherits the acl"), 23, 10)?;
    make(&listed.join("acl removed"), 24, 10)?;
    files::remove_xattr(&listed.join("acl removed"), "system.posix_acl_access")?;
    files::set_mode(&folder(&at, "sticky")?, 0o1777)?;
    let timed = folder(&at, "old times")?;
    make(&timed.join("young file"), 25, 10)?;
    files::set_times(&timed, time(1, 2), time(3, 4))
}

/// What [`Sample::change`] works on.
fn to_be_changed(root: &Path) -> io::Result<()> {
    let at = folder(root, "changing")?;
    for (seed, name) in [
        "appended",
        "shortened",
        "holed",
        "overwritten",
        "grown",
        "rewritten",
    ]
    .into_iter()
    .enumerate()
    {
        make(&at.join(name), seed as u8, 30 * SECTOR as usize + 55)?;
    }
    // Streams go by inode number: this file must come before its directory.
    make(&at.join("foo"), 28, 5000)?;
    for name in ["a", "b", "d", "z", "to go", "parent", "becomes a file"] {
        folder(&at, name)?;
    }
    make(&at.join("a/in a"), 26, 5000)?;
    make(&at.join("b/in b"), 27, 5000)?;
    std::fs::rename(at.join("foo"), at.join("d/foo"))?;
    make(&at.join("z/foo"), 29, 5000)?;
    std::fs::create_dir_all(at.join("to go/deeper/still"))?;
    make(&at.join("to go/deeper/file"), 30, 10)?;
    make(&at.join("becomes a directory"), 31, 10)?;
    make(&at.join("becomes a fifo"), 32, 10)?;
    make(&at.join("linked 1"), 33, 6000)?;
    files::link(&at.join("linked 1"), &at.join("linked 2"))?;
    files::link(&at.join("linked 1"), &at.join("a/linked 3"))?;
    make(&at.join("replaced"), 34, 10)?;
    make(&at.join("replacing"), 35, 20)?;
    let path = at.join("attributes");
    make(&path, 36, 10)?;
    files::set_xattr(&path, "user.grows", &pattern(37, 9000, false))?;
    files::set_xattr(&path, "user.goes", b"away")?;
    let path = at.join("keeps its capability");
    make(&path, 38, 10_000)?;
    files::set_owner(&path, 10, 10)?;
    files::set_mode(&path, 0o4711)?;
    files::set_xattr(&path, "security.capability", &capability(1))
}

fn changed_data(root: &Path) -> io::Result<()> {
    let at = root.join("changing");
    let length = 30 * SECTOR + 55;
    files::write(&at.join("appended"), length, &pattern(40, 50_000, false))?;
    files::truncate(&at.join("shortened"), 7777)?;
    files::punch(&at.join("holed"), 3 * SECTOR, 9 * SECTOR)?;
    files::write(
        &at.join("overwritten"),
        5 * SECTOR + 1,
        &pattern(41, 6000, true),
    )?;
    files::truncate(&at.join("grown"), 3 << 20)?;
    make(&at.join("rewritten"), 42, 3)?;
    files::preallocate(&at.join("holed"), 40 * SECTOR, 8 * SECTOR, false)?;
    // A clone from the parent, and one within the file.
    files::reflink(
        &root.join("shared/source"),
        &at.join("cloned from the parent"),
    )?;
    let mixed = at.join("cloned in part");
    files::share(&root.join("plain/large"), &mixed, (1 << 20, 0, 1 << 20))?;
    files::share(&mixed, &mixed, (0, 2 << 20, 1 << 19))?;
    files::write(&mixed, 100_000, &pattern(43, 30_000, false))?;
    let zstd = root.join("compressed/zstd");
    files::write(&zstd, 200_000, &pattern(44, 150_000, true))?;
    files::sync(&zstd)?;
    files::write(&at.join("keeps its capability"), 5000, b"written")?;
    files::set_mode(&at.join("keeps its capability"), 0o4711)?;
    files::set_xattr(
        &at.join("keeps its capability"),
        "security.capability",
        &capability(2),
    )
}

fn changed_names(root: &Path) -> io::Result<()> {
    let at = root.join("changing");
    files::exchange(&at.join("a"), &at.join("b"))?;
    std::fs::remove_dir_all(at.join("to go"))?;
    for (name, kind) in [
        ("becomes a fifo", FileType::Fifo),
        ("replaced", FileType::Socket),
    ] {
        std::fs::remove_file(at.join(name))?;
        files::make_node(&at.join(name), kind, (0, 0))?;
    }
    std::fs::remove_file(at.join("becomes a directory"))?;
    folder(&at, "becomes a directory")?;
    make(&at.join("becomes a directory/inside"), 50, 10)?;
    std::fs::remove_dir(at.join("becomes a file"))?;
    make(&at.join("becomes a file"), 51, 10)?;
    std::fs::rename(at.join("replacing"), at.join("replaced"))?;
    // A directory moves below a younger one, and that into an older one.
    folder(&at, "younger")?;
    std::fs::rename(at.join("parent"), at.join("younger/child"))?;
    std::fs::rename(at.join("younger"), at.join("b/younger"))?;
    std::fs::remove_file(at.join("linked 1"))?;
    files::link(&at.join("linked 2"), &at.join("b/linked 4"))?;
    std::fs::rename(at.join("linked 2"), root.join("linked 2 in the root"))?;
    let names = root.join("names");
    std::fs::rename(
        names.join(bytes(b"new\nline and\ttab")),
        names.join(bytes(b"\xf0\n")),
    )?;
    std::fs::remove_file(root.join("o258-8-0"))?;
    std::fs::rename(
        root.join("directories/level 0/level 1"),
        at.join("from the deep"),
    )
}

fn changed_metadata(root: &Path) -> io::Result<()> {
    let at = root.join("changing");
    let path = at.join("attributes");
    files::remove_xattr(&path, "user.goes")?;
    files::set_xattr(&path, "user.comes", b"")?;
    let metadata = root.join("metadata");
    files::set_owner(&metadata.join("setuid, setgid and capability"), 7, 8)?;
    files::set_mode(&metadata.join("no permissions"), 0o640)?;
    files::set_times(&metadata.join("before 1970"), time(-1, 0), time(-1_000, 1))?;
    files::change_flags(&metadata.join("nodump"), IFlags::NOATIME, IFlags::NODUMP)?;
    files::remove_xattr(&metadata.join("acl"), "system.posix_acl_access")?;
    let listed = root.join("directories/default acl");
    make(&listed.join("inherits later"), 61, 10)?;
    files::set_xattr(&listed, "system.posix_acl_default", &acl(888, 4))?;
    make(&root.join("directories/setgid/later"), 62, 10)?;
    std::fs::create_dir(root.join("directories/setgid/later directory"))?;
    files::remove_xattr(&root.join("compressed/zlib"), "btrfs.compression")
}

/// What a receiver that remembers a descriptor by its path writes to the wrong
/// file: `d/foo` is written, `d` is renamed away, `z` becomes `d`, and the new
/// `d/foo` is written.
fn written_then_renamed(root: &Path) -> io::Result<()> {
    let at = root.join("changing");
    files::write(&at.join("d/foo"), 0, b"the old one")?;
    files::write(&at.join("z/foo"), 100, b"the new one")?;
    std::fs::rename(at.join("d"), at.join("e"))?;
    std::fs::rename(at.join("z"), at.join("d"))
}

/// The sample, sent in full and as the difference that
/// [`Sample::change`] makes, both in one input of version 2.
pub struct SentSample {
    /// Holds `first` and `second`, the snapshots that were sent.
    pub from: LoopFilesystem,
    /// The two streams.
    pub stream: Vec<u8>,
}

impl SentSample {
    /// Makes a filesystem with the sample, and sends it.
    ///
    /// # Panics
    ///
    /// If btrfs or its programs fail.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let from = LoopFilesystem::new();
        let work = subvolume::create(&from.path().join("work"));
        Sample::default().build(&work);
        let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
        Sample::default().change(&work);
        let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
        let mut stream = Sender::new(&first).version(2).to_vec();
        stream.extend(Sender::new(&second).parent(&first).version(2).to_vec());
        Self { from, stream }
    }
}
