//! The threads that carry operations out, what is under way between them, and
//! what failed.
//!
//! ```text
//! caller ── Step ──> btrfs-namespace ── Task ──> btrfs-content (several)
//! ```
//!
//! The caller's thread hands steps in. [`Engine`] carries them out on the second,
//! in the order of the stream, or hands them on with the file that they concern:
//! [`Lanes`] has them carried out, in the order of the stream for each file.
//! The queues have no bounds: a step takes its share of one [`Budget`] before
//! it is handed in, and gives that back when it was carried out.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use btrfs_sendstream::Position;

use super::activity::Activity;
use super::budget::{Budget, Meter, Share};
use super::engine::Engine;
use super::failures::Failures;
use super::lanes::Lanes;
use super::worker::Worker;
use crate::error::{Cause, Failure};
use crate::plan::op::Step;
use crate::report::Waits;
use crate::timing::Waited;

/// The side that hands steps in.
///
/// Bound: 8 MiB of input under way, or one operation if that is larger, about
/// 8,000 operations, and 256 files that these keep open, or fewer if the process
/// has few descriptors.
pub(super) struct Pipeline {
    namespace: Worker<Request>,
    budget: Budget,
    meter: Meter,
    failures: Failures,
    /// Steps that the thread that changes names has not dealt with yet.
    pending: Arc<AtomicUsize>,
    /// How long that thread has waited for lanes.
    for_lanes: Waited,
    waits: Waits,
}

/// What the caller's thread asks of the one that changes names.
enum Request {
    Step(Step, Share),
    /// Anything else; the caller waits for it.
    Call(Box<dyn FnOnce(&mut Engine) + Send + Sync>),
}

impl Pipeline {
    /// Starts the threads, so many `lanes` or as many as help; `make` makes what
    /// the first of them works with.
    ///
    /// # Errors
    /// A thread could not be started.
    pub(super) fn start(
        lanes: Option<usize>,
        make: impl FnOnce(Lanes) -> Engine,
    ) -> io::Result<Self> {
        let failures = Failures::default();
        let activity = match lanes {
            Some(lanes) => Activity::fixed(lanes),
            None => Activity::new(thread::available_parallelism().map_or(1, usize::from)),
        };
        let lanes = Lanes::start(failures.clone(), activity)?;
        let for_lanes = lanes.waited();
        let engine = make(lanes);
        let failed = failures.clone();
        let pending = Arc::new(AtomicUsize::new(0));
        let dealt_with = Arc::clone(&pending);
        let namespace = Worker::start(
            "btrfs-namespace",
            move || {
                let mut engine = engine;
                engine.enter_thread();
                engine
            },
            move |engine, request| match request {
                Request::Step(step, share) => {
                    if let Err(failure) = engine.step(step, share) {
                        failed.push(failure);
                    }
                    dealt_with.fetch_sub(1, Ordering::Relaxed);
                }
                Request::Call(call) => call(engine),
            },
        )?;
        Ok(Self {
            namespace,
            budget: Budget::default(),
            meter: Meter::default(),
            failures,
            pending,
            for_lanes,
            waits: Waits::default(),
        })
    }

    /// A subvolume begins, `at` a place that can be in another input.
    pub(super) fn begin(&mut self, at: Position) {
        self.meter.begin(at);
    }

    /// Hands in a step; waits while the budget is used up.
    pub(super) fn step(&mut self, step: Step) {
        let cost = self.meter.cost(&step);
        let share = match self.budget.try_take(cost) {
            Some(share) => share,
            None => self.wait_for_share(cost),
        };
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.namespace.push(Request::Step(step, share), cost);
    }

    /// Has something done after the steps before, and waits for it.
    ///
    /// # Errors
    /// That of `work`, or a thread has panicked.
    pub(super) fn call<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> Result<T, Cause> + Send + Sync + 'static,
    ) -> Result<T, Cause> {
        let (answer, answered) = mpsc::channel();
        let call = Box::new(move |engine: &mut Engine| {
            // If nobody waits for the answer any more, nobody needs it.
            let _ = answer.send(work(engine));
        });
        self.namespace.push(Request::Call(call), 0);
        if !self.namespace.wait() {
            return Err(Cause::ThreadPanicked);
        }
        answered.recv().unwrap_or(Err(Cause::ThreadPanicked))
    }

    /// Waits until every step was carried out.
    ///
    /// # Errors
    /// The first failure that is known. A panic of a thread is none: whatever
    /// is [called](Self::call) next says so.
    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        self.wait();
        self.failures.take_first().map_or(Ok(()), Err)
    }

    /// The first failure, in the order of the stream, if one is known. What is
    /// under way is waited for then: it may fail too, at an earlier command.
    pub(super) fn next_failure(&mut self) -> Option<Failure> {
        if self.failures.is_empty() {
            return None;
        }
        self.wait();
        self.failures.take_first()
    }

    fn wait(&mut self) {
        let (begun, for_lanes) = (Instant::now(), self.for_lanes.get());
        let _ = self.call(|engine| {
            engine.wait();
            Ok(())
        });
        let data = self.for_lanes.get().saturating_sub(for_lanes);
        self.waits.data += data;
        self.waits.metadata += begun.elapsed().saturating_sub(data);
    }

    /// How long [`step`](Self::step) and [`settle`](Self::settle) have waited.
    pub(super) fn waits(&self) -> Waits {
        self.waits
    }

    /// Takes a share of the budget when there is one, and finds out what that
    /// waits for: data, while the thread that changes names waits for lanes as
    /// well or has nothing to do; or else names and metadata.
    fn wait_for_share(&mut self, cost: usize) -> Share {
        let (begun, for_lanes) = (Instant::now(), self.for_lanes.get());
        // What this thread keeps back would never be carried out while it waits.
        self.namespace.flush();
        let share = self.budget.take(cost);
        let took = begun.elapsed();
        let data = if self.pending.load(Ordering::Relaxed) == 0 {
            took
        } else {
            took.min(self.for_lanes.get().saturating_sub(for_lanes))
        };
        self.waits.data += data;
        self.waits.metadata += took.saturating_sub(data);
        share
    }

    /// Gives up the subvolume under construction, by `work`: drops every step
    /// that was not begun, and every failure.
    pub(super) fn give_up<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> Result<T, Cause> + Send + Sync + 'static,
    ) -> Result<T, Cause> {
        self.namespace.discard();
        self.pending.store(0, Ordering::Relaxed);
        let result = self.call(work);
        self.failures.clear();
        result
    }
}
