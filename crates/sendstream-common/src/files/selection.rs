//! A part of a subvolume as a full stream of its own.

use std::collections::HashMap;
use std::io::{Read, Seek, Write};

use btrfs_sendstream::{Bytes, Command, CommandRef, NewSubvolume, PathError, StreamPath};

use super::fetch::Needs;
use super::history::{History, NotFound};
use super::memory::{Memory, OutOfMemory};
use super::names::{Made, Node, ROOT};
use super::needs::LocateError;

/// What a name is reckoned to cost, besides twice the bytes of its path.
const ENTRY_COST: u64 = 256;

/// Data in a WRITE at most.
const MAX_DATA: usize = 128 * 1024;

/// The paths that were chosen in a subvolume, with everything below them and the
/// directories that lead to them.
#[derive(Debug)]
pub struct Selection {
    new: NewSubvolume,
    /// In the order in which they are created; the root is not among them.
    entries: Vec<Entry>,
    /// The path of each output.
    outputs: Vec<(StreamPath, Node)>,
}

#[derive(Debug)]
struct Entry {
    path: StreamPath,
    made: Made,
    node: Node,
    size: u64,
    /// The first name of the same inode.
    existing: Option<StreamPath>,
}

/// Why there is no selection.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// See [`NotFound`].
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// See [`OutOfMemory`].
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// Names in the streams that make no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The streams contain no subvolume.
    #[error("the streams contain no subvolume")]
    NoSubvolume,
}

/// What was chosen so far.
struct Chooser<'h, S: Write> {
    history: &'h History<S>,
    entries: Vec<Entry>,
    outputs: Vec<(StreamPath, Node)>,
    /// The output of an inode.
    by_node: HashMap<Node, usize>,
    memory: Memory,
}

impl Selection {
    /// Chooses paths in the last subvolume of a history.
    ///
    /// # Errors
    /// See [`SelectError`].
    pub fn new<S: Read + Write + Seek>(
        history: &History<S>,
        paths: &[StreamPath],
    ) -> Result<Self, SelectError> {
        let new = history.subvolume().ok_or(SelectError::NoSubvolume)?;
        let root = StreamPath::default();
        let mut chooser = Chooser {
            history,
            entries: Vec::new(),
            outputs: vec![(root, ROOT)],
            by_node: HashMap::from([(ROOT, 0)]),
            memory: Memory::new(history.max_memory),
        };
        // A directory before what is below it, which then is chosen already.
        let mut paths: Vec<_> = paths.iter().collect();
        paths.sort_unstable_by(|a, b| a.components().cmp(b.components()));
        let mut last: Option<&StreamPath> = None;
        for path in paths {
            if last.is_some_and(|last| path.starts_with(last)) {
                continue;
            }
            last = Some(path);
            chooser.choose(path)?;
        }
        Ok(Self {
            new: new.clone(),
            entries: chooser.entries,
            outputs: chooser.outputs,
        })
    }

    /// The commands that create everything, without content and metadata.
    pub fn creation(&self) -> impl Iterator<Item = Command> {
        let first = Command::Subvol {
            name: self.new.name.clone(),
            uuid: self.new.uuid,
            ctransid: self.new.ctransid,
        };
        let entries = self.entries.iter().flat_map(Entry::creation);
        std::iter::once(first).chain(entries)
    }

    /// Finds the commands that made content and metadata.
    ///
    /// # Errors
    /// See [`LocateError`].
    pub fn locate<S: Read + Write + Seek>(
        &self,
        history: History<S>,
    ) -> Result<Needs, LocateError> {
        let files = self.entries.iter().filter(|entry| entry.existing.is_none());
        let sizes: HashMap<_, _> = files.map(|entry| (entry.node, entry.size)).collect();
        history.locate(|wanted| {
            for (output, (_, node)) in (0..).zip(&self.outputs) {
                wanted.metadata(*node, output)?;
                if let Some(size) = sizes.get(node) {
                    wanted.content(*node, *size, output)?;
                }
            }
            Ok(())
        })
    }

    fn path(&self, output: u32) -> Option<StreamPath> {
        let (path, _) = self.outputs.get(usize::try_from(output).ok()?)?;
        Some(path.clone())
    }

