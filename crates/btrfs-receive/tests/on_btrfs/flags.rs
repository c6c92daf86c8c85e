//! Inode flags: FILEATTR, and files of the parent that may not be changed.

use std::path::Path;

use btrfs_testkit::{Test, files, subvolume, test};
use rustix::fs::IFlags;

use crate::fidelity::xattr;
use crate::support::{Pair, Script, receive, time, try_receive};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(flags_arrive_and_go).needs_version(2),
        test!(flags_leave_compression_alone).needs_version(2),
        test!(a_nocow_directory_becomes_a_compressed_one).needs_version(2),
        test!(immutable_files_are_changed_by_later_streams).needs_version(2),
        test!(an_immutable_root_is_changed_by_later_streams).needs_version(2),
        test!(both_threads_lift_the_flags_of_a_file).needs_version(2),
        test!(flags_that_go_before_a_rename_are_gone).needs_version(2),
        test!(immutable_inodes_are_removed_and_replaced).needs_version(2),
        test!(flags_for_inodes_without_flags_are_passed_over),
        test!(a_failed_receive_leaves_nothing_immutable),
    ]
}

const SYNC: u32 = 0x08;
const IMMUTABLE: u32 = 0x10;
const APPEND: u32 = 0x20;
const COMPR: u32 = 0x04;
const NOCOW: u32 = 0x0080_0000;
/// Every flag that a stream carries, but those that the kernel sets by itself.
const ALL: u32 = SYNC | IMMUTABLE | APPEND | COMPR | NOCOW | 0x40 | 0x80 | 0x1_0000;

const BOTH: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

fn set(path: &Path, flags: IFlags) {
    files::change_flags(path, flags, IFlags::empty()).unwrap();
}

fn clear(path: &Path, flags: IFlags) {
    files::change_flags(path, IFlags::empty(), flags).unwrap();
}

/// Puts `path` under a name for the flag it is to have.
fn flags_arrive_and_go() {
    const FLAGS: [(&str, IFlags); 5] = [
        ("nodump", IFlags::NODUMP),
        ("noatime", IFlags::NOATIME),
        ("immutable", IFlags::IMMUTABLE),
        ("append", IFlags::APPEND),
        ("sync", IFlags::from_bits_retain(SYNC)),
    ];
    let pair = Pair::new();
    let work = pair.work();
    for (name, _) in FLAGS {
        std::fs::write(work.join(name), files::pattern(1, 10_000, false)).unwrap();
        std::fs::create_dir(work.join(format!("{name} directory"))).unwrap();
    }
    std::fs::create_dir(work.join("dirsync")).unwrap();
    std::fs::create_dir(work.join("nocow directory")).unwrap();
    files::make_file(&work.join("nocow")).unwrap();
    let first = pair.carry_with_flags("first", None, ALL);
    let each = |change: &dyn Fn(&Path, IFlags)| {
        for (name, flag) in FLAGS {
            change(&work.join(name), flag);
            change(&work.join(format!("{name} directory")), flag);
        }
        change(&work.join("dirsync"), IFlags::DIRSYNC);
        change(&work.join("nocow directory"), IFlags::NOCOW);
        change(&work.join("nocow"), IFlags::NOCOW);
    };
    // Changed otherwise too, before the flag forbids it.
    for (name, _) in FLAGS {
        files::write(&work.join(name), 5000, b"changed").unwrap();
        files::set_xattr(&work.join(name), "user.name", b"value").unwrap();
        files::set_times(&work.join(name), time(1, 2), time(3, 4)).unwrap();
        let below = work.join(format!("{name} directory/below"));
        std::fs::write(below, b"x").unwrap();
    }
    each(&set);
    let second = pair.carry_with_flags("second", Some(&first), ALL);
    each(&clear);
    pair.carry_with_flags("third", Some(&second), ALL);
}

