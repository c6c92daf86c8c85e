//! Whether a received subvolume was changed since it was received.
//!
//! No field of the kernel says so. A change sets the transid and the ctime of
//! an inode, and the ctransid of the subvolume, but so does less:
//!
//! - The receiver itself changes the root directory after it has set the received
//!   UUID, in the transaction after it.
//! - Data that was in memory when `btrfs receive` set the received UUID is written
//!   to disk later, also after the subvolume became read-only.
//! - Deduplication changes read-only subvolumes too, and not what they hold.
//!
//! None of these sets a ctime, except that of the root directory. `docs/kernel.md` of
//! the repository has what was measured.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use btrfs_ioctl::{self as sys, Key, ROOT_INODE, SubvolumeInfo};
use btrfs_sendstream::Timespec;

/// Bytes of metadata after which a quick look gives up. Only what was written since
/// is read: that is little, unless a balance moved everything.
const MAX_BYTES: usize = 1 << 20;

/// The same where no transid speaks for a change, and only a power cut may have brought
/// one back.
const FEW_BYTES: usize = 64 << 10;

/// Whether a subvolume was changed since its received UUID was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(tag = "state", rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum SinceReceived {
    /// It has no received UUID.
    NotReceived,
    /// No change was found. Not seen are changes of the owner, the mode and the
    /// attributes of the root directory; changes made while the clock showed no later time
    /// than at the end of the receive; and data that is only in memory yet.
    Unchanged,
    /// A file or directory was changed, created or removed.
    Changed {
        /// Its inode number, or that of the directory it was removed from.
        inode: u64,
        /// When it was changed last.
        at: Timespec,
    },
    /// It could not be found out: that takes `CAP_SYS_ADMIN`.
    Unknown,
}

impl SinceReceived {
    /// The inode, if one was changed.
    pub fn changed_inode(self) -> Option<u64> {
        match self {
            Self::Changed { inode, .. } => Some(inode),
            Self::NotReceived | Self::Unchanged | Self::Unknown => None,
        }
    }
}

/// Finds out whether the subvolume that `fd` lies in was changed since it was
/// received.
///
/// Reads the metadata that was written since. This takes long if there is much of
/// it, and the subvolume may have been changed. Data that was written to a file is
/// seen once it is on disk: call `syncfs` first.
///
/// # Errors
/// `ENOENT` if it was deleted; `ENOTTY` if this is no btrfs.
pub fn since_received(fd: impl AsFd) -> std::io::Result<SinceReceived> {
    let info = sys::subvolume_info(&fd)?;
    Ok(look(fd, &info, info.rtransid, usize::MAX))
}

/// Finds out the same about a read-only subvolume, without reading much:
/// [`SinceReceived::Unknown`] if that is not enough.
pub(super) fn at_a_glance(fd: impl AsFd, info: &SubvolumeInfo) -> SinceReceived {
    look(fd, info, sealed(info), MAX_BYTES)
}

/// Finds out whether a subvolume that was received as `info` says was changed before
/// `snapshot` was taken of it. The kernel writes data in memory to disk before it takes
/// a snapshot, so that nothing remains unseen.
pub(super) fn before_snapshot(snapshot: impl AsFd, info: &SubvolumeInfo) -> Option<u64> {
    let id = sys::subvolume_info(&snapshot).ok()?.id;
    let most = if is_sealed(info) {
        FEW_BYTES
    } else {
        MAX_BYTES
    };
    match find(snapshot, id, info, sealed(info), most) {
        Ok(Search::Found { inode, .. }) => Some(inode),
        Ok(Search::Nothing | Search::GaveUp) | Err(_) => None,
    }
}

/// Transactions up to this one cannot hold changes made after the subvolume
/// became read-only.
///
/// Setting the received UUID commits a transaction, setting the read-only flag a
/// later one, and so does removing the flag.
fn sealed(info: &SubvolumeInfo) -> u64 {
    info.rtransid.saturating_add(2)
}

/// Whether a read-only subvolume has no later transid.
fn is_sealed(info: &SubvolumeInfo) -> bool {
    info.read_only && info.ctransid <= sealed(info)
}

fn look(fd: impl AsFd, info: &SubvolumeInfo, transid: u64, most: usize) -> SinceReceived {
    if info.received_uuid.is_nil() {
        return SinceReceived::NotReceived;
    }
    // A mount after a power cut brings back what fsync had written, and leaves
    // ctransid as it was.
    if info.ctransid.max(info.generation) <= transid {
        return SinceReceived::Unchanged;
    }
    let most = if is_sealed(info) { FEW_BYTES } else { most };
    match find(fd, info.id, info, transid, most) {
        Ok(Search::Found { inode, at }) => SinceReceived::Changed { inode, at },
        Ok(Search::Nothing) => SinceReceived::Unchanged,
        Ok(Search::GaveUp) | Err(_) if is_sealed(info) => SinceReceived::Unchanged,
        Ok(Search::GaveUp) | Err(_) => SinceReceived::Unknown,
    }
}

enum Search {
    Found { inode: u64, at: Timespec },
    Nothing,
    GaveUp,
}

/// Looks in the tree `id` for an inode that was changed after the transaction
/// `transid`, in the blocks written since. Gives up after about `most` bytes.
fn find(
    fd: impl AsFd,
    id: u64,
    info: &SubvolumeInfo,
    transid: u64,
    most: usize,
) -> rustix::io::Result<Search> {
    let all = (Key::MIN, Key::MAX);
    let (mut seen, mut found) = (0_usize, Search::Nothing);
    sys::tree_search_since(fd, id, all, transid.saturating_add(1), |item| {
        seen = seen.saturating_add(item.data.len());
        if item.key.item_type == sys::INODE_ITEM
            && let Some(at) = changed(item.key.objectid, item.data, info, transid)
        {
            let inode = item.key.objectid;
            found = Search::Found { inode, at };
            return ControlFlow::Break(());
        }
        if seen > most {
            found = Search::GaveUp;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// When an inode was changed, if that was after the received UUID was set.
fn changed(inode: u64, item: &[u8], info: &SubvolumeInfo, transid: u64) -> Option<Timespec> {
    // `btrfs_inode_item`: transid, ctime, mtime.
    let changed_in = u64::from_le_bytes(*item.get(8..)?.first_chunk()?);
    let (ctime, mtime) = (time(item, 124)?, time(item, 136)?);
    let received = (info.rtime.seconds, info.rtime.nanoseconds);
    let changed = if inode == ROOT_INODE {
        // The receiver sets its attributes, and mtime to the sender's. What is
        // created or removed in it sets mtime.
        mtime > received && mtime <= ctime
    } else {
        ctime > received
    };
    let (seconds, nanoseconds) = ctime;
    (changed && changed_in > transid).then_some(Timespec {
        seconds,
        nanoseconds,
    })
}

/// The `btrfs_timespec` at this offset: seconds and nanoseconds.
fn time(item: &[u8], offset: usize) -> Option<(i64, u32)> {
    let item = item.get(offset..)?;
    let nanoseconds = u32::from_le_bytes(*item.get(8..)?.first_chunk()?);
    Some((i64::from_le_bytes(*item.first_chunk()?), nanoseconds))
}
