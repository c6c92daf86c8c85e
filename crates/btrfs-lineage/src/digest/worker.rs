//! A thread that reads and hashes.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Stat};

use super::content::{Content, LargeFile, is_large};
use super::error::{DigestError, Problem};
use super::inode::{Reader, links_of, open, stat_at, stat_of};
use super::node::{Entry, Node, Slot};
use super::pool::{OnPanic, Pool, Task};
use super::record::{Record, Recorded};

/// What each thread has of its own.
pub(super) struct Worker<'a> {
    pool: &'a Pool<'a>,
    pub(super) reader: Reader,
    content: Content,
}

impl<'a> Worker<'a> {
    pub(super) fn new(pool: &'a Pool<'a>) -> Self {
        Self {
            pool,
            reader: Reader::new(),
            content: Content::new(),
        }
    }

    /// Carries out tasks until there will be no more.
    pub(super) fn help(&mut self) {
        let _on_panic = OnPanic(self.pool);
        while let Some(task) = self.pool.take() {
            self.carry_out(task);
        }
    }

    pub(super) fn carry_out(&mut self, task: Task) {
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
