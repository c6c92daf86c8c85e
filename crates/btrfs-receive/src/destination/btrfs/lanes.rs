//! The threads that change regular files.
//!
//! Tasks on one inode are carried out one after the other, as the stream has
//! them, and those on different inodes at the same time ([`Order`]): a thread
//! that waits for the disk keeps only its own file waiting. Nothing else is in
//! common to two files, since a task works on open descriptors; what the threads
//! share ([`Accepted`], [`SharedFlags`]) has locks.
//!
//! [`Accepted`]: crate::destination::tree::encoded::Accepted
//! [`SharedFlags`]: crate::destination::tree::flags::SharedFlags

use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::activity::{Activity, Pace};
use super::content::{ContentWriter, Task};
use super::failures::Failures;
use super::order::{Begun, Entry, Order};
use super::worker::{BATCH_BYTES, BATCH_TASKS, THREAD_STACK};
use crate::destination::tree::lock::{lock, wait};
use crate::destination::tree::open_file::InodeKey;
use crate::error::{Cause, Failure};
use crate::report::Fallbacks;
use crate::step_error::StepError;
use crate::timing::Waited;

/// Where the steps on regular files go, once these are open.
pub(super) struct Lanes {
    shared: Arc<Shared>,
    /// Handed over together, so that a small task does not cost a wake-up.
    batch: Vec<Queued>,
    batch_bytes: usize,
    /// How long whoever hands tasks over has waited for lanes.
    waited: Waited,
}

/// A task and the inodes that it concerns.
type Queued = Entry<InodeKey, Task>;

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Everything is carried out, or a thread has panicked.
    idle: Condvar,
    failures: Failures,
}

struct State {
    order: Order<InodeKey, Task>,
    activity: Activity,
    /// Threads that wait for work.
    waiting: usize,
    /// For the subvolume under construction, as many as were needed at once.
    writers: Vec<ContentWriter>,
    /// What the writers are copies of.
    writer: Option<ContentWriter>,
    threads: Vec<JoinHandle<()>>,
    discard: bool,
    closed: bool,
    panicked: bool,
}

