//! Measures where the time of a receive goes. The clock is read around what
//! may wait, and never for each command.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::report::Waits;

/// The clock of one receive after the other.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// When it began; `None` between two receives.
    begun: Option<Instant>,
    /// In reads of the input, shared with [`Timed`].
    input: Waited,
    sync: Duration,
    /// What the destination had waited before.
    before: Waits,
}

/// An input whose reads are timed.
pub(crate) struct Timed<R> {
    source: R,
    waited: Waited,
}

/// A time that one thread adds to and another one reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waited(Arc<AtomicU64>);

impl Waited {
    pub(crate) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Timing {
    pub(crate) fn is_running(&self) -> bool {
        self.begun.is_some()
    }

    /// Starts the clock, unless it runs. `waits` is what the destination has
    /// waited so far.
    pub(crate) fn begin(&mut self, waits: Waits) {
        if self.begun.is_none() {
            *self = Self {
                begun: Some(Instant::now()),
                before: waits,
                ..Self::default()
            };
        }
    }

    pub(crate) fn timed<R>(&self, source: R) -> Timed<R> {
        let waited = self.input.clone();
        Timed { source, waited }
    }

    /// Times what makes a subvolume durable and marks it.
    pub(crate) fn sync<T>(&mut self, finish: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = finish();
        self.sync += begun.elapsed();
        result
    }

    /// Stops the clock.
    pub(crate) fn end(&mut self, waits: Waits) -> Waits {
        let begun = self.begun.take();
        Waits {
            total: begun.map_or(Duration::ZERO, |begun| begun.elapsed()),
            input: self.input.get(),
            data: waits.data.saturating_sub(self.before.data),
            metadata: waits.metadata.saturating_sub(self.before.metadata),
            sync: self.sync,
        }
    }
}

impl<R: Read> Read for Timed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        let result = self.source.read(buffer);
        self.waited.add(begun.elapsed());
        result
    }
}
