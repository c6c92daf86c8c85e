//! Drives a receive command by command, into a model in memory: for programs
//! that have their own way of reading, or do something else in between.
//!
//! ```sh
//! btrfs send snapshot | cargo run --example step-by-step
//! ```

use std::error::Error;
use std::io;

use btrfs_receive::btrfs_sendstream::{Item, Reader};
use btrfs_receive::memory::MemoryDestination;
use btrfs_receive::{Flow, Receiver, StopReason};

fn main() -> Result<(), Box<dyn Error>> {
    let mut reader = Reader::new(io::stdin());
    let mut receiver = Receiver::new(MemoryDestination::new());
    loop {
        let item = match reader.next_owned() {
            Ok(Some(item)) => item,
            Ok(None) => break,
            // What is under construction is given up, and the error holds
            // the report of what was done.
            Err(error) => return Err(receiver.abort(StopReason::Stream(error), &mut ()).into()),
        };
        if let Item::Command(command) = &item {
            println!("{}: {}", reader.position(), command.kind());
        }
        if receiver.item(item, reader.position(), &mut ())? == Flow::Done {
            break;
        }
    }
    let report = receiver.end(&mut ())?;
    for subvolume in receiver.destination().subvolumes() {
        println!(
            "{}: {} names",
            subvolume.name().escape_ascii(),
            subvolume.tree().entries().count()
        );
    }
    println!("{} finished", report.finished);
    Ok(())
}
