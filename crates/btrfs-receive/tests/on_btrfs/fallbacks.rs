//! What the destination refuses is done another way, and counted; what
//! cannot be kept is an error.

use std::path::Path;

use btrfs_receive::btrfs_sendstream::{Command, EncodedWrite, Item, Reader};
use btrfs_receive::{
    BtrfsDestination, BtrfsDestinationBuilder, Cause, Fallbacks, ReceiveError, Receiver, Report,
};
use btrfs_testkit::{LoopFilesystem, Sender, Test, files, subvolume, test};

use crate::fidelity::{xattr, zlib};
use crate::support::{
    Extent, Pair, Script, receive, refuses_compression_of_nocow, takes_encoded_writes, try_receive,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(encoded_data_for_nocow_files_is_decoded),
        test!(encoded_data_of_other_sectors_is_decoded).needs_version(2),
        test!(encoded_data_off_the_sectors_is_decoded),
        test!(data_that_does_not_decode_is_found_on_request).needs_version(2),
        test!(clones_between_nocow_and_other_files_are_copied),
        test!(clones_off_the_sectors_are_copied),
        test!(clones_of_what_is_not_there_are_errors),
        test!(compression_of_nocow_files_is_counted),
        test!(nocow_of_files_with_content_is_counted),
        test!(attributes_that_cannot_be_kept_are_errors),
        test!(a_file_that_gets_no_new_name_keeps_the_old_one),
    ]
}

const NODATACOW: u64 = 1 << 1;

fn receive_with(
    builder: BtrfsDestinationBuilder,
    stream: &[u8],
    into: &Path,
) -> Result<Report, ReceiveError> {
    Receiver::new(builder.open(into).unwrap()).receive(stream, &mut ())
}

#[track_caller]
fn assert_fallbacks(report: &Report, expected: impl FnOnce(&mut Fallbacks)) {
    let mut fallbacks = Fallbacks::default();
    expected(&mut fallbacks);
    assert_eq!(report.fallbacks, fallbacks);
}

/// One extent of zlib data, which decodes to `plain` and zeros.
fn extent(offset: u64, len: u64) -> Extent {
    Extent {
        offset,
        file_len: len,
        len,
        skip: 0,
        compression: 1,
    }
}

fn encoded_data_for_nocow_files_is_decoded() {
    let to = LoopFilesystem::new();
    let plain = files::pattern(1, 65_536, true);
    let stream = Script::full("received")
        .file("nocow")
        .attributes("nocow", NODATACOW)
        .encoded("nocow", &extent(0, 65_536), &zlib(&plain))
        .file("other")
        .encoded("other", &extent(0, 65_536), &zlib(&plain))
        .end();
    let report = receive(&stream, to.path());
    let decoded = if takes_encoded_writes() { 1 } else { 2 };
    assert_fallbacks(&report, |f| f.encoded_writes_decoded = decoded);
    for name in ["nocow", "other"] {
        let path = to.path().join("received").join(name);
        assert!(std::fs::read(path).unwrap() == plain, "{name}");
    }
}

/// LZO data says how large the sectors are that it was made of.
fn encoded_data_of_other_sectors_is_decoded() {
    let pair = Pair::new();
    let path = pair.work().join("lzo");
    let plain = files::pattern(1, 8192, true);
    files::make_file(&path).unwrap();
    files::set_xattr(&path, "btrfs.compression", b"lzo").unwrap();
    files::write(&path, 0, &plain).unwrap();
    let stream = Sender::new(&pair.snapshot("snapshot"))
        .version(2)
        .compressed()
        .to_vec();
    let sent = encoded_writes(&stream);
    let [write] = &sent[..] else {
        panic!("{} encoded writes", sent.len());
    };
    assert_eq!(write.compression, Some(3), "LZO of 4096-byte sectors");
    let extent = Extent {
        offset: write.offset,
        file_len: write.unencoded_file_len,
        len: write.unencoded_len,
        skip: write.unencoded_offset,
        compression: 4,
    };
    let stream = Script::full("received")
        .file("file")
        .encoded("file", &extent, &write.data)
        .end();
    let report = receive(&stream, pair.to.path());
    assert_fallbacks(&report, |f| f.encoded_writes_decoded = 1);
    let found = std::fs::read(pair.received("received/file")).unwrap();
    assert!(found == plain);
}

