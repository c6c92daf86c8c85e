//! What tests look at, or combine from what there is.

use std::sync::Arc;

use btrfs_sendstream::StreamPath;
use rustix::fs::{IFlags, fgetxattr, ftruncate, ioctl_getflags, ioctl_setflags, lgetxattr};
use rustix::io::Errno;

use crate::confine::{Access, Directory, Root};
use crate::error::{Cause, named};

impl Root {
    pub(super) fn directory(&self, path: &StreamPath) -> Result<Arc<Directory>, Cause> {
        self.directory_at(path.as_bytes())
    }

    pub(super) fn truncate(&self, path: &StreamPath, size: u64) -> Result<(), Cause> {
        ftruncate(self.open_file(path, Access::Write)?, size).map_err(named("ftruncate"))
    }

    /// `FS_*_FL`.
    pub(super) fn flags(&self, path: &StreamPath) -> Result<u32, Cause> {
        let flags = ioctl_getflags(self.open_for_flags(path)?);
        flags.map(|flags| flags.bits()).map_err(named("getflags"))
    }

    /// Sets all of the flags, `FS_*_FL`.
    pub(super) fn set_flags(&self, path: &StreamPath, flags: u32) -> Result<(), Cause> {
        let flags = IFlags::from_bits_retain(flags);
        ioctl_setflags(self.open_for_flags(path)?, flags).map_err(named("setflags"))
    }

    /// Reads an extended attribute by way of `/proc`, whether or not the
    /// root uses that.
    pub(super) fn xattr(&self, path: &StreamPath, name: &[u8]) -> Result<Option<Vec<u8>>, Cause> {
        let mut value = vec![0; 65536];
        let read = if path.is_root() {
            fgetxattr(self.fd(), name, value.as_mut_slice())
        } else {
            let (directory, file) = self.parent(path)?;
            let proc_fd = crate::confine::proc::ProcFd::open().unwrap();
            let link = proc_fd.path_to(std::os::fd::AsFd::as_fd(&*directory), file);
            lgetxattr(link.as_slice(), name, value.as_mut_slice())
        };
        match read {
            Ok(len) => {
                value.truncate(len);
                Ok(Some(value))
            }
            Err(Errno::NODATA) => Ok(None),
            Err(errno) => Err(Cause::system("getxattr", errno)),
        }
    }
}