/// Setting flags makes the kernel rewrite `btrfs.compression`.
fn flags_leave_compression_alone() {
    let pair = Pair::new();
    let work = pair.work();
    let names = ["zlib", "lzo", "zstd", "none"];
    for name in names {
        let file = work.join(name);
        files::make_file(&file).unwrap();
        let directory = work.join(format!("{name} directory"));
        std::fs::create_dir(&directory).unwrap();
        for path in [file, directory] {
            files::set_xattr(&path, "btrfs.compression", name.as_bytes()).unwrap();
        }
    }
    let first = pair.carry_with_flags("first", None, COMPR);
    for name in names {
        for path in [work.join(name), work.join(format!("{name} directory"))] {
            // Spoils the attribute here; the sender's is put right after.
            set(&path, IFlags::NODUMP | IFlags::NOATIME);
            if path.is_dir() {
                set(&path, IFlags::DIRSYNC);
            }
            files::set_xattr(&path, "btrfs.compression", name.as_bytes()).unwrap();
            set_xflags_immutable(&path);
        }
    }
    pair.carry_with_flags("second", Some(&first), ALL);
    for name in names {
        let found = xattr(&pair.received("second").join(name), "btrfs.compression");
        assert_eq!(found.as_deref(), Some(name.as_bytes()));
    }
}

/// Sets the flag; `chattr` would rewrite `btrfs.compression` of the sender,
/// which has to be set again before.
fn set_xflags_immutable(path: &Path) {
    let value = xattr(path, "btrfs.compression").unwrap();
    set(path, IFlags::IMMUTABLE);
    let now = xattr(path, "btrfs.compression");
    if now.as_ref() != Some(&value) {
        // Not possible with this algorithm: leave it changeable.
        clear(path, IFlags::IMMUTABLE);
        files::set_xattr(path, "btrfs.compression", &value).unwrap();
    }
}

/// The attribute comes before the flags that would allow it.
fn a_nocow_directory_becomes_a_compressed_one() {
    let pair = Pair::new();
    let work = pair.work();
    let paths = [work.join("directory"), work.join("file"), work.clone()];
    std::fs::create_dir(&paths[0]).unwrap();
    files::make_file(&paths[1]).unwrap();
    let first = pair.carry("first", None);
    for path in &paths {
        set(path, IFlags::NOCOW);
    }
    let second = pair.carry_with_flags("second", Some(&first), ALL);
    for path in &paths {
        clear(path, IFlags::NOCOW);
        files::set_xattr(path, "btrfs.compression", b"zstd").unwrap();
    }
    let third = pair.carry_with_flags("third", Some(&second), ALL);
    for path in &paths {
        files::remove_xattr(path, "btrfs.compression").unwrap();
        set(path, IFlags::NOCOW);
    }
    pair.carry_with_flags("fourth", Some(&third), ALL);
}