/// The encoded writes of a stream.
fn encoded_writes(stream: &[u8]) -> Vec<EncodedWrite> {
    let mut reader = Reader::new(stream);
    let mut found = Vec::new();
    while let Some(item) = reader.next_owned().unwrap() {
        if let Item::Command(Command::EncodedWrite(write)) = item {
            found.push(write);
        }
    }
    found
}

/// Older kernels send them, for files with inline extents that grew.
fn encoded_data_off_the_sectors_is_decoded() {
    let to = LoopFilesystem::new();
    let plain = files::pattern(1, 20_000, true);
    let stream = Script::full("received")
        .file("file")
        .write("file", 0, &[9; 100])
        .encoded("file", &extent(100, 20_000), &zlib(&plain))
        .write("file", 20_100, &[8; 30_000])
        .encoded("file", &extent(4096, 10_000), &zlib(&plain[..10_000]))
        .end();
    let report = receive(&stream, to.path());
    assert_fallbacks(&report, |f| f.encoded_writes_decoded = 2);
    let mut expected = [&[9; 100][..], &plain, &[8; 30_000]].concat();
    expected[4096..14_096].copy_from_slice(&plain[..10_000]);
    let found = std::fs::read(to.path().join("received/file")).unwrap();
    assert!(found == expected);
}

fn data_that_does_not_decode_is_found_on_request() {
    let to = LoopFilesystem::new();
    let stream = |name| {
        Script::full(name)
            .file("file")
            .encoded("file", &extent(0, 65_536), b"this is not zlib data at all")
            .end()
    };
    // The kernel takes it, and reading it will fail.
    receive(&stream("passed"), to.path());
    std::fs::read(to.path().join("passed/file")).unwrap_err();
    for (name, builder) in [
        ("checked", BtrfsDestination::builder().check_encoded(true)),
        (
            "decoded",
            BtrfsDestination::builder().force_decompress(true),
        ),
    ] {
        let error = receive_with(builder, &stream(name), to.path()).unwrap_err();
        let cause = error.first_failure.unwrap().cause;
        assert!(matches!(*cause, Cause::Undecodable(_)), "{name}: {cause}");
        let facts = subvolume::facts(&to.path().join(name));
        assert_eq!((facts.read_only, facts.received_uuid), (false, None));
    }
}

fn clones_between_nocow_and_other_files_are_copied() {
    let to = LoopFilesystem::new();
    let data = files::pattern(1, 600_000, false);
    let stream = Script::full("received")
        .file("cow")
        .write("cow", 0, &data[..100_000])
        .write("cow", 200_000, &data[200_000..300_000])
        .truncate("cow", 700_000)
        .file("nocow")
        .attributes("nocow", NODATACOW)
        .write("nocow", 0, &[7; 300_000][..130_000])
        .clone_own("cow", "nocow", (0, 4096, 700_000))
        .file("from nocow")
        .clone_own("nocow", "from nocow", (0, 0, 65_536))
        .file("nocow too")
        .attributes("nocow too", NODATACOW)
        .clone_own("nocow", "nocow too", (0, 0, 65_536))
        .end();
    let report = receive(&stream, to.path());
    assert_fallbacks(&report, |f| f.clones_copied = 2);
    let read = |name| std::fs::read(to.path().join("received").join(name)).unwrap();
    let cow = read("cow");
    let expected = [&[7; 4096][..], &cow].concat();
    assert!(read("nocow") == expected);
    for name in ["from nocow", "nocow too"] {
        assert!(read(name) == expected[..65_536], "{name}");
    }
    // Holes are copied as holes.
    let copy = std::fs::metadata(to.path().join("received/nocow")).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&copy);
    assert!(blocks * 512 < 400_000, "{blocks} blocks");
}

