//! The tree under construction: operations in the order of the stream.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use btrfs_sendstream::{CloneRange, StreamPath};
use rustix::fs::{FallocateFlags, fallocate, ftruncate};

use super::place::Place;
use super::sources::Sources;
use super::tree::{self, Tree};
use crate::confine::{Access, PathCache};
use crate::destination::tree::create::Creator;
use crate::destination::tree::data::DataWriter;
use crate::destination::tree::flags::SharedFlags;
use crate::destination::tree::open_file::file_capacity;
use crate::destination::tree::plain;
use crate::destination::tree::root_names::RootNames;
use crate::error::{Cause, Failure, named};
use crate::plan::op::{NewInode, NewSubvolume, Op, Step};
use crate::report::LossKind;
use crate::step_error::StepError;

/// `FALLOC_FL_PUNCH_HOLE` and `KEEP_SIZE`: all that kernels send.
const PUNCH_HOLE: u32 = 3;

/// An extraction under construction.
pub(super) struct Build {
    pub(super) new: NewSubvolume,
    pub(super) tree: Tree,
    /// What the parent has to go without.
    pub(super) of_parent: u64,
    creator: Creator,
    /// Regular files, open for writing.
    files: PathCache<Arc<OwnedFd>>,
}

/// What operations need besides the tree itself.
pub(super) struct Tools<'a> {
    pub(super) place: &'a Place,
    pub(super) data: &'a mut DataWriter,
    pub(super) sources: &'a mut Sources,
}

impl Build {
    pub(super) fn new(new: NewSubvolume, tree: Tree, of_parent: u64) -> Self {
        let names = match new.parent {
            None => RootNames::of_new(),
            Some(_) => RootNames::of_snapshot(&tree.root),
        };
        Self {
            creator: Creator::new(false, names, SharedFlags::default()),
            new,
            tree,
            of_parent,
            files: PathCache::new(file_capacity()),
        }
    }

    /// Closes every file that is kept open.
    pub(super) fn close_files(&mut self) {
        self.files.clear();
    }

    /// Carries out one step.
    pub(super) fn apply(&mut self, step: &Step, tools: &mut Tools<'_>) -> Result<(), Failure> {
        self.act(step, tools).map_err(|error| error.of(step))
    }

    fn act(&mut self, step: &Step, tools: &mut Tools<'_>) -> Result<(), StepError> {
        match &step.op {
            Op::Create {
                path,
                created_as,
                kind,
                mode,
            } => self.create(path, created_as.as_ref(), kind, *mode)?,
            Op::Rename { path, to } => self.rename(path, to)?,
            Op::Link { path, existing } => self.link(path, existing)?,
            Op::Move { path, existing } => self.move_file(path, existing)?,
            Op::Unlink { path } => self.unlink(path)?,
            Op::Rmdir { path } => {
                self.tree.root.rmdir(path)?;
                self.gone(path);
                self.creator.forget(path);
            }
            Op::SetXattr { path, name, data } => {
                self.creator.inheritance_changed(path, name);
                self.tree.set_xattr(path, name, data)?;
            }
            Op::RemoveXattr { path, name } => self.tree.remove_xattr(path, name)?,
            Op::Write { path, offset, data } => {
                self.change_content(path, |_, file| tools.data.write(file, *offset, data))?
            }
            Op::Clone(clone) => self.change_content(&clone.path, |this, file| {
                this.clone_range(file, clone, step.fused.len() + 1, tools)
            })?,
            Op::EncodedWrite(write) => self.change_content(&write.path, |_, file| {
                Ok(tools.data.encoded_write(file, write)?)
            })?,
            Op::Truncate { path, size } => self.change_content(path, |_, file| {
                Ok(ftruncate(file, *size).map_err(named("ftruncate"))?)
            })?,
            Op::Fallocate {
                path,
                mode,
                offset,
                len,
            } => {
                self.change_content(path, |_, file| Ok(change_room(file, *mode, *offset, *len)?))?
            }
            Op::Chown { path, uid, gid } => self.tree.chown(path, *uid, *gid)?,
            Op::Chmod { path, mode } => {
                if mode & 0o2000 != 0 {
                    self.creator.forget(path);
                }
                self.tree.chmod(path, *mode)?;
            }
            Op::FileAttr { path, attributes } => self.leave_flags_out(path, *attributes)?,
            Op::Utimes { path, atime, mtime } => {
                self.tree.utimens(path, *atime, *mtime)?;
                // The last command of an inode, from every kernel.
                self.files.remove(path.as_bytes());
            }
            Op::EnableVerity(verity) => {
                // Looked up, so that a path that leads nowhere is an error.
                self.tree.root.inode(&verity.path)?;
                self.tree
                    .notes
                    .note_loss(&verity.path, LossKind::Verity, None)?;
            }
        }
        Ok(())
    }

    fn link(&mut self, path: &StreamPath, existing: &StreamPath) -> Result<(), Cause> {
        self.creator.note_name(path);
        let tree = &mut self.tree;
        if let Err(cause) = tree.root.link(existing, path) {
            return Err(tree.names.explain(&tree.root, path, cause));
        }
        tree.names.given(&tree.root, path)?;
        self.files.remove(path.as_bytes());
        self.tree.notes.linked(existing, path)
    }

    fn unlink(&mut self, path: &StreamPath) -> Result<(), Cause> {
        self.tree.root.unlink(path)?;
        self.gone(path);
        Ok(())
    }

    /// A link and an unlink, as the stream has them.
    fn move_file(&mut self, path: &StreamPath, existing: &StreamPath) -> Result<(), StepError> {
        // Without its new name a file keeps the old one.
        self.link(path, existing)?;
        self.unlink(existing)
            .map_err(|cause| StepError { part: 1, cause })
    }

