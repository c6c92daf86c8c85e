//! Which files of a subvolume are opened, by fanotify(7).

#![allow(unsafe_code)]

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::{Errno, Result, read};

use super::abi::FILEID_BTRFS_WITHOUT_PARENT;

/// Bytes of `struct fanotify_event_metadata`.
pub(super) const METADATA: usize = size_of::<libc::fanotify_event_metadata>();

/// `F_SETSIG` (`asm-generic/fcntl.h`), which libc lacks.
const F_SETSIG: libc::c_int = 10;

/// Notes the regular files that are opened on a filesystem, from its creation
/// on. Nobody waits for it.
#[derive(Debug)]
pub struct Opens(OwnedFd);

/// An inode that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opened {
    /// Id of the subvolume.
    pub subvolume: u64,
    /// Its number in there.
    pub inode: u64,
    /// Its generation.
    pub generation: u32,
}

impl Opens {
    /// `fanotify_init(2)` and `fanotify_mark(2)` with `FAN_MARK_FILESYSTEM`.
    /// `top` is the root of the top level, by which alone a btrfs can be marked
    /// as a whole. Linux 5.1.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace; `EXDEV`
    /// if it is another subvolume; `ENOSYS`, `EINVAL` on a kernel without
    /// this; `EMFILE` for too many groups.
    pub fn watch(top: impl AsFd) -> Result<Self> {
        let flags = libc::FAN_CLASS_NOTIF
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_REPORT_FID
            | libc::FAN_UNLIMITED_QUEUE;
        // SAFETY: the call takes integers.
        let group = unsafe { libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint) };
        if group < 0 {
            return Err(last_error());
        }
        // SAFETY: the call succeeded, so this is a new descriptor that nothing
        // else owns.
        let group = unsafe { OwnedFd::from_raw_fd(group) };
        // SAFETY: without a path the call marks what the descriptor is of.
        let marked = unsafe {
            libc::fanotify_mark(
                group.as_raw_fd(),
                libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM,
                libc::FAN_OPEN,
                top.as_fd().as_raw_fd(),
                ptr::null(),
            )
        };
        if marked < 0 {
            return Err(last_error());
        }
        Ok(Self(group))
    }

    /// What was opened of the subvolume `id` so far, each once.
    ///
    /// # Errors
    /// `EOVERFLOW` if there were more than the kernel could hold; `EIO` if its
    /// answer makes no sense.
    pub fn of_subvolume(&self, id: u64) -> Result<HashSet<Opened>> {
        let mut all = HashSet::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let len = match read(&self.0, buffer.as_mut_slice()) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(all),
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let mut rest = buffer.get(..len).ok_or(Errno::IO)?;
            while !rest.is_empty() {
                let event_len = u32_at(rest, 0).ok_or(Errno::IO)? as usize;
                if event_len < METADATA {
                    return Err(Errno::IO);
                }
                let (event, after) = rest.split_at_checked(event_len).ok_or(Errno::IO)?;
                if u64_at(event, 8).ok_or(Errno::IO)? & libc::FAN_Q_OVERFLOW != 0 {
                    return Err(Errno::OVERFLOW);
                }
                let opened = opened(event).ok_or(Errno::IO)?;
                if opened.subvolume == id {
                    all.insert(opened);
                }
                rest = after;
            }
        }
    }
}

/// What an event is about, unless it makes no sense.
fn opened(event: &[u8]) -> Option<Opened> {
    let metadata_len = event.get(6..)?.first_chunk()?;
    let info = event.get(usize::from(u16::from_ne_bytes(*metadata_len))..)?;
    if info.first() != Some(&libc::FAN_EVENT_INFO_TYPE_FID) {
        return None;
    }
    // The header of the information has 4 bytes and the id of the filesystem 8,
    // ahead of a `struct file_handle`.
    let handle = info.get(12..)?;
    if i32::try_from(u32_at(handle, 4)?) != Ok(FILEID_BTRFS_WITHOUT_PARENT) {
        return None;
    }
    Some(Opened {
        inode: u64_at(handle, 8)?,
        subvolume: u64_at(handle, 16)?,
        generation: u32_at(handle, 24)?,
    })
}

/// `fcntl(2)` with `F_SETLEASE`: whether anybody, by any descriptor or mapping,
/// has a file open for writing. `file` is open for reading alone.
///
/// # Errors
/// `EACCES` if the file belongs to someone else, without `CAP_LEASE`; `EINVAL`
/// if it is not a regular file, or the filesystem has no leases.
pub fn is_open_for_writing(file: impl AsFd) -> Result<bool> {
    let file = file.as_fd().as_raw_fd();
    // Whoever opens it while the lease is held has a signal sent here: not
    // SIGIO, which ends the process, but one that is ignored.
    // SAFETY: the call takes integers.
    if unsafe { libc::fcntl(file, F_SETSIG, libc::SIGURG) } < 0 {
        return Err(last_error());
    }
    // SAFETY: the call takes integers.
    if unsafe { libc::fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: the same. Closing the file would do it as well.
        let _ = unsafe { libc::fcntl(file, libc::F_SETLEASE, libc::F_UNLCK) };
        return Ok(false);
    }
    match last_error() {
        Errno::AGAIN => Ok(true),
        errno => Err(errno),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
