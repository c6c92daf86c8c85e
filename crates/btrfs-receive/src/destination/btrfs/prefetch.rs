//! Looking at inodes before their turn comes.
//!
//! The operations of an incremental stream concern inodes that are on disk
//! and, after a night, in no cache. Each is one or two reads, one after the
//! other, with the receiver waiting. So threads of their own look up the
//! paths of operations that are still queued: only that, by `O_PATH`, beneath
//! the subvolume and without following anything. What they find is dropped
//! and what they do not find is no error: a path may not be there yet, or no
//! longer. The result of a receive does not depend on it.
//!
//! A lookup locks the directory while it reads from the disk, and whoever
//! changes a name there would wait. So some paths are looked up ahead of the
//! others, in the parent of the snapshot, if there is one at hand: nobody changes
//! it, and what has not changed since lies in the same blocks on disk. Inodes
//! that follow each other in the stream often lie in one block, so that some
//! paths bring most of the blocks; and many reads may be under way. The others
//! are then looked up in the subvolume itself, by a thread or two: what is in
//! memory, but not yet an inode of that subvolume, takes some time too.
//!
//! A stream uses the names that are valid when the turn of an operation comes.
//! The parent has the old ones ([`Renames`]), and so has the subvolume while a
//! rename waits.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::destination::tree::lock::{lock, wait};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use btrfs_sendstream::StreamPath;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::fcntl_dupfd_cloexec;

use super::worker::THREAD_STACK;
use crate::plan::op::Op;

/// Lookups in the parent that may be under way at a time: enough to keep the
/// queue of a disk full.
const THREADS: usize = 16;
/// Lookups in the subvolume that may be under way at a time.
const MOST_WITHIN: usize = 2;
/// One of so many paths is looked up in the parent.
const SPREAD: u64 = 8;
/// Bytes of paths that wait at most; further ones are not looked up.
const MOST_BYTES: usize = 1 << 20;
/// A path counts for its length and this much.
const OVERHEAD: usize = 64;
/// Paths are handed over in batches of this many, so that not each costs a
/// wake-up.
const BATCH: usize = 16;
/// A lookup that takes longer has read from the disk.
const QUICK: Duration = Duration::from_micros(300);
/// Quick lookups in the parent, one after the other, after which only some are
/// made: everything is in memory.
const PATIENCE: u32 = 64;
/// Of so many paths one is looked up there then.
const SAMPLE: u64 = 16;

/// The side that knows which operations are to come.
pub(super) struct Prefetcher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    batch: Vec<Wanted>,
    /// Operations seen of this subvolume.
    seen: u64,
    /// Paths that could be looked up.
    wanted: u64,
    /// Of the operation before: most follow each other on one inode.
    last: Vec<u8>,
    renames: Renames,
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
        self.0.set_roots(None, None);
    }
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// Operations carried out of this subvolume.
    done: AtomicU64,
}

struct State {
    parent: Queue,
    within: Queue,
    /// How many more quick lookups are made in the parent before it is only
    /// some.
    patience: u32,
    /// How many more paths are all looked up in the parent: one in
    /// [`SPREAD`] was not enough to bring the block of another.
    scattered: u32,
    bytes: usize,
    closed: bool,
}

/// Paths that wait to be looked up in one subvolume.
struct Queue {
    root: Option<Arc<OwnedFd>>,
    waiting: VecDeque<Wanted>,
    under_way: usize,
    most: usize,
}

struct Wanted {
    path: Box<[u8]>,
    /// What the parent calls it, if that is something else.
    old: Option<Box<[u8]>>,
    /// Which operation wants it.
    number: u64,
    place: Place,
}

/// Where a path is looked up.
#[derive(Clone, Copy)]
enum Place {
    Parent,
    Within,
}

