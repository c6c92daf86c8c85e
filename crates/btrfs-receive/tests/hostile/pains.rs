//! What went wrong for people with other receivers, as streams. The rows of
//! `docs/threats.md` name these tests.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_receive::{BtrfsDestination, Options, ReceiveError, Receiver, Report};
use btrfs_testkit::raw::{OWN_UUID, RawStream, UNKNOWN_UUID, attr};
use btrfs_testkit::{LoopFilesystem, Sender, Site, Test, files, subvolume, test};

use crate::answer::describe;
use crate::confine::incremental;
use crate::receive;

fn receive(
    directory: &Path,
    options: Options,
    stream: RawStream,
) -> Result<Report, Box<ReceiveError>> {
    let destination = BtrfsDestination::open(directory).unwrap();
    let mut receiver = Receiver::with_options(destination, options);
    let result = receiver.receive(&stream.into_bytes()[..], &mut ());
    result.map_err(Box::new)
}

fn tolerant(max_errors: u64, stop_at_end: bool) -> Options {
    let mut options = Options::default();
    options.max_errors = max_errors;
    options.stop_at_end = stop_at_end;
    options
}

/// Two directories change places between writes to "the same" path.
fn writes_follow_inodes_not_paths() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "renames");
    let stream = RawStream::new(1)
        .mkdir("d")
        .mkdir("z")
        .mkfile("d/foo")
        .mkfile("z/foo")
        .write("d/foo", 0, b"one")
        .rename("d", "e")
        .rename("z", "d")
        .write("d/foo", 0, b"two")
        .end();
    receive::receive(&site, stream).unwrap();
    let read = |path: &str| fs::read(site.path().join("s").join(path)).unwrap();
    assert_eq!(
        (read("e/foo"), read("d/foo")),
        (b"one".into(), b"two".into())
    );
}

/// Two copies have one received UUID; only the second lies where it can be
/// reached by a path.
fn every_holder_of_a_uuid_is_considered() {
    let filesystem = LoopFilesystem::new();
    let far = Site::new(filesystem.path(), "far");
    let inner = subvolume::create(&filesystem.path().join("inner"));
    let full = || RawStream::new(1).mkfile("f").write("f", 0, b"parent").end();
    receive::receive(&far, full()).unwrap();
    let near = Site::new(&inner, "near");
    receive::receive(&near, full()).unwrap();
    let mount = filesystem.mount("subvol=inner");
    let destination = mount.path().join("near");
    let next = || incremental(1, "t", OWN_UUID).mkfile("g").end();
    receive(&destination, Options::default(), next()).unwrap();
    assert_eq!(fs::read(destination.join("t/f")).unwrap(), b"parent");
    subvolume::delete(&destination.join("t"));
    // The first one gone, the second one left; and the other way round.
    far.clear();
    receive(&destination, Options::default(), next()).unwrap();
}

/// A failed clone was an empty file in a complete subvolume.
fn an_unreachable_clone_source_is_fatal() {
    let filesystem = LoopFilesystem::new();
    for max_errors in [1, 0] {
        let site = Site::new(filesystem.path(), &format!("clone{max_errors}"));
        let stream = RawStream::new(1)
            .mkfile("f")
            .clone_block("f", UNKNOWN_UUID, "f")
            .end();
        let error = receive(site.path(), tolerant(max_errors, false), stream).unwrap_err();
        assert_eq!(describe(&error).0, "NoSource", "{error}");
        assert_eq!(site.subvolumes(), Ok((0, 1)));
    }
}

