//! File data: plain, by reference, and as the sender's disk holds it; and
//! what is done instead where the destination refuses.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use btrfs_sendstream::decompress::Decompressor;
use btrfs_sendstream::{Bytes, EncodedWrite};
use rustix::fs::{SeekFrom, fstat, ftruncate, seek};
use rustix::io::{Errno, pread, pwritev};
use tracing::{debug, trace};

use super::encoded::Accepted;
use super::plain::{punch, write_all};
use super::zeros;
use crate::error::{Cause, named};
use crate::report::Fallbacks;
use crate::step_error::StepError;
use btrfs_ioctl as sys;

/// Bytes copied at once where a clone is refused.
const COPY_BUFFER: usize = 256 << 10;

/// How encoded writes are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::destination) struct Encoding {
    /// Never ask the kernel to take encoded data.
    pub(in crate::destination) always_decode: bool,
    /// Decode before handing it to the kernel, which does not look into it.
    pub(in crate::destination) check_first: bool,
    /// Make holes of whole blocks of zeros in plain writes.
    pub(in crate::destination) zeros_as_holes: bool,
}

/// Writes file data in every form that a stream has.
pub(in crate::destination) struct DataWriter {
    encoding: Encoding,
    /// The kernel said that it takes no encoded data from us at all.
    encoded_refused: bool,
    /// Bytes in a block of zeros that becomes a hole; 0 if none does.
    hole: usize,
    accepted: Accepted,
    decompressor: Decompressor,
    buffer: Vec<u8>,
    fallbacks: Fallbacks,
}

impl DataWriter {
    /// A writer that decodes all encoded data, for any filesystem.
    pub(in crate::destination) fn decoding() -> Self {
        let encoding = Encoding {
            always_decode: true,
            ..Encoding::default()
        };
        Self::new(encoding, Accepted::default())
    }

    pub(in crate::destination) fn new(encoding: Encoding, accepted: Accepted) -> Self {
        Self {
            encoding,
            encoded_refused: false,
            hole: 0,
            accepted,
            decompressor: Decompressor::new(),
            buffer: Vec::new(),
            fallbacks: Fallbacks::default(),
        }
    }

    /// Sets the size of the blocks of the filesystem, which matters if zeros are to
    /// become holes.
    pub(in crate::destination) fn blocks_of(mut self, size: u32) -> Self {
        if self.encoding.zeros_as_holes {
            self.hole = usize::try_from(size).unwrap_or(0);
        }
        self
    }

    /// One for other files at the same time, that has not done anything.
    pub(in crate::destination) fn another(&self) -> Self {
        let encoded_refused = self.encoded_refused;
        Self {
            encoded_refused,
            hole: self.hole,
            ..Self::new(self.encoding, self.accepted.clone())
        }
    }

    /// What had to be done another way so far.
    pub(in crate::destination) fn fallbacks(&mut self) -> &mut Fallbacks {
        &mut self.fallbacks
    }

    pub(in crate::destination) fn take_fallbacks(&mut self) -> Fallbacks {
        std::mem::take(&mut self.fallbacks)
    }

    /// Writes pieces that follow each other. On failure says at which piece.
    pub(in crate::destination) fn write(
        &mut self,
        file: &OwnedFd,
        offset: u64,
        pieces: &[Bytes],
    ) -> Result<(), StepError> {
        if self.hole > 0
            && let Some(runs) = zeros::find(offset, pieces, self.hole)
        {
            let zeros = zeros::write(file, offset, pieces, &runs, &self.accepted)?;
            self.fallbacks.zeros_as_holes += zeros;
            return Ok(());
        }
        if let [piece] = pieces {
            return Ok(write_all(file, offset, piece)?);
        }
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut written = pwritev(file, &slices, offset).unwrap_or(0);
        // A short write, or none: go on piece by piece to learn where and
        // why. The pieces are few.
        let mut at = offset;
        for (index, piece) in pieces.iter().enumerate() {
            let done = written.min(piece.len());
            written -= done;
            write_all(
                file,
                at + done as u64,
                piece.get(done..).unwrap_or_default(),
            )
            .map_err(|cause| StepError { part: index, cause })?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Clones a range, given as (offset in the source, offset, length), that
    /// was joined from `count` pieces of equal length: in one call if the
    /// kernel takes it, else piece by piece, to do what the pieces would have
    /// done and to learn which of them fails.
    pub(in crate::destination) fn clone_pieces(
        &mut self,
        source: &OwnedFd,
        file: &OwnedFd,
        (source_offset, offset, len): (u64, u64, u64),
        count: usize,
    ) -> Result<(), StepError> {
        if count > 1
            && len > 0
            && sys::ficlonerange(source, source_offset, len, file, offset).is_ok()
        {
            return Ok(());
        }
        let piece = len / (count as u64).max(1);
        for part in 0..count {
            let skip = piece * part as u64;
            self.clone_range(source, source_offset + skip, file, offset + skip, piece)
                .map_err(|cause| StepError { part, cause })?;
        }
        Ok(())
    }

    /// Clones a range; copies it where the destination cannot share it.
    pub(in crate::destination) fn clone_range(
        &mut self,
        source: &OwnedFd,
        source_offset: u64,
        file: &OwnedFd,
        offset: u64,
        len: u64,
    ) -> Result<(), Cause> {
        if len == 0 {
            // To the kernel 0 means "to the end of the file".
            return Ok(());
        }
        match sys::ficlonerange(source, source_offset, len, file, offset) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::XDEV | Errno::OPNOTSUPP) => {
                trace!(source_offset, offset, len, "clone refused: copied");
                self.copy_range(source, source_offset, file, offset, len)?;
                self.fallbacks.clones_copied += 1;
                Ok(())
            }
            Err(errno) => Err(Cause::system("FICLONERANGE", errno)),
        }
    }

