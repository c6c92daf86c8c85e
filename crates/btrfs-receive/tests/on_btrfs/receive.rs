//! Whole trees, as the kernel sends them, in every form of stream.

use std::path::{Path, PathBuf};

use btrfs_receive::btrfs_sendstream::{Bytes, Position, SubvolumeName, Uuid};
use btrfs_receive::{BtrfsDestination, Destination, NewSubvolume, Op, Step};
use btrfs_testkit::{
    LoopFilesystem, Sample, Sender, Test, assert_same_tree_in, files, subvolume, test,
};

use crate::support::{
    Pair, assert_received, everything, path, receive, receive_plainly,
    refuses_compression_of_nocow, sample, try_receive,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(the_sample_arrives, 1, false),
        test!(the_sample_arrives, 2, false),
        test!(the_sample_arrives, 2, true),
        test!(the_sample_arrives_under, "compress-force=zstd"),
        test!(the_sample_arrives_under, "nodatacow"),
        test!(the_sample_arrives_under, "nodatasum,noatime,max_inline=0"),
        test!(several_subvolumes_in_one_input, false),
        test!(several_subvolumes_in_one_input, true),
        test!(a_copied_extent_goes_there_and_back),
        test!(a_descriptor_stays_with_its_inode),
        test!(an_existing_name_is_left_alone),
        test!(names_are_made_below_untouched_directories),
        test!(hard_links_change_groups),
        test!(a_tree_turns_around),
        test!(failures_end_with_their_subvolume),
    ]
}

/// Everything at once, and with every fusing rule off the same again.
fn the_sample_arrives(version: u32, compressed: bool) {
    let pair = Pair::new();
    let (first, second) = sample(&pair.from, Sample::default());
    let plain = subvolume::create(&pair.received("one by one"));
    let sender = |snapshot: &Path| {
        let sender = Sender::new(snapshot).version(version);
        match compressed {
            true => sender.compressed(),
            false => sender,
        }
    };
    let full = sender(&first).to_vec();
    let difference = sender(&second).parent(&first).to_vec();
    for (snapshot, stream) in [(&first, full), (&second, difference)] {
        let name = snapshot.file_name().unwrap();
        let report = receive(&stream, pair.to.path());
        assert!(report.fallbacks.is_none(), "{:?}", report.fallbacks);
        let received = pair.to.path().join(name);
        assert_received(snapshot, &received);
        // The parent of the second could be either copy of the first.
        receive_plainly(&stream, &plain);
        assert_same_tree_in(&received, &plain.join(name), &everything(0));
    }
}

/// Mount options decide how content is kept, not what it is.
fn the_sample_arrives_under(options: &str) {
    let pair = Pair {
        from: LoopFilesystem::new(),
        to: LoopFilesystem::builder().mount_options(options).build(),
    };
    let (first, second) = sample(&pair.from, Sample::default());
    let sender = |snapshot: &Path| Sender::new(snapshot).version(2).compressed();
    let mut compared = everything(0);
    if options.starts_with("nodata") {
        // New files are NOCOW or without checksums there, and do not take
        // the attribute.
        compared.without_xattrs = vec![b"btrfs.compression".to_vec()];
    }
    for (snapshot, sender) in [
        (&first, sender(&first)),
        (&second, sender(&second).parent(&first)),
    ] {
        let report = receive(&sender.to_vec(), pair.to.path());
        if options.starts_with("nodata") {
            let fallbacks = report.fallbacks;
            let compressed = Sender::highest_version() >= 2;
            assert_eq!(fallbacks.encoded_writes_decoded > 0, compressed);
            let refuses = refuses_compression_of_nocow(&pair.to);
            assert_eq!(fallbacks.compression_refused > 0, refuses);
        }
        let received = pair.to.path().join(snapshot.file_name().unwrap());
        assert_same_tree_in(snapshot, &received, &compared);
    }
}

