//! What a destination is asked to do.

use btrfs_sendstream::{
    Bytes, CloneRange, EnableVerity, EncodedWrite, Position, StreamPath, Timespec,
};
pub use btrfs_sendstream::{NewSubvolume, SourceId};

/// An [`Op`] and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// The command that asked for it; the first of them for a fused one.
    pub at: Position,
    /// The further commands that were fused into it, in order: for
    /// [`Op::Create`] the rename, for [`Op::Move`] the unlink, for [`Op::Write`] and [`Op::Clone`] one for
    /// each piece after the first; the pieces of a clone are equally long.
    pub fused: Vec<Position>,
}

impl Step {
    /// An operation that stands for one command.
    pub fn new(op: Op, at: Position) -> Self {
        Self {
            op,
            at,
            fused: Vec::new(),
        }
    }

    /// The commands that a joined [`Op::Clone`] stands for, in order: the first
    /// is that at [`at`](Self::at), the others those of
    /// [`fused`](Self::fused). Nothing for any other operation.
    pub fn clones(&self) -> impl Iterator<Item = CloneRange> {
        let range = match &self.op {
            Op::Clone(range) => Some(range),
            _ => None,
        };
        range
            .into_iter()
            .flat_map(|range| pieces_of(range, self.fused.len() + 1))
    }
}

/// The pieces that a joined clone was made of: `count` of equal length.
pub(crate) fn pieces_of(range: &CloneRange, count: usize) -> impl Iterator<Item = CloneRange> {
    let count = (count as u64).max(1);
    let len = range.len / count;
    (0..count).map(move |index| CloneRange {
        offset: range.offset.saturating_add(index.saturating_mul(len)),
        source_offset: range
            .source_offset
            .saturating_add(index.saturating_mul(len)),
        len,
        ..range.clone()
    })
}

/// What kind of inode to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewInode {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What the link holds.
        target: Bytes,
    },
    /// A character or block device.
    Device {
        /// Mode with type bits.
        mode: u32,
        /// Device number in the kernel's 32-bit encoding.
        rdev: u64,
    },
    /// A FIFO.
    Fifo {
        /// Mode with type bits.
        mode: u32,
    },
    /// A socket.
    Socket {
        /// Mode with type bits.
        mode: u32,
    },
}

/// One operation on the subvolume under construction.
///
/// Most mirror one command of the stream; [`Op::Create`], [`Op::Move`],
/// [`Op::Write`] and [`Op::Clone`] may stand for several that were fused.
///
/// Exhaustive on purpose: a destination that does not know an operation must
/// not compile, since passing it over in silence would lose data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new inode. Nothing it would inherit from its directory (default
    /// ACL, `btrfs.compression`, inode flags, group) may remain on it.
    Create {
        /// The name it ends up with.
        path: StreamPath,
        /// The name the stream created it under, in the subvolume root, if
        /// that name differs from `path`: a fused creation and rename.
        created_as: Option<StreamPath>,
        /// What to create.
        kind: NewInode,
        /// Permission bits it ends up with, if the stream told in time: at
        /// most 0o777, set-id and sticky bits come by [`Op::Chmod`]. `None`
        /// stands for 0o600, 0o700 for a directory; special files take the
        /// bits of their mode. A symbolic link has none.
        mode: Option<u32>,
    },
    /// `rename(2)`, replacing what is there as that does.
    Rename {
        /// The old name.
        path: StreamPath,
        /// The new name.
        to: StreamPath,
    },
    /// A further name for a file.
    Link {
        /// The new name.
        path: StreamPath,
        /// A name the file already has.
        existing: StreamPath,
    },
    /// A further name for a file, and then its old one removed: two commands
    /// fused, for which a rename will do if `path` is free and `existing` no
    /// directory. Where a rename will not do, first the one, then the other; if
    /// the first fails, the file keeps its old name.
    Move {
        /// The new name.
        path: StreamPath,
        /// The name the file already has.
        existing: StreamPath,
    },
    /// Removes a name of anything but a directory.
    Unlink {
        /// The name.
        path: StreamPath,
    },
    /// Removes an empty directory.
    Rmdir {
        /// The directory.
        path: StreamPath,
    },
    /// Creates or replaces an extended attribute.
    SetXattr {
        /// The inode.
        path: StreamPath,
        /// Name with its namespace.
        name: Bytes,
        /// Value; may be empty.
        data: Bytes,
    },
    /// Removes an extended attribute; one that is missing is no error.
    RemoveXattr {
        /// The inode.
        path: StreamPath,
        /// Name with its namespace.
        name: Bytes,
    },
    /// File data, one or more pieces that follow each other.
    Write {
        /// The file.
        path: StreamPath,
        /// Where the first piece goes, in bytes.
        offset: u64,
        /// The pieces, in order.
        data: Vec<Bytes>,
    },
    /// File data by reference.
    Clone(CloneRange),
    /// File data as the sender's disk holds it.
    EncodedWrite(EncodedWrite),
    /// Sets the size of a file.
    Truncate {
        /// The file.
        path: StreamPath,
        /// The new size in bytes.
        size: u64,
    },
    /// `fallocate(2)`.
    Fallocate {
        /// The file.
        path: StreamPath,
        /// `FALLOC_FL_*` of `linux/falloc.h`; kernels send 3 only, a hole
        /// that leaves the size as it is.
        mode: u32,
        /// Where the range begins, in bytes.
        offset: u64,
        /// Bytes in the range.
        len: u64,
    },
    /// Sets the owner. Set-id bits stay, although the kernel clears them: a
    /// sender that set them again has the mode it had, and sends no CHMOD.
    /// A file's capability is cleared; senders set it again.
    Chown {
        /// The inode, not followed if a symbolic link.
        path: StreamPath,
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Sets the permission bits.
    Chmod {
        /// The inode.
        path: StreamPath,
        /// 0 to 0o7777.
        mode: u32,
    },
    /// Sets inode flags.
    FileAttr {
        /// The inode.
        path: StreamPath,
        /// `BTRFS_INODE_*` of the sender's inode item.
        attributes: u64,
    },
    /// Sets the times.
    Utimes {
        /// The inode, not followed if a symbolic link.
        path: StreamPath,
        /// Last access.
        atime: Timespec,
        /// Last change of the content; `None` leaves it as it is.
        mtime: Option<Timespec>,
    },
    /// Turns a file into a verity file.
    EnableVerity(EnableVerity),
}

