//! What is known about the length of the file at hand.

use crate::command::{Command, EncodedWrite, StreamPath};
use crate::error::Position;
use crate::transform::{TransformError, TransformErrorKind};

/// Holes of one file that wait at most: 3 MiB.
const MAX_WAITING: usize = 1 << 16;

/// What is known about the length of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// In bytes.
    pub(super) at_least: u64,
    pub(super) exact: bool,
}

impl Size {
    pub(super) fn exactly(bytes: u64) -> Self {
        Self {
            at_least: bytes,
            exact: true,
        }
    }
}

/// A range to be filled with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Zeros {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The command that asks for them.
    pub(super) at: Position,
}

/// The file that the last commands were about, and what waits for its length.
///
/// A hole changes a file up to its end only, and zeros written in its place
/// must not make it longer. Up to where the file reaches for certain, they are
/// ready to be written; the rest waits. Data written later shows that the file
/// reaches that far, and TRUNCATE sets the size whatever it was. Kernels send
/// all of that together, before the file's times and before anything about
/// another file; if neither comes, the size is that in the parent, and the
/// stream does not have it.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    path: Option<StreamPath>,
    size: Size,
    ready: Vec<Zeros>,
    /// Beyond the proven length; empty if that is exact.
    waiting: Vec<Zeros>,
    /// The length that an allocation gives the file at least, beyond the
    /// proven one, and where that stands in the input.
    grows: Option<(u64, Position)>,
}

impl Sizes {
    /// What is known about the length of the file at hand.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Whether the next command leaves the file at hand under its name, so
    /// that more of its data may follow.
    pub(super) fn goes_on(&self, command: &Command) -> bool {
        let Some(path) = &self.path else {
            return false;
        };
        match command {
            Command::Link { existing, .. } => existing == path,
            Command::Rename { path: from, .. }
            | Command::Write { path: from, .. }
            | Command::EncodedWrite(EncodedWrite { path: from, .. })
            | Command::Truncate { path: from, .. }
            | Command::Fallocate { path: from, .. }
            | Command::UpdateExtent { path: from, .. }
            | Command::SetXattr { path: from, .. }
            | Command::RemoveXattr { path: from, .. }
            | Command::Chown { path: from, .. }
            | Command::Chmod { path: from, .. }
            | Command::FileAttr { path: from, .. } => from == path,
            Command::Clone(clone) => clone.path == *path,
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Mkfile { .. }
            | Command::Mkdir { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::Utimes { .. }
            | Command::EnableVerity(_)
            | Command::End => false,
        }
    }

    /// Whether there is a file at hand.
    pub(super) fn is_open(&self) -> bool {
        self.path.is_some()
    }

    /// Begins with another file.
    pub(super) fn open(&mut self, path: StreamPath, size: Size) {
        self.path = Some(path);
        self.size = size;
    }

    /// The file at hand has another name.
    pub(super) fn rename(&mut self, to: StreamPath) {
        self.path = Some(to);
    }

    /// The file at hand is done with.
    ///
    /// # Errors
    /// Something still waits for its length.
    pub(super) fn close(&mut self) -> Result<(), TransformError> {
        let path = self.path.take().unwrap_or_default();
        self.size = Size::default();
        if let Some(&Zeros { end, at, .. }) = self.waiting.last() {
            return Err(TransformErrorKind::UnknownSize { path, end }.at(at));
        }
        match self.grows.take() {
            None => Ok(()),
            Some((size, at)) => Err(TransformErrorKind::UnknownGrowth { path, size }.at(at)),
        }
    }

    /// Whether something waits for the length of the file.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.grows.is_some()
    }

    /// What has to be zeros before the command that was looked at last takes
    /// effect.
    pub(super) fn take_ready(&mut self) -> Vec<Zeros> {
        std::mem::take(&mut self.ready)
    }

    /// Data makes the file this long, if it is not yet.
    pub(super) fn reaches(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        if len == 0 || end <= self.size.at_least {
            return;
        }
        self.release(end);
        self.size.at_least = end;
        self.grows = self.grows.filter(|(size, _)| *size > end);
    }

    /// The size is set.
    pub(super) fn truncate(&mut self, size: u64) {
        self.release(size);
        self.waiting.clear();
        self.grows = None;
        self.size = Size::exactly(size);
    }

    /// Zeros, whatever the length is now.
    pub(super) fn zeros(&mut self, zeros: Zeros) {
        self.reaches(zeros.start, zeros.end.saturating_sub(zeros.start));
        self.ready.push(zeros);
    }

    /// Zeros as far as the file reaches.
    ///
    /// # Errors
    /// Too many wait for its length.
    pub(super) fn hole(&mut self, hole: Zeros) -> Result<(), TransformError> {
        let proven = Zeros {
            end: hole.end.min(self.size.at_least),
            ..hole
        };
        if proven.start < proven.end {
            self.ready.push(proven);
        }
        let rest = Zeros {
            start: hole.start.max(self.size.at_least),
            ..hole
        };
        if self.size.exact || rest.start >= rest.end {
            return Ok(());
        }
        if self.waiting.len() >= MAX_WAITING {
            return self.close();
        }
        self.waiting.push(rest);
        Ok(())
    }

    /// The file is made this long, if it is shorter. Returns whether it is.
    pub(super) fn grow(&mut self, size: u64, at: Position) -> bool {
        if size <= self.size.at_least {
            return false;
        }
        if self.size.exact {
            self.size.at_least = size;
            return true;
        }
        if self.grows.is_none_or(|(farthest, _)| farthest < size) {
            self.grows = Some((size, at));
        }
        false
    }

    /// What waits, up to there, lies inside the file.
    fn release(&mut self, end: u64) {
        for hole in &self.waiting {
            if hole.start < end {
                let end = hole.end.min(end);
                self.ready.push(Zeros { end, ..*hole });
            }
        }
        self.waiting.retain_mut(|hole| {
            hole.start = hole.start.max(end);
            hole.start < hole.end
        });
    }
}
