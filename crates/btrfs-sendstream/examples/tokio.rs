//! Reads a stream asynchronously, and gives up if nothing arrives for a minute.
//!
//! ```sh
//! btrfs send snapshot | cargo run --example tokio --features tokio
//! ```

use std::error::Error;
use std::time::Duration;

use btrfs_sendstream::{AsyncReader, Command, Item};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut reader = AsyncReader::new(tokio::io::stdin());
    let mut commands = 0_u64;
    while let Some(item) = timeout(Duration::from_secs(60), reader.next_item()).await?? {
        if let Item::Command(command) = item {
            commands += 1;
            if matches!(command, Command::Subvol { .. } | Command::Snapshot { .. }) {
                println!("{command:?}");
            }
        }
    }
    println!("{commands} commands");
    Ok(())
}