/// The power fails the instant the receive is over: the image lies on another
/// btrfs, and a reflink copy of it is the disk at that moment.
fn a_power_cut_right_after_loses_nothing() {
    let outer = LoopFilesystem::builder().size(3 << 30).build();
    let inner = LoopFilesystem::builder().directory(outer.path()).build();
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    for index in 0..200 {
        let content = files::pattern(index, 60_000, false);
        fs::write(work.join(format!("file{index}")), content).unwrap();
    }
    let sent = subvolume::snapshot_read_only(&work, &from.path().join("s"));
    let stream = RawStream::empty().bytes(&Sender::new(&sent).to_vec());
    receive(inner.path(), Options::default(), stream).unwrap();
    let cut = outer.path().join("cut");
    files::reflink(inner.image(), &cut).unwrap();
    // Linux before 6.7 does not mount a copy of a filesystem that is mounted.
    drop(inner);
    let after = LoopFilesystem::builder().existing_image(&cut).build();
    let received = after.path().join("s");
    assert!(subvolume::facts(&received).read_only);
    assert!(subvolume::facts(&received).received_uuid.is_some());
    btrfs_testkit::assert_same_tree(&sent, &received);
}

/// What the subvolume's root has passed to every inode made in it.
fn nothing_leaks_from_the_root() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "leak");
    let set = |stream: RawStream, name: &str, value: &[u8]| {
        let attributes = [
            attr::path(""),
            attr::xattr_name(name),
            attr::xattr_data(value),
        ];
        stream.command(13, attributes)
    };
    let acl = files::acl(1234, 7);
    let stream = set(RawStream::new(1), "system.posix_acl_default", &acl);
    let stream = set(stream, "btrfs.compression", b"zstd")
        .mkdir("d")
        .mkfile("f")
        .mkfile("d/f")
        .end();
    receive::receive(&site, stream).unwrap();
    let tree = btrfs_testkit::Tree::read(&site.path().join("s"));
    for (path, entry) in &tree.entries {
        assert_eq!(
            entry.xattrs.is_empty(),
            !path.is_empty(),
            "{path:?}: {entry:?}"
        );
    }
    // The next one inherits the attributes of its parent's root.
    let next = incremental(1, "t", OWN_UUID).mkfile("g").end();
    receive::receive(&site, next).unwrap();
    let tree = btrfs_testkit::Tree::read(&site.path().join("t"));
    assert!(tree.get("g").unwrap().xattrs.is_empty());
    assert_eq!(tree.get("").unwrap().xattrs.len(), 2);
}

/// It never ended.
fn damage_ends_the_receive_whatever_the_budget() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "budget");
    let whole = RawStream::new(1).mkfile("f").here().write("f", 0, b"data");
    for stream in [whole.clone().cut(0), whole.clone().cut(20), whole.flip(30)] {
        for stop_at_end in [false, true] {
            let options = tolerant(0, stop_at_end);
            let error = receive(site.path(), options, stream.clone()).unwrap_err();
            assert_eq!(describe(&error).0, "stream", "{error}");
            assert_eq!(site.subvolumes(), Ok((0, 1)));
            site.clear();
        }
    }
}

/// With `-e` the errors of `-E 0` were forgotten.
fn errors_stick_to_their_subvolume() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "sticky");
    for (max_errors, stop_at_end) in [(0, true), (0, false), (5, true), (5, false)] {
        let stream = RawStream::new(1)
            .mkfile("f")
            .write("missing", 0, b"x")
            .write("f", 0, b"data")
            .end();
        let options = tolerant(max_errors, stop_at_end);
        receive(site.path(), options, stream).unwrap_err();
        assert_eq!(site.subvolumes(), Ok((0, 1)));
        // The budget does serve its purpose: what followed was applied.
        assert_eq!(fs::read(site.path().join("s/f")).unwrap(), b"data");
        site.clear();
    }
}

/// One failed subvolume of several does not keep the others from being
/// finished, nor do they make it whole.
fn a_failed_subvolume_fails_alone() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "several");
    let stream = RawStream::new(1)
        .mkfile("f")
        .command(1, [attr::path("t"), attr::uuid([1; 16]), attr::ctransid(1)])
        .write("missing", 0, b"x")
        .command(1, [attr::path("u"), attr::uuid([2; 16]), attr::ctransid(1)])
        .mkfile("f")
        .end();
    receive(site.path(), tolerant(0, false), stream).unwrap_err();
    assert_eq!(site.subvolumes(), Ok((2, 1)));
    assert!(!subvolume::facts(&site.path().join("t")).read_only);
}

