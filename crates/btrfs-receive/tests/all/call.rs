//! One change to a file tree, and the random choice of them.

use btrfs_receive::NewInode;
use btrfs_sendstream::{Bytes, StreamPath, Timespec};
use proptest::prelude::*;
use proptest::sample::select;

/// A change that both the kernel and the model can make.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Create(StreamPath, NewInode, u32),
    Rename(StreamPath, StreamPath),
    Link(StreamPath, StreamPath),
    Unlink(StreamPath),
    Rmdir(StreamPath),
    SetXattr(StreamPath, &'static [u8], Bytes),
    RemoveXattr(StreamPath, &'static [u8]),
    Write(StreamPath, u64, Vec<u8>),
    Truncate(StreamPath, u64),
    Fallocate(StreamPath, u32, u64, u64),
    CopyRange(StreamPath, u64, StreamPath, u64, u64),
    Chown(StreamPath, u32, u32),
    Chmod(StreamPath, u32),
    SetAttributes(StreamPath, u64),
    SetTimes(StreamPath, Timespec),
    /// Sets the times of everything there is, so that later changes show.
    ResetTimes,
}

/// Few names, so that calls meet each other.
const PATHS: [&str; 14] = [
    "",
    "a",
    "b",
    "c",
    "d",
    "a/a",
    "a/b",
    "b/a",
    "b/c",
    "a/a/a",
    "a/a/b",
    "missing/a",
    "b/a/c",
    "a/b/a",
];

const XATTRS: [&[u8]; 11] = [
    b"user.a",
    b"user.",
    b"trusted.t",
    b"security.other",
    b"security.capability",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"system.other",
    b"btrfs.compression",
    b"btrfs.other",
    b"unknown.a",
];

const MODES: [u32; 12] = [
    0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6711, 0o2644, 0o1777, 0o2777, 0o070, 0, 0o7777,
];

fn path() -> impl Strategy<Value = StreamPath> {
    select(&PATHS[..])
        .prop_map(|text| StreamPath::parse(Bytes::from_static(text.as_bytes())).unwrap())
}

fn kind() -> impl Strategy<Value = NewInode> {
    let mode = || select(&MODES[..]);
    prop_oneof![
        6 => Just(NewInode::File),
        8 => Just(NewInode::Directory),
        1 => select(vec!["a", "x"]).prop_map(|text| NewInode::Symlink { target: text.into() }),
        1 => mode().prop_map(|mode| NewInode::Device { mode: 0o20000 | mode, rdev: 0x1111_2c70 }),
        1 => mode().prop_map(|mode| NewInode::Fifo { mode: 0o10000 | mode }),
        1 => mode().prop_map(|mode| NewInode::Socket { mode: 0o140_000 | mode }),
    ]
}

fn xattr() -> impl Strategy<Value = (&'static [u8], Bytes)> {
    select(&XATTRS[..]).prop_flat_map(|name| {
        let value = match name {
            b"security.capability" => capability().boxed(),
            b"btrfs.compression" => select(vec![
                "zlib", "zstd:3", "lzo", "none", "no", "", "bad", "zstdx",
            ])
            .prop_map(Bytes::from)
            .boxed(),
            _ if name.starts_with(b"system.") => acl().boxed(),
            _ => prop_oneof![
                8 => prop::collection::vec(any::<u8>(), 0..20),
                1 => Just(vec![7; 20_000]),
                1 => Just(vec![7; 70_000]),
            ]
            .prop_map(Bytes::from)
            .boxed(),
        };
        (Just(name), value)
    })
}

fn capability() -> impl Strategy<Value = Bytes> {
    let start = select(vec![2u8, 3, 1]);
    (start, select(vec![20usize, 24, 12]), 0u8..3, 0u8..2).prop_map(
        |(revision, len, flag, owner)| {
            let mut value = vec![0; len];
            (value[0], value[3], value[5]) = (flag, revision, 4);
            if len == 24 {
                value[20] = owner;
            }
            value.into()
        },
    )
}

/// ACLs, most of them valid.
fn acl() -> impl Strategy<Value = Bytes> {
    let perms = prop::collection::vec(0u8..8, 6);
    let shape = select(vec![
        &[0x01u8, 0x02, 0x04, 0x10, 0x20][..],
        &[0x01, 0x02, 0x04, 0x08, 0x10, 0x20],
        &[0x01, 0x04, 0x20],
        &[0x01, 0x04, 0x10, 0x20],
        &[],
        &[0x01, 0x02, 0x04, 0x20],
        &[0x04, 0x01, 0x20],
    ]);
    (perms, shape, select(vec![2u8, 2, 2, 2, 2, 2, 3])).prop_map(|(perms, tags, version)| {
        let mut value = vec![version, 0, 0, 0];
        for (tag, perm) in tags.iter().zip(perms) {
            value.extend_from_slice(&[*tag, 0, perm, 0, 0xd2, 4, 0, 0]);
        }
        value.into()
    })
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0u64..8).prop_map(|block| block * 4096),
        2 => 0u64..30_000,
    ]
}

fn attributes() -> impl Strategy<Value = u64> {
    // NODATACOW, NOCOMPRESS, SYNC, NODUMP, NOATIME, COMPRESS.
    prop::collection::vec(select(vec![1u64, 3, 5, 8, 9, 11]), 0..3)
        .prop_map(|bits| bits.into_iter().fold(0, |all, bit| all | 1 << bit))
}

/// Any call.
pub(crate) fn call() -> impl Strategy<Value = Call> {
    let mode = || select(&MODES[..]);
    let data = prop::collection::vec(1u8.., 0..50).prop_flat_map(|data| {
        (0usize..3000).prop_map(move |times| data.repeat(times.max(1) / 10 + 1))
    });
    let fallocate = select(vec![3u32, 3, 0, 1, 16, 17, 2, 8, 64]);
    prop_oneof![
        6 => (path(), kind(), mode()).prop_map(|(p, k, m)| Call::Create(p, k, m)),
        2 => (path(), path()).prop_map(|(p, to)| Call::Rename(p, to)),
        1 => (path(), path()).prop_map(|(p, old)| Call::Link(p, old)),
        1 => path().prop_map(Call::Unlink),
        1 => path().prop_map(Call::Rmdir),
        5 => (path(), xattr()).prop_map(|(p, (name, value))| Call::SetXattr(p, name, value)),
        1 => (path(), select(&XATTRS[..])).prop_map(|(p, name)| Call::RemoveXattr(p, name)),
        2 => (path(), offset(), data).prop_map(|(p, at, data)| Call::Write(p, at, data)),
        1 => (path(), offset()).prop_map(|(p, size)| Call::Truncate(p, size)),
        1 => (path(), fallocate, offset(), offset())
            .prop_map(|(p, mode, at, len)| Call::Fallocate(p, mode, at, len)),
        1 => (path(), offset(), path(), offset(), offset())
            .prop_map(|(p, at, from, from_at, len)| Call::CopyRange(p, at, from, from_at, len)),
        2 => (path(), 0u32..3, 0u32..3).prop_map(|(p, uid, gid)| Call::Chown(p, uid, gid)),
        2 => (path(), mode()).prop_map(|(p, mode)| Call::Chmod(p, mode)),
        2 => (path(), attributes()).prop_map(|(p, bits)| Call::SetAttributes(p, bits)),
        1 => (path(), -5i64..100, select(vec![0u32, 999_999_999, 1_000_000_000]))
            .prop_map(|(p, seconds, nanoseconds)| Call::SetTimes(p, Timespec { seconds, nanoseconds })),
        1 => Just(Call::ResetTimes),
    ]
}
