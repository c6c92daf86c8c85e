//! The kit tested on itself.

use std::path::Path;
use std::process::ExitCode;

use btrfs_testkit::{
    Compared, LoopFilesystem, Mount, Sender, Tree, assert_same_tree, compare, reference_receive,
    subvolume, test,
};

fn filesystems_are_apart() {
    let (a, b) = (LoopFilesystem::new(), LoopFilesystem::new());
    assert_ne!(a.device(), b.device());
    std::fs::write(a.path().join("file"), b"a").unwrap();
    assert!(!b.path().join("file").exists());
}

fn options_reach_mkfs_and_mount() {
    let builder = LoopFilesystem::builder().size(200 << 20).nodesize(4096);
    let filesystem = builder.mount_options("compress-force=zstd").build();
    let uuid = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = uuid
        .lines()
        .find(|line| line.contains(filesystem.path().to_str().unwrap()));
    assert!(line.unwrap().contains("compress-force=zstd"), "{line:?}");
}

fn one_filesystem_has_several_mounts() {
    let filesystem = LoopFilesystem::new();
    let inner = subvolume::create(&filesystem.path().join("inner"));
    std::fs::write(inner.join("file"), b"x").unwrap();
    let mounted = filesystem.mount("subvol=inner,ro");
    assert!(mounted.path().join("file").exists());
    let bound = Mount::bind(&inner);
    assert!(bound.path().join("file").exists());
    drop(filesystem);
    assert!(mounted.path().join("file").exists());
}

fn a_copied_image_is_the_disk_at_that_instant() {
    let filesystem = LoopFilesystem::new();
    std::fs::write(filesystem.path().join("file"), b"x").unwrap();
    filesystem.sync();
    let copy = btrfs_testkit::scratch_dir().join(format!("copy-{}", std::process::id()));
    std::fs::copy(filesystem.image(), &copy).unwrap();
    std::fs::write(filesystem.path().join("later"), b"x").unwrap();
    drop(filesystem);
    let reborn = LoopFilesystem::builder().existing_image(&copy).build();
    assert!(reborn.path().join("file").exists());
    assert!(!reborn.path().join("later").exists());
    drop(reborn);
    std::fs::remove_file(copy).unwrap();
}

fn a_stream_is_sent_and_received() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    std::fs::write(work.join("file"), b"hello").unwrap();
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    std::fs::write(work.join("file"), b"more").unwrap();
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    reference_receive(&Sender::new(&first).to_vec(), to.path()).unwrap();
    let stream = Sender::new(&second).parent(&first).version(2).to_vec();
    reference_receive(&stream, to.path()).unwrap();
    for name in ["first", "second"] {
        assert_same_tree(&from.path().join(name), &to.path().join(name));
        let (sent, received) = (
            subvolume::facts(&from.path().join(name)),
            subvolume::facts(&to.path().join(name)),
        );
        assert_eq!(received.received_uuid, Some(sent.uuid));
        assert!(received.read_only && received.id > 255);
    }
    assert!(reference_receive(b"rubbish", to.path()).is_err());
}

fn a_tree_equals_itself_and_its_snapshot() {
    let filesystem = LoopFilesystem::new();
    let work = subvolume::create(&filesystem.path().join("work"));
    std::fs::create_dir(work.join("d")).unwrap();
    std::fs::write(work.join("d/file"), vec![7; 10_000]).unwrap();
    subvolume::create(&work.join("nested"));
    let snapshot = subvolume::snapshot_read_only(&work, &filesystem.path().join("snap"));
    assert_same_tree(&work, &snapshot);
}

fn fields_between(a: &Path, b: &Path) -> Vec<String> {
    let (a, b) = (Tree::read(a), Tree::read(b));
    let differences = compare(&a, &b, &Compared::default());
    differences
        .into_iter()
        .map(|difference| difference.to_string())
        .collect()
}

fn a_changed_byte_is_noticed() {
    let filesystem = LoopFilesystem::new();
    let work = subvolume::create(&filesystem.path().join("work"));
    std::fs::write(work.join("file"), vec![7; 10_000]).unwrap();
    let snapshot = subvolume::snapshot_writable(&work, &filesystem.path().join("snap"));
    let file = std::fs::File::options()
        .write(true)
        .open(snapshot.join("file"))
        .unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"x", 9_000).unwrap();
    file.set_modified(modified).unwrap();
    let found = fields_between(&work, &snapshot);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("file: content in 1 blocks, the first at 8192"),
        "{found:?}"
    );
}

fn main() -> ExitCode {
    btrfs_testkit::main([
        test!(filesystems_are_apart),
        test!(options_reach_mkfs_and_mount),
        test!(one_filesystem_has_several_mounts),
        test!(a_copied_image_is_the_disk_at_that_instant),
        test!(a_stream_is_sent_and_received),
        test!(a_tree_equals_itself_and_its_snapshot),
        test!(a_changed_byte_is_noticed),
    ])
}