    /// Copies a range, holes as holes: a sparse source can be far larger
    /// than any disk.
    fn copy_range(
        &mut self,
        source: &OwnedFd,
        source_offset: u64,
        file: &OwnedFd,
        offset: u64,
        len: u64,
    ) -> Result<(), Cause> {
        let overflow = || Cause::OutOfRange {
            what: "end of range",
            value: i128::from(source_offset) + i128::from(len),
        };
        let source_end = source_offset.checked_add(len).ok_or_else(overflow)?;
        let end = offset.checked_add(len).ok_or_else(overflow)?;
        let from = fstat(source).map_err(named("fstat"))?;
        let to = fstat(file).map_err(named("fstat"))?;
        if u64::try_from(from.st_size).unwrap_or(0) < source_end {
            return Err(Cause::SourceTooShort {
                size: u64::try_from(from.st_size).unwrap_or(0),
                wanted: source_end,
            });
        }
        let same = (from.st_dev, from.st_ino) == (to.st_dev, to.st_ino);
        if same && offset < source_end && source_offset < end {
            return Err(Cause::system("FICLONERANGE", Errno::INVAL));
        }
        let old_size = u64::try_from(to.st_size).unwrap_or(0);
        if old_size < end {
            ftruncate(file, end).map_err(named("ftruncate"))?;
        }
        self.buffer.resize(COPY_BUFFER, 0);
        let mut at = source_offset;
        while at < source_end {
            let (data, data_end) = next_data(source, at, source_end)?;
            // Beyond the old end nothing but a hole can be.
            let hole = offset + (at - source_offset);
            let hole_end = (hole + (data - at)).min(old_size);
            if hole < hole_end {
                punch(file, hole, hole_end - hole)?;
            }
            copy_data(
                source,
                data..data_end,
                file,
                offset + (data - source_offset),
                &mut self.buffer,
            )?;
            at = data_end;
        }
        Ok(())
    }

    /// Stores encoded data as it is; decodes and writes it where the
    /// destination does not take it.
    pub(in crate::destination) fn encoded_write(
        &mut self,
        file: &OwnedFd,
        write: &EncodedWrite,
    ) -> Result<(), Cause> {
        let compression = write.compression.unwrap_or(0);
        let encryption = write.encryption.unwrap_or(0);
        // The kernel succeeds with no data at all, and writes nothing. And what
        // could not be looked for at the end is not given to it.
        if !self.encoding.always_decode
            && !self.encoded_refused
            && compression != 0
            && !write.data.is_empty()
            && self.accepted.is_verifiable()
        {
            if self.encoding.check_first {
                self.decompressor.decode_write(write)?;
            }
            let range = sys::EncodedRange {
                offset: write.offset,
                len: write.unencoded_file_len,
                unencoded_len: write.unencoded_len,
                unencoded_offset: write.unencoded_offset,
                compression,
                encryption,
            };
            match sys::encoded_write(file, &range, &write.data) {
                Ok(taken) if taken == write.data.len() => {
                    return self.accepted.note(file, range.offset, range.len);
                }
                Ok(_) | Err(Errno::INVAL | Errno::NOSPC) => {
                    trace!(range.offset, compression, "encoded write refused: decoded");
                }
                // No privilege, or no such call: it will not be there for
                // the next extent either.
                Err(errno @ (Errno::PERM | Errno::NOTTY | Errno::OPNOTSUPP)) => {
                    debug!(%errno, "no encoded write is taken: all are decoded");
                    self.encoded_refused = true;
                }
                Err(errno) => return Err(Cause::system("BTRFS_IOC_ENCODED_WRITE", errno)),
            }
        }
        let content = self.decompressor.decode_write(write)?;
        write_all(file, write.offset, content)?;
        if !self.encoding.always_decode {
            self.fallbacks.encoded_writes_decoded += 1;
        }
        Ok(())
    }
}

/// The next range with data at or after `at`: where it begins and ends, both
/// no further than `end`.
fn next_data(source: &OwnedFd, at: u64, end: u64) -> Result<(u64, u64), Cause> {
    let data = match seek(source, SeekFrom::Data(at)) {
        Ok(data) => data.min(end),
        // Nothing but a hole up to the end of the file.
        Err(Errno::NXIO) => return Ok((end, end)),
        Err(errno) => return Err(Cause::system("lseek", errno)),
    };
    if data == end {
        return Ok((end, end));
    }
    let hole = seek(source, SeekFrom::Hole(data)).map_err(named("lseek"))?;
    Ok((data, hole.min(end)))
}

/// Copies the bytes of one range of data.
fn copy_data(
    source: &OwnedFd,
    range: std::ops::Range<u64>,
    file: &OwnedFd,
    mut offset: u64,
    buffer: &mut [u8],
) -> Result<(), Cause> {
    let mut at = range.start;
    while at < range.end {
        let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let room = wanted.min(buffer.len());
        let room = buffer.get_mut(..room).unwrap_or_default();
        let count = pread(source, room, at).map_err(named("pread"))?;
        if count == 0 {
            return Err(Cause::SourceTooShort {
                size: at,
                wanted: range.end,
            });
        }
        write_all(file, offset, buffer.get(..count).unwrap_or_default())?;
        at += count as u64;
        offset += count as u64;
    }
    Ok(())
}
