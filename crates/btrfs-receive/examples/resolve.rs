//! Says which subvolume of a filesystem would be the parent of an
//! incremental stream, and why the others would not; receives nothing.
//!
//! ```sh
//! btrfs send --no-data -p old new | cargo run --example resolve -- /backup
//! ```

use std::error::Error;
use std::fs::File;
use std::io;

use btrfs_receive::SourceId;
use btrfs_receive::btrfs_lineage::Resolver;
use btrfs_receive::btrfs_sendstream::{Command, Item, Reader};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("a directory is missing")?;
    let mut resolver = Resolver::new(File::open(directory)?)?;
    let mut reader = Reader::new(io::stdin());
    while let Some(item) = reader.next_item()? {
        let Item::Command(Command::Snapshot {
            name,
            parent_uuid,
            parent_ctransid,
            ..
        }) = item
        else {
            continue;
        };
        let wanted = SourceId {
            uuid: parent_uuid,
            ctransid: parent_ctransid,
        };
        println!("{name} needs {parent_uuid}:");
        // The best comes first; what cannot serve says why.
        let survey = resolver.survey(wanted);
        for candidate in &survey.candidates {
            println!("  {candidate}");
        }
        if !survey.is_exhaustive() {
            println!("  there may be more: {:?} would show", survey.missing);
        }
        // The error has several lines, and ends with what to do.
        let source = resolver.resolve(wanted)?;
        println!("  chosen: subvolume {}", source.id());
    }
    Ok(())
}
