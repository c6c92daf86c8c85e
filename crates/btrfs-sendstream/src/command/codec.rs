//! Commands from attributes and back.
//!
//! For each shape of command, what reads it and what writes it stand
//! together, in the order in which the kernel writes the attributes.

use uuid::Uuid;

use super::{
    CloneRange, Command, CommandKind, CommandRef, EnableVerity, EncodedWrite, StreamPath,
    SubvolumeName, Timespec,
};
use crate::attr::Attribute::{self as A};
use crate::attr::{AttributeTable, RawAttribute, RawAttributes};
use crate::error::{Error, Malformed, Misuse, Unsupported};
use crate::wire::Version;

/// Nanoseconds of a time are below this.
const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;

/// Reads the command `kind` from its attributes.
///
/// With `ignore_unknown`, attributes that are unknown, or that the command
/// does not use, are left out.
#[inline]
pub(crate) fn read(
    kind: CommandKind,
    attributes: RawAttributes<'_>,
    version: Version,
    ignore_unknown: bool,
) -> Result<CommandRef<'_>, Error> {
    let mut table = AttributeTable::new();
    table.fill(attributes.clone(), version, ignore_unknown)?;
    let fields = Fields {
        kind,
        table: &table,
    };
    if !ignore_unknown && let Some(attribute) = fields.table.unexpected(used_by(kind, version)) {
        return Err(unexpected(kind, attribute, attributes));
    }
    Ok(fields.command()?)
}

#[cold]
fn unexpected(kind: CommandKind, attribute: A, mut all: RawAttributes<'_>) -> Error {
    let offset = all.find_map(|raw| match raw {
        Ok(RawAttribute { number, offset, .. }) if number == attribute.number() => Some(offset),
        _ => None,
    });
    Unsupported::UnexpectedAttribute {
        command: kind,
        attribute,
        offset: offset.unwrap_or_default(),
    }
    .into()
}

/// The set of attributes that a command uses.
#[inline]
fn used_by(kind: CommandKind, version: Version) -> u64 {
    const fn set(mut attributes: &[A]) -> u64 {
        let mut set = 0;
        while let [first, rest @ ..] = attributes {
            set |= first.bit();
            attributes = rest;
        }
        set
    }
    const INODE: u64 = set(&[A::Path, A::Ino]);
    const RANGE: u64 = set(&[A::Path, A::FileOffset, A::Size]);
    const SUBVOL: u64 = set(&[A::Path, A::Uuid, A::Ctransid]);
    const PARENT: u64 = set(&[A::CloneUuid, A::CloneCtransid]);
    const TIMES: u64 = set(&[A::Path, A::Atime, A::Mtime, A::Ctime]);
    match kind {
        CommandKind::Subvol => SUBVOL,
        CommandKind::Snapshot => SUBVOL | PARENT,
        CommandKind::Mkfile | CommandKind::Mkdir => INODE,
        CommandKind::Mknod | CommandKind::Mkfifo | CommandKind::Mksock => {
            INODE | const { set(&[A::Rdev, A::Mode]) }
        }
        CommandKind::Symlink => INODE | A::PathLink.bit(),
        CommandKind::Rename => const { set(&[A::Path, A::PathTo]) },
        CommandKind::Link => const { set(&[A::Path, A::PathLink]) },
        CommandKind::Unlink | CommandKind::Rmdir => A::Path.bit(),
        CommandKind::SetXattr => const { set(&[A::Path, A::XattrName, A::XattrData]) },
        CommandKind::RemoveXattr => const { set(&[A::Path, A::XattrName]) },
        CommandKind::Write => const { set(&[A::Path, A::FileOffset, A::Data]) },
        CommandKind::Clone => {
            const OWN: u64 = set(&[A::FileOffset, A::CloneLen, A::Path]);
            OWN | PARENT | const { set(&[A::ClonePath, A::CloneOffset]) }
        }
        CommandKind::Truncate => const { set(&[A::Path, A::Size]) },
        CommandKind::Chmod => const { set(&[A::Path, A::Mode]) },
        CommandKind::Chown => const { set(&[A::Path, A::Uid, A::Gid]) },
        CommandKind::Utimes if version < Version::V2 => TIMES,
        CommandKind::Utimes => TIMES | A::Otime.bit(),
        CommandKind::End => 0,
        CommandKind::UpdateExtent => RANGE,
        CommandKind::Fallocate => RANGE | A::FallocateMode.bit(),
        CommandKind::FileAttr => const { set(&[A::Path, A::FileAttr]) },
        CommandKind::EncodedWrite => {
            const PLACE: u64 = set(&[A::Path, A::FileOffset, A::UnencodedFileLen]);
            const FORM: u64 = set(&[A::UnencodedLen, A::UnencodedOffset, A::Compression]);
            PLACE | FORM | const { set(&[A::Encryption, A::Data]) }
        }
        CommandKind::EnableVerity => {
            const TREE: u64 = set(&[A::Path, A::VerityAlgorithm, A::VerityBlockSize]);
            TREE | const { set(&[A::VeritySaltData, A::VeritySigData]) }
        }
    }
}

