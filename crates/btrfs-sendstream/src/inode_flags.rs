//! Flags of inodes, as [`Command::FileAttr`](crate::Command::FileAttr) carries
//! them: `BTRFS_INODE_*` of the kernel's `linux/btrfs_tree.h`.

/// No checksums for the data.
pub const NODATASUM: u64 = 1 << 0;
/// Data is overwritten in place.
pub const NODATACOW: u64 = 1 << 1;
/// Data is not compressed.
pub const NOCOMPRESS: u64 = 1 << 3;
/// Changes are written to disk at once.
pub const SYNC: u64 = 1 << 5;
/// Nothing of the inode can be changed.
pub const IMMUTABLE: u64 = 1 << 6;
/// Data can only be appended.
pub const APPEND: u64 = 1 << 7;
/// `dump(8)` passes the inode over.
pub const NODUMP: u64 = 1 << 8;
/// Access times are not updated.
pub const NOATIME: u64 = 1 << 9;
/// Changes of the directory are written to disk at once.
pub const DIRSYNC: u64 = 1 << 10;
/// Data is compressed.
pub const COMPRESS: u64 = 1 << 11;
/// The file is protected by fs-verity.
pub const VERITY: u64 = 1 << 32;
