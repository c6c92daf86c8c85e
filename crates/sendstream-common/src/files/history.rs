//! The first reading: the names, and what each command does to which inode.

use std::io::{self, Read, Seek, Write};

use btrfs_sendstream::inspect::{InodeKind, Tree, TreeError};
use btrfs_sendstream::{
    CloneRange, Command, CommandRef, Item, NewSubvolume, Position, Reader, SourceId, StreamPath,
    SubvolumeName, Version,
};

use super::fetch::Needs;
use super::index::{Index, Indexed};
use super::log::{Did, Log, Record};
use super::memory::{Memory, OutOfMemory};
use super::names::{Found, Made, Names, Node, State};
use super::needs::{LocateError, Wanted, XATTR};
use super::words::{described, operation, shown};
use crate::text::escaped;

/// The modes of fallocate that btrfs takes (`FALLOC_FL_*` of `linux/falloc.h`). To punch a
/// hole without keeping the size is an error.
const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2 | KEEP_SIZE;
const ZERO_RANGE: u32 = 0x10;
const ZERO_RANGE_KEEPING_SIZE: u32 = ZERO_RANGE | KEEP_SIZE;

/// Why a stream cannot be read, or does not follow those before it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream is damaged, or cannot be read.
    #[error(transparent)]
    Stream(#[from] btrfs_sendstream::Error),
    /// A command cannot be applied.
    #[error("{operation}: {error} ({at})")]
    Command {
        /// The command and its path.
        operation: String,
        /// Why it cannot be applied.
        error: Box<Inapplicable>,
        /// Its place.
        at: Position,
    },
    /// The temporary file cannot be written.
    #[error("temporary file: {0}")]
    Temporary(io::Error),
}

/// Why a command cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum Inapplicable {
    /// See [`TreeError`].
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// See [`OutOfMemory`].
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The file to clone from does not exist.
    #[error("the source {path} is not a regular file in subvolume {subvolume}")]
    NoSource {
        /// Its path.
        path: String,
        /// The name of the subvolume.
        subvolume: String,
    },
    /// The range to clone ends beyond the end of the source.
    #[error("the source ends at byte {size}, before the end of the range at byte {end}")]
    SourceTooShort {
        /// The size of the source in bytes.
        size: u64,
        /// The end of the range in bytes.
        end: u64,
    },
    /// The range to clone and its copy overlap.
    #[error("the range is cloned to itself")]
    Overlap,
    /// A mode of fallocate that btrfs does not take.
    #[error("fallocate with mode {0:#x} is not supported")]
    Mode(u32),
    /// See [`ReadError::Temporary`].
    #[error("temporary file: {0}")]
    Temporary(#[from] io::Error),
}

/// Why a path leads to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// It does not exist.
    #[error(
        "{path} does not exist in subvolume {subvolume}; the nearest directory is {nearest}{}",
        exists_in(.earlier)
    )]
    Missing {
        /// The path.
        path: String,
        /// The name of the subvolume.
        subvolume: String,
        /// The nearest existing directory on the way.
        nearest: String,
        /// The last subvolume before it in which the path exists.
        earlier: Option<String>,
    },
    /// Something on the way is not a directory.
    #[error("{path} does not exist in subvolume {subvolume}: {file} is {kind}")]
    NotDirectory {
        /// The path.
        path: String,
        /// The name of the subvolume.
        subvolume: String,
        /// The part of the path that is not a directory.
        file: String,
        /// What it is.
        kind: String,
    },
}

fn exists_in(earlier: &Option<String>) -> String {
    match earlier {
        Some(name) => format!(" (it exists in {name}, which is earlier)"),
        None => String::new(),
    }
}

/// The streams of a chain, while they are read for the first time. See the module.
///
/// `S` stores the notes; it has to be empty.
#[derive(Debug)]
pub struct History<S: Write> {
    /// Finds commands that contradict each other.
    tree: Tree,
    pub(super) names: Names,
    log: Log<S>,
    subvolumes: Vec<NewSubvolume>,
    files: u32,
    /// Clone sources that are not in the chain.
    outside: Vec<SourceId>,
    /// The version of the stream, from a byte of a file on.
    versions: Vec<(u32, u64, Version)>,
    memory: Memory,
    pub(super) max_memory: u64,
}

