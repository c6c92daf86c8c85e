//! What a model file holds: a size, and pieces between holes.

use std::collections::BTreeMap;
use std::ops::Range;

use btrfs_sendstream::Bytes;

/// What a piece costs beside its bytes, towards the limit of the model.
pub(super) const PIECE_COST: u64 = 128;

/// The content of a model file.
///
/// Memory is used for pieces that were written only, so that a byte at an
/// offset of one exbibyte costs no more than one at 0. Holes read as zeros.
#[derive(Clone, Debug, Default)]
pub struct Content {
    size: u64,
    /// Pieces by offset: none is empty, none overlaps another, none reaches
    /// beyond the size.
    pieces: BTreeMap<u64, Bytes>,
    cost: u64,
}

impl Content {
    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The pieces that were written, with their offsets, in ascending order.
    /// A piece may consist of zeros.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.pieces.iter().map(|(&offset, piece)| (offset, piece))
    }

    /// Reads from `offset` into `buffer`; returns the bytes read, fewer than
    /// the buffer holds at the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let buffer = buffer.get_mut(..len).unwrap_or_default();
        buffer.fill(0);
        for (at, piece) in self.range(offset, len as u64) {
            let start = usize::try_from(at - offset).unwrap_or(usize::MAX);
            if let Some(place) = buffer.get_mut(start..start.saturating_add(piece.len())) {
                place.copy_from_slice(&piece);
            }
        }
        len
    }

    /// Whether both read the same, however their pieces are divided.
    pub fn reads_like(&self, other: &Self) -> bool {
        self.size == other.size && self.pieces_occur_in(other) && other.pieces_occur_in(self)
    }

    fn pieces_occur_in(&self, other: &Self) -> bool {
        let mut buffer = Vec::new();
        self.pieces.iter().all(|(&offset, piece)| {
            buffer.resize(piece.len(), 0);
            other.read_at(offset, &mut buffer) == piece.len() && *piece == buffer[..]
        })
    }

    /// Bytes held, with what pieces cost beside.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// The parts of pieces that lie in a range.
    pub(super) fn range(&self, offset: u64, len: u64) -> Vec<(u64, Bytes)> {
        let end = offset.saturating_add(len);
        self.keys(offset, end)
            .into_iter()
            .filter_map(|at| {
                let piece = self.pieces.get(&at)?;
                let (start, stop) = (at.max(offset), (at + piece.len() as u64).min(end));
                Some((start, part(piece, at, start..stop)))
            })
            .collect()
    }

    /// Replaces a range, which ends at `i64::MAX` at most, by `data`.
    pub(super) fn write(&mut self, offset: u64, data: Bytes) {
        let len = data.len() as u64;
        if len == 0 {
            return;
        }
        self.clear(offset, offset.saturating_add(len));
        self.insert(offset, data);
        self.size = self.size.max(offset.saturating_add(len));
    }

    /// Makes a hole; the size stays.
    pub(super) fn punch(&mut self, offset: u64, len: u64) {
        self.clear(offset, offset.saturating_add(len));
    }

    /// Cuts or extends, with a hole.
    pub(super) fn truncate(&mut self, size: u64) {
        if size < self.size {
            self.clear(size, u64::MAX);
        }
        self.size = size;
    }

    fn clear(&mut self, start: u64, end: u64) {
        for at in self.keys(start, end) {
            let Some(piece) = self.pieces.remove(&at) else {
                continue;
            };
            self.cost -= piece.len() as u64 + PIECE_COST;
            let stop = at + piece.len() as u64;
            if at < start {
                self.insert(at, part(&piece, at, at..start));
            }
            if end < stop {
                self.insert(end, part(&piece, at, end..stop));
            }
        }
    }

    fn insert(&mut self, at: u64, piece: Bytes) {
        self.cost += piece.len() as u64 + PIECE_COST;
        self.pieces.insert(at, piece);
    }

    /// Where the pieces begin that reach into a range.
    fn keys(&self, start: u64, end: u64) -> Vec<u64> {
        if start >= end {
            return Vec::new();
        }
        let before = self
            .pieces
            .range(..start)
            .next_back()
            .filter(|(at, piece)| *at + piece.len() as u64 > start)
            .map(|(&at, _)| at);
        let inside = self.pieces.range(start..end).map(|(&at, _)| at);
        before.into_iter().chain(inside).collect()
    }
}

/// The part of a piece at `at` that lies in `range`, which it covers.
fn part(piece: &Bytes, at: u64, range: Range<u64>) -> Bytes {
    let index = |position: u64| usize::try_from(position - at).unwrap_or(usize::MAX);
    let end = index(range.end).min(piece.len());
    piece.slice(index(range.start).min(end)..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Write(u64, Vec<u8>),
        Punch(u64, u64),
        Truncate(u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0u64..100, prop::collection::vec(any::<u8>(), 0..40))
                .prop_map(|(offset, data)| Change::Write(offset, data)),
            (0u64..120, 0u64..50).prop_map(|(offset, len)| Change::Punch(offset, len)),
            (0u64..120).prop_map(Change::Truncate),
        ]
    }

    proptest! {
        #[test]
        fn pieces_behave_like_a_plain_vector(changes in prop::collection::vec(change(), 0..40)) {
            let mut content = Content::default();
            let mut plain: Vec<u8> = Vec::new();
            for change in changes {
                match change {
                    Change::Write(offset, data) => {
                        let start = offset as usize;
                        if !data.is_empty() {
                            let end = start + data.len();
                            plain.resize(plain.len().max(end), 0);
                            plain[start..end].copy_from_slice(&data);
                        }
                        content.write(offset, data.into());
                    }
                    Change::Punch(offset, len) => {
                        let end = plain.len().min((offset + len) as usize);
                        if let Some(range) = plain.get_mut(offset as usize..end) {
                            range.fill(0);
                        }
                        content.punch(offset, len);
                    }
                    Change::Truncate(size) => {
                        plain.resize(size as usize, 0);
                        content.truncate(size);
                    }
                }
                let mut read = vec![1; plain.len() + 10];
                let len = content.read_at(0, &mut read);
                prop_assert_eq!(&read[..len], &plain[..]);
                let cost: u64 = content.pieces().map(|(_, p)| p.len() as u64 + PIECE_COST).sum();
                prop_assert_eq!(content.cost(), cost);
            }
        }
    }

    #[test]
    fn the_last_byte_of_the_largest_file_costs_one_piece() {
        let mut content = Content::default();
        content.write(i64::MAX as u64 - 1, Bytes::from_static(b"x"));
        assert_eq!(
            (content.size(), content.cost()),
            (i64::MAX as u64, 1 + PIECE_COST)
        );
    }
}