impl Prefetcher {
    /// Never looks anything up unless `able`.
    pub(super) fn new(able: bool) -> Self {
        Self {
            able,
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    parent: Queue::new(THREADS),
                    within: Queue::new(MOST_WITHIN),
                    patience: PATIENCE,
                    scattered: 0,
                    bytes: 0,
                    closed: false,
                }),
                work: Condvar::new(),
                done: AtomicU64::new(0),
            }),
            threads: Vec::new(),
            batch: Vec::new(),
            seen: 0,
            wanted: 0,
            last: Vec::new(),
            renames: Renames::default(),
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
        self.renames.clear();
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
            Op::Link { existing, .. } => self.want(existing),
            // Not of a directory, so no other path leads through it.
            Op::Move { existing, path } => {
                self.want(existing);
                self.remember(path);
            }
            Op::Rename { path, to } => {
                self.want(path);
                self.remember(to);
                self.renames.add(path.as_bytes(), to.as_bytes());
            }
            Op::Unlink { .. }
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
        self.wanted += 1;
        let place = if self.wanted.is_multiple_of(SPREAD) {
            Place::Parent
        } else {
            Place::Within
        };
        self.batch.push(Wanted {
            path: path.as_bytes().into(),
            old: self.renames.old(path.as_bytes()).map(Into::into),
            number: self.seen,
            place,
        });
        if self.batch.len() < BATCH {
            return;
        }
        let mut state = lock(&self.shared.state);
        self.batch.drain(..).for_each(|wanted| state.add(wanted));
        drop(state);
        self.shared.work.notify_one();
    }
}

impl Progress {
    /// Has paths looked up from now on, until the result is dropped: in the
    /// subvolume with this root, and in its parent, which nobody changes.
    pub(super) fn look_in(&self, root: impl AsFd, parent: impl AsFd) -> LookingIn {
        let open = |fd: BorrowedFd<'_>| fcntl_dupfd_cloexec(fd, 3).ok();
        self.set_roots(open(root.as_fd()), open(parent.as_fd()));
        LookingIn(self.clone())
    }

    fn set_roots(&self, root: Option<OwnedFd>, parent: Option<OwnedFd>) {
        self.0.done.store(0, Ordering::Relaxed);
        let state = &mut *lock(&self.0.state);
        for (queue, root) in [(&mut state.within, root), (&mut state.parent, parent)] {
            queue.root = root.map(Arc::new);
            queue.waiting.clear();
        }
        state.bytes = 0;
    }

    /// One more operation was begun.
    pub(super) fn step(&self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn serve(&self) {
        let mut last = None;
        while let Some((root, wanted)) = self.next(last) {
            let begun = Instant::now();
            // Otherwise its operation was faster.
            if wanted.number > self.done.load(Ordering::Relaxed) {
                wanted.look_up(&root);
            }
            last = Some((wanted.place, begun.elapsed()));
        }
    }

    /// The next path to look up, and where; `last` is the lookup before it.
    fn next(&self, last: Option<(Place, Duration)>) -> Option<(Arc<OwnedFd>, Wanted)> {
        let mut state = lock(&self.state);
        let slow = last.is_some_and(|(_, took)| took > QUICK);
        match last {
            Some((Place::Parent, _)) => {
                state.parent.under_way -= 1;
                state.patience = if slow {
                    PATIENCE
                } else {
                    state.patience.saturating_sub(1)
                };
            }
            Some((Place::Within, _)) => {
                state.within.under_way -= 1;
                if slow {
                    state.scattered = PATIENCE;
                }
            }
            None => {}
        }
        loop {
            if state.closed {
                return None;
            }
            if let Some(found) = state.parent.pop().or_else(|| state.within.pop()) {
                state.bytes -= found.1.bytes();
                // One thread alone does what is quick.
                let more = slow && !(state.parent.is_empty() && state.within.is_empty());
                drop(state);
                if more {
                    self.work.notify_one();
                }
                return Some(found);
            }
            state = wait(&self.work, state);
        }
    }
}

impl State {
    fn add(&mut self, mut wanted: Wanted) {
        if self.scattered > 0 {
            self.scattered -= 1;
            wanted.place = Place::Parent;
        }
        if self.patience == 0 && !wanted.number.is_multiple_of(SAMPLE) {
            wanted.place = Place::Within;
        }
        let bytes = wanted.bytes();
        let queue = match wanted.place {
            Place::Parent => &mut self.parent,
            Place::Within => &mut self.within,
        };
        if self.bytes + bytes <= MOST_BYTES {
            queue.waiting.push_back(wanted);
            self.bytes += bytes;
        }
    }
}

impl Wanted {
    fn bytes(&self) -> usize {
        self.path.len() + self.old.as_ref().map_or(0, |old| old.len()) + OVERHEAD
    }

