//! `--buffer`: a thread reads the input ahead, up to a number of bytes, so that
//! a sender need not wait while the receiver writes, nor the receiver while the
//! sender reads. Compressed input is unpacked by the same thread.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::input::{Input, Source};

/// Bytes read at a time, at most.
const PIECE: usize = 256 * 1024;

/// Input that was read ahead. Memory: the size of the buffer, and one piece of
/// at most 256 KiB.
pub(crate) struct Ahead<'a> {
    buffer: &'a Buffer,
    /// Where the next byte is, from where it began.
    taken: u64,
    can_seek: bool,
}

struct Buffer {
    state: Mutex<State>,
    /// There is something to take: bytes, or the end.
    filled: Condvar,
    /// There is room for a piece, or nobody wants more.
    drained: Condvar,
    /// Most bytes that are held, those of a read that is under way included.
    size: usize,
    /// Bytes of one read.
    piece: usize,
}

struct State {
    bytes: VecDeque<u8>,
    /// How the input ended, if it did.
    end: Option<io::Result<()>>,
    /// Nobody takes any more.
    is_over: bool,
    /// The thread that reads has ended.
    is_gone: bool,
    /// Where to read on.
    seek: Option<u64>,
    /// What became of that.
    sought: Option<io::Result<u64>>,
    /// Who waits: nobody else needs to be woken.
    taker_waits: bool,
    filler_waits: bool,
}

/// Calls `take` with what a thread reads from `source` ahead of it, at most
/// `size` bytes. When `take` returns, `stop` is called, which has to end a read
/// that waits; what was read and not taken is lost. Places can be sought if
/// `can_seek`, where no read waits.
///
/// # Errors
/// There is no memory for the buffer, or no thread.
pub(crate) fn ahead<R: Read + Seek + Send, T>(
    source: &mut R,
    size: usize,
    can_seek: bool,
    stop: impl Fn(),
    take: impl FnOnce(&mut Ahead<'_>) -> T,
) -> io::Result<T> {
    let buffer = Buffer::new(size)?;
    thread::scope(|scope| {
        let filler = thread::Builder::new().name("input".to_owned());
        // Not what `RUST_MIN_STACK` says, which can be too little to start.
        let filler = filler.stack_size(1 << 20);
        filler.spawn_scoped(scope, || buffer.fill(source))?;
        let _over = Over {
            buffer: &buffer,
            stop,
        };
        Ok(take(&mut Ahead {
            buffer: &buffer,
            taken: 0,
            can_seek,
        }))
    })
}

/// How many bytes are unpacked ahead, if nothing else is asked for.
const UNPACKED: usize = 8 << 20;

/// Calls `take` with the input; if it is to be read ahead, by up to `size` bytes,
/// or unpacked, with what a thread reads from it. If all of the input may not be
/// wanted, what is unpacked is not read ahead.
///
/// # Errors
/// There is no memory for the buffer, or no thread.
pub(crate) fn feed<T>(
    input: &mut Input<'_>,
    size: Option<usize>,
    may_end_early: bool,
    take: impl FnOnce(&mut dyn Source) -> T,
) -> io::Result<T> {
    let size = match size {
        Some(size) if input.may_unpack() || input.size().is_none() => size,
        None if input.may_unpack() && !may_end_early => UNPACKED,
        // The kernel reads a file ahead.
        Some(_) | None => return Ok(take(input)),
    };
    let can_seek = input.size().is_some();
    let stop = input.stopper()?;
    ahead(input, size, can_seek, stop, |ahead| take(ahead))
}

/// Stops the thread when it is dropped, which is before that is waited for.
struct Over<'a, F: Fn()> {
    buffer: &'a Buffer,
    stop: F,
}

impl<F: Fn()> Drop for Over<'_, F> {
    fn drop(&mut self) {
        self.buffer.lock().is_over = true;
        self.buffer.drained.notify_one();
        (self.stop)();
    }
}

/// Says that the thread has ended when it is dropped, so that nobody waits for
/// one that panicked.
struct Ending<'a>(&'a Buffer);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_gone = true;
        if state.end.is_none() {
            let panicked = "the thread that reads it panicked";
            state.end = Some(Err(io::Error::other(panicked)));
        }
        drop(state);
        self.0.filled.notify_one();
    }
}

/// What the thread does next.
enum Next {
    Read,
    Seek(u64),
    End,
}

