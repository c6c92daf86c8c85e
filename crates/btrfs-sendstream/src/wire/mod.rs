//! Numbers and fixed layouts of the wire format, below commands.

pub(crate) mod attribute;
pub(crate) mod crc;
pub(crate) mod cursor;

use std::fmt;

use cursor::Cursor;

/// What every stream begins with (`BTRFS_SEND_STREAM_MAGIC`): twelve letters
/// and a NUL.
pub(crate) const MAGIC: [u8; 13] = *b"btrfs-stream\0";

/// Bytes of a stream header: the magic and a 32-bit version.
pub(crate) const STREAM_HEADER_LEN: usize = MAGIC.len() + 4;

/// Bytes of a command header: length, number, checksum.
pub(crate) const COMMAND_HEADER_LEN: usize = 10;

/// Number of the command that ends a stream.
pub(crate) const END: u16 = 21;

/// A version of the stream format.
///
/// Version 1 came with Linux 3.6, version 2 with 6.0; version 3 exists only
/// in kernels built with experimental btrfs features. Another version brings
/// other commands, so it also brings another major version of this crate:
/// this list is complete on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Version {
    /// Commands 1 to 22, attributes 1 to 24, commands of at most 64 KiB.
    V1 = 1,
    /// Adds commands 23 to 25, attributes 25 to 31 and data of any length.
    V2 = 2,
    /// Adds command 26 and attributes 32 to 35.
    V3 = 3,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: &'static [Self] = &[Self::V1, Self::V2, Self::V3];

    /// The number in the stream header.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Version {
    /// Writes the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// The ten bytes before a command's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandHeader {
    /// Bytes of payload, without these ten.
    pub(crate) len: u32,
    pub(crate) number: u16,
    pub(crate) crc: u32,
}

impl CommandHeader {
    /// Reads a header from the front of `input`, if ten bytes are there.
    pub(crate) fn read(input: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(input);
        Some(Self {
            len: cursor.u32()?,
            number: cursor.u16()?,
            crc: cursor.u32()?,
        })
    }

    pub(crate) fn encode(self) -> [u8; COMMAND_HEADER_LEN] {
        let [l0, l1, l2, l3] = self.len.to_le_bytes();
        let [n0, n1] = self.number.to_le_bytes();
        let [c0, c1, c2, c3] = self.crc.to_le_bytes();
        [l0, l1, l2, l3, n0, n1, c0, c1, c2, c3]
    }

    /// The checksum that belongs to this header with `payload`, whatever
    /// [`CommandHeader::crc`] says.
    pub(crate) fn checksum(self, payload: &[u8]) -> u32 {
        crc::of_command(Self { crc: 0, ..self }.encode(), payload)
    }
}

/// Where a stream header stands in `bytes`, if one does: the magic followed
/// by a version that exists, or by the end of `bytes`.
pub(crate) fn find_stream_header(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(MAGIC.len())
        .enumerate()
        .find_map(|(at, window)| {
            if window != MAGIC {
                return None;
            }
            let mut rest = Cursor::new(bytes.get(at + MAGIC.len()..)?);
            match rest.u32() {
                Some(number) if Version::try_from(number).is_err() => None,
                _ => Some(at),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_reads_back() {
        let header = CommandHeader {
            len: 0x0403_0201,
            number: 0x0605,
            crc: 0x0a09_0807,
        };
        assert_eq!(header.encode(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(CommandHeader::read(&header.encode()), Some(header));
        assert_eq!(CommandHeader::read(&[0; 9]), None);
    }

    #[test]
    fn finds_a_header_among_other_bytes() {
        assert_eq!(find_stream_header(b"btrfs-stream\0\x01\0\0\0"), Some(0));
        assert_eq!(find_stream_header(b"xxbtrfs-stream\0\x01"), Some(2));
        assert_eq!(find_stream_header(b"btrfs-stream\0\x09\0\0\0"), None);
        assert_eq!(find_stream_header(b"btrfs-stream"), None);
    }

    #[test]
    fn only_three_versions_exist() {
        for &version in Version::ALL {
            assert_eq!(Version::try_from(version.number()).unwrap(), version);
        }
        for number in [0, 4, u32::MAX] {
            assert!(Version::try_from(number).is_err());
        }
    }
}
