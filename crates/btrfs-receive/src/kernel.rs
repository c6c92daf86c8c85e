//! The running kernel.

use btrfs_sendstream::inspect::Kernel;

/// The first kernel whose `syncfs` reports failed write-back (commit
/// 735e4ae5ba28).
const SYNCFS_REPORTS: Kernel = Kernel { major: 5, minor: 8 };

/// Returns the version of the running kernel (`uname`), if it is known.
pub fn running_kernel() -> Option<Kernel> {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().ok()?;
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some(Kernel {
        major: next()?,
        minor: next()?,
    })
}

/// Returns whether data that could not be written to the disk fails a receive on
/// this kernel.
///
/// Every receive waits with `syncfs` until the data is on disk. Before Linux 5.8,
/// `syncfs` waits as well, but does not report a failed write, so that a subvolume
/// with lost data may be marked as received: the kernel log has the I/O errors.
/// Encoded writes are checked on every kernel. If the version of the kernel is
/// not known, it is taken for a later one.
pub fn reports_failed_writes(kernel: Option<Kernel>) -> bool {
    kernel.is_none_or(|kernel| kernel >= SYNCFS_REPORTS)
}
