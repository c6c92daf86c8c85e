//! What belongs to one thread instead of the process.

#![allow(unsafe_code)]

use rustix::io::Result;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// `unshare(CLONE_FS)`: from now on the calling thread has a umask, a working
/// directory and a root directory of its own, copies of the process's.
///
/// # Errors
/// Those of the call; a seccomp filter may forbid it.
pub fn unshare_fs() -> Result<()> {
    // SAFETY: CLONE_FS concerns neither memory nor descriptors; other threads
    // keep what they have.
    unsafe { unshare_unsafe(UnshareFlags::FS) }
}
