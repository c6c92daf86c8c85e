//! The log of the library's decisions on standard error, enabled by an
//! environment variable.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Metadata, Subscriber};

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
            "{VARIABLE} is \"{value}\", but must be info, debug or trace; nothing is logged"
        ));
    };
    let log = Log {
        level,
        since: Instant::now(),
    };
    // There is no other.
    let _ = tracing::subscriber::set_global_default(log);
}

/// Writes each event as one line.
struct Log {
    level: LevelFilter,
    since: Instant,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let (seconds, about) = (self.since.elapsed().as_secs_f64(), event.metadata());
        let mut line = Line(String::new());
        let (level, target) = (about.level(), about.target());
        line.push(format_args!("{seconds:>10.6} {level:>5} {target}:"));
        event.record(&mut line);
        // The line of progress gives way.
        screen::clear();
        // There is nowhere to say that this failed.
        let _ = io::stderr().write_all(format!("{}\n", line.0).as_bytes());
    }

    // The library has no spans.

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The time, the level, the module, the message, and `name=value` for each
/// field.
struct Line(String);

impl Line {
    fn push(&mut self, text: fmt::Arguments<'_>) {
        // A `Display` that fails leaves the line shorter.
        let _ = self.write_fmt(text);
    }
}

impl fmt::Write for Line {
    /// Names cannot break the line or drive a terminal.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if char.is_control() {
                self.0.extend(char.escape_default());
            } else {
                self.0.push(char);
            }
        }
        Ok(())
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.push(format_args!(" {value:?}")),
            name => self.push(format_args!(" {name}={value:?}")),
        }
    }
}
