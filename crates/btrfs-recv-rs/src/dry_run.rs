//! `--dry-run`: checks whether a stream can be received.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use btrfs_receive::btrfs_lineage::SourceUsed;
use btrfs_receive::dry_run::{DryRun, DryRunReport, Forecast, FoundSource, Place};
use btrfs_receive::{Cancel, Conflict};
use btrfs_sendstream::inspect::{Kernel, SubvolumeSummary, VerifyOptions};
use sendstream_common::report::{self, Printer};
use sendstream_common::text::escaped;
use serde::Serialize;

use crate::advice;
use crate::args::Receive;
use crate::input::Input;
use crate::messages::{Messages, is_doubtful, strerror};
use crate::receive;
use crate::sandbox;
use crate::signals::Signals;

/// Carries out `--dry-run`; returns whether no problem was found.
pub(crate) fn command(options: &Receive) -> bool {
    let messages = Messages::new(options.verbosity).json(options.json);
    receive::supervised(options, messages, run)
}

fn run(options: &Receive, cancel: Cancel, signals: &Signals, messages: &mut Messages) -> bool {
    let file = options.input.as_deref();
    let Some(input) = Input::open_or_say(file, options.decompress, Some(signals), messages) else {
        return false;
    };
    let mut how = VerifyOptions::default();
    how.allow_unknown = options.allow_unknown;
    let mut builder = DryRun::builder()
        .force_decompress(options.force_decompress || options.sandbox)
        .atomic(options.atomic)
        .receive(receive::how(options, cancel))
        .verify(how);
    if let Some(parent) = &options.parent {
        builder = builder.parent(parent);
    }
    for source in &options.clone_sources {
        builder = builder.clone_source(&source.path, source.stands_for);
    }
    if options.confine_sources {
        builder = builder.jail(&options.destination);
    }
    if options.sandbox
        && let Err(text) = sandbox::enter(&receive::reach(options, &[]), messages)
    {
        messages.error(text);
        return false;
    }
    let mut dry_run = match builder.open(&options.destination) {
        Ok(dry_run) => dry_run,
        Err(error) => {
            receive::cannot_open(error, messages);
            return false;
        }
    };
    let report = dry_run.run(input);
    let printed = if messages.is_json() {
        emit(&report, dry_run.place(), messages);
        true
    } else {
        print(&report, dry_run.place(), messages)
    };
    warn_of_doubtful_sources(&report, messages);
    messages.unreported_by(dry_run.place().kernel());
    for problem in report::problems(file, &report.stream) {
        messages.error_line(problem);
    }
    failures(file, &report, &options.destination, messages);
    if !report.space.is_enough() {
        messages.error_line(format_args!(
            "about {} bytes are needed, but {} are free",
            report.space.needed,
            report.space.available.unwrap_or(0)
        ));
    }
    printed && report.is_good()
}

/// Most failures that are printed one by one.
const MAX_SHOWN: usize = 20;

/// Prints what would fail at the destination.
fn failures(
    file: Option<&Path>,
    report: &DryRunReport,
    destination: &Path,
    messages: &mut Messages,
) {
    let file = report::name_of(file);
    for failure in report.failures.iter().take(MAX_SHOWN) {
        // The searches for a source are on further lines.
        let text = failure.to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        messages.error_line(format_args!("{file}: {first}"));
        for line in lines {
            messages.error_line(line);
        }
        messages.advise(advice::on_failure(failure, destination, None));
    }
    let listed = report.failures.len().saturating_sub(MAX_SHOWN) as u64;
    let more = listed + report.more_failures;
    if more > 0 {
        messages.error_line(format_args!("{file}: and {more} more failures"));
    }
}

/// The line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    report: &'a DryRunReport,
    destination: Destination,
    /// What the process lacks for any of the subvolumes.
    missing_capabilities: BTreeSet<&'static str>,
}

#[derive(Serialize)]
struct Destination {
    kernel: Option<Kernel>,
    sector_size: u32,
}

