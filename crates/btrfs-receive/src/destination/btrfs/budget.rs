//! A bound on what is under way, over all threads: bytes of input, and open
//! files.

use std::sync::{Arc, Condvar, Mutex};

use crate::destination::tree::lock::{lock, wait};
use crate::destination::tree::open_file::file_capacity;

use btrfs_sendstream::Position;

use crate::plan::op::{NewInode, Op, Step};

/// Bytes of input under way at most, unless a single operation has more.
const MOST_BYTES: usize = 8 << 20;
/// More is always let in while less than this is under way: so much may be
/// kept back by a thread that hands over its work in batches, and would never
/// be given back while everyone waits.
const SLACK: usize = 512 << 10;
/// Who waits for bytes goes on when no more than this is under way. More than
/// [`SLACK`], which may be kept back for as long as someone waits.
const LOW_BYTES: usize = MOST_BYTES / 2;
/// What an operation costs apart from its input, rounded up generously: it
/// also bounds how many are under way, and so how many can fail at once.
const OVERHEAD: usize = 1024;
/// Files that operations under way keep open at most, or fewer if the process
/// has few descriptors.
const MOST_FILES: usize = 256;

/// What operations under way keep: bytes of input in memory, and open files.
///
/// An operation keeps the whole buffer alive that it was read into, however
/// little of it is its own. So it is charged for all input since the one
/// before, not for its own bytes only.
///
/// Each kind has one thread that waits for it: the one that hands operations
/// in waits for bytes, the one that opens files waits for files. Who gives
/// back neither waits nor needs the other to go on.
#[derive(Clone, Default)]
pub(super) struct Budget(Arc<Shared>);

struct Shared {
    held: Mutex<Held>,
    bytes_freed: Condvar,
    files_freed: Condvar,
    /// A quarter of the descriptors that the process may have, of which caches
    /// of files take up to three eighths; [`MOST_FILES`] at most. At least two,
    /// which a clone needs.
    most_files: usize,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            bytes_freed: Condvar::new(),
            files_freed: Condvar::new(),
            most_files: (2 * file_capacity()).min(MOST_FILES),
        }
    }
}

#[derive(Default)]
struct Held {
    bytes: usize,
    files: usize,
    /// Someone waits for bytes.
    bytes_wanted: bool,
    /// Someone waits for files.
    files_wanted: bool,
}

/// What one operation takes of the budget; given back when dropped.
pub(super) struct Share {
    bytes: usize,
    files: usize,
    shared: Arc<Shared>,
}

impl Budget {
    /// Takes `bytes`, or gives `None` if that has to wait.
    pub(super) fn try_take(&self, bytes: usize) -> Option<Share> {
        self.take_from(&mut lock(&self.0.held), bytes)
    }

    /// Takes `bytes`, waits until they are there.
    pub(super) fn take(&self, bytes: usize) -> Share {
        let mut held = lock(&self.0.held);
        loop {
            if let Some(share) = self.take_from(&mut held, bytes) {
                return share;
            }
            held.bytes_wanted = true;
            held = wait(&self.0.bytes_freed, held);
        }
    }

    fn take_from(&self, held: &mut Held, bytes: usize) -> Option<Share> {
        let fits = held.bytes < SLACK || held.bytes.saturating_add(bytes) <= MOST_BYTES;
        fits.then(|| {
            held.bytes += bytes;
            Share {
                bytes,
                files: 0,
                shared: Arc::clone(&self.0),
            }
        })
    }
}

impl Share {
    /// The bytes it stands for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts one more file that the operation keeps open, or gives `false`
    /// if that has to wait.
    #[must_use]
    pub(super) fn try_keep_file(&mut self) -> bool {
        let mut held = lock(&self.shared.held);
        let fits = held.files < self.shared.most_files;
        if fits {
            held.files += 1;
            self.files += 1;
        }
        fits
    }

    /// Counts one more file that the operation keeps open; waits until there
    /// is room for it.
    pub(super) fn keep_file(&mut self) {
        let mut held = lock(&self.shared.held);
        while held.files >= self.shared.most_files {
            held.files_wanted = true;
            held = wait(&self.shared.files_freed, held);
        }
        held.files += 1;
        self.files += 1;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = lock(&self.shared.held);
        held.bytes -= self.bytes;
        held.files -= self.files;
        // Who waits is woken for a good part of the budget, not for each
        // operation.
        if held.bytes_wanted && held.bytes <= LOW_BYTES {
            held.bytes_wanted = false;
            self.shared.bytes_freed.notify_one();
        }
        if held.files_wanted && held.files <= self.shared.most_files / 2 {
            held.files_wanted = false;
            self.shared.files_freed.notify_one();
        }
    }
}

/// Says what each step of a stream costs.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Where the input of the last step ends, about.
    charged: u64,
}

impl Meter {
    /// A subvolume begins, `at` a place that can be in another input.
    pub(super) fn begin(&mut self, at: Position) {
        self.charged = at.offset;
    }

