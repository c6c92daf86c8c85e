//! A line on the terminal that gives way to messages.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the last line of the terminal is one that gives way. Changed only
/// while standard error is locked.
static IS_DRAWN: AtomicBool = AtomicBool::new(false);

/// To the first column, and what stands there is gone.
const ERASE: &[u8] = b"\r\x1b[K";

/// Draws the line, in place of the one that was drawn before.
pub(crate) fn draw(line: &str) {
    let mut stderr = io::stderr().lock();
    IS_DRAWN.store(true, Ordering::Relaxed);
    let _ = stderr.write_all(&[ERASE, line.as_bytes()].concat());
}

/// Takes the line away, if one is drawn.
pub(crate) fn clear() {
    let mut stderr = io::stderr().lock();
    if IS_DRAWN.swap(false, Ordering::Relaxed) {
        let _ = stderr.write_all(ERASE);
    }
}
