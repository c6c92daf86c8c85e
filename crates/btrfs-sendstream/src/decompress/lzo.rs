//! LZO extents in btrfs's segment layout (`fs/btrfs/lzo.c`).
//!
//! A little-endian u32 holds the total length, itself included. Segments
//! follow: a u32 length and that many bytes of LZO1X, which decode to at
//! most one sector. The four bytes of a length never cross a sector boundary
//! of the encoded data: where fewer than four are left, they are padding.

use super::{DecodeError, lzo1x};

const FORMAT: &str = "LZO";

/// Bytes of a length field.
const LENGTH: usize = 4;

/// Appends the decoded bytes to `out`, which is empty: at most `wanted`.
pub(super) fn decode(
    data: &[u8],
    wanted: usize,
    sector_size: u32,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let sector = usize::try_from(sector_size)
        .ok()
        .filter(|size| size.is_power_of_two() && (4096..=65536).contains(size))
        .ok_or_else(|| DecodeError::damaged(FORMAT, format!("sector size {sector_size}")))?;
    let total = length_at(data, 0)?;
    if total < LENGTH {
        let error = format!("a total length of {total} bytes");
        return Err(DecodeError::damaged(FORMAT, error));
    }
    let data = data
        .get(..total)
        .ok_or(DecodeError::Truncated { format: FORMAT })?;

    let mut position = LENGTH;
    while out.len() < wanted {
        let left_in_sector = sector - position % sector;
        if left_in_sector < LENGTH {
            position += left_in_sector;
        }
        if position >= data.len() {
            break;
        }
        let start = position + LENGTH;
        let end = start.saturating_add(length_at(data, position)?);
        let segment = data.get(start..end).ok_or_else(|| {
            DecodeError::damaged(FORMAT, "a segment is longer than what holds it")
        })?;
        lzo1x::decode(segment, sector, out)
            .map_err(|reason| DecodeError::damaged(FORMAT, reason))?;
        position = end;
    }
    out.truncate(wanted);
    Ok(())
}

fn length_at(data: &[u8], position: usize) -> Result<usize, DecodeError> {
    let field = data
        .get(position..)
        .and_then(|rest| rest.first_chunk::<LENGTH>())
        .ok_or(DecodeError::Truncated { format: FORMAT })?;
    usize::try_from(u32::from_le_bytes(*field))
        .map_err(|_| DecodeError::damaged(FORMAT, "a length is too large"))
}
