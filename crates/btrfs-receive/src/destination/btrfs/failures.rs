//! Failures of steps, in the order of the stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::destination::tree::lock::lock;
use crate::error::Failure;

/// Failures that nobody has asked for yet. Never more than steps that were
/// under way.
#[derive(Clone, Default)]
pub(super) struct Failures(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// By their offset in the stream and then by their number.
    failures: BTreeMap<(u64, u64), Failure>,
    number: u64,
}

impl Failures {
    pub(super) fn push(&self, failure: Failure) {
        let mut waiting = lock(&self.0);
        let number = waiting.number;
        waiting.number += 1;
        waiting
            .failures
            .insert((failure.at.offset, number), failure);
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).failures.is_empty()
    }

    pub(super) fn take_first(&self) -> Option<Failure> {
        let (_, failure) = lock(&self.0).failures.pop_first()?;
        Some(failure)
    }

    pub(super) fn clear(&self) {
        lock(&self.0).failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use btrfs_sendstream::Position;

    use super::*;
    use crate::error::Cause;

    #[test]
    fn failures_come_in_the_order_of_the_stream() {
        let failures = Failures::default();
        for (offset, operation) in [(7, "c"), (3, "a"), (7, "d"), (5, "b")] {
            failures.push(Failure::new(at(offset), operation, b"", Cause::Misplaced));
        }
        let order = std::iter::from_fn(|| failures.take_first());
        let order: Vec<_> = order.map(|failure| failure.operation).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    fn at(offset: u64) -> Position {
        Position {
            offset,
            ..Position::default()
        }
    }
}
