//! Converts to a lower version.

mod parent;
mod sizes;

use std::io;

use bytes::Bytes;
use uuid::Uuid;

use self::parent::Parent;
use self::sizes::{Size, Sizes, Zeros};
use super::upgrade::PUNCH_HOLE_KEEP_SIZE;
use super::{Output, Transform, TransformError, TransformErrorKind};
use crate::command::{Command, EncodedWrite, StreamPath};
use crate::decoder::Item;
use crate::decompress::Decompressor;
use crate::error::Position;
use crate::wire::Version;

pub use self::parent::ParentEntry;

/// File data in one WRITE of version 1, as kernels cut it
/// (`BTRFS_SEND_READ_SIZE`): leaves room for the longest path.
const WRITE_LEN: usize = 48 * 1024;

static ZEROS: [u8; WRITE_LEN] = [0; WRITE_LEN];

/// Longest hole that is written out as zeros unless told otherwise, in bytes.
const DEFAULT_MAX_ZEROS: u64 = 1 << 40;

/// FILEATTR bits that ask nothing of a receiver: preallocated, as any
/// `fallocate` leaves it, and the kernel's own marks (`BTRFS_INODE_PREALLOC`,
/// `BTRFS_INODE_NOCOMPRESS`).
const ATTRIBUTES_WITHOUT_EFFECT: u64 = 1 << 4 | 1 << 3;

/// Modes of FALLOCATE beside [`PUNCH_HOLE_KEEP_SIZE`] that a btrfs takes: space
/// is allocated, and the file made longer or not; a range is filled with zeros,
/// and the file made longer or not (`FALLOC_FL_*` of `linux/falloc.h`).
const ALLOCATE: u32 = 0;
const ALLOCATE_KEEP_SIZE: u32 = 1;
const ZERO_RANGE: u32 = 0x10;
const ZERO_RANGE_KEEP_SIZE: u32 = 0x11;

/// How to treat FILEATTR and ENABLE_VERITY, which the lower version does not have
/// and which do not change the content of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Newer {
    /// Refuse the stream.
    #[default]
    Refuse,
    /// Omit the commands, and count them.
    Drop,
}

/// How to treat a hole that may reach beyond the end of its file.
///
/// Punching a hole does not change the size of the file, but writing zeros does.
/// Kernels send holes beyond the end only where a file has preallocated space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownSize {
    /// Refuse the stream, unless the size of the file is known from the stream or
    /// from the parent ([`Downgrade::with_parent`]).
    #[default]
    Refuse,
    /// Assume that the file is long enough.
    Assume,
}

/// Settings of a [`Downgrade`].
#[derive(Clone, Copy, Debug)]
pub struct DowngradeBuilder {
    target: Version,
    newer: Newer,
    unknown_size: UnknownSize,
    max_zeros: u64,
}

impl DowngradeBuilder {
    /// Sets how to treat FILEATTR and ENABLE_VERITY, if the lower version does not
    /// have them. Default: refuse.
    #[must_use]
    pub fn newer(mut self, newer: Newer) -> Self {
        self.newer = newer;
        self
    }

    /// Sets how to treat a hole that may reach beyond the end of its file. Default:
    /// refuse.
    #[must_use]
    pub fn unknown_size(mut self, unknown_size: UnknownSize) -> Self {
        self.unknown_size = unknown_size;
        self
    }

    /// Sets the longest hole to write as zeros, in bytes. Default: 1 TiB.
    #[must_use]
    pub fn max_zeros(mut self, bytes: u64) -> Self {
        self.max_zeros = bytes;
        self
    }

    /// Creates the transform.
    pub fn build(self) -> Downgrade {
        Downgrade {
            settings: self,
            version: Version::V1,
            decompressor: Decompressor::new(),
            sizes: Sizes::default(),
            inode: None,
            own: None,
            parent: None,
            dropped: 0,
        }
    }
}

