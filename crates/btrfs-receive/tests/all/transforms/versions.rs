//! Upgrades and downgrades.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use btrfs_receive::btrfs_sendstream::transform::{
    Codec, Downgrade, Newer, ParentEntry, Transform, Upgrade,
};
use btrfs_receive::btrfs_sendstream::{Command, Version};
use btrfs_testkit::history::{Differential, Mode};
use btrfs_testkit::{LoopFilesystem, Sender, Test, files, subvolume, test};

use super::support::{assert_received, commands, receive, sample, transformed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(the_sample_arrives_upgraded, Mode::V1),
        test!(the_sample_arrives_upgraded, Mode::V2),
        test!(the_sample_arrives_downgraded, Mode::V2),
        test!(the_sample_arrives_downgraded, Mode::Compressed),
        test!(random_histories_arrive_upgraded),
        test!(random_histories_arrive_downgraded),
        test!(random_histories_arrive_downgraded_from_a_compressed_filesystem),
        test!(holes_of_existing_files_arrive_downgraded),
        test!(extents_are_stored_compressed, "zstd"),
        test!(extents_are_stored_compressed, "zlib"),
        test!(zeros_become_holes),
    ]
}

fn upgrade() -> Upgrade {
    Upgrade::new()
}

/// Inode flags are left out. A hole would be refused if nothing shows how long
/// its file is.
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

/// The received parent of a stream, to look sizes up in.
fn with_parent(stream: &[u8], directory: &Path) -> Downgrade {
    let Some(Command::Snapshot { parent_uuid, .. }) = commands(stream).into_iter().next() else {
        return downgrade();
    };
    let wanted = Some(parent_uuid.to_string());
    let parent = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| subvolume::facts(path).received_uuid == wanted)
        .expect("the parent was received");
    downgrade().with_parent(move |path| {
        let path = parent.join(OsStr::from_bytes(path.as_bytes()));
        match std::fs::symlink_metadata(path) {
            Ok(facts) => Ok(Some(ParentEntry {
                inode: facts.ino(),
                size: facts.size(),
            })),
            Err(_) => Ok(None),
        }
    })
}

/// With the parent at hand, nothing is refused.
fn downgraded(stream: &[u8], directory: &Path) -> Result<(), String> {
    let transform = with_parent(stream, directory);
    let stream = transformed(stream, transform).map_err(|error| error.to_string())?;
    let newer = |command: &Command| command.kind().since() > Version::V1;
    assert!(!commands(&stream).iter().any(newer));
    receive(&stream, directory)
}

/// What kernels send about holes: inside a file and up to its end, with and
/// without a new size, and beyond the end, where space is preallocated.
fn holes_of_existing_files_arrive_downgraded() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    let file = |name: &str| work.join(name);
    let names = [
        "inside",
        "to the end",
        "beyond",
        "shrinks",
        "new name",
        "grows",
    ];
    for name in names {
        std::fs::write(file(name), files::pattern(1, 100_000, false)).unwrap();
        // Space beyond the end.
        files::preallocate(&file(name), 100_000, 400_000, true).unwrap();
    }
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    let punch = |name: &str, offset: u64, len: u64| {
        files::punch(&file(name), offset, len).unwrap();
    };
    let resize = |name: &str, size: u64| files::truncate(&file(name), size).unwrap();
    punch("inside", 8192, 8192);
    punch("to the end", 8192, 200_000);
    punch("beyond", 204_800, 102_400);
    punch("shrinks", 8192, 300_000);
    resize("shrinks", 50_000);
    punch("new name", 8192, 8192);
    punch("new name", 204_800, 102_400);
    std::fs::rename(file("new name"), file("name")).unwrap();
    punch("grows", 8192, 8192);
    punch("grows", 204_800, 102_400);
    resize("grows", 250_000);
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    let full = Mode::V2.apply(Sender::new(&first)).to_vec();
    let change = Mode::V2.apply(Sender::new(&second).parent(&first)).to_vec();
    let is_hole = |command: &&Command| matches!(command, Command::Fallocate { .. });
    assert!(commands(&change).iter().filter(is_hole).count() >= 6);
    for (snapshot, stream) in [(&first, full), (&second, change)] {
        downgraded(&stream, to.path()).unwrap();
        assert_received(snapshot, &to.path().join(snapshot.file_name().unwrap()));
    }
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
