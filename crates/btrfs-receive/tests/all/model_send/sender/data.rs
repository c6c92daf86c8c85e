//! What a file holds, as commands: writes, encoded writes, clones, holes.

use std::collections::HashMap;
use std::io::Write;

use btrfs_model::{Content, Inode};
use btrfs_sendstream::{Bytes, CloneRange, Command, EncodedWrite, StreamPath, Uuid, Version};
use flate2::write::ZlibEncoder;

use super::names::Names;
use super::{Sender, Snapshot};

const BLOCK: usize = 4096;

/// `FALLOC_FL_PUNCH_HOLE` and `KEEP_SIZE`.
const PUNCH_HOLE: u32 = 3;

/// The longest extent that can be compressed.
const MAX_EXTENT: usize = 128 << 10;

/// Part of a file that has to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    start: usize,
    end: usize,
    is_hole: bool,
}

/// A block that can be cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    in_parent: bool,
    number: u64,
    offset: u64,
    /// The last block of its file, and shorter than others.
    is_tail: bool,
}

/// Where each block of data can be cloned from: any file of the parent, and
/// what the receiver has by now of the stream's own subvolume.
pub(super) struct Sources {
    own: (Uuid, u64),
    parent: Option<(Uuid, u64, Names)>,
    by_data: HashMap<Vec<u8>, Source>,
}

impl Sources {
    pub(super) fn new(snapshot: Snapshot<'_>, parent: Option<Snapshot<'_>>) -> Self {
        let mut this = Self {
            own: (snapshot.uuid(), snapshot.ctransid()),
            parent: parent.map(|p| (p.uuid(), p.ctransid(), Names::of(p.tree))),
            by_data: HashMap::new(),
        };
        for entry in parent.into_iter().flat_map(|parent| parent.tree.entries()) {
            this.add_file(true, entry.number, entry.inode);
        }
        this
    }

    /// A file of the stream's subvolume is complete.
    pub(super) fn sent(&mut self, number: u64, inode: &Inode) {
        self.add_file(false, number, inode);
    }

    fn add_file(&mut self, in_parent: bool, number: u64, inode: &Inode) {
        let Some(content) = inode.content() else {
            return;
        };
        for (index, block) in bytes(content).chunks(BLOCK).enumerate() {
            let source = Source {
                in_parent,
                number,
                offset: (index * BLOCK) as u64,
                is_tail: block.len() < BLOCK,
            };
            self.by_data.insert(block.to_vec(), source);
        }
    }

    fn command(
        &self,
        now: &Names,
        path: &StreamPath,
        offset: usize,
        len: usize,
        source: Source,
    ) -> Command {
        let ((source_uuid, source_ctransid), names) = match &self.parent {
            Some((uuid, ctransid, names)) if source.in_parent => ((*uuid, *ctransid), names),
            _ => (self.own, now),
        };
        Command::Clone(CloneRange {
            path: path.clone(),
            offset: offset as u64,
            len: len as u64,
            source_uuid,
            source_ctransid,
            source_path: names.path(source.number),
            source_offset: source.offset,
        })
    }
}