impl<S: Read + Write + Seek> History<S> {
    /// No stream was read yet. Names, what checks them, the selection, and the extents of
    /// the wanted files use at most `max_memory` bytes each.
    pub fn new(storage: S, max_memory: u64) -> Self {
        Self {
            tree: Tree::new(max_memory),
            names: Names::new(),
            log: Log::new(storage),
            subvolumes: Vec::new(),
            files: 0,
            outside: Vec::new(),
            versions: Vec::new(),
            memory: Memory::new(max_memory),
            max_memory,
        }
    }

    /// The subvolume of the last stream.
    pub fn subvolume(&self) -> Option<&NewSubvolume> {
        self.subvolumes.last()
    }

    /// Reads the next file of the chain to its end.
    ///
    /// # Errors
    /// See [`ReadError`]. The history is of no more use.
    pub fn read<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<(), ReadError> {
        self.begin_file()?;
        loop {
            let (position, version) = (reader.consumed(), reader.version());
            let command = match reader.next_item()? {
                None => return Ok(()),
                Some(Item::Command(command)) => command,
                // A header, or an unknown command that the caller allows.
                Some(_) => continue,
            };
            let applied = self
                .note_version(position, version)
                .and_then(|()| self.apply(&command, position, false));
            if let Err(error) = applied {
                return Err(ReadError::Command {
                    operation: operation(&command),
                    error: Box::new(error),
                    at: reader.position(),
                });
            }
        }
    }

    /// Reads the index of the next file of the chain instead.
    ///
    /// # Errors
    /// See [`ReadError`]. The history is of no more use.
    pub fn read_index(&mut self, index: &Index) -> Result<(), ReadError> {
        self.begin_file()?;
        index.read(|indexed| {
            let Indexed {
                command, position, ..
            } = &indexed;
            let applied = self
                .note_version(*position, Some(indexed.version))
                .and_then(|()| self.apply(command, *position, indexed.has_data));
            applied.map_err(|error| ReadError::Command {
                operation: operation(command),
                error: Box::new(error),
                at: Position {
                    offset: *position,
                    ..Position::default()
                },
            })
        })
    }

    fn begin_file(&mut self) -> Result<(), ReadError> {
        self.note(0, 0, Did::File).map_err(ReadError::Temporary)?;
        self.files += 1;
        Ok(())
    }

    fn note_version(
        &mut self,
        position: u64,
        version: Option<Version>,
    ) -> Result<(), Inapplicable> {
        let version = version.unwrap_or(Version::V1);
        let file = self.files - 1;
        let last = self.versions.last();
        if last.is_none_or(|last| (last.0, last.2) != (file, version)) {
            self.memory
                .take(2 * size_of::<(u32, u64, Version)>() as u64)?;
            self.versions.push((file, position, version));
        }
        Ok(())
    }

    fn note(&mut self, node: Node, position: u64, did: Did) -> io::Result<()> {
        self.log.push(Record {
            node,
            position,
            did,
        })
    }

    fn now(&self) -> State {
        let count = u32::try_from(self.subvolumes.len()).unwrap_or(State::MAX);
        count.saturating_sub(1)
    }

