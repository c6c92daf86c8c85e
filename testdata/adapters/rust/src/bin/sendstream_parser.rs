//! The adapter for the crate `sendstream_parser`. It parses the whole input, and says
//! nothing of one that it refuses.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use adapters::{bytes, command, end, header, input, text, time, uuid};
use sendstream_parser::{Command as C, Mkspecial, Sendstream};
use serde_json::{Value, json};

const OMITS: &[&str] = &["offset", "class", "items-before-error", "attribute:ino"];

fn main() {
    let Some(input) = input("sendstream_parser", "0.2.2", OMITS) else {
        return;
    };
    match Sendstream::parse_all(&input) {
        Ok(streams) => {
            for stream in streams {
                // It parses this version only.
                header(None, 1);
                for found in stream.commands() {
                    let (name, attributes) = attributes(found);
                    command(None, name, attributes);
                }
            }
            end(None, Ok(()));
        }
        Err(_) => end(None, Err(None)),
    }
}

fn path(path: &Path) -> Value {
    text(path.as_os_str().as_bytes())
}

fn moment(moment: SystemTime) -> Value {
    match moment.duration_since(UNIX_EPOCH) {
        Ok(after) => time(after.as_secs().cast_signed(), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            match before.subsec_nanos() {
                0 => time(-before.as_secs().cast_signed(), 0),
                part => time(-before.as_secs().cast_signed() - 1, 1_000_000_000 - part),
            }
        }
    }
}

fn special(special: &Mkspecial<'_>) -> Value {
    json!({
        "path": path(special.path().as_path()),
        "mode": *special.mode(),
        "rdev": special.rdev().as_u64(),
    })
}

fn attributes(found: &C<'_>) -> (&'static str, Value) {
    match found {
        C::Subvol(found) => (
            "subvol",
            json!({
                "path": path(found.path()),
                "uuid": uuid(found.uuid().as_bytes()),
                "ctransid": found.ctransid().0,
            }),
        ),
        C::Snapshot(found) => (
            "snapshot",
            json!({
                "path": path(found.path()),
                "uuid": uuid(found.uuid().as_bytes()),
                "ctransid": found.ctransid().0,
                "clone_uuid": uuid(found.clone_uuid().as_bytes()),
                "clone_ctransid": found.clone_ctransid().0,
            }),
        ),
        C::Mkfile(found) => ("mkfile", json!({ "path": path(found.path().as_path()) })),
        C::Mkdir(found) => ("mkdir", json!({ "path": path(found.path().as_path()) })),
        C::Mknod(found) => ("mknod", special(found)),
        C::Mkfifo(found) => ("mkfifo", special(found)),
        C::Mksock(found) => ("mksock", special(found)),
        C::Symlink(found) => (
            "symlink",
            json!({ "path": path(found.link_name()), "path_link": path(found.target().as_path()) }),
        ),
        C::Rename(found) => (
            "rename",
            json!({ "path": path(found.from()), "path_to": path(found.to()) }),
        ),
        C::Link(found) => (
            "link",
            json!({ "path": path(found.link_name()), "path_link": path(found.target().as_path()) }),
        ),
        C::Unlink(found) => ("unlink", json!({ "path": path(found.path()) })),
        C::Rmdir(found) => ("rmdir", json!({ "path": path(found.path()) })),
        C::SetXattr(found) => (
            "set_xattr",
            json!({
                "path": path(found.path()),
                "xattr_name": text(&**found.name()),
                "xattr_data": bytes(found.data()),
            }),
        ),
        C::RemoveXattr(found) => (
            "remove_xattr",
            json!({ "path": path(found.path()), "xattr_name": text(&**found.name()) }),
        ),
        C::Write(found) => (
            "write",
            json!({
                "path": path(found.path()),
                "file_offset": found.offset().as_u64(),
                "data": bytes(found.data().as_slice()),
            }),
        ),
        C::Clone(found) => (
            "clone",
            json!({
                "path": path(found.dst_path()),
                "file_offset": found.dst_offset().as_u64(),
                "clone_len": found.len().as_u64(),
                "clone_uuid": uuid(found.uuid().as_bytes()),
                "clone_ctransid": found.ctransid().0,
                "clone_path": path(found.src_path()),
                "clone_offset": found.src_offset().as_u64(),
            }),
        ),
        C::Truncate(found) => (
            "truncate",
            json!({ "path": path(found.path()), "size": found.size() }),
        ),
        C::Chmod(found) => (
            "chmod",
            json!({ "path": path(found.path()), "mode": *found.mode() }),
        ),
        C::Chown(found) => (
            "chown",
            json!({
                "path": path(found.path()),
                "uid": found.uid().as_raw(),
                "gid": found.gid().as_raw(),
            }),
        ),
        C::Utimes(found) => (
            "utimes",
            json!({
                "path": path(found.path()),
                "atime": moment(*found.atime()),
                "mtime": moment(*found.mtime()),
                "ctime": moment(*found.ctime()),
            }),
        ),
        C::UpdateExtent(found) => (
            "update_extent",
            json!({
                "path": path(found.path()),
                "file_offset": found.offset().as_u64(),
                "size": found.len(),
            }),
        ),
        C::End => ("end", json!({})),
    }
}
