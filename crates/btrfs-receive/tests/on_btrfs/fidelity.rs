//! Fields that are easily lost: capabilities, set-id bits, attributes,
//! times, holes, clones and encoded writes of every shape.

use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::{Compared, LoopFilesystem, Test, assert_same_tree_in, files, test};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use rustix::fs::FileType;

use crate::support::{Extent, Pair, Script, receive, receive_plainly, takes_encoded_writes, time};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(set_id_bits_and_capabilities_survive_a_new_owner),
        test!(set_id_bits_and_capabilities_survive_writes),
        test!(a_capability_from_an_old_kernel_survives_the_owner),
        test!(an_owner_given_by_another_name_is_overridden),
        test!(attributes_grow_vanish_and_are_empty),
        test!(attributes_of_large_nodes_are_kept),
        test!(a_missing_attribute_is_removed),
        test!(times_are_kept_to_the_nanosecond),
        test!(holes_stay_holes).needs_version(2),
        test!(clones_are_longer_than_two_gibibytes),
        test!(clones_follow_orphan_names),
        test!(clones_end_where_files_end),
        test!(encoded_writes_of_every_shape),
    ]
}

const SETUID: u32 = 0o4755;

/// A chown clears set-id bits and capabilities. A sender that sets them
/// again afterwards has the same mode as before, and sends none.
fn set_id_bits_and_capabilities_survive_a_new_owner() {
    const MODES: [u32; 4] = [SETUID, 0o2755, 0o6711, 0o2644];
    let path = |work: &Path, mode: u32| work.join(format!("{mode:o}"));
    Pair::new().carry_change(
        |work| {
            for mode in MODES {
                let path = path(work, mode);
                std::fs::write(&path, b"program").unwrap();
                files::set_mode(&path, mode).unwrap();
                let value = files::capability(mode);
                files::set_xattr(&path, "security.capability", &value).unwrap();
                let fifo = work.join(format!("fifo {mode:o}"));
                files::make_node(&fifo, FileType::Fifo, (0, 0)).unwrap();
                files::set_mode(&fifo, mode).unwrap();
                let directory = work.join(format!("directory {mode:o}"));
                std::fs::create_dir(&directory).unwrap();
                files::set_mode(&directory, mode).unwrap();
            }
        },
        |work| {
            for mode in MODES {
                for kind in ["fifo", "directory"] {
                    let path = work.join(format!("{kind} {mode:o}"));
                    files::set_owner(&path, 1000, 1001).unwrap();
                    files::set_mode(&path, mode).unwrap();
                }
                let path = path(work, mode);
                files::set_owner(&path, 1000, 1001).unwrap();
                files::set_mode(&path, mode).unwrap();
                let value = files::capability(mode);
                files::set_xattr(&path, "security.capability", &value).unwrap();
            }
        },
    );
}

fn set_id_bits_and_capabilities_survive_writes() {
    Pair::new().carry_change(
        |work| {
            let path = work.join("program");
            std::fs::write(&path, files::pattern(1, 50_000, false)).unwrap();
            files::set_owner(&path, 5, 6).unwrap();
            files::set_mode(&path, 0o6755).unwrap();
            files::set_xattr(&path, "security.capability", &files::capability(3)).unwrap();
            files::reflink(&path, &work.join("to clone from")).unwrap();
        },
        |work| {
            let path = work.join("program");
            files::write(&path, 10_000, &[7; 20_000]).unwrap();
            files::punch(&path, 4096, 4096).unwrap();
            files::share(&work.join("to clone from"), &path, (0, 65_536, 32_768)).unwrap();
            files::truncate(&path, 90_000).unwrap();
            files::set_mode(&path, 0o6755).unwrap();
            files::set_xattr(&path, "security.capability", &files::capability(3)).unwrap();
        },
    );
}

/// Kernels before 5.8 send the capability ahead of the owner.
fn a_capability_from_an_old_kernel_survives_the_owner() {
    let to = LoopFilesystem::new();
    let value = files::capability(9);
    let stream = Script::full("received")
        .file("program")
        .xattr("program", "security.capability", &value)
        .owner("program", 0, 0)
        .mode("program", SETUID.into())
        .owner("program", 7, 7)
        .mode("program", SETUID.into())
        .end();
    receive(&stream, to.path());
    let program = to.path().join("received/program");
    let facts = std::fs::metadata(&program).unwrap();
    assert_eq!((facts.uid(), facts.mode() & 0o7777), (7, SETUID));
    assert_eq!(xattr(&program, "security.capability"), Some(value));
}

fn an_owner_given_by_another_name_is_overridden() {
    let to = LoopFilesystem::new();
    let stream = Script::full("received")
        .file("a")
        .link("a", "b")
        .owner("b", 5, 5)
        .owner("a", 0, 0)
        .end();
    receive(&stream, to.path());
    let facts = std::fs::metadata(to.path().join("received/a")).unwrap();
    assert_eq!((facts.uid(), facts.gid()), (0, 0));
}

