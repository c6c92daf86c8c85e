//! Every bound on what is read, its default and its reason.

use crate::wire::Version;

/// Longest payload of a version 1 command: the kernel has promised commands
/// of at most 64 KiB (`BTRFS_SEND_BUF_SIZE_V1`), ten bytes of header
/// included.
const MAX_PAYLOAD_V1: u32 = 65_536 - 10;

/// Default bound on the payload of later versions, in bytes.
///
/// The format promises no bound there. Kernels write at most 147,456 bytes a
/// command, 196,608 with 64 KiB pages; this leaves room for senders with
/// larger ones.
const DEFAULT_MAX_PAYLOAD: u32 = 16 * 1024 * 1024;

/// What a decoder or an encoder accepts.
///
/// The defaults are finite and admit everything that kernels write.
///
/// ```
/// use btrfs_sendstream::{Limits, Version};
///
/// let limits = Limits::default().with_max_payload(1024 * 1024);
/// assert_eq!(limits.max_payload(Version::V1), 65_526);
/// assert_eq!(limits.max_payload(Version::V2), 1_048_576);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    max_payload: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: DEFAULT_MAX_PAYLOAD,
        }
    }
}

impl Limits {
    /// Bounds the payload of a command, in bytes without its ten-byte
    /// header. The default is 16 MiB. Version 1 has a bound of its own,
    /// 65,526 bytes, which this can lower but not raise.
    #[must_use]
    pub fn with_max_payload(mut self, bytes: u32) -> Self {
        self.max_payload = bytes;
        self
    }

    /// The most bytes a command's payload may have in a stream of this
    /// version.
    #[inline]
    pub fn max_payload(&self, version: Version) -> u32 {
        match version {
            Version::V1 => self.max_payload.min(MAX_PAYLOAD_V1),
            Version::V2 | Version::V3 => self.max_payload,
        }
    }
}
