//! Commands that the kernel refuses to who lacks a capability.

use btrfs_sendstream::{Command, CommandBuf, inode_flags};
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

/// What the process may do.
#[derive(Debug)]
pub(super) struct Rights {
    held: CapabilitySet,
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
            user: geteuid().as_raw(),
            groups: groups.map(|it| it.as_raw()).collect(),
        }
    }

    pub(super) fn has(&self, capability: CapabilitySet) -> bool {
        self.held.contains(capability)
    }

    /// The capability that is missing for `command`.
    pub(super) fn missing(&self, command: &CommandBuf) -> Option<MissingCapability> {
        let (capability, missing) = match command {
            // What is received belongs to who receives it.
            Command::Chown { uid, gid, .. } if !self.owns(*uid, *gid) => {
                (CapabilitySet::CHOWN, OWNERS)
            }
            // A device 0:0 is what overlay filesystems leave; anybody may.
            Command::Mknod { rdev, .. } if *rdev != 0 => (CapabilitySet::MKNOD, DEVICES),
            Command::SetXattr { name, .. } if name == "security.capability" => {
                (CapabilitySet::SETFCAP, FILE_CAPABILITIES)
            }
            Command::SetXattr { name, .. } if name.starts_with(b"trusted.") => {
                (CapabilitySet::SYS_ADMIN, TRUSTED)
            }
            Command::FileAttr { attributes, .. } if attributes & FORBIDDING != 0 => {
                (CapabilitySet::LINUX_IMMUTABLE, FLAGS)
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
        (!self.has(capability)).then_some(missing)
    }

    fn owns(&self, uid: u64, gid: u64) -> bool {
        uid == u64::from(self.user) && self.groups.iter().any(|&it| u64::from(it) == gid)
    }
}
