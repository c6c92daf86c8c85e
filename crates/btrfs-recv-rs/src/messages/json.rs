//! `--json`: events and reports on standard output, an object to a line.

use std::cell::OnceCell;
use std::io;
use std::time::{Duration, Instant};

use btrfs_receive::{Event, Failure, Report};
use sendstream_common::{json, text::strerror};
use serde::Serialize;

use super::Messages;
use super::line::write_stdout;
use crate::advice::Advice;
use crate::signals::Signal;

/// The shortest time between two lines about progress.
const PERIOD: Duration = Duration::from_secs(1);

/// What is remembered from line to line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Why a line could not be written, if one could not.
    lost: OnceCell<io::Error>,
    /// When the last line about progress was written.
    progress: Option<Instant>,
}

/// An error with its advice.
#[derive(Serialize)]
struct Advised<'a, T> {
    #[serde(flatten)]
    error: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    likely: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_do: Option<&'a str>,
}

impl<'a, T> Advised<'a, T> {
    fn new(error: T, advice: Option<&'a Advice>) -> Self {
        Self {
            error,
            likely: advice.and_then(|it| it.likely.as_deref()),
            to_do: advice.map(|it| &*it.to_do),
        }
    }
}

/// Progress, with the size of the input.
#[derive(Serialize)]
struct Progress<'a> {
    #[serde(flatten)]
    event: Event<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

#[derive(Serialize)]
struct End {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
}

impl Lines {
    /// Writes a line. Nobody reading it is no failure.
    fn write(&self, line: &[u8]) {
        if let Err(error) = write_stdout(line)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            // The first error is the reason.
            let _ = self.lost.set(error);
        }
    }
}

impl Messages {
    /// Also says it in JSON, if that is wanted.
    pub(crate) fn json(mut self, wanted: bool) -> Self {
        self.json = wanted.then(Lines::default);
        self
    }

    /// Whether standard output is for JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// A line of JSON, if that is wanted. Nobody reading it is no failure.
    pub(crate) fn emit(&self, event: &str, fields: impl Serialize) {
        if let Some(lines) = &self.json {
            lines.write(&json::line(&json::Event { event, fields }));
        }
    }

    /// Whether JSON was written, if it was wanted; says so if it was not.
    /// `success`: nothing else failed. A disk that is full or fails is an
    /// error, since who asked for the report has to learn that there is none;
    /// a reader that went away does not want it.
    pub(crate) fn is_reported(&mut self, success: bool) -> bool {
        let lost = self.json.as_ref().and_then(|lines| lines.lost.get());
        let Some(error) = lost.map(strerror) else {
            return true;
        };
        let so_far = if success && self.completed_any() {
            "the receive is complete, but its report is not: "
        } else {
            ""
        };
        self.error_line(format_args!(
            "{so_far}cannot write JSON to standard output: {error}"
        ));
        false
    }

    /// What happened in a receive.
    pub(super) fn emit_event(&mut self, event: &Event<'_>) {
        let Some(lines) = &mut self.json else {
            return;
        };
        let line = match event {
            // Written with advice, or not at all.
            Event::Failed(_) | Event::Command { .. } => return,
            Event::Progress { .. } => {
                let now = Instant::now();
                let soon = |last: Instant| now.duration_since(last) < PERIOD;
                if lines.progress.is_some_and(soon) {
                    return;
                }
                lines.progress = Some(now);
                let (event, size) = (*event, self.input_size);
                json::line(&Progress { event, size })
            }
            event => json::line(event),
        };
        lines.write(&line);
    }

    pub(super) fn emit_failure(&self, failure: &Failure, advice: Option<&Advice>) {
        self.emit("failed", Advised::new(failure, advice));
    }

    pub(super) fn emit_stream_error(
        &self,
        error: &btrfs_sendstream::Error,
        advice: Option<&Advice>,
    ) {
        self.emit("error", Advised::new(error, advice));
    }

    pub(super) fn emit_error(&self, message: &str, to_do: Option<&str>) {
        let error = json::Message { message };
        let likely = None;
        self.emit(
            "error",
            Advised {
                error,
                likely,
                to_do,
            },
        );
    }

    pub(super) fn emit_warning(&self, message: &str) {
        self.emit("warning", json::Message { message });
    }

    /// What became of one input.
    pub(crate) fn emit_report(&self, success: bool, report: &Report) {
        self.emit("report", json::Received { success, report });
    }

    /// The last line.
    pub(crate) fn emit_end(&self, success: bool, signal: Option<Signal>) {
        let is_lost = |lines: &Lines| lines.lost.get().is_some();
        let success = success && !self.json.as_ref().is_some_and(is_lost);
        let signal = signal.map(|it| it.to_string());
        self.emit("end", End { success, signal });
    }
}