impl Lanes {
    pub(super) fn start(failures: Failures, activity: Activity) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                order: Order::default(),
                activity,
                waiting: 0,
                writers: Vec::new(),
                writer: None,
                threads: Vec::new(),
                discard: false,
                closed: false,
                panicked: false,
            }),
            work: Condvar::new(),
            idle: Condvar::new(),
            failures,
        });
        shared.start_thread(&mut lock(&shared.state))?;
        Ok(Self {
            shared,
            batch: Vec::new(),
            batch_bytes: 0,
            waited: Waited::default(),
        })
    }

    /// Another subvolume begins, for which `writer` carries tasks out. Nothing
    /// is under way.
    pub(super) fn begin(&mut self, writer: ContentWriter) {
        let mut state = lock(&self.shared.state);
        state.writers.clear();
        state.writer = Some(writer);
    }

    /// Hands over a task; waits while those under way keep too many files
    /// open.
    ///
    /// # Errors
    /// Which inode it concerns cannot be found out.
    pub(super) fn hand_over(&mut self, mut task: Task) -> Result<(), Failure> {
        let inodes = || -> Result<_, Cause> {
            let file = task.file.inode()?;
            let source = task.source.as_ref().map(|source| source.inode());
            // No task changes a file of another subvolume, which has another
            // device number.
            let source = source.transpose()?.filter(|source| source.0 == file.0);
            Ok((file, source))
        };
        let (key, other) = inodes().map_err(|cause| StepError::from(cause).of(&task.step))?;
        for _ in std::iter::once(&task.file).chain(&task.source) {
            if !task.share.try_keep_file() {
                // What is kept back here would never be carried out.
                self.flush();
                let begun = Instant::now();
                task.share.keep_file();
                self.waited.add(begun.elapsed());
            }
        }
        self.batch_bytes += task.share.bytes();
        self.batch.push(Entry { key, other, task });
        if self.batch.len() >= BATCH_TASKS || self.batch_bytes >= BATCH_BYTES {
            self.flush();
        }
        Ok(())
    }

    /// How long [`hand_over`](Self::hand_over) and [`wait`](Self::wait) have
    /// waited.
    pub(super) fn waited(&self) -> Waited {
        self.waited.clone()
    }

    fn flush(&mut self) {
        self.batch_bytes = 0;
        let mut state = lock(&self.shared.state);
        if state.panicked {
            // Nobody carries it out; `wait` says so.
            drop(state);
            self.batch.clear();
            return;
        }
        for entry in self.batch.drain(..) {
            state.order.push(entry);
        }
        self.shared.call_another(state);
    }

    /// Waits until every task was carried out; they may have failed.
    ///
    /// # Errors
    /// A thread has panicked.
    pub(super) fn wait(&mut self) -> Result<(), Cause> {
        self.flush();
        let begun = Instant::now();
        let mut state = lock(&self.shared.state);
        while !state.order.is_done() && !state.panicked {
            state = wait(&self.shared.idle, state);
        }
        self.waited.add(begun.elapsed());
        if state.panicked {
            Err(Cause::ThreadPanicked)
        } else {
            Ok(())
        }
    }

    /// Waits until every task was carried out.
    ///
    /// # Errors
    /// A thread has panicked, or a step failed and nobody knows yet: a task,
    /// or one that was carried out before.
    pub(super) fn settle(&mut self) -> Result<(), Cause> {
        self.wait()?;
        match self.shared.failures.take_first() {
            Some(failure) => Err(*failure.cause),
            None => Ok(()),
        }
    }

    /// Drops every task that has not begun, and what belongs to the subvolume:
    /// its failures too, which must not count as those of the next one.
    pub(super) fn end(&mut self) {
        self.batch.clear();
        lock(&self.shared.state).discard = true;
        let _ = self.wait();
        let mut state = lock(&self.shared.state);
        state.discard = false;
        state.writers.clear();
        state.writer = None;
        drop(state);
        self.shared.failures.clear();
    }

    /// What had to be done another way in this subvolume, when nothing is
    /// under way.
    pub(super) fn fallbacks(&self) -> Fallbacks {
        let mut state = lock(&self.shared.state);
        let State {
            writers, writer, ..
        } = &mut *state;
        let mut all = Fallbacks::default();
        for writer in writers.iter_mut().chain(writer) {
            all += *writer.fallbacks();
        }
        all
    }

    /// Sets what [`fallbacks`](Self::fallbacks) returns, as from a checkpoint.
    #[cfg(feature = "resume")]
    pub(super) fn set_fallbacks(&self, fallbacks: Fallbacks) {
        let mut state = lock(&self.shared.state);
        state.writers.clear();
        if let Some(writer) = &mut state.writer {
            *writer.fallbacks() = fallbacks;
        }
    }
}

impl Shared {
    fn start_thread(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name("btrfs-content".into());
        let thread = thread.stack_size(THREAD_STACK).spawn(move || {
            let _panicked = Panicked(&shared);
            shared.serve();
        })?;
        state.threads.push(thread);
        Ok(())
    }

    /// Has another lane begin if there is enough to do.
    fn call_another(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if !state.activity.wants_another(state.order.ready()) {
            return;
        }
        if state.waiting > 0 {
            drop(state);
            self.work.notify_one();
        } else if state.threads.len() < state.activity.most() {
            // If there can be no more of them, these will do.
            let _ = self.start_thread(&mut state);
        }
    }

    fn serve(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        while !state.closed {
            if state.activity.may_begin()
                && let Some((begun, tasks)) = state.begin()
            {
                let discard = state.discard;
                let mut writer = state.take_writer();
                state.activity.begin();
                self.call_another(state);
                let alone = matches!(begun, Begun::Alone);
                let (pace, rest) = self.run(tasks, alone, &mut writer, discard);
                state = lock(&self.state);
                state.activity.end(pace);
                state.writers.extend(writer);
                state.order.done(begun, rest);
                if state.order.is_done() {
                    self.idle.notify_all();
                }
            } else {
                state.waiting += 1;
                state = wait(&self.work, state);
                state.waiting -= 1;
            }
        }
    }

