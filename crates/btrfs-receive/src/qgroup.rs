//! Limits of qgroups that are reached.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use btrfs_ioctl::{self as sys, Key};

/// A limit of a qgroup that is reached, or nearly: operations in its subvolumes may fail
/// with `EDQUOT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QgroupLimit {
    /// The id of the qgroup, with its level in the upper 16 bits. On level 0 the rest is
    /// the id of a subvolume.
    pub id: u64,
    /// Whether the limit is for data that only its subvolumes have (`max_excl`), or for
    /// all that they refer to (`max_rfer`).
    pub exclusive: bool,
    /// Bytes that are used.
    pub used: u64,
    /// Bytes that may be used.
    pub limit: u64,
}

/// Prints the id as `btrfs qgroup show` does, such as `0/257`.
impl fmt::Display for QgroupLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id >> 48, self.id & ((1 << 48) - 1))
    }
}

impl QgroupLimit {
    /// Returns the limits, of all qgroups of the btrfs that `directory` lies on, of which
    /// at least 7/8 are used. What is not on disk yet is not counted: call `syncfs`
    /// before. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// That of `BTRFS_IOC_TREE_SEARCH_V2`; `ENOENT` if quotas are off.
    pub fn reached(directory: impl AsFd) -> io::Result<Vec<Self>> {
        // All items of one kind come before those of the next.
        let mut used = std::collections::HashMap::new();
        let mut reached = Vec::new();
        let key = |item_type, offset| Key {
            objectid: 0,
            item_type,
            offset,
        };
        let (min, max) = (key(sys::QGROUP_INFO, 0), key(sys::QGROUP_LIMIT, u64::MAX));
        sys::tree_search(directory, sys::QUOTA_TREE, min, max, |item| {
            let id = item.key.offset;
            let word = |at: usize| {
                let bytes = item.data.get(at..).and_then(|it| it.first_chunk());
                bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
            };
            if item.key.item_type == sys::QGROUP_INFO {
                // Referenced and exclusive bytes.
                used.insert(id, (word(8), word(24)));
            } else if item.key.item_type == sys::QGROUP_LIMIT {
                let (referenced, exclusive) = used.get(&id).copied().unwrap_or_default();
                for (bit, is_exclusive, used, limit) in [
                    (1, false, referenced, word(8)),
                    (2, true, exclusive, word(16)),
                ] {
                    if word(0) & bit != 0 && used >= limit - limit / 8 {
                        reached.push(Self {
                            id,
                            exclusive: is_exclusive,
                            used,
                            limit,
                        });
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(reached)
    }
}
