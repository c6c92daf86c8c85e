//! The root of a subvolume as it will be.
//!
//! A receiver gives the root its owner, mode and ACL when everything else is
//! done, and after the received UUID was set. A digest that is checked before
//! has to know what is to come.

use super::record::Inode;

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// Bytes in the header of an ACL and in each entry, as getxattr(2) shows it.
const HEADER: usize = 4;
const ENTRY: usize = 8;

/// Tags of entries (`linux/posix_acl.h`).
const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// A change of the root that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootChange {
    /// `chown`.
    Owner {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// `chmod`: permission bits with set-id and sticky bits.
    Mode(u32),
    /// The access ACL, as `system.posix_acl_access` holds it; `None` removes
    /// it.
    AccessAcl(Option<Vec<u8>>),
}

/// What the kernel would make of the root.
pub(super) fn apply(root: &mut Inode, change: &RootChange) {
    match change {
        RootChange::Owner { uid, gid } => (root.uid, root.gid) = (*uid, *gid),
        RootChange::Mode(mode) => {
            root.mode = mode & 0o7777;
            chmod_acl(root);
        }
        RootChange::AccessAcl(acl) => {
            root.xattrs.retain(|(name, _)| name != ACCESS_ACL);
            let Some(acl) = acl else { return };
            let entries: Vec<_> = entries(acl).collect();
            let permission = |tag| {
                let found = entries.iter().find(|entry| entry.0 == tag);
                found.map(|entry| u32::from(entry.1 & 7))
            };
            let group = permission(MASK).or(permission(GROUP_OBJ));
            if let (Some(user), Some(group), Some(other)) =
                (permission(USER_OBJ), group, permission(OTHER))
            {
                root.mode = root.mode & 0o7000 | user << 6 | group << 3 | other;
            }
            // An ACL that says no more than the mode is not stored.
            if entries
                .iter()
                .any(|(tag, _)| ![USER_OBJ, GROUP_OBJ, OTHER].contains(tag))
            {
                let at = root
                    .xattrs
                    .partition_point(|(name, _)| &name[..] < ACCESS_ACL);
                root.xattrs.insert(at, (ACCESS_ACL.to_vec(), acl.clone()));
            }
        }
    }
}

/// Tags and permissions.
fn entries(acl: &[u8]) -> impl Iterator<Item = (u16, u16)> + '_ {
    let entries = acl.get(HEADER..).unwrap_or_default().chunks_exact(ENTRY);
    entries.map(|entry| {
        let word = |at: usize| {
            let bytes = entry.get(at..).and_then(|it| it.first_chunk());
            bytes.map_or(0, |it| u16::from_le_bytes(*it))
        };
        (word(0), word(2))
    })
}

/// chmod(2) changes the entries of the ACL that the mode shows.
fn chmod_acl(root: &mut Inode) {
    let mode = root.mode;
    let Some((_, acl)) = root.xattrs.iter_mut().find(|(name, _)| name == ACCESS_ACL) else {
        return;
    };
    let has_mask = entries(acl).any(|(tag, _)| tag == MASK);
    let Some(body) = acl.get_mut(HEADER..) else {
        return;
    };
    for entry in body.chunks_exact_mut(ENTRY) {
        let [tag_low, tag_high, permission, _, ..] = entry else {
            continue;
        };
        let shown = match u16::from_le_bytes([*tag_low, *tag_high]) {
            USER_OBJ => mode >> 6,
            GROUP_OBJ if !has_mask => mode >> 3,
            MASK => mode >> 3,
            OTHER => mode,
            _ => continue,
        };
        *permission = u8::try_from(shown & 7).unwrap_or(0);
    }
}
