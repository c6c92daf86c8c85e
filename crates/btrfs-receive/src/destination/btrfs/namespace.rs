//! The subvolume under construction: operations in the order of the stream.
//!
//! Names and directories are changed here, on the thread that owns this;
//! for what concerns a regular file the open file is found here, and the rest is
//! for the [`lanes`](super::lanes).
//! Directories, symbolic links and special files never go there, so their
//! operations keep their order with those on names.

use std::sync::Arc;

use btrfs_sendstream::{Bytes, CloneRange, EnableVerity, StreamPath};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::lanes::Lanes;
use super::sources::{CloneSources, SourceFinder};
use crate::confine::{Access, PathCache, Root};
use crate::destination::tree::create::Creator;
use crate::destination::tree::flags::{self, SharedFlags};
use crate::destination::tree::open_file::{OpenFile, file_capacity};
use crate::error::{Cause, Failure, is_errno, named};
use crate::plan::op::{NewInode, NewSubvolume, Op, Step};
use crate::step_error::StepError;
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
    /// A regular file: its operations go to the lanes.
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
    pub(super) lanes: &'a mut Lanes,
    pub(super) sources: &'a mut CloneSources,
    pub(super) finder: &'a mut SourceFinder,
}

/// Where an operation is carried out.
pub(super) enum Done {
    /// It is done.
    Here,
    /// By a lane, after what came before to this file.
    ByLane {
        file: Arc<OpenFile>,
        /// What a clone reads.
        source: Option<Arc<OpenFile>>,
    },
}

impl From<Arc<OpenFile>> for Done {
    fn from(file: Arc<OpenFile>) -> Self {
        Self::ByLane { file, source: None }
    }
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

    /// Carries out a step that does not concern a regular file.
    pub(super) fn apply(&mut self, step: &Step, tools: &mut Tools<'_>) -> Result<(), Failure> {
        match self.act(&step.op, tools) {
            Ok(Done::Here) => Ok(()),
            Ok(Done::ByLane { .. }) => Err(StepError::from(Cause::Misplaced).of(step)),
            Err(error) => Err(error.of(step)),
        }
    }

