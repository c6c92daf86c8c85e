//! The send stream's CRC-32C: Castagnoli polynomial, register from zero, no
//! final inversion.
//!
//! The usual CRC-32C inverts before and after, so starting it at all ones
//! and inverting its result undoes both. Because the register starts at
//! zero, leading zero bytes do not change the checksum, and a command header
//! of ten zero bytes passes: command 0 has to be refused by number.

use super::COMMAND_HEADER_LEN;

/// Checksum of a command: `header` with its checksum bytes zero, then the
/// payload.
#[inline]
pub(crate) fn of_command(header: [u8; COMMAND_HEADER_LEN], payload: &[u8]) -> u32 {
    // Kept in the library's inverted form between the two calls.
    !crc32c::crc32c_append(crc32c::crc32c_append(u32::MAX, &header), payload)
}

#[cfg(test)]
mod tests {
    use crate::wire::CommandHeader;

    #[test]
    fn raw_register_starts_at_zero() {
        assert_eq!(!crc32c::crc32c_append(u32::MAX, b"123456789"), 0x58E3_FA20);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn commands_of_real_streams() {
        let vectors: [&[u8]; 4] = [
            b"\x00\x00\x00\x00\x15\x00\x50\x6c\xc9\x9d",
            b"\x11\x00\x00\x00\x11\x00\xe6\x04\x5d\x46\x0f\x00\x01\x00a\
              \x04\x00\x08\x00\x05\0\0\0\0\0\0\0",
            b"\x1a\x00\x00\x00\x0f\x00\x4c\x0b\xe8\xc7\x0f\x00\x01\x00f\
              \x12\x00\x08\x00\0\0\0\0\0\0\0\0\x13\x00\x05\x00hello",
            b"\x18\x00\x00\x00\x0f\x00\xdf\x33\xcc\x1f\x0f\x00\x01\x00f\
              \x12\x00\x08\x00\0\0\0\0\0\0\0\0\x13\x00hello",
        ];
        for vector in vectors {
            let header = CommandHeader::read(vector).unwrap();
            assert_eq!(header.checksum(&vector[10..]), header.crc);
            assert_eq!(header.len as usize, vector.len() - 10);
        }
    }

    #[test]
    fn zero_header_passes() {
        let header = CommandHeader::read(&[0; 10]).unwrap();
        assert_eq!(header.checksum(b""), 0);
    }
}
