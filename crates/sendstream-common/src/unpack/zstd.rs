//! Frames of zstd.

use std::fmt;
use std::hash::Hasher;
use std::io::Read;

use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use twox_hash::XxHash64;

use super::MAX_WINDOW;
use super::error::{Fault, Problem};
use super::source::Source;

/// A frame.
pub(super) struct Zstd {
    decoder: FrameDecoder,
    hash: XxHash64,
    /// Bytes that were unpacked.
    len: u64,
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").field("len", &self.len).finish()
    }
}

impl Zstd {
    pub(super) fn begin<R: Read>(source: &mut Source<R>) -> Result<Self, Fault> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        let result = decoder.reset(&mut *source);
        result.map_err(|error| fault(source, &error))?;
        Ok(Self {
            decoder,
            hash: XxHash64::with_seed(0),
            len: 0,
        })
    }

    pub(super) fn read<R: Read>(
        &mut self,
        source: &mut Source<R>,
        into: &mut [u8],
    ) -> Result<usize, Fault> {
        // One block at a time, whatever it contains: less than 128 KiB.
        while self.decoder.can_collect() == 0 {
            if self.decoder.is_finished() {
                return self.end();
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            let result = self.decoder.decode_blocks(&mut *source, one);
            result.map_err(|error| fault(source, &error))?;
        }
        let len = self.decoder.read(into)?;
        let bytes = into.get(..len).unwrap_or_default();
        self.hash.write(bytes);
        self.len += len as u64;
        Ok(len)
    }

    /// Verifies what the frame says about its content.
    fn end(&self) -> Result<usize, Fault> {
        // The checksum is the low half of the hash.
        let hash = self.hash.finish() as u32;
        let expected = self.decoder.get_checksum_from_data();
        if expected.is_some_and(|expected| expected != hash) {
            return Err(Fault::damaged("the checksum of a frame does not match"));
        }
        // 0 is none, too.
        let expected = self.decoder.content_size();
        if expected != 0 && expected != self.len {
            return Err(Fault::damaged("a frame does not have its length"));
        }
        Ok(0)
    }
}

fn fault<R: Read>(source: &mut Source<R>, error: &FrameDecoderError) -> Fault {
    match error {
        FrameDecoderError::WindowSizeTooBig { requested, .. } => {
            Fault::Problem(Problem::Window(*requested))
        }
        FrameDecoderError::DictNotProvided { .. } => Fault::unsupported("a dictionary"),
        FrameDecoderError::ReadFrameHeaderError(_) | FrameDecoderError::FrameHeaderError(_) => {
            source.fault(Problem::Damaged("the header of a frame is invalid"))
        }
        _ => source.fault(Problem::Damaged("a block cannot be decompressed")),
    }
}