/// What followed a SUBVOL that failed went into the subvolume that has that
/// name already.
fn an_existing_subvolume_is_never_touched() {
    let filesystem = LoopFilesystem::new();
    for (max_errors, stop_at_end) in [(1, false), (5, false), (0, false), (0, true)] {
        let site = Site::new(filesystem.path(), &format!("e{max_errors}{stop_at_end}"));
        let mine = subvolume::create(&site.path().join("s"));
        fs::write(mine.join("f"), b"mine").unwrap();
        for stream in [RawStream::new(1), incremental(1, "s", UNKNOWN_UUID)] {
            let stream = stream
                .write("f", 0, b"stream")
                .command(11, [attr::path("f")])
                .command(18, [attr::path(""), attr::mode(0)])
                .end();
            let options = tolerant(max_errors, stop_at_end);
            receive(site.path(), options, stream).unwrap_err();
            assert_eq!(fs::read(mine.join("f")).unwrap(), b"mine");
            assert_eq!(site.subvolumes(), Ok((0, 1)));
        }
    }
}

/// They were skipped without a word.
fn unknown_commands_are_refused() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "unknown");
    let stream = || RawStream::new(2).mkfile("f").here().command(60, []).end();
    for max_errors in [1, 0] {
        let error = receive(site.path(), tolerant(max_errors, false), stream()).unwrap_err();
        assert_eq!(describe(&error), ("stream".to_owned(), stream().marked()));
        assert_eq!(site.subvolumes(), Ok((0, 1)));
        site.clear();
    }
    let mut options = Options::default();
    options.allow_unknown = true;
    receive(site.path(), options, stream()).unwrap();
}

/// Files that share ranges within the subvolume came out empty (rustutils).
fn clones_within_the_subvolume_work() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "self");
    let block: Vec<u8> = (0..4096_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    let stream = RawStream::new(1)
        .mkfile("o300-5-0")
        .write("o300-5-0", 0, &block)
        .mkfile("f")
        .clone_block("f", OWN_UUID, "o300-5-0")
        .rename("o300-5-0", "g")
        .clone_range("f", 4096, 4096, (OWN_UUID, b"g", 0))
        .end();
    receive::receive(&site, stream).unwrap();
    let found = fs::read(site.path().join("s/f")).unwrap();
    assert!(found == [&block[..], &block].concat());
}

/// They were dropped, with exit status 0 (rustutils).
fn names_are_bytes() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "bytes");
    let every_byte: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let stream = RawStream::header(1)
        .subvol(b"s\xff\n\x1b")
        .mkfile(&every_byte[..127])
        .mkfile(&every_byte[127..])
        .symlink(b"\xfe", b"\xfd\xfc")
        .end();
    receive::receive(&site, stream).unwrap();
    let root = site
        .path()
        .join(std::ffi::OsStr::from_bytes(b"s\xff\n\x1b"));
    let tree = btrfs_testkit::Tree::read(&root);
    assert_eq!(tree.entries.len(), 4);
    assert!(tree.get(&every_byte[127..]).is_some());
}

/// A subvolume whose stream ended without END was stamped (rustutils).
fn without_end_nothing_is_finished() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "end");
    let error = receive::receive(&site, RawStream::new(1).mkfile("f")).unwrap_err();
    assert_eq!(describe(&error).0, "stream");
    assert_eq!(site.subvolumes(), Ok((0, 1)));
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(writes_follow_inodes_not_paths),
        test!(every_holder_of_a_uuid_is_considered),
        test!(an_unreachable_clone_source_is_fatal),
        test!(a_power_cut_right_after_loses_nothing),
        test!(nothing_leaks_from_the_root),
        test!(damage_ends_the_receive_whatever_the_budget),
        test!(errors_stick_to_their_subvolume),
        test!(a_failed_subvolume_fails_alone),
        test!(an_existing_subvolume_is_never_touched),
        test!(unknown_commands_are_refused),
        test!(clones_within_the_subvolume_work),
        test!(names_are_bytes),
        test!(without_end_nothing_is_finished),
    ]
}
