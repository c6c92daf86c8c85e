//! Writes streams with `StreamWriter` of the crate `btrfs-stream` into a directory: the
//! streams of a sender that is not the kernel.
//!
//! It writes MKFILE and its like without the inode number, which btrfs-progs and
//! docs/format.md ask for. So all commands but those are in the one stream, and such a
//! command is in the other.

use std::path::PathBuf;

use btrfs_stream::StreamCommand as C;
use btrfs_stream::{StreamWriter, Timespec};
use uuid::Uuid;

fn main() -> std::io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).expect("a directory"));
    for (name, commands) in [
        ("btrfs-stream-0.13.0.v2", changes()),
        ("btrfs-stream-0.13.0-without-ino.v2", creation()),
    ] {
        let mut writer = StreamWriter::new(Vec::new(), 2)?;
        for command in &commands {
            writer.write_command(command)?;
        }
        writer.write_command(&C::End)?;
        let bytes = writer.finish()?;
        std::fs::write(directory.join(format!("{name}.stream")), bytes)?;
    }
    Ok(())
}

fn f() -> String {
    "f".to_owned()
}

fn creation() -> Vec<C> {
    vec![
        C::Subvol {
            path: "s".to_owned(),
            uuid: Uuid::from_u128(1),
            ctransid: 7,
        },
        C::Mkfile { path: f() },
    ]
}

fn changes() -> Vec<C> {
    let at = |sec, nsec| Timespec { sec, nsec };
    vec![
        C::Snapshot {
            path: "t".to_owned(),
            uuid: Uuid::from_u128(2),
            ctransid: 9,
            clone_uuid: Uuid::from_u128(1),
            clone_ctransid: 7,
        },
        C::Rename {
            from: "d".to_owned(),
            to: "directory".to_owned(),
        },
        C::Link {
            path: "directory/hard".to_owned(),
            target: f(),
        },
        C::Unlink {
            path: "old".to_owned(),
        },
        C::Rmdir {
            path: "empty".to_owned(),
        },
        C::SetXattr {
            path: f(),
            name: "user.name".to_owned(),
            data: b"value".to_vec(),
        },
        C::RemoveXattr {
            path: f(),
            name: "user.other".to_owned(),
        },
        C::Write {
            path: f(),
            offset: 4096,
            data: b"data".to_vec(),
        },
        C::Clone {
            path: f(),
            offset: 8192,
            len: 4096,
            clone_uuid: Uuid::from_u128(1),
            clone_ctransid: 7,
            clone_path: "g".to_owned(),
            clone_offset: 0,
        },
        C::EncodedWrite {
            path: f(),
            offset: 12_288,
            unencoded_file_len: 4096,
            unencoded_len: 4096,
            unencoded_offset: 0,
            compression: 2,
            encryption: 0,
            data: b"not checked by a parser".to_vec(),
        },
        C::Fallocate {
            path: f(),
            mode: 3,
            offset: 0,
            len: 4096,
        },
        C::UpdateExtent {
            path: f(),
            offset: 0,
            len: 4096,
        },
        C::Truncate {
            path: f(),
            size: 16_384,
        },
        C::Chown {
            path: f(),
            uid: 1000,
            gid: 100,
        },
        C::Chmod {
            path: f(),
            mode: 0o640,
        },
        C::Fileattr { path: f(), attr: 1 },
        C::Utimes {
            path: f(),
            atime: at(1, 2),
            mtime: at(3, 4),
            ctime: at(5, 6),
        },
    ]
}
