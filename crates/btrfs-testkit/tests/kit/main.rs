//! The kit tested on itself.

mod corpus;
mod histories;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use btrfs_testkit::{
    Compared, Difference, LoopFilesystem, Mount, Sample, Sender, Time, Tree, Walk,
    assert_same_tree, compare, files, reference_receive, subvolume, test,
};
use rustix::fs::{FileType, IFlags};

fn filesystems_are_apart() {
    let (a, b) = (LoopFilesystem::new(), LoopFilesystem::new());
    assert_ne!(a.device(), b.device());
    std::fs::write(a.path().join("file"), b"a").unwrap();
    assert!(!b.path().join("file").exists());
}

fn options_reach_mkfs_and_mount() {
    let builder = LoopFilesystem::builder().size(200 << 20).nodesize(4096);
    let filesystem = builder.mount_options("compress-force=zstd").build();
    let uuid = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = uuid
        .lines()
        .find(|line| line.contains(filesystem.path().to_str().unwrap()));
    assert!(line.unwrap().contains("compress-force=zstd"), "{line:?}");
}

fn one_filesystem_has_several_mounts() {
    let filesystem = LoopFilesystem::new();
    let inner = subvolume::create(&filesystem.path().join("inner"));
    std::fs::write(inner.join("file"), b"x").unwrap();
    let mounted = filesystem.mount("subvol=inner,ro");
    assert!(mounted.path().join("file").exists());
    let bound = Mount::bind(&inner);
    assert!(bound.path().join("file").exists());
    drop(filesystem);
    assert!(mounted.path().join("file").exists());
}

fn a_copied_image_is_the_disk_at_that_instant() {
    let filesystem = LoopFilesystem::new();
    std::fs::write(filesystem.path().join("file"), b"x").unwrap();
    filesystem.sync();
    let copy = btrfs_testkit::scratch_dir().join(format!("copy-{}", std::process::id()));
    std::fs::copy(filesystem.image(), &copy).unwrap();
    std::fs::write(filesystem.path().join("later"), b"x").unwrap();
    drop(filesystem);
    let reborn = LoopFilesystem::builder().existing_image(&copy).build();
    assert!(reborn.path().join("file").exists());
    assert!(!reborn.path().join("later").exists());
    drop(reborn);
    std::fs::remove_file(copy).unwrap();
}

fn a_stream_is_sent_and_received() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("file"), b"hello").unwrap();
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    std::fs::write(work.join("file"), b"more").unwrap();
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    reference_receive(&Sender::new(&first).to_vec(), to.path()).unwrap();
    let stream = Sender::new(&second).parent(&first).version(2).to_vec();
    reference_receive(&stream, to.path()).unwrap();
    for name in ["first", "second"] {
        assert_same_tree(&from.path().join(name), &to.path().join(name));
        let (sent, received) = (
            subvolume::facts(&from.path().join(name)),
            subvolume::facts(&to.path().join(name)),
        );
        assert_eq!(received.received_uuid, Some(sent.uuid));
        assert!(received.read_only && received.id > 255);
    }
    assert!(reference_receive(b"rubbish", to.path()).is_err());
}

fn a_tree_equals_itself_and_its_snapshot() {
    let filesystem = LoopFilesystem::new();
    let work = subvolume::create(&filesystem.path().join("work"));
    std::fs::create_dir(work.join("d")).unwrap();
    std::fs::write(work.join("d/file"), vec![7; 10_000]).unwrap();
    subvolume::create(&work.join("nested"));
    let snapshot = subvolume::snapshot_read_only(&work, &filesystem.path().join("snap"));
    assert_same_tree(&work, &snapshot);
}

fn the_sample_survives_the_reference(version: u32, compressed: bool) {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let sample = Sample::for_reference();
    let work = subvolume::create(&from.path().join("work"));
    sample.build(&work);
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    sample.change(&work);
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    let full = Sender::new(&first).version(version);
    let difference = Sender::new(&second).parent(&first).version(version);
    for (snapshot, send) in [(first, full), (second, difference)] {
        let send = if compressed { send.compressed() } else { send };
        reference_receive(&send.to_vec(), to.path()).unwrap();
        let received = to.path().join(snapshot.file_name().unwrap());
        assert_same_tree(&snapshot, &received);
    }
}

