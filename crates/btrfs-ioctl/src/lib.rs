//! The ioctls of btrfs as safe functions, and the few other system calls that
//! rustix does not have.
//!
//! Each function takes descriptors by borrow and typed arguments, makes one
//! kind of call (listings and searches repeat it), and returns the kernel's
//! error number. Numbers, layouts and meanings are those of the kernel's
//! `linux/btrfs.h`, `linux/fs.h` and `linux/fsverity.h`; tests compare them.
//!
//! ```no_run
//! let snapshot = std::fs::File::open("/backup/home")?;
//! let info = btrfs_ioctl::subvolume_info(&snapshot)?;
//! println!("{} was received from {}", info.uuid, info.received_uuid);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What rustix has (`FS_IOC_GETFLAGS`, `openat2`, `syncfs`, xattrs and so on)
//! is called through rustix where it is needed, and not repeated here.
//!
//! The crate is for Linux. All `unsafe` of the receiver is in it.

mod abi;
mod data;
mod handle;
mod lookup;
mod number;
mod opens;
mod search;
mod send;
mod space;
mod subvolume;
#[cfg(test)]
mod tests;
mod thread;
mod xflags;

pub use data::{EncodedRange, Verity, enable_verity, encoded_write, ficlonerange};
pub use handle::{FileHandle, file_handle, find_inode, open_inode, open_subvolume};
pub use lookup::{
    RootRef, UserPath, containing_subvolume, ino_lookup_user, inode_path, subvolume_rootrefs,
};
pub use number::{
    INODE_ITEM, QGROUP_INFO, QGROUP_LIMIT, QUOTA_TREE, ROOT_INODE, TOP_LEVEL,
    UUID_RECEIVED_SUBVOLUME, UUID_SUBVOLUME, UUID_TREE,
};
pub use opens::{Opened, Opens, is_open_for_writing};
pub use search::{Item, Key, stored_generation, tree_search, tree_search_since};
pub use send::send_changes;
pub use space::{SpaceInfo, SpaceKind, space_info, unallocated};
use subvolume::fs_info_args;
pub use subvolume::{
    FsInfo, Received, SubvolumeInfo, SubvolumeTime, fs_info, set_received_subvol, snap_create,
    snap_destroy, subvol_create, subvol_destroy, subvol_set_read_only, subvolume_info,
};
pub use thread::unshare_fs;
pub use xflags::{XFlags, fs_get_xflags, fs_set_xflags, inode_generation};
