//! One receive: its events, its report and its error.

use std::io::{Read, Seek};

use btrfs_receive::resume::ResumableReceiver;
use btrfs_receive::{
    BtrfsDestination, Event, Observer, ReceiveError, Receiver, Report, StopReason,
};
use sendstream_common::json;

use crate::fault::Fault;

/// Input for a receive. What cannot be read again refuses to seek.
pub(crate) trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// A receiver of either kind.
pub(crate) trait Receives {
    fn receive(
        &mut self,
        input: &mut dyn Source,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError>;
}

impl Receives for Receiver<BtrfsDestination> {
    fn receive(
        &mut self,
        input: &mut dyn Source,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError> {
        Receiver::receive(self, input, observer)
    }
}

impl Receives for ResumableReceiver {
    fn receive(
        &mut self,
        input: &mut dyn Source,
        observer: &mut dyn Observer,
    ) -> Result<Report, ReceiveError> {
        self.receive_file(input, observer)
    }
}

/// Takes lines of JSON.
pub(crate) trait Sink {
    /// Whether lines are wanted at all.
    fn is_open(&self) -> bool;

    /// Takes a line, without its line feed.
    fn line(&mut self, line: Vec<u8>);
}

/// What came of a receive.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The line `report`.
    pub(crate) report: Vec<u8>,
    pub(crate) fault: Option<Fault>,
}

/// Applies `input`, and gives `sink` a line for each event, the last of them
/// the report.
pub(crate) fn receive(
    receiver: &mut dyn Receives,
    input: &mut dyn Source,
    sink: &mut dyn Sink,
) -> Received {
    let result = receiver.receive(input, &mut Events(sink));
    let (report, error) = match &result {
        Ok(report) => (report, None),
        Err(error) => (&*error.report, Some(error)),
    };
    // Failed operations had a line each.
    if let Some(error) = error
        && !matches!(error.reason, StopReason::Failures)
    {
        let (event, fields) = ("error", &error.reason);
        emit(sink, &json::Event { event, fields });
    }
    let success = error.is_none();
    let (event, fields) = ("report", json::Received { success, report });
    let report = line(&json::Event { event, fields });
    if sink.is_open() {
        sink.line(report.clone());
    }
    Received {
        report,
        fault: error.map(Fault::from),
    }
}

struct Events<'a>(&'a mut dyn Sink);

impl Observer for Events<'_> {
    fn event(&mut self, event: Event<'_>) {
        emit(self.0, &event);
    }
}

fn emit(sink: &mut dyn Sink, event: &impl serde::Serialize) {
    if sink.is_open() {
        sink.line(line(event));
    }
}

/// `value` as JSON, on one line without its line feed.
pub(crate) fn line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = json::line(value);
    line.pop();
    line
}

/// The name of the event on a line: its first key.
pub(crate) fn event_name(line: &[u8]) -> &[u8] {
    let name = line.strip_prefix(b"{\"event\":\"").unwrap_or_default();
    name.split(|byte| *byte == b'"').next().unwrap_or_default()
}
