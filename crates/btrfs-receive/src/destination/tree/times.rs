//! Times from the kernel, as streams have them.

use btrfs_sendstream::Timespec;
use rustix::fs::Stat;

/// Access and modification time.
pub(in crate::destination) fn times_of(stat: &Stat) -> (Timespec, Timespec) {
    let time = |seconds, nanoseconds| Timespec {
        seconds,
        // Less than 1,000,000,000.
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    };
    (
        time(stat.st_atime, stat.st_atime_nsec),
        time(stat.st_mtime, stat.st_mtime_nsec),
    )
}
