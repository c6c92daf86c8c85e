//! The threads that carry operations out, what is under way between them, and
//! what failed.
//!
//! ```text
//! caller ── Step ──> btrfs-namespace ── Task ──> btrfs-content
//! ```
//!
//! The caller's thread hands steps in, [`Engine`] carries them out on the
//! second or hands them on with the file that they concern, and [`Content`] has
//! them carried out on the third. Each does so in the order of the stream.
//! The queues have no bounds: a step takes its share of one [`Budget`] before
//! it is handed in, and gives that back when it was carried out.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::{Budget, Meter, Share};
use super::content::{ContentWriter, Task};
use super::engine::Engine;
use super::error::StepError;
use super::worker::Worker;
use crate::error::{Cause, Failure};
use crate::plan::op::Step;
use crate::report::Fallbacks;

/// The side that hands steps in.
///
/// Bound: 8 MiB of input under way, or one operation if that is larger, about
/// 8,000 operations, and 256 files that these keep open.
pub(super) struct Pipeline {
    namespace: Worker<Request>,
    budget: Budget,
    meter: Meter,
    failures: Failures,
}

/// What the caller's thread asks of the one that changes names.
enum Request {
    Step(Step, Share),
    /// Anything else; the caller waits for it.
    Call(Box<dyn FnOnce(&mut Engine) + Send + Sync>),
}

impl Pipeline {
    /// Starts the threads; `make` makes what the first of them works with.
    ///
    /// # Errors
    /// A thread could not be started.
    pub(super) fn start(make: impl FnOnce(Content) -> Engine) -> io::Result<Self> {
        let failures = Failures::default();
        let engine = make(Content::start(failures.clone())?);
        let failed = failures.clone();
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
                }
                Request::Call(call) => call(engine),
            },
        )?;
        Ok(Self {
            namespace,
            budget: Budget::default(),
            meter: Meter::default(),
            failures,
        })
    }

    /// Hands in a step; waits while the budget is used up.
    pub(super) fn step(&mut self, step: Step) {
        let cost = self.meter.cost(&step);
        let share = self.budget.try_take(cost).unwrap_or_else(|| {
            // What this thread keeps back would never be carried out while
            // it waits.
            self.namespace.flush();
            self.budget.take(cost)
        });
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
        let _ = self.call(|engine| {
            engine.wait();
            Ok(())
        });
        self.next_failure().map_or(Ok(()), Err)
    }

    /// The first failure of those known, in the order of the stream.
    pub(super) fn next_failure(&self) -> Option<Failure> {
        self.failures.take_first()
    }

    /// Gives up the subvolume under construction, by `work`: drops every step
    /// that was not begun, and every failure.
    pub(super) fn give_up<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> Result<T, Cause> + Send + Sync + 'static,
    ) -> Result<T, Cause> {
        self.namespace.discard();
        let result = self.call(work);
        self.failures.clear();
        result
    }
}

/// Where the steps on regular files go, once these are open.
///
/// One thread carries all of them out, whatever inode they concern.
pub(super) struct Content {
    thread: Worker<Task>,
    /// For the subvolume under construction.
    writer: Arc<Mutex<Option<ContentWriter>>>,
    failures: Failures,
}

impl Content {
    fn start(failures: Failures) -> io::Result<Self> {
        let writer: Arc<Mutex<Option<ContentWriter>>> = Arc::default();
        let (theirs, failed) = (Arc::clone(&writer), failures.clone());
        let thread = Worker::start(
            "btrfs-content",
            move || theirs,
            move |writer, task: Task| {
                let done = match &mut *lock(writer) {
                    Some(writer) => writer.run(&task),
                    None => Err(StepError::from(Cause::NothingToFinish).of(&task.step)),
                };
                if let Err(failure) = done {
                    failed.push(failure);
                }
            },
        )?;
        Ok(Self {
            thread,
            writer,
            failures,
        })
    }

    /// Another subvolume begins, for which `writer` carries tasks out. Nothing
    /// is under way.
    pub(super) fn begin(&mut self, writer: ContentWriter) {
        *lock(&self.writer) = Some(writer);
    }

    /// Hands over a task; waits while those under way keep too many files
    /// open.
    pub(super) fn hand_over(&mut self, mut task: Task) {
        for _ in std::iter::once(&task.file).chain(&task.source) {
            if !task.share.try_keep_file() {
                // As for the budget of bytes.
                self.thread.flush();
                task.share.keep_file();
            }
        }
        let cost = task.share.bytes();
        self.thread.push(task, cost);
    }

