//! Whole streams against the walls of the subvolume, on btrfs, with both
//! resolvers: what the corpus cannot hold, since it needs a device, a
//! reader, or a tree that somebody else made.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use btrfs_receive::{BtrfsDestination, ReceiveError, Receiver, Report};
use btrfs_testkit::raw::{OWN_UUID, RawStream, attr};
use btrfs_testkit::{LoopFilesystem, Site, Test, corpus, files, subvolume, test};
use rustix::fs::{FileType, OFlags};

use crate::answer::describe;

/// Receives with the kernel's resolver, or without it.
fn receive(site: &Site, walk: bool, stream: RawStream) -> Result<Report, ReceiveError> {
    let destination = BtrfsDestination::builder().without_openat2(walk);
    let destination = destination.open(site.path()).unwrap();
    Receiver::new(destination).receive(&stream.into_bytes()[..], &mut ())
}

/// The stream fails with this cause, and leaves a writable, unstamped
/// subvolume and an untouched canary.
#[track_caller]
fn assert_refused(site: &Site, walk: bool, stream: RawStream, cause: &str) {
    let error = receive(site, walk, stream).unwrap_err();
    assert_eq!(describe(&error).0, cause, "{error}");
    assert_eq!(site.subvolumes(), Ok((0, 1)));
    site.assert_untouched();
    site.clear();
}

fn the_corpus_without_openat2(walk: bool) {
    let filesystem = LoopFilesystem::new();
    for case in corpus::load() {
        if case.layer != corpus::Layer::Confine {
            continue;
        }
        let site = Site::new(filesystem.path(), &case.name);
        let stream = RawStream::empty().bytes(&case.bytes);
        assert_refused(&site, walk, stream, &case.error);
    }
}

/// Everything that moves data, to and from `n`.
fn data_commands(made: impl Fn(u32) -> RawStream) -> Vec<RawStream> {
    let range = || [attr::file_offset(0), attr::size(4096)];
    let punch = [attr::path("n"), attr::fallocate_mode(3)];
    let block = [b'x'; 4096];
    vec![
        made(1).write("n", 0, &block),
        made(1).clone_block("n", OWN_UUID, "f"),
        made(1).clone_block("f", OWN_UUID, "n"),
        made(1).command(17, [attr::path("n"), attr::size(0)]),
        made(2).command(23, punch.into_iter().chain(range())),
        made(2).encoded("n", [4096, 4096, 0], [0, 0], &block),
    ]
}

/// A stream that makes the node of a real disk and writes to it.
fn a_disk_is_out_of_reach(walk: bool) {
    let filesystem = LoopFilesystem::new();
    let disk = LoopFilesystem::new();
    disk.sync();
    let number = fs::metadata(disk.device()).unwrap().rdev();
    // Small numbers are the same in both encodings.
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let rdev = u64::from(minor & 0xff | major << 8 | (minor & !0xff) << 12);
    let before = first_megabytes(disk.device());
    let site = Site::new(filesystem.path(), "disk");
    let made = |version: u32| {
        RawStream::new(version)
            .mkfile("f")
            .write("f", 0, &[b'f'; 4096])
            .special(5, "n", 0o60_600, rdev)
            .command(18, [attr::path("n"), attr::mode(0o666)])
    };
    for stream in data_commands(made) {
        assert_refused(&site, walk, stream.end(), "NotRegularFile");
    }
    // The node itself may be made: the sender may have had it.
    receive(&site, walk, made(1).end()).unwrap();
    let node = fs::metadata(site.path().join("s/n")).unwrap();
    assert!(node.file_type().is_block_device() && node.rdev() == number);
    assert!(first_megabytes(disk.device()) == before);
}

fn first_megabytes(device: &Path) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let device = File::open(device).unwrap();
    device.take(4 << 20).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A FIFO that a process outside has open: nothing comes out of it, and
/// without a reader nothing waits for one.
fn a_fifo_leads_nowhere(walk: bool) {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "fifo");
    let parent = subvolume::create(&site.path().join("made"));
    files::make_node(&parent.join("n"), FileType::Fifo, (0, 0)).unwrap();
    fs::write(parent.join("f"), [b'f'; 4096]).unwrap();
    subvolume::snapshot_read_only(&parent, &filesystem.path().join("parent"));
    subvolume::delete(&parent);
    let uuid = uuid_of(&filesystem.path().join("parent"));
    let made = |version: u32| incremental(version, "s", uuid);
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(filesystem.path().join("parent/n"))
        .unwrap();
    for stream in data_commands(made) {
        assert_refused(&site, walk, stream.end(), "NotRegularFile");
    }
    let mut buffer = [0; 16];
    assert_eq!(rustix::io::read(&reader, &mut buffer), Ok(0));
}

