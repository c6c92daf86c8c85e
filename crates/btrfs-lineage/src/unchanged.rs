//! Whether a subvolume is still what it was in an earlier transaction.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use btrfs_ioctl::{self as sys, Key};

/// Whether nothing in the subvolume that `fd` lies in changed after the
/// transaction `transid`: no file, no directory, no attribute, no access
/// time. `false` also if that cannot be found out, which takes
/// `CAP_SYS_ADMIN`.
///
/// Data that is only in memory is not seen: of a subvolume that may be written
/// to, what is on disk after a snapshot or `syncfs` counts.
pub(super) fn since(fd: impl AsFd, transid: u64) -> bool {
    let Ok(info) = sys::subvolume_info(&fd) else {
        return false;
    };
    // The mount after a power cut brings back what fsync had written, and
    // leaves ctransid as it was. Blocks are new as well if a snapshot was
    // taken, or data was moved, so that inodes have to be looked at.
    info.ctransid <= transid && changed_inode(fd, info.id, transid) == Ok(false)
}

/// Whether an inode of the tree `id` was changed after `transid`. Looks at
/// blocks written since, and no others.
fn changed_inode(fd: impl AsFd, id: u64, transid: u64) -> rustix::io::Result<bool> {
    let all = (Key::MIN, Key::MAX);
    let mut changed = false;
    sys::tree_search_since(fd, id, all, transid.saturating_add(1), |item| {
        let is_inode = item.key.item_type == sys::INODE_ITEM;
        // The second field of `btrfs_inode_item`.
        let changed_in = item.data.get(8..16).and_then(|it| it.first_chunk());
        if is_inode && changed_in.is_none_or(|it| u64::from_le_bytes(*it) > transid) {
            changed = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(changed)
}