impl Buffer {
    fn new(size: usize) -> io::Result<Self> {
        let mut bytes = VecDeque::new();
        bytes
            .try_reserve_exact(size)
            .map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        Ok(Self {
            state: Mutex::new(State {
                bytes,
                end: None,
                is_over: false,
                is_gone: false,
                seek: None,
                sought: None,
                taker_waits: false,
                filler_waits: false,
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
            size,
            // A small buffer has room for some pieces, too.
            piece: (size / 4).clamp(1, PIECE),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until nobody wants more.
    fn fill(&self, source: &mut (impl Read + Seek)) {
        let _ending = Ending(self);
        let mut piece = vec![0; self.piece];
        loop {
            match self.next() {
                Next::End => return,
                Next::Seek(to) => {
                    let sought = source.seek(SeekFrom::Start(to));
                    self.sought(sought);
                }
                Next::Read => match source.read(&mut piece) {
                    Ok(0) => self.ends(Ok(())),
                    Ok(len) => self.push(piece.get(..len).unwrap_or(&piece)),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => self.ends(Err(error)),
                },
            }
        }
    }

    /// Waits until there is something to do.
    fn next(&self) -> Next {
        let mut state = self.lock();
        let next = loop {
            if state.is_over {
                break Next::End;
            }
            if let Some(to) = state.seek.take() {
                break Next::Seek(to);
            }
            if state.end.is_none() && self.size - state.bytes.len() >= self.piece {
                break Next::Read;
            }
            state.filler_waits = true;
            let waited = self.drained.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        };
        state.filler_waits = false;
        next
    }

    fn ends(&self, how: io::Result<()>) {
        self.lock().end = Some(how);
        self.filled.notify_one();
    }

    /// What was read before is forgotten.
    fn sought(&self, sought: io::Result<u64>) {
        let mut state = self.lock();
        state.bytes.clear();
        state.end = None;
        state.sought = Some(sought);
        drop(state);
        self.filled.notify_one();
    }

    fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.bytes.extend(bytes);
        let wake = state.taker_waits;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }
}

impl Read for Ahead<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let buffer = self.buffer;
        let mut state = buffer.lock();
        while state.bytes.is_empty() {
            match &mut state.end {
                Some(Ok(())) => return Ok(0),
                Some(Err(error)) => {
                    // Its kind stays: who reads on fails again.
                    let again = io::Error::from(error.kind());
                    return Err(std::mem::replace(error, again));
                }
                None => {}
            }
            state.taker_waits = true;
            let waited = buffer.filled.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.taker_waits = false;
        let taken = state.bytes.read(into)?;
        if state.bytes.is_empty() {
            // The next byte goes to the front: as long as the receiver keeps
            // up, little of the memory is touched.
            state.bytes.clear();
        }
        let wake = state.filler_waits && buffer.size - state.bytes.len() >= buffer.piece;
        drop(state);
        self.taken += taken as u64;
        if wake {
            buffer.drained.notify_one();
        }
        Ok(taken)
    }
}

/// Refuses where it cannot, as the pipe does that is buffered.
impl Seek for Ahead<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            _ if !self.can_seek => return Err(ErrorKind::NotSeekable.into()),
            SeekFrom::Current(0) => return Ok(self.taken),
            SeekFrom::Start(to) => to,
            SeekFrom::Current(_) | SeekFrom::End(_) => return Err(ErrorKind::Unsupported.into()),
        };
        let buffer = self.buffer;
        let mut state = buffer.lock();
        state.seek = Some(to);
        state.sought = None;
        buffer.drained.notify_one();
        loop {
            if let Some(sought) = state.sought.take() {
                self.taken = sought?;
                return Ok(self.taken);
            }
            if state.is_gone {
                return Err(io::Error::other("the thread that reads it has ended"));
            }
            state.taker_waits = true;
            let waited = buffer.filled.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn numbers(count: usize) -> Vec<u8> {
        (0..count).map(|number| (number % 251) as u8).collect()
    }

    struct Unseekable<R>(R);

    impl<R: Read> Read for Unseekable<R> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl<R> Seek for Unseekable<R> {
        fn seek(&mut self, _to: SeekFrom) -> io::Result<u64> {
            Err(ErrorKind::NotSeekable.into())
        }
    }

    #[test]
    fn places_are_sought_in_what_was_read_ahead() {
        let sent = numbers(3000);
        for size in [1, 7, 100, 4096] {
            let mut source = io::Cursor::new(&sent[..]);
            let result = ahead(
                &mut source,
                size,
                true,
                || (),
                |ahead| {
                    for to in [0, 5, 2999, 3000, 1, 0, 0] {
                        assert_eq!(ahead.seek(SeekFrom::Start(to)).unwrap(), to);
                        let len = (3000 - to).min(20);
                        let mut piece = vec![0; len as usize];
                        ahead.read_exact(&mut piece).unwrap();
                        assert_eq!(ahead.stream_position().unwrap(), to + len);
                        assert!(sent[to as usize..].starts_with(&piece));
                    }
                    ahead.seek(SeekFrom::Start(0)).unwrap();
                    let mut all = Vec::new();
                    ahead.read_to_end(&mut all).unwrap();
                    assert!(all == sent);
                    assert!(ahead.seek(SeekFrom::End(0)).is_err());
                },
            );
            result.unwrap();
        }
        let mut pipe = Unseekable(&sent[..]);
        let result = ahead(
            &mut pipe,
            9,
            false,
            || (),
            |ahead| {
                assert!(ahead.stream_position().is_err());
                assert!(ahead.seek(SeekFrom::Start(0)).is_err());
            },
        );
        result.unwrap();
        // Where it cannot after all.
        let mut pipe = Unseekable(&sent[..]);
        let result = ahead(
            &mut pipe,
            9,
            true,
            || (),
            |ahead| {
                let error = ahead.seek(SeekFrom::Start(3)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotSeekable);
            },
        );
        result.unwrap();
    }

    /// Gives the pieces that are sent to it, each in one read.
    struct Pieces(Receiver<io::Result<Vec<u8>>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Ok(piece) = self.0.recv() else {
                return Ok(0);
            };
            let piece = piece?;
            into[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn every_byte_arrives_once_and_in_order() {
        for size in [1, 2, 3, 4, 7, 100, 4096, 1 << 20] {
            for at_once in [1, 5, 1000] {
                let sent = numbers(3000);
                let taken = ahead(
                    &mut Unseekable(&sent[..]),
                    size,
                    false,
                    || (),
                    |ahead| {
                        let (mut all, mut piece) = (Vec::<u8>::new(), vec![0; at_once]);
                        loop {
                            match ahead.read(&mut piece).unwrap() {
                                0 => break all,
                                len => all.extend(&piece[..len]),
                            }
                        }
                    },
                );
                assert!(taken.unwrap() == sent, "{size}, {at_once}");
            }
        }
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for() {
        /// Counts what is read.
        struct Counting<'a>(&'a AtomicUsize, Receiver<()>);
        impl Read for Counting<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                // Until the test is over, each read is full.
                if self.1.try_recv().is_err() {
                    self.0.fetch_add(into.len(), Ordering::SeqCst);
                    return Ok(into.len());
                }
                Ok(0)
            }
        }
        let (size, read) = (1000, AtomicUsize::new(0));
        let (end, ended) = channel();
        let source = Counting(&read, ended);
        let result = ahead(
            &mut Unseekable(source),
            size,
            false,
            || (),
            |ahead| {
                let (mut taken, mut piece) = (0, [0; 33]);
                for _ in 0..10_000 {
                    taken += ahead.read(&mut piece).unwrap();
                    // What is read afterwards can only make it more.
                    let held = read.load(Ordering::SeqCst) - taken;
                    assert!(held <= size, "{held}");
                }
                end.send(()).unwrap();
            },
        );
        result.unwrap();
    }

    #[test]
    fn what_came_before_an_error_is_taken_first() {
        let (send, pieces) = channel();
        send.send(Ok(vec![1, 2, 3])).unwrap();
        send.send(Err(ErrorKind::ConnectionReset.into())).unwrap();
        let result = ahead(
            &mut Unseekable(Pieces(pieces)),
            100,
            false,
            || (),
            |ahead| {
                let mut three = [0; 3];
                ahead.read_exact(&mut three).unwrap();
                assert_eq!(three, [1, 2, 3]);
                for _ in 0..3 {
                    let error = ahead.read(&mut three).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                }
            },
        );
        result.unwrap();
    }

    #[test]
    fn the_end_is_told_again() {
        let result = ahead(
            &mut Unseekable(&b"x"[..]),
            100,
            false,
            || (),
            |ahead| {
                assert_eq!(ahead.read(&mut [0; 9]).unwrap(), 1);
                assert_eq!(ahead.read(&mut [0; 9]).unwrap(), 0);
                assert_eq!(ahead.read(&mut [0; 9]).unwrap(), 0);
            },
        );
        result.unwrap();
    }

    #[test]
    fn a_slow_writer_is_waited_for() {
        let (send, pieces) = channel();
        let result = ahead(
            &mut Unseekable(Pieces(pieces)),
            100,
            false,
            || (),
            |ahead| {
                for number in 0..100_u8 {
                    send.send(Ok(vec![number; 7])).unwrap();
                    let mut seven = [0; 7];
                    ahead.read_exact(&mut seven).unwrap();
                    assert_eq!(seven, [number; 7]);
                }
                drop(send);
                assert_eq!(ahead.read(&mut [0]).unwrap(), 0);
            },
        );
        result.unwrap();
    }

    #[test]
    fn who_takes_no_more_need_not_wait_for_the_writer() {
        // It never ends, nor sends anything, until it is stopped.
        let (send, pieces) = channel();
        let stop = move || drop(send.send(Err(ErrorKind::Other.into())));
        ahead(&mut Unseekable(Pieces(pieces)), 100, false, stop, |_| ()).unwrap();
        // Nor is it waited for when the buffer is full.
        ahead(
            &mut Unseekable(io::repeat(7)),
            100,
            false,
            || (),
            |ahead| {
                ahead.read_exact(&mut [0; 10]).unwrap();
            },
        )
        .unwrap();
    }

    #[test]
    fn a_reader_that_panics_is_an_error_and_no_deadlock() {
        struct Panics;
        impl Read for Panics {
            fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
                panic!("on purpose")
            }
        }
        let caught = std::panic::catch_unwind(|| {
            ahead(
                &mut Unseekable(Panics),
                100,
                false,
                || (),
                |ahead| {
                    assert!(ahead.read(&mut [0]).is_err());
                },
            )
        });
        assert!(caught.is_err());
    }

    #[test]
    fn too_large_a_buffer_is_refused() {
        let refused = ahead(&mut Unseekable(&b""[..]), usize::MAX, false, || (), |_| ());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::OutOfMemory);
    }
}
