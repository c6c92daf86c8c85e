//! Which paths a stream creates, changes, renames and deletes.
//!
//! Senders work with temporary names: a new inode is made as `oNNN-GEN-N` in
//! the root and renamed, a directory that goes is renamed to such a name
//! first, a file is renamed by a link and an unlink. [`Differ`] follows all
//! of that and tells only what is different in the end. It goes by what the
//! names do, not by what they look like: a file that really is called
//! `o257-8-0` is nothing special.

mod paths;
#[cfg(test)]
mod tests;

use std::io::Read;

use btrfs_sendstream::{Bytes, Command, CommandBuf, Item, Limits, Position, Reader};

use crate::error::{Cause, Failure};
use crate::names::{Changes, InodeKind, NameError, NameTree};
use crate::plan;
use crate::plan::op::NewSubvolume;

/// What a stream does to one subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The subvolume.
    pub subvolume: NewSubvolume,
    /// What changed, sorted by path.
    pub entries: Vec<DiffEntry>,
}

/// What a stream does to one path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffEntry {
    /// The path: where it is in the end; where it was, if it was deleted.
    /// Empty for the root.
    pub path: Bytes,
    /// What it is, as far as the stream tells.
    pub kind: InodeKind,
    /// What happened to it.
    pub action: Action,
    /// What is changed about it. Empty for what was created or deleted.
    pub changes: Changes,
}

/// What happened to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It is new.
    Created,
    /// It is a new name of a file that has others.
    Linked {
        /// The first of its other names.
        to: Bytes,
    },
    /// It was called something else. What lies in a directory that was
    /// renamed is not told of: it moved along.
    Renamed {
        /// Its path in the parent.
        from: Bytes,
    },
    /// It is there as before, and something about it changed.
    Changed,
    /// It is gone. What lay in a directory that is gone is told of too.
    Deleted,
}

impl Action {
    /// A word for it in lower case, such as `created` or `renamed`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Linked { .. } => "linked",
            Self::Renamed { .. } => "renamed",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}

/// Why there is no difference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// The stream is damaged, cut, or could not be read.
    #[error(transparent)]
    Stream(#[from] btrfs_sendstream::Error),
    /// A command contradicts those before it, or cannot be carried out.
    #[error(transparent)]
    Command(Failure),
}

/// Settings for a [`Differ`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DiffOptions {
    /// Bytes of memory that names and paths may take. Default 4 GiB.
    pub max_memory: u64,
    /// Bounds on what a stream may make the decoder allocate.
    pub limits: Limits,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self {
            max_memory: 4 << 30,
            limits: Limits::default(),
        }
    }
}

/// Reads streams and tells what each subvolume of them changes, with or
/// without file data in them.
///
/// Memory: the reader's buffer; and for each name that the stream uses less
/// than 2 KiB, twice the bytes of the name and four times those of its path,
/// up to [`DiffOptions::max_memory`]. It grows with the changes, not with what
/// is in the subvolume; a full stream changes everything. Paths have at most
/// 4,095 bytes, as senders build them.
#[derive(Debug)]
pub struct Differ<R> {
    reader: Reader<R>,
    options: DiffOptions,
    /// The subvolume whose SUBVOL or SNAPSHOT was read.
    current: Option<(NewSubvolume, NameTree)>,
}

impl<R: Read> Differ<R> {
    /// Tells what `input` changes.
    pub fn new(input: R) -> Self {
        Self::with_options(input, DiffOptions::default())
    }

    /// Tells what `input` changes, with these options.
    pub fn with_options(input: R, options: DiffOptions) -> Self {
        Self {
            reader: Reader::builder().limits(options.limits).build(input),
            options,
            current: None,
        }
    }

    /// The next subvolume of the input; `None` at its end.
    ///
    /// # Errors
    /// The stream is damaged or contradicts itself. There is nothing to come
    /// after that.
    pub fn next_difference(&mut self) -> Result<Option<Difference>, DiffError> {
        while let Some(item) = self.reader.next_owned()? {
            let Item::Command(command) = item else {
                continue;
            };
            if let Some(new) = NewSubvolume::from_command(&command) {
                let done = self.finish()?;
                self.begin(new);
                if done.is_some() {
                    return Ok(done);
                }
            } else if matches!(command, Command::End) {
                return self.finish();
            } else {
                self.command(command)?;
            }
        }
        Ok(None)
    }

    fn begin(&mut self, new: NewSubvolume) {
        let names = NameTree::new(new.parent.is_none(), self.options.max_memory);
        let name = new.name.borrow().to_owned();
        let new = NewSubvolume { name, ..new };
        self.current = Some((new, names.with_origins()));
    }

    fn finish(&mut self) -> Result<Option<Difference>, DiffError> {
        let Some((subvolume, names)) = self.current.take() else {
            return Ok(None);
        };
        let entries = paths::entries(&names).map_err(|error| {
            let (at, name) = (self.reader.position(), subvolume.name.as_bytes());
            DiffError::Command(Failure::new(at, "diff", name, Cause::Name(error)))
        })?;
        Ok(Some(Difference { subvolume, entries }))
    }

    fn command(&mut self, command: CommandBuf) -> Result<(), DiffError> {
        let Some((_, names)) = &mut self.current else {
            return Ok(());
        };
        let failed = |command: &CommandBuf, at: Position, cause: Cause| {
            let path = command.path().unwrap_or_default();
            let name = command.kind().name();
            DiffError::Command(Failure::new(at, name, path.as_bytes(), cause))
        };
        let at = self.reader.position();
        let result: Result<(), NameError> = match &command {
            Command::UpdateExtent { path, .. } => names.change_file(path, Changes::CONTENT),
            // Shares names and data with it.
            other => match plan::convert(other.clone()) {
                Ok(Some(op)) => names.apply(&op),
                Ok(None) => Ok(()),
                Err(cause) => return Err(failed(&command, at, cause)),
            },
        };
        result.map_err(|error| failed(&command, at, Cause::Name(error)))
    }
}
