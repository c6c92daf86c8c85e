//! Lists what a stream would do, one line for each command.
//!
//! ```sh
//! btrfs send --no-data snapshot | cargo run --example list
//! ```

use std::error::Error;
use std::io::{self, Write};

use btrfs_sendstream::{Command, Item, Reader};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let mut reader = Reader::new(io::stdin());
    while let Some(item) = reader.next_item()? {
        // Items are borrowed from the reader's buffer: nothing is copied,
        // however much file data goes by.
        match item {
            Item::Header(version) => writeln!(out, "a stream of version {version}")?,
            Item::Command(command) => describe(&command, &mut out)?,
            _ => {}
        }
    }
    Ok(())
}

/// Names in a stream are bytes. `Display` shows them on one line, with
/// whatever could confuse a terminal escaped.
fn describe(command: &Command<&[u8]>, out: &mut impl Write) -> io::Result<()> {
    match command {
        Command::Subvol { name, uuid, .. } => writeln!(out, "new subvolume {name} ({uuid})"),
        Command::Snapshot {
            name, parent_uuid, ..
        } => writeln!(out, "snapshot {name} of {parent_uuid}"),
        Command::Write { path, offset, data } => {
            writeln!(out, "write {path}: {} bytes at {offset}", data.len())
        }
        Command::Clone(range) => writeln!(
            out,
            "clone {}: {} bytes from {}",
            range.path, range.len, range.source_path
        ),
        Command::Rename { path, to } => writeln!(out, "rename {path} to {to}"),
        other => match other.path() {
            Some(path) => writeln!(out, "{} {path}", other.kind()),
            None => writeln!(out, "{}", other.kind()),
        },
    }
}
