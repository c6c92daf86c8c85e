//! SIGINT, SIGTERM and SIGHUP: a receive stops between two commands, says
//! what it leaves, and then dies by that signal.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::{flag, low_level};

const WATCHED: [(i32, &str); 3] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")];

/// Watches for signals, from [`Signals::watch`] to the end of the process.
pub(crate) struct Signals {
    /// Readable from the first signal on.
    wakeup: OwnedFd,
    /// Held so that `wakeup` never reports a hang-up, not even if every
    /// signal is ignored.
    _write_end: OwnedFd,
    /// Number of the last signal; 0 before the first.
    last: Arc<AtomicUsize>,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    number: i32,
    name: &'static str,
}

impl Signals {
    /// Starts watching; the first signal sets `stop`. A signal that was ignored when the program started,
    /// as `nohup` does with SIGHUP, stays ignored. The second signal ends
    /// the process at once.
    ///
    /// # Errors
    /// A handler or the pipe that wakes a waiting reader cannot be set up.
    pub(crate) fn watch(stop: &Arc<AtomicBool>) -> io::Result<Self> {
        let (wakeup, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let last = Arc::new(AtomicUsize::new(0));
        let ignored = ignored_signals();
        for (number, _) in WATCHED {
            if ignored & (1 << (number - 1)) != 0 {
                continue;
            }
            // Actions run in this order: the first does nothing until the
            // third has run once.
            flag::register_conditional_default(number, Arc::clone(stop))?;
            flag::register_usize(number, Arc::clone(&last), number as usize)?;
            flag::register(number, Arc::clone(stop))?;
            low_level::pipe::register(number, write_end.try_clone()?)?;
        }
        Ok(Self {
            wakeup,
            _write_end: write_end,
            last,
        })
    }

    /// A descriptor to poll for reading: ready once a signal arrived.
    pub(crate) fn wakeup(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }

    /// The signal that arrived, if one did.
    pub(crate) fn caught(&self) -> Option<Signal> {
        let last = self.last.load(Ordering::Relaxed);
        WATCHED
            .iter()
            .find(|(number, _)| usize::try_from(*number) == Ok(last))
            .map(|&(number, name)| Signal { number, name })
    }
}

impl Signal {
    /// SIGPIPE, for a command that ends when its reader has gone.
    pub(crate) const PIPE: Self = Self {
        number: SIGPIPE,
        name: "SIGPIPE",
    };

    /// Ends the process as the signal would have without a handler, so that
    /// the caller sees what happened. Comes back only if that fails.
    pub(crate) fn die(self) {
        // There is no one to tell; the caller goes on to exit with 1.
        let _ = low_level::emulate_default_handler(self.number);
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The mask of ignored signals, bit 0 for signal 1; 0 if /proc does not say.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
