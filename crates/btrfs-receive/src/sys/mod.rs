//! The unsafe room: system calls that rustix does not have.
//!
//! Only safe functions leave it. Each takes descriptors by borrow and typed
//! arguments, makes one kind of call (listings and searches repeat it), and
//! gives back the kernel's error number as it is. Numbers, layouts and meanings
//! are those of the kernel's `linux/btrfs.h`, `linux/fs.h` and
//! `linux/fsverity.h`; the tests of [`abi`] compare them.
//!
//! What rustix has (`FS_IOC_GETFLAGS`, `openat2`, `syncfs`, xattrs and so on)
//! is called through rustix where it is needed, not wrapped here.

mod abi;
mod data;
mod handle;
mod lookup;
mod opens;
mod search;
mod send;
mod subvolume;
#[cfg(test)]
mod tests;
mod thread;
mod xflags;

pub(crate) use data::{EncodedRange, Verity, enable_verity, encoded_write, ficlonerange};
pub(crate) use handle::{FileHandle, file_handle, find_inode, open_inode, open_subvolume};
pub(crate) use lookup::{
    RootRef, containing_subvolume, ino_lookup_user, inode_path, subvolume_rootrefs,
};
pub(crate) use opens::{Opened, Opens, is_open_for_writing};
pub(crate) use search::{Key, tree_search, tree_search_since};
pub(crate) use send::send_changes;
pub(crate) use subvolume::{
    SubvolumeInfo, fs_info, set_received_subvol, snap_create, snap_destroy, subvol_create,
    subvol_destroy, subvol_set_read_only, subvolume_info,
};
pub(crate) use thread::unshare_fs;
pub(crate) use xflags::{XFlags, fs_get_xflags, fs_set_xflags, inode_generation};
