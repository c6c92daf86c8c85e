//! What commands do to names, and when they cannot.

use bytes::Bytes;

use super::{Changes, Child, InodeId, InodeKind, NameError, NameTree, ROOT};
use crate::{Command, StreamPath};

/// Longest name of a directory entry (`BTRFS_NAME_LEN`).
const NAME_MAX: usize = 255;

/// Most names of one inode (`BTRFS_LINK_MAX`).
const LINK_MAX: u32 = 65_535;

type Path<'a> = StreamPath<&'a [u8]>;

impl NameTree {
    /// Carries out a command.
    ///
    /// # Errors
    /// It cannot succeed; then nothing is changed. After
    /// [`NameError::TooMany`] the tree is no longer what the stream says.
    pub(crate) fn apply<B: AsRef<[u8]>>(&mut self, command: &Command<B>) -> Result<(), NameError> {
        match command {
            Command::Subvol { .. } | Command::Snapshot { .. } | Command::End => Ok(()),
            Command::Mkfile { path, .. } => self.create(&path.borrow(), InodeKind::File),
            Command::Mkdir { path, .. } => self.create(&path.borrow(), InodeKind::Directory),
            Command::Mknod { path, .. } => self.create(&path.borrow(), InodeKind::Device),
            Command::Mkfifo { path, .. } => self.create(&path.borrow(), InodeKind::Fifo),
            Command::Mksock { path, .. } => self.create(&path.borrow(), InodeKind::Socket),
            Command::Symlink { path, .. } => self.create(&path.borrow(), InodeKind::Symlink),
            Command::Rename { path, to } => self.rename(&path.borrow(), &to.borrow()),
            Command::Link { path, existing } => self.link(&path.borrow(), &existing.borrow()),
            Command::Unlink { path } => self.unlink(&path.borrow()),
            Command::Rmdir { path } => self.rmdir(&path.borrow()),
            Command::SetXattr { path, .. } | Command::RemoveXattr { path, .. } => {
                self.change(&path.borrow(), Changes::XATTRS)
            }
            Command::Chown { path, .. } => self.change(&path.borrow(), Changes::OWNER),
            Command::Utimes { path, .. } => self.change(&path.borrow(), Changes::TIMES),
            Command::Chmod { path, .. } => {
                let path = path.borrow();
                self.suitable(&path, |kind| kind != InodeKind::Symlink)?;
                self.change(&path, Changes::MODE)
            }
            Command::FileAttr { path, .. } => {
                let path = path.borrow();
                self.suitable(&path, |kind| {
                    kind == InodeKind::Directory || kind.may_be_file()
                })?;
                self.change(&path, Changes::FLAGS)
            }
            Command::Write { path, .. }
            | Command::Fallocate { path, .. }
            | Command::UpdateExtent { path, .. } => {
                self.change_file(&path.borrow(), Changes::CONTENT)
            }
            Command::EncodedWrite(write) => {
                self.change_file(&write.path.borrow(), Changes::CONTENT)
            }
            Command::Clone(clone) => self.change_file(&clone.path.borrow(), Changes::CONTENT),
            Command::Truncate { path, .. } => self.change_file(&path.borrow(), Changes::SIZE),
            Command::EnableVerity(verity) => {
                self.change_file(&verity.path.borrow(), Changes::VERITY)
            }
        }
    }

    fn create(&mut self, path: &Path<'_>, kind: InodeKind) -> Result<(), NameError> {
        let (directory, name) = self.free_place(path)?;
        let id = self.add_inode(kind, true)?;
        self.add_name(directory, name, id)
    }

    fn link(&mut self, path: &Path<'_>, existing: &Path<'_>) -> Result<(), NameError> {
        let id = self.find(existing)?;
        self.narrow_to_no_directory(id, existing)?;
        if self.inode(id).is_some_and(|inode| inode.links >= LINK_MAX) {
            return Err(NameError::TooManyLinks);
        }
        let (directory, name) = self.free_place(path)?;
        self.add_name(directory, name, id)
    }

    fn unlink(&mut self, path: &Path<'_>) -> Result<(), NameError> {
        let (directory, name) = self.place(path)?;
        let id = self.find(path)?;
        self.narrow_to_no_directory(id, path)?;
        self.take_name(directory, name);
        self.drop_inode(id);
        Ok(())
    }

    fn rmdir(&mut self, path: &Path<'_>) -> Result<(), NameError> {
        let (directory, name) = self.place(path)?;
        let id = self.find(path)?;
        if !self.narrow_to_directory(id)? {
            return Err(NameError::NotDirectory {
                path: owned(path),
                kind: self.kind(id),
            });
        }
        self.must_be_empty(id, path)?;
        self.take_name(directory, name);
        self.drop_inode(id);
        Ok(())
    }

