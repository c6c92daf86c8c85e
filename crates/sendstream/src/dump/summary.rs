//! What a stream holds, counted: a paragraph for each subvolume.

use std::io::{Read, Write};

use btrfs_sendstream::CommandKind;
use btrfs_sendstream::inspect::{SubvolumeSummary, Verifier, VerifyOptions};
use sendstream_common::dump::DumpError;
use sendstream_common::report::Printer;

/// Counts what `input` holds. Nothing is checked but what decoding takes.
///
/// # Errors
/// See [`DumpError`]. What comes before damage has been written.
pub(super) fn run(input: impl Read, output: &mut impl Write) -> Result<(), DumpError> {
    let mut options = VerifyOptions::default();
    options.names = false;
    options.decode = false;
    options.allow_no_data = true;
    let report = Verifier::new(options).verify(input);
    let mut printer = Printer::default();
    for subvolume in &report.subvolumes {
        printer.subvolume(subvolume);
        printer.line(counts(subvolume));
    }
    printer.more_subvolumes(report.more_subvolumes);
    printer.line(format_args!(
        "streams: {}, commands: {}, bytes: {}",
        report.streams, report.commands, report.bytes
    ));
    output.write_all(&printer.text())?;
    output.flush()?;
    match report.into_stream_error() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// How many commands of each kind there are, in the order of their numbers.
fn counts(subvolume: &SubvolumeSummary) -> String {
    let counts = CommandKind::ALL
        .iter()
        .map(|&kind| (kind, subvolume.count(kind)));
    let counts = counts.filter(|(_, count)| *count > 0);
    let counts: Vec<_> = counts
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    format!("    commands: {}", counts.join(", "))
}
