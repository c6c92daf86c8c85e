//! Filesystems that are full, and disks that do not take what was written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use btrfs_testkit::raw::{OWN_UUID, RawStream, attr};
use btrfs_testkit::{LoopFilesystem, Mount, Sender, Test, subvolume, test};
use rustix::fs::{FallocateFlags, fallocate};

use crate::support::{check, noise, receive, seed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_filesystem_that_fills_up),
        test!(a_disk_that_does_not_take_the_data),
        test!(a_disk_that_does_not_take_encoded_data).needs_version(2),
        test!(encoded_data_may_go_again).needs_version(2),
        test!(an_encoded_write_without_data),
    ]
}

/// A snapshot `snap` with `count` files of `len` bytes that do not compress,
/// and its stream.
fn send(from: &LoopFilesystem, count: u64, len: usize) -> Vec<u8> {
    let work = subvolume::create(&from.path().join("work"));
    for number in 0..count {
        let content = noise(number + 1, len);
        std::fs::write(work.join(format!("file {number}")), content).unwrap();
    }
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snap"));
    Sender::new(&snapshot).to_vec()
}

fn a_filesystem_that_fills_up() {
    let from = LoopFilesystem::new();
    let stream = send(&from, 120, 300_000);
    let seed = seed();
    for round in 0..4 {
        // Data and metadata share what there is.
        let size = (17 << 20) + (seed.wrapping_mul(round + 7) % (20 << 20)) / 4096 * 4096;
        let to = LoopFilesystem::builder()
            .mkfs(["--mixed"])
            .size(size)
            .build();
        let output = receive(&stream, to.path());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{size}: {stderr}");
        assert!(stderr.contains("No space left on device"), "{stderr}");
        assert_eq!(check(to.path(), from.path()), 0);
    }
}

/// The backing file lies on a tmpfs that is full: what was written can no
/// longer reach the disk, while metadata can.
fn a_disk_that_does_not_take_the_data() {
    let from = LoopFilesystem::new();
    let stream = send(&from, 20, 1 << 20);
    let below = Mount::tmpfs(300 << 20);
    let to = without_room_for_data(&below);

    let output = receive(&stream, to.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("(syncfs; "), "{stderr}");
    let facts = subvolume::facts(&to.path().join("snap"));
    assert!(facts.received_uuid.is_none() && !facts.read_only);

    // Only asking for the data shows it. The calls that mark a subvolume as
    // received, make it read-only and commit that have nothing to say.
    to.sync();
    subvolume::set_read_only(&to.path().join("snap"), true);
    assert!(subvolume::facts(&to.path().join("snap")).read_only);
}

