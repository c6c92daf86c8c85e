//! From the root of a subvolume to its digest.
//!
//! One thread, the caller's, reads directories, depth first, and puts what they
//! hold into a queue, some names at a time; all threads take from it. If the
//! queue is full, the caller's thread works on what it would have put there.
//! The thread that completes the last name of a directory hashes the directory
//! and goes on with the one above.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread;

use btrfs_ioctl::ROOT_INODE;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, StatxFlags, statx};

use super::error::{DigestError, Problem};
use super::inode::{open, stat_at, stat_of};
use super::node::{Entry, Node, NodeState, Slot};
use super::options::DigestOptions;
use super::pool::{OnPanic, Pool, Task, Walked};
use super::record::Record;
use super::root_change::{self, RootChange};
use super::worker::Worker;

/// Most threads that are started.
const MAX_THREADS: usize = 64;

/// Names that a thread takes at once.
const BATCH: usize = 16;

/// The kernel builds no longer path for a stream.
const MAX_PATH: usize = 4095;

/// Inode number of the empty directory that a snapshot has in the place of a
/// nested subvolume.
const EMPTY_SUBVOLUME: u64 = 2;

/// Bytes of stack of each thread: what Rust gives by default, and not what
/// `RUST_MIN_STACK` says, which can be too little.
const STACK: usize = 2 << 20;

pub(super) fn run(root: OwnedFd, options: &DigestOptions) -> Result<Walked, DigestError> {
    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let device = stat_of(&root)
        .map_err(|problem| problem.at(Vec::new()))?
        .st_dev;
    options.progress.begin();
    let threads = threads.min(MAX_THREADS);
    let pool = Pool::new(device, threads, options.tree, &options.progress);
    thread::scope(|scope| {
        let start = |_| {
            let thread = thread::Builder::new().name("digest".into());
            thread
                .stack_size(STACK)
                .spawn_scoped(scope, || Worker::new(&pool).help())
        };
        // With fewer it takes longer.
        let helpers: Vec<_> = (1..pool.threads).map_while(|it| start(it).ok()).collect();
        let _on_panic = OnPanic(&pool);
        let mut walker = Walker {
            pool: &pool,
            worker: Worker::new(&pool),
            stack: Vec::new(),
        };
        walker.walk(root, &options.root_changes);
        for helper in helpers {
            // That it panicked is noted.
            let _ = helper.join();
        }
        pool.result()
    })
}

/// What reads directories.
struct Walker<'a> {
    pool: &'a Pool<'a>,
    worker: Worker<'a>,
    stack: Vec<Frame>,
}

/// A directory that is being read.
struct Frame {
    node: Arc<Node>,
    directory: Arc<OwnedFd>,
    /// What is to be looked at next.
    next: usize,
}

impl Walker<'_> {
    fn walk(&mut self, root: OwnedFd, changes: &[RootChange]) {
        if let Err(problem) = self.enter(None, root, changes) {
            return self.pool.fail(problem.at(Vec::new()));
        }
        while let Some(frame) = self.stack.last_mut() {
            if self.pool.progress.is_cancelled() {
                self.pool.fail(DigestError::Cancelled);
            }
            if self.pool.is_over() {
                break;
            }
            let rest = frame.node.names.get(frame.next..).unwrap_or_default();
            let is_directory = |entry: &Entry| entry.kind == FileType::Directory;
            let Some(skipped) = rest.iter().position(is_directory) else {
                self.stack.pop();
                continue;
            };
            let index = frame.next + skipped;
            frame.next = index + 1;
            let (node, directory) = (Arc::clone(&frame.node), Arc::clone(&frame.directory));
            if let Err(problem) = self.subdirectory(&node, &directory, index) {
                self.pool.fail(problem.at(node.path_of(index)));
            }
        }
        // The deepest first, so that none has to free those above it.
        while self.stack.pop().is_some() {}
        self.worker.help();
    }

    fn subdirectory(
        &mut self,
        node: &Arc<Node>,
        directory: &OwnedFd,
        index: usize,
    ) -> Result<(), Problem> {
        let Some(entry) = node.names.get(index) else {
            return Ok(());
        };
        let opened = open(directory, &entry.name, OFlags::DIRECTORY)?;
        let stat = stat_of(&opened)?;
        if (stat.st_dev, stat.st_ino) == (self.pool.device, entry.inode) {
            return self.enter(Some((Arc::clone(node), index)), opened, &[]);
        }
        let is_nested = || {
            let (mount, around) = (mount_of(&opened), mount_of(directory));
            mount.is_some() && mount == around
        };
        if ![ROOT_INODE, EMPTY_SUBVOLUME].contains(&stat.st_ino) || !is_nested() {
            return Err(Problem::Mounted);
        }
        self.pool.fill(node, vec![(index, Slot::Nested)]);
        Ok(())
    }

    fn enter(
        &mut self,
        parent: Option<(Arc<Node>, usize)>,
        directory: OwnedFd,
        changes: &[RootChange],
    ) -> Result<(), Problem> {
        let stat = stat_of(&directory)?;
        let fd = directory.as_fd();
        let mut inode = self.worker.reader.open_inode(fd, &stat)?;
        for change in changes {
            root_change::apply(&mut inode, change);
        }
        let names = names_of(&directory)?;
        let path_len = match &parent {
            // And a slash.
            Some((node, index)) => {
                node.path_len + usize::from(node.path_len > 0) + node.name(*index).len()
            }
            None => 0,
        };
        let longest = names.iter().map(|entry| entry.name.len()).max();
        if longest.is_some_and(|len| path_len + usize::from(path_len > 0) + len > MAX_PATH) {
            return Err(Problem::PathTooLong);
        }
        let node = Arc::new(Node {
            parent,
            path_len,
            state: Mutex::new(NodeState {
                slots: names.iter().map(|_| Slot::Pending).collect(),
                pending: names.len(),
                record: Some(Record::begin(&inode, self.pool.listed)),
            }),
            names,
        });
        self.pool.progress.named(1);
        let directory = Arc::new(directory);
        if node.names.is_empty() {
            self.pool.fill(&node, Vec::new());
            return Ok(());
        }
        for start in (0..node.names.len()).step_by(BATCH) {
            let range = start..(start + BATCH).min(node.names.len());
            let batch = node.names.get(range.clone()).unwrap_or_default();
            if batch.iter().all(|entry| entry.kind == FileType::Directory) {
                continue;
            }
            let task = Task::Names {
                node: Arc::clone(&node),
                directory: Arc::clone(&directory),
                range,
            };
            if let Some(task) = self.pool.submit(task) {
                self.worker.carry_out(task);
            }
            if self.pool.is_over() {
                return Ok(());
            }
        }
        self.stack.push(Frame {
            node,
            directory,
            next: 0,
        });
        Ok(())
    }
}

/// The mount that a descriptor belongs to, if that can be found out.
fn mount_of(fd: &OwnedFd) -> Option<u64> {
    if let Ok(found) = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        && StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID)
    {
        return Some(found.stx_mnt_id);
    }
    // Before Linux 5.8.
    let info = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(info).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

/// The names in a directory, sorted by their bytes.
fn names_of(directory: &OwnedFd) -> Result<Vec<Entry>, Problem> {
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut names = Vec::new();
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(Problem::of("getdents64"))?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            kind = FileType::from_raw_mode(stat_at(directory, name)?.st_mode);
        }
        names.push(Entry {
            name: name.into(),
            inode: entry.ino(),
            kind,
        });
    }
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(names)
}
