//! `--diff`: which paths a stream creates, changes, renames and deletes.

use std::io::{self, Write};

use btrfs_receive::diff::{Action, DiffEntry, DiffError, Differ, Difference};
use btrfs_receive::{InodeKind, NewSubvolume};
use serde::Serialize;

use crate::args::{Dump, Format};
use crate::escape::push_dump as push_escaped;
use crate::input::Input;
use crate::json;
use crate::messages::{Messages, strerror};
use crate::signals::Signal;

/// Carries out `--diff`; returns whether all of the input was understood.
pub(crate) fn command(options: &Dump, messages: &mut Messages) -> bool {
    let Some(mut input) = Input::open_or_say(options.input.as_deref(), None, messages) else {
        return false;
    };
    let mut stdout = io::stdout().lock();
    let mut differ = Differ::new(&mut input);
    let failure = loop {
        let difference = match differ.next_difference() {
            Ok(Some(difference)) => difference,
            Ok(None) => return true,
            Err(error) => break error,
        };
        match write(&difference, options.format, &mut stdout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Signal::PIPE.die();
                return false;
            }
            Err(error) => {
                messages.error(format_args!("cannot write: {}", strerror(&error)));
                return false;
            }
        }
    };
    drop(differ);
    match failure {
        DiffError::Stream(error) => messages.stream_error(&error, input.head()),
        other => messages.error(other),
    }
    false
}

/// Text is written in pieces of about this many bytes.
const FLUSH_AT: usize = 64 * 1024;

/// A heading, and a line for each path.
fn write(difference: &Difference, format: Format, to: &mut impl Write) -> io::Result<()> {
    let mut text = match format {
        Format::Json => json_heading(difference),
        _ => heading(difference),
    };
    for entry in &difference.entries {
        match format {
            Format::Json => text.extend(json::line(entry)),
            _ => push_entry(&mut text, entry),
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
/// it. Names are escaped as `--dump` does.
fn push_entry(out: &mut Vec<u8>, entry: &DiffEntry) {
    let (action, kind) = (entry.action.name(), kind(entry.kind).unwrap_or("-"));
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
    match path.is_empty() {
        true => out.push(b'.'),
        false => push_escaped(out, path),
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

/// What it is, if the stream tells.
fn kind(kind: InodeKind) -> Option<&'static str> {
    match kind {
        InodeKind::Unknown | InodeKind::NoDirectory => None,
        known => Some(known.name()),
    }
}