    /// Has `change` change the content of the file at `path`, and nothing else
    /// of it.
    fn change_content(
        &mut self,
        path: &StreamPath,
        change: impl FnOnce(&mut Self, &OwnedFd) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let file = self.file(path)?;
        let rights = self.tree.rights;
        let special = if rights.chown && !rights.keeps_set_id {
            self.tree.mode_of_file(path)?
        } else {
            // No set-id bits, or none that are lost.
            None
        };
        change(self, &file)?;
        match special.filter(|mode| mode & 0o6000 != 0) {
            Some(mode) => Ok(self.tree.root.chmod(path, mode)?),
            None => Ok(()),
        }
    }

    fn create(
        &mut self,
        path: &StreamPath,
        created_as: Option<&StreamPath>,
        kind: &NewInode,
        mode: Option<u32>,
    ) -> Result<(), StepError> {
        let root = &self.tree.root;
        // Where modes bind, they are for `Tree::chmod` to judge.
        let bound = !self.tree.rights.ignores_modes;
        let first_mode = mode.filter(|_| !bound);
        let made = self
            .creator
            .create(root, path, created_as, kind, first_mode);
        let made = made.map_err(|mut error| {
            error.cause = self.tree.names.explain(root, path, error.cause);
            error
        });
        let made = match (made, special(kind)) {
            (Err(error), Some(what)) if error.part == 0 && tree::is_refusal(&error.cause) => {
                let errno = tree::errno_of(&error.cause);
                let file = NewInode::File;
                let made = self.creator.create(root, path, created_as, &file, mode)?;
                self.gone(path);
                self.tree.names.given(&self.tree.root, path)?;
                self.tree.notes.note_loss(path, what, errno)?;
                drop(made);
                return Ok(());
            }
            (made, _) => made?,
        };
        self.gone(path);
        self.tree.names.given(&self.tree.root, path)?;
        if let Some(file) = made {
            let file = Arc::new(file.into_fd());
            self.files.insert(path.as_bytes(), file);
        }
        match mode.filter(|_| bound) {
            Some(mode) => Ok(self.tree.chmod(path, mode)?),
            None => Ok(()),
        }
    }

    fn rename(&mut self, path: &StreamPath, to: &StreamPath) -> Result<(), Cause> {
        self.creator.note_name(to);
        let tree = &mut self.tree;
        tree.names.rename(&tree.root, path, to)?;
        self.files.rename(path.as_bytes(), to.as_bytes());
        self.tree.notes.renamed(path, to);
        self.creator.renamed(path, to);
        Ok(())
    }

    /// Nothing that was known of `path` holds any more.
    fn gone(&mut self, path: &StreamPath) {
        self.files.remove(path.as_bytes());
        self.tree.names.removed(path);
        self.tree.notes.removed(path);
    }

    /// The file at `path`, open for writing.
    fn file(&mut self, path: &StreamPath) -> Result<Arc<OwnedFd>, Cause> {
        if let Some(file) = self.files.get(path.as_bytes()) {
            return Ok(file);
        }
        self.refuse_stand_in(path)?;
        let file = Arc::new(self.tree.open_to_write(path)?);
        self.files.insert(path.as_bytes(), Arc::clone(&file));
        Ok(file)
    }

    /// What could not be made has no data either.
    fn refuse_stand_in(&mut self, path: &StreamPath) -> Result<(), Cause> {
        match self.tree.notes.is_stand_in(path) {
            true => Err(Cause::NotRegularFile {
                found: "special file",
            }),
            false => Ok(()),
        }
    }

    fn clone_range(
        &mut self,
        file: &OwnedFd,
        clone: &CloneRange,
        parts: usize,
        tools: &mut Tools<'_>,
    ) -> Result<(), StepError> {
        // Another state of the same subvolume is another source.
        let is_own = self.new.is_source_of(clone);
        let source = if is_own {
            let path = &clone.source_path;
            match self.files.get(path.as_bytes()) {
                Some(file) => file,
                None => {
                    self.refuse_stand_in(path)?;
                    Arc::new(self.tree.root.open_file(path, Access::Read)?)
                }
            }
        } else {
            tools.sources.open(tools.place, clone)?
        };
        let ranges = (clone.source_offset, clone.offset, clone.len);
        tools.data.clone_pieces(&source, file, ranges, parts)
    }

    fn leave_flags_out(&mut self, path: &StreamPath, attributes: u64) -> Result<(), Cause> {
        if !path.is_root() {
            // So that a path that leads nowhere is an error.
            self.tree.root.inode(path)?;
        }
        let lack = LossKind::Flags { attributes };
        if attributes == 0 {
            self.tree.notes.has(path, &lack);
            return Ok(());
        }
        self.tree.notes.note_loss(path, lack, None)
    }
}

/// What stands for a special file that cannot be made.
fn special(kind: &NewInode) -> Option<LossKind> {
    let (mode, rdev) = match *kind {
        NewInode::Device { mode, rdev } => (mode, rdev),
        NewInode::Fifo { mode } | NewInode::Socket { mode } => (mode, 0),
        NewInode::File | NewInode::Directory | NewInode::Symlink { .. } => return None,
    };
    Some(LossKind::SpecialFile { mode, rdev })
}

fn change_room(file: &OwnedFd, mode: u32, offset: u64, len: u64) -> Result<(), Cause> {
    // An empty range is EINVAL to the kernel and nothing to do.
    if len == 0 {
        return Ok(());
    }
    if mode == PUNCH_HOLE {
        return plain::punch(file, offset, len);
    }
    let mode = FallocateFlags::from_bits_retain(mode);
    fallocate(file, mode, offset, len).map_err(named("fallocate"))
}