/// Owner, mode, times and attributes are set without opening what could
/// block, rewind or print a page.
fn special_files_are_not_opened(walk: bool) {
    /// The number of MKSOCK.
    const SOCKET: u16 = 7;
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "special");
    let kinds = [
        (5, 0o60_600, corpus::NO_DEVICE),
        (5, 0o20_600, corpus::NO_DEVICE),
        (6, 0o10_600, 0),
        (SOCKET, 0o140_600, 0),
    ];
    for (number, mode, rdev) in kinds {
        let path = || attr::path("n");
        let xattr = |name: &str| [path(), attr::xattr_name(name), attr::xattr_data("x")];
        let stream = RawStream::new(2)
            .special(number, "n", mode, rdev)
            .command(19, [path(), attr::uid(1), attr::gid(2)])
            .command(18, [path(), attr::mode(0o640)])
            .command(24, [path(), attr::fileattr(0x10)])
            .command(13, xattr("trusted.x"))
            .utimes("n", 5, 6);
        receive(&site, walk, stream.clone().end()).unwrap();
        let meta = fs::symlink_metadata(site.path().join("s/n")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mtime()), (1, 2, 5));
        assert_eq!(meta.mode() & 0o7777, 0o640);
        site.clear();
        let stream = stream.command(13, xattr("user.x")).end();
        if number == SOCKET && receive(&site, walk, stream.clone()).is_ok() {
            // Linux 7.2 has such attributes on sockets.
            site.clear();
            continue;
        }
        site.clear();
        // Refused by the kernel; what is tried then must not open it either.
        assert_refused(&site, walk, stream, "System.PermissionDenied");
    }
}

/// The parent was made by somebody else, and is full of traps.
fn a_hostile_parent_leads_nowhere(walk: bool) {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "parent");
    let work = subvolume::create(&filesystem.path().join("work"));
    let outside = site.path().join("canary");
    let link = |target: &Path, name: &str| {
        symlink(target, work.join(name)).unwrap();
    };
    link(&outside, "absolute");
    link(Path::new("../parent/canary"), "relative");
    link(Path::new("/proc/self/cwd"), "magic");
    link(Path::new("/proc/self/root"), "root");
    link(Path::new("loop"), "loop");
    fs::write(work.join("f"), [b'f'; 4096]).unwrap();
    subvolume::create(&work.join("nested"));
    let parent = filesystem.path().join("snapshot");
    subvolume::snapshot_read_only(&work, &parent);
    let uuid = uuid_of(&parent);
    for name in ["absolute", "relative", "magic", "root", "loop"] {
        let path = format!("{name}/file");
        let start = || incremental(1, "s", uuid);
        for stream in [
            start().mkfile(&path),
            start().write(&path, 0, b"x"),
            start().rename("f", &path),
            start().rename(&path, "g"),
            start().command(10, [attr::path(&path), attr::path_link("f")]),
            start().command(11, [attr::path(&path)]),
            start().clone_block("f", OWN_UUID, &path),
            start().clone_block("f", uuid, &path),
        ] {
            assert_refused(&site, walk, stream.end(), "Escape");
        }
        for stream in [
            start().write(name, 0, b"x"),
            start().clone_block("f", uuid, name),
            start().command(17, [attr::path(name), attr::size(0)]),
        ] {
            assert_refused(&site, walk, stream.end(), "NotRegularFile");
        }
    }
    // The stub that a snapshot has in place of a nested subvolume.
    let stub = incremental(1, "s", uuid).mkfile("nested/f").end();
    let error = receive(&site, walk, stub).unwrap_err();
    assert_eq!(site.subvolumes(), Ok((0, 1)), "{error}");
    site.clear();
}

/// Paths that no single call takes are legal, and work.
fn paths_over_path_max_arrive(walk: bool) {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "deep");
    let mut stream = RawStream::new(1);
    let mut path = String::new();
    for depth in 0..20 {
        path += &format!("{}{depth:0>250}", if depth > 0 { "/" } else { "" });
        stream = stream.mkdir(&path);
    }
    path += "/f";
    assert!(path.len() > 5000);
    let stream = stream
        .mkfile(&path)
        .write(&path, 0, b"deep")
        .utimes(&path, 1, 0)
        .end();
    receive(&site, walk, stream).unwrap();
    let tree = btrfs_testkit::Tree::read(&site.path().join("s"));
    assert!(tree.get(&path).is_some());
    site.clear();
    let long = "n".repeat(256);
    for path in [long.clone(), format!("{long}/f"), format!("{path}/{long}")] {
        let stream = RawStream::new(1).mkfile(path).end();
        receive(&site, walk, stream).unwrap_err();
        assert_eq!(site.subvolumes(), Ok((0, 1)));
        site.clear();
    }
}

/// SNAPSHOT of the subvolume with this UUID.
pub(crate) fn incremental(version: u32, name: &str, parent: [u8; 16]) -> RawStream {
    let attributes = [
        attr::path(name),
        attr::uuid(OWN_UUID),
        attr::ctransid(5),
        attr::clone_uuid(parent),
        attr::clone_ctransid(5),
    ];
    RawStream::header(version).command(2, attributes)
}

/// The UUID of a subvolume, as a stream carries it.
pub(crate) fn uuid_of(path: &Path) -> [u8; 16] {
    let text = subvolume::facts(path).uuid;
    let uuid: btrfs_sendstream::Uuid = text.parse().unwrap();
    uuid.into_bytes()
}

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for without_openat2 in [false, true] {
        if without_openat2 {
            tests.push(test!(the_corpus_without_openat2, without_openat2));
        }
        tests.extend([
            test!(a_disk_is_out_of_reach, without_openat2),
            test!(a_fifo_leads_nowhere, without_openat2),
            test!(special_files_are_not_opened, without_openat2),
            test!(a_hostile_parent_leads_nowhere, without_openat2),
            test!(paths_over_path_max_arrive, without_openat2),
        ]);
    }
    tests
}
