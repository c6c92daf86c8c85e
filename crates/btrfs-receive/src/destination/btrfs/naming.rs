//! Under which name a subvolume is built.

use std::os::fd::OwnedFd;

use btrfs_sendstream::{Bytes, SubvolumeName};
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::root::conflict;
use crate::error::Cause;
use crate::plan::op::NewSubvolume;

/// What is appended to the name of a subvolume while it is built aside.
pub(crate) const SUFFIX: &[u8] = btrfs_lineage::RECEIVING;

/// Whether a subvolume has its name from the beginning, or only once it is
/// complete.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Naming {
    pub(crate) atomic: bool,
}

impl Naming {
    /// The name that `new` is built under.
    pub(crate) fn while_built(self, new: &NewSubvolume) -> SubvolumeName {
        if !self.atomic {
            return new.name.clone();
        }
        let long = [new.name.as_bytes(), SUFFIX].concat();
        SubvolumeName::parse(Bytes::from(long)).unwrap_or_else(|_| {
            // Too long: the UUID says whose it is as well.
            let short = [new.uuid.to_string().as_bytes(), SUFFIX].concat();
            SubvolumeName::parse(Bytes::from(short)).unwrap_or_else(|_| new.name.clone())
        })
    }

    /// Fails early where giving it its name would fail at the end.
    pub(crate) fn check(self, directory: &OwnedFd, new: &NewSubvolume) -> Result<(), Cause> {
        if !self.atomic {
            return Ok(());
        }
        match statat(directory, new.name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Cause::system("fstatat", errno)),
            Ok(_) => Err(Cause::NameTaken {
                by: conflict(directory, new.name.as_bytes(), new),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(name: &str) -> String {
        let name = SubvolumeName::parse(Bytes::from(name.to_owned())).unwrap();
        let new = NewSubvolume::new(name, uuid::Uuid::from_u128(7), 1, None);
        let naming = Naming { atomic: true };
        naming.while_built(&new).to_string()
    }

    #[test]
    fn names_are_not_too_long() {
        assert_eq!(built("home.1"), "home.1.receiving");
        assert_eq!(
            built(&"x".repeat(250)),
            "00000000-0000-0000-0000-000000000007.receiving"
        );
    }
}