    /// Carries out an operation, or finds the open file that it concerns.
    pub(super) fn act(&mut self, op: &Op, tools: &mut Tools<'_>) -> Result<Done, StepError> {
        match op {
            Op::Create {
                path,
                created_as,
                kind,
                mode,
            } => self.create(path, created_as.as_ref(), kind, *mode)?,
            Op::Rename { path, to } => self.rename(path, to, tools.lanes)?,
            Op::Link { path, existing } => self.link(path, existing, tools.lanes)?,
            Op::Move { path, existing } => self.move_file(path, existing, tools.lanes)?,
            Op::Unlink { path } => self.unlink(path, tools.lanes)?,
            Op::Rmdir { path } => {
                self.lifting(&[path], tools.lanes, |root| root.rmdir(path))?;
                self.inodes.remove(path.as_bytes());
                self.creator.forget(path);
            }
            Op::Write { path, .. } | Op::Truncate { path, .. } | Op::Fallocate { path, .. } => {
                return Ok(self.file_to_write(path, tools.lanes)?.into());
            }
            Op::EncodedWrite(write) => {
                return Ok(self.file_to_write(&write.path, tools.lanes)?.into());
            }
            Op::Clone(clone) => {
                let file = self.file_to_write(&clone.path, tools.lanes)?;
                let source = Some(self.clone_source(clone, tools)?);
                return Ok(Done::ByLane { file, source });
            }
            Op::EnableVerity(verity) => self.enable_verity(verity, tools.lanes)?,
            Op::SetXattr { path, name, data } => match self.changing(path)? {
                Some(file) => return Ok(file.into()),
                None => self.set_xattr(path, name, data, tools.lanes)?,
            },
            Op::RemoveXattr { path, name } => match self.changing(path)? {
                Some(file) => return Ok(file.into()),
                None => self.lifting(&[path], tools.lanes, |root| root.remove_xattr(path, name))?,
            },
            Op::Chown { path, uid, gid } => match self.known(path)? {
                Known::File(file) => return Ok(file.into()),
                Known::Other { untouched: true } if self.creator.owner() == Some((*uid, *gid)) => {}
                Known::Other { untouched } => {
                    self.note_touched(path, untouched);
                    self.chown_other(path, *uid, *gid, tools.lanes)?;
                }
            },
            Op::Chmod { path, mode } => match self.changing(path)? {
                Some(file) => return Ok(file.into()),
                None => {
                    if mode & 0o2000 != 0 {
                        self.creator.forget(path);
                    }
                    self.lifting(&[path], tools.lanes, |root| root.chmod(path, *mode))?;
                }
            },
            Op::FileAttr { path, attributes } => match self.changing(path)? {
                Some(file) => return Ok(file.into()),
                None => self.set_flags(path, *attributes)?,
            },
            Op::Utimes { path, atime, mtime } => match self.changing(path)? {
                Some(file) => {
                    // The last command of an inode, from every kernel.
                    self.inodes.remove(path.as_bytes());
                    return Ok(file.into());
                }
                None => self.lifting(&[path], tools.lanes, |root| {
                    root.utimens(path, *atime, *mtime)
                })?,
            },
        }
        Ok(Done::Here)
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

    fn set_flags(&mut self, path: &StreamPath, attributes: u64) -> Result<(), Cause> {
        self.creator.forget(path);
        // Symbolic links and special files have no flags that could be set; a
        // stream can still carry them.
        match self.root.open_for_flags(path) {
            Ok(fd) => flags::apply(fd, attributes, &self.flags),
            Err(Cause::NoInodeFlags { .. }) => Ok(()),
            Err(cause) => Err(cause),
        }
    }

    fn set_xattr(
        &mut self,
        path: &StreamPath,
        name: &[u8],
        data: &Bytes,
        lanes: &mut Lanes,
    ) -> Result<(), Cause> {
        self.creator.inheritance_changed(path, name);
        let result = self.lifting(&[path], lanes, |root| root.set_xattr(path, name, data));
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
        lanes: &mut Lanes,
    ) -> Result<(), Cause> {
        self.creator.note_name(to);
        self.lifting(&[path, to], lanes, |root| root.rename(path, to, true))?;
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
        lanes: &mut Lanes,
    ) -> Result<(), Cause> {
        self.creator.note_name(path);
        let link = |root: &Root| root.link(existing, path);
        self.lifting(&[existing, path], lanes, link)?;
        self.inodes.remove(path.as_bytes());
        self.touch(existing);
        Ok(())
    }

    fn unlink(&mut self, path: &StreamPath, lanes: &mut Lanes) -> Result<(), Cause> {
        self.lifting(&[path], lanes, |root| root.unlink(path))?;
        self.inodes.remove(path.as_bytes());
        Ok(())
    }

    /// One rename for a link and an unlink, or these if it will not do.
    fn move_file(
        &mut self,
        path: &StreamPath,
        existing: &StreamPath,
        lanes: &mut Lanes,
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
        self.link(path, existing, lanes)?;
        self.unlink(existing, lanes)
            .map_err(|cause| StepError { part: 1, cause })
    }

    /// Opens what a clone reads.
    fn clone_source(
        &mut self,
        clone: &CloneRange,
        tools: &mut Tools<'_>,
    ) -> Result<Arc<OpenFile>, Cause> {
        if !self.new.is_source_of(clone) {
            return tools.sources.open(clone, tools.finder);
        }
        // The subvolume under construction, which no search could find.
        match self.known(&clone.source_path)? {
            Known::File(file) => Ok(file),
            // No file: this says what it is.
            Known::Other { .. } => {
                let fd = self.root.open_file(&clone.source_path, Access::Read)?;
                Ok(Arc::new(OpenFile::existing(fd, false)))
            }
        }
    }

    /// Verity wants nobody to have the file open for writing.
    fn enable_verity(&mut self, verity: &EnableVerity, lanes: &mut Lanes) -> Result<(), Cause> {
        self.inodes.clear();
        lanes.wait()?;
        let parameters = sys::Verity {
            hash_algorithm: verity.algorithm.into(),
            block_size: verity.block_size,
            salt: &verity.salt,
            signature: &verity.signature,
        };
        self.lifting(&[&verity.path], lanes, |root| {
            let file = root.open_file(&verity.path, Access::Read)?;
            sys::enable_verity(file, &parameters).map_err(named("FS_IOC_ENABLE_VERITY"))
        })
    }

    /// The regular file at `path`, open for writing.
    fn file_to_write(
        &mut self,
        path: &StreamPath,
        lanes: &mut Lanes,
    ) -> Result<Arc<OpenFile>, Cause> {
        if path.is_root() {
            return Err(Cause::NotRegularFile { found: "directory" });
        }
        if let Some(Known::File(file)) = self.inodes.get(path.as_bytes())
            && file.writable
        {
            return Ok(file);
        }
        let open = |root: &Root| root.open_file(path, Access::Write);
        let fd = self.lifting(&[path], lanes, open)?;
        let file = Arc::new(OpenFile::existing(fd, true));
        self.inodes
            .insert(path.as_bytes(), Known::File(Arc::clone(&file)));
        Ok(file)
    }

    /// What stands at `path`; a regular file is opened.
    fn known(&mut self, path: &StreamPath) -> Result<Known, Cause> {
        if path.is_root() {
            return Ok(Known::Other { untouched: false });
        }
        if let Some(known) = self.inodes.get(path.as_bytes()) {
            return Ok(known);
        }
        // Not kept: the times of each directory are set once or twice.
        if self.root.is_known_directory(path) {
            return Ok(Known::Other { untouched: false });
        }
        let inode = self.root.inode(path)?;
        let known = if inode.file_type() == FileType::RegularFile {
            let fd = self.root.open_inode(path, &inode, Access::Read)?;
            Known::File(Arc::new(OpenFile::existing(fd, false)))
        } else {
            Known::Other { untouched: false }
        };
        self.inodes.insert(path.as_bytes(), known.clone());
        Ok(known)
    }

    /// The regular file at `path`; `None` for anything else, which the caller
    /// is about to change.
    fn changing(&mut self, path: &StreamPath) -> Result<Option<Arc<OpenFile>>, Cause> {
        match self.known(path)? {
            Known::File(file) => Ok(Some(file)),
            Known::Other { untouched } => {
                self.note_touched(path, untouched);
                Ok(None)
            }
        }
    }

    /// What stands at `path`, which is no regular file, is changed.
    fn note_touched(&mut self, path: &StreamPath, was_untouched: bool) {
        if was_untouched {
            let known = Known::Other { untouched: false };
            self.inodes.insert(path.as_bytes(), known);
        }
    }

    /// Sets the owner and, as for files, nothing else.
    fn chown_other(
        &self,
        path: &StreamPath,
        uid: u32,
        gid: u32,
        lanes: &mut Lanes,
    ) -> Result<(), Cause> {
        let special = if path.is_root() {
            // The kernel leaves the bits of directories alone.
            None
        } else {
            let inode = self.root.inode(path)?;
            let mode = inode.stat().st_mode & 0o7777;
            let cleared = inode.file_type() != FileType::Directory && mode & 0o6000 != 0;
            cleared.then_some(mode)
        };
        self.lifting(&[path], lanes, |root| root.chown(path, uid, gid))?;
        match special {
            Some(mode) => self.lifting(&[path], lanes, |root| root.chmod(path, mode)),
            None => Ok(()),
        }
    }

    /// The inode at `path` may change by way of another name.
    fn touch(&mut self, path: &StreamPath) {
        match self.inodes.get(path.as_bytes()) {
            Some(Known::File(file)) => {
                file.touch();
            }
            Some(Known::Other { untouched }) => self.note_touched(path, untouched),
            None => {}
        }
    }

    /// Closes every file that is kept open.
    pub(super) fn close_files(&mut self) {
        self.inodes.clear();
    }

    /// Puts back, or sets for the first time, the immutable and append-only
    /// flags, which nothing may come after. `id` is that of the subvolume.
    pub(super) fn restore_flags(&self, id: u64) -> Result<(), Cause> {
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
    /// Before that, the lanes finish what they have: a FILEATTR among it says
    /// which flags the end is to have, and must not come after the look at
    /// those that are there; a CHMOD among it may allow what the mode forbids.
    fn lifting<T>(
        &self,
        paths: &[&StreamPath],
        lanes: &mut Lanes,
        call: impl Fn(&Root) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let result = call(&self.root);
        let by_flags = match &result {
            Err(cause) if is_errno(cause, Errno::PERM) => true,
            Err(cause) if is_errno(cause, Errno::ACCESS) => false,
            _ => return result,
        };
        lanes.wait()?;
        if !by_flags {
            return call(&self.root);
        }
        for path in paths {
            self.lift(path)?;
            if let Some(parent) = path.parent() {
                self.lift(&parent.to_owned())?;
            }
        }
        // Even if nothing was found: a lane may have lifted it.
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
