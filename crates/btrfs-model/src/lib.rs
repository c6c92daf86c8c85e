//! A model of btrfs in memory that streams are received into, for tests and
//! fuzzing.
//!
//! Tests compare the model with the kernel, and receivers with the model.

mod acl;
mod change;
mod content;
mod inode;
mod subvolumes;
#[cfg(test)]
mod tests;
mod tree;
mod view;
mod xattr;

use std::collections::VecDeque;

use btrfs_sendstream::decompress::Decompressor;
use btrfs_sendstream::{Bytes, CloneRange, Position, StreamPath};
use rustix::io::Errno;
use uuid::Uuid;

pub use content::Content;
pub use inode::{Inode, Kind};
pub use subvolumes::{Received, Subvolume};
pub use tree::Tree;
pub use view::{Entries, Entry, Ignored};

use self::inode::{COMPRESS, DIRSYNC, NOCOMPRESS, NODATACOW};
use self::subvolumes::Subvolumes;
use self::xattr::{COMPRESSION, DEFAULT_ACL};
use btrfs_lineage::SourceUsed;
use btrfs_receive::{
    Begun, Cause, DeferredAttributes, Destination, Failure, Fallbacks, Finished, NewInode,
    NewSubvolume, Op, SourceId, Step, StepError,
};

/// How much memory a destination may use, by default: 1 GiB, counted as if
/// snapshots and clones shared nothing.
const DEFAULT_LIMIT: u64 = 1 << 30;

/// Different clone sources of one subvolume that are reported.
const MAX_SOURCES_REPORTED: usize = 1024;

const SETGID: u32 = 0o2000;

/// Subvolumes in memory, built from streams as on btrfs.
///
/// Each subvolume is a [`Tree`], which has the semantics of btrfs. Nothing
/// is queued: what an operation fails with is known at once. Encoded
/// writes are always decoded, so that damaged ones fail, while btrfs stores
/// them unseen.
///
/// Memory is bounded: an operation that would use more than the limit fails
/// with [`Cause::Limit`]. 1 GiB unless set otherwise.
///
/// ```
/// use btrfs_model::MemoryDestination;
///
/// let destination = MemoryDestination::new().with_limit(16 << 20);
/// assert_eq!(destination.subvolumes().len(), 0);
/// ```
pub struct MemoryDestination {
    subvolumes: Subvolumes,
    current: Option<Current>,
    /// What nobody has asked for yet, in the order of the stream.
    failures: VecDeque<Failure>,
    decompressor: Decompressor,
    limit: u64,
}

/// The subvolume under construction, the last one of the list.
struct Current {
    new: NewSubvolume,
    fallbacks: Fallbacks,
    sources: Vec<SourceUsed>,
}

impl std::fmt::Debug for MemoryDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryDestination").finish_non_exhaustive()
    }
}

impl Default for MemoryDestination {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDestination {
    /// A destination without subvolumes.
    pub fn new() -> Self {
        Self {
            subvolumes: Subvolumes::default(),
            current: None,
            failures: VecDeque::new(),
            decompressor: Decompressor::new(),
            limit: DEFAULT_LIMIT,
        }
    }

    /// Sets how many bytes of memory all subvolumes together may use.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// The subvolumes, in the order they were made; unfinished ones too.
    pub fn subvolumes(&self) -> &[Subvolume] {
        self.subvolumes.all()
    }

    /// The subvolume of that name.
    pub fn subvolume(&self, name: &[u8]) -> Option<&Subvolume> {
        self.subvolumes().iter().find(|s| s.name == name)
    }

    /// Adds a read-only subvolume as if it had been made here, to serve as
    /// parent or clone source.
    ///
    /// # Errors
    /// The name exists, or there is no room.
    pub fn insert(&mut self, name: Bytes, uuid: Uuid, tree: Tree) -> Result<(), Cause> {
        self.check_new(&name, &tree)?;
        let subvolume = self.subvolumes.add(name, tree);
        subvolume.uuid = uuid;
        subvolume.read_only = true;
        Ok(())
    }

