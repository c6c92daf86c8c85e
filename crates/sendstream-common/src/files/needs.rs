//! Which commands make the files that are wanted: found backwards, from the end of the
//! last stream.
//!
//! What is wanted of an inode is a set of ranges. A command that wrote a part of one
//! satisfies that part; what was written there before does not matter. A CLONE replaces
//! it by a range of its source. What no command satisfies is a hole.

use std::collections::{BTreeMap, HashMap};
use std::io;

use btrfs_sendstream::SourceId;

use super::log::{Did, Record};
use super::memory::{Memory, OutOfMemory};
use super::names::{Node, State};

/// What a range, and each place that it is wanted at, are reckoned to cost.
const RANGE_COST: u64 = 112;
const PART_COST: u64 = 32;

/// What a [`Need`] is reckoned to cost.
const NEED_COST: u64 = 2 * size_of::<Need>() as u64;

/// A command that is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// The number of its file in the chain.
    pub(super) file: u32,
    /// The byte of its stream where it begins.
    pub(super) position: u64,
    /// What it is needed for, as numbered by the caller.
    pub(super) output: u32,
    pub(super) what: What,
}

/// What of the command is needed.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// It changes metadata.
    Metadata,
    /// Of the data that it writes to `offset`, `len` bytes after the first `skip`, which
    /// belong to `at` in the output.
    Data {
        offset: u64,
        skip: u64,
        len: u64,
        at: u64,
    },
}

/// Why content cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The data was not sent.
    #[error("the stream was made without file data (btrfs send --no-data)")]
    NoData,
    /// The data is in another subvolume.
    #[error(
        "data was cloned from subvolume {} with transid {}, which is not among the streams that \
         lead to this subvolume",
        .0.uuid, .0.ctransid
    )]
    Outside(SourceId),
    /// See [`OutOfMemory`].
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The temporary file cannot be read.
    #[error("temporary file: {0}")]
    Temporary(#[from] io::Error),
}

/// Where a range is wanted: from `at` on in an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    output: u32,
    at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    end: u64,
    parts: Vec<Part>,
}

impl Range {
    fn cost(&self) -> u64 {
        RANGE_COST + PART_COST * self.parts.len() as u64
    }
}

/// The ranges of an inode that are wanted, by where they begin. None overlap.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, Range>);

impl Ranges {
    /// Sees that no range lies on both sides of `at`.
    fn split(&mut self, at: u64, memory: &mut Memory) -> Result<(), OutOfMemory> {
        let Some((&start, range)) = self.0.range_mut(..at).next_back() else {
            return Ok(());
        };
        if range.end > at {
            memory.take(range.cost())?;
            let mut right = range.clone();
            for part in &mut right.parts {
                part.at += at - start;
            }
            range.end = at;
            self.0.insert(at, right);
        }
        Ok(())
    }

    /// Takes out what is wanted between `start` and `end`.
    fn take(
        &mut self,
        (start, end): (u64, u64),
        memory: &mut Memory,
    ) -> Result<Vec<(u64, Range)>, OutOfMemory> {
        if start >= end {
            return Ok(Vec::new());
        }
        self.split(start, memory)?;
        self.split(end, memory)?;
        let mut taken = Vec::new();
        while let Some((&at, _)) = self.0.range(start..end).next()
            && let Some(range) = self.0.remove(&at)
        {
            memory.give(range.cost());
            taken.push((at, range));
        }
        Ok(taken)
    }

