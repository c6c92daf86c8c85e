//! The subvolume under construction: operations in the order of the stream.
//!
//! Names and directories are changed here, on the thread that owns this;
//! what concerns an open regular file is handed to [`content`](super::content).
//! Directories, symbolic links and special files never go there, so their
//! operations keep their order with those on names.

use std::sync::Arc;

use btrfs_sendstream::{Bytes, CloneRange, EnableVerity, Position, StreamPath};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::budget::Share;
use super::content::{Action, OpenFile, Task, file_capacity};
use super::create::Creator;
use super::error::{StepError, is_errno, named};
use super::flags::{self, SharedFlags};
use super::sources::CloneSources;
use super::worker::Worker;
use crate::confine::{Access, PathCache, Root};
use crate::error::{Cause, Failure};
use crate::plan::op::{NewInode, NewSubvolume, Op, Step};
use crate::xattr::COMPRESSION;
use btrfs_ioctl as sys;

/// The subvolume under construction.
pub(super) struct Namespace {
    pub(super) new: NewSubvolume,
    pub(super) root: Root,
    pub(super) flags: SharedFlags,
    pub(super) creator: Creator,
    inodes: PathCache<Known>,
}

/// What is known of the inode at a path.
#[derive(Clone)]
enum Known {
    /// A regular file: its operations go to the content thread.
    File(Arc<OpenFile>),
    /// Anything else: its operations are carried out at once, by path.
    Other {
        /// Made by this receive, and nothing was done to it that a change
        /// of owner would undo.
        untouched: bool,
    },
}

/// What operations need besides the subvolume itself.
pub(super) struct Tools<'a> {
    /// What the step takes of the budget, until it has been carried out.
    pub(super) share: Option<Share>,
    pub(super) content: &'a mut Worker<Task>,
    pub(super) sources: &'a mut CloneSources,
}

impl Namespace {
    pub(super) fn new(new: NewSubvolume, root: Root, flags: SharedFlags, creator: Creator) -> Self {
        Self {
            new,
            root,
            flags,
            creator,
            inodes: PathCache::new(file_capacity()),
        }
    }

    /// Carries out one step, or hands it to the content thread.
    pub(super) fn apply(&mut self, step: Step, tools: &mut Tools<'_>) -> Result<(), Failure> {
        let Step { op, at, fused } = step;
        let operation = op.name();
        let path = op.path().clone();
        let result = match op {
            Op::Create {
                ref path,
                ref created_as,
                ref kind,
                mode,
            } => self.create(path, created_as.as_ref(), kind, mode),
            Op::Move {
                ref path,
                ref existing,
            } => self.move_file(path, existing, tools.content),
            op => {
                return self
                    .dispatch(op, at, fused, tools)
                    .map_err(|cause| Failure::new(at, operation, path.as_bytes(), cause));
            }
        };
        result.map_err(|error| {
            let path = match (&op, error.part) {
                (Op::Move { existing, .. }, 1) => existing,
                _ => &path,
            };
            error.at(at, &fused, operation, path)
        })
    }

    fn create(
        &mut self,
        path: &StreamPath,
        created_as: Option<&StreamPath>,
        kind: &NewInode,
        mode: Option<u32>,
    ) -> Result<(), StepError> {
        let made = self
            .creator
            .create(&self.root, path, created_as, kind, mode)?;
        let known = match made {
            Some(file) => Known::File(Arc::new(file)),
            None => Known::Other { untouched: true },
        };
        self.inodes.remove(path.as_bytes());
        self.inodes.insert(path.as_bytes(), known);
        Ok(())
    }