/// The attributes of one command, read by type.
struct Fields<'t, 'a> {
    kind: CommandKind,
    table: &'t AttributeTable<'a>,
}

impl<'a> Fields<'_, 'a> {
    #[inline]
    fn bytes(&self, attribute: A) -> Result<&'a [u8], Malformed> {
        self.table
            .find(attribute)
            .ok_or(Malformed::MissingAttribute {
                command: self.kind,
                attribute,
            })
    }

    /// Bytes that may hold anything but NUL.
    #[inline]
    fn string(&self, attribute: A) -> Result<&'a [u8], Malformed> {
        let value = self.bytes(attribute)?;
        check_string(attribute, value)?;
        Ok(value)
    }

    #[inline]
    fn path(&self, attribute: A) -> Result<StreamPath<&'a [u8]>, Malformed> {
        StreamPath::parse(self.bytes(attribute)?)
            .map_err(|reason| Malformed::Path { attribute, reason })
    }

    #[inline]
    fn array<const N: usize>(&self, attribute: A) -> Result<[u8; N], Malformed> {
        exact(attribute, self.bytes(attribute)?)
    }

    #[inline]
    fn u32(&self, attribute: A) -> Result<u32, Malformed> {
        self.array(attribute).map(u32::from_le_bytes)
    }

    #[inline]
    fn optional_u32(&self, attribute: A) -> Result<Option<u32>, Malformed> {
        let value = self.table.find(attribute);
        let value = value.map(|value| exact(attribute, value)).transpose()?;
        Ok(value.map(u32::from_le_bytes))
    }

    #[inline]
    fn u64(&self, attribute: A) -> Result<u64, Malformed> {
        self.array(attribute).map(u64::from_le_bytes)
    }

    #[inline]
    fn uuid(&self, attribute: A) -> Result<Uuid, Malformed> {
        self.array(attribute).map(Uuid::from_bytes)
    }

    #[inline]
    fn time(&self, attribute: A) -> Result<Timespec, Malformed> {
        let value: [u8; 12] = self.array(attribute)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3] = value;
        let time = Timespec {
            seconds: i64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            nanoseconds: u32::from_le_bytes([n0, n1, n2, n3]),
        };
        check_time(attribute, time)?;
        Ok(time)
    }

    #[inline]
    fn optional_time(&self, attribute: A) -> Result<Option<Timespec>, Malformed> {
        match self.table.find(attribute) {
            Some(_) => self.time(attribute).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn command(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(match self.kind {
            CommandKind::Subvol => self.subvol()?,
            CommandKind::Snapshot => self.snapshot()?,
            CommandKind::Mkfile => {
                let (path, ino) = self.inode()?;
                Command::Mkfile { path, ino }
            }
            CommandKind::Mkdir => {
                let (path, ino) = self.inode()?;
                Command::Mkdir { path, ino }
            }
            CommandKind::Mknod => self.mknod()?,
            CommandKind::Mkfifo => self.mkfifo()?,
            CommandKind::Mksock => self.mksock()?,
            CommandKind::Symlink => self.symlink()?,
            CommandKind::Rename => Command::Rename {
                path: self.path(A::Path)?,
                to: self.path(A::PathTo)?,
            },
            CommandKind::Link => Command::Link {
                path: self.path(A::Path)?,
                existing: self.path(A::PathLink)?,
            },
            CommandKind::Unlink => Command::Unlink {
                path: self.path(A::Path)?,
            },
            CommandKind::Rmdir => Command::Rmdir {
                path: self.path(A::Path)?,
            },
            CommandKind::SetXattr => self.set_xattr()?,
            CommandKind::RemoveXattr => self.remove_xattr()?,
            CommandKind::Write => self.write()?,
            CommandKind::Clone => Command::Clone(self.clone_range()?),
            CommandKind::Truncate => self.truncate()?,
            CommandKind::Chmod => self.chmod()?,
            CommandKind::Chown => self.chown()?,
            CommandKind::Utimes => self.utimes()?,
            CommandKind::End => Command::End,
            CommandKind::UpdateExtent => self.update_extent()?,
            CommandKind::Fallocate => self.fallocate()?,
            CommandKind::FileAttr => self.file_attr()?,
            CommandKind::EncodedWrite => Command::EncodedWrite(self.encoded_write()?),
            CommandKind::EnableVerity => Command::EnableVerity(self.enable_verity()?),
        })
    }
}

/// Appends the payload of `command` to `out`.
///
/// # Errors
/// What `version` cannot carry and what a decoder would refuse; `out` then
/// holds part of the payload.
pub(crate) fn write<B: AsRef<[u8]>>(
    command: &Command<B>,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), Misuse> {
    let kind = command.kind();
    if kind.since() > version {
        return Err(Misuse::CommandVersion {
            command: kind,
            version,
        });
    }
    let mut put = Put {
        out,
        version,
        refused: None,
    };
    put.command(command);
    match put.refused {
        None => Ok(()),
        Some(refused) => Err(refused),
    }
}

/// Writes attributes. What it refuses is remembered, so that the attributes
/// of a command can be listed without a check after each.
struct Put<'o> {
    out: &'o mut Vec<u8>,
    version: Version,
    /// The first thing that was refused.
    refused: Option<Misuse>,
}

