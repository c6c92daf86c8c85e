//! Times of directories that the stream sets again and again.
//!
//! Kernels before 6.3 send UTIMES for a directory after every command that
//! changes it. Only the last one counts; the others cost a call each and
//! stand between the commands of one inode.

use btrfs_sendstream::{Bytes, StreamPath};

use super::op::{Op, Step};

/// Directories whose times are held back at most.
const MAX_HELD: usize = 64;

/// UTIMES that are held back until the end of the subvolume, or until
/// another one for the same directory makes them superfluous.
///
/// Only a UTIMES is held that concerns the directory which the command just
/// before has changed. The result is the same as without: nothing reads
/// times; what else is done to the directory itself does not depend on them;
/// and if it is changed once more without another UTIMES, its mtime is that
/// of the change, so just the atime is set at the end. Before a directory is
/// moved or removed its times are given out, so that a held path always
/// names what it named; and before a rename that may do nothing.
#[derive(Debug, Default)]
pub(super) struct HeldTimes {
    on: bool,
    /// In the order in which they were held.
    held: Vec<Held>,
    /// The directories that the last command changed: one, or two for a
    /// rename or a link.
    changed: Vec<Bytes>,
    /// The inode that the last step created.
    created: Option<StreamPath>,
}

#[derive(Debug)]
struct Held {
    step: Step,
    /// The directory was changed since.
    changed: bool,
}

impl HeldTimes {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            ..Self::default()
        }
    }

    pub(super) fn clear(&mut self) {
        self.created = None;
        self.held.clear();
        self.changed.clear();
    }

    /// Takes a step and gives out what is to be done now.
    pub(super) fn pass(&mut self, step: Step, mut give: impl FnMut(Step)) {
        if !self.on {
            return give(step);
        }
        match &step.op {
            Op::Utimes { path, .. } => {
                let path = path.as_bytes();
                self.held
                    .retain(|held| held.step.op.path().as_bytes() != path);
                if self.changed.iter().any(|changed| changed == path) {
                    if self.held.len() >= MAX_HELD {
                        give(self.held.remove(0).given_out());
                    }
                    self.held.push(Held {
                        step: detached(step),
                        changed: false,
                    });
                    return;
                }
            }
            Op::Create { path, .. } => {
                self.note(&[path]);
                self.created = Some(path.borrow().to_owned());
                return give(step);
            }
            Op::Unlink { path } => self.note(&[path]),
            Op::Link { path, .. } => self.note(&[path]),
            // Made after this, of a link and an unlink.
            Op::Move { path, existing } => self.note(&[path, existing]),
            Op::Rename { path, to } => {
                self.release_below(path, &mut give);
                self.release_below(to, &mut give);
                // rename(2) does nothing, to the times neither, where both
                // names are one inode's; a new inode has one name.
                if path == to || self.created.as_ref() != Some(path) {
                    self.release_at(path.parent(), &mut give);
                    self.release_at(to.parent(), &mut give);
                }
                self.note(&[path, to]);
            }
            Op::Rmdir { path } => {
                self.release_below(path, &mut give);
                self.note(&[path]);
            }
            Op::SetXattr { .. }
            | Op::RemoveXattr { .. }
            | Op::Write { .. }
            | Op::Clone(_)
            | Op::EncodedWrite(_)
            | Op::Truncate { .. }
            | Op::Fallocate { .. }
            | Op::Chown { .. }
            | Op::Chmod { .. }
            | Op::FileAttr { .. }
            | Op::EnableVerity(_) => self.changed.clear(),
        }
        self.created = None;
        give(step);
    }

    /// Gives out everything that is held.
    pub(super) fn release(&mut self, mut give: impl FnMut(Step)) {
        for held in self.held.drain(..) {
            give(held.given_out());
        }
        self.changed.clear();
    }

    /// The directories that hold `paths` are about to change.
    fn note(&mut self, paths: &[&StreamPath]) {
        self.changed.clear();
        for parent in paths.iter().filter_map(|path| path.parent()) {
            for held in &mut self.held {
                held.changed |= held.step.op.path().as_bytes() == parent.as_bytes();
            }
            // The root's own times are not held here.
            if !parent.is_root() {
                self.changed.push(Bytes::copy_from_slice(parent.as_bytes()));
            }
        }
    }

    /// Gives out the times of one directory.
    fn release_at(&mut self, path: Option<StreamPath<&[u8]>>, give: &mut impl FnMut(Step)) {
        let at = self.held.iter().position(|held| {
            path.is_some_and(|path| path.as_bytes() == held.step.op.path().as_bytes())
        });
        if let Some(at) = at {
            give(self.held.remove(at).given_out());
        }
    }

    fn release_below(&mut self, path: &StreamPath, give: &mut impl FnMut(Step)) {
        let mut index = 0;
        while let Some(held) = self.held.get(index) {
            if held.step.op.path().starts_with(path) {
                give(self.held.remove(index).given_out());
            } else {
                index += 1;
            }
        }
    }
}

/// `step` with a path of its own, so as not to keep the buffer alive that it
/// was read into.
fn detached(mut step: Step) -> Step {
    if let Op::Utimes { path, .. } = &mut step.op {
        *path = path.borrow().to_owned();
    }
    step
}

impl Held {
    fn given_out(mut self) -> Step {
        if let Op::Utimes { mtime, .. } = &mut self.step.op
            && self.changed
        {
            *mtime = None;
        }
        self.step
    }
}