    fn dispatch(
        &mut self,
        op: Op,
        at: Position,
        fused: Vec<Position>,
        tools: &mut Tools<'_>,
    ) -> Result<(), Cause> {
        let operation = op.name();
        let (path, action) = match op {
            // `apply` does these itself, to say at which of their two steps
            // they failed.
            Op::Create {
                path,
                created_as,
                kind,
                mode,
            } => {
                let made = self.create(&path, created_as.as_ref(), &kind, mode);
                return made.map_err(|error| error.cause);
            }
            Op::Move { path, existing } => {
                let moved = self.move_file(&path, &existing, tools.content);
                return moved.map_err(|error| error.cause);
            }
            Op::Rename { path, to } => return self.rename(&path, &to, tools.content),
            Op::Link { path, existing } => return self.link(&path, &existing, tools.content),
            Op::Unlink { path } => return self.unlink(&path, tools.content),
            Op::Rmdir { path } => {
                self.lifting(&[&path], tools.content, |root| root.rmdir(&path))?;
                self.inodes.remove(path.as_bytes());
                self.creator.forget(&path);
                return Ok(());
            }
            Op::EnableVerity(verity) => return self.enable_verity(&verity, tools),
            Op::Clone(clone) => return self.clone_range(clone, at, fused, tools),
            Op::SetXattr { path, name, data } => (path, Action::SetXattr { name, data }),
            Op::RemoveXattr { path, name } => (path, Action::RemoveXattr { name }),
            Op::Write { path, offset, data } => (path, Action::Write { offset, data }),
            Op::EncodedWrite(write) => (write.path.clone(), Action::EncodedWrite(write)),
            Op::Truncate { path, size } => (path, Action::Truncate(size)),
            Op::Fallocate {
                path,
                mode,
                offset,
                len,
            } => (path, Action::Fallocate { mode, offset, len }),
            Op::Chown { path, uid, gid } => (path, Action::Chown(uid, gid)),
            Op::Chmod { path, mode } => (path, Action::Chmod(mode)),
            Op::FileAttr { path, attributes } => (path, Action::FileAttr(attributes)),
            Op::Utimes { path, atime, mtime } => (path, Action::Utimes { atime, mtime }),
        };
        match self.known(&path, action.changes_content(), tools.content)? {
            Known::File(file) => {
                if matches!(action, Action::Utimes { .. }) {
                    // The last command of an inode, from every kernel.
                    self.inodes.remove(path.as_bytes());
                }
                let share = tools.share.take();
                let cost = share.as_ref().map_or(0, Share::bytes);
                tools.content.push(
                    Task {
                        file,
                        action,
                        at,
                        fused,
                        path,
                        operation,
                        _share: share,
                    },
                    cost,
                );
                Ok(())
            }
            Known::Other { untouched } => {
                if untouched {
                    if let Action::Chown(uid, gid) = action
                        && self.creator.owner() == Some((uid, gid))
                    {
                        return Ok(());
                    }
                    let known = Known::Other { untouched: false };
                    self.inodes.insert(path.as_bytes(), known);
                }
                self.act_on_other(&path, &action, tools.content)
            }
        }
    }

    /// Carries out an action on something that is not a regular file.
    fn act_on_other(
        &mut self,
        path: &StreamPath,
        action: &Action,
        content: &mut Worker<Task>,
    ) -> Result<(), Cause> {
        match action {
            Action::SetXattr { name, data } => self.set_xattr(path, name, data, content),
            Action::RemoveXattr { name } => {
                self.lifting(&[path], content, |root| root.remove_xattr(path, name))
            }
            Action::Chown(uid, gid) => self.chown_other(path, *uid, *gid, content),
            Action::Chmod(mode) => {
                if mode & 0o2000 != 0 {
                    self.creator.forget(path);
                }
                self.lifting(&[path], content, |root| root.chmod(path, *mode))
            }
            Action::Utimes { atime, mtime } => {
                self.lifting(&[path], content, |root| root.utimens(path, *atime, *mtime))
            }
            Action::FileAttr(attributes) => {
                self.creator.forget(path);
                // Symbolic links and special files have no flags that could
                // be set; a stream can still carry them.
                match self.root.open_for_flags(path) {
                    Ok(fd) => flags::apply(fd, *attributes, &self.flags),
                    Err(Cause::NoInodeFlags { .. }) => Ok(()),
                    Err(cause) => Err(cause),
                }
            }
            // Data: `known` has refused what is not a regular file.
            _ => Err(Cause::NotRegularFile { found: "directory" }),
        }
    }

    fn set_xattr(
        &mut self,
        path: &StreamPath,
        name: &[u8],
        data: &Bytes,
        content: &mut Worker<Task>,
    ) -> Result<(), Cause> {
        self.creator.inheritance_changed(path, name);
        let result = self.lifting(&[path], content, |root| root.set_xattr(path, name, data));
        match result {
            Err(cause)
                if name == COMPRESSION
                    && flags::is_algorithm(data)
                    && is_errno(&cause, Errno::INVAL) =>
            {
                let fd = self.root.open_for_flags(path)?;
                self.flags.compression_refused(fd, data);
                Ok(())
            }
            result => result,
        }
    }