    /// Carries out tasks. Returns those that others may as well carry out,
    /// because one before them was slow, if they were begun `alone`.
    fn run(
        &self,
        tasks: Vec<Queued>,
        alone: bool,
        writer: &mut Option<ContentWriter>,
        discard: bool,
    ) -> (Pace, Vec<Queued>) {
        let mut pace = Pace::default();
        if discard {
            return (pace, Vec::new());
        }
        let mut begun = Instant::now();
        let mut tasks = tasks.into_iter().peekable();
        while let Some(Entry { task, .. }) = tasks.next() {
            let done = match writer {
                Some(writer) => {
                    if let Some(next) = tasks.peek()
                        && writer.run_early(&next.task, &task)
                    {
                        tasks.next();
                    }
                    writer.run(&task)
                }
                None => Err(StepError::from(Cause::NothingToFinish).of(&task.step)),
            };
            if let Err(failure) = done {
                self.failures.push(failure);
            }
            let now = Instant::now();
            let slow = pace.count(now - begun, task.share.bytes());
            if slow && alone {
                break;
            }
            begun = now;
        }
        (pace, tasks.collect())
    }
}

impl State {
    fn begin(&mut self) -> Option<(Begun, Vec<Queued>)> {
        if self.activity.is_one() {
            self.order.begin_alone()
        } else {
            self.order.begin()
        }
    }

    fn take_writer(&mut self) -> Option<ContentWriter> {
        let another = || self.writer.as_ref().map(ContentWriter::another);
        self.writers.pop().or_else(another)
    }
}

