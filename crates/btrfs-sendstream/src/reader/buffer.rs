//! The bytes between the source and the decoder.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Bytes asked for at a time: enough to make the calls of a read cheap, and
/// to hold the largest command that kernels write.
const CHUNK: usize = 256 * 1024;

/// The least free space to point a read at.
const MIN_READ: usize = CHUNK / 4;

/// Pieces that items share are used again, the last so many: more than hold the
/// 8 MiB that a receiver has under way.
pub(super) const MAX_SHARED: usize = 48;

/// Bytes that were read and not yet decoded.
///
/// The storage is initialised in its whole length and used again and again,
/// so that a read can be pointed at it without clearing it first.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    storage: BytesMut,
    /// Where the bytes not yet decoded begin.
    start: usize,
    /// Where they end.
    end: usize,
    /// Whether the storage may have grown for an item longer than a chunk.
    is_large: bool,
    /// What is left of earlier storages: each can be used again when the items
    /// are gone that share it. New memory costs much more, because the kernel
    /// clears it page by page.
    shared: VecDeque<BytesMut>,
}

impl Buffer {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        self.storage.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes, and their start to be moved on while they are borrowed.
    #[inline]
    pub(super) fn bytes_and_start(&mut self) -> (&[u8], &mut usize) {
        let bytes = self.storage.get(self.start..self.end);
        (bytes.unwrap_or_default(), &mut self.start)
    }

    /// Free space behind the bytes, never empty, for an item of `total` bytes
    /// that is not whole yet. Grows to at most twice the bytes that are
    /// there, or to one chunk; for an item longer than a chunk to no more
    /// than that item, so that it shares its storage with nothing.
    pub(super) fn room(&mut self, total: usize) -> &mut [u8] {
        if self.start > 0 {
            // What is left is less than one command.
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let mut wanted = CHUNK.max(self.end.saturating_mul(2));
        if total > CHUNK {
            wanted = wanted.min(total);
        }
        let free = self.storage.len() - self.end;
        if free < MIN_READ && (self.storage.len() < wanted || free == 0) {
            self.storage.truncate(self.end);
            if total <= CHUNK {
                self.unshare(wanted);
            } else {
                // Address space for all of it, so that growing does not move
                // it; memory is taken by what `resize` touches.
                self.storage.reserve(total - self.end);
                self.is_large = true;
            }
            self.storage.resize(wanted, 0);
        }
        self.storage.get_mut(self.end..).unwrap_or_default()
    }

    /// Sees that the storage has room for `wanted` bytes that no item shares: in
    /// this allocation, an earlier one, or a new one.
    fn unshare(&mut self, wanted: usize) {
        if self.storage.try_reclaim(wanted - self.end) {
            return;
        }
        let free = self.shared.iter_mut().position(|storage| {
            storage.clear();
            storage.try_reclaim(wanted)
        });
        let free = free.and_then(|at| self.shared.remove(at));
        let mut storage = free.unwrap_or_else(|| BytesMut::with_capacity(wanted));
        storage.extend_from_slice(&self.storage);
        let old = std::mem::replace(&mut self.storage, storage);
        // A large one would take the place of a small one, again and again,
        // until all of them are large.
        if std::mem::replace(&mut self.is_large, false) {
            return;
        }
        if self.shared.len() == MAX_SHARED {
            self.shared.pop_front();
        }
        self.shared.push_back(old);
    }

    /// So many bytes were read to the beginning of the [room](Self::room).
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.end = self.storage.len().min(self.end + bytes);
    }

    /// Pieces that are there to be used again.
    #[cfg(test)]
    pub(super) fn shared(&self) -> usize {
        self.shared.len()
    }

    /// Takes the first `len` bytes out, sharing the storage.
    pub(super) fn split_off(&mut self, len: usize) -> Bytes {
        let len = len.min(self.end - self.start);
        self.storage.advance(self.start);
        let taken = self.storage.split_to(len).freeze();
        self.end -= self.start + len;
        self.start = 0;
        taken
    }
}
