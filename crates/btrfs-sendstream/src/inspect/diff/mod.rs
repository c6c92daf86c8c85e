//! Which paths a stream creates, changes, renames and deletes.
//!
//! Senders use temporary names: a new inode is created as `oNNN-GEN-N` in the
//! root and renamed, a directory is renamed to such a name before it is removed,
//! a file is renamed by a link and an unlink. [`Differ`] follows these commands
//! and reports only the differences that remain at the end. It does not depend on
//! how a name looks: a file called `o257-8-0` is an ordinary file.

mod paths;
#[cfg(test)]
mod tests;

use std::io::Read;

use bytes::Bytes;

use super::names::{Changes, InodeKind, NameTree};
use super::verify::{Finding, Problem};
use crate::{Command, CommandRef, Item, Limits, NewSubvolume, Position, Reader};

/// The differences between a subvolume and its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Difference {
    /// The subvolume.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub subvolume: NewSubvolume,
    /// The changed paths, sorted.
    pub entries: Vec<DiffEntry>,
}

/// The difference at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DiffEntry {
    /// The kind of difference.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub action: Action,
    /// The path at the end of the stream, or the former path if it was deleted.
    /// Empty for the root.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::text"))]
    pub path: Bytes,
    /// The kind of file, if it is known from the stream.
    #[cfg_attr(
        feature = "serde",
        serde(skip_serializing_if = "InodeKind::is_unknown")
    )]
    pub kind: InodeKind,
    /// What changed. Empty for created and deleted paths.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Changes::is_empty"))]
    pub changes: Changes,
}

/// The kind of difference at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "action", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Action {
    /// It was created.
    Created,
    /// It is a new name of an existing file.
    Linked {
        /// Another name of the file, the first.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::text"))]
        to: Bytes,
    },
    /// It was renamed. The content of a renamed directory is not listed.
    Renamed {
        /// Its path in the parent.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::text"))]
        from: Bytes,
    },
    /// It was changed, but not renamed.
    Changed,
    /// It was deleted. The content of a deleted directory is listed as well.
    Deleted,
}

impl Action {
    /// Returns its name in lower case, such as `created` or `renamed`.
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

/// Why the differences could not be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// The stream is damaged or truncated, or could not be read.
    #[error(transparent)]
    Stream(#[from] crate::Error),
    /// A command contradicts those before it, or cannot be applied.
    #[error("{0}")]
    Command(Box<Finding>),
}

/// Settings for a [`Differ`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DiffOptions {
    /// Limit on the memory for names and paths in bytes. Default 4 GiB.
    pub max_memory: u64,
    /// Limits on the memory that a stream may make the decoder allocate.
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

/// Reads streams and reports what each subvolume in them changes, with or
/// without file data in them.
///
/// Memory: the reader's buffer; and for each name that the stream uses less
/// than 2 KiB, twice the bytes of the name and four times those of its path,
/// up to [`DiffOptions::max_memory`]. It grows with the changes, not with what
/// is in the subvolume; a full stream changes everything. Paths have at most
/// 4,095 bytes, as senders build them.
///
/// ```
/// use btrfs_sendstream::inspect::{Action, Differ};
/// # use btrfs_sendstream::{Command, StreamPath, SubvolumeName, Uuid, Version, Writer};
/// # let mut writer = Writer::new(Vec::new());
/// # writer.header(Version::V1)?;
/// # writer.command(&Command::Subvol {
/// #     name: SubvolumeName::parse(&b"home"[..])?,
/// #     uuid: Uuid::from_u128(1),
/// #     ctransid: 7,
/// # })?;
/// # writer.command(&Command::Mkdir { path: StreamPath::parse(&b"o257-7-0"[..])?, ino: 257 })?;
/// # let (path, to) = (StreamPath::parse(&b"o257-7-0"[..])?, StreamPath::parse(&b"docs"[..])?);
/// # writer.command(&Command::Rename { path, to })?;
/// # writer.command(&Command::<&[u8]>::End)?;
/// # let stream = writer.finish()?;
///
/// let mut differ = Differ::new(&stream[..]);
/// while let Some(difference) = differ.next_difference()? {
///     for entry in &difference.entries {
///         assert_eq!(entry.action, Action::Created);
///         assert_eq!(entry.path, "docs");
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Differ<R> {
    reader: Reader<R>,
    options: DiffOptions,
    /// The subvolume whose SUBVOL or SNAPSHOT was read.
    current: Option<(NewSubvolume, NameTree)>,
}

impl<R: Read> Differ<R> {
    /// Creates a differ that reads `input`.
    pub fn new(input: R) -> Self {
        Self::with_options(input, DiffOptions::default())
    }

    /// Creates a differ that reads `input`, with these options.
    pub fn with_options(input: R, options: DiffOptions) -> Self {
        Self {
            reader: Reader::builder().limits(options.limits).build(input),
            options,
            current: None,
        }
    }

    /// Returns the differences of the next subvolume, or `None` at the end of the
    /// input.
    ///
    /// # Errors
    /// The stream is damaged or contradicts itself. After an error, `None` is
    /// returned.
    pub fn next_difference(&mut self) -> Result<Option<Difference>, DiffError> {
        loop {
            let item = match self.reader.next_item()? {
                Some(Item::Command(command)) => command,
                Some(_) => continue,
                None => return Ok(None),
            };
            if let Some(new) = NewSubvolume::copied(&item) {
                let names = NameTree::new(new.parent.is_none(), self.options.max_memory);
                let next = (new, names.with_origins());
                let Some(done) = self.current.replace(next) else {
                    continue;
                };
                return finish(done, self.reader.position()).map(Some);
            }
            let is_end = matches!(item, Command::End);
            let Some((subvolume, names)) = &mut self.current else {
                continue;
            };
            if let Err(problem) = follow(names, &item) {
                let name = Some(&subvolume.name);
                let mut finding = Finding::new(Position::default(), name, Some(&item), problem);
                finding.at = self.reader.position();
                return Err(DiffError::Command(Box::new(finding)));
            }
            if is_end && let Some(done) = self.current.take() {
                return finish(done, self.reader.position()).map(Some);
            }
        }
    }
}

/// Applies a command to the names.
fn follow(names: &mut NameTree, command: &CommandRef<'_>) -> Result<(), Problem> {
    command.check_values()?;
    names.apply(command)?;
    Ok(())
}

/// The result for a subvolume that is complete; `at` is where the stream goes
/// on.
fn finish(
    (subvolume, names): (NewSubvolume, NameTree),
    at: Position,
) -> Result<Difference, DiffError> {
    let entries = paths::entries(&names).map_err(|error| {
        let name = Some(&subvolume.name);
        let finding = Finding::new::<Bytes>(at, name, None, error.into());
        DiffError::Command(Box::new(finding))
    })?;
    Ok(Difference { subvolume, entries })
}
