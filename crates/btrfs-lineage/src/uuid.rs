//! The UUID tree: from a UUID to the subvolumes that have it.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use rustix::io::Result;
use uuid::Uuid;

use btrfs_ioctl::{self as sys, Key};

/// Every subvolume that the UUID tree has for `uuid`, as received UUID or as
/// its own, the former first; without repetition.
///
/// One item can hold thousands of ids: 2,032 with 16 KiB nodes. Read-only
/// snapshots beyond that exist without being in the tree.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOENT` if there is no UUID tree.
pub(super) fn subvolumes(fd: impl AsFd, uuid: Uuid) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for kind in [sys::UUID_RECEIVED_SUBVOLUME, sys::UUID_SUBVOLUME] {
        let key = key(uuid, kind);
        sys::tree_search(&fd, sys::UUID_TREE, key, key, |item| {
            let (words, _) = item.data.as_chunks::<8>();
            ids.extend(words.iter().copied().map(u64::from_le_bytes));
            ControlFlow::Continue(())
        })?;
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}

fn key(uuid: Uuid, item_type: u8) -> Key {
    let bytes = uuid.as_u128().to_be_bytes();
    let (words, _) = bytes.as_chunks::<8>();
    let word = |at: usize| words.get(at).copied().map_or(0, u64::from_le_bytes);
    Key {
        objectid: word(0),
        item_type,
        offset: word(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_the_halves_of_the_uuid_little_endian() {
        let uuid = Uuid::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let key = key(uuid, 251);
        assert_eq!(key.objectid, 0x0807_0605_0403_0201);
        assert_eq!(key.offset, 0x100f_0e0d_0c0b_0a09);
    }
}
