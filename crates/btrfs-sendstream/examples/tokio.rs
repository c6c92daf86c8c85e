//! Reads a stream asynchronously. The decoder does no I/O, so that any kind
//! of it will do; here it is tokio's.
//!
//! ```sh
//! btrfs send snapshot | cargo run --example tokio
//! ```

use std::error::Error;

use btrfs_sendstream::{Command, Decoded, Decoder, Item};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What is asked of the source at a time.
const CHUNK: usize = 64 * 1024;

/// What [`btrfs_sendstream::Reader`] is, for an asynchronous source.
struct AsyncReader<R> {
    source: R,
    decoder: Decoder,
    /// Bytes read and not decoded.
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> AsyncReader<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            decoder: Decoder::new(),
            buffer: BytesMut::new(),
        }
    }

    /// The next item; `None` at the end of the input, if it may end there.
    ///
    /// Can be dropped at the `await` and called again: nothing is lost.
    async fn next_item(&mut self) -> Result<Option<Item>, Box<dyn Error>> {
        loop {
            // Borrowed from the buffer, and copied once it is whole.
            match self.decoder.decode(&self.buffer)? {
                Decoded::Item { item, consumed } => {
                    let item: Item<Bytes> = item.to_owned();
                    self.buffer.advance(consumed);
                    return Ok(Some(item));
                }
                // How many bytes an item needs is what the stream claims: the
                // buffer grows with what arrives, never by that number.
                Decoded::Need { .. } => self.buffer.reserve(CHUNK),
            }
            if self.source.read_buf(&mut self.buffer).await? == 0 {
                // Only here it is known that the stream was not cut.
                self.decoder.end_of_input(&self.buffer)?;
                return Ok(None);
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut reader = AsyncReader::new(tokio::io::stdin());
    let mut commands = 0_u64;
    while let Some(item) = reader.next_item().await? {
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