    fn check_new(&self, name: &[u8], tree: &Tree) -> Result<(), Cause> {
        if self.subvolume(name).is_some() {
            return Err(Cause::system("BTRFS_IOC_SUBVOL_CREATE_V2", Errno::EXIST));
        }
        if self.subvolumes.used().saturating_add(tree.used()) > self.limit {
            return Err(Cause::Limit {
                what: "bytes of memory of the model",
                limit: self.limit,
            });
        }
        Ok(())
    }

    fn try_begin(&mut self, new: &NewSubvolume) -> Result<Begun, Cause> {
        let (mut tree, parent) = match new.parent {
            None => {
                let mut tree = Tree::new(self.limit);
                tree.chmod(&root(), 0o700)?;
                (tree, None)
            }
            Some(wanted) => {
                let found = subvolumes::find(self.subvolumes.all(), wanted)?;
                (found.tree.clone(), Some(found.used_as(wanted)))
            }
        };
        let name = new.name.as_bytes();
        self.check_new(name, &tree)?;
        let others = self.subvolumes.used();
        tree.set_limit(self.limit.saturating_sub(others));
        let deferred = defer_attributes(&mut tree)?;
        self.subvolumes.add(Bytes::copy_from_slice(name), tree);
        self.current = Some(Current {
            new: new.clone(),
            fallbacks: Fallbacks::default(),
            sources: Vec::new(),
        });
        let mut begun = Begun::default();
        begun.parent = parent;
        begun.deferred = deferred;
        Ok(begun)
    }

    fn try_apply(&mut self, step: &Step) -> Result<(), StepError> {
        let (tree, current) = match (self.subvolumes.last_mut(), &mut self.current) {
            (Some(subvolume), Some(current)) => (&mut subvolume.tree, current),
            _ => return Err(Cause::NothingToFinish.into()),
        };
        match &step.op {
            Op::Create {
                path,
                created_as,
                kind,
                mode,
            } => create(tree, path, created_as.as_ref(), kind, *mode)?,
            Op::Rename { path, to } => tree.rename(path, to)?,
            Op::Link { path, existing } => tree.link(path, existing)?,
            Op::Move { path, existing } => move_file(tree, path, existing)?,
            Op::Unlink { path } => tree.unlink(path)?,
            Op::Rmdir { path } => tree.rmdir(path)?,
            Op::SetXattr { path, name, data } => set_xattr(tree, current, path, name, data)?,
            Op::RemoveXattr { path, name } => tree.remove_xattr(path, name)?,
            Op::Write { path, offset, data } => write(tree, path, *offset, data)?,
            Op::Clone(_) => {
                for (part, piece) in step.clones().enumerate() {
                    self.clone_range(&piece)
                        .map_err(|cause| StepError { part, cause })?;
                }
            }
            Op::EncodedWrite(write) => {
                let data = self.decompressor.decode_write(write).map_err(Cause::from)?;
                tree.write(&write.path, write.offset, data)?;
            }
            Op::Truncate { path, size } => tree.truncate(path, *size)?,
            // No bytes are nothing to do, but only the file's kind can tell
            // that.
            Op::Fallocate { path, len: 0, .. } => tree.write(path, 0, &[])?,
            Op::Fallocate {
                path,
                mode,
                offset,
                len,
            } => tree.fallocate(path, *mode, *offset, *len)?,
            Op::Chown { path, uid, gid } => chown(tree, path, *uid, *gid)?,
            Op::Chmod { path, mode } => tree.chmod(path, *mode)?,
            Op::FileAttr { path, attributes } => set_attributes(tree, current, path, *attributes)?,
            Op::Utimes { path, atime, mtime } => tree.set_times(path, *atime, *mtime)?,
            Op::EnableVerity(verity) => tree.enable_verity(verity)?,
        }
        Ok(())
    }

