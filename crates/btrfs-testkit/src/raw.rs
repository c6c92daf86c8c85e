//! Send streams put together byte by byte, also such as no encoder writes.
//!
//! Independent of the codec under test: the checksum, the framing and the
//! numbers are written down here once more.

/// The UUID that [`RawStream::subvol`] gives.
pub const OWN_UUID: [u8; 16] = [0x5a; 16];

/// A UUID that no subvolume has.
pub const UNKNOWN_UUID: [u8; 16] = [0xa5; 16];

/// An attribute: number and value.
pub type Attr = (u16, Vec<u8>);

/// Attributes by name.
pub mod attr {
    use super::Attr;

    macro_rules! bytes {
        ($($name:ident = $number:literal;)*) => {
            $(
                #[doc = concat!("Attribute ", $number, ": bytes.")]
                pub fn $name(value: impl AsRef<[u8]>) -> Attr {
                    ($number, value.as_ref().to_vec())
                }
            )*
        };
    }

    macro_rules! numbers {
        ($($name:ident = $number:literal, $type:ty;)*) => {
            $(
                #[doc = concat!("Attribute ", $number, ": ", stringify!($type), ".")]
                pub fn $name(value: $type) -> Attr {
                    ($number, value.to_le_bytes().to_vec())
                }
            )*
        };
    }

    bytes! {
        uuid = 1;
        xattr_name = 13;
        xattr_data = 14;
        path = 15;
        path_to = 16;
        path_link = 17;
        data = 19;
        clone_uuid = 20;
        clone_path = 22;
        verity_salt = 34;
        verity_signature = 35;
    }

    numbers! {
        ctransid = 2, u64;
        ino = 3, u64;
        size = 4, u64;
        mode = 5, u64;
        uid = 6, u64;
        gid = 7, u64;
        rdev = 8, u64;
        file_offset = 18, u64;
        clone_ctransid = 21, u64;
        clone_offset = 23, u64;
        clone_len = 24, u64;
        fallocate_mode = 25, u32;
        fileattr = 26, u64;
        unencoded_file_len = 27, u64;
        unencoded_len = 28, u64;
        unencoded_offset = 29, u64;
        compression = 30, u32;
        encryption = 31, u32;
        verity_algorithm = 32, u8;
        verity_block_size = 33, u32;
    }

    /// Attributes 11, 10 and 9, all with the same seconds and nanoseconds.
    pub fn times(seconds: i64, nanoseconds: u32) -> [Attr; 3] {
        [11, 10, 9].map(|number| (number, timespec(seconds, nanoseconds)))
    }

    /// The value of a time.
    pub fn timespec(seconds: i64, nanoseconds: u32) -> Vec<u8> {
        [&seconds.to_le_bytes()[..], &nanoseconds.to_le_bytes()].concat()
    }
}

/// Where a stream's defect begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the stream in the input, from 1; 0 before any header.
    pub stream: u64,
    /// Number of the command in its stream, from 1; 0 for a header.
    pub command: u64,
    /// Bytes of input before it.
    pub offset: u64,
}

/// A stream under construction.
#[derive(Clone, Debug, Default)]
pub struct RawStream {
    bytes: Vec<u8>,
    version: u32,
    next: Place,
    marked: Place,
}

impl RawStream {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A header of this version.
    pub fn header(version: u32) -> Self {
        Self::empty().next_header(version)
    }

    /// A header, and SUBVOL for a subvolume called `s`.
    pub fn new(version: u32) -> Self {
        Self::header(version).subvol("s")
    }

    /// One more header.
    pub fn next_header(mut self, version: u32) -> Self {
        self.bytes.extend(b"btrfs-stream\0");
        self.bytes.extend(version.to_le_bytes());
        self.version = version;
        self.next.stream += 1;
        self.next.command = 1;
        self
    }

    /// Says that the defect begins here.
    pub fn here(mut self) -> Self {
        self.marked = Place {
            offset: self.bytes.len() as u64,
            ..self.next
        };
        self
    }

    /// Where the defect begins.
    pub fn marked(&self) -> Place {
        self.marked
    }

    /// The bytes so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends bytes as they are.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// Drops everything but the first `len` bytes behind the mark.
    pub fn cut(mut self, len: usize) -> Self {
        let marked = usize::try_from(self.marked.offset).expect("fits memory");
        self.bytes.truncate(marked + len);
        self
    }

    /// Changes a byte, counted from the mark.
    pub fn flip(mut self, index: usize) -> Self {
        let marked = usize::try_from(self.marked.offset).expect("fits memory");
        self.bytes[marked + index] ^= 0x01;
        self
    }

