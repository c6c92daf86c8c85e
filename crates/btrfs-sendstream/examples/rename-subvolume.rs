//! Gives the subvolume in a stream another name; everything else stays as it
//! is, byte by byte but for the checksum.
//!
//! ```sh
//! cargo run --example rename-subvolume -- NAME < old.stream > new.stream
//! ```

use std::error::Error;
use std::io;

use btrfs_sendstream::{Command, Item, Reader, SubvolumeName, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args().nth(1).ok_or("a name is missing")?;
    let name = SubvolumeName::parse(argument.as_bytes())?;

    let mut reader = Reader::new(io::stdin());
    let mut writer = Writer::new(io::stdout());
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Command(Command::Subvol { uuid, ctransid, .. }) => {
                writer.command(&Command::Subvol {
                    name,
                    uuid,
                    ctransid,
                })?;
            }
            Item::Command(Command::Snapshot {
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
                ..
            }) => writer.command(&Command::Snapshot {
                name,
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
            })?,
            // The encoder gives back the bytes that were decoded.
            other => writer.item(&other)?,
        }
    }
    // Not flushed when it is dropped: an error would be lost.
    writer.finish()?;
    Ok(())
}
