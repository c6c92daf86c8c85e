//! How many lanes are at work at the same time.
//!
//! While no task waits, more threads than processors would only take the
//! processors from each other. A task that waits for the disk takes far longer
//! than its work, and then others may as well go on meanwhile. So each slow task
//! lets in one more lane, up to as many as there are, and quick ones take that
//! back. A wrong guess costs some time, and nothing else.

use std::time::Duration;

/// Enough to keep the queue of a disk full while each waits for it.
const MOST_LANES: usize = 16;
/// Threads beside the lanes that are at work all the time: one reads and plans,
/// one changes names.
const OTHERS: usize = 2;
/// One lane alone is quicker done with fewer tasks than another is awake.
const BACKLOG: usize = 8;
/// What a task takes at most that does not wait, apart from its data.
const QUICK: Duration = Duration::from_micros(400);
/// And for each byte of these: a slow processor decompresses faster.
const NANOS_PER_BYTE: u64 = 3;
/// A slow task lets in one lane more, and this many quick ones one less: a few
/// of the tasks on a file wait, if any.
const QUICK_PER_SLOW: usize = 16;

/// Lanes that are at work, and how many may be.
pub(super) struct Activity {
    at_work: usize,
    /// Lanes that may be at work, times [`QUICK_PER_SLOW`].
    allowed: usize,
    least: usize,
    most: usize,
    /// Tasks before another lane begins while none waits.
    backlog: usize,
}

impl Activity {
    /// One lane for each of `processors` that the other threads leave, and more
    /// if tasks turn out to wait.
    pub(super) fn new(processors: usize) -> Self {
        let least = processors.saturating_sub(OTHERS).clamp(1, MOST_LANES);
        Self {
            at_work: 0,
            allowed: least * QUICK_PER_SLOW,
            least: least * QUICK_PER_SLOW,
            most: MOST_LANES * QUICK_PER_SLOW,
            backlog: BACKLOG,
        }
    }

    /// So many lanes, whether tasks wait or not.
    pub(super) fn fixed(lanes: usize) -> Self {
        let lanes = lanes.max(1) * QUICK_PER_SLOW;
        Self {
            at_work: 0,
            allowed: lanes,
            least: lanes,
            most: lanes,
            backlog: 1,
        }
    }

    /// Lanes that there can be.
    pub(super) fn most(&self) -> usize {
        self.most / QUICK_PER_SLOW
    }

    /// Whether another lane is worth waking up for so many tasks.
    pub(super) fn wants_another(&self, ready: usize) -> bool {
        let waits = self.allowed > self.least;
        let few = if self.at_work == 0 || waits {
            1
        } else {
            self.backlog
        };
        ready >= few && self.may_begin()
    }

    pub(super) fn may_begin(&self) -> bool {
        self.at_work < self.allowed / QUICK_PER_SLOW
    }

    /// Whether no more than one lane may be at work.
    pub(super) fn is_one(&self) -> bool {
        self.allowed < 2 * QUICK_PER_SLOW
    }

    pub(super) fn begin(&mut self) {
        self.at_work += 1;
    }

    /// A lane has carried out tasks, so many `quick` ones and so many `slow`.
    pub(super) fn end(&mut self, Pace { quick, slow }: Pace) {
        self.at_work -= 1;
        let more = self.allowed + slow * QUICK_PER_SLOW;
        self.allowed = more.saturating_sub(quick).clamp(self.least, self.most);
    }
}

/// How many tasks were quick, and how many probably waited.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    quick: usize,
    slow: usize,
}

impl Pace {
    /// Counts a task with so many bytes of data; whether it was slow.
    pub(super) fn count(&mut self, took: Duration, bytes: usize) -> bool {
        let work = Duration::from_nanos(NANOS_PER_BYTE.saturating_mul(bytes as u64));
        let slow = took > QUICK + work;
        if slow {
            self.slow += 1;
        } else {
            self.quick += 1;
        }
        slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(quick: usize, slow: usize) -> Pace {
        Pace { quick, slow }
    }

    /// How many lanes begin while there is enough to do.
    fn fill(activity: &mut Activity) -> usize {
        while activity.may_begin() {
            activity.begin();
        }
        activity.at_work
    }

    #[test]
    fn as_many_as_processors_while_tasks_are_quick() {
        let mut activity = Activity::new(2 + OTHERS);
        assert_eq!(fill(&mut activity), 2);
        for _ in 0..100 {
            activity.end(pace(3, 0));
            assert_eq!(fill(&mut activity), 2);
        }
        activity.end(pace(1, 0));
        assert!(activity.wants_another(BACKLOG) && !activity.wants_another(BACKLOG - 1));
    }

    #[test]
    fn more_while_they_wait_and_fewer_again() {
        let mut activity = Activity::new(1);
        for _ in 0..100 {
            fill(&mut activity);
            activity.end(pace(3, 1));
            assert!(activity.wants_another(1));
        }
        assert_eq!(fill(&mut activity), MOST_LANES);
        for _ in 0..MOST_LANES * QUICK_PER_SLOW {
            activity.end(pace(1, 0));
            activity.begin();
        }
        while activity.at_work > 0 {
            activity.end(pace(0, 0));
        }
        assert_eq!(fill(&mut activity), 1);
    }

    #[test]
    fn data_takes_time_without_waiting() {
        let mut pace = Pace::default();
        assert!(!pace.count(QUICK * 2, 1 << 20));
        assert!(pace.count(QUICK * 2, 100));
        assert_eq!((pace.quick, pace.slow), (1, 1));
    }
}
