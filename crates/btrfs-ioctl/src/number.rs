//! Numbers of trees, objects and items, from the kernel's `linux/btrfs_tree.h`.

use linux_raw_sys::btrfs;

/// Inode number of the root directory of every subvolume.
pub const ROOT_INODE: u64 = btrfs::BTRFS_FIRST_FREE_OBJECTID as u64;

/// Id of the top level, the subvolume that every filesystem has.
pub const TOP_LEVEL: u64 = btrfs::BTRFS_FS_TREE_OBJECTID as u64;

/// Id of the tree that maps UUIDs to the ids of subvolumes.
pub const UUID_TREE: u64 = btrfs::BTRFS_UUID_TREE_OBJECTID as u64;

/// Id of the tree of quotas.
pub const QUOTA_TREE: u64 = btrfs::BTRFS_QUOTA_TREE_OBJECTID as u64;

/// Type of the items that say how much a qgroup uses. The id of the qgroup is the offset
/// in the key.
pub const QGROUP_INFO: u8 = btrfs::BTRFS_QGROUP_INFO_KEY as u8;

/// Type of the items that say how much a qgroup may use.
pub const QGROUP_LIMIT: u8 = btrfs::BTRFS_QGROUP_LIMIT_KEY as u8;

/// Type of the items of inodes, in the tree of a subvolume.
pub const INODE_ITEM: u8 = btrfs::BTRFS_INODE_ITEM_KEY as u8;

/// Type of the items of the UUID tree that list subvolumes by their own UUID.
pub const UUID_SUBVOLUME: u8 = btrfs::BTRFS_UUID_KEY_SUBVOL as u8;

/// Type of the items of the UUID tree that list subvolumes by their received
/// UUID.
pub const UUID_RECEIVED_SUBVOLUME: u8 = btrfs::BTRFS_UUID_KEY_RECEIVED_SUBVOL as u8;
