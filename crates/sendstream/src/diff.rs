//! `diff`: which paths a stream creates, changes, renames and deletes.

use std::io::{self, Write};

use btrfs_sendstream::NewSubvolume;
use btrfs_sendstream::inspect::{Action, DiffEntry, DiffError, Differ, Difference, push_escaped};
use sendstream_common::dump::FLUSH_AT;
use sendstream_common::json;
use serde::Serialize;

use crate::Failure;
use crate::args::{self, Format};
use crate::input::Input;

/// Carries out `diff`.
pub(crate) fn run(options: &args::Diff) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    for file in options.inputs() {
        let mut input = Input::open(file, options.unpack.decompress)?;
        let mut differ = Differ::new(&mut input);
        let failure = loop {
            match differ.next_difference() {
                Ok(Some(difference)) => {
                    write(&difference, options.format, &mut stdout).map_err(Failure::output)?;
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        drop(differ);
        match failure {
            None => {}
            Some(DiffError::Stream(error)) => {
                return Err(input.failure(error, "| sendstream diff"));
            }
            Some(error) => {
                return Err(Failure::Contradiction {
                    input: input.name(),
                    error,
                });
            }
        }
    }
    Ok(true)
}

/// A heading, and a line for each path.
fn write(difference: &Difference, format: Format, to: &mut impl Write) -> io::Result<()> {
    let mut text = match format {
        Format::Json => json_heading(difference),
        Format::Text => heading(difference),
    };
    for entry in &difference.entries {
        match format {
            Format::Json => text.extend(json::line(entry)),
            Format::Text => push_entry(&mut text, entry),
        }
        if text.len() >= FLUSH_AT {
            to.write_all(&text)?;
            text.clear();
        }
    }
    to.write_all(&text)?;
    to.flush()
}

fn heading(difference: &Difference) -> Vec<u8> {
    let mut out = Vec::new();
    let new = &difference.subvolume;
    push_escaped(&mut out, new.name.as_bytes());
    let parent = match &new.parent {
        Some(parent) => format!(" {} against parent {}\n", new.uuid, parent.uuid),
        None => format!(" {} in full\n", new.uuid),
    };
    out.extend_from_slice(parent.as_bytes());
    out
}

/// What happened, what it is, the path, and in brackets what is changed about
/// it. Names are escaped as `dump` does.
fn push_entry(out: &mut Vec<u8>, entry: &DiffEntry) {
    let action = entry.action.name();
    let kind = if entry.kind.is_unknown() {
        "-"
    } else {
        entry.kind.name()
    };
    out.extend_from_slice(format!("{action:<8} {kind:<9} ").as_bytes());
    match &entry.action {
        Action::Renamed { from } => {
            push_path(out, from);
            out.extend_from_slice(b" -> ");
            push_path(out, &entry.path);
        }
        Action::Linked { to } => {
            push_path(out, &entry.path);
            out.extend_from_slice(b" = ");
            push_path(out, to);
        }
        _ => push_path(out, &entry.path),
    }
    if !entry.changes.is_empty() {
        let changes: Vec<_> = entry.changes.names().collect();
        out.extend_from_slice(format!(" ({})", changes.join(", ")).as_bytes());
    }
    out.push(b'\n');
}

/// The root is `.`, which no path of a stream can be.
fn push_path(out: &mut Vec<u8>, path: &[u8]) {
    if path.is_empty() {
        out.push(b'.');
    } else {
        push_escaped(out, path);
    }
}

/// The subvolume in JSON; a line for each path follows.
#[derive(Serialize)]
struct Heading<'a> {
    action: &'static str,
    #[serde(flatten)]
    subvolume: &'a NewSubvolume,
}

fn json_heading(difference: &Difference) -> Vec<u8> {
    json::line(&Heading {
        action: "subvolume",
        subvolume: &difference.subvolume,
    })
}