    /// As rename(2): replaces what stands at the new name.
    fn rename(&mut self, path: &Path<'_>, to: &Path<'_>) -> Result<(), NameError> {
        let (from_directory, from_name) = self.place(path)?;
        let id = self.find(path)?;
        let (to_directory, to_name) = self.place(to)?;
        check_name(to_name)?;
        if to.starts_with(path) && to != path {
            // Whatever lies beneath has a longer path than itself.
            return Err(NameError::WithinItself { path: owned(to) });
        }
        if let Child::Present(replaced) = self.child(to_directory, to_name) {
            if replaced == id {
                // rename(2) leaves two names of one file as they are.
                return Ok(());
            }
            self.check_replaced(id, replaced, to)?;
            self.take_name(to_directory, to_name);
            self.drop_inode(replaced);
        }
        // Before the old name goes, so that a limit that is met loses none.
        self.add_name(to_directory, to_name, id)?;
        self.take_name(from_directory, from_name);
        Ok(())
    }

    /// Whether rename(2) may put `id` in the place of `replaced`.
    fn check_replaced(
        &mut self,
        id: InodeId,
        replaced: InodeId,
        to: &Path<'_>,
    ) -> Result<(), NameError> {
        let is_directory = |kind| match kind {
            InodeKind::Unknown => None,
            kind => Some(kind == InodeKind::Directory),
        };
        let (moved, there) = (self.kind(id), self.kind(replaced));
        match (is_directory(moved), is_directory(there)) {
            (Some(true), Some(false)) => {
                return Err(NameError::NotDirectory {
                    path: owned(to),
                    kind: there,
                });
            }
            (Some(false), Some(true)) => return Err(NameError::IsDirectory { path: owned(to) }),
            _ => {}
        }
        self.must_be_empty(replaced, to)
    }

    fn change(&mut self, path: &Path<'_>, what: Changes) -> Result<(), NameError> {
        let id = self.find(path)?;
        if let Some(inode) = self.inode_mut(id) {
            inode.changes |= what.0;
        }
        Ok(())
    }

    /// Changes what only regular files have.
    fn change_file(&mut self, path: &Path<'_>, what: Changes) -> Result<(), NameError> {
        self.must_be_file(path)?;
        self.change(path, what)
    }

    /// Whether a path leads to a regular file; what may be one is from now
    /// on.
    pub(crate) fn must_be_file(&mut self, path: &Path<'_>) -> Result<(), NameError> {
        let id = self.find(path)?;
        let kind = self.kind(id);
        if !kind.may_be_file() {
            return Err(NameError::NotFile {
                path: owned(path),
                kind,
            });
        }
        if let Some(inode) = self.inode_mut(id) {
            inode.kind = InodeKind::File;
        }
        Ok(())
    }

    fn suitable(
        &mut self,
        path: &Path<'_>,
        suits: impl Fn(InodeKind) -> bool,
    ) -> Result<(), NameError> {
        let id = self.find(path)?;
        let kind = self.kind(id);
        if suits(kind) {
            Ok(())
        } else {
            Err(NameError::Unsuitable { kind })
        }
    }

    fn narrow_to_no_directory(&mut self, id: InodeId, path: &Path<'_>) -> Result<(), NameError> {
        match self.inode_mut(id) {
            Some(inode) if inode.kind == InodeKind::Directory || id == ROOT => {
                Err(NameError::IsDirectory { path: owned(path) })
            }
            Some(inode) if inode.kind == InodeKind::Unknown => {
                inode.kind = InodeKind::NoDirectory;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A directory of the parent may have entries that nobody knows of.
    fn must_be_empty(&self, id: InodeId, path: &Path<'_>) -> Result<(), NameError> {
        match self.directory(id) {
            Some(directory) if directory.used > 0 => Err(NameError::NotEmpty { path: owned(path) }),
            _ => Ok(()),
        }
    }

    /// Where a new name can go.
    fn free_place<'a>(&mut self, path: &'a Path<'_>) -> Result<(InodeId, &'a [u8]), NameError> {
        let (directory, name) = self.place(path)?;
        check_name(name)?;
        if let Child::Present(id) = self.child(directory, name) {
            return Err(NameError::Exists {
                path: owned(path),
                kind: self.kind(id),
            });
        }
        Ok((directory, name))
    }
}

fn check_name(name: &[u8]) -> Result<(), NameError> {
    let len = name.len();
    if len > NAME_MAX {
        Err(NameError::NameTooLong { len })
    } else {
        Ok(())
    }
}

/// A copy that does not hold the buffer that the stream was read into.
fn owned(path: &Path<'_>) -> Bytes {
    Bytes::copy_from_slice(path.as_bytes())
}
