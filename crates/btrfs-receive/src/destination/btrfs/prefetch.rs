//! Looking at inodes before their turn comes.
//!
//! The operations of an incremental stream concern inodes that are on disk
//! and, after a night, in no cache. Each is one or two reads, one after the
//! other, with the receiver waiting. So threads of their own look up the
//! paths of operations that are still queued: only that, by `O_PATH`, beneath
//! the subvolume and without following anything. What they find is dropped
//! and what they do not find is no error: a path may not be there yet, or no
//! longer. The result of a receive does not depend on it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::destination::tree::lock::{lock, wait};
use std::thread::{self, JoinHandle};

use btrfs_sendstream::StreamPath;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::worker::THREAD_STACK;
use crate::plan::op::Op;

/// Reads that may be under way at a time.
const THREADS: usize = 2;
/// Bytes of paths that wait at most; further ones are not looked up.
const MOST_BYTES: usize = 1 << 20;
/// A path counts for its length and this much.
const OVERHEAD: usize = 64;
/// Paths are handed over in batches of this many, so that not each costs a
/// wake-up.
const BATCH: usize = 16;

/// The side that knows which operations are to come.
pub(super) struct Prefetcher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    batch: Vec<Wanted>,
    /// Operations seen of this subvolume.
    seen: u64,
    /// Of the operation before: most follow each other on one inode.
    last: Vec<u8>,
    on: bool,
    able: bool,
}

/// The side that carries operations out.
#[derive(Clone)]
pub(super) struct Progress(Arc<Shared>);

/// Paths are looked up in one subvolume while this exists.
pub(super) struct LookingIn(Progress);

impl Drop for LookingIn {
    fn drop(&mut self) {
        self.0.set_root(None);
    }
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Operations carried out of this subvolume.
    done: AtomicU64,
}

#[derive(Default)]
struct State {
    root: Option<Arc<OwnedFd>>,
    waiting: VecDeque<Wanted>,
    bytes: usize,
    closed: bool,
}

struct Wanted {
    path: Box<[u8]>,
    /// Which operation wants it.
    number: u64,
}

impl Prefetcher {
    /// Never looks anything up unless `able`.
    pub(super) fn new(able: bool) -> Self {
        Self {
            able,
            shared: Arc::new(Shared {
                state: Mutex::default(),
                work: Condvar::new(),
                done: AtomicU64::new(0),
            }),
            threads: Vec::new(),
            batch: Vec::new(),
            seen: 0,
            last: Vec::new(),
            on: false,
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress(Arc::clone(&self.shared))
    }

    /// A subvolume begins; `on` if it holds inodes already.
    pub(super) fn begin(&mut self, on: bool) {
        self.seen = 0;
        self.last.clear();
        self.on = on && self.able;
        while self.on && self.threads.len() < THREADS {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new()
                .name("btrfs-prefetch".into())
                .stack_size(THREAD_STACK)
                .spawn(move || shared.serve());
            match started {
                Ok(thread) => self.threads.push(thread),
                // It goes without.
                Err(_) => break,
            }
        }
    }

    /// An operation that was queued.
    pub(super) fn coming(&mut self, op: &Op) {
        self.seen += 1;
        if !self.on {
            return;
        }
        match op {
            Op::Create { path, .. } => self.remember(path),
            Op::Link { existing, .. } | Op::Move { existing, .. } => self.want(existing),
            Op::Rename { .. }
            | Op::Unlink { .. }
            | Op::Rmdir { .. }
            | Op::SetXattr { .. }
            | Op::RemoveXattr { .. }
            | Op::Write { .. }
            | Op::Clone(_)
            | Op::EncodedWrite(_)
            | Op::Truncate { .. }
            | Op::Fallocate { .. }
            | Op::Chown { .. }
            | Op::Chmod { .. }
            | Op::FileAttr { .. }
            | Op::Utimes { .. }
            | Op::EnableVerity(_) => self.want(op.path()),
        }
    }

    fn remember(&mut self, path: &StreamPath) {
        self.last.clear();
        self.last.extend_from_slice(path.as_bytes());
    }

    fn want(&mut self, path: &StreamPath) {
        if path.is_root() || self.last == path.as_bytes() {
            return;
        }
        self.remember(path);
        self.batch.push(Wanted {
            path: path.as_bytes().into(),
            number: self.seen,
        });
        if self.batch.len() >= BATCH {
            let mut state = lock(&self.shared.state);
            for wanted in self.batch.drain(..) {
                let bytes = wanted.path.len() + OVERHEAD;
                if state.bytes + bytes > MOST_BYTES {
                    continue;
                }
                state.bytes += bytes;
                state.waiting.push_back(wanted);
            }
            drop(state);
            self.shared.work.notify_all();
        }
    }
}

impl Progress {
    /// Has paths looked up in the subvolume with this root from now on, until
    /// the result is dropped.
    pub(super) fn look_in(&self, root: &OwnedFd) -> LookingIn {
        self.set_root(root.try_clone().ok());
        LookingIn(self.clone())
    }

