//! To a lower version.

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

/// What to do with commands that the lower version lacks and that are not about
/// the content of files: FILEATTR and ENABLE_VERITY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Newer {
    /// Refuse the stream.
    #[default]
    Refuse,
    /// Leave the commands out, and count them.
    Drop,
}

/// What to do with a hole that may reach beyond the end of its file.
///
/// Punching a hole leaves the size alone, writing zeros does not. Kernels
/// send holes beyond the end only where a file has preallocated space there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownSize {
    /// Refuse the stream unless it, or the parent
    /// ([`Downgrade::with_parent`]), shows how long the file is.
    #[default]
    Refuse,
    /// Take the file to be long enough.
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
    /// What to do with commands that the lower version lacks and that are not
    /// about the content of files: FILEATTR and ENABLE_VERITY. The default is
    /// to refuse.
    #[must_use]
    pub fn newer(mut self, newer: Newer) -> Self {
        self.newer = newer;
        self
    }

    /// What to do with a hole that may reach beyond the end of its file. The
    /// default is to refuse.
    #[must_use]
    pub fn unknown_size(mut self, unknown_size: UnknownSize) -> Self {
        self.unknown_size = unknown_size;
        self
    }

    /// Longest hole to write as zeros, in bytes. The default is 1 TiB.
    #[must_use]
    pub fn max_zeros(mut self, bytes: u64) -> Self {
        self.max_zeros = bytes;
        self
    }

    /// The transform.
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

/// Gives a version that older receivers understand. Streams that are of that
/// version or lower pass unchanged.
///
/// To version 1: encoded writes are decoded, data is cut into WRITEs of at
/// most 48 KiB, creation times in UTIMES are omitted (no receiver can set
/// them), and holes are written as zeros, as far as the file reaches. A hole
/// is a hole no longer, then, and takes space; space allocated in advance is
/// not. FILEATTR goes if it asks nothing of a receiver.
///
/// To version 2: without ENABLE_VERITY; everything else is as it was.
///
/// What changes the content of files is never omitted: what cannot be
/// expressed is refused, and so is a command that is not known here. How far a
/// file that the parent has already reaches is often not in the stream, so
/// that a hole in it is refused; [`with_parent`](Self::with_parent) helps.
///
/// An extended attribute can be too long for version 1. The output refuses
/// it.
///
/// Memory: one extent and its decoder, 2 MiB; one path; 3 MiB of holes; with a
/// parent, 32 MiB for names and sizes that changed.
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
    /// A downgrade to this version that refuses what it cannot express.
    pub fn to(target: Version) -> Self {
        Self::builder(target).build()
    }

    /// Settings other than the default.
    pub fn builder(target: Version) -> DowngradeBuilder {
        DowngradeBuilder {
            target,
            newer: Newer::default(),
            unknown_size: UnknownSize::default(),
            max_zeros: DEFAULT_MAX_ZEROS,
        }
    }

    /// Looks up in the parent how long a file is, where the stream does not
    /// say.
    ///
    /// `look_up` gives what the parent has under a path, and `None` if there
    /// is nothing. Symbolic links are not to be followed. It is asked about
    /// files that change, and about names that are made or removed. The parent
    /// must be the one that the first stream was made against: another has
    /// files of other lengths, and the result is wrong. Streams that follow
    /// have another parent, and get no help from this one.
    ///
    /// Errors of `look_up` end in [`TransformErrorKind::Other`].
    #[must_use]
    pub fn with_parent(
        mut self,
        look_up: impl FnMut(&StreamPath) -> io::Result<Option<ParentEntry>> + Send + 'static,
    ) -> Self {
        self.parent = Some(Parent::new(Box::new(look_up)));
        self
    }

    /// How many commands were omitted ([`Newer::Drop`]).
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
