//! One extent compressed, and decoded again to be sure.

use std::panic::{AssertUnwindSafe, catch_unwind};

use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

use super::pieces::SECTOR;
use crate::command::Compression;
use crate::decompress::Decompressor;

/// What to compress with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// zstd: smaller and faster than zlib. Kernels since 4.14 read it.
    #[default]
    Zstd,
    /// zlib, which every kernel reads.
    Zlib,
}

impl Codec {
    /// The number in an encoded write.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Zlib => 1,
            Self::Zstd => 2,
        }
    }

    fn compression(self) -> Compression {
        match self {
            Self::Zlib => Compression::Zlib,
            Self::Zstd => Compression::Zstd,
        }
    }

    /// The level to use for the one that was asked for.
    pub(super) fn level(self, asked: Option<u8>) -> u8 {
        asked.unwrap_or(DEFAULT_LEVEL).clamp(1, self.max_level())
    }

    fn max_level(self) -> u8 {
        match self {
            Self::Zlib => 9,
            Self::Zstd => 15,
        }
    }
}

/// The kernel's default for both.
const DEFAULT_LEVEL: u8 = 3;

/// Compresses extents, one after the other. Stays in its thread: the encoder
/// cannot be sent to another.
pub(super) struct Compressor {
    codec: Codec,
    level: u8,
    encoder: Option<Encoder>,
    decompressor: Decompressor,
}

enum Encoder {
    Zstd(Box<FrameCompressor>),
    Zlib(Box<flate2::Compress>),
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor")
            .field("codec", &self.codec)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl Compressor {
    pub(super) fn new(codec: Codec, level: u8) -> Self {
        Self {
            codec,
            level,
            encoder: None,
            decompressor: Decompressor::new(),
        }
    }

    /// The extent compressed, or `None` if that saves no sector. What does
    /// not decode to the same bytes is not passed on either: a fault of the
    /// encoder costs space, not data.
    pub(super) fn compress(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let encoder = self.encoder.take();
        let (codec, level) = (self.codec, self.level);
        // Only an encoder that came to its end is used again. At level 1 a
        // reset leaves zlib-rs 0.6.8 inside the block that it had no room to
        // finish, and what it writes next lacks a header.
        let (encoder, encoded) = catch_unwind(AssertUnwindSafe(|| {
            let mut encoder = encoder.unwrap_or_else(|| Encoder::new(codec, level));
            let encoded = encoder.encode(data)?;
            Some((encoder, encoded))
        }))
        .ok()??;
        self.encoder = Some(encoder);
        if encoded.len().div_ceil(SECTOR) >= data.len().div_ceil(SECTOR) {
            return None;
        }
        let decoded =
            self.decompressor
                .decode(self.codec.compression(), &encoded, data.len() as u64);
        decoded
            .is_ok_and(|decoded| decoded == data)
            .then_some(encoded)
    }
}

impl Encoder {
    fn new(codec: Codec, level: u8) -> Self {
        match codec {
            Codec::Zstd => {
                let level = CompressionLevel::from_level(level.into());
                Self::Zstd(Box::new(FrameCompressor::new(level)))
            }
            Codec::Zlib => {
                let level = flate2::Compression::new(level.into());
                Self::Zlib(Box::new(flate2::Compress::new(level, true)))
            }
        }
    }

    fn encode(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => Some(encoder.compress_independent_frame(data)),
            Self::Zlib(encoder) => {
                encoder.reset();
                // More room than this is no saving.
                let mut out = Vec::with_capacity(data.len());
                let finish = flate2::FlushCompress::Finish;
                match encoder.compress_vec(data, &mut out, finish) {
                    Ok(flate2::Status::StreamEnd) => Some(out),
                    _ => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is compressed depends on the extent alone, not on what the same
    /// thread had before it: with several threads that is chance.
    #[test]
    fn an_extent_that_grew_leaves_no_trace() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        // zlib-rs runs out of room with its buffer of 64 KiB full.
        .take(65_000)
        .collect();
        let text = b"some text, again and again\n".repeat(2000);
        for codec in [Codec::Zstd, Codec::Zlib] {
            for level in 1..=codec.max_level() {
                let mut used = Compressor::new(codec, level);
                assert_eq!(used.compress(&noise), None);
                let after = used.compress(&text);
                assert!(after.is_some(), "{codec:?}, level {level}");
                let fresh = Compressor::new(codec, level).compress(&text);
                assert!(after == fresh, "{codec:?}, level {level}");
            }
        }
    }
}