    /// Bytes to charge for `step`: [`MOST_BYTES`] at most, which nothing else
    /// fits in beside it.
    pub(super) fn cost(&mut self, step: &Step) -> usize {
        let own = size(&step.op);
        let Position { offset, .. } = *step.fused.last().unwrap_or(&step.at);
        let before = step.at.offset.saturating_sub(self.charged);
        self.charged = self.charged.max(offset.saturating_add(own as u64));
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        let all = own.saturating_add(before).saturating_add(OVERHEAD);
        all.min(MOST_BYTES)
    }
}

/// Bytes of input in an operation.
fn size(op: &Op) -> usize {
    let more = match op {
        Op::Create {
            created_as, kind, ..
        } => {
            let target = match kind {
                NewInode::Symlink { target } => target.len(),
                NewInode::File
                | NewInode::Directory
                | NewInode::Device { .. }
                | NewInode::Fifo { .. }
                | NewInode::Socket { .. } => 0,
            };
            target + created_as.as_ref().map_or(0, |path| path.as_bytes().len())
        }
        Op::Rename { to, .. } => to.as_bytes().len(),
        Op::Link { existing, .. } | Op::Move { existing, .. } => existing.as_bytes().len(),
        Op::SetXattr { name, data, .. } => name.len() + data.len(),
        Op::RemoveXattr { name, .. } => name.len(),
        Op::Write { data, .. } => data.iter().map(|piece| piece.len()).sum(),
        Op::Clone(clone) => clone.source_path.as_bytes().len(),
        Op::EncodedWrite(write) => write.data.len(),
        Op::EnableVerity(verity) => verity.salt.len() + verity.signature.len(),
        Op::Unlink { .. }
        | Op::Rmdir { .. }
        | Op::Truncate { .. }
        | Op::Fallocate { .. }
        | Op::Chown { .. }
        | Op::Chmod { .. }
        | Op::FileAttr { .. }
        | Op::Utimes { .. } => 0,
    };
    more + op.path().as_bytes().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use btrfs_sendstream::{Bytes, StreamPath};

    #[test]
    fn gives_back_what_is_dropped() {
        let budget = Budget::default();
        let half = budget.take(MOST_BYTES / 2);
        let other = budget.try_take(MOST_BYTES / 2).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(half);
        assert!(budget.try_take(MOST_BYTES).is_none());
        assert!(budget.try_take(MOST_BYTES / 4).is_some());
        drop(other);
        assert_eq!(
            budget.try_take(10 * MOST_BYTES).unwrap().bytes(),
            10 * MOST_BYTES
        );
    }

    #[test]
    fn waits_for_what_another_thread_holds() {
        let budget = Budget::default();
        let held = budget.take(MOST_BYTES);
        let theirs = budget.clone();
        let waiting = std::thread::spawn(move || theirs.take(MOST_BYTES).bytes());
        drop(held);
        assert_eq!(waiting.join().unwrap(), MOST_BYTES);
    }

    /// A share that keeps `count` files open.
    fn with_files(budget: &Budget, count: usize) -> Share {
        let mut share = budget.take(0);
        for _ in 0..count {
            assert!(share.try_keep_file());
        }
        share
    }

    #[test]
    fn files_are_given_back_too() {
        let budget = Budget::default();
        let all = with_files(&budget, budget.0.most_files);
        let mut more = budget.take(0);
        assert!(!more.try_keep_file());
        drop(all);
        assert!(more.try_keep_file());
    }

    #[test]
    fn who_waits_for_one_does_not_wait_for_the_other() {
        let budget = Budget::default();
        let mut share = budget.take(0);
        let files = with_files(&budget, budget.0.most_files);
        let bytes = budget.take(MOST_BYTES);
        let for_bytes = std::thread::spawn({
            let budget = budget.clone();
            move || drop(budget.take(MOST_BYTES))
        });
        let for_files = std::thread::spawn(move || share.keep_file());
        // Whichever of them is asked for, and given back, first.
        drop(files);
        for_files.join().unwrap();
        drop(bytes);
        for_bytes.join().unwrap();
    }

    #[test]
    fn an_operation_far_from_the_one_before_can_be_counted() {
        let (budget, mut meter) = (Budget::default(), Meter::default());
        let held = budget.take(1);
        let at = Position {
            offset: u64::MAX,
            ..Position::default()
        };
        let path = StreamPath::default();
        let cost = meter.cost(&Step::new(Op::Unlink { path }, at));
        let all = budget.try_take(cost).unwrap();
        assert!(budget.try_take(1).is_none());
        drop((held, all));
        assert!(budget.try_take(MOST_BYTES).is_some());
    }

    #[test]
    fn an_operation_pays_for_the_input_before_it() {
        let at = |offset| Position {
            offset,
            ..Position::default()
        };
        let unlink = |name: &'static str| Op::Unlink {
            path: StreamPath::parse(Bytes::from(name)).unwrap(),
        };
        let mut meter = Meter::default();
        assert_eq!(meter.cost(&Step::new(unlink("a"), at(0))), OVERHEAD + 1);
        let later = Step::new(unlink("b"), at(100_001));
        assert_eq!(meter.cost(&later), OVERHEAD + 100_001);
        // Another input.
        meter.begin(at(0));
        let later = Step::new(unlink("c"), at(50_000));
        assert_eq!(meter.cost(&later), OVERHEAD + 50_001);
    }
}
