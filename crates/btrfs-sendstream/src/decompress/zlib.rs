//! zlib extents.

use flate2::{Decompress, FlushDecompress, Status};

use super::DecodeError;

const FORMAT: &str = "zlib";

/// A zlib decoder that keeps its window between extents.
pub(super) struct Zlib(Decompress);

impl Default for Zlib {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Zlib {
    /// Appends the decoded bytes to `out`, which is empty: at most `wanted`.
    pub(super) fn decode(
        &mut self,
        data: &[u8],
        wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        self.0.reset(true);
        // One byte of room more than wanted: without it the decoder stops
        // before it has compared the checksum at the end of the stream.
        out.resize(wanted + 1, 0);
        let status = self.0.decompress(data, out, FlushDecompress::Finish);
        let written = usize::try_from(self.0.total_out()).unwrap_or(usize::MAX);
        out.truncate(written.min(wanted));
        match status {
            Ok(Status::StreamEnd) => Ok(()),
            Ok(_) if written > wanted => Ok(()),
            Ok(_) => Err(DecodeError::Truncated { format: FORMAT }),
            Err(error) => Err(DecodeError::damaged(FORMAT, error)),
        }
    }
}
