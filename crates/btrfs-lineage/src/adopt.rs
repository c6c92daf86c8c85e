//! Makes a copy a parent again.
//!
//! A copy that was not received, or has lost its received UUID, has the right
//! content and no relation. [`adopt`] compares it with the digest of the
//! original, and marks it as received if they are the same: from then on
//! incremental streams find it.
//!
//! # Why a snapshot takes the place of the copy
//! The kernel sets a received UUID only on a writable subvolume, and a writable
//! subvolume can be changed by others: between the comparison and the mark, or
//! between the mark and the read-only flag. So nothing is marked in place:
//! 1. A writable snapshot of the copy is taken, inside a directory that only
//!    this process can enter. Nobody else has anything in it open.
//! 2. The digest of the snapshot is computed. What is read comes from the disk:
//!    none of its files is in memory yet.
//! 3. If it is the digest wanted, the snapshot gets the received UUID.
//! 4. A read-only snapshot of it is taken, beside the copy. It comes into being
//!    with the received UUID and the read-only flag, in one transaction.
//! 5. It exchanges names with the copy, and the copy is deleted, if nothing has
//!    changed in it since 1.
//!
//! Whatever happens in between, a subvolume with the received UUID has the
//! content, and is read-only or out of reach. What is left after a crash has
//! the name of the copy with `.adopting-` and 16 digits; the next call deletes
//! the directory and says what else there is.
//!
//! The price: the adopted subvolume has another id and UUID than the copy, and
//! as its parent UUID one that no longer exists. Who has something open in the
//! copy, or has mounted it, goes on using the copy.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use btrfs_ioctl::{self as sys, SubvolumeInfo};
use rustix::fs::syncfs;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use uuid::Uuid;

use crate::digest::{
    Difference, DigestDocument, DigestError, DigestOptions, DigestProgress, Name, Sha, differences,
    digest,
};
use crate::entry::{self, EntryError};
use crate::{INSIDE, PrivateDirectory, PrivateDirectoryError, unchanged};

/// What is between the name of the copy and the digits.
const INFIX: &[u8] = b".adopting-";

/// How [`adopt`] works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdoptOptions {
    /// Whether a writable copy may become read-only. Default `false`.
    pub make_read_only: bool,
    /// Whether a copy may lose another received UUID than the one wanted.
    /// Default `false`.
    pub replace_received_uuid: bool,
    /// Whether only to compare. Default `false`.
    pub dry_run: bool,
    /// Threads that read; see [`DigestOptions::threads`].
    pub threads: usize,
    /// Most differences that are listed. Default 20.
    pub max_differences: usize,
    /// How much was read. Default: nobody looks.
    pub progress: Arc<DigestProgress>,
}

impl Default for AdoptOptions {
    fn default() -> Self {
        Self {
            make_read_only: false,
            replace_received_uuid: false,
            dry_run: false,
            threads: 0,
            max_differences: 20,
            progress: Arc::default(),
        }
    }
}

/// What [`adopt`] did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Adoption {
    /// What became of the copy.
    pub outcome: AdoptOutcome,
    /// Id of the subvolume that has the name now.
    pub subvolume_id: u64,
    /// Its UUID.
    pub uuid: Uuid,
    /// The received UUID, which it has or would get.
    pub received_uuid: Uuid,
    /// The transaction id beside it.
    pub stransid: u64,
    /// The received UUID that it had before, if that was another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_received_uuid: Option<Uuid>,
    /// What is left in the directory and could not be deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

/// What became of a copy whose digest is the one wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdoptOutcome {
    /// It is marked as received, and read-only.
    Adopted,
    /// It was before.
    AlreadyAdopted,
    /// [`AdoptOptions::dry_run`]: it would be adopted.
    WouldAdopt,
}

/// A subvolume or directory that is left beside the one that was adopted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Left {
    /// Its name.
    pub name: Name,
    /// Why it was not deleted, in English.
    pub reason: String,
}

