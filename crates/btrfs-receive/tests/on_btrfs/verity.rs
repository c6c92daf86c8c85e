//! Files with fs-verity: what the kernel measures is what the sender's did.

use btrfs_receive::btrfs_sendstream::inode_flags;
use btrfs_receive::{DirectoryDestination, Receiver};
use btrfs_testkit::{LoopFilesystem, Mount, Test, files, subvolume, test};
use rustix::fs::{IFlags, ioctl_getflags};
use sha2::{Digest as _, Sha256};

use crate::resume::{Log, receiver};
use crate::support::{Script, UUID, receive, try_receive};

pub(crate) fn tests() -> Vec<Test> {
    let tests = vec![
        test!(verity_is_measured, 4096, 0),
        test!(verity_is_measured, 4096, 32),
        test!(verity_with_a_signature_nobody_knows),
        test!(verity_of_the_parent_stays),
        test!(verity_for_an_immutable_file_of_the_parent),
        test!(verity_keeps_content_as_it_is),
        test!(verity_after_an_interruption),
    ];
    let anywhere = [
        test!(a_directory_goes_without_verity, true),
        test!(a_directory_goes_without_verity, false),
    ];
    let tests = tests.into_iter().map(Test::needs_verity);
    tests.chain(anywhere).collect()
}

const DATA: &[u8] = b"content of one block";

