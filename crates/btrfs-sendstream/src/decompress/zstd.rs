//! zstd extents: one frame each.

use std::io::Read;

use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::DecodeError;

const FORMAT: &str = "zstd";

/// Largest window in bytes: btrfs compresses with a window log of at most 17
/// (`ZSTD_BTRFS_MAX_WINDOWLOG`), and the decoder allocates what the frame's
/// header asks for.
const MAX_WINDOW: u64 = 128 * 1024;

/// A zstd decoder that keeps its window and tables between extents.
pub(super) struct Zstd(FrameDecoder);

impl Default for Zstd {
    fn default() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self(decoder)
    }
}

impl Zstd {
    /// Appends the decoded bytes to `out`, which is empty: at most `wanted`.
    pub(super) fn decode(
        &mut self,
        mut data: &[u8],
        wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        self.0.reset(&mut data).map_err(error)?;
        out.resize(wanted, 0);
        let mut filled = 0;
        // One block at a time: a frame of a few bytes can hold blocks of
        // 128 KiB without end.
        while filled < wanted && !self.0.is_finished() {
            self.0
                .decode_blocks(&mut data, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(error)?;
            let room = out.get_mut(filled..).unwrap_or_default();
            filled += self
                .0
                .read(room)
                .map_err(|error| DecodeError::damaged(FORMAT, error))?;
        }
        out.truncate(filled);
        Ok(())
    }
}

fn error(error: FrameDecoderError) -> DecodeError {
    if is_end_of_input(&error) {
        DecodeError::Truncated { format: FORMAT }
    } else {
        DecodeError::damaged(FORMAT, error)
    }
}

fn is_end_of_input(error: &FrameDecoderError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::UnexpectedEof;
        }
        cause = error.source();
    }
    false
}
