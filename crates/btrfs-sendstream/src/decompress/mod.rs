//! Decoding of encoded writes: zlib, zstd and btrfs's LZO segments (feature
//! `decompress`).
//!
//! An [`EncodedWrite`] carries an extent as the sender's disk holds it. A
//! [`Decompressor`] gives the bytes of the file: where a destination cannot
//! take the extent as it is, and wherever content is to be looked at. Input
//! is hostile: sizes are checked before anything is allocated, and output is
//! bounded. Pure computation in pure Rust.

mod error;
mod lzo;
mod lzo1x;
#[cfg(test)]
mod tests;
mod zlib;
mod zstd;

use crate::command::{Compression, EncodedWrite};

pub use error::DecodeError;

/// Longest decoded extent in bytes (`BTRFS_MAX_UNCOMPRESSED` in the kernel's
/// `fs/btrfs/compression.h`): btrfs never compresses more at once, and its
/// own encoded write refuses more.
pub const MAX_UNENCODED_LEN: usize = 128 * 1024;

/// Longest encoded extent in bytes: as long as a decoded one
/// (`BTRFS_MAX_COMPRESSED`), and one sector of the largest size more, for
/// padding of extents that did not shrink.
pub const MAX_ENCODED_LEN: usize = MAX_UNENCODED_LEN + 64 * 1024;

/// Decodes the data of encoded writes, one after another.
///
/// Keeps its buffers and tables between calls; after the first call of each
/// format it allocates nothing. Uses at most 2 MiB.
#[derive(Default)]
pub struct Decompressor {
    out: Vec<u8>,
    zlib: Option<zlib::Zlib>,
    zstd: Option<zstd::Zstd>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    /// A decompressor that has allocated nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes one extent to exactly `unencoded_len` bytes.
    ///
    /// A shorter result is filled up with zeros and a longer one is cut, as
    /// the kernel does when it reads such an extent. Whatever follows the
    /// end of the zlib or zstd stream or of the LZO segments is padding and
    /// is ignored.
    ///
    /// # Errors
    /// `unencoded_len` is over [`MAX_UNENCODED_LEN`] or `data` longer than
    /// [`MAX_ENCODED_LEN`]; or the data is not what `compression` says.
    pub fn decode(
        &mut self,
        compression: Compression,
        data: &[u8],
        unencoded_len: u64,
    ) -> Result<&[u8], DecodeError> {
        let wanted = usize::try_from(unencoded_len)
            .ok()
            .filter(|&len| len <= MAX_UNENCODED_LEN)
            .ok_or(DecodeError::UnencodedTooLong { len: unencoded_len })?;
        if data.len() > MAX_ENCODED_LEN {
            return Err(DecodeError::EncodedTooLong { len: data.len() });
        }
        self.out.clear();
        match compression {
            Compression::None => {
                let taken = data.get(..wanted).unwrap_or(data);
                self.out.extend_from_slice(taken);
            }
            Compression::Zlib => {
                self.zlib
                    .get_or_insert_default()
                    .decode(data, wanted, &mut self.out)?
            }
            Compression::Zstd => {
                self.zstd
                    .get_or_insert_default()
                    .decode(data, wanted, &mut self.out)?
            }
            Compression::Lzo { sector_size } => {
                lzo::decode(data, wanted, sector_size, &mut self.out)?;
            }
        }
        self.out.resize(wanted, 0);
        Ok(&self.out)
    }

    /// Decodes an encoded write to the bytes that belong at its `offset` in
    /// the file, `unencoded_file_len` of them.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode) and [`place`], and a compression or
    /// encryption that has no meaning.
    pub fn decode_write<B: AsRef<[u8]>>(
        &mut self,
        write: &EncodedWrite<B>,
    ) -> Result<&[u8], DecodeError> {
        if let Some(number) = write.encryption.filter(|&number| number != 0) {
            return Err(DecodeError::Encrypted { number });
        }
        let number = write.compression.unwrap_or(0);
        let compression =
            Compression::from_number(number).ok_or(DecodeError::UnknownCompression { number })?;
        file_range(write)?;
        let decoded = self.decode(compression, write.data.as_ref(), write.unencoded_len)?;
        place(write, decoded)
    }
}

/// Takes the file's part out of a decoded extent: `unencoded_file_len` bytes
/// from `unencoded_offset`, which belong at `offset` in the file.
///
/// `decoded` is the whole extent as [`Decompressor::decode`] returns it.
///
/// # Errors
/// The part lies outside the extent, or its place in the file beyond
/// `i64::MAX`, the largest offset a file can have. (The kernel's encoded
/// write refuses the same.)
pub fn place<'a, B: AsRef<[u8]>>(
    write: &EncodedWrite<B>,
    decoded: &'a [u8],
) -> Result<&'a [u8], DecodeError> {
    let (start, end) = file_range(write)?;
    usize::try_from(start)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(start, end)| decoded.get(start..end))
        .ok_or(outside(write))
}

/// Where in the decoded extent the file's part begins and ends.
fn file_range<B: AsRef<[u8]>>(write: &EncodedWrite<B>) -> Result<(u64, u64), DecodeError> {
    write
        .offset
        .checked_add(write.unencoded_file_len)
        .filter(|&end| end <= i64::MAX as u64)
        .ok_or(DecodeError::BeyondFile {
            offset: write.offset,
            len: write.unencoded_file_len,
        })?;
    let end = write
        .unencoded_offset
        .checked_add(write.unencoded_file_len)
        .filter(|&end| end <= write.unencoded_len)
        .ok_or(outside(write))?;
    Ok((write.unencoded_offset, end))
}

fn outside<B: AsRef<[u8]>>(write: &EncodedWrite<B>) -> DecodeError {
    DecodeError::OutsideExtent {
        offset: write.unencoded_offset,
        len: write.unencoded_file_len,
        extent: write.unencoded_len,
    }
}