/// The digest of a file of one block, as `fs/verity` of the kernel defines it.
fn digest(data: &[u8], block_size: usize, salt: &[u8]) -> String {
    let mut block = data.to_vec();
    block.resize(block_size, 0);
    let mut hash = Sha256::new();
    if !salt.is_empty() {
        let mut padded = salt.to_vec();
        padded.resize(64, 0);
        hash.update(padded);
    }
    let root = hash.chain_update(block).finalize();
    // struct fsverity_descriptor: version, algorithm, size of blocks and salt.
    let mut descriptor = vec![1, 1, block_size.ilog2() as u8, salt.len() as u8];
    descriptor.extend([0; 4]);
    descriptor.extend((data.len() as u64).to_le_bytes());
    descriptor.extend(root);
    descriptor.resize(80, 0);
    descriptor.extend(salt);
    descriptor.resize(256, 0);
    let digest = Sha256::digest(descriptor);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verity_is_measured(block_size: u32, salt_len: usize) {
    let to = LoopFilesystem::new();
    let salt = &[0xa5; 32][..salt_len];
    let stream = Script::full("sealed")
        .file("file")
        .write("file", 0, DATA)
        .verity("file", block_size, salt, b"")
        .end();
    receive(&stream, to.path());
    let measured = files::verity_digest(&to.path().join("sealed/file"));
    assert_eq!(measured, Some(digest(DATA, block_size as usize, salt)));
}

fn verity_with_a_signature_nobody_knows() {
    let to = LoopFilesystem::new();
    let stream = Script::full("sealed")
        .file("file")
        .write("file", 0, DATA)
        .verity("file", 4096, b"", b"no signature")
        .end();
    let error = try_receive(&stream, to.path()).unwrap_err();
    let failure = error.first_failure.unwrap();
    assert_eq!(failure.operation, "enable_verity");
    let facts = subvolume::facts(&to.path().join("sealed"));
    assert!(facts.received_uuid.is_none() && !facts.read_only);
}

/// Under another name too; and it is cloned from.
fn verity_of_the_parent_stays() {
    let to = LoopFilesystem::new();
    let first = Script::full("first")
        .file("file")
        .write("file", 0, &[7; 8192])
        .verity("file", 4096, b"", b"")
        .end();
    receive(&first, to.path());
    let first = to.path().join("first");
    let second = Script::change_of(&first, "second")
        .rename("file", "renamed")
        .file("clone")
        .clone_own("renamed", "clone", (0, 0, 4096))
        .clone_from((UUID, 7), "file", "clone", (0, 4096, 4096))
        .end();
    receive(&second, to.path());
    let second = to.path().join("second");
    let before = files::verity_digest(&first.join("file"));
    assert!(before.is_some());
    assert_eq!(files::verity_digest(&second.join("renamed")), before);
    assert_eq!(std::fs::read(second.join("clone")).unwrap(), [7; 8192]);
}

/// Linux 6.12 sets no flag of a file that has fs-verity, and 7.2 does: before, the
/// file cannot be as it was sent, and the receive fails.
fn verity_for_an_immutable_file_of_the_parent() {
    let to = LoopFilesystem::new();
    let first = Script::full("first")
        .file("file")
        .write("file", 0, DATA)
        .attributes("file", inode_flags::IMMUTABLE)
        .end();
    receive(&first, to.path());
    let first = to.path().join("first");
    let second = Script::change_of(&first, "second")
        .verity("file", 4096, b"salt", b"")
        .end();
    let result = try_receive(&second, to.path());
    let second = to.path().join("second");
    let measured = files::verity_digest(&second.join("file"));
    assert_eq!(measured, Some(digest(DATA, 4096, b"salt")));
    assert_eq!(files::verity_digest(&first.join("file")), None);
    match result {
        Ok(_) => {
            let file = std::fs::File::open(second.join("file")).unwrap();
            assert!(ioctl_getflags(file).unwrap().contains(IFlags::IMMUTABLE));
        }
        Err(error) => {
            let failure = error.first_failure.unwrap();
            assert_eq!(failure.operation, "finish");
            let text = failure.to_string();
            assert!(
                text.contains("FS_IOC_FSSETXATTR: Operation not supported"),
                "{text}"
            );
            assert_eq!(subvolume::facts(&second).received_uuid, None);
        }
    }
}

fn verity_keeps_content_as_it_is() {
    let to = LoopFilesystem::new();
    let first = Script::full("first")
        .file("file")
        .write("file", 0, DATA)
        .verity("file", 4096, b"", b"")
        .end();
    receive(&first, to.path());
    let second = Script::change_of(&to.path().join("first"), "second")
        .write("file", 0, b"other")
        .end();
    let error = try_receive(&second, to.path()).unwrap_err();
    let failure = error.first_failure.unwrap();
    assert_eq!(failure.path.as_ref(), b"file");
    let facts = subvolume::facts(&to.path().join("second"));
    assert!(facts.received_uuid.is_none() && !facts.read_only);
}

/// An extraction says so, on a kernel and filesystem with fs-verity and without:
/// what is extracted is the same everywhere.
fn a_directory_goes_without_verity(on_btrfs: bool) {
    let (btrfs, tmpfs);
    let into = if on_btrfs {
        btrfs = LoopFilesystem::new();
        btrfs.path()
    } else {
        tmpfs = Mount::tmpfs(1 << 20);
        tmpfs.path()
    };
    let extract = |stream: &[u8]| {
        let destination = DirectoryDestination::open(into).unwrap();
        let outcome = Receiver::new(destination).receive(stream, &mut ());
        let report = outcome.unwrap_or_else(|error| panic!("{error}"));
        report.subvolumes[0].losses.clone()
    };
    let full = Script::full("first")
        .file("file")
        .write("file", 0, DATA)
        .verity("file", 4096, b"salt", b"no signature")
        .end();
    let losses = extract(&full);
    assert_eq!((losses.verity, losses.total()), (1, 1));
    // What is based on it is extracted all the same, and needs no fs-verity.
    let incremental = Script::change_of_uuid(UUID, "second")
        .rename("file", "renamed")
        .file("clone")
        .clone_from((UUID, 7), "file", "clone", (0, 0, DATA.len() as u64))
        .end();
    let losses = extract(&incremental);
    assert_eq!((losses.verity, losses.of_parent), (0, 1));
    for name in ["first/file", "second/renamed", "second/clone"] {
        assert_eq!(std::fs::read(into.join(name)).unwrap(), DATA, "{name}");
        assert_eq!(files::verity_digest(&into.join(name)), None, "{name}");
    }
    let mut missing = Script::full("third").file("file");
    missing = missing.verity("no file", 4096, b"", b"");
    let destination = DirectoryDestination::open(into).unwrap();
    let outcome = Receiver::new(destination).receive(&missing.end()[..], &mut ());
    let failure = outcome.unwrap_err().first_failure.unwrap();
    assert_eq!(failure.operation, "enable_verity");
}

/// Checkpoints end where fs-verity begins: no stream of a kernel has it.
fn verity_after_an_interruption() {
    let to = LoopFilesystem::new();
    let mut script = Script::full("sealed")
        .file("file")
        .write("file", 0, DATA)
        .file("before");
    for piece in 0..64 {
        script = script.write("before", piece << 10, &[piece as u8; 1024]);
    }
    script = script.verity("file", 4096, b"", b"").file("after");
    for piece in 0..64 {
        script = script.write("after", piece << 10, &[piece as u8; 1024]);
    }
    let stream = script.end();
    let mut log = Log::default();
    let cut = &stream[..stream.len() - 10_000];
    let mut first = receiver(to.path(), 8192, false);
    first.receive(cut, &mut log).unwrap_err();
    drop(first);
    receiver(to.path(), 8192, false)
        .receive(&stream[..], &mut log)
        .unwrap();
    assert_eq!(log.count("resumed"), 1);
    let sealed = to.path().join("sealed");
    let measured = files::verity_digest(&sealed.join("file"));
    assert_eq!(measured, Some(digest(DATA, 4096, b"")));
    let facts = subvolume::facts(&sealed);
    assert_eq!(facts.received_uuid, Some(UUID.to_string()));
}
