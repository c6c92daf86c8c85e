//! Drives a receive command by command, into a plain directory: for programs
//! that have their own way of reading, or do something else in between.
//!
//! ```sh
//! btrfs send snapshot | cargo run --example step-by-step -- /tmp/extracted
//! ```

use std::error::Error;
use std::io;

use btrfs_receive::btrfs_sendstream::{Item, Reader};
use btrfs_receive::{DirectoryDestination, Flow, Receiver, StopReason};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("a directory is missing")?;
    let mut reader = Reader::new(io::stdin());
    let mut receiver = Receiver::new(DirectoryDestination::open(directory)?);
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
    for subvolume in &report.subvolumes {
        println!("{}: {} commands", subvolume.name, subvolume.commands);
    }
    println!("{} finished", report.finished);
    Ok(())
}