/// The flags are the same in both snapshots, so the stream says nothing of
/// them.
fn immutable_files_are_changed_by_later_streams() {
    let pair = Pair::new();
    let work = pair.work();
    let names = [
        "data", "mode", "owner", "times", "xattr", "name", "links", "gone", "still",
    ];
    for name in names {
        std::fs::write(work.join(name), files::pattern(1, 10_000, false)).unwrap();
        std::fs::create_dir(work.join(format!("{name} directory"))).unwrap();
        std::fs::write(work.join(format!("{name} directory/old")), b"x").unwrap();
    }
    let zero = pair.carry("zero", None);
    let each = |change: &dyn Fn(&Path, IFlags)| {
        for (index, name) in names.into_iter().enumerate() {
            let flag = [IFlags::IMMUTABLE, IFlags::APPEND, BOTH][index % 3];
            for path in [work.join(name), work.join(format!("{name} directory"))] {
                if path.exists() {
                    change(&path, flag);
                }
            }
        }
    };
    each(&set);
    let first = pair.carry_with_flags("first", Some(&zero), ALL);
    each(&clear);
    files::write(&work.join("data"), 5000, b"changed").unwrap();
    files::truncate(&work.join("data"), 7000).unwrap();
    for (mode, suffix) in [(0o600, ""), (0o700, " directory")] {
        let path = |name: &str| work.join(format!("{name}{suffix}"));
        files::set_mode(&path("mode"), mode).unwrap();
        files::set_owner(&path("owner"), 5, 6).unwrap();
        files::set_times(&path("times"), time(1, 2), time(3, 4)).unwrap();
        files::set_xattr(&path("xattr"), "user.name", b"value").unwrap();
        std::fs::rename(path("name"), path("renamed")).unwrap();
    }
    files::link(&work.join("links"), &work.join("links directory/link")).unwrap();
    std::fs::remove_file(work.join("gone")).unwrap();
    std::fs::remove_dir_all(work.join("gone directory")).unwrap();
    std::fs::write(work.join("data directory/new"), b"new").unwrap();
    std::fs::create_dir(work.join("mode directory/new")).unwrap();
    std::fs::remove_file(work.join("times directory/old")).unwrap();
    std::fs::rename(
        work.join("owner directory/old"),
        work.join("xattr directory/moved here"),
    )
    .unwrap();
    each(&set);
    for (name, flag) in [
        ("renamed", IFlags::APPEND),
        ("renamed directory", IFlags::APPEND),
    ] {
        // The flag that "name" had, given its place in the list.
        let flag = if names[5] == "name" { BOTH } else { flag };
        set(&work.join(name), flag);
    }
    let second = pair.carry_with_flags("second", Some(&first), ALL);
    pair.carry_with_flags("third", Some(&second), ALL);
}

fn an_immutable_root_is_changed_by_later_streams() {
    let pair = Pair::new();
    let work = pair.work();
    files::set_xattr(&work, "btrfs.compression", b"zstd").unwrap();
    files::set_mode(&work, 0o2755).unwrap();
    std::fs::create_dir(work.join("directory")).unwrap();
    let zero = pair.carry("zero", None);
    // Only with the default algorithm does the attribute survive chattr.
    set(&work, IFlags::IMMUTABLE);
    let first = pair.carry_with_flags("first", Some(&zero), ALL);
    clear(&work, IFlags::IMMUTABLE);
    std::fs::write(work.join("new"), b"new").unwrap();
    std::fs::write(work.join("directory/new"), b"new").unwrap();
    files::set_mode(&work, 0o700).unwrap();
    set(&work, IFlags::IMMUTABLE);
    let second = pair.carry_with_flags("second", Some(&first), ALL);
    // Nothing about the root at all.
    std::fs::write(work.join("directory/newer"), b"new").unwrap();
    let third = pair.carry_with_flags("third", Some(&second), ALL);
    clear(&work, IFlags::IMMUTABLE);
    set(&work, IFlags::APPEND);
    std::fs::write(work.join("newest"), b"new").unwrap();
    pair.carry_with_flags("fourth", Some(&third), ALL);
    assert!(subvolume::facts(&pair.received("fourth")).read_only);
}

/// An attribute is set on one thread while the other opens the file for the
/// data that follows it: whoever finds the flag first, neither may fail.
fn both_threads_lift_the_flags_of_a_file() {
    const FILES: usize = 300;
    const ROUNDS: usize = 4;
    let pair = Pair::new();
    let work = pair.work();
    let paths: Vec<_> = (0..FILES).map(|file| work.join(file.to_string())).collect();
    for path in &paths {
        std::fs::write(path, b"zero").unwrap();
    }
    // A full stream carries no flags.
    let zero = pair.carry("zero", None);
    for path in &paths {
        set(path, IFlags::IMMUTABLE);
    }
    let mut parent = pair.carry_with_flags("round 0", Some(&zero), ALL);
    for round in 1..=ROUNDS {
        let value = round.to_string();
        for (file, path) in paths.iter().enumerate() {
            clear(path, IFlags::IMMUTABLE);
            // From few to more than go to the other thread at once, so that
            // it comes to the first of them at every moment there is.
            for name in 0..=file % 40 {
                files::set_xattr(path, &format!("user.{name}"), value.as_bytes()).unwrap();
            }
            files::write(path, 0, value.as_bytes()).unwrap();
            set(path, IFlags::IMMUTABLE);
        }
        parent = pair.carry_with_flags(&format!("round {round}"), Some(&parent), ALL);
    }
}