/// Converts to a version that older receivers support. Streams of that version or a
/// lower one are not changed.
///
/// For version 1, encoded writes are decoded, data is divided into WRITEs of at most
/// 48 KiB, creation times in UTIMES are omitted (no receiver can set them), and holes
/// are written as zeros, up to the end of the file. The zeros take space on disk.
/// Preallocated space is not allocated. FILEATTR is omitted if its flags need no
/// action by the receiver.
///
/// For version 2, only ENABLE_VERITY is omitted.
///
/// Commands that change the content of files are never omitted: if the lower version
/// cannot express one, the stream is refused, and so are unknown commands. The size
/// of a file of the parent is often not in the stream, so that a hole in it is
/// refused; [`with_parent`](Self::with_parent) helps.
///
/// An extended attribute that is too long for version 1 is refused by the output.
///
/// Memory: 2 MiB for one extent and its decoder, one path, 3 MiB for holes; with a
/// parent, 32 MiB for changed names and sizes.
#[derive(Debug)]
pub struct Downgrade {
    settings: DowngradeBuilder,
    /// Of the stream being read.
    version: Version,
    decompressor: Decompressor,
    /// For version 1.
    sizes: Sizes,
    /// The inode number of the file at hand in the parent, and what was known
    /// about its length at first.
    inode: Option<(u64, Size)>,
    /// The subvolume under construction.
    own: Option<Uuid>,
    parent: Option<Parent>,
    dropped: u64,
}

impl Downgrade {
    /// Creates a downgrade to this version that refuses what it cannot express.
    pub fn to(target: Version) -> Self {
        Self::builder(target).build()
    }

    /// Returns a builder for other settings.
    pub fn builder(target: Version) -> DowngradeBuilder {
        DowngradeBuilder {
            target,
            newer: Newer::default(),
            unknown_size: UnknownSize::default(),
            max_zeros: DEFAULT_MAX_ZEROS,
        }
    }

    /// Looks up the size of a file in the parent, if it is not known from the
    /// stream.
    ///
    /// `look_up` returns what the parent has at a path, or `None` if there is
    /// nothing. It must not follow symbolic links. It is called for changed files,
    /// and for names that are created or removed. The parent must be that of the
    /// first stream: with another, sizes differ and the result is wrong. It is not
    /// used for the streams that follow.
    ///
    /// Errors of `look_up` become [`TransformErrorKind::Other`].
    #[must_use]
    pub fn with_parent(
        mut self,
        look_up: impl FnMut(&StreamPath) -> io::Result<Option<ParentEntry>> + Send + 'static,
    ) -> Self {
        self.parent = Some(Parent::new(Box::new(look_up)));
        self
    }