    fn clone_range(&mut self, range: &CloneRange) -> Result<(), Cause> {
        let (Some(current), Some((others, target))) =
            (&mut self.current, self.subvolumes.split_last_mut())
        else {
            return Err(Cause::NothingToFinish);
        };
        let wanted = SourceId {
            uuid: range.source_uuid,
            ctransid: range.source_ctransid,
        };
        // The subvolume under construction has no received UUID yet.
        let source = if current.new.is_source_of(range) {
            None
        } else {
            let found = subvolumes::find(others, wanted)?;
            current.note_source(found.used_as(wanted));
            Some(&found.tree)
        };
        let copied = target.tree.clone_range(
            &range.path,
            range.offset,
            source,
            &range.source_path,
            range.source_offset,
            range.len,
        )?;
        current.fallbacks.clones_copied += u64::from(copied);
        Ok(())
    }
}

impl Current {
    fn note_source(&mut self, used: SourceUsed) {
        if self.sources.len() < MAX_SOURCES_REPORTED && !self.sources.contains(&used) {
            self.sources.push(used);
        }
    }
}

impl Destination for MemoryDestination {
    fn begin(&mut self, new: &NewSubvolume, at: Position) -> Result<Begun, Failure> {
        self.abandon();
        self.try_begin(new)
            .map_err(|cause| Failure::new(at, new.command().name(), new.name.as_bytes(), cause))
    }

    fn apply(&mut self, step: Step) {
        let done = self.try_apply(&step);
        self.failures
            .extend(done.err().map(|error| error.of(&step)));
    }

    fn next_failure(&mut self) -> Option<Failure> {
        self.failures.pop_front()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        self.next_failure().map_or(Ok(()), Err)
    }

    fn finish(&mut self, at: Position) -> Result<Finished, Failure> {
        let (Some(current), Some(subvolume)) = (self.current.take(), self.subvolumes.last_mut())
        else {
            return Err(Failure::new(at, "finish", b"", Cause::NothingToFinish));
        };
        subvolume.received = Some(Received {
            uuid: current.new.uuid,
            stransid: current.new.ctransid,
        });
        subvolume.read_only = true;
        let mut finished = Finished::default();
        finished.subvolume_id = Some(subvolume.id);
        finished.fallbacks = current.fallbacks;
        finished.clone_sources = current.sources;
        Ok(finished)
    }

    fn abandon(&mut self) {
        self.current = None;
        self.failures.clear();
    }

