//! Input that the caller writes: a thread receives what it wrote, while the
//! caller gets more. Events go back to the caller's thread.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use btrfs_receive::Cancel;

use crate::fault::Fault;
use crate::input::cancelled;
use crate::receive::{Received, Receives, Sink, receive};

/// Most bytes that wait to be received.
const SIZE: usize = 1 << 20;

/// Most lines that wait for the caller: then the receive waits.
const MAX_LINES: usize = 64;

/// A receiver that can go to another thread.
pub(crate) type Receiver = Box<dyn Receives + Send>;

/// A receive of what the caller writes. Memory: 1 MiB, and 64 lines.
pub(crate) struct Pushed {
    shared: Arc<Shared>,
    thread: JoinHandle<(Receiver, Received)>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the thread: there is input, or room for a line.
    receiver: Condvar,
    /// Wakes the caller: there is room for input, a line, or nothing more.
    caller: Condvar,
    cancel: Cancel,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    lines: VecDeque<Vec<u8>>,
    /// No more input comes.
    is_complete: bool,
    /// The caller takes no more lines.
    is_abandoned: bool,
    /// The receive has ended.
    is_over: bool,
}

impl Pushed {
    /// Starts a receive. `events`: whether their lines are wanted.
    ///
    /// # Errors
    /// There is no thread. The receiver is dropped.
    pub(crate) fn start(mut receiver: Receiver, cancel: &Cancel, events: bool) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            receiver: Condvar::new(),
            caller: Condvar::new(),
            cancel: cancel.clone(),
        });
        let theirs = Arc::clone(&shared);
        let body = move || {
            let _over = Over(&theirs);
            let mut lines = Lines {
                shared: &theirs,
                is_open: events,
            };
            let received = receive(&mut *receiver, &mut Written(&theirs), &mut lines);
            (receiver, received)
        };
        // Not what `RUST_MIN_STACK` says, which can be too little to start.
        let builder = thread::Builder::new().name("receive".to_owned());
        let thread = builder.stack_size(2 << 20).spawn(body)?;
        Ok(Self { shared, thread })
    }

    /// Hands over `data`. Returns when all of it is taken, or the receive has
    /// ended.
    pub(crate) fn write(&self, data: &[u8], sink: &mut dyn Sink) {
        self.shared.exchange(data, false, sink);
    }

    /// Whether the receive has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.lock().is_over
    }

    /// Waits for the end of the receive. No more input comes.
    ///
    /// # Errors
    /// It panicked, and the receiver is gone.
    pub(crate) fn end(self, sink: &mut dyn Sink) -> Result<(Receiver, Received), Fault> {
        self.shared.exchange(&[], true, sink);
        self.thread.join().map_err(|_| Fault::bug())
    }

    /// Ends the receive as soon as that is possible, and waits for it.
    pub(crate) fn abandon(self) {
        self.shared.cancel.cancel();
        self.shared.lock().is_abandoned = true;
        self.shared.receiver.notify_one();
        // Nobody is left who wants to know.
        let _ = self.thread.join();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        condition
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller's part: gives input and takes lines, until all input is taken
    /// and, if it is `complete`, the receive has ended.
    fn exchange(&self, mut data: &[u8], complete: bool, sink: &mut dyn Sink) {
        let mut state = self.lock();
        loop {
            while let Some(line) = state.lines.pop_front() {
                drop(state);
                sink.line(line);
                state = self.lock();
            }
            if state.is_over {
                return;
            }
            let room = SIZE - state.bytes.len();
            let (taken, rest) = data.split_at(room.min(data.len()));
            state.bytes.extend(taken);
            data = rest;
            state.is_complete = complete;
            // Also if a line was taken, or the receive was cancelled.
            self.receiver.notify_one();
            if data.is_empty() && !complete {
                return;
            }
            if state.lines.is_empty() && !state.is_over {
                state = self.wait(&self.caller, state);
            }
        }
    }
}

/// Tells the caller that the receive has ended, even if it panicked.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.caller.notify_one();
    }
}

/// What the caller wrote.
struct Written<'a>(&'a Shared);

impl Read for Written<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let shared = self.0;
        let mut state = shared.lock();
        loop {
            if shared.cancel.is_cancelled() {
                return Err(cancelled());
            }
            if !state.bytes.is_empty() || state.is_complete {
                let count = state.bytes.read(into)?;
                shared.caller.notify_one();
                return Ok(count);
            }
            state = shared.wait(&shared.receiver, state);
        }
    }
}