    fn rename(
        &mut self,
        path: &StreamPath,
        to: &StreamPath,
        content: &mut Worker<Task>,
    ) -> Result<(), Cause> {
        self.creator.note_name(to);
        self.lifting(&[path, to], content, |root| root.rename(path, to, true))?;
        // Where both names are one inode's, rename(2) does nothing, and what
        // is known of it holds for both.
        self.inodes.rename(path.as_bytes(), to.as_bytes());
        self.creator.renamed(path, to);
        Ok(())
    }

    fn link(
        &mut self,
        path: &StreamPath,
        existing: &StreamPath,
        content: &mut Worker<Task>,
    ) -> Result<(), Cause> {
        self.creator.note_name(path);
        let link = |root: &Root| root.link(existing, path);
        self.lifting(&[existing, path], content, link)?;
        self.inodes.remove(path.as_bytes());
        self.touch(existing);
        Ok(())
    }

    fn unlink(&mut self, path: &StreamPath, content: &mut Worker<Task>) -> Result<(), Cause> {
        self.lifting(&[path], content, |root| root.unlink(path))?;
        self.inodes.remove(path.as_bytes());
        Ok(())
    }

    /// One rename for a link and an unlink, or these if it will not do.
    fn move_file(
        &mut self,
        path: &StreamPath,
        existing: &StreamPath,
        content: &mut Worker<Task>,
    ) -> Result<(), StepError> {
        // A directory could be renamed, but not be linked.
        let renamed = match self.root.file_type(existing) {
            Ok(FileType::Directory) | Err(_) => false,
            Ok(_) => self.root.rename(existing, path, false).is_ok(),
        };
        if renamed {
            self.creator.note_name(path);
            self.touch(existing);
            self.inodes.rename(existing.as_bytes(), path.as_bytes());
            return Ok(());
        }
        // Without its new name a file keeps the old one.
        self.link(path, existing, content)?;
        self.unlink(existing, content).map_err(|cause| StepError {
            part: 1,
            operation: Some("unlink"),
            cause,
        })
    }

    fn clone_range(
        &mut self,
        clone: CloneRange,
        at: Position,
        fused: Vec<Position>,
        tools: &mut Tools<'_>,
    ) -> Result<(), Cause> {
        let Known::File(file) = self.known(&clone.path, true, tools.content)? else {
            return Err(Cause::NotRegularFile { found: "directory" });
        };
        let source = if self.new.is_source_of(&clone) {
            // The subvolume under construction, which no search could find.
            match self.known(&clone.source_path, false, tools.content)? {
                Known::File(file) => file,
                // No file: this says what it is.
                Known::Other { .. } => {
                    let fd = self.root.open_file(&clone.source_path, Access::Read)?;
                    Arc::new(OpenFile::existing(fd, false))
                }
            }
        } else {
            tools.sources.open(&clone)?
        };
        let action = Action::Clone {
            source,
            source_offset: clone.source_offset,
            offset: clone.offset,
            len: clone.len,
        };
        let share = tools.share.take();
        let cost = share.as_ref().map_or(0, Share::bytes);
        tools.content.push(
            Task {
                file,
                action,
                at,
                fused,
                path: clone.path,
                operation: "clone",
                _share: share,
            },
            cost,
        );
        Ok(())
    }

    /// Verity wants nobody to have the file open for writing.
    fn enable_verity(&mut self, verity: &EnableVerity, tools: &mut Tools<'_>) -> Result<(), Cause> {
        self.inodes.clear();
        if !tools.content.wait() {
            return Err(Cause::ThreadPanicked);
        }
        let file = self.root.open_file(&verity.path, Access::Read)?;
        let parameters = sys::Verity {
            hash_algorithm: verity.algorithm.into(),
            block_size: verity.block_size,
            salt: &verity.salt,
            signature: &verity.signature,
        };
        sys::enable_verity(file, &parameters).map_err(named("FS_IOC_ENABLE_VERITY"))
    }

