//! Running the command, and what must hold after it.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use btrfs_testkit::output_with_input as run;
use btrfs_testkit::subvolume;

/// The command under test.
pub(crate) const COMMAND: &str = env!("CARGO_BIN_EXE_btrfs-recv-rs");

/// Receives `stream` into `directory` and waits for the exit.
pub(crate) fn receive(stream: &[u8], directory: &Path) -> Output {
    run(Command::new(COMMAND).arg(directory), stream)
}

/// Panics if a subvolume in `directory` carries a received UUID and is not
/// complete and read-only, or is read-only without one. Returns how many
/// carry one.
pub(crate) fn check(directory: &Path, from: &Path) -> usize {
    let (received, writable) = check_after_a_cut(directory, from);
    assert_eq!(writable, 0);
    received
}

/// The same where the receiver or the machine may have stopped at any moment:
/// between the call that sets the received UUID and the one that makes the
/// subvolume read-only, which are two transactions, it is complete but for
/// who may enter its root; and for a moment it has another name, or lies in a
/// private directory. Returns how many carry a received UUID, and how many of
/// these are writable.
pub(crate) fn check_after_a_cut(directory: &Path, from: &Path) -> (usize, usize) {
    let (mut received, mut writable) = (0, 0);
    for path in subvolumes(directory) {
        let facts = subvolume::facts(&path);
        if facts.received_uuid.is_none() {
            assert!(!facts.read_only, "{facts:?}");
            continue;
        }
        received += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let sent = from.join(name.split(".receiving").next().unwrap());
        if !facts.read_only {
            writable += 1;
            open_up(&sent, &path);
        }
        btrfs_testkit::assert_same_tree(&sent, &path);
    }
    (received, writable)
}

/// Marks a subvolume whose receive was interrupted at its end.
const UNFINISHED: &str = "user.btrfs-receive.unfinished";

pub(crate) fn is_unfinished(path: &Path) -> bool {
    rustix::fs::getxattr(path, UNFINISHED, &mut [0_u8; 0]).is_ok()
}

/// Gives the root of a subvolume that is marked as unfinished the owner and
/// mode of the one that was sent, and takes off the mark. Without it the root
/// is complete.
pub(crate) fn open_up(sent: &Path, path: &Path) {
    if rustix::fs::removexattr(path, UNFINISHED).is_err() {
        return;
    }
    let root = std::fs::metadata(sent).unwrap();
    chown(path, Some(root.uid()), Some(root.gid())).unwrap();
    std::fs::set_permissions(path, root.permissions()).unwrap();
}

/// Every subvolume in `directory`, and in private directories there.
fn subvolumes(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let root = std::fs::metadata(&path).unwrap();
        if root.ino() == 256 {
            found.push(path);
        } else {
            assert_eq!(root.mode() & 0o7777, 0o700, "{path:?}");
            found.extend(subvolumes(&path));
        }
    }
    found
}

/// Deletes every subvolume in `directory`.
pub(crate) fn clear(directory: &Path) {
    for path in subvolumes(directory) {
        subvolume::delete(&path);
    }
    for entry in std::fs::read_dir(directory).unwrap() {
        std::fs::remove_dir(entry.unwrap().path()).unwrap();
    }
}

/// A test that stops the program at its calls does so at one call in so many:
/// `usual`, or `FAULTS_ONE_IN` if that is set, since emulated kernels are slow.
pub(crate) fn one_in(usual: usize) -> usize {
    let wanted = std::env::var("FAULTS_ONE_IN").ok();
    wanted.map_or(usual, |it| it.parse().expect("FAULTS_ONE_IN is a number"))
}

/// A number that differs from run to run, printed; `FAULTS_SEED` sets it.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("FAULTS_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        }
    };
    eprintln!("FAULTS_SEED={seed}");
    seed
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A generator that is good enough to choose places with.
pub(crate) struct Places(pub(crate) u64);

impl Places {
    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}