/// A FILEATTR on one thread, while a rename on the other finds the flag that
/// it takes off.
fn flags_that_go_before_a_rename_are_gone() {
    const FILES: usize = 3000;
    /// As many as go to the other thread at once.
    const TOGETHER: usize = 96;
    const NODUMP_ATTRIBUTE: u64 = 0x100;
    let pair = Pair::new();
    let work = pair.work();
    for file in 0..FILES {
        files::make_file(&work.join(format!("old {file}"))).unwrap();
    }
    // A full stream carries no flags.
    let zero = pair.carry("zero", None);
    for file in 0..FILES {
        set(&work.join(format!("old {file}")), IFlags::IMMUTABLE);
    }
    pair.carry_with_flags("first", Some(&zero), ALL);
    let mut script = Script::change_of(&pair.received("first"), "second");
    let all: Vec<_> = (0..FILES).collect();
    for together in all.chunks(TOGETHER) {
        for file in together {
            script = script.attributes(&format!("old {file}"), NODUMP_ATTRIBUTE);
        }
        for file in together {
            script = script.rename(&format!("old {file}"), &format!("new {file}"));
        }
    }
    receive(&script.end(), pair.to.path());
    for file in 0..FILES {
        let file = std::fs::File::open(pair.received("second").join(format!("new {file}")));
        let flags = rustix::fs::ioctl_getflags(file.unwrap()).unwrap();
        assert_eq!(flags, IFlags::NODUMP);
    }
}

fn immutable_inodes_are_removed_and_replaced() {
    let pair = Pair::new();
    let work = pair.work();
    for name in ["a", "b"] {
        std::fs::create_dir(work.join(name)).unwrap();
        std::fs::write(work.join(name).join("file"), name).unwrap();
    }
    let zero = pair.carry("zero", None);
    let all = ["a", "b", "a/file", "b/file"];
    let each = |change: &dyn Fn(&Path, IFlags)| {
        for name in all {
            if work.join(name).exists() {
                change(&work.join(name), BOTH);
            }
        }
    };
    each(&set);
    let first = pair.carry_with_flags("first", Some(&zero), ALL);
    each(&clear);
    files::exchange(&work.join("a"), &work.join("b")).unwrap();
    std::fs::remove_file(work.join("a/file")).unwrap();
    std::fs::write(work.join("a/file"), b"a new one").unwrap();
    std::fs::remove_dir_all(work.join("b")).unwrap();
    std::fs::write(work.join("b"), b"a file now").unwrap();
    set(&work.join("a"), BOTH);
    pair.carry_with_flags("second", Some(&first), IMMUTABLE | APPEND);
}

/// Some kernels keep flags for every kind of inode.
fn flags_for_inodes_without_flags_are_passed_over() {
    let pair = Pair::new();
    let work = pair.work();
    std::os::unix::fs::symlink("target", work.join("link")).unwrap();
    files::make_node(&work.join("fifo"), rustix::fs::FileType::Fifo, (0, 0)).unwrap();
    std::fs::write(work.join("file"), b"x").unwrap();
    pair.carry("first", None);
    // Bit 4 is PREALLOC, bit 31 and above are the kernel's own.
    let stream = Script::change_of(&pair.received("first"), "second")
        .attributes("link", 0x8)
        .attributes("fifo", 0x8)
        .attributes("file", 0x1_8000_0010)
        .end();
    receive(&stream, pair.to.path());
}

fn a_failed_receive_leaves_nothing_immutable() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::write(work.join("file"), b"x").unwrap();
    pair.carry("first", None);
    let stream = Script::change_of(&pair.received("first"), "second")
        .attributes("file", 0x40)
        .rename("missing", "elsewhere")
        .end();
    try_receive(&stream, pair.to.path()).unwrap_err();
    subvolume::delete(&pair.received("second"));
}
