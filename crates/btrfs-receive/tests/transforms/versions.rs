//! Upgrades and downgrades.

use std::os::unix::fs::MetadataExt;

use btrfs_receive::btrfs_sendstream::transform::{
    Codec, Downgrade, Newer, Transform, TransformErrorKind, Upgrade,
};
use btrfs_receive::btrfs_sendstream::{Command, Version};
use btrfs_testkit::history::{Differential, Mode};
use btrfs_testkit::{LoopFilesystem, Sender, Test, files, subvolume, test};

use crate::support::{assert_received, commands, receive, sample, transformed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(the_sample_arrives_upgraded, Mode::V1),
        test!(the_sample_arrives_upgraded, Mode::V2),
        test!(the_sample_arrives_downgraded, Mode::V2),
        test!(the_sample_arrives_downgraded, Mode::Compressed),
        test!(random_histories_arrive_upgraded),
        test!(random_histories_arrive_downgraded),
        test!(random_histories_arrive_downgraded_from_a_compressed_filesystem),
        test!(extents_are_stored_compressed, "zstd"),
        test!(extents_are_stored_compressed, "zlib"),
        test!(zeros_become_holes),
    ]
}

fn upgrade() -> Upgrade {
    Upgrade::new()
}

/// Inode flags are left out. A hole that nothing proves to lie inside its file
/// would be refused.
fn downgrade() -> Downgrade {
    let builder = Downgrade::builder(Version::V1);
    builder.newer(Newer::Drop).build()
}

fn the_sample_arrives<T: Transform>(mode: Mode, transform: fn() -> T) {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let (first, second) = sample(&from);
    for sender in [Sender::new(&first), Sender::new(&second).parent(&first)] {
        let stream = transformed(&mode.apply(sender).to_vec(), transform()).unwrap();
        receive(&stream, to.path()).unwrap();
    }
    for snapshot in [first, second] {
        let received = to.path().join(snapshot.file_name().unwrap());
        assert_received(&snapshot, &received);
    }
}

fn the_sample_arrives_upgraded(mode: Mode) {
    the_sample_arrives(mode, upgrade);
}

fn the_sample_arrives_downgraded(mode: Mode) {
    the_sample_arrives(mode, downgrade);
}

fn random_histories_arrive_upgraded() {
    Differential::new(|stream, directory| {
        let stream = transformed(stream, upgrade()).map_err(|error| error.to_string())?;
        receive(&stream, directory)
    })
    .run();
}

fn downgraded(stream: &[u8], directory: &std::path::Path) -> Result<(), String> {
    let stream = match transformed(stream, downgrade()) {
        Ok(stream) => stream,
        // Nothing in the stream shows that the hole lies inside its file.
        Err(error) if matches!(error.kind(), TransformErrorKind::UnknownSize { .. }) => {
            return receive(stream, directory);
        }
        Err(error) => return Err(error.to_string()),
    };
    let newer = |command: &Command| command.kind().since() > Version::V1;
    assert!(!commands(&stream).iter().any(newer));
    receive(&stream, directory)
}

fn random_histories_arrive_downgraded() {
    Differential::new(downgraded).run();
}

fn random_histories_arrive_downgraded_from_a_compressed_filesystem() {
    let source = LoopFilesystem::builder().mount_options("compress-force=zstd");
    Differential::new(downgraded)
        .modes(&[Mode::Compressed])
        .filesystems(source, LoopFilesystem::builder())
        .run();
}

/// Lines of text: 1 MiB and 123 bytes that compress well.
fn text() -> Vec<u8> {
    let lines = (0..).map(|number| format!("line {number} of many\n"));
    lines
        .flat_map(String::into_bytes)
        .take((1 << 20) + 123)
        .collect()
}

