//! From the root of a subvolume to its digest.
//!
//! One thread, the caller's, reads directories, depth first, and puts what they
//! hold into a queue, some names at a time; all threads take from it. If the
//! queue is full, the caller's thread works on what it would have put there.
//! The thread that completes the last name of a directory hashes the directory
//! and goes on with the one above.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use btrfs_ioctl::ROOT_INODE;
use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat, StatxAttributes, StatxFlags, statx};

use super::content::{Content, LargeFile, is_large};
use super::document::TreeEntry;
use super::error::{DigestError, Problem};
use super::inode::{Reader, links_of, open, stat_at, stat_of};
use super::record::{self, Record, Recorded};
use super::{DigestOptions, DigestProgress, MAX_THREADS, Sha, lock, root_change, wait};

/// Names that a thread takes at once.
const BATCH: usize = 16;

/// Most tasks that wait; each keeps a directory open.
const MAX_WAITING: usize = 256;

/// The kernel builds no longer path for a stream.
const MAX_PATH: usize = 4095;

/// Inode number of the empty directory that a snapshot has in the place of a
/// nested subvolume.
const EMPTY_SUBVOLUME: u64 = 2;

/// Bytes of stack of each thread: what Rust gives by default, and not what
/// `RUST_MIN_STACK` says, which can be too little.
const STACK: usize = 2 << 20;

/// What was found.
pub(super) struct Walked {
    pub(super) sha256: Sha,
    pub(super) names: u64,
    pub(super) nested: u64,
    pub(super) tree: Option<Vec<TreeEntry>>,
}

