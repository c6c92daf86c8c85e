//! Plain writes, and holes where a filesystem has some.

use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, fallocate, fstat};
use rustix::io::{Errno, pwrite};

use crate::error::{Cause, named};

/// Zeros written at once where there are no holes.
const ZEROS: usize = 256 << 10;

/// Makes a range read as zeros; what lies behind the end of the file stays
/// as it is. Written as zeros on a filesystem that has no holes.
pub(in crate::destination) fn punch(
    file: impl AsFd,
    mut offset: u64,
    len: u64,
) -> Result<(), Cause> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(&file, mode, offset, len) {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(errno) => return Err(Cause::system("fallocate", errno)),
    }
    let size = fstat(&file).map_err(named("fstat"))?.st_size;
    let end = offset
        .saturating_add(len)
        .min(u64::try_from(size).unwrap_or(0));
    let zeros = vec![0; ZEROS];
    while offset < end {
        let count = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let part = zeros.get(..count.min(ZEROS)).unwrap_or_default();
        write_all(&file, offset, part)?;
        offset += part.len() as u64;
    }
    Ok(())
}

pub(super) fn write_all(file: impl AsFd, mut offset: u64, mut data: &[u8]) -> Result<(), Cause> {
    while !data.is_empty() {
        let count = match pwrite(&file, data, offset) {
            Ok(0) => return Err(Cause::system("pwrite", Errno::IO)),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Cause::system("pwrite", errno)),
        };
        data = data.get(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}
