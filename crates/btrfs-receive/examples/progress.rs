//! Receives standard input into a directory of a mounted btrfs, and prints on
//! standard error what happens.
//!
//! ```sh
//! btrfs send snapshot | cargo run --example progress -- /backup
//! ```

use std::error::Error;
use std::io;

use btrfs_receive::{BtrfsDestination, Event, Receiver};

/// Prints an event.
fn print(event: Event<'_>) {
    match event {
        Event::SubvolumeCreated { new, parent: None } => eprintln!("receiving {}", new.name),
        Event::SubvolumeCreated {
            new,
            parent: Some(parent),
        } => eprintln!(
            "receiving {} onto subvolume {}",
            new.name, parent.subvolume_id
        ),
        Event::Progress { totals, .. } => eprintln!(
            "{} MiB, {} files, {} MiB written",
            totals.bytes >> 20,
            totals.files,
            totals.written >> 20
        ),
        Event::Failed(failure) => eprintln!("failed: {failure}"),
        Event::SubvolumeFinished(subvolume) => {
            eprintln!("{} is complete and on disk", subvolume.name);
        }
        Event::SubvolumeAbandoned(subvolume) => {
            eprintln!("{} is incomplete; delete it", subvolume.name);
        }
        _ => {}
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("a directory is missing")?;
    let mut receiver = Receiver::new(BtrfsDestination::open(directory)?);
    // An error says what failed first, and where in the stream.
    let report = receiver.receive(io::stdin(), &mut print)?;
    println!("{} subvolumes, {} bytes", report.finished, report.bytes);
    Ok(())
}
