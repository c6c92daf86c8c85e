//! Nothing passes from a directory to what is created in it, unless the
//! stream says so.

use std::path::Path;

use btrfs_testkit::{LoopFilesystem, Test, files, test};
use rustix::fs::IFlags;

use crate::fidelity::xattr;
use crate::support::{Pair, Script, receive, receive_plainly, time};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(nothing_comes_from_the_root),
        test!(nothing_comes_from_the_subvolume_around),
        test!(nothing_comes_from_directories_of_the_parent),
        test!(nothing_comes_from_directories_of_the_same_stream),
        test!(nothing_comes_from_directories_that_changed_names),
        test!(inode_flags_of_the_root_stay_there).needs_version(2),
        test!(the_root_keeps_what_it_was_given),
        test!(the_root_ends_with_the_times_set_last),
    ]
}

const COMPR: u32 = 0x4;
const NOCOW: u32 = 0x0080_0000;

/// Everything that a directory hands down, the group included.
fn make_hand_down(directory: &Path) {
    files::set_xattr(directory, "system.posix_acl_default", &files::acl(1234, 7)).unwrap();
    files::set_xattr(directory, "btrfs.compression", b"zstd").unwrap();
    files::set_owner(directory, 0, 777).unwrap();
    files::set_mode(directory, 0o2775).unwrap();
}

/// Inodes of each kind, without anything that they got from `directory`.
fn fill(directory: &Path, name: &str) {
    let path = directory.join(name);
    std::fs::create_dir(&path).unwrap();
    clear(&path);
    files::remove_xattr(&path, "system.posix_acl_default").unwrap_or_default();
    std::fs::write(path.join("below"), b"x").unwrap();
    let file = directory.join(format!("{name} file"));
    std::fs::write(&file, files::pattern(1, 5000, true)).unwrap();
    clear(&file);
    let fifo = directory.join(format!("{name} fifo"));
    files::make_node(&fifo, rustix::fs::FileType::Fifo, (0, 0)).unwrap();
    files::remove_xattr(&fifo, "system.posix_acl_access").unwrap_or_default();
    let link = directory.join(format!("{name} link"));
    std::os::unix::fs::symlink("target", &link).unwrap();
}

fn clear(path: &Path) {
    for name in ["system.posix_acl_access", "btrfs.compression"] {
        files::remove_xattr(path, name).unwrap_or_default();
    }
    files::set_owner(path, 0, 0).unwrap();
    files::set_mode(path, 0o755).unwrap();
}

fn nothing_comes_from_the_root() {
    let pair = Pair::new();
    let work = pair.work();
    make_hand_down(&work);
    fill(&work, "first");
    std::fs::write(work.join("inherits"), b"x").unwrap();
    let first = pair.carry_with_flags("first", None, COMPR);
    fill(&work, "second");
    std::fs::write(work.join("inherits too"), b"x").unwrap();
    pair.carry_with_flags("second", Some(&first), COMPR);
}

/// The kernel hands `btrfs.compression` on to a new subvolume.
fn nothing_comes_from_the_subvolume_around() {
    let pair = Pair::new();
    make_hand_down(pair.to.path());
    let work = pair.work();
    std::fs::create_dir(work.join("dir")).unwrap();
    std::fs::write(work.join("dir/file"), files::pattern(1, 5000, true)).unwrap();
    let first = pair.carry_with_flags("first", None, COMPR);
    std::fs::write(work.join("more"), b"x").unwrap();
    pair.carry_with_flags("second", Some(&first), COMPR);
}

fn nothing_comes_from_directories_of_the_parent() {
    let pair = Pair::new();
    let work = pair.work();
    for name in ["all", "all/below"] {
        std::fs::create_dir(work.join(name)).unwrap();
        make_hand_down(&work.join(name));
    }
    std::fs::create_dir(work.join("setgid")).unwrap();
    files::set_mode(&work.join("setgid"), 0o2777).unwrap();
    let first = pair.carry_with_flags("first", None, COMPR);
    for name in ["all", "all/below", "setgid"] {
        fill(&work.join(name), "new");
        std::fs::write(work.join(name).join("inherits"), b"x").unwrap();
    }
    // A directory stops handing down, and another starts.
    let second = pair.carry_with_flags("second", Some(&first), COMPR);
    clear(&work.join("all"));
    files::remove_xattr(&work.join("all"), "system.posix_acl_default").unwrap();
    fill(&work.join("all"), "newer");
    make_hand_down(&work.join("all/new"));
    fill(&work.join("all/new"), "newest");
    pair.carry_with_flags("third", Some(&second), COMPR);
}

/// A stream that gives a directory its attributes first and fills it then,
/// under the final names at once or by way of other names.
fn nothing_comes_from_directories_of_the_same_stream() {
    let to = LoopFilesystem::new();
    let acl = files::acl(1234, 7);
    let stream = Script::full("received")
        .xattr("", "system.posix_acl_default", &acl)
        .xattr("", "btrfs.compression", b"zstd")
        .owner("", 0, 777)
        .mode("", 0o2755)
        .directory("d")
        .xattr("d", "system.posix_acl_default", &acl)
        .xattr("d", "btrfs.compression", b"lzo")
        .owner("d", 0, 777)
        .mode("d", 0o2755)
        .file("d/direct")
        .directory("d/directory")
        .file("d/directory/below")
        .file("o300-7-0")
        .rename("o300-7-0", "d/renamed")
        .directory("o301-7-0")
        .rename("o301-7-0", "d/renamed directory")
        .file("in the root")
        .end();
    for receive in [receive, receive_plainly] {
        let into = tempfile::tempdir_in(to.path()).unwrap().keep();
        receive(&stream, &into);
        let root = into.join("received");
        for name in [
            "d/direct",
            "d/directory",
            "d/directory/below",
            "d/renamed",
            "d/renamed directory",
            "in the root",
        ] {
            assert_inherited_nothing(&root.join(name));
        }
        for name in ["", "d"] {
            let found = xattr(&root.join(name), "system.posix_acl_default");
            assert_eq!(found.as_ref(), Some(&acl), "{name:?}");
        }
    }
}