impl Put<'_> {
    fn refuse(&mut self, misuse: Misuse) -> &mut Self {
        self.refused.get_or_insert(misuse);
        self
    }

    #[inline]
    fn bytes(&mut self, attribute: A, value: &[u8]) -> &mut Self {
        let Ok(len) = u16::try_from(value.len()) else {
            return self.refuse(Misuse::ValueTooLong {
                attribute,
                len: value.len(),
            });
        };
        self.out
            .extend_from_slice(&attribute.number().to_le_bytes());
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(value);
        self
    }

    /// File data, always a command's last attribute.
    fn data(&mut self, value: &[u8]) -> &mut Self {
        if self.version == Version::V1 {
            return self.bytes(A::Data, value);
        }
        self.out.extend_from_slice(&A::Data.number().to_le_bytes());
        self.out.extend_from_slice(value);
        self
    }

    fn string(&mut self, attribute: A, value: &[u8]) -> &mut Self {
        match check_string(attribute, value) {
            Ok(()) => self.bytes(attribute, value),
            Err(malformed) => self.refuse(Misuse::Value(malformed)),
        }
    }

    fn path<B: AsRef<[u8]>>(&mut self, attribute: A, path: &StreamPath<B>) -> &mut Self {
        self.bytes(attribute, path.as_bytes())
    }

    fn u32(&mut self, attribute: A, value: u32) -> &mut Self {
        self.bytes(attribute, &value.to_le_bytes())
    }

    fn optional_u32(&mut self, attribute: A, value: Option<u32>) -> &mut Self {
        match value {
            Some(value) => self.u32(attribute, value),
            None => self,
        }
    }

    fn u64(&mut self, attribute: A, value: u64) -> &mut Self {
        self.bytes(attribute, &value.to_le_bytes())
    }

    fn uuid(&mut self, attribute: A, value: Uuid) -> &mut Self {
        self.bytes(attribute, value.as_bytes())
    }

    fn time(&mut self, attribute: A, time: Timespec) -> &mut Self {
        if let Err(malformed) = check_time(attribute, time) {
            return self.refuse(Misuse::Value(malformed));
        }
        let [s0, s1, s2, s3, s4, s5, s6, s7] = time.seconds.to_le_bytes();
        let [n0, n1, n2, n3] = time.nanoseconds.to_le_bytes();
        self.bytes(attribute, &[s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3])
    }

    fn command<B: AsRef<[u8]>>(&mut self, command: &Command<B>) {
        use Command as C;
        match command {
            C::Subvol { .. } | C::Snapshot { .. } => self.subvolume(command),
            C::Mkfile { path, ino } | C::Mkdir { path, ino } => self.inode(path, *ino),
            C::Mknod {
                path,
                ino,
                rdev,
                mode,
            }
            | C::Mkfifo {
                path,
                ino,
                rdev,
                mode,
            }
            | C::Mksock {
                path,
                ino,
                rdev,
                mode,
            } => self.special(path, *ino, *rdev, *mode),
            C::Symlink { path, ino, target } => {
                self.inode(path, *ino).string(A::PathLink, target.as_ref())
            }
            C::Rename { path, to } => self.path(A::Path, path).path(A::PathTo, to),
            C::Link { path, existing } => self.path(A::Path, path).path(A::PathLink, existing),
            C::Unlink { path } | C::Rmdir { path } => self.path(A::Path, path),
            C::SetXattr { path, name, data } => self.set_xattr(path, name.as_ref(), data.as_ref()),
            C::RemoveXattr { path, name } => {
                self.path(A::Path, path).string(A::XattrName, name.as_ref())
            }
            C::Write { path, offset, data } => self.write(path, *offset, data.as_ref()),
            C::Clone(clone) => self.clone_range(clone),
            C::Truncate { path, size } => self.path(A::Path, path).u64(A::Size, *size),
            C::Chmod { path, mode } => self.path(A::Path, path).u64(A::Mode, *mode),
            C::Chown { path, uid, gid } => {
                self.path(A::Path, path).u64(A::Uid, *uid).u64(A::Gid, *gid)
            }
            C::Utimes {
                path,
                atime,
                mtime,
                ctime,
                otime,
            } => self.utimes(path, [*atime, *mtime, *ctime], *otime),
            C::End => self,
            C::UpdateExtent { path, offset, len } => self.range(path, None, *offset, *len),
            C::Fallocate {
                path,
                mode,
                offset,
                len,
            } => self.range(path, Some(*mode), *offset, *len),
            C::FileAttr { path, attributes } => {
                self.path(A::Path, path).u64(A::FileAttr, *attributes)
            }
            C::EncodedWrite(write) => self.encoded_write(write),
            C::EnableVerity(verity) => self.enable_verity(verity),
        };
    }
}

