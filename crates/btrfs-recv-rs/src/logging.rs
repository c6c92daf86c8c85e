//! What the library tells of its decisions, on standard error, if the
//! environment asks for it.

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::messages::{Messages, screen};

/// Holds the level.
const VARIABLE: &str = "BTRFS_RECV_LOG";

/// Begins to log, if the environment asks for it.
///
/// The lines begin with the time: none of them can be taken for an `ERROR: `.
pub(crate) fn start() {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else {
        return;
    };
    let Some(level) = value.to_str().and_then(|it| it.parse::<LevelFilter>().ok()) else {
        let value = value.to_string_lossy();
        return Messages::new(0).warning(format_args!(
            "{VARIABLE} is \"{value}\", and should be info, debug or trace: nothing is logged"
        ));
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_timer(SinceStart(std::time::Instant::now()))
        .with_writer(|| Lines)
        .finish();
    // There is no other.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Seconds since the program started.
struct SinceStart(std::time::Instant);

impl FormatTime for SinceStart {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        write!(to, "{:>10.6}", self.0.elapsed().as_secs_f64())
    }
}

/// Standard error, where the line of progress gives way.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        screen::clear();
        io::stderr().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
