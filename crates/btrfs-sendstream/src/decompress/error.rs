//! Why an encoded write cannot be decoded.

use super::{MAX_ENCODED_LEN, MAX_UNENCODED_LEN};

/// Why an encoded write cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A compression number without a meaning.
    #[error("unknown compression {number}")]
    UnknownCompression {
        /// The number in the stream.
        number: u32,
    },
    /// An encryption number other than 0; none has been defined yet.
    #[error("unknown encryption {number}")]
    Encrypted {
        /// The number in the stream.
        number: u32,
    },
    /// The decoded extent would be longer than btrfs makes any.
    #[error("decoded extent of {len} bytes, over the limit of {MAX_UNENCODED_LEN}")]
    UnencodedTooLong {
        /// Its length in bytes, as the stream states it.
        len: u64,
    },
    /// The encoded extent is longer than btrfs makes any.
    #[error("encoded extent of {len} bytes, over the limit of {MAX_ENCODED_LEN}")]
    EncodedTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The file's part is not inside the decoded extent.
    #[error("{len} bytes from {offset} of a decoded extent of {extent} bytes")]
    OutsideExtent {
        /// Where the part begins, in bytes.
        offset: u64,
        /// Bytes in the part.
        len: u64,
        /// Bytes in the decoded extent.
        extent: u64,
    },
    /// The data would lie beyond the largest offset a file can have.
    #[error("{len} bytes at offset {offset} lie beyond the largest file")]
    BeyondFile {
        /// Where in the file the data goes, in bytes.
        offset: u64,
        /// Bytes of data.
        len: u64,
    },
    /// The data ends before its stream does.
    #[error("{format} data is cut off")]
    Truncated {
        /// `zlib`, `zstd` or `LZO`.
        format: &'static str,
    },
    /// The data breaks the rules of its format, or of what btrfs uses of it.
    #[error("damaged {format} data: {reason}")]
    Damaged {
        /// `zlib`, `zstd` or `LZO`.
        format: &'static str,
        /// What is wrong, in words; not meant to be matched on.
        reason: String,
    },
}

impl DecodeError {
    pub(super) fn damaged(format: &'static str, reason: impl ToString) -> Self {
        Self::Damaged {
            format,
            reason: reason.to_string(),
        }
    }
}
