//! What arrives is what was sent, field by field: the sample tree with every
//! known case, and random histories.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_sendstream::inspect::{self, InodeKind};
use btrfs_sendstream::{Command, Item, Reader};
use btrfs_testkit::history::{Differential, Mode};
use btrfs_testkit::{
    Builder, Compared, Entry, Kind, LoopFilesystem, Sample, Sender, Time, Tree,
    assert_same_tree_in, subvolume, test,
};
use rustix::fs::{major, minor};

/// Receives a stream into a directory.
fn receive(stream: &[u8], directory: &Path) -> Result<(), String> {
    let destination = BtrfsDestination::open(directory).map_err(|error| error.to_string())?;
    let outcome = Receiver::new(destination).receive(stream, &mut ());
    outcome.map(drop).map_err(|error| format!("{error:?}"))
}

fn fields() -> Compared {
    Compared {
        atime: true,
        ..Compared::default()
    }
}

fn the_sample_arrives(mode: Mode) {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let (first, second) = sent_sample(&from);
    for sender in [Sender::new(&first), Sender::new(&second).parent(&first)] {
        let stream = mode.apply(sender).to_vec();
        receive(&stream, to.path()).unwrap();
    }
    for snapshot in [first, second] {
        let received = to.path().join(snapshot.file_name().unwrap());
        assert_same_tree_in(&snapshot, &received, &fields());
        let (sent, received) = (subvolume::facts(&snapshot), subvolume::facts(&received));
        assert!(received.read_only);
        assert_eq!(received.received_uuid, Some(sent.uuid));
    }
}

fn random_histories_arrive() {
    Differential::new(receive).run();
}

fn random_histories_arrive_from_a_compressed_filesystem() {
    let source = LoopFilesystem::builder().mount_options("compress-force=zstd");
    Differential::new(receive)
        .modes(&[Mode::Compressed])
        .filesystems(source, LoopFilesystem::builder())
        .run();
}

/// Receives a stream, and compares what arrives with the tree that the streams up to
/// this one describe.
fn receive_what_is_described(
    stream: &[u8],
    directory: &Path,
    tree: &mut inspect::Tree,
) -> Result<(), String> {
    receive(stream, directory)?;
    let mut reader = Reader::new(stream);
    while let Some(item) = reader.next_item().map_err(|error| error.to_string())? {
        let Item::Command(command) = item else {
            continue;
        };
        if matches!(command, Command::Subvol { .. }) {
            *tree = inspect::Tree::new(1 << 30);
        }
        tree.apply(&command).map_err(|error| error.to_string())?;
    }
    let subvolume = tree.subvolume().ok_or("no subvolume")?;
    let name = OsStr::from_bytes(subvolume.name.as_bytes());
    let received = Tree::read(&directory.join(name));
    let mut described = 0;
    for entry in tree.entries() {
        described += 1;
        let path = entry.path.escape_ascii();
        let found = received.get(&entry.path);
        let found = found.ok_or_else(|| format!("{path} did not arrive"))?;
        if !is_described(&entry, found) {
            return Err(format!("{path}: {entry:?}, and {found:?} arrived"));
        }
    }
    let arrived = received.entries.len();
    if described == arrived {
        Ok(())
    } else {
        Err(format!("{described} paths, and {arrived} arrived"))
    }
}

fn is_described(entry: &inspect::TreeEntry, found: &Entry) -> bool {
    let kind = match (entry.kind, entry.device) {
        (InodeKind::File, None) => Kind::File,
        (InodeKind::Directory, None) => Kind::Directory,
        (InodeKind::Symlink, None) => Kind::Symlink,
        (InodeKind::Fifo, None) => Kind::Fifo,
        (InodeKind::Socket, None) => Kind::Socket,
        (InodeKind::Device, Some(device)) if device.block => Kind::BlockDevice,
        (InodeKind::Device, Some(_)) => Kind::CharDevice,
        _ => return false,
    };
    let number = entry.device.map_or((0, 0), |it| (it.major, it.minor));
    let mtime = entry.mtime.map(|it| Time {
        seconds: it.seconds,
        nanoseconds: it.nanoseconds,
    });
    let is_file = kind == Kind::File;
    let is_symlink = kind == Kind::Symlink;
    kind == found.kind
        && u64::from(entry.links) == found.links
        && entry.size == is_file.then_some(found.size)
        && entry.mode == (!is_symlink).then_some(found.mode)
        && entry.uid == Some(found.uid.into())
        && entry.gid == Some(found.gid.into())
        && mtime == Some(found.mtime)
        && entry.target.as_deref() == is_symlink.then_some(&found.target[..])
        && number == (major(found.rdev), minor(found.rdev))
}

