//! The differential test: what arrives is what was sent, whatever happened.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::catalogue::play;
use super::live::Live;
use super::strategy::histories;
use super::{Features, History, Step};
use crate::{Builder, Compared, Difference, LoopFilesystem, Sender, Tree, compare, subvolume};

/// The environment variable that says how many histories to try.
const COUNT: &str = "BTRFS_HISTORIES";

/// The environment variable that repeats a run.
const SEED: &str = "BTRFS_HISTORIES_SEED";

/// How many histories a run tries without the environment saying otherwise.
const DEFAULT_COUNT: u32 = 12;

/// Attempts at making a failing history smaller.
const SHRINKING: u32 = 800;

/// How snapshots are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Version 1.
    V1,
    /// Version 2.
    V2,
    /// Version 2, compressed extents as they are.
    Compressed,
}

impl Mode {
    /// Sets a sender up.
    pub fn apply(self, sender: Sender) -> Sender {
        match self {
            Self::V1 => sender,
            Self::V2 => sender.version(2),
            Self::Compressed => sender.version(2).compressed(),
        }
    }
}

type Receive = Box<dyn Fn(&[u8], &Path) -> Result<(), String>>;

/// A differential test of one receiver.
///
/// Each history is played on a btrfs. In every mode the snapshots are sent as
/// a chain, the first in full, the others incrementally, and the last one in
/// full as well; each received subvolume must equal the snapshot, be
/// read-only and carry its UUID.
pub struct Differential {
    features: Features,
    compared: Compared,
    modes: Vec<Mode>,
    source: Builder,
    destination: Builder,
    one_in: u32,
    receive: Receive,
}

impl Differential {
    /// A test of `receive`, which receives a stream into a directory.
    pub fn new(receive: impl Fn(&[u8], &Path) -> Result<(), String> + 'static) -> Self {
        Self {
            features: Features::default(),
            compared: Compared {
                atime: true,
                ..Compared::default()
            },
            modes: vec![Mode::V1, Mode::V2, Mode::Compressed],
            source: LoopFilesystem::builder().size(4 << 30),
            destination: LoopFilesystem::builder().size(4 << 30),
            one_in: 1,
            receive: Box::new(receive),
        }
    }

    /// Chooses what may happen in a history.
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Chooses the fields to compare; at first all defaults and access times.
    pub fn compared(mut self, compared: Compared) -> Self {
        self.compared = compared;
        self
    }

    /// Chooses how snapshots are sent; at first in every mode.
    pub fn modes(mut self, modes: &[Mode]) -> Self {
        self.modes = modes.to_vec();
        self
    }

    /// Chooses the filesystems, such as one with compression or small nodes.
    pub fn filesystems(mut self, source: Builder, destination: Builder) -> Self {
        (self.source, self.destination) = (source, destination);
        self
    }

    /// Tries only this part of the histories, and one at least.
    pub fn one_in(mut self, part: u32) -> Self {
        self.one_in = part;
        self
    }

    /// Tries random histories: as many as `BTRFS_HISTORIES` says, or 12.
    ///
    /// # Panics
    ///
    /// At the first history that fails, shrunk, with what to paste into a
    /// regression test and the seed that repeats the run.
    pub fn run(&self) {
        let seed = environment(SEED).unwrap_or_else(fresh_seed);
        let count = environment(COUNT).and_then(|count| u32::try_from(count).ok());
        let config = Config {
            cases: (count.unwrap_or(DEFAULT_COUNT) / self.one_in).max(1),
            max_shrink_iters: SHRINKING,
            failure_persistence: None,
            ..Config::default()
        };
        eprintln!("{} random histories, {SEED}={seed}", config.cases);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let arena = RefCell::new(None);
        let played = Cell::new(0_u64);
        let mut runner = TestRunner::new_with_rng(config, random);
        let outcome = runner.run(&histories(&self.features), |history| {
            played.set(played.get() + 1);
            let outcome = self.try_in(&mut arena.borrow_mut(), &history);
            outcome.map_err(TestCaseError::fail)
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, history)) => {
                panic!(
                    "{reason}\n{SEED}={seed}, after {} runs; the history:\n{history:?}",
                    played.get()
                )
            }
            Err(TestError::Abort(reason)) => panic!("{reason}"),
        }
    }

    /// Plays one history again.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn replay(&self, history: &History) {
        self.try_in(&mut None, history)
            .unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Plays a history in filesystems that earlier ones left clean, or new ones.
    fn try_in(&self, arena: &mut Option<Arena>, history: &History) -> Result<(), String> {
        let filesystems = match arena.take() {
            Some(filesystems) => filesystems,
            None => Arena {
                source: self.source.clone().try_build()?,
                destination: self.destination.clone().try_build()?,
            },
        };
        let mut live = Live::new(filesystems.source.path());
        let steps = play(history, &self.features, &mut live);
        for mode in &self.modes {
            let outcome = self.send_all(live.snapshots(), *mode, filesystems.destination.path());
            outcome.map_err(|reason| format!("{mode:?}: {reason}\nafter {}", list(&steps)))?;
        }
        for snapshot in live.snapshots() {
            subvolume::delete(snapshot);
        }
        subvolume::delete(live.work());
        // Whatever failed is not used again.
        *arena = Some(filesystems);
        Ok(())
    }

    fn send_all(&self, snapshots: &[PathBuf], mode: Mode, directory: &Path) -> Result<(), String> {
        let send = |snapshot: &Path| mode.apply(Sender::new(snapshot));
        let mut received = Vec::new();
        let mut parent: Option<&PathBuf> = None;
        for snapshot in snapshots {
            let mut sender = send(snapshot);
            if let Some(parent) = parent {
                sender = sender.parent(parent);
            }
            received.push(self.arrives(&sender, snapshot, directory)?);
            parent = Some(snapshot);
        }
        received.drain(..).for_each(|path| subvolume::delete(&path));
        if let (Some(last), true) = (snapshots.last(), snapshots.len() > 1) {
            let path = self.arrives(&send(last), last, directory)?;
            subvolume::delete(&path);
        }
        Ok(())
    }

    /// Sends, receives and compares one snapshot; returns where it arrived.
    fn arrives(
        &self,
        sender: &Sender,
        snapshot: &Path,
        directory: &Path,
    ) -> Result<PathBuf, String> {
        let name = snapshot.file_name().unwrap_or_default();
        let path = directory.join(name);
        let about = |reason: String| format!("{}: {reason}", name.to_string_lossy());
        (self.receive)(&sender.to_vec(), directory).map_err(about)?;
        let (sent, received) = (subvolume::facts(snapshot), subvolume::facts(&path));
        if !received.read_only || received.received_uuid.as_ref() != Some(&sent.uuid) {
            return Err(about(format!("not finished: {received:?}")));
        }
        let differences = compare(&Tree::read(snapshot), &Tree::read(&path), &self.compared);
        if !differences.is_empty() {
            return Err(about(format!(
                "differs:\n{}",
                Difference::list(&differences)
            )));
        }
        Ok(path)
    }
}

/// The two filesystems of a test.
struct Arena {
    source: LoopFilesystem,
    destination: LoopFilesystem,
}

fn list(steps: &[Step]) -> String {
    let lines: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
    lines.join("\n")
}

fn environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