fn extents_are_stored_compressed(codec: &str) {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("text"), text()).unwrap();
    std::fs::write(work.join("noise"), files::pattern(1, 300_000, false)).unwrap();
    std::fs::write(work.join("short"), b"short").unwrap();
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snapshot"));
    let codec = match codec {
        "zlib" => Codec::Zlib,
        _ => Codec::Zstd,
    };
    let original = Sender::new(&snapshot).version(1).to_vec();
    let mut upgrade = Upgrade::builder().codec(codec).build();
    let stream = transformed_by(&original, &mut upgrade);
    let stats = upgrade.stats();
    assert_eq!(stats.compressed, 8);
    assert_eq!(stats.bytes_before, 1 << 20);
    // The end of the text is less than a sector: no extent of its own shrinks.
    assert_eq!(stats.bytes_left, 123 + 300_000 + 5);
    assert!(stats.bytes_after < stats.bytes_before / 2);
    let report = {
        let destination = btrfs_receive::BtrfsDestination::open(to.path()).unwrap();
        btrfs_receive::Receiver::new(destination)
            .receive(&stream[..], &mut ())
            .unwrap()
    };
    // The kernel took the extents as they are.
    assert!(report.fallbacks.is_none(), "{:?}", report.fallbacks);
    let received = to.path().join("snapshot");
    assert_received(&snapshot, &received);
    to.sync();
    let blocks = |name: &str| std::fs::metadata(received.join(name)).unwrap().blocks() * 512;
    assert!(blocks("text") >= (1 << 20), "blocks count what is decoded");
    let used = used_data(to.path());
    assert!(used < 300_000 + (1 << 20) / 2, "{used} bytes used");
}

fn transformed_by(stream: &[u8], transform: &mut Upgrade) -> Vec<u8> {
    use btrfs_receive::btrfs_sendstream::{Reader, Writer, transform};
    let mut writer = Writer::new(Vec::new());
    transform::run(&mut Reader::new(stream), transform, &mut writer).unwrap();
    writer.finish().unwrap()
}

/// Bytes of data extents on a filesystem.
fn used_data(path: &std::path::Path) -> u64 {
    let output = std::process::Command::new("btrfs")
        .args(["filesystem", "df", "--raw"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("Data")).unwrap();
    line.rsplit("used=").next().unwrap().trim().parse().unwrap()
}

fn zeros_become_holes() {
    const MIB: u64 = 1 << 20;
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    for (name, at, len) in [
        ("middle", 400_000, MIB),
        ("end", MIB, 3 * MIB - 77),
        ("all", 0, MIB),
    ] {
        let mut content = files::pattern(2, (4 * MIB - 77) as usize, true);
        content[at as usize..(at + len) as usize].fill(0);
        if name == "all" {
            content.truncate(MIB as usize);
        }
        std::fs::write(work.join(name), content).unwrap();
    }
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    // An old hole-punching kernel sends zeros, here and where the file ends.
    files::punch(&work.join("middle"), 2 * MIB, MIB).unwrap();
    files::punch(&work.join("all"), 4096, MIB).unwrap();
    files::write(&work.join("all"), 2 * MIB, &[0; 200_000]).unwrap();
    files::truncate(&work.join("end"), 5 * MIB).unwrap();
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    for sender in [Sender::new(&first), Sender::new(&second).parent(&first)] {
        let stream = transformed(&sender.version(1).to_vec(), upgrade()).unwrap();
        let punched = |command: &Command| matches!(command, Command::Fallocate { mode: 3, .. });
        assert!(commands(&stream).iter().any(punched));
        receive(&stream, to.path()).unwrap();
    }
    for snapshot in [first, second] {
        let received = to.path().join(snapshot.file_name().unwrap());
        assert_received(&snapshot, &received);
    }
    let blocks = |name: &str| {
        let path = to.path().join("first").join(name);
        std::fs::metadata(path).unwrap().blocks() * 512
    };
    assert!(blocks("middle") < 4 * MIB - MIB + 20_000);
    assert!(blocks("end") < MIB + 20_000);
    assert!(blocks("all") < 20_000);
}
