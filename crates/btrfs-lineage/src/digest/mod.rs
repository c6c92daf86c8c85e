//! A digest of everything that send carries of a subvolume.
//!
//! Two subvolumes with the same digest are the same to whoever receives what
//! was sent from them: names, types, modes, owners, modification times,
//! contents, extended attributes with ACLs and capabilities, hard links, device
//! numbers and targets of symbolic links. The digest does not depend on how
//! extents lie on disk, on compression, inode numbers or the order in which
//! files were created. `docs/digest.md` of the repository describes the
//! serialisation completely, and says what is not part of it and why.
//!
//! ```no_run
//! use btrfs_lineage::digest::{DigestOptions, digest};
//!
//! let snapshot = std::fs::File::open("/snapshots/monday")?;
//! let document = digest(&snapshot, DigestOptions::default())?;
//! println!("{}", document.sha256);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Memory
//! For the names of the directories from the root to the one that is being
//! read, and of those that threads are still at work in: 150 bytes and the name,
//! each. For each name of a file that has several: 50 bytes. For each thread:
//! 256 KiB. With [`DigestOptions::tree`] also 500 bytes for each name. It does
//! not depend on the size of files.
//!
//! # Open files
//! One for each directory from the root to the one that is being read, of which
//! there are at most 2048, and at most 300 more.

mod compare;
mod content;
mod document;
mod error;
mod inode;
mod node;
mod options;
mod pool;
mod record;
mod root_change;
mod sha;
mod sync;
mod walk;
mod worker;

use std::os::fd::AsFd;

use btrfs_ioctl::{self as sys, Key, ROOT_INODE};
use btrfs_sendstream::SourceId;
use rustix::fs::{OFlags, syncfs};
use rustix::io::Errno;

pub use compare::{Difference, differences};
pub use document::{
    Attribute, Device, DigestDocument, DocumentError, FORMAT, Kind, Name, SentAs, Time, TreeEntry,
    read_documents,
};
pub use error::DigestError;
pub use options::{DigestOptions, DigestProgress};
pub use root_change::RootChange;
pub use sha::Sha;

use error::Problem;
use inode::stat_of;

/// Computes the digest of the subvolume with this root directory.
///
/// Nothing in the subvolume leads out of it: symbolic links are read and not
/// followed, devices and FIFOs are not opened, and what is mounted on a file or
/// directory is an error. Access times stay as they are, where the process may
/// ask for that.
///
/// # Errors
/// See [`DigestError`]. `CAP_SYS_ADMIN` in the initial user namespace is
/// needed, and whatever it takes to read every file.
pub fn digest(root: impl AsFd, options: DigestOptions) -> Result<DigestDocument, DigestError> {
    let at_root = |problem: Problem| problem.at(Vec::new());
    // Not the caller's description, which has a position of its own in the
    // directory.
    let root = inode::open(root, b".", OFlags::DIRECTORY).map_err(|problem| match problem {
        Problem::System {
            errno: Errno::NOTDIR,
            ..
        } => DigestError::NotASubvolume,
        problem => at_root(problem),
    })?;
    if stat_of(&root).map_err(at_root)?.st_ino != ROOT_INODE {
        return Err(DigestError::NotASubvolume);
    }
    // What was written shortly before it became read-only changes ctransid when
    // it is written to disk.
    syncfs(&root).map_err(|errno| at_root(Problem::of("syncfs")(errno)))?;
    let info = sys::subvolume_info(&root).map_err(|errno| match errno {
        Errno::NOTTY => DigestError::NotASubvolume,
        errno => at_root(Problem::of("BTRFS_IOC_GET_SUBVOL_INFO")(errno)),
    })?;
    if !info.read_only && !options.allow_writable {
        return Err(DigestError::Writable);
    }
    may_read_everything(&root, info.id)?;
    let received_uuid = Some(info.received_uuid).filter(|uuid| !uuid.is_nil());
    let result = walk::run(root, &options)?;
    Ok(DigestDocument {
        format: FORMAT,
        sha256: result.sha256,
        uuid: info.uuid,
        received_uuid,
        ctransid: info.ctransid,
        stransid: received_uuid.map(|_| info.stransid),
        read_only: info.read_only,
        sent_as: SourceId {
            uuid: received_uuid.unwrap_or(info.uuid),
            ctransid: info.ctransid,
        }
        .into(),
        names: result.names,
        nested_subvolumes: result.nested,
        tree: result.tree,
    })
}

/// `trusted.*` attributes are hidden from those without `CAP_SYS_ADMIN` in the
/// initial user namespace. So are trees, with an error.
fn may_read_everything(root: impl AsFd, id: u64) -> Result<(), DigestError> {
    let key = Key {
        objectid: ROOT_INODE,
        item_type: sys::INODE_ITEM,
        offset: 0,
    };
    let searched = sys::tree_search(root, id, key, key, |_| std::ops::ControlFlow::Break(()));
    match searched {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => Err(DigestError::NotPermitted),
        Err(errno) => Err(Problem::of("BTRFS_IOC_TREE_SEARCH_V2")(errno).at(Vec::new())),
    }
}