impl Sender<'_> {
    /// What changed of a file, in ascending order, each hole after the data
    /// behind it, and then its size.
    pub(super) fn data(
        &mut self,
        number: u64,
        path: &StreamPath,
        old: Option<&Content>,
        new: &Content,
    ) {
        let data = bytes(new);
        let mut size = old.map_or(0, |old| old.size() as usize);
        let mut holes = Vec::new();
        for part in changes(old, new, &data) {
            if part.is_hole {
                holes.push(part);
                continue;
            }
            self.send_data(number, path, &data, part, &mut size);
            for hole in holes.drain(..) {
                self.hole(path, hole, data.len(), &mut size);
            }
        }
        for hole in holes {
            self.hole(path, hole, data.len(), &mut size);
        }
        if size != data.len() || self.style.always_truncate {
            self.truncate(path, data.len(), &mut size);
        }
    }

    /// Data, by clones where they are possible and chance wills it.
    fn send_data(
        &mut self,
        number: u64,
        path: &StreamPath,
        data: &[u8],
        part: Part,
        size: &mut usize,
    ) {
        let mut start = part.start;
        let mut at = start;
        while at < part.end {
            let Some((source, end)) = self.find(data, at, part.end) else {
                at = (at + BLOCK).min(part.end);
                if at - start >= self.style.largest_write {
                    self.write(number, path, data, (start, at), size);
                    start = at;
                }
                continue;
            };
            self.write(number, path, data, (start, at), size);
            // An end within a block can be cloned only if it becomes the end
            // of the file.
            if end % BLOCK != 0 && *size > at {
                self.truncate(path, at, size);
            }
            let clone = self.sources.command(&self.now, path, at, end - at, source);
            self.commands.push(clone);
            *size = (*size).max(end);
            (start, at) = (end, end);
        }
        self.write(number, path, data, (start, at), size);
    }

    /// Something to clone from for the data at an offset, and how far.
    fn find(&mut self, data: &[u8], start: usize, end: usize) -> Option<(Source, usize)> {
        if !self.style.clones || self.random.one_in(3) {
            return None;
        }
        let block = |at: usize| data.get(at..data.len().min(at + BLOCK)).unwrap_or_default();
        let is_tail = |at: usize| block(at).len() < BLOCK;
        let source = *self.sources.by_data.get(block(start))?;
        if source.is_tail != is_tail(start) {
            return None;
        }
        let mut at = start + block(start).len();
        while at < end {
            let next = Source {
                offset: source.offset + (at - start) as u64,
                is_tail: is_tail(at),
                ..source
            };
            if self.sources.by_data.get(block(at)) != Some(&next) {
                break;
            }
            at += block(at).len();
        }
        Some((source, at.min(end)))
    }

    fn write(
        &mut self,
        number: u64,
        path: &StreamPath,
        data: &[u8],
        (start, end): (usize, usize),
        size: &mut usize,
    ) {
        let Some(written) = data.get(start..end).filter(|written| !written.is_empty()) else {
            return;
        };
        let encoded = self.style.encoded
            && self.style.version >= Version::V2
            && written.len() <= MAX_EXTENT / 2
            && !self.random.one_in(3);
        let command = match encoded {
            true => self.encoded(path, start, written),
            false => Command::Write {
                path: path.clone(),
                offset: start as u64,
                data: Bytes::copy_from_slice(written),
            },
        };
        self.commands.push(command);
        *size = (*size).max(end);
        // Whole blocks that are there now can be cloned within the file.
        for (index, block) in written.chunks_exact(BLOCK).enumerate() {
            let source = Source {
                in_parent: false,
                number,
                offset: (start + index * BLOCK) as u64,
                is_tail: false,
            };
            self.sources.by_data.insert(block.to_vec(), source);
        }
    }

    /// An extent of which the file shows a part, compressed: what it holds
    /// before and behind that part is something else.
    fn encoded(&mut self, path: &StreamPath, start: usize, shown: &[u8]) -> Command {
        let before = BLOCK * self.random.below(3) as usize;
        let after = BLOCK * self.random.below(3) as usize;
        let mut extent = vec![0xaa; before];
        extent.extend_from_slice(shown);
        extent.resize(extent.len() + after, 0xbb);
        let unencoded_len = extent.len().next_multiple_of(BLOCK);
        if self.random.one_in(2) {
            // Compressed data may leave out zeros at the end.
            let trimmed = extent.iter().rposition(|byte| *byte != 0);
            extent.truncate(trimmed.map_or(1, |last| last + 1));
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&extent).unwrap();
        let mut encoded = encoder.finish().unwrap();
        encoded.resize(encoded.len().next_multiple_of(BLOCK), 0);
        Command::EncodedWrite(EncodedWrite {
            path: path.clone(),
            offset: start as u64,
            unencoded_file_len: shown.len() as u64,
            unencoded_len: unencoded_len as u64,
            unencoded_offset: before as u64,
            compression: Some(1),
            encryption: Some(0),
            data: Bytes::from(encoded),
        })
    }

    /// A hole: punched, or in version 1 written as zeros.
    fn hole(&mut self, path: &StreamPath, part: Part, file_size: usize, size: &mut usize) {
        if self.style.version >= Version::V2 {
            self.commands.push(Command::Fallocate {
                path: path.clone(),
                mode: PUNCH_HOLE,
                offset: part.start as u64,
                len: (part.end - part.start).next_multiple_of(BLOCK) as u64,
            });
            return;
        }
        let mut at = part.start;
        let end = part.end.min(file_size);
        while at < end {
            let next = end.min(at + self.style.largest_write);
            self.commands.push(Command::Write {
                path: path.clone(),
                offset: at as u64,
                data: Bytes::from(vec![0; next - at]),
            });
            *size = (*size).max(next);
            at = next;
        }
    }

    fn truncate(&mut self, path: &StreamPath, to: usize, size: &mut usize) {
        self.commands.push(Command::Truncate {
            path: path.clone(),
            size: to as u64,
        });
        *size = to;
    }
}

fn bytes(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
    content.read_at(0, &mut bytes);
    bytes
}

/// The parts that differ; of a new file everything but holes.
fn changes(old: Option<&Content>, new: &Content, data: &[u8]) -> Vec<Part> {
    let mut written = vec![false; data.len().div_ceil(BLOCK)];
    for (offset, piece) in new.pieces() {
        let blocks = offset as usize / BLOCK..(offset as usize + piece.len()).div_ceil(BLOCK);
        written[blocks].fill(true);
    }
    let mut before = old.map(bytes).unwrap_or_default();
    before.resize(before.len().max(data.len()), 0);
    let mut parts: Vec<Part> = Vec::new();
    for (index, &has_data) in written.iter().enumerate() {
        let start = index * BLOCK;
        let end = data.len().min(start + BLOCK);
        let must_be_sent = match old {
            None => has_data,
            Some(_) => before[start..end] != data[start..end],
        };
        if !must_be_sent {
            continue;
        }
        let is_hole = !has_data;
        match parts.last_mut() {
            Some(last) if last.end == start && last.is_hole == is_hole => last.end = end,
            _ => parts.push(Part {
                start,
                end,
                is_hole,
            }),
        }
    }
    parts
}