/// Refuses, as a pipe does.
impl Seek for Written<'_> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(ErrorKind::NotSeekable.into())
    }
}

/// Lines for the caller.
struct Lines<'a> {
    shared: &'a Shared,
    is_open: bool,
}

impl Sink for Lines<'_> {
    fn is_open(&self) -> bool {
        self.is_open
    }

    fn line(&mut self, line: Vec<u8>) {
        let shared = self.shared;
        let mut state = shared.lock();
        while state.lines.len() >= MAX_LINES && !state.is_abandoned {
            state = shared.wait(&shared.receiver, state);
        }
        if !state.is_abandoned {
            state.lines.push_back(line);
            shared.caller.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use btrfs_receive::{Event, Observer, ReceiveError, Report};

    use super::*;
    use crate::receive::Source;
    use crate::types::brecv_code;

    /// Reads everything, so many bytes at a time, and panics behind so many.
    struct Reads(usize, Option<usize>);

    impl Receives for Reads {
        fn receive(
            &mut self,
            input: &mut dyn Source,
            _: &mut dyn Observer,
        ) -> Result<Report, ReceiveError> {
            let mut report = Report::default();
            let mut piece = vec![0; self.0];
            loop {
                let count = input.read(&mut piece).unwrap_or(0);
                report.bytes += count as u64;
                if self.1.is_some_and(|most| report.bytes > most as u64) {
                    panic!("as the test wants");
                }
                if count == 0 {
                    return Ok(report);
                }
            }
        }
    }

    #[derive(Default)]
    struct Taken(Vec<String>);

    impl Sink for Taken {
        fn is_open(&self) -> bool {
            true
        }

        fn line(&mut self, line: Vec<u8>) {
            self.0.push(String::from_utf8(line).unwrap());
        }
    }

    fn start(reads: Reads, cancel: &Cancel) -> Pushed {
        Pushed::start(Box::new(reads), cancel, true).unwrap()
    }

    #[test]
    fn everything_written_is_read() {
        for size in [1 << 10, 3 << 20] {
            let pushed = start(Reads(size, None), &Cancel::new());
            let mut taken = Taken::default();
            pushed.write(&[], &mut taken);
            for len in [1, 5 << 20, SIZE, SIZE + 1] {
                pushed.write(&vec![7; len], &mut taken);
            }
            let (_, received) = pushed.end(&mut taken).unwrap();
            assert!(received.fault.is_none());
            let expected = format!("\"bytes\":{},", 2 + (5 << 20) + 2 * SIZE);
            assert!(
                taken.0.last().unwrap().contains(&expected),
                "{taken:?}",
                taken = taken.0
            );
        }
    }

    #[test]
    fn a_panic_is_a_bug_and_stops_no_caller() {
        let pushed = start(Reads(1 << 10, Some(100)), &Cancel::new());
        let mut taken = Taken::default();
        pushed.write(&vec![7; 9 << 20], &mut taken);
        assert!(pushed.is_over());
        let fault = pushed.end(&mut taken).err().unwrap();
        assert_eq!(fault.code(), brecv_code::BRECV_BUG);
        assert!(taken.0.is_empty());
    }

    /// Has more to say than waits for a caller.
    struct Says(usize);

    impl Receives for Says {
        fn receive(
            &mut self,
            input: &mut dyn Source,
            observer: &mut dyn Observer,
        ) -> Result<Report, ReceiveError> {
            let new =
                btrfs_receive::NewSubvolume::from_command(&btrfs_sendstream::Command::Subvol {
                    name: btrfs_sendstream::SubvolumeName::parse("s".into()).unwrap(),
                    uuid: uuid::Uuid::nil(),
                    ctransid: 1,
                });
            for _ in 0..self.0 {
                let new = new.as_ref().unwrap();
                observer.event(Event::SubvolumeCreated { new, parent: None });
            }
            Reads(1 << 20, None).receive(input, observer)
        }
    }

    #[test]
    fn no_line_is_lost() {
        let pushed = Pushed::start(Box::new(Says(1000)), &Cancel::new(), true).unwrap();
        let mut taken = Taken::default();
        pushed.write(&vec![7; 3 * SIZE], &mut taken);
        assert!(pushed.end(&mut taken).is_ok());
        assert_eq!(taken.0.len(), 1001);
    }

    #[test]
    fn what_is_abandoned_ends() {
        for says in [0, 1000] {
            let cancel = Cancel::new();
            let pushed = Pushed::start(Box::new(Says(says)), &cancel, true).unwrap();
            pushed.abandon();
            assert!(cancel.is_cancelled());
        }
    }
}
