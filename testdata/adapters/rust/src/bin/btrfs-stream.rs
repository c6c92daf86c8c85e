//! The adapter for the crate `btrfs-stream`, of btrfsutils.

use adapters::{bytes, command, end, header, input, text, time, uuid};
use btrfs_stream::StreamCommand as C;
use btrfs_stream::{StreamError, StreamReader, Timespec};
use serde_json::{Value, json};

const OMITS: &[&str] = &[
    "attribute:ino",
    "attribute:otime",
    "attribute:mkfifo.mode",
    "attribute:mkfifo.rdev",
    "attribute:mksock.mode",
    "attribute:mksock.rdev",
];

fn main() {
    let Some(input) = input("btrfs-stream", "0.13.0", OMITS) else {
        return;
    };
    let mut offset = 0;
    let result = report(&input, &mut offset);
    end(Some(offset), result.map_err(|error| class(&error)));
}

/// A reader takes one stream, and exactly the bytes of what it returns.
fn report(input: &[u8], offset: &mut u64) -> Result<(), StreamError> {
    let mut rest = input;
    let at = |rest: &[u8]| (input.len() - rest.len()) as u64;
    loop {
        let mut reader = StreamReader::new(rest)?;
        header(Some(*offset), reader.version());
        rest = &rest[17..];
        *offset = at(rest);
        loop {
            let found = reader.next_command()?;
            let Some(found) = found else {
                // The reader leaves it to its caller that there was no END.
                let cut = std::io::ErrorKind::UnexpectedEof;
                return Err(StreamError::TruncatedPayload(cut.into()));
            };
            let (name, attributes) = attributes(&found);
            command(Some(*offset), name, attributes);
            let len = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
            rest = &rest[10 + len as usize..];
            *offset = at(rest);
            if matches!(found, C::End) {
                break;
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
    }
}

fn class(error: &StreamError) -> Option<&'static str> {
    Some(match error {
        StreamError::BadMagic => "bad-magic",
        StreamError::UnsupportedVersion(_) => "unsupported-version",
        StreamError::CrcMismatch { .. } => "bad-checksum",
        StreamError::TruncatedHeader(_) | StreamError::TruncatedPayload(_) | StreamError::Io(_) => {
            "truncated"
        }
        StreamError::TruncatedTlv { .. } | StreamError::InvalidAttribute { .. } => "bad-length",
        StreamError::InvalidTlvType(_) => "unknown-attribute",
        StreamError::MissingAttribute(_) => "missing-attribute",
        StreamError::UnknownCommand(_) => "unknown-command",
    })
}

fn attributes(found: &C) -> (&'static str, Value) {
    let moment = |moment: &Timespec| time(moment.sec.cast_signed(), moment.nsec);
    match found {
        C::Subvol {
            path,
            uuid: id,
            ctransid,
        } => (
            "subvol",
            json!({ "path": text(path), "uuid": uuid(id.as_bytes()), "ctransid": ctransid }),
        ),
        C::Snapshot {
            path,
            uuid: id,
            ctransid,
            clone_uuid,
            clone_ctransid,
        } => (
            "snapshot",
            json!({
                "path": text(path),
                "uuid": uuid(id.as_bytes()),
                "ctransid": ctransid,
                "clone_uuid": uuid(clone_uuid.as_bytes()),
                "clone_ctransid": clone_ctransid,
            }),
        ),
        C::Mkfile { path } => ("mkfile", json!({ "path": text(path) })),
        C::Mkdir { path } => ("mkdir", json!({ "path": text(path) })),
        C::Mknod { path, mode, rdev } => (
            "mknod",
            json!({ "path": text(path), "mode": mode, "rdev": rdev }),
        ),
        C::Mkfifo { path } => ("mkfifo", json!({ "path": text(path) })),
        C::Mksock { path } => ("mksock", json!({ "path": text(path) })),
        C::Symlink { path, target } => (
            "symlink",
            json!({ "path": text(path), "path_link": text(target) }),
        ),
        C::Rename { from, to } => ("rename", json!({ "path": text(from), "path_to": text(to) })),
        C::Link { path, target } => (
            "link",
            json!({ "path": text(path), "path_link": text(target) }),
        ),
        C::Unlink { path } => ("unlink", json!({ "path": text(path) })),
        C::Rmdir { path } => ("rmdir", json!({ "path": text(path) })),
        C::Write { path, offset, data } => (
            "write",
            json!({ "path": text(path), "file_offset": offset, "data": bytes(data) }),
        ),
        C::Clone {
            path,
            offset,
            len,
            clone_uuid,
            clone_ctransid,
            clone_path,
            clone_offset,
        } => (
            "clone",
            json!({
                "path": text(path),
                "file_offset": offset,
                "clone_len": len,
                "clone_uuid": uuid(clone_uuid.as_bytes()),
                "clone_ctransid": clone_ctransid,
                "clone_path": text(clone_path),
                "clone_offset": clone_offset,
            }),
        ),
        C::SetXattr { path, name, data } => (
            "set_xattr",
            json!({ "path": text(path), "xattr_name": text(name), "xattr_data": bytes(data) }),
        ),
        C::RemoveXattr { path, name } => (
            "remove_xattr",
            json!({ "path": text(path), "xattr_name": text(name) }),
        ),
        C::Truncate { path, size } => ("truncate", json!({ "path": text(path), "size": size })),
        C::Chmod { path, mode } => ("chmod", json!({ "path": text(path), "mode": mode })),
        C::Chown { path, uid, gid } => (
            "chown",
            json!({ "path": text(path), "uid": uid, "gid": gid }),
        ),
        C::Utimes {
            path,
            atime,
            mtime,
            ctime,
        } => (
            "utimes",
            json!({
                "path": text(path),
                "atime": moment(atime),
                "mtime": moment(mtime),
                "ctime": moment(ctime),
            }),
        ),
        C::UpdateExtent { path, offset, len } => (
            "update_extent",
            json!({ "path": text(path), "file_offset": offset, "size": len }),
        ),
        C::EncodedWrite {
            path,
            offset,
            unencoded_file_len,
            unencoded_len,
            unencoded_offset,
            compression,
            encryption,
            data,
        } => (
            "encoded_write",
            json!({
                "path": text(path),
                "file_offset": offset,
                "unencoded_file_len": unencoded_file_len,
                "unencoded_len": unencoded_len,
                "unencoded_offset": unencoded_offset,
                "compression": compression,
                "encryption": encryption,
                "data": bytes(data),
            }),
        ),
        C::Fallocate {
            path,
            mode,
            offset,
            len,
        } => (
            "fallocate",
            json!({
                "path": text(path),
                "fallocate_mode": mode,
                "file_offset": offset,
                "size": len,
            }),
        ),
        C::Fileattr { path, attr } => ("fileattr", json!({ "path": text(path), "fileattr": attr })),
        C::EnableVerity {
            path,
            algorithm,
            block_size,
            salt,
            sig,
        } => (
            "enable_verity",
            json!({
                "path": text(path),
                "verity_algorithm": algorithm,
                "verity_block_size": block_size,
                "verity_salt_data": bytes(salt),
                "verity_sig_data": bytes(sig),
            }),
        ),
        C::End => ("end", json!({})),
    }
}