#[track_caller]
fn assert_inherited_nothing(path: &Path) {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(path).unwrap();
    let wanted = if facts.is_dir() { 0o700 } else { 0o600 };
    let name = path.display();
    assert_eq!(facts.mode() & 0o7777, wanted, "{name}");
    assert_eq!(facts.gid(), 0, "{name}");
    for attribute in [
        "system.posix_acl_access",
        "system.posix_acl_default",
        "btrfs.compression",
    ] {
        assert_eq!(xattr(path, attribute), None, "{name}: {attribute}");
    }
    assert_eq!(flags(path) & (COMPR | NOCOW), 0, "{name}");
}

fn flags(path: &Path) -> u32 {
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::ioctl_getflags(file).unwrap().bits()
}

/// What is known of a directory must follow its renames.
fn nothing_comes_from_directories_that_changed_names() {
    let pair = Pair::new();
    let work = pair.work();
    for name in ["plain", "handing"] {
        std::fs::create_dir(work.join(name)).unwrap();
        std::fs::create_dir(work.join(name).join("inner")).unwrap();
    }
    make_hand_down(&work.join("handing"));
    make_hand_down(&work.join("handing/inner"));
    let first = pair.carry("first", None);
    fill(&work.join("plain"), "before");
    fill(&work.join("handing"), "before");
    files::exchange(&work.join("plain"), &work.join("handing")).unwrap();
    for directory in ["plain", "handing", "plain/inner", "handing/inner"] {
        fill(&work.join(directory), "after");
    }
    pair.carry_with_flags("second", Some(&first), COMPR);
}

/// New inodes must not become NOCOW because the root of the parent is, or
/// will be.
fn inode_flags_of_the_root_stay_there() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::create_dir(work.join("directory")).unwrap();
    let first = pair.carry("first", None);
    fill(&work, "before");
    fill(&work.join("directory"), "before");
    files::change_flags(&work, IFlags::NOCOW, IFlags::empty()).unwrap();
    files::change_flags(&work.join("directory"), IFlags::NOCOW, IFlags::empty()).unwrap();
    let second = pair.carry_with_flags("second", Some(&first), COMPR | NOCOW);
    // Flags of new inodes are in no stream: these are NOCOW at the sender.
    std::fs::write(work.join("after"), b"x").unwrap();
    std::fs::write(work.join("directory/after"), b"x").unwrap();
    pair.carry("third", Some(&second));
    let received = pair.received("third");
    assert_eq!(flags(&received) & NOCOW, NOCOW);
    assert_eq!(flags(&received.join("directory")) & NOCOW, NOCOW);
    assert_eq!(flags(&received.join("after")) & NOCOW, 0);
    assert_eq!(flags(&received.join("directory/after")) & NOCOW, 0);
}

/// What a root has is neither lost by a stream that does not mention it nor
/// kept by one that removes it.
fn the_root_keeps_what_it_was_given() {
    let pair = Pair::new();
    let work = pair.work();
    make_hand_down(&work);
    files::set_xattr(&work, "system.posix_acl_access", &files::acl(7, 5)).unwrap();
    let first = pair.carry_with_flags("first", None, COMPR);
    std::fs::create_dir(work.join("directory")).unwrap();
    let second = pair.carry_with_flags("second", Some(&first), COMPR);
    files::set_xattr(&work, "btrfs.compression", b"lzo").unwrap();
    files::set_xattr(&work, "system.posix_acl_default", &files::acl(8, 4)).unwrap();
    let third = pair.carry_with_flags("third", Some(&second), COMPR);
    files::remove_xattr(&work, "btrfs.compression").unwrap();
    files::remove_xattr(&work, "system.posix_acl_default").unwrap();
    files::remove_xattr(&work, "system.posix_acl_access").unwrap();
    files::set_mode(&work, 0o700).unwrap();
    pair.carry_with_flags("fourth", Some(&third), COMPR);
}

/// Large trees have the root's times early in the stream; names that come
/// and go in the root afterwards must not move them.
fn the_root_ends_with_the_times_set_last() {
    let to = LoopFilesystem::new();
    let stream = Script::full("first")
        .times("", time(1, 1), time(2, 2))
        .times("", time(-3, 3), time(-4, 4))
        .file("file")
        .directory("o300-7-0")
        .rename("o300-7-0", "directory")
        .xattr("", "user.name", b"value")
        .mode("", 0o750)
        .end();
    receive(&stream, to.path());
    assert_times(&to.path().join("first"), (-4, 4));
    // Not mentioned: as in the parent, whatever names were made meanwhile.
    let stream = Script::change_of(&to.path().join("first"), "second")
        .file("o301-8-0")
        .rename("o301-8-0", "directory/file")
        .end();
    receive(&stream, to.path());
    assert_times(&to.path().join("second"), (-4, 4));
}

#[track_caller]
fn assert_times(path: &Path, mtime: (i64, i64)) {
    use std::os::unix::fs::MetadataExt;
    let facts = std::fs::metadata(path).unwrap();
    assert_eq!((facts.mtime(), facts.mtime_nsec()), mtime);
}
