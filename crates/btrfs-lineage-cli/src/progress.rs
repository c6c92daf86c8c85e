//! How much was read so far, on a line that goes away again, if a person looks
//! at standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use btrfs_lineage::digest::DigestProgress;
use sendstream_common::text::bytes;

/// How often the line is renewed.
const TICK: Duration = Duration::from_millis(200);

/// Shows progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    counters: Arc<DigestProgress>,
    /// The thread ends when this is dropped.
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    pub(crate) fn start() -> Self {
        let counters = Arc::new(DigestProgress::default());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_wanted = io::stderr().is_terminal() && !is_dumb;
        let shared = Arc::clone(&counters);
        let shown = is_wanted.then(|| {
            let (until, over) = channel();
            let thread = std::thread::spawn(move || {
                let start = Instant::now();
                while over.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    show(&line(&shared, start.elapsed()));
                }
                show("");
            });
            (until, thread)
        });
        Self { counters, shown }
    }

    pub(crate) fn counters(&self) -> Arc<DigestProgress> {
        Arc::clone(&self.counters)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((until, thread)) = self.shown.take() {
            drop(until);
            let _ = thread.join();
        }
    }
}

fn line(counters: &DigestProgress, elapsed: Duration) -> String {
    let read = counters.bytes();
    let milliseconds = elapsed.as_millis().max(1);
    let rate = u64::try_from(u128::from(read) * 1000 / milliseconds).unwrap_or(u64::MAX);
    let names = counters.names();
    format!("{}  {}/s  {names} names", bytes(read), bytes(rate))
}

/// Replaces the line by another. It is short enough for any terminal.
fn show(line: &str) {
    let _ = write!(io::stderr().lock(), "\r{line}\x1b[K");
}
