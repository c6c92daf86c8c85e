//! From borrowed commands to kept ones and back.

use bytes::Bytes;

use super::{CloneRange, Command, CommandKind, CommandRef, EnableVerity, EncodedWrite};
use super::{StreamPath, SubvolumeName};

/// One line for each variant with named fields: how each field is converted.
macro_rules! map_variants {
    (
        $command:expr, $convert:ident;
        $($variant:ident { $($field:ident: $how:ident),* })*
        ; $($boxed:ident)*
    ) => {
        match $command {
            $(Self::$variant { $($field),* } => Command::$variant {
                $($field: $how($field, &mut $convert)),*
            },)*
            $(Self::$boxed(inner) => Command::$boxed(inner.map(&mut $convert)),)*
            Self::End => Command::End,
        }
    };
}

fn as_path<B, C, F>(path: StreamPath<B>, convert: &mut F) -> StreamPath<C>
where
    B: AsRef<[u8]>,
    F: FnMut(B) -> C,
{
    path.map(convert)
}

fn as_name<B, C, F>(name: SubvolumeName<B>, convert: &mut F) -> SubvolumeName<C>
where
    B: AsRef<[u8]>,
    F: FnMut(B) -> C,
{
    name.map(convert)
}

fn as_bytes<B, C>(bytes: B, convert: &mut impl FnMut(B) -> C) -> C {
    convert(bytes)
}

fn as_is<T, F>(value: T, _: &mut F) -> T {
    value
}

impl<B: AsRef<[u8]>> Command<B> {
    /// The same command with its names and data converted.
    ///
    /// `convert` must keep the bytes as they are: paths are not checked
    /// again.
    pub(crate) fn map<C: AsRef<[u8]>>(self, mut convert: impl FnMut(B) -> C) -> Command<C> {
        map_variants! { self, convert;
            Subvol { name: as_name, uuid: as_is, ctransid: as_is }
            Snapshot {
                name: as_name, uuid: as_is, ctransid: as_is, parent_uuid: as_is, parent_ctransid: as_is
            }
            Mkfile { path: as_path, ino: as_is }
            Mkdir { path: as_path, ino: as_is }
            Mknod { path: as_path, ino: as_is, rdev: as_is, mode: as_is }
            Mkfifo { path: as_path, ino: as_is, rdev: as_is, mode: as_is }
            Mksock { path: as_path, ino: as_is, rdev: as_is, mode: as_is }
            Symlink { path: as_path, ino: as_is, target: as_bytes }
            Rename { path: as_path, to: as_path }
            Link { path: as_path, existing: as_path }
            Unlink { path: as_path }
            Rmdir { path: as_path }
            SetXattr { path: as_path, name: as_bytes, data: as_bytes }
            RemoveXattr { path: as_path, name: as_bytes }
            Write { path: as_path, offset: as_is, data: as_bytes }
            Truncate { path: as_path, size: as_is }
            Chmod { path: as_path, mode: as_is }
            Chown { path: as_path, uid: as_is, gid: as_is }
            Utimes { path: as_path, atime: as_is, mtime: as_is, ctime: as_is, otime: as_is }
            UpdateExtent { path: as_path, offset: as_is, len: as_is }
            Fallocate { path: as_path, mode: as_is, offset: as_is, len: as_is }
            FileAttr { path: as_path, attributes: as_is }
            ; Clone EncodedWrite EnableVerity
        }
    }

