//! File capabilities from kernels before 5.8.
//!
//! Those send `security.capability` ahead of CHOWN, which clears it. Since
//! 5.8 it comes after CHOWN and CHMOD, and again for every changed inode
//! that has one.

use btrfs_sendstream::{Bytes, StreamPath};

use super::op::Op;
use crate::xattr::CAPABILITY;

/// The capability that was set last, as long as the commands that follow
/// concern the same path.
#[derive(Debug, Default)]
pub(super) struct LastCapability(Option<(StreamPath, Bytes)>);

impl LastCapability {
    /// Whether nothing is remembered.
    #[cfg(feature = "resume")]
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// What has to follow `op`: the capability once more, if `op` is a CHOWN
    /// that clears it.
    pub(super) fn after(&mut self, op: &Op) -> Option<Op> {
        match op {
            Op::SetXattr { path, name, data } if name.as_ref() == CAPABILITY => {
                // Copied, so as not to keep the buffer alive it was read into.
                self.0 = Some((path.borrow().to_owned(), Bytes::copy_from_slice(data)));
                return None;
            }
            Op::RemoveXattr { name, .. } if name.as_ref() == CAPABILITY => self.0 = None,
            _ => {}
        }
        let (path, data) = self.0.as_ref()?;
        if op.changes_names() || op.path() != path {
            self.0 = None;
            return None;
        }
        matches!(op, Op::Chown { .. }).then(|| Op::SetXattr {
            path: path.clone(),
            name: Bytes::from_static(CAPABILITY),
            data: data.clone(),
        })
    }
}