    /// Applies a command that begins at this byte of its file. `has_data` is whether
    /// UPDATE_EXTENT stands for data.
    pub(super) fn apply(
        &mut self,
        command: &CommandRef<'_>,
        position: u64,
        has_data: bool,
    ) -> Result<(), Inapplicable> {
        self.tree.apply(command)?;
        match command {
            Command::Subvol { .. } | Command::Snapshot { .. } => {
                if let Some(new) = self.tree.subvolume() {
                    self.memory.take(size_of::<NewSubvolume>() as u64 + 512)?;
                    self.subvolumes.push(new.clone());
                }
                self.names.begin(self.now());
                self.note(0, position, Did::Begin)?;
            }
            Command::Mkfile { path, .. } => self.create(path, Made::File)?,
            Command::Mkdir { path, .. } => self.create(path, Made::Directory)?,
            Command::Symlink { path, target, .. } => {
                self.create(path, Made::Symlink((*target).into()))?;
            }
            Command::Mknod {
                path, rdev, mode, ..
            } => {
                let (mode, rdev) = (*mode, *rdev);
                self.create(path, Made::Device { mode, rdev })?;
            }
            Command::Mkfifo { path, mode, .. } => self.create(path, Made::Fifo(*mode))?,
            Command::Mksock { path, mode, .. } => self.create(path, Made::Socket(*mode))?,
            Command::Rename { path, to } => self.names.rename(path, to, &mut self.memory)?,
            Command::Link { path, existing } => {
                self.names.link(path, existing, &mut self.memory)?;
            }
            Command::Unlink { path } | Command::Rmdir { path } => {
                self.names.remove(path, &mut self.memory)?;
            }
            Command::Write { path, offset, data } => {
                let (offset, len) = (*offset, data.len() as u64);
                self.write(path, position, Did::Data { offset, len })?;
                self.grow(path, offset, len)?;
            }
            Command::EncodedWrite(write) => {
                let (offset, len) = (write.offset, write.unencoded_file_len);
                self.write(&write.path, position, Did::Data { offset, len })?;
                self.grow(&write.path, offset, len)?;
            }
            Command::UpdateExtent { path, offset, len } => {
                let (offset, len) = (*offset, *len);
                let did = if has_data {
                    Did::Data { offset, len }
                } else {
                    Did::NoData { offset, len }
                };
                self.write(path, position, did)?;
                self.grow(path, offset, len)?;
            }
            Command::Clone(clone) => {
                let did = self.clone_range(clone)?;
                self.write(&clone.path, position, did)?;
                self.grow(&clone.path, clone.offset, clone.len)?;
            }
            Command::Truncate { path, size } => {
                // What lies beyond was not there before, or is gone.
                let (offset, len) = (*size, u64::MAX);
                self.write(path, position, Did::Zeros { offset, len })?;
                if let Some(node) = self.names.find_again(path) {
                    self.names.set_size(node, *size, &mut self.memory)?;
                }
            }
            Command::Fallocate {
                path,
                mode,
                offset,
                len,
            } => {
                let (offset, len) = (*offset, *len);
                match *mode {
                    // Space is allocated, and the content stays.
                    0 | KEEP_SIZE => {}
                    PUNCH_HOLE | ZERO_RANGE | ZERO_RANGE_KEEPING_SIZE => {
                        self.write(path, position, Did::Zeros { offset, len })?;
                    }
                    _ => return Err(Inapplicable::Mode(*mode)),
                }
                if mode & KEEP_SIZE == 0 {
                    self.grow(path, offset, len)?;
                }
            }
            Command::SetXattr { path, .. } | Command::RemoveXattr { path, .. } => {
                self.write(path, position, Did::Metadata(XATTR))?;
            }
            Command::Chmod { path, .. } => self.write(path, position, Did::Metadata(1))?,
            Command::Chown { path, .. } => self.write(path, position, Did::Metadata(2))?,
            Command::Utimes { path, .. } => self.write(path, position, Did::Metadata(3))?,
            Command::FileAttr { path, .. } => self.write(path, position, Did::Metadata(4))?,
            Command::EnableVerity(verity) => {
                self.write(&verity.path, position, Did::Metadata(5))?;
            }
            Command::End => {}
        }
        Ok(())
    }

    fn create(&mut self, path: &StreamPath<&[u8]>, made: Made) -> Result<(), Inapplicable> {
        self.names.create(path, made, &mut self.memory)?;
        Ok(())
    }

    /// Notes a change of an inode.
    fn write(
        &mut self,
        path: &StreamPath<&[u8]>,
        position: u64,
        did: Did,
    ) -> Result<(), Inapplicable> {
        if let Some(node) = self.names.find_again(path) {
            self.note(node, position, did)?;
        }
        Ok(())
    }

    /// A range of a file is written, which may end beyond its end.
    fn grow(
        &mut self,
        path: &StreamPath<&[u8]>,
        offset: u64,
        len: u64,
    ) -> Result<(), Inapplicable> {
        if let Some(node) = self.names.find_again(path).filter(|_| len > 0) {
            let size = self.names.size_now(node).max(offset.saturating_add(len));
            self.names.set_size(node, size, &mut self.memory)?;
        }
        Ok(())
    }