fn several_subvolumes_in_one_input(omit_end: bool) {
    let pair = Pair::new();
    let (first, second) = sample(&pair.from, Sample::for_reference());
    let third = pair.snapshot("third");
    let sender = Sender::several([first.as_path(), &second, &third]).version(2);
    let sender = match omit_end {
        true => sender.parent(&first).omit_end(),
        false => sender,
    };
    let stream = match omit_end {
        // The parent is there, and the other two are in one stream.
        true => {
            receive(&Sender::new(&first).to_vec(), pair.to.path());
            Sender::several([second.as_path(), &third])
                .parent(&first)
                .omit_end()
                .to_vec()
        }
        false => sender.to_vec(),
    };
    let report = receive(&stream, pair.to.path());
    assert_eq!(report.finished, if omit_end { 2 } else { 3 });
    for snapshot in [first, second, third] {
        assert_received(
            &snapshot,
            &pair.to.path().join(snapshot.file_name().unwrap()),
        );
    }
}

/// A to B, the next generation from B back to A, and on from A to B again:
/// the sources have other UUIDs each time, and transids that do not match.
fn a_copied_extent_goes_there_and_back() {
    let pair = Pair::new();
    let (a, b) = (pair.from.path(), pair.to.path());
    let work = pair.work();
    std::fs::create_dir(work.join("directory")).unwrap();
    std::fs::write(work.join("copy 0"), files::pattern(1, 300_000, false)).unwrap();
    std::fs::write(work.join("other"), files::pattern(2, 50_000, false)).unwrap();
    let base = pair.carry("base", None);

    let generation = |filesystem: &Path, from: &Path, number: u8| -> PathBuf {
        let work = filesystem.join(format!("work {number}"));
        subvolume::snapshot_writable(from, &work);
        // The only file with these extents goes: what is left to clone from
        // is the parent.
        let last = work.join(format!("copy {}", number - 1));
        let copy = work.join(format!("copy {number}"));
        files::reflink(&last, &copy).unwrap();
        files::write(&copy, 8192, b"changed").unwrap();
        std::fs::remove_file(last).unwrap();
        std::fs::rename(work.join("other"), work.join("directory/moved")).unwrap();
        std::fs::rename(work.join("directory/moved"), work.join("other")).unwrap();
        std::fs::write(work.join(format!("new {number}")), [number; 5000]).unwrap();
        subvolume::snapshot_read_only(&work, &filesystem.join(format!("generation {number}")))
    };
    // On B, from the received base, back to A.
    let first = generation(b, &b.join("base"), 1);
    let stream = Sender::new(&first)
        .parent(&b.join("base"))
        .version(2)
        .to_vec();
    let report = receive(&stream, a);
    assert!(report.fallbacks.is_none());
    assert_received(&first, &a.join("generation 1"));
    assert!(!report.subvolumes[0].clone_sources.is_empty());

    // On A, from what came back, forward again, with both as clone sources.
    let second = generation(a, &a.join("generation 1"), 2);
    let stream = Sender::new(&second)
        .parent(&a.join("generation 1"))
        .clone_source(&base)
        .version(2)
        .to_vec();
    let report = receive(&stream, b);
    assert_received(&second, &b.join("generation 2"));
    assert!(report.fallbacks.is_none());

    // With several clone sources beside the parent.
    let third = generation(b, &b.join("generation 2"), 3);
    let stream = Sender::new(&third)
        .parent(&b.join("generation 2"))
        .clone_source(&b.join("base"))
        .clone_source(&first)
        .version(2)
        .to_vec();
    receive(&stream, a);
    assert_received(&third, &a.join("generation 3"));
}

/// A file is written, its directory is renamed, another directory takes the
/// name, and the file of the same path in it is written.
fn a_descriptor_stays_with_its_inode() {
    Pair::new().carry_change(
        |work| {
            std::fs::write(work.join("foo"), files::pattern(1, 9000, false)).unwrap();
            std::fs::create_dir(work.join("d")).unwrap();
            std::fs::create_dir(work.join("z")).unwrap();
            std::fs::rename(work.join("foo"), work.join("d/foo")).unwrap();
            std::fs::write(work.join("z/foo"), files::pattern(2, 9000, false)).unwrap();
        },
        |work| {
            files::write(&work.join("d/foo"), 10, b"the old one").unwrap();
            files::write(&work.join("z/foo"), 20, b"the new one").unwrap();
            std::fs::rename(work.join("d"), work.join("e")).unwrap();
            std::fs::rename(work.join("z"), work.join("d")).unwrap();
        },
    );
}

