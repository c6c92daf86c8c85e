//! What operation does what a random call does, on any destination.

use btrfs_model::{Inode, Kind, Tree};
use btrfs_receive::{Destination, Op, Step};
use btrfs_sendstream::{Bytes, CloneRange, Position, StreamPath};
use uuid::Uuid;

use crate::call::Call;

/// The UUID of the subvolume under construction.
pub(crate) const STREAM: Uuid = Uuid::from_u128(0x5eed);
/// Where every operation claims to come from.
pub(crate) const AT: Position = Position {
    stream: 1,
    command: 1,
    offset: 0,
};

fn path(text: &'static str) -> StreamPath {
    StreamPath::parse(Bytes::from_static(text.as_bytes())).unwrap()
}

/// The operation that does what a call does; `None` for what the root gets
/// at the end only, and what no operation stands for.
pub(crate) fn operation(call: Call, fused: bool) -> Option<Op> {
    Some(match call {
        Call::SetXattr(path, ..)
        | Call::SetAttributes(path, _)
        | Call::Chmod(path, _)
        | Call::Chown(path, ..)
        | Call::SetTimes(path, _)
            if path.is_root() =>
        {
            return None;
        }
        Call::ResetTimes => return None,
        Call::Create(to, kind, mode) => Op::Create {
            path: to,
            created_as: fused.then(|| path("o300-7-0")),
            kind,
            mode: Some(mode & 0o777),
        },
        Call::Rename(path, to) => Op::Rename { path, to },
        Call::Link(path, existing) if fused => Op::Move { path, existing },
        Call::Link(path, existing) => Op::Link { path, existing },
        Call::Unlink(path) => Op::Unlink { path },
        Call::Rmdir(path) => Op::Rmdir { path },
        Call::SetXattr(path, name, data) => Op::SetXattr {
            path,
            name: Bytes::from_static(name),
            data,
        },
        Call::RemoveXattr(path, name) => Op::RemoveXattr {
            path,
            name: Bytes::from_static(name),
        },
        Call::Write(path, offset, data) => {
            let (first, second) = data.split_at(data.len() / 2);
            let data = [first, second].map(Bytes::copy_from_slice).to_vec();
            Op::Write { path, offset, data }
        }
        Call::Truncate(path, size) => Op::Truncate { path, size },
        Call::Fallocate(path, mode, offset, len) => Op::Fallocate {
            path,
            mode,
            offset,
            len,
        },
        Call::CopyRange(path, offset, source_path, source_offset, len) => Op::Clone(CloneRange {
            path,
            offset,
            len,
            source_uuid: STREAM,
            source_ctransid: 7,
            source_path,
            source_offset,
        }),
        Call::Chown(path, uid, gid) => Op::Chown { path, uid, gid },
        Call::Chmod(path, mode) => Op::Chmod { path, mode },
        Call::SetAttributes(path, attributes) => Op::FileAttr { path, attributes },
        Call::SetTimes(path, time) => Op::Utimes {
            path,
            atime: time,
            mtime: Some(time),
        },
    })
}

/// Applies one operation; what it said if it failed, else nothing.
pub(crate) fn apply(destination: &mut impl Destination, op: &Op) -> String {
    let mut failures = Vec::new();
    destination.apply(Step::new(op.clone(), AT));
    while let Err(failure) = destination.settle() {
        failures.push(failure);
    }
    failures.iter().map(|failure| failure.to_string()).collect()
}

/// Whether nothing stands at a path, but something could.
pub(crate) fn is_free(tree: &Tree, path: &StreamPath) -> bool {
    let parent = path.parent().map(|parent| parent.to_owned());
    let parent = parent.and_then(|parent| tree.get(&parent));
    tree.get(path).is_none() && matches!(parent.map(Inode::kind), Some(Kind::Directory(_)))
}
