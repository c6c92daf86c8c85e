//! `inventory`: the subvolumes of a filesystem.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use btrfs_lineage::btrfs_sendstream::Uuid;
use btrfs_lineage::{Condition, PathsFrom, Resolver, Scope, Subvolume};
use sendstream_common::json;
use sendstream_common::text::escaped;
use sendstream_common::zone::local_time;

use crate::args::Inventory;
use crate::{Failure, say};

/// Digits of a UUID in the table.
const SHORT: usize = 8;

pub(crate) fn run(options: &Inventory) -> Result<ExitCode, Failure> {
    let failed = Failure::path(&options.path);
    let directory = File::open(&options.path).map_err(&failed)?;
    let mut builder = Resolver::builder();
    if options.below {
        builder = builder.jail(directory.try_clone().map_err(&failed)?.into());
    }
    let inventory = builder.build(&directory).map_err(&failed)?.inventory();
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if options.json {
        out.write_all(&json::line(&inventory))
    } else {
        table(&inventory, &mut out)
    };
    written
        .and_then(|()| out.flush())
        .map_err(Failure::output)?;
    for text in unseen(&inventory) {
        say(&text);
    }
    // Not even one could be looked at.
    Ok(if inventory.subvolumes.is_empty() && !inventory.complete {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What an inventory does not show, a sentence each.
pub(crate) fn unseen(inventory: &btrfs_lineage::Inventory) -> Vec<String> {
    let mut said = Vec::new();
    if inventory.searched == Scope::Mount {
        said.push(
            "only subvolumes within this mount are listed: the others need CAP_DAC_READ_SEARCH"
                .to_owned(),
        );
    }
    match (inventory.searched, inventory.unseen) {
        // Each was said where it was found.
        (Scope::Streams, _) => {}
        (_, 1) => said.push("1 more subvolume could not be opened".to_owned()),
        (_, 2..) => said.push(format!(
            "{} more subvolumes could not be opened",
            inventory.unseen
        )),
        (Scope::Mount, 0) => {}
        (_, 0) if !inventory.complete => {
            said.push("not every subvolume could be listed".to_owned());
        }
        (_, 0) => {}
    }
    let unknown = |it: &&Subvolume| {
        it.condition == Condition::Complete && it.changed_since_received.is_none()
    };
    let unknown = inventory.subvolumes.iter().filter(unknown).count();
    if unknown > 0 {
        said.push(format!(
            "whether {} changed after the receive is not known: to find out takes CAP_SYS_ADMIN",
            match unknown {
                1 => "1 subvolume was".to_owned(),
                _ => format!("{unknown} subvolumes were"),
            }
        ));
    }
    said
}

fn table(inventory: &btrfs_lineage::Inventory, out: &mut impl Write) -> io::Result<()> {
    let mut clock = local_time(true);
    let mut created = |subvolume: &Subvolume| {
        let seconds = subvolume.state.otime.seconds;
        if seconds == 0 {
            return "-".to_owned();
        }
        let mut text = Vec::new();
        clock.push(&mut text, seconds);
        // To the minute.
        let minute = text.get(..16).unwrap_or_default();
        String::from_utf8_lossy(minute).replace('T', " ")
    };
    let mut rows = vec![
        [
            "ID", "STATE", "CREATED", "UUID", "PARENT", "RECEIVED", "PATH",
        ]
        .map(str::to_owned),
    ];
    for subvolume in &inventory.subvolumes {
        let state = &subvolume.state;
        rows.push([
            subvolume.id.to_string(),
            word(subvolume).to_owned(),
            created(subvolume),
            short(state.uuid),
            short(state.parent_uuid),
            short(state.received_uuid),
            path(subvolume),
        ]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    for row in &rows {
        let [id, cells @ .., path] = row;
        write!(out, "{id:>width$}", width = widths[0])?;
        for (cell, width) in cells.iter().zip(widths.iter().skip(1)) {
            write!(out, "  {cell:width$}")?;
        }
        writeln!(out, "  {path}")?;
    }
    let from = match inventory.paths_from {
        PathsFrom::Mount => "Paths begin at the root of the mount.",
        PathsFrom::Directory => "Paths begin at the directory given.",
        _ => return Ok(()),
    };
    writeln!(out, "\n{from}")
}

/// The state of a subvolume, in the table.
fn word(subvolume: &Subvolume) -> &'static str {
    match (subvolume.condition, subvolume.changed_since_received) {
        (Condition::Complete, Some(false)) => "received",
        (Condition::Complete, Some(true)) => "changed",
        (Condition::Complete, None) => "changed?",
        (Condition::ReadOnly, _) => "read-only",
        (Condition::Writable, _) => "writable",
        (Condition::WritableReceived, _) => "writable, received",
        (Condition::Unfinished, _) => "unfinished",
        (_, _) => "?",
    }
}

fn short(uuid: Uuid) -> String {
    if uuid.is_nil() {
        return "-".to_owned();
    }
    let mut text = uuid.to_string();
    text.truncate(SHORT);
    text
}

/// A path as text; that of the top level is a slash.
pub(crate) fn path(subvolume: &Subvolume) -> String {
    match subvolume.path.as_deref() {
        None => "?".to_owned(),
        Some(b"") => "/".to_owned(),
        Some(path) => escaped(path),
    }
}
