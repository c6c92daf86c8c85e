//! To version 2: data joined into extents and compressed.

mod codec;
mod ordered;
mod pieces;

use std::num::NonZeroUsize;

use bytes::Bytes;

pub use self::codec::Codec;
use self::ordered::Ordered;
use self::pieces::{Piece, Pieces};
use super::{Output, Transform, TransformError};
use crate::command::Command;
use crate::decoder::Item;
use crate::error::Position;
use crate::wire::Version;

/// Settings of an [`Upgrade`].
#[derive(Clone, Copy, Debug)]
pub struct UpgradeBuilder {
    codec: Codec,
    level: Option<u8>,
    threads: Option<NonZeroUsize>,
    holes: bool,
}

impl Default for UpgradeBuilder {
    fn default() -> Self {
        Self {
            codec: Codec::Zstd,
            level: None,
            threads: None,
            holes: true,
        }
    }
}

impl UpgradeBuilder {
    /// Sets the compression. Default: zstd.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the compression level: 1 to 15 for zstd, 1 to 9 for zlib. Higher values
    /// mean the highest. Default: 3, as in the kernel.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.level = Some(level);
        self
    }

    /// Sets the number of threads that compress, in addition to the caller's: at
    /// most 16. Default: the number of processors.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets whether zeros become holes: runs of at least 32 KiB, in whole sectors
    /// of 4 KiB. Default: `true`.
    #[must_use]
    pub fn holes(mut self, holes: bool) -> Self {
        self.holes = holes;
        self
    }

    /// Creates the transform, and starts its threads.
    pub fn build(self) -> Upgrade {
        let threads = self.threads.map_or_else(default_threads, NonZeroUsize::get);
        Upgrade {
            pieces: Pieces::new(self.holes),
            ordered: Ordered::new(self.codec, self.codec.level(self.level), threads),
            stats: UpgradeStats::default(),
        }
    }
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Statistics of an [`Upgrade`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeStats {
    /// Extents that were compressed.
    pub compressed: u64,
    /// Bytes of file data in them.
    pub bytes_before: u64,
    /// Bytes of compressed data.
    pub bytes_after: u64,
    /// Bytes of file data that were not compressed: extents that do not become
    /// smaller, and pieces that are too small.
    pub bytes_left: u64,
    /// Bytes of zeros that were replaced by holes.
    pub bytes_punched: u64,
}

/// Converts to version 2: joins adjacent WRITEs into extents of up to 128 KiB, and
/// compresses them on several threads. The order is preserved. Headers of version 2
/// and 3 and existing encoded writes are not changed.
///
/// An extent is compressed if that saves at least one sector of 4 KiB on disk;
/// otherwise it remains a WRITE. Each compressed extent is decoded by an independent
/// decoder and compared before it is passed on. As the kernel requires, an extent
/// begins on a sector boundary, and ends on one or at the end of the data, which is
/// then assumed to be the end of the file. It is not padded: the receiving kernel
/// does that.
///
/// Long runs of zeros become FALLOCATE commands, which punch holes. A hole does not
/// extend a file: if no data follows directly, the last sector of the run is written.
///
/// Memory: 6 MiB for each thread (2 MiB of input, the compressed data, and the tables
/// of the compressor and the decoder), and 1 MiB.
#[derive(Debug)]
pub struct Upgrade {
    pieces: Pieces,
    ordered: Ordered,
    stats: UpgradeStats,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self::new()
    }
}

impl Upgrade {
    /// Creates an upgrade with the default settings.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for other settings.
    pub fn builder() -> UpgradeBuilder {
        UpgradeBuilder::default()
    }

    /// Returns the statistics so far. They are complete after [`Transform::end`].
    pub fn stats(&self) -> UpgradeStats {
        let (compressed, bytes_before, bytes_after, left) = self.ordered.counts();
        UpgradeStats {
            compressed,
            bytes_before,
            bytes_after,
            bytes_left: self.stats.bytes_left + left,
            ..self.stats
        }
    }

    /// Passes on the pieces that are cut off.
    fn drain(&mut self, out: &mut dyn Output) -> Result<(), TransformError> {
        while let Some(piece) = self.pieces.next() {
            match piece {
                Piece::Extent {
                    path,
                    offset,
                    data,
                    at,
                } => self.ordered.extent(path, offset, data, at, out)?,
                Piece::Plain {
                    path,
                    offset,
                    data,
                    at,
                } => {
                    self.stats.bytes_left += data.len() as u64;
                    let write = Command::Write { path, offset, data };
                    self.ordered.item(Item::Command(write), at, out)?;
                }
                Piece::Hole {
                    path,
                    offset,
                    len,
                    at,
                } => {
                    self.stats.bytes_punched += len;
                    let punch = Command::<Bytes>::Fallocate {
                        path,
                        mode: PUNCH_HOLE_KEEP_SIZE,
                        offset,
                        len,
                    };
                    self.ordered.item(Item::Command(punch), at, out)?;
                }
            }
        }
        Ok(())
    }
}

impl Transform for Upgrade {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let item = match item {
            Item::Command(Command::Write { path, offset, data }) => {
                self.pieces.write(path, offset, data, at);
                return self.drain(out);
            }
            Item::Header(version) => Item::Header(version.max(Version::V2)),
            other => other,
        };
        self.pieces.end();
        self.drain(out)?;
        self.ordered.item(item, at, out)
    }

    fn end(&mut self, out: &mut dyn Output) -> Result<(), TransformError> {
        self.pieces.end();
        self.drain(out)?;
        self.ordered.end(out)
    }
}

/// `FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE`, the one mode that kernels
/// send.
pub(super) const PUNCH_HOLE_KEEP_SIZE: u32 = 3;