pub(super) fn run(root: OwnedFd, options: &DigestOptions) -> Result<Walked, DigestError> {
    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let device = stat_of(&root)
        .map_err(|problem| problem.at(Vec::new()))?
        .st_dev;
    let pool = Pool {
        device,
        listed: options.tree,
        threads: threads.min(MAX_THREADS),
        progress: &options.progress,
        state: Mutex::new(State::default()),
        changed: Condvar::new(),
        linked: Mutex::default(),
    };
    thread::scope(|scope| {
        let start = |_| {
            let thread = thread::Builder::new().name("digest".into());
            thread.stack_size(STACK).spawn_scoped(scope, || pool.help())
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

/// What the threads share.
struct Pool<'a> {
    device: u64,
    listed: bool,
    threads: usize,
    progress: &'a DigestProgress,
    state: Mutex<State>,
    changed: Condvar,
    /// Files that have names yet to come, and how many.
    linked: Mutex<HashMap<u64, (Recorded, u64)>>,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Nothing is begun any more.
    over: bool,
    error: Option<DigestError>,
    root: Option<Subtree>,
    nested: u64,
    names: u64,
}

enum Task {
    /// Some names of a directory.
    Names {
        node: Arc<Node>,
        directory: Arc<OwnedFd>,
        range: Range<usize>,
    },
    /// A file that another thread has begun.
    File {
        node: Arc<Node>,
        index: usize,
        file: Arc<LargeFile>,
    },
}

/// A directory whose digest is not complete.
struct Node {
    /// The directory that holds it, and its number there; none for the root.
    parent: Option<(Arc<Node>, usize)>,
    /// Bytes in its path.
    path_len: usize,
    names: Vec<Entry>,
    state: Mutex<NodeState>,
}

/// A name in a directory.
struct Entry {
    name: Box<[u8]>,
    inode: u64,
    kind: FileType,
}

struct NodeState {
    slots: Vec<Slot>,
    /// How many are pending.
    pending: usize,
    record: Option<Record>,
}

/// What became of a name.
enum Slot {
    Pending,
    /// A nested subvolume, which is not sent.
    Nested,
    Inode {
        sha256: Sha,
        /// The number of the inode, if it has several names.
        linked: Option<u64>,
        entry: Option<Box<TreeEntry>>,
    },
    Directory(Box<Subtree>),
}

/// A directory that is complete.
struct Subtree {
    sha256: Sha,
    /// The inode of each name in it, in order, whose inode has several.
    links: Vec<u64>,
    /// Everything in it, and itself first. Their paths have to be completed.
    tree: Vec<TreeEntry>,
}

impl Node {
    fn path_of(&self, index: usize) -> Vec<u8> {
        let mut names = vec![self.name(index)];
        let mut node = self;
        while let Some((parent, index)) = &node.parent {
            names.push(parent.name(*index));
            node = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn name(&self, index: usize) -> &[u8] {
        self.names.get(index).map_or(b"", |entry| &entry.name)
    }
}

/// Stops all threads if this one panics.
struct OnPanic<'a>(&'a Pool<'a>);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(DigestError::Panicked);
        }
    }
}

impl Pool<'_> {
    /// Carries out tasks until there will be no more.
    fn help(&self) {
        let _on_panic = OnPanic(self);
        let mut worker = Worker::new(self);
        self.help_until_over(&mut worker);
    }

    fn help_until_over(&self, worker: &mut Worker<'_>) {
        loop {
            let mut state = lock(&self.state);
            let task = loop {
                if state.over {
                    return;
                }
                match state.tasks.pop_front() {
                    Some(task) => break task,
                    None => state = wait(&self.changed, state),
                }
            };
            drop(state);
            worker.carry_out(task);
        }
    }

    /// Returns the task if there are too many.
    fn submit(&self, task: Task) -> Option<Task> {
        if self.threads == 1 {
            return Some(task);
        }
        let mut state = lock(&self.state);
        if state.tasks.len() >= MAX_WAITING {
            return Some(task);
        }
        match task {
            Task::Names { .. } => state.tasks.push_back(task),
            Task::File { .. } => state.tasks.push_front(task),
        }
        self.changed.notify_one();
        None
    }

    fn fail(&self, error: DigestError) {
        let mut state = lock(&self.state);
        state.error.get_or_insert(error);
        state.over = true;
        state.tasks.clear();
        self.changed.notify_all();
    }

    fn is_over(&self) -> bool {
        lock(&self.state).over
    }

    /// What is known of a file by another of its names.
    fn known(&self, inode: u64) -> Option<Recorded> {
        let mut linked = lock(&self.linked);
        let (recorded, left) = linked.get_mut(&inode)?;
        *left = left.saturating_sub(1);
        if *left == 0 {
            return linked.remove(&inode).map(|(recorded, _)| recorded);
        }
        Some(recorded.clone())
    }

    /// Notes what is known of a file for the rest of its names.
    fn remember(&self, inode: u64, links: u64, recorded: &Recorded) {
        let mut linked = lock(&self.linked);
        let (_, left) = linked
            .entry(inode)
            .or_insert_with(|| (recorded.clone(), links));
        *left = left.saturating_sub(1);
        if *left == 0 {
            linked.remove(&inode);
        }
    }

    /// Notes what became of names, and completes the directories that are.
    fn fill(&self, node: &Arc<Node>, slots: Vec<(usize, Slot)>) {
        let mut node = Arc::clone(node);
        let mut slots = slots;
        loop {
            let mut state = lock(&node.state);
            for (index, slot) in slots {
                if let Some(place) = state.slots.get_mut(index) {
                    *place = slot;
                    state.pending = state.pending.saturating_sub(1);
                }
            }
            if state.pending > 0 {
                return;
            }
            let Some(record) = state.record.take() else {
                return;
            };
            let filled = std::mem::take(&mut state.slots);
            drop(state);
            let subtree = self.directory(&node, record, filled);
            match &node.parent {
                Some((parent, index)) => {
                    slots = vec![(*index, Slot::Directory(Box::new(subtree)))];
                    let parent = Arc::clone(parent);
                    node = parent;
                }
                None => {
                    let mut state = lock(&self.state);
                    state.root = Some(subtree);
                    state.over = true;
                    self.changed.notify_all();
                    return;
                }
            }
        }
    }

    /// Hashes a directory all of whose names are complete.
    fn directory(&self, node: &Node, record: Record, slots: Vec<Slot>) -> Subtree {
        let sent = slots.iter().zip(&node.names).filter_map(|(slot, entry)| {
            let sha256 = match slot {
                Slot::Pending | Slot::Nested => return None,
                Slot::Inode { sha256, .. } => *sha256,
                Slot::Directory(subtree) => subtree.sha256,
            };
            Some((&entry.name[..], sha256))
        });
        let is_sent = |slot: &&Slot| !matches!(slot, Slot::Nested);
        let count = slots.iter().filter(is_sent).count();
        let Recorded { sha256, entry } = record.directory(count, sent);
        self.note(slots.len() - count, count);
        let (mut links, mut tree) = (Vec::new(), Vec::new());
        tree.extend(entry.map(|entry| *entry));
        for (slot, Entry { name, .. }) in slots.into_iter().zip(&node.names) {
            match slot {
                Slot::Pending | Slot::Nested => {}
                Slot::Inode { linked, entry, .. } => {
                    links.extend(linked);
                    tree.extend(entry.map(|entry| TreeEntry {
                        path: name.to_vec().into(),
                        ..*entry
                    }));
                }
                Slot::Directory(subtree) => {
                    let Subtree {
                        links: mut inner,
                        tree: entries,
                        ..
                    } = *subtree;
                    // The shorter list is copied where that is possible.
                    if links.is_empty() {
                        links = inner;
                    } else {
                        links.append(&mut inner);
                    }
                    tree.extend(entries.into_iter().map(|mut entry| {
                        let mut path = name.to_vec();
                        if !entry.path.is_empty() {
                            path.push(b'/');
                            path.extend_from_slice(&entry.path);
                        }
                        entry.path = path.into();
                        entry
                    }));
                }
            }
        }
        Subtree {
            sha256,
            links,
            tree,
        }
    }

    fn note(&self, nested: usize, names: usize) {
        let mut state = lock(&self.state);
        state.nested += nested as u64;
        state.names += names as u64;
    }

    /// What all threads together found out.
    fn result(&self) -> Result<Walked, DigestError> {
        let mut state = lock(&self.state);
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let Some(Subtree {
            sha256,
            links,
            mut tree,
        }) = state.root.take()
        else {
            return Err(DigestError::Panicked);
        };
        let mut first = HashMap::new();
        let first_names: Vec<u64> = (0..)
            .zip(&links)
            .map(|(number, inode)| *first.entry(*inode).or_insert(number))
            .collect();
        drop(first);
        if self.listed {
            name_links(&mut tree, &first_names);
        }
        Ok(Walked {
            sha256: record::subvolume(sha256, first_names.into_iter()),
            names: state.names,
            nested: state.nested,
            tree: self.listed.then_some(tree),
        })
    }
}

/// Says of each further name of an inode which is its first.
fn name_links(tree: &mut [TreeEntry], first_names: &[u64]) {
    let mut paths = Vec::with_capacity(first_names.len());
    let linked = tree.iter_mut().filter(|entry| entry.links > 1);
    for ((number, &first), entry) in (0..).zip(first_names).zip(linked) {
        if first != number {
            let first = usize::try_from(first).ok().and_then(|it| paths.get(it));
            entry.same_as = first.cloned();
        }
        paths.push(entry.path.clone());
    }
}

/// What each thread has of its own.
struct Worker<'a> {
    pool: &'a Pool<'a>,
    reader: Reader,
    content: Content,
}

