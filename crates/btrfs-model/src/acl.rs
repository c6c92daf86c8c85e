//! POSIX ACLs as xattrs hold them (`linux/posix_acl_xattr.h`), and how mode
//! and ACL follow each other (`fs/posix_acl.c`).

use btrfs_sendstream::Bytes;
use rustix::io::Errno;

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// An ACL of known entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

impl Acl {
    /// Parses the value of an ACL xattr; `None` for an empty one, which
    /// stands for no ACL.
    pub(super) fn parse(value: &[u8]) -> Result<Option<Self>, Errno> {
        if value.is_empty() {
            return Ok(None);
        }
        let (version, entries) = value.split_first_chunk::<4>().ok_or(Errno::INVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::OPNOTSUPP);
        }
        let (entries, rest) = entries.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Errno::INVAL);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let entries: Result<_, _> = entries.iter().map(Entry::parse).collect();
        Ok(Some(Self(entries?)))
    }

    /// The value of the xattr.
    pub(super) fn to_value(&self) -> Bytes {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            value.extend_from_slice(&entry.tag.to_le_bytes());
            value.extend_from_slice(&entry.perm.to_le_bytes());
            value.extend_from_slice(&entry.id.to_le_bytes());
        }
        value.into()
    }

    /// Whether the kernel takes it: the order of tags, their permissions,
    /// and a mask where one is needed.
    pub(super) fn is_valid(&self) -> bool {
        let mut last = 0;
        let mut seen = 0;
        for entry in &self.0 {
            let repeats = entry.tag == last && entry.is_named();
            if entry.perm > 7 || (entry.tag <= last && !repeats) {
                return false;
            }
            last = entry.tag;
            seen |= entry.tag;
        }
        let mask = if seen & (USER | GROUP) == 0 { 0 } else { MASK };
        let needed = USER_OBJ | GROUP_OBJ | OTHER | mask;
        seen & needed == needed
    }

    /// The permission bits that the ACL stands for, and whether they say
    /// all of it, so that the ACL need not be kept.
    pub(super) fn to_mode(&self) -> (u32, bool) {
        let bits = |tag| self.perm(tag).map(u32::from);
        let group = bits(MASK).or(bits(GROUP_OBJ)).unwrap_or(0);
        let mode = bits(USER_OBJ).unwrap_or(0) << 6 | group << 3 | bits(OTHER).unwrap_or(0);
        (mode, self.0.len() == 3)
    }

    /// Follows a change of the permission bits, as chmod does.
    pub(super) fn follow_mode(&mut self, mode: u32) {
        let group = if self.perm(MASK).is_some() {
            MASK
        } else {
            GROUP_OBJ
        };
        self.set(USER_OBJ, mode >> 6);
        self.set(group, mode >> 3);
        self.set(OTHER, mode);
    }

    /// The access ACL and mode of an inode created with `mode` in a
    /// directory of which this is the default ACL.
    pub(super) fn for_new_inode(&self, mode: u32) -> (u32, Option<Self>) {
        let mut acl = self.clone();
        let (granted, complete) = self.to_mode();
        let masked = mode & (granted | !0o777);
        acl.follow_mode(masked);
        (masked, (!complete).then_some(acl))
    }

    fn perm(&self, tag: u16) -> Option<u16> {
        let entry = self.0.iter().find(|entry| entry.tag == tag)?;
        Some(entry.perm)
    }

    fn set(&mut self, tag: u16, bits: u32) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.tag == tag) {
            entry.perm = (bits & 7) as u16;
        }
    }
}

impl Entry {
    fn parse(bytes: &[u8; 8]) -> Result<Self, Errno> {
        let [t0, t1, p0, p1, id @ ..] = *bytes;
        let mut entry = Self {
            tag: u16::from_le_bytes([t0, t1]),
            perm: u16::from_le_bytes([p0, p1]),
            id: u32::from_le_bytes(id),
        };
        let unnamed = matches!(entry.tag, USER_OBJ | GROUP_OBJ | MASK | OTHER);
        if unnamed {
            // These have no id; the kernel forgets what is there.
            entry.id = NO_ID;
        } else if !entry.is_named() || entry.id == NO_ID {
            return Err(Errno::INVAL);
        }
        Ok(entry)
    }

    fn is_named(&self) -> bool {
        matches!(self.tag, USER | GROUP)
    }
}
