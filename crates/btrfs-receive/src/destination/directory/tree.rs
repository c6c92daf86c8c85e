//! Setting owners, modes and attributes as far as the filesystem and the
//! privileges of the process allow, and noting what is lost.
//!
//! # An ordinary user
//! Who may not give files away owns what is extracted, whoever owned it. So
//! a set-id bit would hand out the extracting user's rights, and is left
//! out. The owner keeps the right to read: a file or directory that its
//! owner could not read would be of no use as a parent or clone source.
//! And a directory that its owner may not write to gets its mode when it is
//! filled.

use std::os::fd::OwnedFd;

use btrfs_sendstream::{Bytes, StreamPath, Timespec};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};

use super::names::GivenNames;
use super::notes::Notes;
use crate::confine::{Access, Root};
use crate::destination::tree::times::times_of;
use crate::error::is_errno;
use crate::error::{Cause, named};
use crate::report::LossKind;
use crate::xattr::ACCESS_ACL;

const SET_ID: u32 = 0o6000;

/// What the process may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    /// `CAP_CHOWN`: give files away.
    pub(super) chown: bool,
    /// `CAP_FSETID`: set-id bits survive changes of content.
    pub(super) keeps_set_id: bool,
    /// `CAP_DAC_OVERRIDE`: permission bits do not bind it.
    pub(super) ignores_modes: bool,
}

impl Rights {
    pub(super) fn of_process() -> Self {
        let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        Self {
            chown: held.contains(CapabilitySet::CHOWN),
            keeps_set_id: held.contains(CapabilitySet::FSETID),
            ignores_modes: held.contains(CapabilitySet::DAC_OVERRIDE),
        }
    }
}

/// The tree under construction.
pub(super) struct Tree {
    pub(super) root: Root,
    pub(super) rights: Rights,
    pub(super) notes: Notes,
    pub(super) names: GivenNames,
    /// The filesystem keeps nanoseconds.
    exact_times: bool,
}

impl Tree {
    pub(super) fn new(root: Root, notes: Notes) -> Result<Self, Cause> {
        let names = GivenNames::new(&root)?;
        let path = StreamPath::default();
        let odd = Timespec {
            seconds: 1,
            nanoseconds: 1,
        };
        let times = || fstat(root.fd()).map(|stat| times_of(&stat));
        let (atime, mtime) = times().map_err(named("fstat"))?;
        root.utimens(&path, odd, Some(odd))?;
        let kept = times().map_err(named("fstat"))?;
        root.utimens(&path, atime, Some(mtime))?;
        Ok(Self {
            root,
            rights: Rights::of_process(),
            notes,
            names,
            exact_times: kept == (odd, odd),
        })
    }

    /// Sets the owner, and nothing else: set-id bits stay.
    pub(super) fn chown(&mut self, path: &StreamPath, uid: u32, gid: u32) -> Result<(), Cause> {
        let special = self.mode_of_file(path)?.filter(|mode| mode & SET_ID != 0);
        let lack = LossKind::Owner { uid, gid };
        match self.root.chown(path, uid, gid) {
            Ok(()) => {
                self.notes.has(path, &lack);
                match special {
                    Some(mode) => self.root.chmod(path, mode),
                    None => Ok(()),
                }
            }
            Err(cause) if is_refusal(&cause) => {
                self.notes.note_loss(path, lack, errno_of(&cause))?;
                // Not for another owner than the sender's.
                match special {
                    Some(mode) => self.chmod(path, mode),
                    None => Ok(()),
                }
            }
            Err(cause) => Err(cause),
        }
    }

    /// Sets the permission bits, as far as that is wise for who will own the
    /// file.
    pub(super) fn chmod(&mut self, path: &StreamPath, wanted: u32) -> Result<(), Cause> {
        let is_directory = self.mode_of_file(path)?.is_none();
        let mut mode = wanted;
        if !is_directory && (!self.rights.chown || self.notes.lacks_owner(path)) {
            mode &= !SET_ID;
        }
        let mut now = mode;
        if !self.rights.ignores_modes {
            mode |= if is_directory { 0o500 } else { 0o400 };
            // The root's own mode comes last in any case.
            let filling = is_directory && !path.is_root();
            now = if filling { mode | 0o700 } else { mode };
            if is_directory {
                self.notes.mode_later(path, (now != mode).then_some(mode))?;
            }
        }
        let lack = |kept, errno| {
            let what = LossKind::Mode { wanted, kept };
            (what, errno)
        };
        let (what, errno) = match self.root.chmod(path, now) {
            Ok(()) if mode == wanted => {
                self.notes.has(path, &lack(None, None).0);
                return Ok(());
            }
            Ok(()) => lack(Some(mode), None),
            Err(Cause::ModeNotSet { kept, .. }) => lack(Some(kept), None),
            Err(cause) if is_refusal(&cause) && !self.is_symlink(path)? => {
                lack(None, errno_of(&cause))
            }
            Err(cause) => return Err(cause),
        };
        self.notes.note_loss(path, what, errno)
    }