    /// A command with a right checksum.
    pub fn command(self, number: u16, attributes: impl IntoIterator<Item = Attr>) -> Self {
        let mut payload = Vec::new();
        for (number, value) in attributes {
            payload.extend(number.to_le_bytes());
            // From version 2 on, file data has no length.
            if self.version < 2 || number != 19 {
                let len = u16::try_from(value.len()).expect("a short value");
                payload.extend(len.to_le_bytes());
            }
            payload.extend(value);
        }
        self.payload(number, &payload)
    }

    /// A command with this payload and a right checksum.
    pub fn payload(mut self, number: u16, payload: &[u8]) -> Self {
        let len = u32::try_from(payload.len()).expect("a short payload");
        let mut header = len.to_le_bytes().to_vec();
        header.extend(number.to_le_bytes());
        let blank = [&header[..], &[0; 4], payload].concat();
        self.bytes.extend(&header);
        self.bytes.extend(crc32c(&blank).to_le_bytes());
        self.bytes.extend(payload);
        self.next.command += 1;
        self
    }

    /// SUBVOL.
    pub fn subvol(self, name: impl AsRef<[u8]>) -> Self {
        let attributes = [attr::path(name), attr::uuid(OWN_UUID), attr::ctransid(5)];
        self.command(1, attributes)
    }

    /// MKFILE.
    pub fn mkfile(self, path: impl AsRef<[u8]>) -> Self {
        self.command(3, [attr::path(path), attr::ino(300)])
    }

    /// MKDIR.
    pub fn mkdir(self, path: impl AsRef<[u8]>) -> Self {
        self.command(4, [attr::path(path), attr::ino(300)])
    }

    /// MKNOD, MKFIFO or MKSOCK.
    pub fn special(self, number: u16, path: impl AsRef<[u8]>, mode: u64, rdev: u64) -> Self {
        let attributes = [
            attr::path(path),
            attr::ino(300),
            attr::rdev(rdev),
            attr::mode(mode),
        ];
        self.command(number, attributes)
    }

    /// SYMLINK.
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let attributes = [attr::path(path), attr::ino(300), attr::path_link(target)];
        self.command(8, attributes)
    }

    /// RENAME.
    pub fn rename(self, path: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        self.command(9, [attr::path(path), attr::path_to(to)])
    }

    /// WRITE.
    pub fn write(self, path: impl AsRef<[u8]>, offset: u64, data: &[u8]) -> Self {
        let attributes = [
            attr::path(path),
            attr::file_offset(offset),
            attr::data(data),
        ];
        self.command(15, attributes)
    }

    /// CLONE of 4,096 bytes from offset 0 to offset 0.
    pub fn clone_block(
        self,
        path: impl AsRef<[u8]>,
        uuid: [u8; 16],
        source: impl AsRef<[u8]>,
    ) -> Self {
        self.clone_range(path, 0, 4096, (uuid, source.as_ref(), 0))
    }

    /// CLONE; the source is UUID, path and offset.
    pub fn clone_range(
        self,
        path: impl AsRef<[u8]>,
        offset: u64,
        len: u64,
        (uuid, source, source_offset): ([u8; 16], &[u8], u64),
    ) -> Self {
        let attributes = [
            attr::file_offset(offset),
            attr::clone_len(len),
            attr::path(path),
            attr::clone_uuid(uuid),
            attr::clone_ctransid(5),
            attr::clone_path(source),
            attr::clone_offset(source_offset),
        ];
        self.command(16, attributes)
    }

    /// ENCODED_WRITE at offset 0: lengths are those of the file and of the
    /// extent, then the offset in the extent.
    pub fn encoded(
        self,
        path: impl AsRef<[u8]>,
        [file_len, len, offset]: [u64; 3],
        [compression, encryption]: [u32; 2],
        data: &[u8],
    ) -> Self {
        let attributes = [
            attr::path(path),
            attr::file_offset(0),
            attr::unencoded_file_len(file_len),
            attr::unencoded_len(len),
            attr::unencoded_offset(offset),
            attr::compression(compression),
            attr::encryption(encryption),
            attr::data(data),
        ];
        self.command(25, attributes)
    }

    /// UTIMES.
    pub fn utimes(self, path: impl AsRef<[u8]>, seconds: i64, nanoseconds: u32) -> Self {
        let times = attr::times(seconds, nanoseconds);
        self.command(20, [attr::path(path)].into_iter().chain(times))
    }

    /// END.
    pub fn end(self) -> Self {
        self.command(21, [])
    }
}

/// CRC-32C as send streams have it: register 0 at the start, not inverted.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |register: u32, &byte| {
        (0..8).fold(register ^ u32::from(byte), |register, _| {
            (register >> 1) ^ (0x82F6_3B78 * (register & 1))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_kernels() {
        assert_eq!(crc32c(b"123456789"), 0x58E3_FA20);
        let end = RawStream::empty().end().into_bytes();
        assert_eq!(end, b"\0\0\0\0\x15\0\x50\x6c\xc9\x9d");
    }
}
