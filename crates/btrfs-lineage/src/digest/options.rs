//! How a digest is computed, and how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::root_change::RootChange;

/// How a digest is computed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DigestOptions {
    /// Threads that read and hash, the caller's among them; at most 64. 0, the
    /// default, means as many as there are processors.
    pub threads: usize,
    /// Whether to list every name with its metadata and digests. Default
    /// `false`.
    pub tree: bool,
    /// Whether to read a writable subvolume. If it changes meanwhile, the
    /// digest may be that of no state it ever was in. Default `false`.
    pub allow_writable: bool,
    /// Changes of the root that are to come: the digest is that of the
    /// subvolume after them. Default: none.
    pub root_changes: Vec<RootChange>,
    /// What was read so far. Default: nobody looks.
    pub progress: Arc<DigestProgress>,
}

/// How far a digest is; shared with whoever shows it, or ends it.
#[derive(Debug, Default)]
pub struct DigestProgress {
    bytes: AtomicU64,
    names: AtomicU64,
    cancelled: Arc<AtomicBool>,
    /// Something failed.
    stopped: AtomicBool,
}

impl DigestProgress {
    /// One that ends the computation when `flag` is set, as
    /// [`cancel`](Self::cancel) does.
    pub fn cancelled_by(flag: Arc<AtomicBool>) -> Self {
        Self {
            cancelled: flag,
            ..Self::default()
        }
    }

    /// Bytes of files that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Names that were read.
    pub fn names(&self) -> u64 {
        self.names.load(Ordering::Relaxed)
    }

    /// Ends the computation with [`DigestError::Cancelled`](super::DigestError::Cancelled). Can be called from
    /// a signal handler.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether to read on.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.stopped.store(false, Ordering::Relaxed);
    }

    /// Ends the reading of what is in the middle of it.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn named(&self, names: u64) {
        self.names.fetch_add(names, Ordering::Relaxed);
    }
}
