//! Bytes a second, of the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back is looked.
const WINDOW: Duration = Duration::from_secs(10);

/// What was seen when: one entry for each time it was asked for, within the
/// window.
#[derive(Debug)]
pub(super) struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    /// Nothing was read before `start`.
    pub(super) fn new(start: Instant) -> Self {
        Self(VecDeque::from([(start, 0)]))
    }

    /// Notes how many bytes there are now, and says how many come a second.
    pub(super) fn at(&mut self, now: Instant, bytes: u64) -> u64 {
        self.0.push_back((now, bytes));
        while self.0.len() > 2
            && let Some(&(next, _)) = self.0.get(1)
            && now.duration_since(next) >= WINDOW
        {
            self.0.pop_front();
        }
        let &(then, before) = self.0.front().unwrap_or(&(now, bytes));
        let milliseconds = now.duration_since(then).as_millis();
        let come = u128::from(bytes.saturating_sub(before));
        match milliseconds {
            0 => 0,
            _ => u64::try_from(come * 1000 / milliseconds).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_back_some_seconds() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let mut at = |seconds, bytes| rate.at(start + Duration::from_secs(seconds), bytes);
        assert_eq!(at(0, 0), 0);
        assert_eq!(at(2, 2000), 1000);
        assert_eq!(at(10, 10_000), 1000);
        assert_eq!(at(20, 10_000), 0);
        assert_eq!(at(21, 20_000), 909);
    }
}
