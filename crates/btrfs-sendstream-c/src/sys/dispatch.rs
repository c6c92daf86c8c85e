//! From a command to the callback for it.

use std::ffi::{CString, NulError, c_char, c_int, c_void};

use btrfs_sendstream::{CloneRange, Command, CommandRef, EnableVerity, EncodedWrite, Timespec};

use crate::errno;
use crate::ops::{bss_send_ops, bss_timespec};

/// Callbacks that may be called.
pub(super) struct Callbacks<'a> {
    ops: &'a bss_send_ops,
    user: *mut c_void,
}

/// Calls a callback with arguments and `user`; 0 if there is none.
macro_rules! call {
    ($callbacks:expr, $name:ident, $($argument:expr),+) => {
        match $callbacks.ops.$name {
            None => 0,
            // SAFETY: whoever made `Callbacks` vouches for the function. The
            // arguments have its types; what they point to lives in variables
            // of the caller, until after the call.
            Some(function) => unsafe { function($($argument,)+ $callbacks.user) },
        }
    };
}

impl<'a> Callbacks<'a> {
    /// # Safety
    /// Each function of `ops` can be called with arguments as the header
    /// describes them and with `user`, as long as this value exists.
    pub(super) unsafe fn new(ops: &'a bss_send_ops, user: *mut c_void) -> Self {
        Self { ops, user }
    }

    /// Calls the callback for a command, and gives what it returned.
    pub(super) fn call(&mut self, command: &CommandRef<'_>) -> c_int {
        match self.try_call(command) {
            Ok(status) => status,
            Err(error) => {
                // Decoding refuses names with a NUL in them.
                errno::remember(&error.to_string());
                -libc::EINVAL
            }
        }
    }

    fn try_call(&self, command: &CommandRef<'_>) -> Called {
        let path = match command {
            Command::Subvol { name, .. } | Command::Snapshot { name, .. } => text(name.as_bytes())?,
            other => match other.path() {
                Some(path) => text(path.as_bytes())?,
                None => CString::default(),
            },
        };
        let path = path.as_ptr();
        Ok(match command {
            Command::Subvol { uuid, ctransid, .. } => {
                let uuid = uuid.as_bytes().as_ptr();
                call!(self, subvol, path, uuid, *ctransid)
            }
            Command::Snapshot {
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
                ..
            } => {
                let uuid = uuid.as_bytes().as_ptr();
                let parent = parent_uuid.as_bytes().as_ptr();
                let (from, to) = (*parent_ctransid, *ctransid);
                call!(self, snapshot, path, uuid, to, parent, from)
            }
            Command::Mkfile { .. } => call!(self, mkfile, path),
            Command::Mkdir { .. } => call!(self, mkdir, path),
            Command::Mknod { mode, rdev, .. } => call!(self, mknod, path, *mode, *rdev),
            Command::Mkfifo { .. } => call!(self, mkfifo, path),
            Command::Mksock { .. } => call!(self, mksock, path),
            Command::Symlink { target, .. } => {
                let target = text(target)?;
                call!(self, symlink, path, target.as_ptr())
            }
            Command::Rename { to, .. } => {
                let to = text(to.as_bytes())?;
                call!(self, rename, path, to.as_ptr())
            }
            Command::Link { existing, .. } => {
                let existing = text(existing.as_bytes())?;
                call!(self, link, path, existing.as_ptr())
            }
            Command::Unlink { .. } => call!(self, unlink, path),
            Command::Rmdir { .. } => call!(self, rmdir, path),
            Command::SetXattr { name, data, .. } => {
                let name = text(name)?;
                let (name, len) = (name.as_ptr(), data.len());
                call!(self, set_xattr, path, name, start(data), len)
            }
            Command::RemoveXattr { name, .. } => {
                let name = text(name)?;
                call!(self, remove_xattr, path, name.as_ptr())
            }
            Command::Write { offset, data, .. } => {
                let len = data.len() as u64;
                call!(self, write, path, start(data), *offset, len)
            }
            Command::Clone(range) => self.clone_range(path, range)?,
            Command::EncodedWrite(write) => self.encoded_write(path, write),
            Command::Truncate { size, .. } => call!(self, truncate, path, *size),
            Command::Chmod { mode, .. } => call!(self, chmod, path, *mode),
            Command::Chown { uid, gid, .. } => call!(self, chown, path, *uid, *gid),
            Command::Utimes {
                atime,
                mtime,
                ctime,
                ..
            } => {
                let times = [time(atime), time(mtime), time(ctime)];
                let [atime, mtime, ctime] = times.each_ref().map(std::ptr::from_ref);
                call!(self, utimes, path, atime, mtime, ctime)
            }
            Command::UpdateExtent { offset, len, .. } => {
                call!(self, update_extent, path, *offset, *len)
            }
            Command::Fallocate {
                mode, offset, len, ..
            } => call!(self, fallocate, path, *mode, *offset, *len),
            Command::FileAttr { attributes, .. } => call!(self, fileattr, path, *attributes),
            Command::EnableVerity(verity) => self.enable_verity(path, verity),
            // It has no callback.
            Command::End => 0,
        })
    }

    fn clone_range(&self, path: *const c_char, range: &CloneRange<&[u8]>) -> Called {
        let source_path = text(range.source_path.as_bytes())?;
        Ok(call!(
            self,
            clone,
            path,
            range.offset,
            range.len,
            range.source_uuid.as_bytes().as_ptr(),
            range.source_ctransid,
            source_path.as_ptr(),
            range.source_offset
        ))
    }

    fn encoded_write(&self, path: *const c_char, write: &EncodedWrite<&[u8]>) -> c_int {
        call!(
            self,
            encoded_write,
            path,
            start(write.data),
            write.offset,
            write.data.len() as u64,
            write.unencoded_file_len,
            write.unencoded_len,
            write.unencoded_offset,
            write.compression.unwrap_or(0),
            write.encryption.unwrap_or(0)
        )
    }

    fn enable_verity(&self, path: *const c_char, verity: &EnableVerity<&[u8]>) -> c_int {
        call!(
            self,
            enable_verity,
            path,
            verity.algorithm,
            verity.block_size,
            start(verity.salt),
            verity.salt.len(),
            start(verity.signature),
            verity.signature.len()
        )
    }
}

/// What a callback returned, unless a name cannot be a C string.
type Called = Result<c_int, NulError>;

fn text(bytes: &[u8]) -> Result<CString, NulError> {
    CString::new(bytes)
}

fn start(data: &[u8]) -> *const c_void {
    data.as_ptr().cast()
}

fn time(time: &Timespec) -> bss_timespec {
    bss_timespec {
        sec: time.seconds,
        nsec: time.nanoseconds,
    }
}
