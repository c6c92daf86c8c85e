//! Random paths, commands and streams for property tests.
//!
//! What they give is allowed by the format, not by a filesystem: a command
//! may name a file that no earlier one made.

use btrfs_sendstream::{
    Bytes, CloneRange, Command, EnableVerity, EncodedWrite, Encoder, StreamPath, SubvolumeName,
    Timespec, Uuid, Version,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Bytes of data at most; enough for more than one read of a small buffer.
const MAX_DATA: usize = 3000;

/// A component of a path: any bytes but slash and NUL, not `.` or `..`.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { byte });
    prop_oneof!["[a-c]{1,2}".prop_map(String::into_bytes), vec(byte, 1..12)]
        .prop_filter("dot components are not allowed", |name| {
            !matches!(name.as_slice(), b"." | b"..")
        })
}

/// A path of up to four components; none is the root of the subvolume.
pub(crate) fn path() -> impl Strategy<Value = StreamPath> {
    vec(component(), 0..4).prop_filter_map("not a path", |components| {
        StreamPath::parse(Bytes::from(components.join(&b'/'))).ok()
    })
}

/// A subvolume's name.
pub(crate) fn subvolume_name() -> impl Strategy<Value = SubvolumeName> {
    component().prop_filter_map("not a name", |name| {
        SubvolumeName::parse(Bytes::from(name)).ok()
    })
}

/// Any UUID but the nil one.
pub(crate) fn uuid() -> impl Strategy<Value = Uuid> {
    (1..=u128::MAX).prop_map(Uuid::from_u128)
}

/// Any time with a valid number of nanoseconds.
pub(crate) fn timespec() -> impl Strategy<Value = Timespec> {
    (any::<i64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Timespec {
        seconds,
        nanoseconds,
    })
}

/// SUBVOL or SNAPSHOT.
pub(crate) fn subvolume() -> impl Strategy<Value = Command> {
    let parent = option::of((uuid(), any::<u64>()));
    (subvolume_name(), uuid(), any::<u64>(), parent).prop_map(|(name, uuid, ctransid, parent)| {
        match parent {
            None => Command::Subvol {
                name,
                uuid,
                ctransid,
            },
            Some((parent_uuid, parent_ctransid)) => Command::Snapshot {
                name,
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
            },
        }
    })
}

/// Any command that `version` has, but END.
pub(crate) fn command(version: Version) -> BoxedStrategy<Command> {
    let common = prop_oneof![
        1 => subvolume(),
        5 => new_inode(),
        4 => names(),
        6 => metadata(version),
        6 => content(),
    ];
    match version {
        Version::V1 => common.boxed(),
        Version::V2 => prop_oneof![4 => common, 1 => since_version_2()].boxed(),
        Version::V3 => prop_oneof![4 => common, 1 => since_version_2(), 1 => verity()].boxed(),
    }
}

/// The commands of a stream of `version`, END included.
pub(crate) fn commands(version: Version) -> impl Strategy<Value = Vec<Command>> {
    (subvolume(), vec(command(version), 0..20)).prop_map(|(first, rest)| {
        let mut commands = vec![first];
        commands.extend(rest);
        commands.push(Command::End);
        commands
    })
}

/// A whole stream of any version, encoded, with its version and commands.
pub(crate) fn stream() -> impl Strategy<Value = (Version, Vec<Command>, Vec<u8>)> {
    prop::sample::select(Version::ALL.to_vec())
        .prop_flat_map(|version| (Just(version), commands(version)))
        .prop_filter_map("cannot be encoded", |(version, commands)| {
            let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
            encoder.header(version, &mut bytes).ok()?;
            for command in &commands {
                encoder.command(command, &mut bytes).ok()?;
            }
            Some((version, commands, bytes))
        })
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..MAX_DATA).prop_map(Bytes::from)
}

/// Bytes without NUL, for link targets and names of attributes.
fn text() -> impl Strategy<Value = Bytes> {
    vec(1..=u8::MAX, 1..40).prop_map(Bytes::from)
}

