//! Extents compressed on several threads, everything passed on in order.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::codec::{Codec, Compressor};
use crate::command::{Command, EncodedWrite, StreamPath};
use crate::decoder::Item;
use crate::error::Position;
use crate::transform::{Output, TransformError};

/// More threads than this wait for the one that reads.
const MAX_THREADS: usize = 16;

/// Stack of a thread in bytes: what Rust gives by default, and not what
/// `RUST_MIN_STACK` says, which can be too little to start.
const THREAD_STACK: usize = 2 << 20;

/// What may wait in the queue for each thread, in bytes.
const QUEUE_FOR_EACH: u64 = 2 * 1024 * 1024;

/// What a waiting item counts for, beside its share of the input.
const ITEM: u64 = 256;

/// A queue of items in which some are still being compressed.
///
/// Items share the reader's buffers, so a waiting item counts with all the
/// input since the one before it.
#[derive(Debug)]
pub(super) struct Ordered {
    queue: VecDeque<(Slot, u64)>,
    waiting: u64,
    limit: u64,
    /// Where in the input the last item came from.
    last: u64,
    workers: Workers,
    counts: Counts,
}

#[derive(Debug)]
enum Slot {
    Ready(Item, Position),
    Compressing(Extent, Receiver<Option<Vec<u8>>>),
}

#[derive(Debug)]
struct Extent {
    path: StreamPath,
    offset: u64,
    data: Bytes,
    at: Position,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    compressed: u64,
    before: u64,
    after: u64,
    left: u64,
}

impl Ordered {
    pub(super) fn new(codec: Codec, level: u8, threads: usize) -> Self {
        let threads = threads.clamp(1, MAX_THREADS);
        Self {
            queue: VecDeque::new(),
            waiting: 0,
            limit: QUEUE_FOR_EACH * threads as u64,
            last: 0,
            workers: Workers::start(codec, level, threads),
            counts: Counts::default(),
        }
    }

    /// Extents compressed, bytes before and after, bytes of extents left.
    pub(super) fn counts(&self) -> (u64, u64, u64, u64) {
        let Counts {
            compressed,
            before,
            after,
            left,
        } = self.counts;
        (compressed, before, after, left)
    }

    /// Takes an item that is ready.
    pub(super) fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        self.enqueue(Slot::Ready(item, at), at, 0);
        self.settle(out)
    }

    /// Takes an extent to be compressed.
    pub(super) fn extent(
        &mut self,
        path: StreamPath,
        offset: u64,
        data: Bytes,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let (result, len) = (self.workers.compress(data.clone()), data.len() as u64);
        let extent = Extent {
            path,
            offset,
            data,
            at,
        };
        self.enqueue(Slot::Compressing(extent, result), at, len);
        self.settle(out)
    }

    /// Passes on everything.
    pub(super) fn end(&mut self, out: &mut dyn Output) -> Result<(), TransformError> {
        self.pass_on(0, out)
    }

    fn enqueue(&mut self, slot: Slot, at: Position, len: u64) {
        let weight = at.offset.saturating_sub(self.last) + len + ITEM;
        self.last = at.offset;
        self.waiting += weight;
        self.queue.push_back((slot, weight));
    }

    fn settle(&mut self, out: &mut dyn Output) -> Result<(), TransformError> {
        self.pass_on(self.limit, out)
    }

    /// Passes on what is ready, and waits until no more than `limit` is left.
    fn pass_on(&mut self, limit: u64, out: &mut dyn Output) -> Result<(), TransformError> {
        while let Some((slot, weight)) = self.queue.pop_front() {
            let (item, at) = match slot {
                Slot::Ready(item, at) => (item, at),
                Slot::Compressing(extent, result) => {
                    let encoded = match result.try_recv() {
                        Ok(encoded) => encoded,
                        Err(TryRecvError::Empty) if self.waiting <= limit => {
                            let slot = Slot::Compressing(extent, result);
                            self.queue.push_front((slot, weight));
                            return Ok(());
                        }
                        // A thread that is gone has compressed nothing.
                        Err(_) => result.recv().unwrap_or_default(),
                    };
                    let at = extent.at;
                    (self.counts.command(extent, encoded, self.workers.codec), at)
                }
            };
            self.waiting = self.waiting.saturating_sub(weight);
            out.item(item, at)?;
        }
        Ok(())
    }
}

impl Counts {
    fn command(&mut self, extent: Extent, encoded: Option<Vec<u8>>, codec: Codec) -> Item {
        let Extent {
            path, offset, data, ..
        } = extent;
        let len = data.len() as u64;
        let Some(encoded) = encoded else {
            self.left += len;
            return Item::Command(Command::Write { path, offset, data });
        };
        self.compressed += 1;
        self.before += len;
        self.after += encoded.len() as u64;
        Item::Command(Command::EncodedWrite(EncodedWrite {
            path,
            offset,
            unencoded_file_len: len,
            unencoded_len: len,
            unencoded_offset: 0,
            compression: Some(codec.number()),
            encryption: Some(0),
            data: Bytes::from(encoded),
        }))
    }
}

type Job = (Bytes, SyncSender<Option<Vec<u8>>>);

/// Threads that compress; none if none could be started.
#[derive(Debug)]
struct Workers {
    codec: Codec,
    level: u8,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(codec: Codec, level: u8, threads: usize) -> Self {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads: Vec<_> = (0..threads)
            .filter_map(|_| {
                let queue = Arc::clone(&queue);
                let builder = thread::Builder::new().name("compress".to_owned());
                let builder = builder.stack_size(THREAD_STACK);
                let work = move || work(&queue, Compressor::new(codec, level));
                builder.spawn(work).ok()
            })
            .collect();
        Self {
            codec,
            level,
            jobs: Some(jobs).filter(|_| !threads.is_empty()),
            threads,
        }
    }

    /// Begins to compress, or does it if there is no thread for it.
    fn compress(&self, data: Bytes) -> Receiver<Option<Vec<u8>>> {
        let (sender, result) = mpsc::sync_channel(1);
        let not_taken = match &self.jobs {
            Some(jobs) => jobs.send((data, sender)).map_err(|error| error.0).err(),
            None => Some((data, sender)),
        };
        if let Some((data, sender)) = not_taken {
            // There is room for one, and the other end is here.
            let mut compressor = Compressor::new(self.codec, self.level);
            let _ = sender.send(compressor.compress(&data));
        }
        result
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic has cost compression only.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, mut compressor: Compressor) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((data, result)) = job else {
            return;
        };
        // Nobody waits any more if the transform was dropped.
        let _ = result.send(compressor.compress(&data));
    }
}