    fn clone_range(&mut self, clone: &CloneRange<&[u8]>) -> Result<Did, Inapplicable> {
        let id = SourceId {
            uuid: clone.source_uuid,
            ctransid: clone.source_ctransid,
        };
        let is_source = |new: &NewSubvolume| new.is_source_of(clone);
        let Some(state) = self.subvolumes.iter().rposition(is_source) else {
            let known = self.outside.iter().position(|known| *known == id);
            let number = match known {
                Some(number) => number,
                None => {
                    self.memory.take(size_of::<SourceId>() as u64 * 2)?;
                    self.outside.push(id);
                    self.outside.len() - 1
                }
            };
            return Ok(Did::CloneOutside {
                offset: clone.offset,
                len: clone.len,
                source: u32::try_from(number).unwrap_or(u32::MAX),
            });
        };
        let subvolume = || self.subvolumes.get(state).map_or(String::new(), name_of);
        let state = u32::try_from(state).unwrap_or(State::MAX);
        let from = self.names.find_at(&clone.source_path, state);
        let is_file = |node: &Node| self.names.made(*node) == Some(&Made::File);
        let Some(from) = from.filter(is_file) else {
            return Err(Inapplicable::NoSource {
                path: shown(clone.source_path.as_bytes()),
                subvolume: subvolume(),
            });
        };
        let end = clone.source_offset.saturating_add(clone.len);
        let size = self.names.size(from, state);
        if size < end && clone.len > 0 {
            return Err(Inapplicable::SourceTooShort { size, end });
        }
        let apart = clone.offset.abs_diff(clone.source_offset);
        let to = self.names.find_again(&clone.path);
        if state == self.now() && to == Some(from) && apart < clone.len {
            return Err(Inapplicable::Overlap);
        }
        Ok(Did::Clone {
            offset: clone.offset,
            len: clone.len,
            from,
            state,
            source_offset: clone.source_offset,
        })
    }

    /// Finds what is at a path in the last subvolume, and the size if it is a file.
    ///
    /// # Errors
    /// See [`NotFound`].
    pub fn find(&self, path: &StreamPath) -> Result<(Node, &Made, u64), NotFound> {
        let now = self.now();
        let (path, subvolume) = (path.borrow(), self.subvolume());
        match self.names.follow(&path, now) {
            Found::Node(node) => {
                let made = self.names.made(node).unwrap_or(&Made::Directory);
                Ok((node, made, self.names.size_now(node)))
            }
            Found::Stops { len, there } => {
                let so_far = path.as_bytes().get(..len).unwrap_or_default();
                let subvolume = subvolume.map_or(String::new(), name_of);
                let path_shown = shown(path.as_bytes());
                if there.kind() != InodeKind::Directory {
                    return Err(NotFound::NotDirectory {
                        path: path_shown,
                        subvolume,
                        file: shown(so_far),
                        kind: described(there),
                    });
                }
                let mut earlier = (0..now).rev().zip(self.subvolumes.iter().rev().skip(1));
                let earlier =
                    earlier.find(|(state, _)| self.names.find_at(&path, *state).is_some());
                Err(NotFound::Missing {
                    path: path_shown,
                    subvolume,
                    nearest: shown(so_far),
                    earlier: earlier.map(|(_, new)| name_of(new)),
                })
            }
        }
    }

    /// Finds the commands that made the content of a file, which is output 0.
    ///
    /// # Errors
    /// See [`LocateError`].
    pub fn content(self, file: Node) -> Result<Needs, LocateError> {
        let size = self.names.size_now(file);
        self.locate(|wanted| wanted.content(file, size, 0))
    }

    /// Finds the commands that made what is wanted.
    pub(super) fn locate(
        self,
        want: impl FnOnce(&mut Wanted) -> Result<(), OutOfMemory>,
    ) -> Result<Needs, LocateError> {
        let last = self.files.saturating_sub(1);
        let memory = Memory::new(self.max_memory);
        let mut wanted = Wanted::new(self.now(), last, memory);
        want(&mut wanted)?;
        let outside = self.outside;
        self.log.backwards(|record| wanted.take(record, &outside))?;
        Ok(Needs::new(wanted.into_needs(), self.versions))
    }
}

/// The name of a subvolume, for messages.
fn name_of(new: &NewSubvolume) -> String {
    let name: &SubvolumeName = &new.name;
    escaped(name.as_bytes())
}