impl Op {
    /// The path the operation acts on; the new name for [`Op::Link`] and [`Op::Move`], the
    /// old one for [`Op::Rename`].
    pub fn path(&self) -> &StreamPath {
        match self {
            Self::Create { path, .. }
            | Self::Rename { path, .. }
            | Self::Link { path, .. }
            | Self::Move { path, .. }
            | Self::Unlink { path }
            | Self::Rmdir { path }
            | Self::SetXattr { path, .. }
            | Self::RemoveXattr { path, .. }
            | Self::Write { path, .. }
            | Self::Truncate { path, .. }
            | Self::Fallocate { path, .. }
            | Self::Chown { path, .. }
            | Self::Chmod { path, .. }
            | Self::FileAttr { path, .. }
            | Self::Utimes { path, .. } => path,
            Self::Clone(clone) => &clone.path,
            Self::EncodedWrite(write) => &write.path,
            Self::EnableVerity(verity) => &verity.path,
        }
    }

    /// Whether the operation changes the content of a regular file: it needs
    /// a descriptor that can be written to, and can clear set-id bits.
    pub(crate) fn changes_content(&self) -> bool {
        match self {
            Self::Write { .. }
            | Self::Clone(_)
            | Self::EncodedWrite(_)
            | Self::Truncate { .. }
            | Self::Fallocate { .. } => true,
            Self::Create { .. }
            | Self::Rename { .. }
            | Self::Link { .. }
            | Self::Move { .. }
            | Self::Unlink { .. }
            | Self::Rmdir { .. }
            | Self::SetXattr { .. }
            | Self::RemoveXattr { .. }
            | Self::Chown { .. }
            | Self::Chmod { .. }
            | Self::FileAttr { .. }
            | Self::Utimes { .. }
            | Self::EnableVerity(_) => false,
        }
    }

    /// Whether the operation adds, changes or removes a name; all others
    /// concern the inode at their path alone.
    pub(crate) fn changes_names(&self) -> bool {
        match self {
            Self::Create { .. }
            | Self::Rename { .. }
            | Self::Link { .. }
            | Self::Move { .. }
            | Self::Unlink { .. }
            | Self::Rmdir { .. } => true,
            Self::SetXattr { .. }
            | Self::RemoveXattr { .. }
            | Self::Write { .. }
            | Self::Clone(_)
            | Self::EncodedWrite(_)
            | Self::Truncate { .. }
            | Self::Fallocate { .. }
            | Self::Chown { .. }
            | Self::Chmod { .. }
            | Self::FileAttr { .. }
            | Self::Utimes { .. }
            | Self::EnableVerity(_) => false,
        }
    }

    /// The name of the operation as the stream's commands are called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { kind, .. } => match kind {
                NewInode::File => "mkfile",
                NewInode::Directory => "mkdir",
                NewInode::Symlink { .. } => "symlink",
                NewInode::Device { .. } => "mknod",
                NewInode::Fifo { .. } => "mkfifo",
                NewInode::Socket { .. } => "mksock",
            },
            Self::Rename { .. } => "rename",
            Self::Link { .. } | Self::Move { .. } => "link",
            Self::Unlink { .. } => "unlink",
            Self::Rmdir { .. } => "rmdir",
            Self::SetXattr { .. } => "set_xattr",
            Self::RemoveXattr { .. } => "remove_xattr",
            Self::Write { .. } => "write",
            Self::Clone(_) => "clone",
            Self::EncodedWrite(_) => "encoded_write",
            Self::Truncate { .. } => "truncate",
            Self::Fallocate { .. } => "fallocate",
            Self::Chown { .. } => "chown",
            Self::Chmod { .. } => "chmod",
            Self::FileAttr { .. } => "fileattr",
            Self::Utimes { .. } => "utimes",
            Self::EnableVerity(_) => "enable_verity",
        }
    }
}
