//! Which extended attributes an inode can have, and in what form.

use std::collections::BTreeMap;

use btrfs_sendstream::Bytes;
use rustix::io::Errno;

/// ACL that is checked on access.
pub(super) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// ACL of a directory, inherited by what is created in it.
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// File capabilities; a change of content or owner clears them.
pub(super) const CAPABILITY: &[u8] = b"security.capability";
/// Compression of a file; inherited from a directory.
pub(super) const COMPRESSION: &[u8] = b"btrfs.compression";

/// `XATTR_NAME_MAX` and `XATTR_SIZE_MAX` of `linux/limits.h`.
const NAME_MAX: usize = 255;
const SIZE_MAX: usize = 65_536;

/// Bytes of name and value that fit into one item, with the default node
/// size of 16 KiB.
const ITEM_MAX: usize = 16_228;

/// Bytes of a capability of revision 2 and 3 (`XATTR_CAPS_SZ_*` of
/// `linux/capability.h`); the revision is in the fourth byte.
const CAPABILITY_2: usize = 20;
const CAPABILITY_3: usize = 24;

/// What an xattr costs beside name and value, towards the limit of the
/// model.
const COST: u64 = 128;

/// The extended attributes of an inode, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Xattrs {
    values: BTreeMap<Bytes, Bytes>,
    cost: u64,
}

impl Xattrs {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.values.iter()
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Bytes> {
        self.values.get(name)
    }

    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.cost += cost(name, value);
        // Copies, so that no buffer of a stream is kept for a few bytes.
        self.values
            .insert(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if let Some(value) = self.values.remove(name) {
            self.cost -= cost(name, &value);
        }
    }

    /// Bytes held, with what attributes cost beside.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }
}

/// What an attribute costs towards the limit of the model.
pub(super) fn cost(name: &[u8], value: &[u8]) -> u64 {
    (name.len() + value.len()) as u64 + COST
}

/// What `btrfs.compression` says.
pub(super) enum Property {
    Algorithm(&'static [u8]),
    None,
}

/// Reads `btrfs.compression`. The kernel looks at the beginning of the value
/// only: a level, or anything else, may follow.
pub(super) fn compression(value: &[u8]) -> Option<Property> {
    if matches!(value, b"no" | b"none") {
        return Some(Property::None);
    }
    [&b"zlib"[..], b"lzo", b"zstd"]
        .into_iter()
        .find(|name| value.starts_with(name))
        .map(Property::Algorithm)
}

pub(super) fn check_name(name: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Errno::RANGE);
    }
    Ok(())
}

pub(super) fn check_value(name: &[u8], value: &[u8]) -> Result<(), Errno> {
    if value.len() > SIZE_MAX {
        return Err(Errno::TOOBIG);
    }
    let is_capability = name == CAPABILITY && !value.is_empty();
    if is_capability && !is_valid_capability(value) {
        return Err(Errno::INVAL);
    }
    Ok(())
}

pub(super) fn check_room(name: &[u8], value: &[u8]) -> Result<(), Errno> {
    if name.len() + value.len() > ITEM_MAX {
        return Err(Errno::NOSPC);
    }
    Ok(())
}

/// The namespaces that are neither ACLs nor `btrfs.compression`; `user.` needs
/// a regular file or a directory.
pub(super) fn check_namespace(name: &[u8], takes_user: bool) -> Result<(), Errno> {
    let (namespace, rest) = match name.iter().position(|&byte| byte == b'.') {
        Some(dot) => name.split_at(dot + 1),
        None => return Err(Errno::OPNOTSUPP),
    };
    match namespace {
        b"user." if !takes_user => Err(Errno::PERM),
        b"user." | b"trusted." | b"security." if rest.is_empty() => Err(Errno::INVAL),
        b"user." | b"trusted." | b"security." => Ok(()),
        b"btrfs." => Err(Errno::INVAL),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// The value as reading gives it back.
pub(super) fn as_stored(name: &[u8], value: &Bytes) -> Result<Bytes, Errno> {
    // Revision 3 with root as the namespace's owner reads as revision 2.
    let root_owned = |id: &[u8]| id.iter().all(|&byte| byte == 0);
    if name != CAPABILITY || value.len() != CAPABILITY_3 {
        return Ok(value.clone());
    }
    let (capability, id) = value.split_at(CAPABILITY_2);
    if !root_owned(id) {
        return Ok(value.clone());
    }
    let mut capability = capability.to_vec();
    *capability.get_mut(3).ok_or(Errno::INVAL)? = 2;
    Ok(capability.into())
}

/// Revision 2 or 3, and no flag but "effective".
fn is_valid_capability(value: &[u8]) -> bool {
    matches!(
        (value, value.len()),
        ([0 | 1, 0, 0, 2, ..], CAPABILITY_2) | ([0 | 1, 0, 0, 3, ..], CAPABILITY_3)
    )
}
