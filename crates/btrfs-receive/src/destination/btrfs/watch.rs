//! Whether another process got into a subvolume between the call that opens its
//! root and the one that makes it read-only.
//!
//! Nobody is kept out: that would take permission events of fanotify(7), with
//! which every open on the filesystem waits for this process, even when it is
//! stopped. Instead the kernel notes what is opened. A file that was opened and
//! that somebody still has open for writing, by a descriptor or a mapping, or an
//! inode that was changed, is found afterwards.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::thread;

use btrfs_sendstream::Timespec;
use rustix::fs::{FileType, fgetxattr, flistxattr, fstat, syncfs};
use rustix::io::Errno;
use tracing::debug;

use super::worker::THREAD_STACK;
use crate::destination::tree::times::times_of;
use crate::error::{Cause, named};
use btrfs_ioctl::{self as sys, Key, Opens, ROOT_INODE};
use btrfs_lineage::UNFINISHED;
use btrfs_lineage::top_level;

/// Where the time of the last change of an inode lies in its item.
const CTIME: usize = 124;

/// Who gets into a subvolume, from when its root is still closed.
pub(super) struct Watch<'a> {
    opens: Opens,
    before: Before<'a>,
}

/// What a subvolume was when its root was still closed.
pub(super) struct Before<'a> {
    root: &'a OwnedFd,
    id: u64,
    /// Transaction in which everything was on disk.
    transid: u64,
    state: RootState,
    /// When the root was changed last: since then, everything else was
    /// complete.
    since: (u64, u32),
}

/// What those who may write to the root, and do not own it, can change of it.
#[derive(PartialEq, Eq)]
struct RootState {
    size: i64,
    mtime: Timespec,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Watch<'a> {
    /// Begins to watch the subvolume `id`; `None` without `CAP_SYS_ADMIN`, or
    /// on a kernel that cannot do it.
    ///
    /// # Errors
    /// It could be watched, but not now, for example because too many files are open.
    pub(super) fn begin(root: &'a OwnedFd, id: u64, transid: u64) -> Result<Option<Self>, Cause> {
        let top = top_level(root).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            ("open_by_handle_at", errno)
        });
        let opens = top.and_then(|top| Opens::watch(top).map_err(|errno| ("fanotify_init", errno)));
        let opens = match opens {
            Ok(opens) => opens,
            // It can be watched, but there are too few files, groups or memory at the moment,
            // or the disk fails.
            Err((
                call,
                errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSPC | Errno::IO),
            )) => return Err(Cause::system(call, errno)),
            Err((_, errno)) => {
                debug!(%errno, "not watched for other processes while it is made read-only");
                return Ok(None);
            }
        };
        let stat = fstat(root).map_err(named("fstat"))?;
        let before = Before {
            root,
            id,
            transid,
            state: RootState::of(root)?,
            since: (
                stat.st_ctime.cast_unsigned(),
                u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
            ),
        };
        Ok(Some(Self { opens, before }))
    }

    /// Whether nobody got in. The subvolume is read-only by now, and that is
    /// committed. Returns what to look at again.
    ///
    /// # Errors
    /// Somebody did, or it cannot be found out.
    pub(super) fn end(self) -> Result<Before<'a>, Cause> {
        let Self { opens, before } = self;
        let opened = opens.of_subvolume(before.id);
        let opened = opened.map_err(named("read from fanotify"))?;
        // Closing it takes the kernel 20 ms. Without a thread it takes them
        // here.
        let closing = thread::Builder::new().name("btrfs-close".into());
        let _ = closing.stack_size(THREAD_STACK).spawn(move || drop(opens));
        let was_opened = !opened.is_empty();
        for opened in opened {
            if before.is_open(opened)? {
                return Err(Cause::EnteredByOthers {
                    inode: opened.inode,
                    open: true,
                });
            }
        }
        if was_opened {
            // What was written until it was closed may be in memory still.
            syncfs(before.root).map_err(named("syncfs"))?;
        }
        before.unchanged()?;
        Ok(before)
    }
}

impl Before<'_> {
    /// Whether all of the subvolume is as it was, as far as it is committed.
    ///
    /// # Errors
    /// It is not, or it cannot be found out.
    pub(super) fn unchanged(&self) -> Result<(), Cause> {
        let changed = if RootState::of(self.root)? == self.state {
            self.changed()?
        } else {
            Some(ROOT_INODE)
        };
        match changed {
            Some(inode) => Err(Cause::EnteredByOthers { inode, open: false }),
            None => Ok(()),
        }
    }

    /// Whether somebody has it open for writing.
    fn is_open(&self, opened: sys::Opened) -> Result<bool, Cause> {
        let sys::Opened {
            inode, generation, ..
        } = opened;
        let stat = match sys::find_inode(self.root, self.id, inode, generation) {
            Ok(found) => fstat(found).map_err(named("fstat"))?,
            // It was deleted, which is a change of its directory.
            Err(Errno::STALE | Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(Cause::system("open_by_handle_at", errno)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(false);
        }
        let file = sys::open_inode(self.root, self.id, inode, generation)
            .map_err(named("open_by_handle_at"))?;
        sys::is_open_for_writing(file).map_err(named("fcntl(F_SETLEASE)"))
    }

    /// An inode other than the root that was changed. Its transaction alone
    /// does not tell: the kernel writes files anew to defragment them.
    fn changed(&self) -> Result<Option<u64>, Cause> {
        let mut changed = None;
        let all = (Key::MIN, Key::MAX);
        let since = self.transid.saturating_add(1);
        sys::tree_search_since(self.root, self.id, all, since, |item| {
            if item.key.item_type != sys::INODE_ITEM || item.key.objectid == ROOT_INODE {
                return ControlFlow::Continue(());
            }
            let word = |at: usize| item.data.get(at..).and_then(|it| it.first_chunk());
            let nanoseconds = item.data.get(CTIME + 8..).and_then(|it| it.first_chunk());
            let transid = word(8).map_or(u64::MAX, |it| u64::from_le_bytes(*it));
            let ctime = (
                word(CTIME).map_or(u64::MAX, |it| u64::from_le_bytes(*it)),
                nanoseconds.map_or(u32::MAX, |it| u32::from_le_bytes(*it)),
            );
            if transid > self.transid && ctime >= self.since {
                changed = Some(item.key.objectid);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
        .map_err(named("BTRFS_IOC_TREE_SEARCH_V2"))?;
        Ok(changed)
    }
}

impl RootState {
    fn of(root: &OwnedFd) -> Result<Self, Cause> {
        let stat = fstat(root).map_err(named("fstat"))?;
        // No longer names or values than the kernel's own limit.
        let mut buffer = vec![0_u8; 65536];
        let len = flistxattr(root, buffer.as_mut_slice()).map_err(named("flistxattr"))?;
        let names = buffer.get(..len).unwrap_or_default().to_vec();
        let mut attributes = Vec::new();
        for name in names.split(|&byte| byte == 0) {
            if name.starts_with(b"user.") && name != UNFINISHED {
                let len = fgetxattr(root, name, buffer.as_mut_slice());
                let len = len.map_err(named("fgetxattr"))?;
                let value = buffer.get(..len).unwrap_or_default().to_vec();
                attributes.push((name.to_vec(), value));
            }
        }
        attributes.sort_unstable();
        Ok(Self {
            size: stat.st_size,
            mtime: times_of(&stat).1,
            attributes,
        })
    }
}
