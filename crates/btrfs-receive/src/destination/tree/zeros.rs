//! Zeros as holes: blocks of a write that hold nothing but zeros are not written.
//!
//! The content is the same, and takes less space. Only whole blocks of the filesystem
//! count, since smaller holes save nothing.

use std::ops::Range;
use std::os::fd::OwnedFd;

use btrfs_sendstream::Bytes;
use rustix::fs::{fstat, ftruncate};

use super::encoded::Accepted;
use super::plain::{punch, write_all};
use crate::error::{Cause, named};
use crate::step_error::StepError;

/// Where the pieces of a write, from `offset`, have blocks of zeros: for each piece
/// the runs that it consists of, in order, and whether they are zeros. `None` if there
/// are no such blocks.
pub(super) fn find(offset: u64, pieces: &[Bytes], block: usize) -> Option<Vec<Vec<Run>>> {
    let mut at = offset;
    let mut found = false;
    let runs = pieces.iter().map(|piece| {
        let runs = runs(at, piece, block);
        found |= runs.iter().any(|run| run.is_zeros);
        at = at.saturating_add(piece.len() as u64);
        runs
    });
    let runs = runs.collect();
    found.then_some(runs)
}

/// A part of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    is_zeros: bool,
    part: Range<usize>,
}

/// Writes pieces that follow each other from `offset`, except for zeros, in whose
/// place there are holes. Returns the number of bytes that are not written. On failure
/// says at which piece.
pub(super) fn write(
    file: &OwnedFd,
    offset: u64,
    pieces: &[Bytes],
    runs: &[Vec<Run>],
    accepted: &Accepted,
) -> Result<u64, StepError> {
    let of_last = |cause: Cause| StepError {
        part: pieces.len().saturating_sub(1),
        cause,
    };
    let stat = fstat(file).map_err(named("fstat"))?;
    let mut size = u64::try_from(stat.st_size).unwrap_or(0);
    let mut end = size;
    let mut zeros = 0;
    let mut at = offset;
    for (index, (piece, runs)) in pieces.iter().zip(runs).enumerate() {
        for run in runs {
            let data = piece.get(run.part.clone()).unwrap_or_default();
            let (begin, len) = (at.saturating_add(run.part.start as u64), data.len() as u64);
            let behind = begin.saturating_add(len);
            let done = if run.is_zeros {
                zeros += len;
                // Behind the end of the file there is nothing.
                if begin < size {
                    // What was accepted there is not missed at the end.
                    let forgotten = accepted.forget(file, begin, len);
                    forgotten.and_then(|()| punch(file, begin, len))
                } else {
                    Ok(())
                }
            } else {
                size = size.max(behind);
                write_all(file, begin, data)
            };
            done.map_err(|cause| StepError { part: index, cause })?;
            end = end.max(behind);
        }
        at = at.saturating_add(piece.len() as u64);
    }
    if end > size {
        ftruncate(file, end).map_err(|errno| of_last(named("ftruncate")(errno)))?;
    }
    Ok(zeros)
}

/// The runs of a piece at this offset.
fn runs(offset: u64, piece: &[u8], block: usize) -> Vec<Run> {
    let into = usize::try_from(offset % block as u64).unwrap_or(0);
    let head = (block - into).checked_rem(block).unwrap_or(0);
    let (head, rest) = piece.split_at(head.min(piece.len()));
    let mut runs: Vec<Run> = Vec::new();
    let mut add = |is_zeros: bool, len: usize| match runs.last_mut() {
        _ if len == 0 => {}
        Some(run) if run.is_zeros == is_zeros => run.part.end += len,
        last => {
            let start = last.map_or(0, |run| run.part.end);
            let part = start..start + len;
            runs.push(Run { is_zeros, part });
        }
    };
    add(false, head.len());
    for chunk in rest.chunks(block.max(1)) {
        add(chunk.len() == block && is_zeros(chunk), chunk.len());
    }
    runs
}

/// Whether there is nothing but zeros. Most other data ends it at once; the rest is
/// one comparison of memory, of the data with itself a little further on.
fn is_zeros(data: &[u8]) -> bool {
    const START: usize = 16;
    match (data.get(..START), data.get(START..)) {
        (Some(start), Some(rest)) => start == [0; START] && data.get(..rest.len()) == Some(rest),
        _ => data.iter().all(|&byte| byte == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(offset: u64, piece: &[u8], block: usize) -> Vec<(bool, Range<usize>)> {
        let runs = runs(offset, piece, block).into_iter();
        runs.map(|run| (run.is_zeros, run.part)).collect()
    }

    #[test]
    fn only_whole_blocks_of_zeros_count() {
        let zeros = [0; 64];
        assert_eq!(shown(0, &zeros, 32), [(true, 0..64)]);
        assert_eq!(shown(0, &zeros[..63], 32), [(true, 0..32), (false, 32..63)]);
        assert_eq!(
            shown(1, &zeros, 32),
            [(false, 0..31), (true, 31..63), (false, 63..64)]
        );
        assert_eq!(shown(33, &zeros[..30], 32), [(false, 0..30)]);
        assert_eq!(shown(32, &[], 32), []);
        let mut data = [0; 160];
        data[70] = 1;
        data[31] = 1;
        assert_eq!(
            shown(64, &data, 32),
            [
                (false, 0..32),
                (true, 32..64),
                (false, 64..96),
                (true, 96..160)
            ]
        );
        let data: [Bytes; 2] = [Bytes::from_static(&[1; 32]), Bytes::from_static(&[1; 32])];
        assert_eq!(find(0, &data, 32), None);
    }

    #[test]
    fn every_byte_counts() {
        for len in [0, 1, 15, 16, 17, 31, 32, 33, 4096] {
            let mut data = vec![0; len];
            assert!(is_zeros(&data));
            for at in 0..len {
                data[at] = 1;
                assert!(!is_zeros(&data), "{len} {at}");
                data[at] = 0;
            }
        }
    }
}