fn emit(report: &DryRunReport, place: &Place, messages: &Messages) {
    let forecasts = report.forecasts.iter();
    let missing = forecasts.flat_map(|it| &it.missing_capabilities);
    let line = Line {
        report,
        destination: Destination {
            kernel: place.kernel(),
            sector_size: place.sector_size(),
        },
        missing_capabilities: missing.map(|it| it.name).collect(),
    };
    messages.emit("dry_run", line);
}

/// Prints the warnings of a receive.
fn warn_of_doubtful_sources(report: &DryRunReport, messages: &mut Messages) {
    let subvolumes = report.stream.subvolumes.iter().zip(&report.forecasts);
    for (subvolume, forecast) in subvolumes {
        let name = subvolume.name.as_bytes();
        let parent = forecast.parent.as_ref().and_then(there);
        if let Some(parent) = parent {
            messages.doubtful_parent(name, parent);
        }
        let sources = forecast.clone_sources.iter().filter_map(there);
        messages.doubtful_sources(name, parent, sources);
    }
}

fn there(source: &FoundSource) -> Option<&SourceUsed> {
    match source {
        FoundSource::There(used) => Some(used),
        _ => None,
    }
}

/// `false` if that failed, which was said.
fn print(report: &DryRunReport, place: &Place, messages: &mut Messages) -> bool {
    let mut printer = Printer::default();
    let subvolumes = report.stream.subvolumes.iter().zip(&report.forecasts);
    for (subvolume, forecast) in subvolumes {
        printer.subvolume(subvolume);
        push_forecast(&mut printer, subvolume, forecast);
    }
    let (space, sector) = (report.space, place.sector_size());
    match space.available {
        Some(free) => printer.line(format_args!(
            "space: about {} bytes needed, {free} free",
            space.needed
        )),
        None => printer.line(format_args!("space: about {} bytes needed", space.needed)),
    }
    let kernel = place.kernel();
    let kernel = kernel.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
    printer.line(format_args!(
        "destination: Linux {kernel}, sectors of {sector} bytes"
    ));
    let sources = report
        .forecasts
        .iter()
        .flat_map(|it| it.parent.iter().chain(&it.clone_sources));
    let is_warned_of = sources.filter_map(there).any(is_doubtful);
    printer.line(match (report.is_good(), is_warned_of) {
        (false, _) => "a receive would FAIL",
        (true, true) => "a receive would succeed, but see the WARNING",
        (true, false) => "no problem was found",
    });
    let mut stdout = io::stdout();
    let written = stdout.write_all(&printer.text());
    match written.and_then(|()| stdout.flush()) {
        // The status tells the answer to those who do not read it.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let reason = strerror(&error);
            messages.error(format_args!("cannot write the result: {reason}"));
            false
        }
        _ => true,
    }
}

fn push_forecast(printer: &mut Printer, subvolume: &SubvolumeSummary, forecast: &Forecast) {
    match forecast.conflict {
        None => printer.line("    name: free"),
        Some(Conflict::Same) => printer.line("    name: TAKEN by the same subvolume"),
        Some(_) => printer.line("    name: TAKEN"),
    }
    if let Some(parent) = &forecast.parent {
        printer.line(format_args!("    parent found: {}", found(parent)));
    }
    for source in &forecast.clone_sources {
        printer.line(format_args!("    clone source found: {}", found(source)));
    }
    if let Some(reason) = forecast.decode_reason {
        printer.line(format_args!(
            "    {} compressed extents would be decompressed, {reason}",
            forecast.decoded
        ));
    }
    for missing in &forecast.missing_capabilities {
        let (name, purpose) = (missing.name, missing.purpose);
        printer.line(format_args!("    MISSING: {name}, needed for {purpose}"));
    }
    if subvolume.needs.no_data {
        printer.line("    the stream contains no file data; send it with data to receive it");
    }
}

fn found(source: &FoundSource) -> String {
    match source {
        FoundSource::There(used) => match &used.path {
            Some(path) => format!("subvolume {} at {}", used.subvolume_id, escaped(path)),
            None => format!("subvolume {}", used.subvolume_id),
        },
        FoundSource::Earlier(id) => format!("{}, earlier in this input", id.uuid),
        _ => "yes".to_owned(),
    }
}