fn attributes_grow_vanish_and_are_empty() {
    let all = |work: &Path, change: &dyn Fn(&Path)| {
        for name in ["", "file", "directory"] {
            change(&work.join(name));
        }
    };
    Pair::new().carry_change(
        |work| {
            std::fs::write(work.join("file"), b"x").unwrap();
            std::fs::create_dir(work.join("directory")).unwrap();
            all(work, &|path| {
                files::set_xattr(path, "user.grows", &files::pattern(1, 9000, false)).unwrap();
                files::set_xattr(path, "user.goes", b"away").unwrap();
                files::set_xattr(path, "user.empties", b"full").unwrap();
                let acl = files::acl(1234, 7);
                files::set_xattr(path, "system.posix_acl_access", &acl).unwrap();
            });
        },
        |work| {
            all(work, &|path| {
                files::remove_xattr(path, "user.grows").unwrap();
                files::set_xattr(path, "user.grows", &files::pattern(2, 16_000, false)).unwrap();
                files::remove_xattr(path, "user.goes").unwrap();
                files::set_xattr(path, "user.empties", b"").unwrap();
                files::set_xattr(path, "user.comes", b"").unwrap();
                files::remove_xattr(path, "system.posix_acl_access").unwrap();
            });
        },
    );
}

/// 64 KiB nodes hold values that only version 2 can carry.
fn attributes_of_large_nodes_are_kept() {
    let large = || LoopFilesystem::builder().nodesize(65_536).build();
    let pair = Pair {
        from: large(),
        to: large(),
    };
    pair.carry_change(
        |work| {
            std::fs::write(work.join("file"), b"x").unwrap();
            let value = files::pattern(1, 65_300, false);
            files::set_xattr(&work.join("file"), "user.large", &value).unwrap();
        },
        |work| {
            let value = files::pattern(2, 65_300, false);
            files::set_xattr(&work.join("file"), "user.large", &value).unwrap();
        },
    );
}

fn a_missing_attribute_is_removed() {
    let to = LoopFilesystem::new();
    let mut script = Script::full("received").file("file").directory("directory");
    for name in ["", "file", "directory"] {
        script = script
            .remove_xattr(name, "user.missing")
            .remove_xattr(name, "btrfs.compression")
            .remove_xattr(name, "system.posix_acl_access")
            // An ACL without entries, as kernels send an empty one.
            .xattr(name, "system.posix_acl_access", &2_u32.to_le_bytes());
    }
    receive(&script.end(), to.path());
    let file = to.path().join("received/file");
    assert_eq!(xattr(&file, "system.posix_acl_access"), None);
}

fn times_are_kept_to_the_nanosecond() {
    const TIMES: [(i64, u32); 6] = [
        (-2, 500_000_000),
        (-3, 999_999_999),
        (0, 0),
        (0, 1),
        (1 << 34, 999_999_999),
        (-(1 << 34), 1),
    ];
    let set = |work: &Path, turn: usize| {
        for index in 0..TIMES.len() {
            let times: Vec<_> = (0..2)
                .map(|which| TIMES[(index + which + turn) % TIMES.len()])
                .map(|(seconds, nanoseconds)| time(seconds, nanoseconds))
                .collect();
            for kind in ["file", "directory", "link"] {
                let path = work.join(format!("{kind} {index}"));
                files::set_times(&path, times[0], times[1]).unwrap();
            }
            files::set_times(work, times[1], times[0]).unwrap();
        }
    };
    Pair::new().carry_change(
        |work| {
            for index in 0..TIMES.len() {
                std::fs::write(work.join(format!("file {index}")), b"x").unwrap();
                std::fs::create_dir(work.join(format!("directory {index}"))).unwrap();
                let link = work.join(format!("link {index}"));
                std::os::unix::fs::symlink("target", link).unwrap();
            }
            set(work, 0);
        },
        |work| set(work, 1),
    );
}

fn holes_stay_holes() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::create_dir(work.join("sparse")).unwrap();
    let path = work.join("sparse/file");
    files::write(&path, 1 << 20, &files::pattern(1, 200_000, false)).unwrap();
    files::truncate(&path, 5 << 20).unwrap();
    let preallocated = work.join("preallocated");
    files::preallocate(&preallocated, 0, 1 << 20, false).unwrap();
    files::write(&preallocated, 8192, &files::pattern(2, 8192, false)).unwrap();
    let first = pair.carry("first", None);
    files::punch(&path, (1 << 20) + 65_536, 65_536).unwrap();
    files::truncate(&path, 6 << 20).unwrap();
    let second = pair.carry("second", Some(&first));
    let compared = Compared {
        layout: true,
        ..Compared::default()
    };
    for (sent, name) in [(first, "first"), (second, "second")] {
        assert_same_tree_in(
            &sent.join("sparse"),
            &pair.received(name).join("sparse"),
            &compared,
        );
    }
}

