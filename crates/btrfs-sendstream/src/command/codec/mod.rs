//! Commands from attributes and back.
//!
//! [`value`] reads and writes single attributes, [`shape`] the attributes of
//! each shape of command; here is which command has which.

mod shape;
mod value;

use super::{Command, CommandKind, CommandRef};
use crate::attr::{AttributeTable, RawAttribute, RawAttributes};
use crate::error::{Error, Malformed, Misuse, Unsupported};
use crate::wire::Version;
use crate::wire::attribute::Attribute::{self as A};
use value::{Fields, Put};

/// Reads the command `kind` from its attributes.
///
/// With `ignore_unknown`, attributes that are unknown, or that the command
/// does not use, are omitted.
#[inline]
pub(crate) fn read(
    kind: CommandKind,
    attributes: RawAttributes<'_>,
    version: Version,
    ignore_unknown: bool,
) -> Result<CommandRef<'_>, Error> {
    let mut table = AttributeTable::new();
    table.fill(attributes.clone(), version, ignore_unknown)?;
    let command = Fields {
        kind,
        version,
        table: &table,
    }
    .command()?;
    if !ignore_unknown && let Some(attribute) = table.unexpected() {
        return Err(unexpected(kind, attribute, attributes));
    }
    Ok(command)
}

/// How many attributes [`read`] leaves out when it ignores unknown ones.
pub(crate) fn ignored(kind: CommandKind, attributes: RawAttributes<'_>, version: Version) -> u64 {
    let mut table = AttributeTable::new();
    let filled = table.fill(attributes.clone(), version, true);
    let fields = Fields {
        kind,
        version,
        table: &table,
    };
    // The command was read before: neither can fail.
    if filled.is_err() || fields.command().is_err() {
        return 0;
    }
    let is_used = |number| A::from_number(number).is_some_and(|it| table.is_used(it));
    let ignored = attributes.filter(|raw| matches!(raw, Ok(raw) if !is_used(raw.number)));
    ignored.fold(0, |count, _| count + 1)
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

impl<'a> Fields<'_, 'a> {
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

impl Put<'_> {
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