/// Why a copy was not adopted. It is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// Its digest is another.
    #[error("the digest is {found}, and {expected} is expected")]
    Differs {
        /// The digest wanted.
        expected: Sha,
        /// That of the copy.
        found: Sha,
        /// The first differences, if the document has a tree.
        differences: Vec<Difference>,
    },
    /// There is no digest of it.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// It is writable, and is not to become read-only.
    #[error("the subvolume is writable")]
    Writable,
    /// It has another received UUID, and is not to lose it.
    #[error("the subvolume has the received UUID {found} already")]
    OtherReceivedUuid {
        /// Its received UUID.
        found: Uuid,
    },
    /// It is the very subvolume that the document is of.
    #[error("the digest was computed from this very subvolume")]
    Itself,
    /// Other subvolumes are in it, and would be separated from it.
    #[error("other subvolumes are in it")]
    HoldsSubvolumes,
    /// The original was writable when its digest was computed: what it is sent
    /// as later may be something else.
    #[error("the digest was computed from a writable subvolume")]
    OriginalWritable,
    /// The document names no UUID to be found by.
    #[error("the document has no UUID")]
    NoUuid,
    /// The subvolume is not an entry of the directory, but mounted there.
    #[error("the subvolume is mounted here and cannot be replaced by this path")]
    NotAnEntry,
    /// Another process moved or replaced it.
    #[error("another process moved or replaced the subvolume")]
    Moved,
    /// A system call failed.
    #[error("{call}: {error}")]
    System {
        /// The call, by the name of its manual page, or the ioctl.
        call: &'static str,
        /// The error of the call.
        #[source]
        error: io::Error,
    },
}

impl From<PrivateDirectoryError> for AdoptError {
    fn from(error: PrivateDirectoryError) -> Self {
        match error {
            PrivateDirectoryError::Replaced { .. } => Self::Moved,
            PrivateDirectoryError::System { call, error } => Self::System { call, error },
        }
    }
}

impl From<EntryError> for AdoptError {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::NotASubvolume => DigestError::NotASubvolume.into(),
            EntryError::NotAnEntry => Self::NotAnEntry,
            EntryError::Moved => Self::Moved,
            EntryError::System(call, errno) => of(call)(errno),
        }
    }
}

fn of(call: &'static str) -> impl Fn(Errno) -> AdoptError {
    move |errno| AdoptError::System {
        call,
        error: errno.into(),
    }
}

/// Marks the subvolume `name` in `directory` as received from the one that
/// `document` is of, if it has the same digest; see [the module](self) for how.
///
/// Needs `CAP_SYS_ADMIN`. A crash at any moment leaves nothing marked as
/// received that differs.
///
/// # Errors
/// See [`AdoptError`]. The copy is not changed then.
pub fn adopt(
    directory: impl AsFd,
    name: &[u8],
    document: &DigestDocument,
    options: &AdoptOptions,
) -> Result<Adoption, AdoptError> {
    let directory = fcntl_dupfd_cloexec(directory, 3).map_err(of("fcntl"))?;
    let (root, info) = entry::open(&directory, name)?;
    let adopting = Adopting {
        directory,
        name,
        root,
        info,
        document,
        options,
    };
    adopting.check()?;
    let info = &adopting.info;
    let wanted = document.sent_as;
    let had = Some(info.received_uuid).filter(|had| !had.is_nil() && *had != wanted.uuid);
    let mut adoption = Adoption {
        outcome: AdoptOutcome::WouldAdopt,
        subvolume_id: info.id,
        uuid: info.uuid,
        received_uuid: wanted.uuid,
        stransid: wanted.ctransid,
        replaced_received_uuid: had,
        left: Vec::new(),
    };
    let is_adopted =
        info.read_only && (info.received_uuid, info.stransid) == (wanted.uuid, wanted.ctransid);
    if !options.dry_run {
        adopting.clean();
    }
    if is_adopted || options.dry_run {
        adopting.compare(&adopting.root)?;
        if is_adopted {
            adoption.outcome = AdoptOutcome::AlreadyAdopted;
        }
    } else {
        let (id, uuid, left) = adopting.replace()?;
        adoption.outcome = AdoptOutcome::Adopted;
        (adoption.subvolume_id, adoption.uuid) = (id, uuid);
        adoption.left.extend(left);
    }
    for name in entry::unguessable(&adopting.directory, &prefix(name)) {
        if adoption.left.iter().all(|left| *left.name != *name) {
            let reason =
                "left by an adoption that was interrupted or could not delete it".to_owned();
            let name = name.into();
            adoption.left.push(Left { name, reason });
        }
    }
    Ok(adoption)
}

