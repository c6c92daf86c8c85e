//! Commands that the kernel refuses to who lacks a capability.
//!
//! In a user namespace, as in a container without privileges, root has every
//! capability, and the kernel counts only some of them: not those for device nodes,
//! `trusted.*` attributes, immutable files, and encoded writes. Owners have to be
//! mapped.

use std::ops::Range;

use btrfs_sendstream::{Command, CommandBuf, inode_flags};
use rustix::fs::stat;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};
use rustix::thread::{CapabilitySet, capabilities};

use crate::error::Cause;

/// Flags that forbid changes.
const FORBIDDING: u64 = inode_flags::IMMUTABLE | inode_flags::APPEND;

/// A capability that the receive of a subvolume needs and the process does not
/// have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingCapability {
    /// Its name, such as `CAP_CHOWN`.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    call: &'static str,
}

impl MissingCapability {
    /// What a receive would say.
    pub(super) fn cause(self) -> Cause {
        Cause::system(self.call, Errno::PERM)
    }
}

const OWNERS: MissingCapability = MissingCapability {
    name: "CAP_CHOWN",
    purpose: "owners",
    call: "fchownat",
};
const DEVICES: MissingCapability = MissingCapability {
    name: "CAP_MKNOD",
    purpose: "device nodes",
    call: "mknodat",
};
const FILE_CAPABILITIES: MissingCapability = MissingCapability {
    name: "CAP_SETFCAP",
    purpose: "file capabilities",
    call: "fsetxattr",
};
const TRUSTED: MissingCapability = MissingCapability {
    name: "CAP_SYS_ADMIN",
    purpose: "trusted.* attributes",
    call: "fsetxattr",
};
const FLAGS: MissingCapability = MissingCapability {
    name: "CAP_LINUX_IMMUTABLE",
    purpose: "immutable and append-only files",
    call: "FS_IOC_FSSETXATTR",
};

/// `PROC_USER_INIT_INO` of the kernel: the inode of the first user namespace.
const FIRST_NAMESPACE: u64 = 0xefff_fffd;

/// What the process may do.
#[derive(Debug)]
pub(super) struct Rights {
    held: CapabilitySet,
    /// Whether it is in a user namespace other than the first.
    contained: bool,
    /// The ids that there are in this namespace, if known: users, groups.
    users: Option<Vec<Range<u64>>>,
    groups_mapped: Option<Vec<Range<u64>>>,
    user: u32,
    /// That of the process first.
    groups: Vec<u32>,
}

impl Rights {
    pub(super) fn of_process() -> Self {
        let others = getgroups().unwrap_or_default();
        let groups = std::iter::once(getegid()).chain(others);
        Self {
            held: capabilities(None).map_or(CapabilitySet::empty(), |it| it.effective),
            contained: stat("/proc/self/ns/user").is_ok_and(|it| it.st_ino != FIRST_NAMESPACE),
            users: mapped("/proc/self/uid_map"),
            groups_mapped: mapped("/proc/self/gid_map"),
            user: geteuid().as_raw(),
            groups: groups.map(|it| it.as_raw()).collect(),
        }
    }

    /// Whether it has a capability that also counts in a user namespace.
    fn has(&self, capability: CapabilitySet) -> bool {
        self.held.contains(capability)
    }

    /// Whether it has a capability that counts in the first user namespace only.
    pub(super) fn has_globally(&self, capability: CapabilitySet) -> bool {
        self.has(capability) && !self.contained
    }

    /// What a receive says to owners that are not mapped in this user namespace.
    pub(super) fn refuses_owner(&self, command: &CommandBuf) -> Option<Cause> {
        let Command::Chown { uid, gid, .. } = command else {
            return None;
        };
        let exists = |id: &u64, ranges: &Option<Vec<Range<u64>>>| {
            let ranges = ranges.as_ref();
            ranges.is_none_or(|ranges| ranges.iter().any(|it| it.contains(id)))
        };
        let both = exists(uid, &self.users) && exists(gid, &self.groups_mapped);
        (self.contained && !both).then(|| Cause::system(OWNERS.call, Errno::INVAL))
    }

    /// The capability that is missing for `command`.
    pub(super) fn missing(&self, command: &CommandBuf) -> Option<MissingCapability> {
        let (has, missing) = match command {
            // What is received belongs to who receives it.
            Command::Chown { uid, gid, .. } if !self.owns(*uid, *gid) => {
                (self.has(CapabilitySet::CHOWN), OWNERS)
            }
            // A device 0:0 is what overlay filesystems leave; anybody may.
            Command::Mknod { rdev, .. } if *rdev != 0 => {
                (self.has_globally(CapabilitySet::MKNOD), DEVICES)
            }
            Command::SetXattr { name, .. } if name == "security.capability" => {
                (self.has(CapabilitySet::SETFCAP), FILE_CAPABILITIES)
            }
            Command::SetXattr { name, .. } if name.starts_with(b"trusted.") => {
                (self.has_globally(CapabilitySet::SYS_ADMIN), TRUSTED)
            }
            Command::FileAttr { attributes, .. } if attributes & FORBIDDING != 0 => {
                (self.has_globally(CapabilitySet::LINUX_IMMUTABLE), FLAGS)
            }
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Mkfile { .. }
            | Command::Mkdir { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Write { .. }
            | Command::Clone(_)
            | Command::EncodedWrite(_)
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Utimes { .. }
            | Command::UpdateExtent { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. }
            | Command::EnableVerity(_)
            | Command::End => return None,
        };
        (!has).then_some(missing)
    }

    fn owns(&self, uid: u64, gid: u64) -> bool {
        uid == u64::from(self.user) && self.groups.iter().any(|&it| u64::from(it) == gid)
    }
}

/// The ids that a map lists (`user_namespaces(7)`): lines of the first id in the
/// namespace, the first outside, and how many.
fn mapped(path: &str) -> Option<Vec<Range<u64>>> {
    let map = std::fs::read_to_string(path).ok()?;
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let first = numbers.next()?.ok()?;
        let count = numbers.nth(1)?.ok()?;
        Some(first..first.saturating_add(count))
    };
    map.lines().map(range).collect()
}