fn an_existing_name_is_left_alone() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::write(work.join("file"), b"sent").unwrap();
    let snapshot = pair.snapshot("snapshot");
    let there = subvolume::create(&pair.received("snapshot"));
    std::fs::write(there.join("file"), b"there before").unwrap();
    let stream = Sender::new(&snapshot).to_vec();
    let error = try_receive(&stream, pair.to.path()).unwrap_err();
    assert!(error.to_string().contains("exists"), "{error}");
    assert_eq!(std::fs::read(there.join("file")).unwrap(), b"there before");
    assert_eq!(subvolume::facts(&there).received_uuid, None);
}

/// The sender's root does not change, but orphan names come and go in the
/// receiver's.
fn names_are_made_below_untouched_directories() {
    Pair::new().carry_change(
        |work| {
            std::fs::create_dir_all(work.join("a/b")).unwrap();
            std::fs::write(work.join("a/b/old"), b"old").unwrap();
            files::set_times(
                work,
                crate::support::time(100, 1),
                crate::support::time(200, 2),
            )
            .unwrap();
        },
        |work| {
            std::fs::write(work.join("a/b/new"), b"new").unwrap();
            std::fs::create_dir(work.join("a/b/c")).unwrap();
            std::fs::remove_file(work.join("a/b/old")).unwrap();
        },
    );
}

fn hard_links_change_groups() {
    Pair::new().carry_change(
        |work| {
            for name in ["a", "b"] {
                std::fs::write(work.join(name), name).unwrap();
                for number in 1..4 {
                    let link = work.join(format!("{name}{number}"));
                    files::link(&work.join(name), &link).unwrap();
                }
            }
        },
        |work| {
            for number in 1..3 {
                let (a, b) = (
                    work.join(format!("a{number}")),
                    work.join(format!("b{number}")),
                );
                files::exchange(&a, &b).unwrap();
            }
            std::fs::remove_file(work.join("a")).unwrap();
            files::link(&work.join("b3"), &work.join("a")).unwrap();
        },
    );
}

/// A chain of directories is turned upside down.
fn a_tree_turns_around() {
    Pair::new().carry_change(
        |work| {
            std::fs::create_dir_all(work.join("1/2/3/4")).unwrap();
            std::fs::write(work.join("1/2/file"), b"x").unwrap();
        },
        |work| {
            let rename = |from: &str, to: &str| {
                std::fs::rename(work.join(from), work.join(to)).unwrap();
            };
            rename("1/2/3/4", "4");
            rename("1/2/3", "4/3");
            rename("1/2", "4/3/2");
            rename("1", "4/3/2/1");
            std::fs::write(work.join("1"), b"a file now").unwrap();
        },
    );
}

/// Also where a caller begins the next one after a failed end.
fn failures_end_with_their_subvolume() {
    let to = LoopFilesystem::new();
    let mut destination = BtrfsDestination::open(to.path()).unwrap();
    let at = |offset| Position {
        offset,
        ..Position::default()
    };
    let new = |name: &'static str, uuid| {
        let name = SubvolumeName::parse(Bytes::from(name)).unwrap();
        NewSubvolume::new(name, Uuid::from_u128(uuid), 7, None)
    };
    destination.begin(&new("first", 1), at(0)).unwrap();
    for offset in 1..4 {
        let missing = path("missing");
        destination.apply(Step::new(Op::Unlink { path: missing }, at(offset)));
    }
    destination.finish(at(4)).unwrap_err();
    assert!(!subvolume::facts(&to.path().join("first")).read_only);
    destination.begin(&new("second", 2), at(5)).unwrap();
    destination.settle().unwrap();
    destination.finish(at(6)).unwrap();
    assert!(subvolume::facts(&to.path().join("second")).read_only);
}
