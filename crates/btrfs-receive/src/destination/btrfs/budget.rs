//! A bound on what waits to be carried out, over all threads.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use btrfs_sendstream::Position;

use crate::plan::op::{NewInode, Op, Step};

/// Bytes of input under way at most, unless a single operation has more.
const MOST: usize = 8 << 20;
/// More is always let in while less than this is under way: so much may be
/// kept back by a thread that hands over its work in batches, and would never
/// be given back while everyone waits.
const SLACK: usize = 512 << 10;
/// Who waits goes on when no more than this is under way. More than [`SLACK`],
/// which may be kept back for as long as someone waits.
const LOW: usize = MOST / 2;
/// What an operation costs apart from its input, rounded up generously: it
/// also bounds how many are under way, and so how many can fail at once.
const OVERHEAD: usize = 1024;

/// Bytes of input that operations under way keep in memory.
///
/// An operation keeps the whole buffer alive that it was read into, however
/// little of it is its own. So it is charged for all input since the one
/// before, not for its own bytes only.
#[derive(Clone, Default)]
pub(super) struct Budget(Arc<Shared>);

#[derive(Default)]
struct Shared {
    held: Mutex<Held>,
    freed: Condvar,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// Someone waits for it to become less.
    wanted: bool,
}

/// A part of the budget, given back when dropped.
pub(super) struct Share {
    bytes: usize,
    shared: Arc<Shared>,
}

impl Budget {
    /// Takes `bytes`, or gives `None` if that has to wait.
    pub(super) fn try_take(&self, bytes: usize) -> Option<Share> {
        self.take_from(&mut self.0.lock(), bytes)
    }

    /// Takes `bytes`, waits until they are there.
    pub(super) fn take(&self, bytes: usize) -> Share {
        let mut held = self.0.lock();
        loop {
            if let Some(share) = self.take_from(&mut held, bytes) {
                return share;
            }
            held.wanted = true;
            held = self
                .0
                .freed
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take_from(&self, held: &mut Held, bytes: usize) -> Option<Share> {
        let fits = held.bytes < SLACK || held.bytes.saturating_add(bytes) <= MOST;
        fits.then(|| {
            held.bytes += bytes;
            Share {
                bytes,
                shared: Arc::clone(&self.0),
            }
        })
    }
}

impl Share {
    /// What it stands for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shared.lock();
        held.bytes -= self.bytes;
        // Who waits is woken for a good part of the budget, not for each
        // operation.
        if held.wanted && held.bytes <= LOW {
            held.wanted = false;
            self.shared.freed.notify_one();
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
    /// Bytes to charge for `step`.
    pub(super) fn cost(&mut self, step: &Step) -> usize {
        let own = size(&step.op);
        let Position { offset, .. } = *step.fused.last().unwrap_or(&step.at);
        let before = step.at.offset.saturating_sub(self.charged);
        self.charged = self.charged.max(offset.saturating_add(own as u64));
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        own.saturating_add(before).saturating_add(OVERHEAD)
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
                _ => 0,
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
        _ => 0,
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
        let half = budget.take(MOST / 2);
        let other = budget.try_take(MOST / 2).unwrap();
        assert!(budget.try_take(1).is_none());
        drop(half);
        assert!(budget.try_take(MOST).is_none());
        assert!(budget.try_take(MOST / 4).is_some());
        drop(other);
        assert_eq!(budget.try_take(10 * MOST).unwrap().bytes(), 10 * MOST);
    }

    #[test]
    fn waits_for_what_another_thread_holds() {
        let budget = Budget::default();
        let held = budget.take(MOST);
        let theirs = budget.clone();
        let waiting = std::thread::spawn(move || theirs.take(MOST).bytes());
        drop(held);
        assert_eq!(waiting.join().unwrap(), MOST);
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
    }
}