    fn set_root(&self, root: Option<OwnedFd>) {
        self.0.done.store(0, Ordering::Relaxed);
        let mut state = lock(&self.0.state);
        state.root = root.map(Arc::new);
        state.waiting.clear();
        state.bytes = 0;
    }

    /// One more operation was begun.
    pub(super) fn step(&self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn serve(&self) {
        while let Some((root, wanted)) = self.next() {
            // Its operation was faster.
            if wanted.number <= self.done.load(Ordering::Relaxed) {
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            // What it says does not matter: the operation itself will see.
            let _ = openat2(
                root.as_fd(),
                &wanted.path[..],
                flags,
                Mode::empty(),
                resolve,
            );
        }
    }

    fn next(&self) -> Option<(Arc<OwnedFd>, Wanted)> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some(root) = state.root.clone()
                && let Some(wanted) = state.waiting.pop_front()
            {
                state.bytes -= wanted.path.len() + OVERHEAD;
                return Some((root, wanted));
            }
            state = wait(&self.work, state);
        }
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            state.root = None;
        }
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was reported by the panic hook; nothing depends on it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use btrfs_sendstream::Bytes;

    use super::*;

    fn unlink(path: &str) -> Op {
        Op::Unlink {
            path: StreamPath::parse(Bytes::copy_from_slice(path.as_bytes())).unwrap(),
        }
    }

    fn waiting(prefetcher: &Prefetcher) -> usize {
        lock(&prefetcher.shared.state).waiting.len()
    }

    #[test]
    fn wants_each_inode_once_and_within_a_bound() {
        // No thread takes anything: there is no root.
        let mut prefetcher = Prefetcher::new(true);
        prefetcher.begin(true);
        for _ in 0..2 * BATCH {
            prefetcher.coming(&unlink("same"));
        }
        assert_eq!(waiting(&prefetcher), 0);
        for number in 0..100_000 {
            prefetcher.coming(&unlink(&format!("{number:0>200}")));
        }
        let most = MOST_BYTES / (200 + OVERHEAD);
        assert!((most - BATCH..=most + 1).contains(&waiting(&prefetcher)));
    }

    #[test]
    fn a_new_subvolume_has_nothing_to_look_up() {
        let mut prefetcher = Prefetcher::new(true);
        prefetcher.begin(false);
        (0..100).for_each(|number| prefetcher.coming(&unlink(&number.to_string())));
        assert_eq!(waiting(&prefetcher), 0);
        assert!(prefetcher.threads.is_empty());
    }

    #[test]
    fn paths_that_lead_elsewhere_or_nowhere_do_no_harm() {
        let room = tempfile::tempdir().unwrap();
        std::fs::write(room.path().join("file"), b"").unwrap();
        symlink("/", room.path().join("outside")).unwrap();
        let root = OwnedFd::from(std::fs::File::open(room.path()).unwrap());
        let mut prefetcher = Prefetcher::new(true);
        let progress = prefetcher.progress();
        let looking = progress.look_in(&root);
        prefetcher.begin(true);
        for _ in 0..100 {
            for path in ["file", "outside/etc", "gone", "file/below"] {
                prefetcher.coming(&unlink(path));
            }
        }
        drop(looking);
        drop(prefetcher);
    }
}