// SUBVOL and SNAPSHOT.

impl<'a> Fields<'_, 'a> {
    fn subvol(&self) -> Result<CommandRef<'a>, Malformed> {
        let (name, uuid, ctransid) = self.identity()?;
        Ok(Command::Subvol {
            name,
            uuid,
            ctransid,
        })
    }

    fn snapshot(&self) -> Result<CommandRef<'a>, Malformed> {
        let (name, uuid, ctransid) = self.identity()?;
        Ok(Command::Snapshot {
            name,
            uuid,
            ctransid,
            parent_uuid: self.uuid(A::CloneUuid)?,
            parent_ctransid: self.u64(A::CloneCtransid)?,
        })
    }

    fn identity(&self) -> Result<(SubvolumeName<&'a [u8]>, Uuid, u64), Malformed> {
        let attribute = A::Path;
        let name = SubvolumeName::parse(self.bytes(attribute)?)
            .map_err(|reason| Malformed::Path { attribute, reason })?;
        let uuid = self.uuid(A::Uuid)?;
        check_uuid(self.kind, uuid)?;
        Ok((name, uuid, self.u64(A::Ctransid)?))
    }
}

impl Put<'_> {
    fn subvolume<B: AsRef<[u8]>>(&mut self, command: &Command<B>) -> &mut Self {
        let (Command::Subvol {
            name,
            uuid,
            ctransid,
        }
        | Command::Snapshot {
            name,
            uuid,
            ctransid,
            ..
        }) = command
        else {
            return self;
        };
        if let Err(malformed) = check_uuid(command.kind(), *uuid) {
            return self.refuse(Misuse::Value(malformed));
        }
        self.bytes(A::Path, name.as_bytes())
            .uuid(A::Uuid, *uuid)
            .u64(A::Ctransid, *ctransid);
        if let Command::Snapshot {
            parent_uuid,
            parent_ctransid,
            ..
        } = command
        {
            self.uuid(A::CloneUuid, *parent_uuid)
                .u64(A::CloneCtransid, *parent_ctransid);
        }
        self
    }
}

// New inodes.

