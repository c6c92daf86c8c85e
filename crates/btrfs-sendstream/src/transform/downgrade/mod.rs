//! To a lower version.

mod sizes;

use bytes::Bytes;

use self::sizes::Sizes;
use super::upgrade::PUNCH_HOLE_KEEP_SIZE;
use super::{Output, Transform, TransformError, TransformErrorKind};
use crate::command::{Command, EncodedWrite, StreamPath};
use crate::decoder::Item;
use crate::decompress::Decompressor;
use crate::error::Position;
use crate::wire::Version;

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

/// What to do with commands that the lower version lacks.
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
    /// Refuse the stream unless it shows that the file is long enough.
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
    /// What to do with commands that the lower version lacks: FILEATTR and
    /// ENABLE_VERITY, FALLOCATE in another mode than punching a hole, and
    /// unknown ones. The default is to refuse.
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
            dropped: 0,
        }
    }
}

/// Gives a version that older receivers understand. Streams that are of that
/// version or lower pass unchanged.
///
/// To version 1: encoded writes are decoded, data is cut into WRITEs of at
/// most 48 KiB, creation times in UTIMES are left out (no receiver can set
/// them), and holes are written as zeros. A hole is a hole no longer, then,
/// and takes space. FILEATTR goes if it asks nothing of a receiver.
///
/// To version 2: without ENABLE_VERITY; everything else is as it was.
///
/// An extended attribute can be too long for version 1. The output refuses
/// it.
///
/// Memory: one extent and its decoder, 2 MiB, and one path.
#[derive(Debug)]
pub struct Downgrade {
    settings: DowngradeBuilder,
    /// Of the stream being read.
    version: Version,
    decompressor: Decompressor,
    sizes: Sizes,
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

    /// How many commands were left out ([`Newer::Drop`]).
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn command(
        &mut self,
        command: Command,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let to_1 = self.settings.target == Version::V1;
        match command {
            Command::EnableVerity(_) => self.newer(&command, at),
            _ if !to_1 => out.item(Item::Command(command), at),
            Command::Write { path, offset, data } => write(&path, offset, data, at, out),
            Command::EncodedWrite(encoded) => self.decoded(&encoded, at, out),
            Command::Fallocate {
                path,
                mode: PUNCH_HOLE_KEEP_SIZE,
                offset,
                len,
            } => self.hole(&path, offset, len, at, out),
            Command::FileAttr { attributes, .. }
                if attributes & !ATTRIBUTES_WITHOUT_EFFECT == 0 =>
            {
                Ok(())
            }
            Command::Fallocate { .. } | Command::FileAttr { .. } => self.newer(&command, at),
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
            other => out.item(Item::Command(other), at),
        }
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

    fn hole(
        &mut self,
        path: &StreamPath,
        offset: u64,
        len: u64,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let max = self.settings.max_zeros;
        let end = offset.checked_add(len).filter(|_| len <= max);
        let Some(end) = end.filter(|&end| end <= i64::MAX as u64) else {
            let path = path.clone();
            return Err(TransformErrorKind::HoleTooLong { path, len, max }.at(at));
        };
        let mut position = offset;
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
        if self.version <= self.settings.target {
            return out.item(item, at);
        }
        match item {
            Item::Unknown(raw) if self.settings.newer == Newer::Refuse => {
                let number = raw.number;
                Err(TransformErrorKind::UnknownCommand { number }.at(at))
            }
            Item::Command(command) => {
                let track = self.settings.target == Version::V1
                    && self.settings.unknown_size == UnknownSize::Refuse;
                if track {
                    self.sizes.command(&command, at)?;
                }
                self.command(command, at, out)
            }
            _ => {
                self.dropped += 1;
                Ok(())
            }
        }
    }

    fn end(&mut self, _: &mut dyn Output) -> Result<(), TransformError> {
        Ok(())
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
