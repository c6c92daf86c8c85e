//! Leaves paths out of a stream and compresses the rest on its way (feature
//! `transform`).
//!
//! ```sh
//! btrfs send /snapshot | cargo run --features transform --example transform -- var/cache var/tmp > small.stream
//! ```

use std::error::Error;
use std::io;

use btrfs_sendstream::transform::{self, Filter, Rules, Transform, Upgrade};
use btrfs_sendstream::{Reader, StreamPath, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut rules = Rules::default();
    for argument in std::env::args().skip(1) {
        rules = rules.exclude(StreamPath::parse(argument.as_bytes())?);
    }
    // One after the other; any number can be put in a row.
    let mut transform = Filter::new(rules).then(Upgrade::new());
    let mut reader = Reader::new(io::stdin());
    let mut writer = Writer::new(io::stdout());
    transform::run(&mut reader, &mut transform, &mut writer)?;
    // Not flushed when it is dropped: an error would be lost.
    writer.finish()?;

    let (_, upgrade) = transform.into_parts();
    let stats = upgrade.stats();
    eprintln!(
        "{} extents compressed from {} to {} bytes",
        stats.compressed, stats.bytes_before, stats.bytes_after
    );
    Ok(())
}