/// A copy that is being adopted.
struct Adopting<'a> {
    directory: OwnedFd,
    name: &'a [u8],
    root: OwnedFd,
    info: SubvolumeInfo,
    document: &'a DigestDocument,
    options: &'a AdoptOptions,
}

impl Adopting<'_> {
    fn check(&self) -> Result<(), AdoptError> {
        let Self {
            info,
            document,
            options,
            ..
        } = self;
        let wanted = document.sent_as.uuid;
        if wanted.is_nil() {
            return Err(AdoptError::NoUuid);
        }
        if !document.read_only {
            return Err(AdoptError::OriginalWritable);
        }
        if info.uuid == document.uuid || info.uuid == wanted {
            return Err(AdoptError::Itself);
        }
        entry::check_place(&self.directory, info)?;
        if !info.read_only && !options.make_read_only {
            return Err(AdoptError::Writable);
        }
        let is_other = !info.received_uuid.is_nil() && info.received_uuid != wanted;
        if is_other && !options.replace_received_uuid {
            let found = info.received_uuid;
            return Err(AdoptError::OtherReceivedUuid { found });
        }
        if entry::holds_subvolumes(&self.root)? {
            return Err(AdoptError::HoldsSubvolumes);
        }
        Ok(())
    }

    /// # Errors
    /// The digest of the subvolume is another.
    fn compare(&self, root: &OwnedFd) -> Result<(), AdoptError> {
        let how = DigestOptions {
            threads: self.options.threads,
            tree: self.document.tree.is_some(),
            allow_writable: true,
            progress: Arc::clone(&self.options.progress),
            ..DigestOptions::default()
        };
        let found = digest(root, how)?;
        if found.nested_subvolumes > 0 {
            // As a directory of a snapshot, which no stream removes.
            return Err(AdoptError::HoldsSubvolumes);
        }
        if found.sha256 == self.document.sha256 {
            return Ok(());
        }
        let differences = match (&self.document.tree, &found.tree) {
            (Some(a), Some(b)) => differences(a, b, self.options.max_differences),
            _ => Vec::new(),
        };
        Err(AdoptError::Differs {
            expected: self.document.sha256,
            found: found.sha256,
            differences,
        })
    }

    /// Puts an adopted snapshot in the place of the copy. Returns its id and
    /// UUID, and the copy if it could not be deleted.
    fn replace(&self) -> Result<(u64, Uuid, Option<Left>), AdoptError> {
        // What somebody has just written has to be on disk, or be known not to
        // be.
        syncfs(&self.root).map_err(of("syncfs"))?;
        let mut workshop = Workshop::make(&self.directory, self.name)?;
        sys::snap_create(&workshop.directory, INSIDE, &self.root, false)
            .map_err(of("BTRFS_IOC_SNAP_CREATE_V2"))?;
        workshop.is_filled = true;
        let (inside, taken) = entry::open(&workshop.directory, INSIDE)?;
        if taken.parent_uuid != self.info.uuid {
            return Err(AdoptError::Moved);
        }
        self.compare(&inside)?;
        let wanted = self.document.sent_as;
        sys::set_received_subvol(&inside, wanted.uuid, wanted.ctransid)
            .map_err(of("BTRFS_IOC_SET_RECEIVED_SUBVOL"))?;
        let aside = PrivateDirectory::unguessable(&prefix(self.name));
        sys::snap_create(&self.directory, &aside, &inside, true)
            .map_err(of("BTRFS_IOC_SNAP_CREATE_V2"))?;
        let made = match self.exchange(&aside, &taken) {
            Ok(made) => made,
            Err(error) => {
                self.discard(&aside, &taken);
                return Err(error);
            }
        };
        drop(inside);
        drop(workshop);
        let left = self
            .delete(&aside, taken.otransid)
            .err()
            .map(|reason| Left {
                name: aside.into(),
                reason,
            });
        Ok((made.id, made.uuid, left))
    }

    /// Exchanges the adopted snapshot, called `aside`, and the copy.
    fn exchange(&self, aside: &[u8], of_this: &SubvolumeInfo) -> Result<SubvolumeInfo, AdoptError> {
        let (_, made) = entry::open(&self.directory, aside)?;
        let wanted = self.document.sent_as;
        let is_right = made.read_only
            && made.parent_uuid == of_this.uuid
            && (made.received_uuid, made.stransid) == (wanted.uuid, wanted.ctransid);
        if !is_right {
            return Err(AdoptError::Moved);
        }
        // The names have to survive a power cut before anything is deleted.
        let (made_id, copy_id) = (made.id, self.info.id);
        entry::exchange(&self.directory, (aside, made_id), (self.name, copy_id))?;
        Ok(made)
    }

    /// Deletes an adopted snapshot that did not get its name.
    fn discard(&self, aside: &[u8], of_this: &SubvolumeInfo) {
        let is_ours = |(_, info): (OwnedFd, SubvolumeInfo)| info.parent_uuid == of_this.uuid;
        if entry::open(&self.directory, aside).is_ok_and(is_ours) {
            let _ = sys::snap_destroy(&self.directory, aside);
        }
    }

    /// Deletes the copy, which is called `aside` now, if it is what it was when
    /// the snapshot was taken, in the transaction `taken`.
    ///
    /// # Errors
    /// Why it was not deleted, in English.
    fn delete(&self, aside: &[u8], taken: u64) -> Result<(), String> {
        let failed = |call: &str, errno: Errno| format!("{call}: {}", io::Error::from(errno));
        if !self.info.read_only {
            sys::subvol_set_read_only(&self.root, true)
                .map_err(|errno| failed("BTRFS_IOC_SUBVOL_SETFLAGS", errno))?;
        }
        // Who had a file open may have written to it meanwhile.
        syncfs(&self.root).map_err(|errno| failed("syncfs", errno))?;
        if !unchanged::since(&self.root, taken) {
            if !self.info.read_only {
                let _ = sys::subvol_set_read_only(&self.root, false);
            }
            return Err("it was changed during the adoption, and has the changes".to_owned());
        }
        if !entry::is(&self.directory, aside, self.info.id) {
            return Err("another process moved it".to_owned());
        }
        sys::snap_destroy(&self.directory, aside)
            .map_err(|errno| failed("BTRFS_IOC_SNAP_DESTROY", errno))
    }

    /// Deletes the private directories of adoptions of this copy that were
    /// interrupted.
    fn clean(&self) {
        for name in entry::unguessable(&self.directory, &prefix(self.name)) {
            drop(Workshop::left(&self.directory, name, &self.info));
        }
    }
}