    /// Waits until every task was carried out; they may have failed.
    ///
    /// # Errors
    /// The thread has panicked.
    pub(super) fn wait(&mut self) -> Result<(), Cause> {
        if self.thread.wait() {
            Ok(())
        } else {
            Err(Cause::ThreadPanicked)
        }
    }

    /// Waits until every task was carried out.
    ///
    /// # Errors
    /// The thread has panicked, or a step failed and nobody knows yet: a task,
    /// or one that was carried out before.
    pub(super) fn settle(&mut self) -> Result<(), Cause> {
        self.wait()?;
        match self.failures.take_first() {
            Some(failure) => Err(*failure.cause),
            None => Ok(()),
        }
    }

    /// Drops every task that has not begun, and what belongs to the subvolume.
    pub(super) fn end(&mut self) {
        self.thread.discard();
        *lock(&self.writer) = None;
    }

    /// What had to be done another way in this subvolume.
    pub(super) fn fallbacks(&self) -> Fallbacks {
        let mut writer = lock(&self.writer);
        writer
            .as_mut()
            .map_or_else(Fallbacks::default, |writer| *writer.fallbacks())
    }

    /// Sets what [`fallbacks`](Self::fallbacks) returns, as from a checkpoint.
    #[cfg(feature = "resume")]
    pub(super) fn set_fallbacks(&self, fallbacks: Fallbacks) {
        if let Some(writer) = &mut *lock(&self.writer) {
            *writer.fallbacks() = fallbacks;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic nothing is finished, whatever the state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Failures that nobody has asked for yet. Never more than steps that were
/// under way.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    /// By their offset in the stream and then by their number.
    failures: BTreeMap<(u64, u64), Failure>,
    number: u64,
}

impl Failures {
    fn push(&self, failure: Failure) {
        let mut waiting = lock(&self.0);
        let number = waiting.number;
        waiting.number += 1;
        waiting
            .failures
            .insert((failure.at.offset, number), failure);
    }

    fn take_first(&self) -> Option<Failure> {
        let (_, failure) = lock(&self.0).failures.pop_first()?;
        Some(failure)
    }

    fn clear(&self) {
        lock(&self.0).failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use btrfs_sendstream::{Position, StreamPath};

    use super::super::content::OpenFile;
    use super::super::data::DataWriter;
    use super::super::encoded::Accepted;
    use super::super::flags::SharedFlags;
    use super::*;
    use crate::plan::op::Op;

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

    fn truncate(file: &Arc<OpenFile>, offset: u64, size: u64, share: Share) -> Task {
        let path = StreamPath::default();
        Task {
            file: Arc::clone(file),
            source: None,
            step: Step::new(Op::Truncate { path, size }, at(offset)),
            share,
        }
    }

    fn file() -> Arc<OpenFile> {
        Arc::new(OpenFile::existing(
            tempfile::tempfile().unwrap().into(),
            true,
        ))
    }

    fn writer() -> ContentWriter {
        let (accepted, flags) = (Accepted::default(), SharedFlags::default());
        ContentWriter::new(DataWriter::decoding(), accepted, flags, true)
    }

    #[test]
    fn files_that_wait_are_bounded() {
        let (mut content, budget) = (
            Content::start(Failures::default()).unwrap(),
            Budget::default(),
        );
        content.begin(writer());
        let mut files: Vec<Weak<OpenFile>> = Vec::new();
        for offset in 0..1000 {
            let file = file();
            files.push(Arc::downgrade(&file));
            content.hand_over(truncate(&file, offset, 7, budget.take(1)));
            drop(file);
            files.retain(|file| file.strong_count() > 0);
            assert!(files.len() <= 256);
        }
        content.settle().unwrap();
    }

    #[test]
    fn a_task_that_fails_is_known_when_all_are_done() {
        let (mut content, budget) = (
            Content::start(Failures::default()).unwrap(),
            Budget::default(),
        );
        content.begin(writer());
        for offset in 0..100 {
            let size = if offset == 42 { u64::MAX } else { offset };
            content.hand_over(truncate(&file(), offset, size, budget.take(1)));
        }
        content.wait().unwrap();
        assert_eq!(content.failures.take_first().unwrap().at, at(42));
        content.settle().unwrap();
        // Of the next subvolume nothing is carried out before it begins.
        content.end();
        content.hand_over(truncate(&file(), 0, 0, budget.take(1)));
        assert!(matches!(content.settle(), Err(Cause::NothingToFinish)));
    }
}