fn new_inode() -> impl Strategy<Value = Command> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
    (path(), numbers, text(), 0..6).prop_map(|(path, (ino, rdev, mode), target, which)| match which
    {
        0 => Command::Mkfile { path, ino },
        1 => Command::Mkdir { path, ino },
        2 => Command::Symlink { path, ino, target },
        3 => Command::Mknod {
            path,
            ino,
            rdev,
            mode,
        },
        4 => Command::Mkfifo {
            path,
            ino,
            rdev,
            mode,
        },
        _ => Command::Mksock {
            path,
            ino,
            rdev,
            mode,
        },
    })
}

fn names() -> impl Strategy<Value = Command> {
    (path(), path(), 0..4).prop_map(|(path, other, which)| match which {
        0 => Command::Rename { path, to: other },
        1 => Command::Link {
            path,
            existing: other,
        },
        2 => Command::Unlink { path },
        _ => Command::Rmdir { path },
    })
}

fn metadata(version: Version) -> impl Strategy<Value = Command> {
    let otime =
        option::of(timespec()).prop_map(move |otime| otime.filter(|_| version > Version::V1));
    let times = (timespec(), timespec(), timespec(), otime);
    prop_oneof![
        (path(), text(), data()).prop_map(|(path, name, data)| Command::SetXattr {
            path,
            name,
            data
        }),
        (path(), text()).prop_map(|(path, name)| Command::RemoveXattr { path, name }),
        (path(), any::<u64>()).prop_map(|(path, mode)| Command::Chmod { path, mode }),
        (path(), any::<u64>(), any::<u64>()).prop_map(|(path, uid, gid)| Command::Chown {
            path,
            uid,
            gid
        }),
        (path(), times).prop_map(|(path, (atime, mtime, ctime, otime))| Command::Utimes {
            path,
            atime,
            mtime,
            ctime,
            otime
        }),
    ]
}

fn content() -> impl Strategy<Value = Command> {
    let range = || (path(), any::<u64>(), any::<u64>());
    prop_oneof![
        (path(), any::<u64>(), data()).prop_map(|(path, offset, data)| Command::Write {
            path,
            offset,
            data
        }),
        (range(), uuid(), range()).prop_map(
            |((path, offset, len), source_uuid, (source_path, source_offset, source_ctransid))| {
                Command::Clone(CloneRange {
                    path,
                    offset,
                    len,
                    source_uuid,
                    source_ctransid,
                    source_path,
                    source_offset,
                })
            }
        ),
        (path(), any::<u64>()).prop_map(|(path, size)| Command::Truncate { path, size }),
        range().prop_map(|(path, offset, len)| Command::UpdateExtent { path, offset, len }),
    ]
}

fn since_version_2() -> impl Strategy<Value = Command> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let kinds = (option::of(any::<u32>()), option::of(any::<u32>()));
    let place = (path(), any::<u64>(), any::<u64>());
    prop_oneof![
        (place, any::<u32>()).prop_map(|((path, offset, len), mode)| Command::Fallocate {
            path,
            mode,
            offset,
            len
        }),
        (path(), any::<u64>())
            .prop_map(|(path, attributes)| Command::FileAttr { path, attributes }),
        (path(), numbers, kinds, data()).prop_map(
            |(path, (offset, file_len, len, start), (compression, encryption), data)| {
                Command::EncodedWrite(EncodedWrite {
                    path,
                    offset,
                    unencoded_file_len: file_len,
                    unencoded_len: len,
                    unencoded_offset: start,
                    compression,
                    encryption,
                    data,
                })
            }
        ),
    ]
}

fn verity() -> impl Strategy<Value = Command> {
    let bytes = || vec(any::<u8>(), 0..33).prop_map(Bytes::from);
    (path(), any::<u8>(), any::<u32>(), bytes(), bytes()).prop_map(
        |(path, algorithm, block_size, salt, signature)| {
            Command::EnableVerity(EnableVerity {
                path,
                algorithm,
                block_size,
                salt,
                signature,
            })
        },
    )
}
