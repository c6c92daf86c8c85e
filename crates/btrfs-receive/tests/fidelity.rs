//! What arrives is what was sent, field by field: the sample tree with every
//! known case, and random histories.

use std::path::Path;
use std::process::ExitCode;

use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::history::{Differential, Mode};
use btrfs_testkit::{
    Compared, LoopFilesystem, Sample, Sender, assert_same_tree_in, subvolume, test,
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
    let work = subvolume::create(&from.path().join("work"));
    Sample::default().build(&work);
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    Sample::default().change(&work);
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
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

fn main() -> ExitCode {
    btrfs_testkit::main([
        test!(the_sample_arrives, Mode::V1),
        test!(the_sample_arrives, Mode::V2),
        test!(the_sample_arrives, Mode::Compressed),
        test!(random_histories_arrive),
        test!(random_histories_arrive_from_a_compressed_filesystem),
    ])
}