fn the_sample_is_what_is_described(mode: Mode) {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let (first, second) = sent_sample(&from);
    let mut tree = inspect::Tree::new(1 << 30);
    for sender in [Sender::new(&first), Sender::new(&second).parent(&first)] {
        let stream = mode.apply(sender).to_vec();
        receive_what_is_described(&stream, to.path(), &mut tree).unwrap();
    }
}

fn random_histories_are_what_is_described() {
    let tree = RefCell::new(inspect::Tree::new(0));
    Differential::new(move |stream, directory| {
        receive_what_is_described(stream, directory, &mut tree.borrow_mut())
    })
    .run();
}

/// A destination that was made, or is mounted, in another way than most.
fn other(case: &str) -> Builder {
    // Two histories and the sample fit; sparse.
    let builder = LoopFilesystem::builder().size(4 << 30);
    match case {
        "block group tree" => builder.block_group_tree(),
        "no free space tree" => builder.mkfs(["-R", "^free-space-tree"]),
        "two devices" => builder.mirrored(),
        "a seed device" => builder.sprouted(),
        "mixed groups" => builder.mkfs(["--mixed", "--nodesize", "4096"]),
        "xxhash" | "sha256" | "blake2" => builder.mkfs(["--checksum", case]),
        "nodes of 4 KiB" => builder.nodesize(4096),
        "nodes of 64 KiB" => builder.nodesize(65_536),
        "holes as extents" => builder.features("^no-holes"),
        options => builder.mount_options(options),
    }
}

fn the_sample_arrives_on(to: LoopFilesystem, compared: &Compared) {
    let from = LoopFilesystem::new();
    let (first, second) = sent_sample(&from);
    for sender in [Sender::new(&first), Sender::new(&second).parent(&first)] {
        let stream = Mode::Compressed.apply(sender).to_vec();
        receive(&stream, to.path()).unwrap();
    }
    for snapshot in [first, second] {
        let received = to.path().join(snapshot.file_name().unwrap());
        assert_same_tree_in(&snapshot, &received, compared);
    }
}

/// Each of them gets the sample, and histories.
fn arrives_on(case: &str) {
    let nodatacow = case.starts_with("nodata");
    let mut compared = fields();
    if nodatacow {
        // Files without checksums do not take the attribute.
        compared.without_xattrs = vec![b"btrfs.compression".to_vec()];
    }
    let mut source = LoopFilesystem::builder().size(4 << 30);
    if ["nodes of 4 KiB", "mixed groups"].contains(&case) {
        // Such nodes hold no name or link as long as those of the sample.
        source = source.nodesize(4096);
    } else {
        the_sample_arrives_on(other(case).build(), &compared);
    }
    Differential::new(receive)
        .modes(&[Mode::Compressed])
        .compared(compared)
        .filesystems(source, other(case))
        .one_in(10)
        .run();
}

/// The sample as `first`, and changed as `second`.
fn sent_sample(from: &LoopFilesystem) -> (PathBuf, PathBuf) {
    let work = subvolume::create(&from.path().join("work"));
    Sample::default().build(&work);
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    Sample::default().change(&work);
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    (first, second)
}

fn main() -> ExitCode {
    btrfs_testkit::main([
        test!(the_sample_arrives, Mode::V1),
        test!(the_sample_arrives, Mode::V2),
        test!(the_sample_arrives, Mode::Compressed),
        test!(random_histories_arrive),
        test!(the_sample_is_what_is_described, Mode::V1),
        test!(the_sample_is_what_is_described, Mode::V2),
        test!(the_sample_is_what_is_described, Mode::Compressed),
        test!(random_histories_are_what_is_described),
        test!(random_histories_arrive_from_a_compressed_filesystem),
        test!(arrives_on, "block group tree").needs_block_group_tree(),
        test!(arrives_on, "no free space tree"),
        test!(arrives_on, "two devices"),
        test!(arrives_on, "a seed device"),
        test!(arrives_on, "mixed groups"),
        test!(arrives_on, "xxhash"),
        test!(arrives_on, "sha256"),
        test!(arrives_on, "blake2"),
        test!(arrives_on, "nodes of 4 KiB"),
        test!(arrives_on, "nodes of 64 KiB"),
        test!(arrives_on, "holes as extents"),
        test!(arrives_on, "compress-force=zstd"),
        test!(arrives_on, "nodatacow"),
        test!(arrives_on, "nodatasum"),
        test!(arrives_on, "autodefrag"),
    ])
}
