//! What the threads of a digest share: the tasks, and what they found out.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::content::LargeFile;
use super::document::TreeEntry;
use super::error::DigestError;
use super::node::{Node, Slot, Subtree};
use super::options::DigestProgress;
use super::record::{self, Recorded};
use super::sha::Sha;
use super::sync::{lock, wait};

/// Most tasks that wait; each keeps a directory open.
const MAX_WAITING: usize = 256;

/// What was found.
pub(super) struct Walked {
    pub(super) sha256: Sha,
    pub(super) names: u64,
    pub(super) nested: u64,
    pub(super) tree: Option<Vec<TreeEntry>>,
}

/// What the threads share.
pub(super) struct Pool<'a> {
    pub(super) device: u64,
    pub(super) listed: bool,
    pub(super) threads: usize,
    pub(super) progress: &'a DigestProgress,
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

pub(super) enum Task {
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

/// Stops all threads if this one panics.
pub(super) struct OnPanic<'a>(pub(super) &'a Pool<'a>);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(DigestError::Panicked);
        }
    }
}

impl<'a> Pool<'a> {
    pub(super) fn new(
        device: u64,
        threads: usize,
        listed: bool,
        progress: &'a DigestProgress,
    ) -> Self {
        Self {
            device,
            listed,
            threads,
            progress,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            linked: Mutex::default(),
        }
    }

    /// Waits for a task; `None` if there will be no more.
    pub(super) fn take(&self) -> Option<Task> {
        let mut state = lock(&self.state);
        while !state.over {
            match state.tasks.pop_front() {
                Some(task) => return Some(task),
                None => state = wait(&self.changed, state),
            }
        }
        None
    }

    /// Returns the task if there are too many.
    pub(super) fn submit(&self, task: Task) -> Option<Task> {
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

    pub(super) fn fail(&self, error: DigestError) {
        let mut state = lock(&self.state);
        self.progress.stop();
        state.error.get_or_insert(error);
        state.over = true;
        state.tasks.clear();
        self.changed.notify_all();
    }

    pub(super) fn is_over(&self) -> bool {
        lock(&self.state).over
    }

    /// What is known of a file by another of its names.
    pub(super) fn known(&self, inode: u64) -> Option<Recorded> {
        let mut linked = lock(&self.linked);
        let (recorded, left) = linked.get_mut(&inode)?;
        *left = left.saturating_sub(1);
        if *left == 0 {
            return linked.remove(&inode).map(|(recorded, _)| recorded);
        }
        Some(recorded.clone())
    }

    /// Notes what is known of a file for the rest of its names.
    pub(super) fn remember(&self, inode: u64, links: u64, recorded: &Recorded) {
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
    pub(super) fn fill(&self, node: &Arc<Node>, slots: Vec<(usize, Slot)>) {
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
            let subtree = node.complete(record, filled);
            let mut all = lock(&self.state);
            all.nested += subtree.nested as u64;
            all.names += subtree.names as u64;
            match &node.parent {
                Some((parent, index)) => {
                    slots = vec![(*index, Slot::Directory(Box::new(subtree)))];
                    let parent = Arc::clone(parent);
                    node = parent;
                }
                None => {
                    all.root = Some(subtree);
                    all.over = true;
                    self.changed.notify_all();
                    return;
                }
            }
        }
    }

    /// What all threads together found out.
    pub(super) fn result(&self) -> Result<Walked, DigestError> {
        let mut state = lock(&self.state);
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let Some(Subtree {
            sha256,
            links,
            mut tree,
            ..
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
