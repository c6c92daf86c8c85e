//! What arrives is what was sent, field by field: the sample tree with every
//! known case, and random histories.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::history::{Differential, Mode};
use btrfs_testkit::{
    Builder, Compared, LoopFilesystem, Sample, Sender, assert_same_tree_in, subvolume, test,
};

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
