//! What a caller may set about a receive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use btrfs_sendstream::Limits;

use crate::plan::Rules;

/// How a [`Receiver`](crate::Receiver) treats its input.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Give up after this many failed operations; 0: never. Default 1.
    ///
    /// Going on never makes a subvolume with a failed operation count as
    /// received. A malformed stream always ends the receive.
    pub max_errors: u64,
    /// Stop after the first END and leave the rest of the input unread.
    /// Default: go on with the streams that follow, to the end of input.
    pub stop_at_end: bool,
    /// Skip unknown commands and attributes instead of refusing the stream.
    /// Default `false`.
    pub allow_unknown: bool,
    /// Bounds on what a stream may make the decoder allocate.
    pub limits: Limits,
    /// Fusing rules of the planner; for diagnosis.
    pub rules: Rules,
    /// Checked between commands: once set, the receive stops, and what is
    /// under construction stays writable and without received UUID.
    pub cancel: Cancel,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_errors: 1,
            stop_at_end: false,
            allow_unknown: false,
            limits: Limits::default(),
            rules: Rules::default(),
            cancel: Cancel::default(),
        }
    }
}

/// A flag to stop a receive with, from another thread or a signal handler.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The flag as the atomic it is, for code that wants to set one (a
    /// signal handler, say).
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Asks the receive to stop before the next command.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