    /// Sets the modes that had to wait until directories were filled.
    pub(super) fn set_waiting_modes(&mut self) -> Result<(), Cause> {
        // Contents before the directories that they are reached through.
        let mut waiting: Vec<_> = self.notes.take_modes().collect();
        while let Some((path, mode)) = waiting.pop() {
            let path = StreamPath::parse(Bytes::from(path)).map_err(|_| Cause::RootItself)?;
            match self.root.chmod(&path, mode) {
                Ok(()) => {}
                Err(Cause::ModeNotSet { wanted, kept }) => {
                    let kept = Some(kept);
                    self.notes
                        .note_loss(&path, LossKind::Mode { wanted, kept }, None)?;
                }
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    /// Creates or replaces an extended attribute, if the filesystem takes it.
    pub(super) fn set_xattr(
        &mut self,
        path: &StreamPath,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Cause> {
        let lack = LossKind::Xattr {
            name: Bytes::copy_from_slice(name),
        };
        match self.writable(path, |root| root.set_xattr(path, name, value)) {
            Ok(()) => {
                self.notes.has(path, &lack);
                self.after_acl(path, name)
            }
            Err(cause) if is_refusal(&cause) || is_too_large(&cause) => {
                self.notes.note_loss(path, lack, errno_of(&cause))
            }
            Err(cause) => Err(cause),
        }
    }

    /// An ACL brings permission bits along, which may lock the owner out.
    fn after_acl(&mut self, path: &StreamPath, name: &[u8]) -> Result<(), Cause> {
        if name != ACCESS_ACL || self.rights.ignores_modes {
            return Ok(());
        }
        let mode = match path.is_root() {
            true => fstat(self.root.fd()).map_err(named("fstat"))?.st_mode,
            false => self.root.inode(path)?.stat().st_mode,
        };
        self.chmod(path, mode & 0o7777)
    }

    /// Removes an extended attribute. One that could never be set is not
    /// there.
    pub(super) fn remove_xattr(&mut self, path: &StreamPath, name: &Bytes) -> Result<(), Cause> {
        match self.writable(path, |root| root.remove_xattr(path, name)) {
            Ok(()) => {}
            Err(cause) if is_refusal(&cause) => {}
            Err(cause) => return Err(cause),
        }
        let name = name.clone();
        self.notes.has(path, &LossKind::Xattr { name });
        Ok(())
    }

    /// Sets the times, and notes where they were kept less exactly.
    pub(super) fn utimens(
        &mut self,
        path: &StreamPath,
        atime: Timespec,
        mtime: Option<Timespec>,
    ) -> Result<(), Cause> {
        self.root.utimens(path, atime, mtime)?;
        let near = 0..=i64::from(i32::MAX);
        let usual = near.contains(&atime.seconds)
            && mtime.is_none_or(|mtime| near.contains(&mtime.seconds));
        if usual && self.exact_times {
            return Ok(());
        }
        let kept = match path.is_root() {
            true => times_of(&fstat(self.root.fd()).map_err(named("fstat"))?),
            false => times_of(self.root.inode(path)?.stat()),
        };
        match kept == (atime, mtime.unwrap_or(kept.1)) {
            true => {
                self.notes.has(path, &LossKind::Times);
                Ok(())
            }
            false => self.notes.note_loss(path, LossKind::Times, None),
        }
    }

    /// Opens a regular file to write to it.
    pub(super) fn open_to_write(&self, path: &StreamPath) -> Result<OwnedFd, Cause> {
        self.writable(path, |root| root.open_file(path, Access::Write))
    }

    /// Makes a call that needs write permission on a file; if the mode of the
    /// file forbids it, with the owner's right to write given for so long.
    fn writable<T>(
        &self,
        path: &StreamPath,
        call: impl Fn(&Root) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let result = call(&self.root);
        match &result {
            Err(cause) if is_errno(cause, Errno::ACCESS) && !self.rights.ignores_modes => {}
            _ => return result,
        }
        let Ok(Some(mode)) = self.mode_of_file(path) else {
            return result;
        };
        if mode & 0o600 == 0o600 || self.root.chmod(path, mode | 0o600).is_err() {
            return result;
        }
        let result = call(&self.root);
        self.root.chmod(path, mode)?;
        result
    }

    fn is_symlink(&self, path: &StreamPath) -> Result<bool, Cause> {
        Ok(!path.is_root() && self.root.inode(path)?.file_type() == FileType::Symlink)
    }

    /// The permission bits of anything but a directory, which has none that
    /// a change of owner or content would clear. `None` for directories.
    pub(super) fn mode_of_file(&self, path: &StreamPath) -> Result<Option<u32>, Cause> {
        if path.is_root() {
            return Ok(None);
        }
        let inode = self.root.inode(path)?;
        let is_directory = inode.file_type() == FileType::Directory;
        // A symbolic link has no mode that could be set.
        let mode = match inode.file_type() {
            FileType::Symlink => 0,
            _ => inode.stat().st_mode & 0o7777,
        };
        Ok((!is_directory).then_some(mode))
    }
}

/// Whether the kernel says "not here" or "not you", rather than that
/// something is wrong: what was asked for is then lost.
pub(super) fn is_refusal(cause: &Cause) -> bool {
    // EINVAL: an owner that the user namespace does not know, an ACL or
    // capability that names one, a value that the filesystem has no room
    // for.
    let refusals = [
        Errno::PERM,
        Errno::ACCESS,
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::INVAL,
        Errno::OVERFLOW,
    ];
    refusals.iter().any(|errno| is_errno(cause, *errno))
}

/// Whether a value does not fit where the filesystem keeps such.
fn is_too_large(cause: &Cause) -> bool {
    let too_large = [Errno::NOSPC, Errno::TOOBIG, Errno::RANGE, Errno::DQUOT];
    too_large.iter().any(|errno| is_errno(cause, *errno))
}

/// What the kernel said.
pub(super) fn errno_of(cause: &Cause) -> Option<i32> {
    match cause {
        Cause::System { error, .. } => error.raw_os_error(),
        _ => None,
    }
}
