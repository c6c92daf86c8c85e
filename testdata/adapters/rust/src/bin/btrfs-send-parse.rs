//! The adapter for the crate `btrfs-send-parse`.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Result};

use adapters::{bytes, command, end, header, input, text, time, uuid};
use btrfs_send_parse::{BtrfsReader, Command as C, Timespec};
use serde_json::{Value, json};

const OMITS: &[&str] = &[
    "class",
    "attribute:ino",
    "attribute:mkfifo.mode",
    "attribute:mkfifo.rdev",
    "attribute:mksock.mode",
    "attribute:mksock.rdev",
];

/// Counts what is read.
struct Counted<'a>(&'a [u8], &'a Cell<u64>);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.set(self.1.get() + count as u64);
        Ok(count)
    }
}

fn main() {
    let Some(input) = input("btrfs-send-parse", "0.1.1", OMITS) else {
        return;
    };
    let mut offset = 0;
    let result = report(&input, &mut offset);
    end(Some(offset), result.map_err(|_| None));
}

fn report(input: &[u8], offset: &mut u64) -> Result<()> {
    let read = Cell::new(0);
    let mut source = Counted(input, &read);
    while *offset < input.len() as u64 || *offset == 0 {
        let mut reader = BtrfsReader::new(&mut source)?;
        header(Some(*offset), reader.version());
        loop {
            *offset = read.get();
            let Some(found) = reader.read_command()? else {
                // The reader leaves it to its caller that there was no END.
                return Err(ErrorKind::UnexpectedEof.into());
            };
            let (name, attributes) = attributes(&found).ok_or(ErrorKind::InvalidData)?;
            command(Some(*offset), name, attributes);
            if matches!(found, C::End(_)) {
                break;
            }
        }
        *offset = read.get();
    }
    Ok(())
}

fn attributes(found: &C) -> Option<(&'static str, Value)> {
    let moment = |moment: &Timespec| time(moment.sec.cast_signed(), moment.nsec);
    Some(match found {
        C::Unknown(_) => return None,
        C::Subvol(found) => (
            "subvol",
            json!({
                "path": text(&found.path),
                "uuid": uuid(&found.uuid.data),
                "ctransid": found.ctransid,
            }),
        ),
        C::Snapshot(found) => (
            "snapshot",
            json!({
                "path": text(&found.path),
                "uuid": uuid(&found.uuid.data),
                "ctransid": found.ctransid,
                "clone_uuid": uuid(&found.clone_uuid.data),
                "clone_ctransid": found.clone_ctransid,
            }),
        ),
        C::MkFile(found) => ("mkfile", json!({ "path": text(&found.path) })),
        C::MkDir(found) => ("mkdir", json!({ "path": text(&found.path) })),
        C::MkNod(found) => (
            "mknod",
            json!({ "path": text(&found.path), "mode": found.mode, "rdev": found.rdev }),
        ),
        C::MkFifo(found) => ("mkfifo", json!({ "path": text(&found.path) })),
        C::MkSock(found) => ("mksock", json!({ "path": text(&found.path) })),
        C::SymLink(found) => (
            "symlink",
            json!({ "path": text(&found.path), "path_link": text(&found.path_link) }),
        ),
        C::Rename(found) => (
            "rename",
            json!({ "path": text(&found.path), "path_to": text(&found.path_to) }),
        ),
        C::Link(found) => (
            "link",
            json!({ "path": text(&found.path), "path_link": text(&found.path_link) }),
        ),
        C::UnLink(found) => ("unlink", json!({ "path": text(&found.path) })),
        C::RmDir(found) => ("rmdir", json!({ "path": text(&found.path) })),
        C::Write(found) => (
            "write",
            json!({
                "path": text(&found.path),
                "file_offset": found.file_offset,
                "data": bytes(&found.data),
            }),
        ),
        C::Clone(found) => (
            "clone",
            json!({
                "path": text(&found.path),
                "file_offset": found.file_offset,
                "clone_len": found.clone_len,
                "clone_uuid": uuid(&found.clone_uuid.data),
                "clone_ctransid": found.clone_ctransid,
                "clone_path": text(&found.clone_path),
                "clone_offset": found.clone_offset,
            }),
        ),
        C::SetXattr(found) => (
            "set_xattr",
            json!({
                "path": text(&found.path),
                "xattr_name": text(&found.xattr_name),
                "xattr_data": bytes(&found.xattr_data),
            }),
        ),
        C::RemoveXattr(found) => (
            "remove_xattr",
            json!({ "path": text(&found.path), "xattr_name": text(&found.xattr_name) }),
        ),
        C::Truncate(found) => (
            "truncate",
            json!({ "path": text(&found.path), "size": found.size }),
        ),
        C::Chmod(found) => (
            "chmod",
            json!({ "path": text(&found.path), "mode": found.mode }),
        ),
        C::Chown(found) => (
            "chown",
            json!({ "path": text(&found.path), "uid": found.uid, "gid": found.gid }),
        ),
        C::Utimes(found) => (
            "utimes",
            json!({
                "path": text(&found.path),
                "atime": moment(&found.atime),
                "mtime": moment(&found.mtime),
                "ctime": moment(&found.ctime),
            }),
        ),
        C::UpdateExtent(found) => (
            "update_extent",
            json!({
                "path": text(&found.path),
                "file_offset": found.file_offset,
                "size": found.size,
            }),
        ),
        C::End(_) => ("end", json!({})),
    })
}
