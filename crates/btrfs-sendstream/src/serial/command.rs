//! Commands.

use serde::ser::{Serialize, Serializer};

use super::{Fields, Object};
use crate::{CloneRange, Command, CommandKind, EnableVerity, EncodedWrite};

/// As its name.
impl Serialize for CommandKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An object: `type`, the name of the command, and its fields. Modes are
/// octal digits and times are UTC. Of file data there is only the length,
/// `len`.
impl<B: AsRef<[u8]>> Serialize for Command<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object::of(self, serializer)
    }
}

impl<B: AsRef<[u8]>> Fields for Command<B> {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("type", &self.kind())?;
        match self {
            Self::Subvol {
                name,
                uuid,
                ctransid,
            } => {
                object.bytes("name", name.as_bytes())?;
                object.field("uuid", uuid)?;
                object.field("ctransid", ctransid)
            }
            Self::Snapshot {
                name,
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
            } => {
                object.bytes("name", name.as_bytes())?;
                object.field("uuid", uuid)?;
                object.field("ctransid", ctransid)?;
                object.field("parent_uuid", parent_uuid)?;
                object.field("parent_ctransid", parent_ctransid)
            }
            Self::End => Ok(()),
            Self::Clone(clone) => clone.fields(object),
            Self::EncodedWrite(write) => write.fields(object),
            Self::EnableVerity(verity) => verity.fields(object),
            other => {
                if let Some(path) = other.path() {
                    object.bytes("path", path.as_bytes())?;
                }
                creation(other, object)?;
                naming(other, object)?;
                metadata(other, object)?;
                data(other, object)
            }
        }
    }
}

/// What commands have that make an inode.
fn creation<B: AsRef<[u8]>, S: Serializer>(
    command: &Command<B>,
    object: &mut Object<S>,
) -> Result<(), S::Error> {
    match command {
        Command::Mkfile { ino, .. } | Command::Mkdir { ino, .. } => object.field("ino", ino),
        Command::Symlink { ino, target, .. } => {
            object.field("ino", ino)?;
            object.bytes("target", target.as_ref())
        }
        Command::Mknod {
            ino, rdev, mode, ..
        }
        | Command::Mkfifo {
            ino, rdev, mode, ..
        }
        | Command::Mksock {
            ino, rdev, mode, ..
        } => {
            object.field("ino", ino)?;
            object.text("mode", format_args!("{mode:06o}"))?;
            object.field("rdev", rdev)
        }
        _ => Ok(()),
    }
}

/// What commands have that change names.
fn naming<B: AsRef<[u8]>, S: Serializer>(
    command: &Command<B>,
    object: &mut Object<S>,
) -> Result<(), S::Error> {
    match command {
        Command::Rename { to, .. } => object.bytes("to", to.as_bytes()),
        Command::Link { existing, .. } => object.bytes("existing", existing.as_bytes()),
        _ => Ok(()),
    }
}

/// What commands have that change attributes.
fn metadata<B: AsRef<[u8]>, S: Serializer>(
    command: &Command<B>,
    object: &mut Object<S>,
) -> Result<(), S::Error> {
    match command {
        Command::SetXattr { name, data, .. } => {
            object.bytes("name", name.as_ref())?;
            object.bytes("value", data.as_ref())
        }
        Command::RemoveXattr { name, .. } => object.bytes("name", name.as_ref()),
        Command::Chmod { mode, .. } => object.text("mode", format_args!("{mode:04o}")),
        Command::Chown { uid, gid, .. } => {
            object.field("uid", uid)?;
            object.field("gid", gid)
        }
        Command::Utimes {
            atime,
            mtime,
            ctime,
            otime,
            ..
        } => {
            object.field("atime", atime)?;
            object.field("mtime", mtime)?;
            object.field("ctime", ctime)?;
            object.optional("otime", otime.as_ref())
        }
        Command::FileAttr { attributes, .. } => {
            object.text("fileattr", format_args!("{attributes:#x}"))
        }
        _ => Ok(()),
    }
}

/// What commands have that change content.
fn data<B: AsRef<[u8]>, S: Serializer>(
    command: &Command<B>,
    object: &mut Object<S>,
) -> Result<(), S::Error> {
    match command {
        Command::Write { offset, data, .. } => range(object, *offset, data.as_ref().len() as u64),
        Command::Truncate { size, .. } => object.field("size", size),
        Command::UpdateExtent { offset, len, .. } => range(object, *offset, *len),
        Command::Fallocate {
            mode, offset, len, ..
        } => {
            // Flags, and no permissions.
            object.field("mode", mode)?;
            range(object, *offset, *len)
        }
        _ => Ok(()),
    }
}

fn range<S: Serializer>(object: &mut Object<S>, offset: u64, len: u64) -> Result<(), S::Error> {
    object.field("offset", &offset)?;
    object.field("len", &len)
}

impl<B: AsRef<[u8]>> Fields for CloneRange<B> {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.bytes("path", self.path.as_bytes())?;
        range(object, self.offset, self.len)?;
        object.field("source_uuid", &self.source_uuid)?;
        object.field("source_ctransid", &self.source_ctransid)?;
        object.bytes("source_path", self.source_path.as_bytes())?;
        object.field("source_offset", &self.source_offset)
    }
}

impl<B: AsRef<[u8]>> Fields for EncodedWrite<B> {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.bytes("path", self.path.as_bytes())?;
        range(object, self.offset, self.data.as_ref().len() as u64)?;
        object.field("unencoded_file_len", &self.unencoded_file_len)?;
        object.field("unencoded_len", &self.unencoded_len)?;
        object.field("unencoded_offset", &self.unencoded_offset)?;
        object.optional("compression", self.compression)?;
        object.optional("encryption", self.encryption)
    }
}

impl<B: AsRef<[u8]>> Fields for EnableVerity<B> {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.bytes("path", self.path.as_bytes())?;
        object.field("algorithm", &self.algorithm)?;
        object.field("block_size", &self.block_size)?;
        object.hex("salt_hex", self.salt.as_ref())?;
        object.hex("signature_hex", self.signature.as_ref())
    }
}
