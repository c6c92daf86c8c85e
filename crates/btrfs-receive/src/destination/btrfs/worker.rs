//! A thread that carries out tasks in the order they were handed over.

use std::mem;
use std::sync::{Arc, Condvar, Mutex};

use crate::destination::tree::lock::{lock, wait};
use std::thread::{self, JoinHandle};

/// Tasks are handed over in batches of this many, so that a small task does
/// not cost a wake-up of its own.
pub(super) const BATCH_TASKS: usize = 32;
/// A batch is handed over early when its payload reaches this many bytes.
pub(super) const BATCH_BYTES: usize = 128 << 10;

/// Stack of a thread in bytes: what Rust gives by default, and not what
/// `RUST_MIN_STACK` says, which can be too little to start.
pub(crate) const THREAD_STACK: usize = 2 << 20;

/// The handing-over side. Dropping it discards what is waiting and joins
/// the thread.
///
/// It has no bound of its own: who hands tasks over bounds what is under way
/// ([`Budget`](super::budget::Budget)).
pub(super) struct Worker<T> {
    shared: Arc<Shared<T>>,
    batch: Vec<T>,
    batch_bytes: usize,
    thread: Option<JoinHandle<()>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    work: Condvar,
    /// Everything is carried out, or the thread is gone.
    idle: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    busy: bool,
    discard: bool,
    closed: bool,
    /// The thread is gone, by a panic unless `closed`.
    gone: bool,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread called `name` that makes its tool with `setup` and
    /// gives it each task.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start<S, W>(
        name: &str,
        setup: impl FnOnce() -> S + Send + 'static,
        mut work: W,
    ) -> std::io::Result<Self>
    where
        W: FnMut(&mut S, T) + Send + 'static,
    {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                waiting: Vec::new(),
                busy: false,
                discard: false,
                closed: false,
                gone: false,
            }),
            work: Condvar::new(),
            idle: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name(name.into());
        let thread = thread.stack_size(THREAD_STACK).spawn(move || {
            let _gone = Gone(&theirs);
            let mut tool = setup();
            theirs.run(&mut tool, &mut work);
        })?;
        Ok(Self {
            shared,
            batch: Vec::new(),
            batch_bytes: 0,
            thread: Some(thread),
        })
    }

    /// Hands over a task with `bytes` of payload, or keeps it back for a
    /// moment, to go together with those that follow.
    pub(super) fn push(&mut self, task: T, bytes: usize) {
        self.batch.push(task);
        self.batch_bytes += bytes;
        if self.batch.len() >= BATCH_TASKS || self.batch_bytes >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Waits until every task handed over has been carried out. `false` if
    /// that will never be, because a task panicked.
    #[must_use]
    pub(super) fn wait(&mut self) -> bool {
        self.flush();
        let mut state = lock(&self.shared.state);
        while (state.busy || !state.waiting.is_empty()) && !state.gone {
            state = wait(&self.shared.idle, state);
        }
        !state.gone
    }

    /// Drops every task that has not begun, and waits for the one that has.
    pub(super) fn discard(&mut self) {
        self.batch.clear();
        self.batch_bytes = 0;
        lock(&self.shared.state).discard = true;
        let _ = self.wait();
        lock(&self.shared.state).discard = false;
    }

    /// Hands over what `push` has kept back to go together.
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.batch_bytes = 0;
        let mut state = lock(&self.shared.state);
        if state.gone {
            // Nobody will carry it out; `wait` says so.
            drop(state);
            self.batch.clear();
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.append(&mut self.batch);
        drop(state);
        if was_empty {
            self.shared.work.notify_one();
        }
    }
}

impl<T> Shared<T> {
    fn run<S>(&self, tool: &mut S, work: &mut impl FnMut(&mut S, T)) {
        let mut tasks = Vec::new();
        loop {
            let mut state = lock(&self.state);
            state.busy = false;
            while state.waiting.is_empty() {
                self.idle.notify_one();
                if state.closed {
                    return;
                }
                state = wait(&self.work, state);
            }
            mem::swap(&mut tasks, &mut state.waiting);
            state.busy = true;
            let mut discard = state.discard;
            drop(state);
            for (index, task) in tasks.drain(..).enumerate() {
                if index % BATCH_TASKS == 0 && index > 0 {
                    discard = lock(&self.state).discard;
                }
                if !discard {
                    work(tool, task);
                }
            }
        }
    }
}

/// Tells those who wait when the thread ends, also by a panic.
struct Gone<'a, T>(&'a Shared<T>);

impl<T> Drop for Gone<'_, T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = lock(&self.0.state);
            state.gone = true;
            mem::take(&mut state.waiting)
        };
        drop(waiting);
        self.0.idle.notify_all();
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            state.discard = true;
        }
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the panic hook, and by `wait`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_out_everything_in_order() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut worker = Worker::start(
            "test",
            move || sender,
            |sender, task: u32| sender.send(task).unwrap(),
        )
        .unwrap();
        for task in 0..10_000 {
            worker.push(task, 1000);
        }
        assert!(worker.wait());
        let done: Vec<u32> = receiver.try_iter().collect();
        assert_eq!(done, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn goes_on_after_discarding() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut worker = Worker::start(
            "test",
            move || sender,
            |sender, task: u32| sender.send(task).unwrap(),
        )
        .unwrap();
        worker.push(1, 0);
        worker.discard();
        worker.push(2, 0);
        assert!(worker.wait());
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn says_when_a_task_panicked() {
        let mut worker = Worker::start("test", || (), |(), _: u32| panic!("on purpose"));
        let worker = worker.as_mut().unwrap();
        for task in 0..1000 {
            worker.push(task, 0);
        }
        assert!(!worker.wait());
    }

    #[test]
    fn dropping_joins_the_thread() {
        let (sender, receiver) = std::sync::mpsc::channel::<u32>();
        drop(Worker::start("test", move || sender, |_, _: u32| ()).unwrap());
        assert!(receiver.recv().is_err());
    }
}