    /// Returns the number of commands that were omitted ([`Newer::Drop`]).
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn command(
        &mut self,
        command: Command,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        if matches!(command, Command::EnableVerity(_)) {
            return self.newer(&command, at);
        }
        if self.settings.target != Version::V1 {
            return out.item(Item::Command(command), at);
        }
        self.follow(&command, at)?;
        match command {
            Command::Write { path, offset, data } => {
                self.sizes.reaches(offset, data.len() as u64);
                self.zeros(&path, out)?;
                write(&path, offset, data, at, out)
            }
            Command::EncodedWrite(encoded) => {
                self.sizes
                    .reaches(encoded.offset, encoded.unencoded_file_len);
                self.zeros(&encoded.path, out)?;
                self.decoded(&encoded, at, out)
            }
            Command::Clone(clone) => {
                self.sizes.reaches(clone.offset, clone.len);
                // The source may be this very file.
                if self.sizes.is_waiting() && self.own == Some(clone.source_uuid) {
                    self.sizes.close()?;
                }
                self.zeros(&clone.path, out)?;
                out.item(Item::Command(Command::Clone(clone)), at)
            }
            Command::Truncate { path, size } => {
                self.sizes.truncate(size);
                self.zeros(&path, out)?;
                out.item(Item::Command(Command::Truncate { path, size }), at)
            }
            Command::Fallocate {
                path,
                mode,
                offset,
                len,
            } => self.fallocate(path, mode, (offset, len), at, out),
            Command::FileAttr { attributes, .. }
                if attributes & !ATTRIBUTES_WITHOUT_EFFECT == 0 =>
            {
                Ok(())
            }
            Command::FileAttr { .. } => self.newer(&command, at),
            Command::Utimes {
                path,
                atime,
                mtime,
                ctime,
                ..
            } => {
                let otime = None;
                let times = Command::Utimes {
                    path,
                    atime,
                    mtime,
                    ctime,
                    otime,
                };
                out.item(Item::Command(times), at)
            }
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Mkfile { .. }
            | Command::Mkdir { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::UpdateExtent { .. }
            | Command::EnableVerity(_)
            | Command::End => out.item(Item::Command(command), at),
        }
    }

    /// Keeps track of the file at hand, and of names.
    fn follow(&mut self, command: &Command, at: Position) -> Result<(), TransformError> {
        if !self.sizes.goes_on(command) {
            self.leave()?;
        }
        if let Some(parent) = &mut self.parent {
            parent.command(command, at)?;
        }
        match command {
            Command::Subvol { uuid, .. } | Command::Snapshot { uuid, .. } => {
                self.own = Some(*uuid);
            }
            Command::Mkfile { path, .. } => self.sizes.open(path.clone(), Size::exactly(0)),
            Command::Rename { to, .. } if self.sizes.is_open() => self.sizes.rename(to.clone()),
            Command::Write { path, .. }
            | Command::EncodedWrite(EncodedWrite { path, .. })
            | Command::Truncate { path, .. }
            | Command::Fallocate { path, .. }
                if !self.sizes.is_open() =>
            {
                self.enter(path, at)?;
            }
            Command::Clone(clone) if !self.sizes.is_open() => self.enter(&clone.path, at)?,
            Command::Mkdir { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Write { .. }
            | Command::Clone(_)
            | Command::EncodedWrite(_)
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Utimes { .. }
            | Command::UpdateExtent { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. }
            | Command::EnableVerity(_)
            | Command::End => {}
        }
        Ok(())
    }

    /// Begins with a file that was there before.
    fn enter(&mut self, path: &StreamPath, at: Position) -> Result<(), TransformError> {
        if let Some(parent) = &mut self.parent {
            let failed = |error: io::Error| TransformErrorKind::Other(error.into()).at(at);
            self.inode = parent.file(path).map_err(failed)?;
        }
        let size = self.inode.map(|(_, size)| size);
        self.sizes.open(path.clone(), size.unwrap_or_default());
        Ok(())
    }

    /// Ends with the file at hand.
    fn leave(&mut self) -> Result<(), TransformError> {
        let size = self.sizes.size();
        if let (Some((inode, before)), Some(parent)) = (self.inode.take(), &mut self.parent)
            && size != before
        {
            parent.set_size(inode, size);
        }
        self.sizes.close()
    }

    /// What the lower version lacks.
    fn newer(&mut self, command: &Command, at: Position) -> Result<(), TransformError> {
        if self.settings.newer == Newer::Drop {
            self.dropped += 1;
            return Ok(());
        }
        let path = command.path().map(|path| path.to_owned());
        let kind = TransformErrorKind::Newer {
            path: path.unwrap_or_default(),
            command: command.kind(),
            version: self.settings.target,
        };
        Err(kind.at(at))
    }

    fn decoded(
        &mut self,
        encoded: &EncodedWrite,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let data = self.decompressor.decode_write(encoded).map_err(|error| {
            let path = encoded.path.clone();
            TransformErrorKind::Undecodable { path, error }.at(at)
        })?;
        if data.is_empty() {
            return Ok(());
        }
        let data = Bytes::copy_from_slice(data);
        write(&encoded.path, encoded.offset, data, at, out)
    }

    /// Version 1 has no FALLOCATE.
    fn fallocate(
        &mut self,
        path: StreamPath,
        mode: u32,
        (offset, len): (u64, u64),
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let max = self.settings.max_zeros;
        let end = offset.checked_add(len);
        let Some(end) = end.filter(|&end| end <= i64::MAX as u64) else {
            return Err(TransformErrorKind::HoleTooLong { path, len, max }.at(at));
        };
        let zeros = Zeros {
            start: offset,
            end,
            at,
        };
        match mode {
            // The kernel refuses to do nothing.
            _ if len == 0 => {}
            PUNCH_HOLE_KEEP_SIZE | ZERO_RANGE_KEEP_SIZE => {
                let assume = self.settings.unknown_size == UnknownSize::Assume;
                if assume && !self.sizes.size().exact {
                    return self.write_zeros(&path, zeros, out);
                }
                self.sizes.hole(zeros)?;
            }
            ZERO_RANGE => self.sizes.zeros(zeros),
            ALLOCATE_KEEP_SIZE => {}
            ALLOCATE => {
                if self.sizes.grow(end, at) {
                    let size = end;
                    return out.item(Item::Command(Command::Truncate { path, size }), at);
                }
            }
            _ => {
                let version = self.settings.target;
                let kind = TransformErrorKind::FallocateMode {
                    path,
                    mode,
                    version,
                };
                return Err(kind.at(at));
            }
        }
        self.zeros(&path, out)
    }

    /// Writes the zeros that are known to lie inside the file.
    fn zeros(&mut self, path: &StreamPath, out: &mut dyn Output) -> Result<(), TransformError> {
        for zeros in self.sizes.take_ready() {
            self.write_zeros(path, zeros, out)?;
        }
        Ok(())
    }

    fn write_zeros(
        &self,
        path: &StreamPath,
        zeros: Zeros,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let Zeros { start, end, at } = zeros;
        let (len, max) = (end.saturating_sub(start), self.settings.max_zeros);
        if len > max {
            let path = path.clone();
            return Err(TransformErrorKind::HoleTooLong { path, len, max }.at(at));
        }
        let mut position = start;
        while position < end {
            let piece = usize::try_from(end - position).unwrap_or(WRITE_LEN);
            let zeros = ZEROS.get(..piece).unwrap_or(&ZEROS);
            let write = Command::Write {
                path: path.clone(),
                offset: position,
                data: Bytes::from_static(zeros),
            };
            out.item(Item::Command(write), at)?;
            position += zeros.len() as u64;
        }
        Ok(())
    }
}

impl Transform for Downgrade {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        if let Item::Header(version) = item {
            self.version = version;
            let version = version.min(self.settings.target);
            return out.item(Item::Header(version), at);
        }
        if let (
            Item::Command(command @ (Command::Subvol { .. } | Command::Snapshot { .. })),
            Some(parent),
        ) = (&item, &mut self.parent)
        {
            parent.begin(matches!(command, Command::Snapshot { .. }));
        }
        if self.version <= self.settings.target {
            return out.item(item, at);
        }
        match item {
            Item::Command(command) => self.command(command, at, out),
            // It may be about the content of a file.
            Item::Unknown(raw) => {
                let number = raw.number;
                Err(TransformErrorKind::UnknownCommand { number }.at(at))
            }
            other => out.item(other, at),
        }
    }

    fn end(&mut self, _: &mut dyn Output) -> Result<(), TransformError> {
        self.leave()
    }
}

/// Passes on data in pieces that version 1 can carry. An empty WRITE stays
/// one.
fn write(
    path: &StreamPath,
    mut offset: u64,
    mut data: Bytes,
    at: Position,
    out: &mut dyn Output,
) -> Result<(), TransformError> {
    loop {
        let piece = data.split_to(data.len().min(WRITE_LEN));
        let len = piece.len() as u64;
        let write = Command::Write {
            path: path.clone(),
            offset,
            data: piece,
        };
        out.item(Item::Command(write), at)?;
        if data.is_empty() {
            return Ok(());
        }
        offset = offset.saturating_add(len);
    }
}