    fn look_up(&self, root: &OwnedFd) {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        // What it says does not matter: the operation itself will see.
        let look_up = |path: &[u8]| openat2(root, path, flags, Mode::empty(), resolve);
        match (self.place, &self.old) {
            (Place::Parent, Some(old)) => {
                let _ = look_up(old);
            }
            (Place::Within, Some(old)) => {
                if look_up(&self.path).is_err() {
                    let _ = look_up(old);
                }
            }
            (_, None) => {
                let _ = look_up(&self.path);
            }
        }
    }
}

/// The names that directories have in the parent, by those that the stream gave
/// them.
#[derive(Default)]
struct Renames {
    /// Old names by new ones, the old ones as the parent has them.
    old: HashMap<Box<[u8]>, Box<[u8]>>,
    bytes: usize,
}

impl Renames {
    fn clear(&mut self) {
        self.old.clear();
        self.bytes = 0;
    }

    fn add(&mut self, from: &[u8], to: &[u8]) {
        let old = self.old(from).unwrap_or_else(|| from.to_vec());
        self.bytes += old.len() + to.len() + 2 * OVERHEAD;
        if self.bytes > MOST_BYTES {
            // Some paths are looked up in vain then.
            self.clear();
        } else if old == to {
            self.old.remove(to);
        } else {
            self.old.insert(to.into(), old.into());
        }
    }

    /// What the parent calls `path`, if that is something else.
    fn old(&self, path: &[u8]) -> Option<Vec<u8>> {
        if self.old.is_empty() {
            return None;
        }
        let ends = path.iter().enumerate().rev();
        let ends = ends.filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        std::iter::once(path.len()).chain(ends).find_map(|end| {
            let (directory, below) = path.split_at_checked(end)?;
            let old = self.old.get(directory)?;
            Some([old, below].concat())
        })
    }
}

impl Queue {
    fn new(most: usize) -> Self {
        Self {
            root: None,
            waiting: VecDeque::new(),
            under_way: 0,
            most,
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn pop(&mut self) -> Option<(Arc<OwnedFd>, Wanted)> {
        if self.under_way == self.most {
            return None;
        }
        let root = Arc::clone(self.root.as_ref()?);
        let wanted = self.waiting.pop_front()?;
        self.under_way += 1;
        Some((root, wanted))
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.shared.state);
            state.closed = true;
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
        let state = lock(&prefetcher.shared.state);
        state.parent.waiting.len() + state.within.waiting.len()
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
    fn the_parent_has_the_names_of_before() {
        let mut renames = Renames::default();
        let old = |renames: &Renames, path: &str| {
            let old = renames.old(path.as_bytes());
            old.map(|old| String::from_utf8(old).unwrap())
        };
        renames.add(b"a", b"b");
        assert_eq!(old(&renames, "b").unwrap(), "a");
        assert_eq!(old(&renames, "b/c/d").unwrap(), "a/c/d");
        assert_eq!(old(&renames, "bc"), None);
        assert_eq!(old(&renames, "x/b"), None);
        // One within the other, which has its new name already.
        renames.add(b"b/c", b"e");
        assert_eq!(old(&renames, "e/d").unwrap(), "a/c/d");
        // And back.
        renames.add(b"b", b"a");
        renames.add(b"e", b"a/c");
        assert_eq!(old(&renames, "a/c/d"), None);
    }

    #[test]
    fn names_of_before_are_bounded() {
        let mut renames = Renames::default();
        for number in 0..100_000 {
            let [from, to] = ["from", "to"].map(|name| format!("{name}-{number:0>200}"));
            renames.add(from.as_bytes(), to.as_bytes());
            assert!(renames.bytes <= MOST_BYTES && renames.old.len() <= MOST_BYTES / 500);
        }
    }

    #[test]
    fn an_inode_that_is_renamed_is_looked_up_once() {
        let mut prefetcher = Prefetcher::new(true);
        prefetcher.begin(true);
        let path = |path: String| StreamPath::parse(Bytes::from(path)).unwrap();
        for number in 0..BATCH {
            let [from, to] = ["from", "to"].map(|name| path(format!("{name}-{number}")));
            prefetcher.coming(&Op::Rename {
                path: from,
                to: to.clone(),
            });
            prefetcher.coming(&Op::Truncate { path: to, size: 0 });
        }
        assert_eq!(waiting(&prefetcher), BATCH);
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
        let looking = progress.look_in(&root, &root);
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