    /// The commands that write data of an output.
    pub fn data(&self, output: u32, offset: u64, data: &[u8]) -> impl Iterator<Item = Command> {
        let path = self.path(output);
        let offsets = (0..).step_by(MAX_DATA).map(move |skip| offset + skip);
        let chunks = data.chunks(MAX_DATA).zip(offsets);
        chunks.filter_map(move |(chunk, offset)| {
            Some(Command::Write {
                path: path.clone()?,
                offset,
                data: Bytes::copy_from_slice(chunk),
            })
        })
    }

    /// The command that changes the metadata of an output as `command` did.
    pub fn metadata(&self, output: u32, command: &CommandRef<'_>) -> Option<Command> {
        let to = self.path(output)?;
        let mut command = command.to_owned();
        match &mut command {
            Command::SetXattr { path, .. }
            | Command::RemoveXattr { path, .. }
            | Command::Chmod { path, .. }
            | Command::Chown { path, .. }
            | Command::Utimes { path, .. }
            | Command::FileAttr { path, .. } => *path = to,
            Command::EnableVerity(verity) => verity.path = to,
            _ => return None,
        }
        Some(command)
    }
}

impl<S: Read + Write + Seek> Chooser<'_, S> {
    /// Adds a path, everything below it, and the directories above it.
    fn choose(&mut self, path: &StreamPath) -> Result<(), SelectError> {
        self.history.find(path)?;
        let mut above = Vec::new();
        while let Some(parent) = above.last().unwrap_or(path).parent() {
            let parent = parent.to_owned();
            above.push(parent);
        }
        for directory in above.iter().rev() {
            let (node, ..) = self.history.find(directory)?;
            if !self.by_node.contains_key(&node) {
                self.add(directory.clone(), node)?;
            }
        }
        let (node, ..) = self.history.find(path)?;
        let mut waiting = vec![(path.clone(), node)];
        while let Some((path, node)) = waiting.pop() {
            if !path.is_root() {
                self.add(path.clone(), node)?;
            }
            for (name, child) in self.history.names.children(node) {
                let below = if path.is_root() {
                    name.to_vec()
                } else {
                    [path.as_bytes(), b"/", name].concat()
                };
                let below = StreamPath::parse(Bytes::from(below))?;
                self.memory.take(2 * below.as_bytes().len() as u64)?;
                waiting.push((below, child));
            }
        }
        Ok(())
    }

    fn add(&mut self, path: StreamPath, node: Node) -> Result<(), OutOfMemory> {
        self.memory
            .take(ENTRY_COST + 2 * path.as_bytes().len() as u64)?;
        let names = &self.history.names;
        let first = self.by_node.get(&node);
        let existing = first.and_then(|output| Some(self.outputs.get(*output)?.0.clone()));
        if existing.is_none() {
            self.by_node.insert(node, self.outputs.len());
            self.outputs.push((path.clone(), node));
        }
        let made = names.made(node).cloned();
        self.entries.push(Entry {
            path,
            made: made.unwrap_or(Made::Directory),
            node,
            size: names.size_now(node),
            existing,
        });
        Ok(())
    }
}

impl Entry {
    fn creation(&self) -> impl Iterator<Item = Command> {
        let (path, ino) = (self.path.clone(), u64::from(self.node));
        let size = self.size;
        let truncate = (self.existing.is_none() && size > 0).then(|| Command::Truncate {
            path: path.clone(),
            size,
        });
        let command = match (&self.existing, &self.made) {
            (Some(existing), _) => Command::Link {
                path,
                existing: existing.clone(),
            },
            (None, Made::File) => Command::Mkfile { path, ino },
            (None, Made::Directory) => Command::Mkdir { path, ino },
            (None, Made::Symlink(target)) => Command::Symlink {
                path,
                ino,
                target: Bytes::copy_from_slice(target),
            },
            (None, &Made::Device { mode, rdev }) => Command::Mknod {
                path,
                ino,
                rdev,
                mode,
            },
            (None, &Made::Fifo(mode)) => Command::Mkfifo {
                path,
                ino,
                rdev: 0,
                mode,
            },
            (None, &Made::Socket(mode)) => Command::Mksock {
                path,
                ino,
                rdev: 0,
                mode,
            },
        };
        std::iter::once(command).chain(truncate)
    }
}