fn clones_are_longer_than_two_gibibytes() {
    const GIB: u64 = 1 << 30;
    let to = LoopFilesystem::new();
    let data = files::pattern(1, 8192, false);
    let stream = Script::full("received")
        .file("big")
        .write("big", 0, &data)
        .write("big", 3 * GIB, &data)
        .truncate("big", 6 * GIB)
        .file("copy")
        .clone_own("big", "copy", (0, GIB, 5 * GIB))
        .end();
    let report = receive(&stream, to.path());
    assert!(report.fallbacks.is_none());
    let copy = std::fs::File::open(to.path().join("received/copy")).unwrap();
    assert_eq!(copy.metadata().unwrap().len(), 6 * GIB);
    for offset in [GIB, 4 * GIB] {
        let mut found = vec![0; 8192];
        copy.read_exact_at(&mut found, offset).unwrap();
        assert!(found == data, "at {offset}");
    }
}

fn clones_follow_orphan_names() {
    let to = LoopFilesystem::new();
    let data = files::pattern(1, 16_384, false);
    let stream = Script::full("received")
        .file("o257-7-0")
        .write("o257-7-0", 0, &data)
        .file("o258-7-0")
        .clone_own("o257-7-0", "o258-7-0", (0, 4096, 8192))
        .rename("o258-7-0", "second")
        .rename("o257-7-0", "first")
        .file("o259-7-0")
        .clone_own("second", "o259-7-0", (4096, 0, 8192))
        .rename("o259-7-0", "third")
        .clone_own("first", "first", (0, 16_384, 16_384))
        .end();
    for receive in [receive, receive_plainly] {
        let into = tempfile::tempdir_in(to.path()).unwrap();
        assert!(receive(&stream, into.path()).fallbacks.is_none());
        let read = |name| std::fs::read(into.path().join("received").join(name)).unwrap();
        assert!(read("first") == [&data[..], &data[..]].concat());
        assert!(read("second") == [&[0; 4096][..], &data[..8192]].concat());
        assert!(read("third") == data[..8192]);
        // A read-only subvolume is not removed with the directory.
        let _ = into.keep();
    }
}

fn clones_end_where_files_end() {
    Pair::new().carry_change(
        |work| {
            let data = files::pattern(1, 100_123, false);
            std::fs::write(work.join("source"), &data).unwrap();
            files::sync(&work.join("source")).unwrap();
            files::reflink(&work.join("source"), &work.join("copy")).unwrap();
            std::fs::write(work.join("shorter"), &data[..50_000]).unwrap();
            std::fs::write(work.join("longer"), [&data[..], &data].concat()).unwrap();
        },
        |work| {
            for name in ["shorter", "longer", "new"] {
                let range = (65_536, 65_536, 100_123 - 65_536);
                files::share(&work.join("source"), &work.join(name), range).unwrap();
            }
            files::truncate(&work.join("longer"), 100_123).unwrap();
        },
    );
}

/// Padded to the sector, decoding to less than announced, and one extent
/// used twice with other offsets; taken as it is, checked, and decoded.
fn encoded_writes_of_every_shape() {
    let plain = files::pattern(1, 40_000, true);
    let mut padded = zlib(&plain);
    padded.resize(padded.len().next_multiple_of(4096), 0);
    let extent = |offset, file_len, skip| Extent {
        offset,
        file_len,
        len: 65_536,
        skip,
        compression: 1,
    };
    let stream = Script::full("received")
        .file("whole")
        .encoded("whole", &extent(0, 65_536, 0), &padded)
        .file("parts")
        .encoded("parts", &extent(0, 4096, 8192), &padded)
        .encoded("parts", &extent(8192, 32_768, 32_768), &padded)
        .encoded("parts", &extent(65_536, 100, 0), &padded)
        .end();
    let mut whole = plain.clone();
    whole.resize(65_536, 0);
    let mut parts = vec![0; 65_636];
    parts[..4096].copy_from_slice(&whole[8192..12_288]);
    parts[8192..40_960].copy_from_slice(&whole[32_768..]);
    parts[65_536..].copy_from_slice(&whole[..100]);

    let to = LoopFilesystem::new();
    for (name, builder) in [
        ("as it is", BtrfsDestination::builder()),
        ("checked", BtrfsDestination::builder().check_encoded(true)),
        (
            "decoded",
            BtrfsDestination::builder().force_decompress(true),
        ),
    ] {
        let into = to.path().join(name);
        std::fs::create_dir(&into).unwrap();
        let report = Receiver::new(builder.open(&into).unwrap())
            .receive(&stream[..], &mut ())
            .unwrap();
        let refused = name != "decoded" && !takes_encoded_writes();
        let decoded = report.fallbacks.encoded_writes_decoded;
        assert_eq!(decoded, if refused { 4 } else { 0 }, "{name}");
        let read = |file| std::fs::read(into.join("received").join(file)).unwrap();
        assert!(read("whole") == whole, "{name}");
        assert!(read("parts") == parts, "{name}");
    }
}

/// `data` as zlib compresses it.
pub(crate) fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The value of an extended attribute.
pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65_536];
    let len = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(len);
    Some(value)
}
