//! What a receiver that was killed has left under unguessable names.

use btrfs_lineage::{INSIDE, PrivateDirectory};
use uuid::Uuid;

use super::super::root::open_root;
use super::{bring_out, delete_inside, prefix};
use btrfs_ioctl::{self as sys, XFlags};

/// Whether [`unguessable`](super::unguessable) gives such a name to the subvolume called `name`.
pub(crate) fn is_unguessable(found: &[u8], name: &[u8]) -> bool {
    PrivateDirectory::is_unguessable(found, &prefix(name))
}

/// Brings the subvolume in it, if it is the one with this UUID, out as
/// `to`; or else deletes it.
pub(crate) fn empty(private: &PrivateDirectory, wanted: Uuid, to: &[u8]) {
    let Ok(root) = open_root(private, INSIDE) else {
        return;
    };
    if let Ok(flags) = sys::fs_get_xflags(&root) {
        let _ = sys::fs_set_xflags(&root, flags - XFlags::IMMUTABLE - XFlags::APPEND);
    }
    match sys::subvolume_info(&root) {
        Ok(info) if info.uuid == wanted => {
            let _ = bring_out(private, to);
        }
        Ok(info) if !info.read_only => {
            let _ = delete_inside(private);
        }
        _ => {}
    }
}
