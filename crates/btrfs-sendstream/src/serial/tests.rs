//! What commands and errors look like.

use serde_json::{Value, json, to_value};

use crate::{
    Command, CommandRef, EncodedWrite, Error, Reader, StreamPath, SubvolumeName, Timespec, Uuid,
};

fn path(bytes: &'static [u8]) -> StreamPath<&'static [u8]> {
    StreamPath::parse(bytes).unwrap()
}

fn value(command: &CommandRef<'_>) -> Value {
    to_value(command).unwrap()
}

#[test]
fn names_that_are_no_text_are_digits() {
    let rename = Command::Rename {
        path: path("ä\n".as_bytes()),
        to: path(b"\xff/a"),
    };
    let expected = json!({"type": "rename", "path": "ä\n", "to": {"hex": "ff2f61"}});
    assert_eq!(value(&rename), expected);
}

#[test]
fn file_data_is_its_length() {
    let write = Command::EncodedWrite(EncodedWrite {
        path: path(b"f"),
        offset: 4096,
        unencoded_file_len: 8192,
        unencoded_len: 8192,
        unencoded_offset: 0,
        compression: Some(2),
        encryption: None,
        data: b"data",
    });
    let expected = json!({
        "type": "encoded_write", "path": "f", "offset": 4096, "len": 4,
        "unencoded_file_len": 8192, "unencoded_len": 8192, "unencoded_offset": 0,
        "compression": 2,
    });
    assert_eq!(value(&write), expected);
}

#[test]
fn modes_are_octal_and_times_utc() {
    let chmod = Command::Chmod {
        path: path(b""),
        mode: 0o755,
    };
    let expected = json!({"type": "chmod", "path": "", "mode": "0755"});
    assert_eq!(value(&chmod), expected);
    let time = |seconds| Timespec {
        seconds,
        nanoseconds: 5,
    };
    let utimes = Command::Utimes {
        path: path(b"f"),
        atime: time(0),
        mtime: time(1),
        ctime: time(2),
        otime: None,
    };
    let expected = json!({
        "type": "utimes", "path": "f",
        "atime": "1970-01-01T00:00:00.000000005Z",
        "mtime": "1970-01-01T00:00:01.000000005Z",
        "ctime": "1970-01-01T00:00:02.000000005Z",
    });
    assert_eq!(value(&utimes), expected);
}

/// No command is without its fields: each has as many keys as the type has
/// fields, and one for its name.
#[test]
fn every_field_has_a_key() {
    let snapshot: CommandRef<'_> = Command::Snapshot {
        name: SubvolumeName::parse(&b"s"[..]).unwrap(),
        uuid: Uuid::from_u128(1),
        ctransid: 2,
        parent_uuid: Uuid::from_u128(3),
        parent_ctransid: 4,
    };
    let expected = json!({
        "type": "snapshot", "name": "s",
        "uuid": "00000000-0000-0000-0000-000000000001", "ctransid": 2,
        "parent_uuid": "00000000-0000-0000-0000-000000000003", "parent_ctransid": 4,
    });
    assert_eq!(value(&snapshot), expected);
    for (command, keys) in [
        (Command::Unlink { path: path(b"a") }, 2),
        (
            Command::Mkfile {
                path: path(b"a"),
                ino: 1,
            },
            3,
        ),
        (
            Command::Mknod {
                path: path(b"a"),
                ino: 1,
                rdev: 2,
                mode: 0o20_644,
            },
            5,
        ),
        (
            Command::Symlink {
                path: path(b"a"),
                ino: 1,
                target: b"b",
            },
            4,
        ),
        (
            Command::SetXattr {
                path: path(b"a"),
                name: b"n",
                data: b"",
            },
            4,
        ),
        (
            Command::Chown {
                path: path(b"a"),
                uid: 1,
                gid: 2,
            },
            4,
        ),
        (
            Command::Fallocate {
                path: path(b"a"),
                mode: 3,
                offset: 1,
                len: 2,
            },
            5,
        ),
        (
            Command::Truncate {
                path: path(b"a"),
                size: u64::MAX,
            },
            3,
        ),
        (
            Command::FileAttr {
                path: path(b"a"),
                attributes: 16,
            },
            3,
        ),
        (Command::End, 1),
    ] {
        let value = value(&command);
        assert_eq!(value.as_object().unwrap().len(), keys, "{value}");
    }
}

#[test]
fn errors_say_what_and_where() {
    let mut reader = Reader::new(&b"btrfs-stream\0\x01\0\0\0"[..]);
    let error: Error = loop {
        match reader.next_item() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let value = to_value(&error).unwrap();
    assert_eq!(value["kind"], "truncated");
    assert_eq!(value["message"], error.kind().to_string());
    let at = error.position().unwrap();
    assert_eq!(value["stream"], at.stream);
    assert_eq!(value["command"], at.command);
    assert_eq!(value["byte"], at.offset);
}