fn the_whole_sample_can_be_built_and_changed() {
    let filesystem = LoopFilesystem::new();
    let work = subvolume::create(&filesystem.path().join("work"));
    Sample::default().build(&work);
    Sample::default().change(&work);
    let snapshot = subvolume::snapshot_read_only(&work, &filesystem.path().join("snap"));
    assert_same_tree(&work, &snapshot);
}

/// A change to a tree, and how the one difference it makes is reported.
type Case = (&'static str, fn(&Path) -> io::Result<()>);

/// Each restores the times it moved, unless they are its subject.
const CHANGES: &[Case] = &[
    (
        ".: mtime: expected 9.000000009, found 9.000000010",
        |root| files::set_times(root, at(9, 9), at(9, 10)),
    ),
    ("file: mode: expected 0644, found 4644", |root| {
        files::set_mode(&root.join("file"), 0o4644)
    }),
    ("file: uid: expected 0, found 1", |root| {
        files::set_owner(&root.join("file"), 1, 0)
    }),
    ("file: gid: expected 0, found 1", |root| {
        files::set_owner(&root.join("file"), 0, 1)
    }),
    (
        "file: mtime: expected 9.000000009, found -9.000000009",
        |root| files::set_times(&root.join("file"), at(9, 9), at(-9, 9)),
    ),
    (
        "file: content in 1 blocks, the first at 8192: expected bytes",
        |root| {
            files::write(&root.join("file"), 9000, b"x")?;
            files::set_times(&root.join("file"), at(9, 9), at(9, 9))
        },
    ),
    ("file: size: expected 10000, found 10001", |root| {
        files::truncate(&root.join("file"), 10_001)?;
        files::set_times(&root.join("file"), at(9, 9), at(9, 9))
    }),
    ("file: xattr user.a: expected \"1\", found \"\"", |root| {
        files::set_xattr(&root.join("file"), "user.a", b"")
    }),
    (
        "file: xattr user.a: expected \"1\", found nothing",
        |root| files::remove_xattr(&root.join("file"), "user.a"),
    ),
    (
        "file: xattr security.capability: expected nothing",
        |root| {
            files::set_xattr(
                &root.join("file"),
                "security.capability",
                &files::capability(1),
            )
        },
    ),
    (
        "d: xattr system.posix_acl_default: expected nothing",
        |root| {
            files::set_xattr(
                &root.join("d"),
                "system.posix_acl_default",
                &files::acl(1, 1),
            )
        },
    ),
    (
        "link: xattr trusted.a: expected nothing, found \"1\"",
        |root| files::set_xattr(&root.join("link"), "trusted.a", b"1"),
    ),
    ("link: target: expected \"file\", found \"else\"", |root| {
        replace(root, "link", |path| {
            std::os::unix::fs::symlink("else", path)
        })
    }),
    ("node: rdev: expected 259, found 260", |root| {
        replace(root, "node", |path| {
            files::make_node(path, FileType::CharacterDevice, (1, 4))
        })
    }),
    (
        "node: type: expected CharDevice, found BlockDevice",
        |root| {
            replace(root, "node", |path| {
                files::make_node(path, FileType::BlockDevice, (1, 3))
            })
        },
    ),
    ("d/extra: extra: expected nothing, found File", |root| {
        files::make_file(&root.join("d/extra"))?;
        files::set_times(&root.join("d"), at(9, 9), at(9, 9))
    }),
    ("d/inner: missing: expected File, found nothing", |root| {
        std::fs::remove_file(root.join("d/inner"))?;
        files::set_times(&root.join("d"), at(9, 9), at(9, 9))
    }),
    (
        "linked 2: hard link to: expected \"linked 1\", found \"linked 2\"",
        |root| {
            // Two pairs of links become two other pairs; no count changes.
            std::fs::remove_file(root.join("linked 2"))?;
            std::fs::remove_file(root.join("linked 3"))?;
            files::link(&root.join("linked 1"), &root.join("linked 3"))?;
            files::link(&root.join("linked 4"), &root.join("linked 2"))?;
            files::set_times(root, at(9, 9), at(9, 9))
        },
    ),
    ("linked 1: links: expected 2, found 3", |root| {
        files::link(&root.join("linked 1"), &root.join("d/more"))?;
        files::set_times(&root.join("d"), at(9, 9), at(9, 9))
    }),
    ("file: flags: expected 0x0, found 0x40", |root| {
        files::change_flags(&root.join("file"), IFlags::NODUMP, IFlags::empty())
    }),
    (
        "file: atime: expected 9.000000009, found 8.000000000",
        |root| files::set_times(&root.join("file"), at(8, 0), at(9, 9)),
    ),
    (
        "sparse: layout: expected [], found [(8192, 4096)]",
        |root| {
            files::write(&root.join("sparse"), 8192, &[0; 4096])?;
            files::set_times(&root.join("sparse"), at(9, 9), at(9, 9))
        },
    ),
];

fn at(seconds: i64, nanoseconds: u32) -> Time {
    Time {
        seconds,
        nanoseconds,
    }
}

/// Puts something else in the place of a file of the tree below.
fn replace(root: &Path, name: &str, make: fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let path = root.join(name);
    std::fs::remove_file(&path)?;
    make(&path)?;
    if !path.is_symlink() {
        files::set_mode(&path, 0o640)?;
    }
    files::set_times(&path, at(9, 9), at(9, 9))?;
    files::set_times(root, at(9, 9), at(9, 9))
}

fn build_small_tree(root: &Path) -> io::Result<()> {
    std::fs::create_dir(root.join("d"))?;
    std::fs::write(root.join("d/inner"), b"")?;
    std::fs::write(root.join("file"), vec![7; 10_000])?;
    files::truncate(&root.join("sparse"), 40_960)?;
    files::set_mode(&root.join("file"), 0o644)?;
    files::set_xattr(&root.join("file"), "user.a", b"1")?;
    std::os::unix::fs::symlink("file", root.join("link"))?;
    files::make_node(&root.join("node"), FileType::CharacterDevice, (1, 3))?;
    for (name, other) in [("linked 1", "linked 2"), ("linked 3", "linked 4")] {
        files::make_file(&root.join(name))?;
        files::link(&root.join(name), &root.join(other))?;
    }
    for name in [
        "d/inner", "d", "file", "sparse", "link", "node", "linked 1", "linked 3", "",
    ] {
        files::set_times(&root.join(name), at(9, 9), at(9, 9))?;
    }
    Ok(())
}

fn the_comparison_notices_each_field() {
    let filesystem = LoopFilesystem::builder().mount_options("noatime").build();
    let work = subvolume::create(&filesystem.path().join("work"));
    build_small_tree(&work).unwrap();
    let walk = Walk { layout: true };
    let everything = Compared {
        atime: true,
        layout: true,
        flags: u32::MAX,
        ..Compared::default()
    };
    let original = Tree::read_with(&work, walk);
    for (index, (expected, change)) in CHANGES.iter().enumerate() {
        let path = filesystem.path().join(format!("changed {index}"));
        subvolume::snapshot_writable(&work, &path);
        assert_eq!(
            compare(&original, &Tree::read_with(&path, walk), &everything),
            []
        );
        change(&path).unwrap();
        let differences = compare(&original, &Tree::read_with(&path, walk), &everything);
        let shown = Difference::list(&differences);
        assert!(
            shown.lines().any(|line| line.starts_with(expected)),
            "{expected} is not among:\n{shown}"
        );
    }
}

fn main() -> ExitCode {
    let own = vec![
        test!(filesystems_are_apart),
        test!(options_reach_mkfs_and_mount),
        test!(one_filesystem_has_several_mounts),
        test!(a_copied_image_is_the_disk_at_that_instant),
        test!(a_stream_is_sent_and_received),
        test!(a_tree_equals_itself_and_its_snapshot),
        test!(the_sample_survives_the_reference, 1, false),
        test!(the_sample_survives_the_reference, 2, false),
        test!(the_sample_survives_the_reference, 2, true),
        test!(the_whole_sample_can_be_built_and_changed),
        test!(the_comparison_notices_each_field),
    ];
    let tests = [own, corpus::tests(), histories::tests()];
    btrfs_testkit::main(tests.into_iter().flatten())
}
