//! What has a name in a directory.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, fstat, statat};
use rustix::io::Errno;

use super::subvolume::ROOT_INODE;
use crate::resume::open_directory;
use crate::sys::{self, SubvolumeInfo};

/// What has a name.
#[derive(Debug)]
pub(crate) enum Remains {
    Nothing,
    Subvolume(Box<SubvolumeInfo>),
    /// Anything else, or what cannot be looked at.
    Other,
}

/// What is called `name` in `directory`.
pub(crate) fn remains(directory: impl AsFd, name: &[u8]) -> Remains {
    match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Remains::Nothing,
        Ok(stat) if stat.st_ino == ROOT_INODE => {}
        _ => return Remains::Other,
    }
    match open_directory(&directory, name) {
        Ok(fd) if fstat(&fd).is_ok_and(|stat| stat.st_ino == ROOT_INODE) => {
            match sys::subvolume_info(&fd) {
                Ok(info) => Remains::Subvolume(Box::new(info)),
                Err(_) => Remains::Other,
            }
        }
        _ => Remains::Other,
    }
}
