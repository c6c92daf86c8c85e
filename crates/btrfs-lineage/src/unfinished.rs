//! The mark of a receive that was interrupted at the very end.

/// The name of an extended attribute. On the root of a writable subvolume that has a received UUID: its receive
/// was interrupted before it was made read-only. What it holds is complete,
/// except for the owner, the mode and the ACL of the root.
pub const UNFINISHED: &[u8] = b"user.btrfs-receive.unfinished";