/// What the names begin with that an adoption gives.
fn prefix(name: &[u8]) -> Vec<u8> {
    entry::prefix(name, INFIX)
}

/// A private directory, and whether there is a subvolume in it that an adoption
/// made. That is deleted with it.
struct Workshop {
    directory: PrivateDirectory,
    is_filled: bool,
}

impl Workshop {
    fn make(around: &OwnedFd, name: &[u8]) -> Result<Self, AdoptError> {
        let name = PrivateDirectory::unguessable(&prefix(name));
        Ok(Self {
            directory: PrivateDirectory::make(around, name)?,
            is_filled: false,
        })
    }

    /// One whose process was killed while it adopted `copy`. Anybody can give
    /// that name to a directory, so what is in it has to be a snapshot of the
    /// copy, or what the copy is a snapshot of by now.
    fn left(around: &OwnedFd, name: Vec<u8>, copy: &SubvolumeInfo) -> Option<Self> {
        let directory = PrivateDirectory::left(around, name)?;
        let inside = entry::open(&directory, INSIDE).ok();
        let is_ours = |(_, inside): &(OwnedFd, SubvolumeInfo)| {
            inside.parent_uuid == copy.uuid || inside.uuid == copy.parent_uuid
        };
        Some(Self {
            is_filled: inside.is_some_and(|inside| is_ours(&inside)),
            directory,
        })
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if self.is_filled {
            let _ = sys::snap_destroy(&self.directory, INSIDE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_directory_ends_the_adoption() {
        let name = prefix(b"copy");
        let error = AdoptError::from(PrivateDirectoryError::Replaced { name });
        assert!(matches!(error, AdoptError::Moved));
    }
}
