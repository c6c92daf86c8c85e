//! Unpacking hostile input: it ends in the same way however it is read.

use std::io::Read;

use sendstream_common::unpack::{Decompress, Unpacked};

/// Most bytes that are unpacked: little input can become very much.
const LIMIT: usize = 1 << 20;

/// Unpacks `data` in large and in small pieces.
///
/// Both have to end well, with the same bytes, or neither. Before an error, one may
/// give less than the other.
pub fn unpack(data: &[u8]) {
    let (one, one_is_good) = read(data, 64 * 1024);
    let (other, other_is_good) = read(data, 61);
    let len = one.len().min(other.len());
    assert!(one.get(..len) == other.get(..len));
    if len < LIMIT {
        assert_eq!(one_is_good, other_is_good);
        assert!(!one_is_good || one.len() == other.len());
    }
}

/// What is read until the end, an error, or the limit, and whether there was no
/// error.
fn read(data: &[u8], at_once: usize) -> (Vec<u8>, bool) {
    let mut input = Unpacked::new(data, Decompress::Auto);
    let (mut all, mut piece) = (Vec::new(), vec![0; at_once]);
    while all.len() < LIMIT {
        match input.read(&mut piece) {
            Ok(0) => return (all, true),
            Ok(len) => all.extend_from_slice(piece.get(..len).unwrap_or_default()),
            Err(_) => return (all, false),
        }
    }
    (all, true)
}