impl<'a> Fields<'_, 'a> {
    fn inode(&self) -> Result<(StreamPath<&'a [u8]>, u64), Malformed> {
        Ok((self.path(A::Path)?, self.u64(A::Ino)?))
    }

    fn mknod(&self) -> Result<CommandRef<'a>, Malformed> {
        let (path, ino) = self.inode()?;
        Ok(Command::Mknod {
            path,
            ino,
            rdev: self.u64(A::Rdev)?,
            mode: self.u64(A::Mode)?,
        })
    }

    fn mkfifo(&self) -> Result<CommandRef<'a>, Malformed> {
        let (path, ino) = self.inode()?;
        Ok(Command::Mkfifo {
            path,
            ino,
            rdev: self.u64(A::Rdev)?,
            mode: self.u64(A::Mode)?,
        })
    }

    fn mksock(&self) -> Result<CommandRef<'a>, Malformed> {
        let (path, ino) = self.inode()?;
        Ok(Command::Mksock {
            path,
            ino,
            rdev: self.u64(A::Rdev)?,
            mode: self.u64(A::Mode)?,
        })
    }

    fn symlink(&self) -> Result<CommandRef<'a>, Malformed> {
        let (path, ino) = self.inode()?;
        Ok(Command::Symlink {
            path,
            ino,
            target: self.string(A::PathLink)?,
        })
    }
}

impl Put<'_> {
    fn inode<B: AsRef<[u8]>>(&mut self, path: &StreamPath<B>, ino: u64) -> &mut Self {
        self.path(A::Path, path).u64(A::Ino, ino)
    }

    fn special<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        ino: u64,
        rdev: u64,
        mode: u64,
    ) -> &mut Self {
        self.inode(path, ino).u64(A::Rdev, rdev).u64(A::Mode, mode)
    }
}

// Metadata.

impl<'a> Fields<'_, 'a> {
    fn set_xattr(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::SetXattr {
            path: self.path(A::Path)?,
            name: self.string(A::XattrName)?,
            data: self.bytes(A::XattrData)?,
        })
    }

    fn remove_xattr(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::RemoveXattr {
            path: self.path(A::Path)?,
            name: self.string(A::XattrName)?,
        })
    }

    fn truncate(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Truncate {
            path: self.path(A::Path)?,
            size: self.u64(A::Size)?,
        })
    }

    fn chmod(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Chmod {
            path: self.path(A::Path)?,
            mode: self.u64(A::Mode)?,
        })
    }

    fn chown(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Chown {
            path: self.path(A::Path)?,
            uid: self.u64(A::Uid)?,
            gid: self.u64(A::Gid)?,
        })
    }

    fn utimes(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Utimes {
            path: self.path(A::Path)?,
            atime: self.time(A::Atime)?,
            mtime: self.time(A::Mtime)?,
            ctime: self.time(A::Ctime)?,
            otime: self.optional_time(A::Otime)?,
        })
    }

    fn file_attr(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::FileAttr {
            path: self.path(A::Path)?,
            attributes: self.u64(A::FileAttr)?,
        })
    }
}

impl Put<'_> {
    fn set_xattr<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        name: &[u8],
        data: &[u8],
    ) -> &mut Self {
        self.path(A::Path, path)
            .string(A::XattrName, name)
            .bytes(A::XattrData, data)
    }

    fn utimes<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        [atime, mtime, ctime]: [Timespec; 3],
        otime: Option<Timespec>,
    ) -> &mut Self {
        self.path(A::Path, path)
            .time(A::Atime, atime)
            .time(A::Mtime, mtime)
            .time(A::Ctime, ctime);
        match otime {
            None => self,
            Some(_) if self.version == Version::V1 => self.refuse(Misuse::AttributeVersion {
                attribute: A::Otime,
                version: Version::V1,
            }),
            Some(otime) => self.time(A::Otime, otime),
        }
    }
}

// Content of files.