    /// Adds a range that begins at `start`.
    fn add(
        &mut self,
        start: u64,
        mut range: Range,
        memory: &mut Memory,
    ) -> Result<(), OutOfMemory> {
        // Where it overlaps others, both are wanted.
        let mut here = start;
        let mut others = self.take((start, range.end), memory)?;
        // The many parts of a range that is cloned to and fro are not copied each time.
        if let [(at, other)] = &mut others[..]
            && (*at, other.end) == (start, range.end)
        {
            if range.parts.len() < other.parts.len() {
                std::mem::swap(&mut range, other);
            }
            range.parts.append(&mut other.parts);
            others.clear();
        }
        if others.is_empty() {
            memory.take(range.cost())?;
            self.0.insert(start, range);
            return Ok(());
        }
        let shifted = |from: u64| {
            let parts = range.parts.iter();
            parts.map(move |part| Part {
                at: part.at + (from - start),
                ..*part
            })
        };
        let mut insert = |at: u64, range: Range| {
            memory.take(range.cost())?;
            self.0.insert(at, range);
            Ok(())
        };
        for (at, mut other) in others {
            if here < at {
                let parts = shifted(here).collect();
                insert(here, Range { end: at, parts })?;
            }
            here = other.end;
            other.parts.extend(shifted(at));
            insert(at, other)?;
        }
        if here < range.end {
            let parts = shifted(here).collect();
            let end = range.end;
            insert(here, Range { end, parts })?;
        }
        Ok(())
    }
}

/// What is wanted, while the records are read backwards.
#[derive(Debug)]
pub(super) struct Wanted {
    ranges: HashMap<Node, Ranges>,
    /// The outputs that want the metadata of an inode, and the kinds of metadata that
    /// later commands have set.
    metadata: HashMap<Node, (u32, u32)>,
    /// What is wanted of earlier subvolumes.
    waiting: BTreeMap<State, Vec<(Node, u64, Range)>>,
    /// The subvolume and the file that the records are of.
    state: State,
    file: u32,
    needs: Vec<Need>,
    memory: Memory,
}

impl Wanted {
    /// Nothing, at the end of a subvolume, which is in a file.
    pub(super) fn new(state: State, file: u32, memory: Memory) -> Self {
        Self {
            ranges: HashMap::new(),
            metadata: HashMap::new(),
            waiting: BTreeMap::new(),
            state,
            file,
            needs: Vec::new(),
            memory,
        }
    }

    /// The content of a file of this size is wanted, as the output with this number.
    pub(super) fn content(
        &mut self,
        node: Node,
        size: u64,
        output: u32,
    ) -> Result<(), OutOfMemory> {
        let parts = vec![Part { output, at: 0 }];
        self.add(node, 0, Range { end: size, parts })
    }

    /// The metadata of an inode is wanted.
    pub(super) fn metadata(&mut self, node: Node, output: u32) -> Result<(), OutOfMemory> {
        self.memory.take(RANGE_COST)?;
        self.metadata.insert(node, (output, 0));
        Ok(())
    }

    fn add(&mut self, node: Node, start: u64, range: Range) -> Result<(), OutOfMemory> {
        if start >= range.end {
            return Ok(());
        }
        let ranges = self.ranges.entry(node).or_default();
        ranges.add(start, range, &mut self.memory)
    }

