//! Which names the root of the subvolume may have.
//!
//! A stream creates each inode under a name in the root. Where that step is
//! fused with the rename that follows, a name that is taken must still make
//! it fail; asking the kernel for each costs a tenth of the time of
//! receiving small files.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use btrfs_sendstream::StreamPath;
use rustix::fs::{AtFlags, Dir, statat};
use rustix::io::Errno;

use crate::confine::Root;
use crate::error::Cause;

/// Names that are remembered, 8 bytes each and the set's own cost: 5 MB.
const MAX_NAMES: usize = 1 << 18;

/// Hashes of all names that the root ever had since the receive began, or
/// nothing if there were too many.
pub(in crate::destination) struct RootNames {
    hasher: RandomState,
    known: Option<HashSet<u64>>,
}

impl RootNames {
    /// The names of an empty root.
    pub(in crate::destination) fn of_new() -> Self {
        Self {
            hasher: RandomState::new(),
            known: Some(HashSet::new()),
        }
    }

    /// The names that a snapshot came with.
    pub(in crate::destination) fn of_snapshot(root: &Root) -> Self {
        let mut names = Self::of_new();
        match Dir::read_from(root.fd()) {
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok(entry) => names.insert(entry.file_name().to_bytes()),
                        Err(_) => names.known = None,
                    }
                    if names.known.is_none() {
                        break;
                    }
                }
            }
            Err(_) => names.known = None,
        }
        names
    }

    /// Something may have been given the name `path`.
    pub(in crate::destination) fn note(&mut self, path: &StreamPath) {
        if let Some((parent, name)) = path.split()
            && parent.is_root()
        {
            self.insert(name);
        }
    }

    /// Whether something has the name `path`. The kernel is asked only if
    /// something may.
    pub(in crate::destination) fn exists(
        &self,
        root: &Root,
        path: &StreamPath,
    ) -> Result<bool, Cause> {
        let (directory, name) = root.parent(path)?;
        if let Some(known) = &self.known
            && path.parent().is_some_and(|parent| parent.is_root())
            && !known.contains(&self.hasher.hash_one(name))
        {
            return Ok(false);
        }
        match statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Cause::system("fstatat", errno)),
        }
    }

    fn insert(&mut self, name: &[u8]) {
        let hash = self.hasher.hash_one(name);
        if let Some(known) = &mut self.known {
            if known.len() < MAX_NAMES {
                known.insert(hash);
            } else {
                self.known = None;
            }
        }
    }
}
