//! How far a receive is: on a terminal one line that goes away again,
//! elsewhere, if it is asked for, a line every 10 seconds.
//!
//! A thread of its own looks at two counters; whoever reads and applies the
//! stream does nothing but count, once for each read or mebibyte.

mod line;
mod rate;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use btrfs_lineage::digest::DigestProgress;

use line::State;
use rate::Rate;

use crate::messages::screen;

/// How often the line on a terminal is renewed.
const TICK: Duration = Duration::from_millis(200);

/// How often a line is written elsewhere.
const PERIOD: Duration = Duration::from_secs(10);

/// Columns where the terminal does not say.
const WIDTH: usize = 80;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Screen,
    Lines,
}

/// What is known about a receive that runs; shared with the thread that shows
/// it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    bytes: AtomicU64,
    files: AtomicU64,
    name: Mutex<Vec<u8>>,
    /// The digest of the complete subvolume that is being computed.
    comparing: Mutex<Option<Arc<DigestProgress>>>,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl Counters {
    /// Bytes of input were read.
    pub(crate) fn read(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many files were made or are on their way.
    pub(crate) fn files(&self, files: u64) {
        self.files.store(files, Ordering::Relaxed);
    }

    /// A subvolume begins.
    pub(crate) fn begins(&self, name: &[u8]) {
        *lock(&self.name) = name.to_vec();
    }

    /// A complete subvolume is read once more, for its digest; `None` when that
    /// is over.
    pub(crate) fn comparing(&self, progress: Option<Arc<DigestProgress>>) {
        *lock(&self.comparing) = progress;
    }

    fn state(&self, rate: &mut Rate, size: Option<u64>) -> State {
        let bytes = self.bytes.load(Ordering::Relaxed);
        State {
            name: lock(&self.name).clone(),
            bytes,
            size,
            files: self.files.load(Ordering::Relaxed),
            compared: lock(&self.comparing).as_ref().map(|it| it.bytes()),
            rate: rate.at(Instant::now(), bytes),
        }
    }

    /// Waits; says whether to go on.
    fn wait(&self, time: Duration) -> bool {
        let is_over = lock(&self.is_over);
        let (is_over, _) = self
            .over
            .wait_timeout_while(is_over, time, |is_over| !*is_over)
            .unwrap_or_else(PoisonError::into_inner);
        !*is_over
    }
}

/// Shows progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    counters: Arc<Counters>,
    ticker: Option<JoinHandle<()>>,
}

impl Progress {
    /// Shows progress of a receive of `size` bytes, if that is known: if
    /// `asked` for in any case, else where a person looks at standard error
    /// and `may_draw` between the messages.
    pub(crate) fn start(
        counters: Arc<Counters>,
        asked: bool,
        may_draw: bool,
        size: Option<u64>,
    ) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let on_screen = io::stderr().is_terminal() && !is_dumb;
        let form = match (on_screen && may_draw, asked) {
            (true, _) => Some(Form::Screen),
            (false, true) => Some(Form::Lines),
            (false, false) => None,
        };
        let shared = Arc::clone(&counters);
        let ticker = form.and_then(|form| {
            let name = "progress".to_owned();
            let thread = std::thread::Builder::new().name(name);
            // Not what `RUST_MIN_STACK` says, which can be too little to start.
            let thread = thread.stack_size(1 << 20);
            // Progress is not worth a failure.
            thread.spawn(move || show(form, &shared, size)).ok()
        });
        Self { counters, ticker }
    }

    /// What is to be counted.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *lock(&self.counters.is_over) = true;
        self.counters.over.notify_all();
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

fn show(form: Form, counters: &Counters, size: Option<u64>) {
    let mut rate = Rate::new(Instant::now());
    let period = match form {
        Form::Screen => TICK,
        Form::Lines => PERIOD,
    };
    while counters.wait(period) {
        let state = counters.state(&mut rate, size);
        match form {
            Form::Screen => screen::draw(&state.fitted(width())),
            Form::Lines => {
                let line = format!("progress: {}\n", state.fitted(usize::MAX));
                let _ = io::stderr().lock().write_all(line.as_bytes());
            }
        }
    }
    if form == Form::Screen {
        screen::clear();
    }
}

/// Columns of the terminal.
fn width() -> usize {
    match rustix::termios::tcgetwinsize(rustix::stdio::stderr()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => WIDTH,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