/// Tells those who wait if the thread ends by a panic. What waited for its
/// inode will never begin, and is dropped.
struct Panicked<'a>(&'a Shared);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let mut state = lock(&self.0.state);
        state.panicked = true;
        let dropped = state.order.discard();
        drop(state);
        drop(dropped);
        self.0.idle.notify_all();
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        let threads = {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            mem::take(&mut state.threads)
        };
        self.shared.work.notify_all();
        for thread in threads {
            // A panic was reported by the panic hook, and by `wait`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use btrfs_sendstream::{Position, StreamPath};
    use rustix::io::{pread, pwrite};

    use super::*;
    use crate::destination::btrfs::budget::{Budget, Share};
    use crate::destination::btrfs::space::Space;
    use crate::destination::tree::data::DataWriter;
    use crate::destination::tree::encoded::Accepted;
    use crate::destination::tree::flags::SharedFlags;
    use crate::destination::tree::open_file::OpenFile;
    use crate::plan::op::{Op, Step};

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
        ContentWriter::new(
            DataWriter::decoding(),
            accepted,
            flags,
            Space::default(),
            true,
        )
    }

    #[test]
    fn files_that_wait_are_bounded() {
        let (mut lanes, budget) = (
            Lanes::start(Failures::default(), Activity::new(2)).unwrap(),
            Budget::default(),
        );
        lanes.begin(writer());
        let mut files: Vec<Weak<OpenFile>> = Vec::new();
        for offset in 0..1000 {
            let file = file();
            files.push(Arc::downgrade(&file));
            lanes
                .hand_over(truncate(&file, offset, 7, budget.take(1)))
                .unwrap();
            drop(file);
            files.retain(|file| file.strong_count() > 0);
            assert!(files.len() <= 256);
        }
        lanes.settle().unwrap();
    }

    #[test]
    fn a_task_that_fails_is_known_when_all_are_done() {
        let (mut lanes, budget) = (
            Lanes::start(Failures::default(), Activity::new(2)).unwrap(),
            Budget::default(),
        );
        lanes.begin(writer());
        for offset in 0..100 {
            let size = if offset == 42 { u64::MAX } else { offset };
            lanes
                .hand_over(truncate(&file(), offset, size, budget.take(1)))
                .unwrap();
        }
        lanes.wait().unwrap();
        assert_eq!(lanes.shared.failures.take_first().unwrap().at, at(42));
        lanes.settle().unwrap();
        // Of the next subvolume nothing is carried out before it begins.
        lanes.end();
        lanes
            .hand_over(truncate(&file(), 0, 0, budget.take(1)))
            .unwrap();
        assert!(matches!(lanes.settle(), Err(Cause::NothingToFinish)));
    }

    #[test]
    fn nobody_waits_for_a_lane_that_panicked() {
        let (mut lanes, budget) = (
            Lanes::start(Failures::default(), Activity::new(2)).unwrap(),
            Budget::default(),
        );
        lanes.begin(writer());
        let (shared, file) = (Arc::clone(&lanes.shared), file());
        let lane = thread::spawn(move || {
            let _panicked = Panicked(&shared);
            panic!("a bug");
        });
        lane.join().unwrap_err();
        for offset in 0..1000 {
            lanes
                .hand_over(truncate(&file, offset, 7, budget.take(1)))
                .unwrap();
        }
        assert!(matches!(lanes.wait(), Err(Cause::ThreadPanicked)));
        assert!(matches!(lanes.settle(), Err(Cause::ThreadPanicked)));
        assert_eq!(rustix::fs::fstat(&file.fd).unwrap().st_size, 0);
    }

    fn write(file: &Arc<OpenFile>, command: u64, offset: u64, len: usize, share: Share) -> Task {
        let op = Op::Write {
            path: StreamPath::default(),
            offset,
            data: vec![vec![7; len].into()],
        };
        Task {
            file: Arc::clone(file),
            source: None,
            step: Step::new(op, at(command)),
            share,
        }
    }

    #[test]
    fn a_file_that_is_written_and_cut_off_has_the_same_content() {
        let budget = Budget::default();
        let mut lanes = Lanes::start(Failures::default(), Activity::new(2)).unwrap();
        lanes.begin(writer());
        let mut cases = Vec::new();
        for before in [0, 5, 20] {
            for (offset, len) in [(0, 0), (0, 10), (5, 5), (15, 10)] {
                for size in [0, 5, 10, 15, 25, 30] {
                    let file = file();
                    pwrite(&file.fd, &vec![1; before], 0).unwrap();
                    let mut expected = vec![1; before];
                    if len > 0 {
                        expected.resize(before.max(offset + len), 0);
                        expected[offset..offset + len].fill(7);
                    }
                    expected.resize(size, 0);
                    let written = write(&file, 1, offset as u64, len, budget.take(1));
                    lanes.hand_over(written).unwrap();
                    lanes
                        .hand_over(truncate(&file, 2, size as u64, budget.take(1)))
                        .unwrap();
                    cases.push((file, expected));
                }
            }
        }
        lanes.settle().unwrap();
        for (file, expected) in cases {
            let mut found = vec![0; 100];
            let len = pread(&file.fd, &mut found, 0).unwrap();
            assert_eq!(found[..len], expected);
        }
    }

    #[test]
    fn a_file_that_cannot_be_cut_off_is_written_to() {
        let budget = Budget::default();
        let mut lanes = Lanes::start(Failures::default(), Activity::new(2)).unwrap();
        lanes.begin(writer());
        let file = file();
        lanes
            .hand_over(write(&file, 1, 0, 10, budget.take(1)))
            .unwrap();
        lanes
            .hand_over(truncate(&file, 2, u64::MAX, budget.take(1)))
            .unwrap();
        lanes.wait().unwrap();
        assert_eq!(lanes.shared.failures.take_first().unwrap().at, at(2));
        lanes.settle().unwrap();
        assert_eq!(rustix::fs::fstat(&file.fd).unwrap().st_size, 10);
    }

    /// More of them than processors, each with files of its own.
    #[test]
    fn a_file_gets_its_tasks_in_order() {
        let budget = Budget::default();
        let mut lanes = Lanes::start(Failures::default(), Activity::fixed(16)).unwrap();
        lanes.begin(writer());
        let files: Vec<_> = (0..40).map(|_| file()).collect();
        for size in 1..200 {
            for (index, file) in files.iter().enumerate() {
                let offset = size * 40 + index as u64;
                let task = truncate(file, offset, size, budget.take(1));
                lanes.hand_over(task).unwrap();
            }
        }
        lanes.settle().unwrap();
        for file in &files {
            assert_eq!(rustix::fs::fstat(&file.fd).unwrap().st_size, 199);
        }
    }
}