/// Data that the kernel takes as it is: syncfs has nothing to say about it. Linux 7.2
/// reports it from the call that writes, older kernels not at all.
fn a_disk_that_does_not_take_encoded_data() {
    let from = LoopFilesystem::builder()
        .mount_options("compress-force=zstd")
        .build();
    let work = subvolume::create(&from.path().join("work"));
    for number in 0..20 {
        // Half of each extent compresses.
        let content: Vec<u8> = (0..8)
            .flat_map(|extent| [noise(number * 8 + extent + 1, 65_536), vec![0; 65_536]])
            .flatten()
            .collect();
        std::fs::write(work.join(format!("file {number}")), content).unwrap();
    }
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snap"));
    let stream = Sender::new(&snapshot).version(2).compressed().to_vec();

    let healthy = LoopFilesystem::new();
    let output = receive(&stream, healthy.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(check(healthy.path(), from.path()), 1);

    let below = Mount::tmpfs(300 << 20);
    let to = without_room_for_data(&below);
    let output = receive(&stream, to.path());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let reported = stderr.contains("failed: Input/output error (BTRFS_IOC_ENCODED_WRITE; ");
    let noticed = stderr.contains("data was lost on its way to the disk");
    assert!(reported || noticed, "{stderr}");
    let facts = subvolume::facts(&to.path().join("snap"));
    assert!(facts.received_uuid.is_none() && !facts.read_only);
}

/// What was stored encoded, and then removed by the stream itself, is not
/// missed at the end.
fn encoded_data_may_go_again() {
    const LEN: u64 = 131_072;
    // As in linux/falloc.h; a hole keeps the size.
    const PUNCH: u32 = 3;
    const ZERO: u32 = 16;
    const KEEP: u32 = 1;
    // Nobody looks into it: the kernel does not, and the files are not read.
    let extent = noise(1, 8192);
    let names = [
        "kept", "written", "punched", "zeroed", "room", "cut", "emptied", "cloned", "removed",
    ];
    let mut stream = RawStream::header(2).subvol("received").mkfile("hole");
    stream = stream.command(17, [attr::path("hole"), attr::size(LEN)]);
    for name in names {
        stream = stream
            .mkfile(name)
            .encoded(name, [LEN, LEN, 0], [1, 0], &extent);
    }
    let fallocate = |path, mode, offset, len| {
        [
            attr::path(path),
            attr::fallocate_mode(mode),
            attr::file_offset(offset),
            attr::size(len),
        ]
    };
    let stream = stream
        .write("written", 4096, &noise(2, 65_536))
        .command(23, fallocate("punched", PUNCH, 8192, 4096))
        .command(23, fallocate("zeroed", ZERO, 0, LEN))
        .command(23, fallocate("room", KEEP, 0, 2 * LEN))
        .command(17, [attr::path("cut"), attr::size(4096)])
        .command(17, [attr::path("cut"), attr::size(LEN)])
        .command(17, [attr::path("emptied"), attr::size(0)])
        .clone_range("cloned", 0, LEN, (OWN_UUID, b"hole", 0))
        .clone_range("hole", 0, LEN, (OWN_UUID, b"kept", 0))
        .command(11, [attr::path("removed")])
        .end();
    let to = LoopFilesystem::new();
    let output = receive(&stream.into_bytes(), to.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let facts = subvolume::facts(&to.path().join("received"));
    assert!(facts.received_uuid.is_some() && facts.read_only);
}

/// The kernel has no objection, and writes nothing.
fn an_encoded_write_without_data() {
    let stream = RawStream::header(2)
        .subvol("received")
        .mkfile("file")
        .encoded("file", [4096, 4096, 0], [1, 0], b"")
        .end();
    let to = LoopFilesystem::new();
    let output = receive(&stream.into_bytes(), to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let facts = subvolume::facts(&to.path().join("received"));
    assert!(facts.received_uuid.is_none());
}

/// A filesystem on a tmpfs that is full, where only metadata has its room.
fn without_room_for_data(below: &Mount) -> LoopFilesystem {
    let filesystem = LoopFilesystem::builder()
        .directory(below.path())
        .size(256 << 20)
        .mount_options("nodiscard")
        .build();
    take_away_room_for_data(&filesystem);
    fill(&below.path().join("filler"), &[0; BLOCK]);
    filesystem
}

const BLOCK: usize = 4096;

/// What the blocks of data begin with that [`take_away_room_for_data`] looks
/// for.
const MARK: &[u8] = b"a block of data whose room below is to be taken away";

/// Gives every block of the disk its room below, then takes it away again
/// from those that hold data.
fn take_away_room_for_data(filesystem: &LoopFilesystem) {
    let image = std::fs::File::options()
        .read(true)
        .write(true)
        .open(filesystem.image())
        .unwrap();
    let size = image.metadata().unwrap().len();
    fallocate(&image, FallocateFlags::empty(), 0, size).unwrap();

    let mut block = [7; BLOCK];
    block[..MARK.len()].copy_from_slice(MARK);
    let data = filesystem.path().join("data");
    fill(&data, &block);
    filesystem.sync();
    for offset in (0..size).step_by(BLOCK) {
        image.read_exact_at(&mut block, offset).unwrap();
        if block.starts_with(MARK) {
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&image, punch, offset, BLOCK as u64).unwrap();
        }
    }
    std::fs::remove_file(data).unwrap();
    filesystem.sync();
}

/// Writes `block` again and again until nothing more fits.
fn fill(path: &Path, block: &[u8; BLOCK]) {
    let mut file = BufWriter::with_capacity(BLOCK * 16, File::create(path).unwrap());
    while file.write_all(block).is_ok() {}
    // What is left in the buffer does not fit.
    let (mut file, rest) = file.into_parts();
    for block in rest.unwrap().chunks(BLOCK) {
        let _ = file.write_all(block);
    }
}