    fn discard(&mut self) -> Result<bool, Cause> {
        let unfinished = self.current.take().is_some();
        self.failures.clear();
        if unfinished {
            self.subvolumes.remove_last();
        }
        Ok(unfinished)
    }
}

/// The two commands of [`Op::Move`], one after the other.
fn move_file(tree: &mut Tree, path: &StreamPath, existing: &StreamPath) -> Result<(), StepError> {
    // Without its new name a file keeps the old one.
    tree.link(path, existing)?;
    tree.unlink(existing)
        .map_err(|cause| StepError { part: 1, cause })
}

fn root() -> StreamPath {
    StreamPath::parse(Bytes::new()).unwrap_or_else(|_| unreachable!("the root is a path"))
}

/// Takes off the root what new inodes would inherit.
fn defer_attributes(tree: &mut Tree) -> Result<DeferredAttributes, Cause> {
    let root = root();
    let mut deferred = DeferredAttributes::default();
    let Some(inode) = tree.get(&root) else {
        return Ok(deferred);
    };
    let times = (inode.atime, inode.mtime);
    let (attributes, mode) = (inode.attributes, inode.mode);
    deferred.default_acl = inode.xattr(DEFAULT_ACL).cloned();
    deferred.compression = inode.xattr(COMPRESSION).cloned();
    let inherited = COMPRESS | NOCOMPRESS | NODATACOW;
    if attributes & inherited != 0 {
        deferred.attributes = Some(attributes);
        tree.set_attributes(&root, attributes & !inherited)?;
    }
    tree.remove_xattr(&root, DEFAULT_ACL)?;
    tree.remove_xattr(&root, COMPRESSION)?;
    if mode & SETGID != 0 {
        deferred.mode = Some(mode);
        tree.chmod(&root, mode & !SETGID)?;
    }
    deferred.times = Some(times);
    Ok(deferred)
}

/// Creates an inode that bears nothing inherited, at its first name if it has
/// one, and gives it its name.
fn create(
    tree: &mut Tree,
    path: &StreamPath,
    created_as: Option<&StreamPath>,
    kind: &NewInode,
    mode: Option<u32>,
) -> Result<(), StepError> {
    let first = created_as.unwrap_or(path);
    create_bare(tree, first, kind, mode)?;
    if created_as.is_some() {
        tree.rename(first, path)
            .map_err(|cause| StepError { part: 1, cause })?;
    }
    Ok(())
}

fn create_bare(
    tree: &mut Tree,
    path: &StreamPath,
    kind: &NewInode,
    mode: Option<u32>,
) -> Result<(), Cause> {
    let mode = match kind {
        NewInode::File => mode.unwrap_or(0o600),
        NewInode::Directory => mode.unwrap_or(0o700),
        NewInode::Symlink { .. } => 0o777,
        NewInode::Device { mode: own, .. }
        | NewInode::Fifo { mode: own }
        | NewInode::Socket { mode: own } => mode.unwrap_or(*own),
    } & 0o7777;
    tree.create(path, kind, mode)?;
    tree.change(path, "openat2", 0, |inode, _| {
        *inode = Inode::new(inode.kind.clone(), mode, inode.mtime);
        Ok(())
    })
}

fn write(
    tree: &mut Tree,
    path: &StreamPath,
    offset: u64,
    pieces: &[Bytes],
) -> Result<(), StepError> {
    let mut at = offset;
    for (part, piece) in pieces.iter().enumerate() {
        tree.write(path, at, piece)
            .map_err(|cause| StepError { part, cause })?;
        at = at.saturating_add(piece.len() as u64);
    }
    Ok(())
}

/// Sets the owner and keeps set-id bits, see [`Op::Chown`].
fn chown(tree: &mut Tree, path: &StreamPath, uid: u32, gid: u32) -> Result<(), Cause> {
    let mode = tree.get(path).map(Inode::mode);
    tree.chown(path, uid, gid)?;
    match mode {
        Some(mode) if tree.get(path).map(Inode::mode) != Some(mode) => tree.chmod(path, mode),
        _ => Ok(()),
    }
}

/// Sets an attribute; `btrfs.compression` that a NOCOW file refuses is
/// counted.
fn set_xattr(
    tree: &mut Tree,
    current: &mut Current,
    path: &StreamPath,
    name: &Bytes,
    data: &Bytes,
) -> Result<(), Cause> {
    let is_nocow = |tree: &Tree| {
        tree.get(path)
            .is_some_and(|i| i.attributes & NODATACOW != 0)
    };
    if name == COMPRESSION && xattr::compression(data).is_some() && is_nocow(tree) {
        current.fallbacks.compression_refused += 1;
        return Ok(());
    }
    tree.set_xattr(path, name, data)
}

/// Sets inode flags and keeps `btrfs.compression`, which the ioctl rewrites.
/// What has no flags to set is passed over; flags that the kernel leaves as
/// they were, as it does with NOCOW on a file with content, are counted.
fn set_attributes(
    tree: &mut Tree,
    current: &mut Current,
    path: &StreamPath,
    attributes: u64,
) -> Result<(), Cause> {
    match tree.set_plain_attributes(path, attributes) {
        Err(Cause::NoInodeFlags { .. }) => return Ok(()),
        result => result?,
    }
    let Some(inode) = tree.get(path) else {
        return Ok(());
    };
    let (old, compression) = (inode.attributes, inode.xattr(COMPRESSION).cloned());
    // COMPRESS follows from the property, and the kernel sets NOCOMPRESS by
    // itself on a file that does not compress.
    let mut mask = NODATACOW | DIRSYNC;
    if compression.is_none() && attributes & COMPRESS == 0 {
        mask |= NOCOMPRESS;
    }
    let wanted = attributes & mask;
    if old & mask == wanted {
        return Ok(());
    }
    let set = tree.set_attributes(path, old & !mask | wanted).is_ok();
    if let Some(value) = compression
        && set
        && wanted & NODATACOW == 0
    {
        tree.set_xattr(path, COMPRESSION, &value)?;
    }
    let kept = tree.get(path).map_or(0, |inode| inode.attributes & mask);
    current.fallbacks.flags_refused += u64::from(kept != wanted);
    Ok(())
}