    /// Which command it is.
    pub fn kind(&self) -> CommandKind {
        match self {
            Self::Subvol { .. } => CommandKind::Subvol,
            Self::Snapshot { .. } => CommandKind::Snapshot,
            Self::Mkfile { .. } => CommandKind::Mkfile,
            Self::Mkdir { .. } => CommandKind::Mkdir,
            Self::Mknod { .. } => CommandKind::Mknod,
            Self::Mkfifo { .. } => CommandKind::Mkfifo,
            Self::Mksock { .. } => CommandKind::Mksock,
            Self::Symlink { .. } => CommandKind::Symlink,
            Self::Rename { .. } => CommandKind::Rename,
            Self::Link { .. } => CommandKind::Link,
            Self::Unlink { .. } => CommandKind::Unlink,
            Self::Rmdir { .. } => CommandKind::Rmdir,
            Self::SetXattr { .. } => CommandKind::SetXattr,
            Self::RemoveXattr { .. } => CommandKind::RemoveXattr,
            Self::Write { .. } => CommandKind::Write,
            Self::Clone(_) => CommandKind::Clone,
            Self::Truncate { .. } => CommandKind::Truncate,
            Self::Chmod { .. } => CommandKind::Chmod,
            Self::Chown { .. } => CommandKind::Chown,
            Self::Utimes { .. } => CommandKind::Utimes,
            Self::End => CommandKind::End,
            Self::UpdateExtent { .. } => CommandKind::UpdateExtent,
            Self::Fallocate { .. } => CommandKind::Fallocate,
            Self::FileAttr { .. } => CommandKind::FileAttr,
            Self::EncodedWrite(_) => CommandKind::EncodedWrite,
            Self::EnableVerity(_) => CommandKind::EnableVerity,
        }
    }

    /// The path that the command is about: what it creates, changes,
    /// removes or renames. `None` for SUBVOL and SNAPSHOT, which carry a
    /// name, and for END.
    pub fn path(&self) -> Option<StreamPath<&[u8]>> {
        match self {
            Self::Subvol { .. } | Self::Snapshot { .. } | Self::End => None,
            Self::Mkfile { path, .. }
            | Self::Mkdir { path, .. }
            | Self::Mknod { path, .. }
            | Self::Mkfifo { path, .. }
            | Self::Mksock { path, .. }
            | Self::Symlink { path, .. }
            | Self::Rename { path, .. }
            | Self::Link { path, .. }
            | Self::Unlink { path }
            | Self::Rmdir { path }
            | Self::SetXattr { path, .. }
            | Self::RemoveXattr { path, .. }
            | Self::Write { path, .. }
            | Self::Truncate { path, .. }
            | Self::Chmod { path, .. }
            | Self::Chown { path, .. }
            | Self::Utimes { path, .. }
            | Self::UpdateExtent { path, .. }
            | Self::Fallocate { path, .. }
            | Self::FileAttr { path, .. } => Some(path.borrow()),
            Self::Clone(clone) => Some(clone.path.borrow()),
            Self::EncodedWrite(write) => Some(write.path.borrow()),
            Self::EnableVerity(verity) => Some(verity.path.borrow()),
        }
    }
}

impl CommandRef<'_> {
    /// A copy that can be kept and holds no more memory than it needs.
    ///
    /// Copies names and data. To keep commands without copying, decode from
    /// [`Bytes`].
    pub fn to_owned(&self) -> Command {
        self.clone().map(Bytes::copy_from_slice)
    }
}

impl<B: AsRef<[u8]>> CloneRange<B> {
    fn map<C: AsRef<[u8]>>(self, convert: &mut impl FnMut(B) -> C) -> CloneRange<C> {
        CloneRange {
            path: self.path.map(&mut *convert),
            offset: self.offset,
            len: self.len,
            source_uuid: self.source_uuid,
            source_ctransid: self.source_ctransid,
            source_path: self.source_path.map(convert),
            source_offset: self.source_offset,
        }
    }
}

impl<B: AsRef<[u8]>> EncodedWrite<B> {
    fn map<C: AsRef<[u8]>>(self, convert: &mut impl FnMut(B) -> C) -> EncodedWrite<C> {
        EncodedWrite {
            path: self.path.map(&mut *convert),
            offset: self.offset,
            unencoded_file_len: self.unencoded_file_len,
            unencoded_len: self.unencoded_len,
            unencoded_offset: self.unencoded_offset,
            compression: self.compression,
            encryption: self.encryption,
            data: convert(self.data),
        }
    }
}

impl<B: AsRef<[u8]>> EnableVerity<B> {
    fn map<C: AsRef<[u8]>>(self, convert: &mut impl FnMut(B) -> C) -> EnableVerity<C> {
        EnableVerity {
            path: self.path.map(&mut *convert),
            algorithm: self.algorithm,
            block_size: self.block_size,
            salt: convert(self.salt),
            signature: convert(self.signature),
        }
    }
}