    /// Takes the record before those that were taken.
    pub(super) fn take(&mut self, record: Record, outside: &[SourceId]) -> Result<(), LocateError> {
        match record.did {
            Did::File => self.file = self.file.saturating_sub(1),
            Did::Begin => {
                self.state = self.state.saturating_sub(1);
                for (node, start, range) in self.waiting.remove(&self.state).unwrap_or_default() {
                    self.memory.give(range.cost());
                    self.add(node, start, range)?;
                }
            }
            Did::Zeros { offset, len } => _ = self.satisfied(record.node, offset, len)?,
            Did::Data { offset, len } => {
                for (start, range) in self.satisfied(record.node, offset, len)? {
                    for part in range.parts {
                        self.need(Need {
                            file: self.file,
                            position: record.position,
                            output: part.output,
                            what: What::Data {
                                offset,
                                skip: start - offset,
                                len: range.end - start,
                                at: part.at,
                            },
                        })?;
                    }
                }
            }
            Did::NoData { offset, len } => {
                if !self.satisfied(record.node, offset, len)?.is_empty() {
                    return Err(LocateError::NoData);
                }
            }
            Did::Clone {
                offset,
                len,
                from,
                state,
                source_offset,
            } => {
                for (start, mut range) in self.satisfied(record.node, offset, len)? {
                    let source = source_offset + (start - offset);
                    range.end = source + (range.end - start);
                    if state == self.state {
                        self.add(from, source, range)?;
                    } else {
                        self.memory.take(range.cost())?;
                        let waiting = self.waiting.entry(state).or_default();
                        waiting.push((from, source, range));
                    }
                }
            }
            Did::CloneOutside {
                offset,
                len,
                source,
            } => {
                if !self.satisfied(record.node, offset, len)?.is_empty() {
                    let source = outside.get(source as usize).copied();
                    let unknown = SourceId::from(btrfs_sendstream::Uuid::nil());
                    return Err(LocateError::Outside(source.unwrap_or(unknown)));
                }
            }
            Did::Metadata(kind) => {
                let Some((output, later)) = self.metadata.get_mut(&record.node) else {
                    return Ok(());
                };
                let kind = 1_u32.checked_shl(kind.into()).unwrap_or(0);
                if *later & kind != 0 {
                    return Ok(());
                }
                if kind & MANY == 0 {
                    *later |= kind;
                }
                let output = *output;
                self.need(Need {
                    file: self.file,
                    position: record.position,
                    output,
                    what: What::Metadata,
                })?;
            }
        }
        Ok(())
    }

    /// What was wanted of a range that a command has written.
    fn satisfied(
        &mut self,
        node: Node,
        offset: u64,
        len: u64,
    ) -> Result<Vec<(u64, Range)>, OutOfMemory> {
        let Some(ranges) = self.ranges.get_mut(&node) else {
            return Ok(Vec::new());
        };
        let taken = ranges.take((offset, offset.saturating_add(len)), &mut self.memory)?;
        if ranges.0.is_empty() {
            self.ranges.remove(&node);
        }
        Ok(taken)
    }

    fn need(&mut self, need: Need) -> Result<(), OutOfMemory> {
        self.memory.take(NEED_COST)?;
        self.needs.push(need);
        Ok(())
    }

    /// The commands, in the order of the streams.
    pub(super) fn into_needs(mut self) -> Vec<Need> {
        self.needs
            .sort_unstable_by_key(|need| (need.file, need.position));
        self.needs
    }
}

/// The kind of metadata of which an inode has several: extended attributes.
pub(super) const XATTR: u8 = 0;
const MANY: u32 = 1 << XATTR;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each byte goes where it is wanted, like a list of the bytes.
        #[test]
        fn ranges_are_sets_of_bytes(
            steps in prop::collection::vec((any::<bool>(), 0..40_u64, 0..40_u64), 1..40)
        ) {
            let (mut ranges, mut memory) = (Ranges::default(), Memory::new(1 << 20));
            let mut bytes = vec![Vec::new(); 40];
            for (output, (add, a, b)) in (0_u32..).zip(steps) {
                let (start, end) = (a.min(b), a.max(b));
                if add && start < end {
                    let parts = vec![Part { output, at: 1000 + start }];
                    ranges.add(start, Range { end, parts }, &mut memory).unwrap();
                    for byte in start..end {
                        bytes[byte as usize].push((output, 1000 + byte));
                    }
                } else {
                    for (at, range) in ranges.take((start, end), &mut memory).unwrap() {
                        prop_assert!(at >= start && range.end <= end);
                        for byte in at..range.end {
                            let found = range.parts.iter();
                            let mut found: Vec<_> =
                                found.map(|it| (it.output, it.at + byte - at)).collect();
                            found.sort_unstable();
                            let mut expected = std::mem::take(&mut bytes[byte as usize]);
                            expected.sort_unstable();
                            prop_assert_eq!(expected, found);
                        }
                    }
                    let rest = bytes.get(start as usize..end as usize).unwrap();
                    prop_assert!(rest.iter().all(Vec::is_empty));
                }
            }
            ranges.take((0, 40), &mut memory).unwrap();
            prop_assert_eq!(memory.left(), 1 << 20);
        }
    }
}
