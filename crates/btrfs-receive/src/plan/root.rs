//! The attributes of the subvolume's root, applied last.
//!
//! New inodes would inherit the root's default ACL, `btrfs.compression`,
//! inode flags and set-group-id bit; a root with its final mode would let
//! others in while the subvolume is half built; and every name created in
//! the root moves its times. So whatever of this the stream says about the
//! root waits until everything else is done.

use btrfs_sendstream::{Bytes, Position, StreamPath};

use super::op::{Op, Step};
use crate::destination::DeferredAttributes;
use crate::xattr::{ACCESS_ACL, COMPRESSION, DEFAULT_ACL};

/// What one deferred step sets; a later one with the same key replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Xattr(&'static [u8]),
    Owner,
    Mode,
    Flags,
    Times,
}

/// Deferred steps on the root: at most one for each [`Key`], in the order of
/// their last occurrence. That order gives the same result as applying all
/// of them, because each key's step overrides its earlier ones entirely.
#[derive(Debug, Default)]
pub(super) struct RootAttributes {
    steps: Vec<(Key, Step)>,
}

impl RootAttributes {
    /// Starts with what was taken off the root of a snapshot.
    pub(super) fn new(deferred: &DeferredAttributes, at: Position) -> Self {
        let mut this = Self::default();
        let mut restore = |op| {
            this.defer_attributes(Step::new(op, at));
        };
        for (name, value) in [
            (DEFAULT_ACL, &deferred.default_acl),
            (COMPRESSION, &deferred.compression),
        ] {
            if let Some(value) = value {
                restore(Op::SetXattr {
                    path: root_path(),
                    name: Bytes::from_static(name),
                    data: value.clone(),
                });
            }
        }
        // The owner before the mode, of which a change of owner can take bits.
        if let Some((uid, gid)) = deferred.owner {
            restore(Op::Chown {
                path: root_path(),
                uid,
                gid,
            });
        }
        if let Some(mode) = deferred.mode {
            restore(Op::Chmod {
                path: root_path(),
                mode,
            });
        }
        if let Some(attributes) = deferred.attributes {
            restore(Op::FileAttr {
                path: root_path(),
                attributes,
            });
        }
        if let Some((atime, mtime)) = deferred.times {
            restore(Op::Utimes {
                path: root_path(),
                atime,
                mtime: Some(mtime),
            });
        }
        this
    }

    /// Keeps `step` if it is one to be done last, else gives it back.
    pub(super) fn defer_attributes(&mut self, mut step: Step) -> Option<Step> {
        let Some(key) = key_of(&step.op) else {
            return Some(step);
        };
        self.steps.retain(|(held, _)| *held != key);
        detach(&mut step.op);
        self.steps.push((key, step));
        None
    }

    /// What is deferred, in its order.
    #[cfg(feature = "resume")]
    pub(super) fn ops(&self) -> Vec<Op> {
        self.steps.iter().map(|(_, step)| step.op.clone()).collect()
    }

    /// Appends the deferred steps: flags after everything they could forbid,
    /// times after everything that moves them.
    pub(super) fn release(&mut self, steps: &mut Vec<Step>) {
        self.steps.sort_by_key(|(key, _)| match key {
            Key::Xattr(_) | Key::Owner | Key::Mode => 0,
            Key::Flags => 1,
            Key::Times => 2,
        });
        steps.extend(self.steps.drain(..).map(|(_, step)| step));
    }
}

/// Copies what `op` shares with the buffer it was read into, so that this is
/// not kept alive to the end of the stream. `op` is one that has a [`Key`].
fn detach(op: &mut Op) {
    match op {
        Op::SetXattr { path, name, data } => {
            *path = root_path();
            *name = Bytes::copy_from_slice(name);
            *data = Bytes::copy_from_slice(data);
        }
        Op::RemoveXattr { path, name } => {
            *path = root_path();
            *name = Bytes::copy_from_slice(name);
        }
        Op::Chown { path, .. }
        | Op::Chmod { path, .. }
        | Op::FileAttr { path, .. }
        | Op::Utimes { path, .. } => *path = root_path(),
        Op::Create { .. }
        | Op::Rename { .. }
        | Op::Link { .. }
        | Op::Move { .. }
        | Op::Unlink { .. }
        | Op::Rmdir { .. }
        | Op::Write { .. }
        | Op::Clone(_)
        | Op::EncodedWrite(_)
        | Op::Truncate { .. }
        | Op::Fallocate { .. }
        | Op::EnableVerity(_) => {}
    }
}

fn key_of(op: &Op) -> Option<Key> {
    if !op.path().is_root() {
        return None;
    }
    match op {
        Op::SetXattr { name, .. } | Op::RemoveXattr { name, .. } => {
            [DEFAULT_ACL, ACCESS_ACL, COMPRESSION]
                .into_iter()
                .find(|held| *held == name.as_ref())
                .map(Key::Xattr)
        }
        Op::Chown { .. } => Some(Key::Owner),
        Op::Chmod { .. } => Some(Key::Mode),
        Op::FileAttr { .. } => Some(Key::Flags),
        Op::Utimes { .. } => Some(Key::Times),
        Op::Create { .. }
        | Op::Rename { .. }
        | Op::Link { .. }
        | Op::Move { .. }
        | Op::Unlink { .. }
        | Op::Rmdir { .. }
        | Op::Write { .. }
        | Op::Clone(_)
        | Op::EncodedWrite(_)
        | Op::Truncate { .. }
        | Op::Fallocate { .. }
        | Op::EnableVerity(_) => None,
    }
}

fn root_path() -> StreamPath {
    StreamPath::default()
}
