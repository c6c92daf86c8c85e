//! Copies a stream to standard output and checks it on the way, so that a
//! damaged backup is found when it is stored, not when it is needed.
//!
//! ```sh
//! btrfs send snapshot | cargo run --example tee > snapshot.stream
//! ```
//!
//! The copy has the bytes of the input exactly, since they are not encoded
//! anew. It ends where damage begins.

use std::error::Error;
use std::io::{self, Read, Write};

use btrfs_sendstream::{Command, Item, Reader};

fn main() -> Result<(), Box<dyn Error>> {
    let tee = Tee {
        source: io::stdin().lock(),
        copy: io::stdout().lock(),
    };
    let mut reader = Reader::new(tee);
    let (mut commands, mut subvolumes) = (0_u64, 0_u64);
    // Each checksum, length, name and the order of commands is checked, and
    // that the input ends after an END.
    while let Some(item) = reader.next_item()? {
        if let Item::Command(command) = item {
            commands += 1;
            subvolumes += u64::from(matches!(
                command,
                Command::Subvol { .. } | Command::Snapshot { .. }
            ));
        }
    }
    eprintln!(
        "{} bytes, {commands} commands, {subvolumes} subvolumes: all in order",
        reader.consumed()
    );
    reader.into_inner().copy.flush()?;
    Ok(())
}

/// Writes what is read to `copy` as well.
struct Tee<R, W> {
    source: R,
    copy: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        if let Some(bytes) = buffer.get(..read) {
            self.copy.write_all(bytes)?;
        }
        Ok(read)
    }
}
