//! WRITEs joined and cut: into extents, small pieces, and holes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::command::StreamPath;
use crate::decompress::MAX_UNENCODED_LEN;
use crate::error::Position;

/// The smallest sector of btrfs. Encoded writes must begin on a boundary of
/// the receiver's sectors; with larger ones receivers decode.
pub(super) const SECTOR: usize = 4096;

/// Shorter runs of zeros are left to the compressor: a hole costs an extent
/// item, and splits what is around it.
const MIN_HOLE: usize = 32 * 1024;

/// A part of a file's new content.
#[derive(Debug)]
pub(super) enum Piece {
    /// To be compressed: at a sector boundary, at least two sectors.
    Extent {
        path: StreamPath,
        offset: u64,
        data: Bytes,
        at: Position,
    },
    /// To be written as it is.
    Plain {
        path: StreamPath,
        offset: u64,
        data: Bytes,
        at: Position,
    },
    /// Zeros inside the file, or before data that follows.
    Hole {
        path: StreamPath,
        offset: u64,
        len: u64,
        at: Position,
    },
}

/// Joins WRITEs and cuts them into pieces.
///
/// Holds at most one extent, and the pieces of one WRITE until they are taken
/// by [`next`](Self::next).
#[derive(Debug)]
pub(super) struct Pieces {
    holes: bool,
    run: Option<Run>,
    ready: VecDeque<Piece>,
}

/// WRITEs that followed one upon the other in one file.
#[derive(Debug)]
struct Run {
    path: StreamPath,
    /// Where `data` begins in the file.
    offset: u64,
    data: BytesMut,
    /// Length of the zeros that end at `offset` and were not passed on.
    hole: u64,
    /// The WRITE that began the piece.
    at: Position,
}

impl Pieces {
    pub(super) fn new(holes: bool) -> Self {
        Self {
            holes,
            run: None,
            ready: VecDeque::new(),
        }
    }

    /// The next piece that is cut off.
    pub(super) fn next(&mut self) -> Option<Piece> {
        self.ready.pop_front()
    }

    /// Takes a WRITE.
    pub(super) fn write(&mut self, path: StreamPath, offset: u64, data: Bytes, at: Position) {
        let follows = |run: &Run| run.path == path && run.end() == offset;
        if !self.run.as_ref().is_some_and(follows) {
            self.end();
        }
        if data.is_empty() || offset.checked_add(data.len() as u64).is_none() {
            // Nothing to join; the receiver may still have something to say.
            self.end();
            self.ready.push_back(Piece::Plain {
                path,
                offset,
                data,
                at,
            });
            return;
        }
        let run = self.run.get_or_insert_with(|| Run {
            path,
            offset,
            data: BytesMut::new(),
            hole: 0,
            at,
        });
        let mut rest = data.as_ref();
        while !rest.is_empty() {
            if run.data.is_empty() {
                run.at = at;
            }
            let room = run.capacity().saturating_sub(run.data.len());
            let (taken, left) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            run.data.extend_from_slice(taken);
            rest = left;
            if run.data.len() >= run.capacity() {
                run.cut(self.holes, &mut self.ready);
            }
        }
    }

    /// Cuts off what there is: something other than an adjacent WRITE
    /// follows.
    pub(super) fn end(&mut self) {
        if let Some(mut run) = self.run.take() {
            run.cut(self.holes, &mut self.ready);
            run.end_hole(&mut self.ready);
        }
    }
}

impl Run {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }

    /// How long the piece that begins at `offset` may become: to the next
    /// sector boundary if it is not on one.
    fn capacity(&self) -> usize {
        match into_sector(self.offset) {
            0 => MAX_UNENCODED_LEN,
            inside => SECTOR - inside,
        }
    }

    /// Passes on the data, in parts if there are holes in it.
    fn cut(&mut self, holes: bool, ready: &mut VecDeque<Piece>) {
        let mut data = self.data.split().freeze();
        if !holes || into_sector(self.offset) != 0 {
            self.data_piece(data, ready);
            return;
        }
        while !data.is_empty() {
            let (zeros, at_least) = (leading_zeros(&data), self.least_hole());
            if zeros >= at_least {
                self.hole += zeros as u64;
                self.offset += zeros as u64;
                drop(data.split_to(zeros));
            } else {
                let len = up_to_hole(&data);
                self.data_piece(data.split_to(len), ready);
            }
        }
    }

    /// Zeros that go on from a hole are part of it, however few.
    fn least_hole(&self) -> usize {
        if self.hole > 0 { 1 } else { MIN_HOLE }
    }

    fn data_piece(&mut self, data: Bytes, ready: &mut VecDeque<Piece>) {
        if data.is_empty() {
            return;
        }
        self.punch(self.hole, ready);
        let (path, offset, at) = (self.path.clone(), self.offset, self.at);
        self.offset = self.end() + data.len() as u64;
        let extent = into_sector(offset) == 0 && data.len() > SECTOR;
        ready.push_back(if extent {
            Piece::Extent {
                path,
                offset,
                data,
                at,
            }
        } else {
            Piece::Plain {
                path,
                offset,
                data,
                at,
            }
        });
    }

    /// Passes on the first `len` bytes of the hole, and forgets all of it.
    fn punch(&mut self, len: u64, ready: &mut VecDeque<Piece>) {
        if len > 0 {
            ready.push_back(Piece::Hole {
                path: self.path.clone(),
                offset: self.offset - self.hole,
                len,
                at: self.at,
            });
        }
        self.hole = 0;
    }

    /// A hole at the end does not make the file longer: its last sector is
    /// written.
    fn end_hole(&mut self, ready: &mut VecDeque<Piece>) {
        if self.hole == 0 {
            return;
        }
        let tail = match into_sector(self.offset) {
            0 => SECTOR,
            inside => inside,
        };
        let offset = self.offset - tail as u64;
        self.punch(self.hole - tail as u64, ready);
        ready.push_back(Piece::Plain {
            path: self.path.clone(),
            offset,
            data: Bytes::from(vec![0; tail]),
            at: self.at,
        });
    }
}

/// Bytes between the sector boundary before `offset` and it.
fn into_sector(offset: u64) -> usize {
    usize::try_from(offset % SECTOR as u64).unwrap_or_default()
}

/// Length of the sectors of zeros that `data` begins with.
fn leading_zeros(data: &[u8]) -> usize {
    let zeros = data.chunks(SECTOR).take_while(|sector| is_zero(sector));
    zeros.map(<[u8]>::len).sum()
}

/// Length of what comes before the next long enough run of zeros.
fn up_to_hole(data: &[u8]) -> usize {
    let (mut position, mut zeros) = (0, 0);
    for sector in data.chunks(SECTOR) {
        position += sector.len();
        zeros = if is_zero(sector) {
            zeros + sector.len()
        } else {
            0
        };
        if zeros >= MIN_HOLE && zeros < position {
            return position - zeros;
        }
    }
    data.len()
}

fn is_zero(data: &[u8]) -> bool {
    // Most data differs at once; the rest is compared in words.
    data.first() == Some(&0) && data.iter().fold(0, |all, byte| all | byte) == 0
}
