//! The thread that changes regular files.

use std::io;
use std::sync::{Arc, Mutex};

use super::content::{ContentWriter, Task};
use super::failures::Failures;
use super::worker::Worker;
use crate::destination::tree::lock::lock;
use crate::error::Cause;
use crate::report::Fallbacks;
use crate::step_error::StepError;

/// Where the steps on regular files go, once these are open.
///
/// One thread carries all of them out, whatever inode they concern.
pub(super) struct Content {
    thread: Worker<Task>,
    /// For the subvolume under construction.
    writer: Arc<Mutex<Option<ContentWriter>>>,
    failures: Failures,
}

impl Content {
    pub(super) fn start(failures: Failures) -> io::Result<Self> {
        let writer: Arc<Mutex<Option<ContentWriter>>> = Arc::default();
        let (theirs, failed) = (Arc::clone(&writer), failures.clone());
        let thread = Worker::start(
            "btrfs-content",
            move || theirs,
            move |writer, task: Task| {
                let done = match &mut *lock(writer) {
                    Some(writer) => writer.run(&task),
                    None => Err(StepError::from(Cause::NothingToFinish).of(&task.step)),
                };
                if let Err(failure) = done {
                    failed.push(failure);
                }
            },
        )?;
        Ok(Self {
            thread,
            writer,
            failures,
        })
    }

    /// Another subvolume begins, for which `writer` carries tasks out. Nothing
    /// is under way.
    pub(super) fn begin(&mut self, writer: ContentWriter) {
        *lock(&self.writer) = Some(writer);
    }

    /// Hands over a task; waits while those under way keep too many files
    /// open.
    pub(super) fn hand_over(&mut self, mut task: Task) {
        for _ in std::iter::once(&task.file).chain(&task.source) {
            if !task.share.try_keep_file() {
                // As for the budget of bytes.
                self.thread.flush();
                task.share.keep_file();
            }
        }
        let cost = task.share.bytes();
        self.thread.push(task, cost);
    }

    /// Waits until every task was carried out; they may have failed.
    ///
    /// # Errors
    /// The thread has panicked.
    pub(super) fn wait(&mut self) -> Result<(), Cause> {
        if self.thread.wait() {
            Ok(())
        } else {
            Err(Cause::ThreadPanicked)
        }
    }

    /// Waits until every task was carried out.
    ///
    /// # Errors
    /// The thread has panicked, or a step failed and nobody knows yet: a task,
    /// or one that was carried out before.
    pub(super) fn settle(&mut self) -> Result<(), Cause> {
        self.wait()?;
        match self.failures.take_first() {
            Some(failure) => Err(*failure.cause),
            None => Ok(()),
        }
    }

    /// Drops every task that has not begun, and what belongs to the subvolume:
    /// its failures too, which must not count as those of the next one.
    pub(super) fn end(&mut self) {
        self.thread.discard();
        *lock(&self.writer) = None;
        self.failures.clear();
    }

    /// What had to be done another way in this subvolume.
    pub(super) fn fallbacks(&self) -> Fallbacks {
        let mut writer = lock(&self.writer);
        writer
            .as_mut()
            .map_or_else(Fallbacks::default, |writer| *writer.fallbacks())
    }

    /// Sets what [`fallbacks`](Self::fallbacks) returns, as from a checkpoint.
    #[cfg(feature = "resume")]
    pub(super) fn set_fallbacks(&self, fallbacks: Fallbacks) {
        if let Some(writer) = &mut *lock(&self.writer) {
            *writer.fallbacks() = fallbacks;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use btrfs_sendstream::{Position, StreamPath};

    use super::*;
    use crate::destination::btrfs::budget::{Budget, Share};
    use crate::destination::tree::data::DataWriter;
    use crate::destination::tree::encoded::Accepted;
    use crate::destination::tree::flags::SharedFlags;
    use crate::destination::tree::open_file::OpenFile;
    use crate::plan::op::{Op, Step};

    fn at(offset: u64) -> Position {
        Position {
            offset,
            ..Position::default()
        }
    }

    fn truncate(file: &Arc<OpenFile>, offset: u64, size: u64, share: Share) -> Task {
        let path = StreamPath::default();
        Task {
            file: Arc::clone(file),
            source: None,
            step: Step::new(Op::Truncate { path, size }, at(offset)),
            share,
        }
    }

    fn file() -> Arc<OpenFile> {
        Arc::new(OpenFile::existing(
            tempfile::tempfile().unwrap().into(),
            true,
        ))
    }

    fn writer() -> ContentWriter {
        let (accepted, flags) = (Accepted::default(), SharedFlags::default());
        ContentWriter::new(DataWriter::decoding(), accepted, flags, true)
    }

    #[test]
    fn files_that_wait_are_bounded() {
        let (mut content, budget) = (
            Content::start(Failures::default()).unwrap(),
            Budget::default(),
        );
        content.begin(writer());
        let mut files: Vec<Weak<OpenFile>> = Vec::new();
        for offset in 0..1000 {
            let file = file();
            files.push(Arc::downgrade(&file));
            content.hand_over(truncate(&file, offset, 7, budget.take(1)));
            drop(file);
            files.retain(|file| file.strong_count() > 0);
            assert!(files.len() <= 256);
        }
        content.settle().unwrap();
    }

    #[test]
    fn a_task_that_fails_is_known_when_all_are_done() {
        let (mut content, budget) = (
            Content::start(Failures::default()).unwrap(),
            Budget::default(),
        );
        content.begin(writer());
        for offset in 0..100 {
            let size = if offset == 42 { u64::MAX } else { offset };
            content.hand_over(truncate(&file(), offset, size, budget.take(1)));
        }
        content.wait().unwrap();
        assert_eq!(content.failures.take_first().unwrap().at, at(42));
        content.settle().unwrap();
        // Of the next subvolume nothing is carried out before it begins.
        content.end();
        content.hand_over(truncate(&file(), 0, 0, budget.take(1)));
        assert!(matches!(content.settle(), Err(Cause::NothingToFinish)));
    }
}
