//! Headers and commands as JSON, an object to a line, with every field that
//! the stream has. Of file data there is the length.

use btrfs_sendstream::{
    CloneRange, Command, CommandBuf, EnableVerity, EncodedWrite, Item, Position,
};

use crate::json::Object;
use crate::local_time::utc;

/// The line of an item that takes `total` bytes of the stream.
pub(super) fn line(item: &Item, at: Position, total: u64) -> String {
    let mut line = Object::default();
    line.number("stream", at.stream)
        .number("command", at.command)
        .number("byte", at.offset)
        .number("total", total);
    match item {
        Item::Header(version) => {
            line.text("type", "header")
                .number("version", version.number());
        }
        Item::Command(command) => {
            line.text("type", command.kind().name());
            if let Some(path) = command.path() {
                line.bytes("path", path.as_bytes());
            }
            push_name(&mut line, command);
        }
        Item::Unknown(raw) => {
            line.text("type", "unknown").number("number", raw.number);
        }
        _ => {}
    }
    line.line()
}

/// Subvolumes and names.
fn push_name<'a>(line: &'a mut Object, command: &CommandBuf) -> &'a mut Object {
    match command {
        Command::Subvol {
            name,
            uuid,
            ctransid,
        } => line
            .bytes("name", name.as_bytes())
            .text("uuid", &uuid.to_string())
            .number("ctransid", *ctransid),
        Command::Snapshot {
            name,
            uuid,
            ctransid,
            parent_uuid,
            parent_ctransid,
        } => line
            .bytes("name", name.as_bytes())
            .text("uuid", &uuid.to_string())
            .number("ctransid", *ctransid)
            .text("parent_uuid", &parent_uuid.to_string())
            .number("parent_ctransid", *parent_ctransid),
        Command::Mkfile { ino, .. } | Command::Mkdir { ino, .. } => line.number("ino", *ino),
        Command::Mknod {
            ino, rdev, mode, ..
        }
        | Command::Mkfifo {
            ino, rdev, mode, ..
        }
        | Command::Mksock {
            ino, rdev, mode, ..
        } => line
            .number("ino", *ino)
            .text("mode", &format!("{mode:06o}"))
            .number("rdev", *rdev),
        Command::Symlink { ino, target, .. } => line.number("ino", *ino).bytes("target", target),
        Command::Rename { to, .. } => line.bytes("to", to.as_bytes()),
        Command::Link { existing, .. } => line.bytes("existing", existing.as_bytes()),
        other => push_metadata(line, other),
    }
}

fn push_metadata<'a>(line: &'a mut Object, command: &CommandBuf) -> &'a mut Object {
    match command {
        Command::SetXattr { name, data, .. } => line.bytes("name", name).bytes("value", data),
        Command::RemoveXattr { name, .. } => line.bytes("name", name),
        Command::Chmod { mode, .. } => line.text("mode", &format!("{mode:04o}")),
        Command::Chown { uid, gid, .. } => line.number("uid", *uid).number("gid", *gid),
        Command::Utimes {
            atime,
            mtime,
            ctime,
            otime,
            ..
        } => {
            line.text("atime", &utc(atime))
                .text("mtime", &utc(mtime))
                .text("ctime", &utc(ctime));
            match otime {
                Some(otime) => line.text("otime", &utc(otime)),
                None => line,
            }
        }
        Command::FileAttr { attributes, .. } => line.text("fileattr", &format!("{attributes:#x}")),
        other => push_data(line, other),
    }
}

fn push_data<'a>(line: &'a mut Object, command: &CommandBuf) -> &'a mut Object {
    match command {
        Command::Write { offset, data, .. } => push_range(line, *offset, data.len() as u64),
        Command::UpdateExtent { offset, len, .. } => push_range(line, *offset, *len),
        Command::Truncate { size, .. } => line.number("size", *size),
        Command::Fallocate {
            mode, offset, len, ..
        } => push_range(line.number("mode", *mode), *offset, *len),
        Command::Clone(clone) => push_clone(line, clone),
        Command::EncodedWrite(write) => push_encoded(line, write),
        Command::EnableVerity(verity) => push_verity(line, verity),
        // Every other command was handled before, or has no more.
        _ => line,
    }
}

fn push_range(line: &mut Object, offset: u64, len: u64) -> &mut Object {
    line.number("offset", offset).number("len", len)
}

fn push_clone<'a>(line: &'a mut Object, clone: &CloneRange) -> &'a mut Object {
    push_range(line, clone.offset, clone.len);
    line.text("source_uuid", &clone.source_uuid.to_string())
        .number("source_ctransid", clone.source_ctransid)
        .bytes("source_path", clone.source_path.as_bytes())
        .number("source_offset", clone.source_offset)
}

/// What the stream leaves out, this does too.
fn push_encoded<'a>(line: &'a mut Object, write: &EncodedWrite) -> &'a mut Object {
    push_range(line, write.offset, write.data.len() as u64);
    line.number("unencoded_file_len", write.unencoded_file_len)
        .number("unencoded_len", write.unencoded_len)
        .number("unencoded_offset", write.unencoded_offset);
    if let Some(compression) = write.compression {
        line.number("compression", compression);
    }
    if let Some(encryption) = write.encryption {
        line.number("encryption", encryption);
    }
    line
}

fn push_verity<'a>(line: &'a mut Object, verity: &EnableVerity) -> &'a mut Object {
    line.number("algorithm", verity.algorithm)
        .number("block_size", verity.block_size)
        .hex("salt_hex", &verity.salt)
        .hex("signature_hex", &verity.signature)
}