impl<'a> Worker<'a> {
    fn new(pool: &'a Pool<'a>) -> Self {
        Self {
            pool,
            reader: Reader::new(),
            content: Content::new(),
        }
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Names {
                node,
                directory,
                range,
            } => self.names(&node, &directory, range),
            Task::File { node, index, file } => self.large(&node, index, &file),
        }
    }

    fn names(&mut self, node: &Arc<Node>, directory: &OwnedFd, range: Range<usize>) {
        let mut slots = Vec::with_capacity(range.len());
        for index in range {
            if self.pool.progress.is_cancelled() {
                return self.pool.fail(DigestError::Cancelled);
            }
            let Some(entry) = node.names.get(index) else {
                continue;
            };
            // The thread that reads directories does these.
            if entry.kind == FileType::Directory {
                continue;
            }
            match self.name(node, index, directory, entry) {
                Ok(Some(slot)) => slots.push((index, slot)),
                Ok(None) => {}
                Err(problem) => return self.pool.fail(problem.at(node.path_of(index))),
            }
        }
        self.pool.progress.named(slots.len() as u64);
        if !slots.is_empty() {
            self.pool.fill(node, slots);
        }
    }

    /// What is called `entry`; `None` if several threads read it.
    fn name(
        &mut self,
        node: &Arc<Node>,
        index: usize,
        directory: &OwnedFd,
        entry: &Entry,
    ) -> Result<Option<Slot>, Problem> {
        let listed = self.pool.listed;
        let is_other = |stat: &Stat| (stat.st_dev, stat.st_ino) != (self.pool.device, entry.inode);
        if entry.kind != FileType::RegularFile {
            let stat = stat_at(directory, &entry.name)?;
            if is_other(&stat) {
                return Err(Problem::Mounted);
            }
            let recorded = self.reader.special(directory, &entry.name, &stat, listed)?;
            return Ok(Some(slot(recorded, linked(&stat))));
        }
        let file = open(directory, &entry.name, OFlags::empty())?;
        let stat = stat_of(&file)?;
        if is_other(&stat) {
            return Err(Problem::Mounted);
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Problem::Changed);
        }
        let linked = linked(&stat);
        if let Some(known) = linked.and_then(|inode| self.pool.known(inode)) {
            return Ok(Some(slot(known, linked)));
        }
        let inode = self.reader.open_inode(file.as_fd(), &stat)?;
        let record = Record::begin(&inode, listed);
        let size = stat.st_size.cast_unsigned();
        if is_large(size) && self.pool.threads > 1 {
            let file = Arc::new(LargeFile::new(
                file,
                size,
                record,
                linked.map(|inode| (inode, links_of(&stat))),
            ));
            for _ in 1..self.pool.threads {
                let (node, file) = (Arc::clone(node), Arc::clone(&file));
                let _ = self.pool.submit(Task::File { node, index, file });
            }
            self.large(node, index, &file);
            return Ok(None);
        }
        let content = self.content.of(&file, size, self.pool.progress)?;
        let recorded = record.file(size, content);
        if let Some(inode) = linked {
            self.pool.remember(inode, links_of(&stat), &recorded);
        }
        Ok(Some(slot(recorded, linked)))
    }

    fn large(&mut self, node: &Arc<Node>, index: usize, file: &LargeFile) {
        match file.help(&mut self.content, self.pool.progress) {
            Ok(Some((recorded, linked))) => {
                self.pool.progress.named(1);
                if let Some((inode, links)) = linked {
                    self.pool.remember(inode, links, &recorded);
                }
                let slot = slot(recorded, linked.map(|(inode, _)| inode));
                self.pool.fill(node, vec![(index, slot)]);
            }
            Ok(None) => {}
            Err(problem) => self.pool.fail(problem.at(node.path_of(index))),
        }
    }
}

fn slot(recorded: Recorded, linked: Option<u64>) -> Slot {
    let Recorded { sha256, entry } = recorded;
    Slot::Inode {
        sha256,
        linked,
        entry,
    }
}

/// The number of an inode that has several names.
fn linked(stat: &Stat) -> Option<u64> {
    (links_of(stat) > 1).then_some(stat.st_ino)
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
    fn walk(&mut self, root: OwnedFd, changes: &[root_change::RootChange]) {
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
        self.pool.help_until_over(&mut self.worker);
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
        let is_mount = statx(&opened, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
            .is_ok_and(|it| it.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        if is_mount || ![ROOT_INODE, EMPTY_SUBVOLUME].contains(&stat.st_ino) {
            return Err(Problem::Mounted);
        }
        self.pool.fill(node, vec![(index, Slot::Nested)]);
        Ok(())
    }

    fn enter(
        &mut self,
        parent: Option<(Arc<Node>, usize)>,
        directory: OwnedFd,
        changes: &[root_change::RootChange],
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