impl<'a> Fields<'_, 'a> {
    fn write(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Write {
            path: self.path(A::Path)?,
            offset: self.u64(A::FileOffset)?,
            data: self.bytes(A::Data)?,
        })
    }

    fn clone_range(&self) -> Result<CloneRange<&'a [u8]>, Malformed> {
        Ok(CloneRange {
            path: self.path(A::Path)?,
            offset: self.u64(A::FileOffset)?,
            len: self.u64(A::CloneLen)?,
            source_uuid: self.uuid(A::CloneUuid)?,
            source_ctransid: self.u64(A::CloneCtransid)?,
            source_path: self.path(A::ClonePath)?,
            source_offset: self.u64(A::CloneOffset)?,
        })
    }

    fn update_extent(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::UpdateExtent {
            path: self.path(A::Path)?,
            offset: self.u64(A::FileOffset)?,
            len: self.u64(A::Size)?,
        })
    }

    fn fallocate(&self) -> Result<CommandRef<'a>, Malformed> {
        Ok(Command::Fallocate {
            path: self.path(A::Path)?,
            mode: self.u32(A::FallocateMode)?,
            offset: self.u64(A::FileOffset)?,
            len: self.u64(A::Size)?,
        })
    }

    fn encoded_write(&self) -> Result<EncodedWrite<&'a [u8]>, Malformed> {
        Ok(EncodedWrite {
            path: self.path(A::Path)?,
            offset: self.u64(A::FileOffset)?,
            unencoded_file_len: self.u64(A::UnencodedFileLen)?,
            unencoded_len: self.u64(A::UnencodedLen)?,
            unencoded_offset: self.u64(A::UnencodedOffset)?,
            compression: self.optional_u32(A::Compression)?,
            encryption: self.optional_u32(A::Encryption)?,
            data: self.bytes(A::Data)?,
        })
    }

    fn enable_verity(&self) -> Result<EnableVerity<&'a [u8]>, Malformed> {
        let [algorithm] = self.array(A::VerityAlgorithm)?;
        Ok(EnableVerity {
            path: self.path(A::Path)?,
            algorithm,
            block_size: self.u32(A::VerityBlockSize)?,
            salt: self.bytes(A::VeritySaltData)?,
            signature: self.bytes(A::VeritySigData)?,
        })
    }
}

impl Put<'_> {
    fn write<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        offset: u64,
        data: &[u8],
    ) -> &mut Self {
        self.path(A::Path, path)
            .u64(A::FileOffset, offset)
            .data(data)
    }

    fn clone_range<B: AsRef<[u8]>>(&mut self, clone: &CloneRange<B>) -> &mut Self {
        self.u64(A::FileOffset, clone.offset)
            .u64(A::CloneLen, clone.len)
            .path(A::Path, &clone.path)
            .uuid(A::CloneUuid, clone.source_uuid)
            .u64(A::CloneCtransid, clone.source_ctransid)
            .path(A::ClonePath, &clone.source_path)
            .u64(A::CloneOffset, clone.source_offset)
    }

    /// UPDATE_EXTENT, and FALLOCATE with its mode.
    fn range<B: AsRef<[u8]>>(
        &mut self,
        path: &StreamPath<B>,
        mode: Option<u32>,
        offset: u64,
        len: u64,
    ) -> &mut Self {
        self.path(A::Path, path)
            .optional_u32(A::FallocateMode, mode)
            .u64(A::FileOffset, offset)
            .u64(A::Size, len)
    }

    fn encoded_write<B: AsRef<[u8]>>(&mut self, write: &EncodedWrite<B>) -> &mut Self {
        self.path(A::Path, &write.path)
            .u64(A::FileOffset, write.offset)
            .u64(A::UnencodedFileLen, write.unencoded_file_len)
            .u64(A::UnencodedLen, write.unencoded_len)
            .u64(A::UnencodedOffset, write.unencoded_offset)
            .optional_u32(A::Compression, write.compression)
            .optional_u32(A::Encryption, write.encryption)
            .data(write.data.as_ref())
    }

    fn enable_verity<B: AsRef<[u8]>>(&mut self, verity: &EnableVerity<B>) -> &mut Self {
        self.path(A::Path, &verity.path)
            .bytes(A::VerityAlgorithm, &[verity.algorithm])
            .u32(A::VerityBlockSize, verity.block_size)
            .bytes(A::VeritySaltData, verity.salt.as_ref())
            .bytes(A::VeritySigData, verity.signature.as_ref())
    }
}

// What holds for values in both directions.

#[inline]
fn exact<const N: usize>(attribute: A, value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed::AttributeLength {
        attribute,
        len: value.len(),
        expected: N,
    })
}

fn check_string(attribute: A, value: &[u8]) -> Result<(), Malformed> {
    match value.contains(&0) {
        true => Err(Malformed::Nul { attribute }),
        false => Ok(()),
    }
}

#[inline]
fn check_time(attribute: A, time: Timespec) -> Result<(), Malformed> {
    match time.nanoseconds {
        0..NANOSECONDS_PER_SECOND => Ok(()),
        nanoseconds => Err(Malformed::Nanoseconds {
            attribute,
            nanoseconds,
        }),
    }
}

fn check_uuid(command: CommandKind, uuid: Uuid) -> Result<(), Malformed> {
    match uuid.is_nil() {
        true => Err(Malformed::NilUuid { command }),
        false => Ok(()),
    }
}
