//! Extended attributes that mean something to the kernel.

/// ACL that is checked on access.
pub(crate) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// ACL of a directory, inherited by what is created in it.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// File capabilities; a change of content or owner clears them.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// Compression of a file; inherited from a directory, and coupled with inode
/// flags.
pub(crate) const COMPRESSION: &[u8] = b"btrfs.compression";