fn clones_off_the_sectors_are_copied() {
    let to = LoopFilesystem::new();
    let data = files::pattern(1, 50_000, false);
    let stream = Script::full("received")
        .file("source")
        .write("source", 0, &data)
        .file("copy")
        .clone_own("source", "copy", (100, 0, 10_000))
        .clone_own("source", "copy", (0, 10_000, 30_001))
        .clone_own("copy", "copy", (0, 45_000, 5000))
        // Ends where the source ends, in the middle of the destination.
        .clone_own("source", "source", (0, 0, 0))
        .file("long")
        .write("long", 0, &[5; 60_000][..])
        .clone_own("source", "long", (40_960, 40_960, 50_000 - 40_960))
        .end();
    let report = receive(&stream, to.path());
    assert_fallbacks(&report, |f| f.clones_copied = 4);
    let read = |name| std::fs::read(to.path().join("received").join(name)).unwrap();
    let mut copy = [&data[100..10_100], &data[..30_001]].concat();
    copy.resize(45_000, 0);
    copy.extend_from_within(..5000);
    assert!(read("copy") == copy);
    let long = [&[5; 40_960], &data[40_960..], &[5; 10_000]].concat();
    assert!(read("long") == long);
}

fn clones_of_what_is_not_there_are_errors() {
    let to = LoopFilesystem::new();
    for (name, range) in [
        ("past the end", (0, 0, 8192)),
        ("behind the end", (65_536, 0, 4096)),
        ("overlapping", (0, 1000, 4000)),
    ] {
        let stream = Script::full(name)
            .file("file")
            .write("file", 0, &[1; 5000])
            .file("other")
            .clone_own(
                "file",
                if name == "overlapping" {
                    "file"
                } else {
                    "other"
                },
                range,
            )
            .end();
        let error = try_receive(&stream, to.path()).unwrap_err();
        assert!(error.to_string().contains("clone"), "{error}");
        assert_eq!(error.report.finished, 0, "{name}");
    }
}

fn compression_of_nocow_files_is_counted() {
    let to = LoopFilesystem::new();
    let stream = Script::full("received")
        .file("file")
        .attributes("file", NODATACOW)
        .write("file", 0, b"content")
        .xattr("file", "btrfs.compression", b"zstd")
        .directory("directory")
        .attributes("directory", NODATACOW)
        .xattr("directory", "btrfs.compression", b"zstd")
        .end();
    let report = receive(&stream, to.path());
    let refuses = refuses_compression_of_nocow(&to);
    assert_fallbacks(&report, |f| {
        f.compression_refused = if refuses { 2 } else { 0 };
    });
    for name in ["file", "directory"] {
        let path = to.path().join("received").join(name);
        assert_eq!(xattr(&path, "btrfs.compression").is_none(), refuses);
    }
}

fn nocow_of_files_with_content_is_counted() {
    let to = LoopFilesystem::new();
    let stream = Script::full("received")
        .file("file")
        .write("file", 0, &[1; 10_000])
        .attributes("file", NODATACOW)
        .end();
    let report = receive(&stream, to.path());
    assert_fallbacks(&report, |f| f.flags_refused = 1);
}

fn attributes_that_cannot_be_kept_are_errors() {
    let to = LoopFilesystem::new();
    for (index, (name, value)) in [
        ("nonsense.name", &b"x"[..]),
        ("btrfs.compression", b"nonsense"),
        ("btrfs.nonsense", b"x"),
        ("user.too large", &[1; 20_000]),
        ("system.posix_acl_access", b"nonsense"),
    ]
    .into_iter()
    .enumerate()
    {
        for path in ["file", "directory", ""] {
            let received = format!("{index} {path}");
            let stream = Script::full(&received)
                .file("file")
                .directory("directory")
                .xattr(path, name, value)
                .end();
            let error = try_receive(&stream, to.path()).unwrap_err();
            assert!(error.to_string().contains("set_xattr"), "{error}");
            let facts = subvolume::facts(&to.path().join(received));
            assert_eq!((facts.read_only, facts.received_uuid), (false, None));
        }
    }
}

fn a_file_that_gets_no_new_name_keeps_the_old_one() {
    let to = LoopFilesystem::new();
    let stream = Script::full("received")
        .file("old")
        .file("taken")
        .write("old", 0, b"the only name")
        .link("old", "taken")
        .unlink("old")
        .end();
    let error = try_receive(&stream, to.path()).unwrap_err();
    let failure = error.first_failure.unwrap();
    assert_eq!((failure.operation, failure.at.command), ("link", 5));
    let old = std::fs::read(to.path().join("received/old")).unwrap();
    assert_eq!(old, b"the only name");
}
