//! Decoding hostile extents: bounded, exact, repeatable.

use arbitrary::{Result, Unstructured};

use btrfs_sendstream::decompress::{Decompressor, MAX_UNENCODED_LEN};
use btrfs_sendstream::{Compression, EncodedWrite, StreamPath};

/// Decodes `data` as an encoded write with numbers taken from its first
/// bytes.
///
/// A decompressor that was used before must give what a new one gives, and a
/// decoded extent has exactly the length that was asked for.
pub fn decompress(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok((compression, unencoded_len, offset, file_len)) = numbers(&mut input) else {
        return;
    };
    let encoded = input.take_rest();
    let mut used = Decompressor::new();
    let formats = [
        Compression::None,
        Compression::Zlib,
        Compression::Zstd,
        Compression::Lzo { sector_size: 4096 },
    ];
    for format in formats {
        if let Ok(decoded) = used.decode(format, encoded, unencoded_len) {
            assert_eq!(decoded.len() as u64, unencoded_len);
        }
    }
    let write = EncodedWrite {
        path: StreamPath::default(),
        offset: 0,
        unencoded_file_len: file_len,
        unencoded_len,
        unencoded_offset: offset,
        compression: Some(compression),
        encryption: None,
        data: encoded,
    };
    let mut new = Decompressor::new();
    let (again, first) = (used.decode_write(&write), new.decode_write(&write));
    assert_eq!(again, first);
    if let Ok(decoded) = first {
        assert_eq!(decoded.len() as u64, file_len);
    }
}

/// Compression, length of the extent, and the part of it that is wanted:
/// most often what an extent can have.
fn numbers(input: &mut Unstructured<'_>) -> Result<(u32, u64, u64, u64)> {
    let compression = input.int_in_range(0..=8_u32)?;
    if input.ratio(1_u8, 16)? {
        return input
            .arbitrary()
            .map(|(len, offset, part)| (compression, len, offset, part));
    }
    let len = input.int_in_range(0..=MAX_UNENCODED_LEN as u64 + 1)?;
    let offset = input.int_in_range(0..=len)?;
    let part = input.int_in_range(0..=len - offset)?;
    Ok((compression, len, offset, part))
}