    /// What stands at `path`; a regular file is opened, for writing if that
    /// is needed.
    fn known(
        &mut self,
        path: &StreamPath,
        write: bool,
        content: &mut Worker<Task>,
    ) -> Result<Known, Cause> {
        if path.is_root() {
            return match write {
                true => Err(Cause::NotRegularFile { found: "directory" }),
                false => Ok(Known::Other { untouched: false }),
            };
        }
        match self.inodes.get(path.as_bytes()) {
            Some(Known::File(file)) if file.writable || !write => return Ok(Known::File(file)),
            Some(known @ Known::Other { .. }) if !write => return Ok(known),
            // Not kept: the times of each directory are set once or twice.
            None if !write && self.root.is_known_directory(path) => {
                return Ok(Known::Other { untouched: false });
            }
            _ => {}
        }
        let known = if write {
            let open = |root: &Root| root.open_file(path, Access::Write);
            let fd = self.lifting(&[path], content, open)?;
            Known::File(Arc::new(OpenFile::existing(fd, true)))
        } else {
            let inode = self.root.inode(path)?;
            match inode.file_type() {
                FileType::RegularFile => {
                    let fd = self.root.open_inode(path, &inode, Access::Read)?;
                    Known::File(Arc::new(OpenFile::existing(fd, false)))
                }
                _ => Known::Other { untouched: false },
            }
        };
        self.inodes.insert(path.as_bytes(), known.clone());
        Ok(known)
    }

    /// Sets the owner and, as for files, nothing else.
    fn chown_other(
        &self,
        path: &StreamPath,
        uid: u32,
        gid: u32,
        content: &mut Worker<Task>,
    ) -> Result<(), Cause> {
        let special = match path.is_root() {
            // The kernel leaves the bits of directories alone.
            true => None,
            false => {
                let inode = self.root.inode(path)?;
                let mode = inode.stat().st_mode & 0o7777;
                let cleared = inode.file_type() != FileType::Directory && mode & 0o6000 != 0;
                cleared.then_some(mode)
            }
        };
        self.lifting(&[path], content, |root| root.chown(path, uid, gid))?;
        match special {
            Some(mode) => self.lifting(&[path], content, |root| root.chmod(path, mode)),
            None => Ok(()),
        }
    }

    /// The inode at `path` may change by way of another name.
    fn touch(&mut self, path: &StreamPath) {
        match self.inodes.get(path.as_bytes()) {
            Some(Known::File(file)) => file.touch(),
            Some(Known::Other { untouched: true }) => {
                let known = Known::Other { untouched: false };
                self.inodes.insert(path.as_bytes(), known);
            }
            _ => {}
        }
    }

    /// Closes every file that is kept open.
    pub(super) fn close_files(&mut self) {
        self.inodes.clear();
    }

    /// Puts back, or sets for the first time, the immutable and append-only
    /// flags, which nothing may come after.
    pub(super) fn restore_flags(&self) -> Result<(), Cause> {
        let id = sys::subvolume_info(self.root.fd())
            .map_err(named("BTRFS_IOC_GET_SUBVOL_INFO"))?
            .id;
        self.flags.restore(|inode, generation| {
            match sys::open_inode(self.root.fd(), id, inode, generation) {
                Ok(fd) => Ok(Some(fd)),
                // It was removed since.
                Err(Errno::STALE) => Ok(None),
                Err(errno) => Err(Cause::system("open_by_handle_at", errno)),
            }
        })
    }

    /// Makes `call`; if that is forbidden, takes the immutable and append-only
    /// flags off `paths` and the directories they lie in, to be put back at
    /// the end, and makes it again.
    ///
    /// Before that, `content` finishes what it has: a FILEATTR among it says
    /// which flags the end is to have, and must not come after the look at
    /// those that are there.
    fn lifting<T>(
        &self,
        paths: &[&StreamPath],
        content: &mut Worker<Task>,
        call: impl Fn(&Root) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let result = call(&self.root);
        match &result {
            Err(cause) if is_errno(cause, Errno::PERM) => {}
            _ => return result,
        }
        if !content.wait() {
            return Err(Cause::ThreadPanicked);
        }
        for path in paths {
            self.lift(path)?;
            if let Some(parent) = path.parent() {
                self.lift(&parent.to_owned())?;
            }
        }
        // Even if nothing was found: the content thread may have lifted it.
        call(&self.root)
    }

    fn lift(&self, path: &StreamPath) -> Result<(), Cause> {
        match self.root.open_for_flags(path) {
            Ok(fd) => flags::lift(fd, &self.flags),
            // Not there yet, or of a kind that has no flags: not what forbids
            // the call, which is made again and fails if it has to.
            Err(_) => Ok(()),
        }
    }
}
