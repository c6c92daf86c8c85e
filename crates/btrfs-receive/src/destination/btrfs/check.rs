//! What a caller checks before a subvolume is marked as received.

use std::error::Error;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::Cause;
use crate::plan::op::{NewSubvolume, Step};

/// A subvolume that is complete and on disk, and not yet marked as received.
///
/// Everything in it is as it will be. Its root is open to the receiver alone:
/// what lets others enter it, [its owner, its mode and its
/// ACL](Self::pending), is set after the received UUID.
#[derive(Clone, Copy, Debug)]
pub struct BeforeSeal<'a> {
    pub(super) root: &'a OwnedFd,
    pub(super) new: &'a NewSubvolume,
    pub(super) pending: &'a [Step],
}

impl<'a> BeforeSeal<'a> {
    /// What the stream says of it.
    pub fn subvolume(&self) -> &'a NewSubvolume {
        self.new
    }

    /// The steps that are still to be applied, in order: `Chown`, `Chmod`, and
    /// `SetXattr` and `RemoveXattr` of `system.posix_acl_access`, all of the
    /// root.
    pub fn pending(&self) -> &'a [Step] {
        self.pending
    }
}

/// Its root directory, open for reading. The subvolume is writable, and not to
/// be changed.
impl AsFd for BeforeSeal<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

type Function =
    dyn FnMut(&BeforeSeal<'_>) -> Result<(), Box<dyn Error + Send + Sync>> + Send + 'static;

/// The caller's check, if there is one.
#[derive(Default)]
pub(super) struct Check(Option<Box<Function>>);

impl Check {
    pub(super) fn new(
        check: impl FnMut(&BeforeSeal<'_>) -> Result<(), Box<dyn Error + Send + Sync>> + Send + 'static,
    ) -> Self {
        Self(Some(Box::new(check)))
    }

    pub(super) fn run(&mut self, subvolume: &BeforeSeal<'_>) -> Result<(), Cause> {
        match &mut self.0 {
            Some(check) => check(subvolume).map_err(Cause::CheckFailed),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.0.is_some()).finish()
    }
}
