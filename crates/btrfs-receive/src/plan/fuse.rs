//! Fusing rules: which commands become one operation, and why the result is
//! the same.
//!
//! Nothing is ever reordered: the newest inode's steps are held back as a
//! group and given out in their order, with some of them folded into an
//! earlier one of the same group.

use btrfs_sendstream::StreamPath;

use super::op::{NewInode, Op, Step};

/// Which fusing rules are on; all by default. Switching one off changes the
/// speed, never the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// A creation followed at once by the rename of the new inode becomes a
    /// creation under the final name.
    ///
    /// Same result: nothing happens between the two, and a destination that
    /// cannot create directly (the name is taken, or the directory would
    /// hand something down) carries out the two steps.
    pub create_at_final_name: bool,
    /// The permission bits of a CHMOD among the commands that directly
    /// follow a creation, and concern the same inode, are given at creation.
    /// A mode without write permission stays where it is if an extended
    /// attribute is set before.
    ///
    /// Same result: between the two there are only steps on this inode,
    /// which a destination makes through the descriptor it got at creation,
    /// so that the mode does not decide whether they are allowed; none of
    /// them depends on the mode or changes it, as an ACL would (then the
    /// rule does not apply). Set-id bits are left to the CHMOD, because a
    /// CHOWN or a write clears them.
    pub mode_at_creation: bool,
    /// A LINK followed at once by the UNLINK of the name it was made from
    /// becomes a rename, which is how kernels send a renamed file.
    ///
    /// Same result: the file has the new name and not the old one, and both
    /// directories were changed. Where a rename would come to something else
    /// (the new name is taken, the old one is a directory's) or fails, a
    /// destination carries out the two steps.
    pub rename_for_link_and_unlink: bool,
    /// Writes that follow each other in the stream and in the file become
    /// one.
    ///
    /// Same result: the same bytes in the same places; the positions of all
    /// commands are kept for errors.
    pub join_writes: bool,
    /// A UTIMES for a directory that another one for the same directory
    /// follows is dropped.
    ///
    /// Same result: see the text in `plan/times.rs`.
    pub drop_superseded_times: bool,
    /// Clones of one length that follow each other in the stream, in the file
    /// and in the source become one.
    ///
    /// Same result: one range or its parts refer to the same extents. If the
    /// source is the destination file itself the parts could overlap, so the
    /// rule does not apply there; that they are one file under two names is
    /// for the destination to find. A destination that cannot clone the whole
    /// range does it part by part, which the equal lengths allow.
    pub join_clones: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            create_at_final_name: true,
            mode_at_creation: true,
            rename_for_link_and_unlink: true,
            drop_superseded_times: true,
            join_writes: true,
            join_clones: true,
        }
    }
}

impl Rules {
    /// Every rule off: one operation for one command.
    pub fn none() -> Self {
        Self {
            create_at_final_name: false,
            mode_at_creation: false,
            rename_for_link_and_unlink: false,
            drop_superseded_times: false,
            join_writes: false,
            join_clones: false,
        }
    }
}

/// File data held back at most, in bytes: enough to join v1's 48 KiB writes
/// into large ones.
const MAX_HELD_BYTES: usize = 1 << 20;
/// Bytes of input between the first step held back and the newest at most:
/// a step keeps the buffer alive that it was read into, however small it is.
const MAX_HELD_SPAN: u64 = 2 << 20;
/// Steps held back at most.
const MAX_HELD_STEPS: usize = 64;
/// Pieces of one joined write at most; well under IOV_MAX (1,024).
const MAX_PIECES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Fuser {
    rules: Rules,
    /// Steps held back, all on the inode that the first one creates, or the
    /// one step that the next may join.
    group: Vec<Step>,
    /// Bytes of file data and attribute values in `group`.
    bytes: usize,
    /// The group's creation can still take a mode.
    mode_open: bool,
}

impl Fuser {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    pub(super) fn clear(&mut self) {
        self.group.clear();
        self.bytes = 0;
        self.mode_open = false;
    }

    /// Gives out everything held back.
    pub(super) fn flush(&mut self, steps: &mut Vec<Step>) {
        steps.append(&mut self.group);
        self.clear();
    }

    /// Takes a step, gives out what no later step can change any more.
    pub(super) fn push(&mut self, step: Step, steps: &mut Vec<Step>) {
        if !self.is_near(&step) {
            self.flush(steps);
        }
        let Some(step) = self.fold(step) else {
            if !self.mode_open && !self.may_join_more() {
                self.flush(steps);
            }
            return;
        };
        let size = held_size(&step.op);
        let goes_on = self.mode_open
            && self.concerns_group(&step.op)
            && self.group.len() < MAX_HELD_STEPS
            && self.bytes + size <= MAX_HELD_BYTES;
        if !goes_on {
            self.flush(steps);
        }
        if size > MAX_HELD_BYTES {
            // Too much to wait for what may follow.
            self.flush(steps);
            steps.push(step);
            return;
        }
        match &step.op {
            Op::Create { .. } if self.rules.create_at_final_name || self.rules.mode_at_creation => {
                self.mode_open = self.rules.mode_at_creation;
            }
            Op::Link { .. } if self.rules.rename_for_link_and_unlink => {}
            Op::Write { .. } if self.rules.join_writes => {}
            Op::Clone(_) if self.rules.join_clones => {}
            // Sets the mode in its own way.
            op if goes_on => self.mode_open = !changes_mode(op),
            _ => {
                steps.push(step);
                return;
            }
        }
        self.bytes += size;
        self.group.push(step);
        if goes_on && !self.mode_open {
            self.flush(steps);
        }
    }

    /// Whether `step` was read soon enough after the group's first.
    fn is_near(&self, step: &Step) -> bool {
        self.group
            .first()
            .is_none_or(|first| step.at.offset.saturating_sub(first.at.offset) <= MAX_HELD_SPAN)
    }

    /// Folds `step` into the group, or gives it back.
    fn fold(&mut self, step: Step) -> Option<Step> {
        match step.op {
            Op::Rename { .. } if self.rules.create_at_final_name => self.fold_rename(step),
            Op::Unlink { .. } => self.fold_unlink(step),
            Op::Chmod { .. } if self.mode_open => self.fold_mode(step),
            Op::Write { .. } if self.rules.join_writes => self.join_write(step),
            Op::Clone(_) if self.rules.join_clones => self.join_clone(step),
            _ => Some(step),
        }
    }

    fn fold_rename(&mut self, step: Step) -> Option<Step> {
        let [
            Step {
                op:
                    Op::Create {
                        path,
                        created_as: created_as @ None,
                        ..
                    },
                fused,
                ..
            },
        ] = self.group.as_mut_slice()
        else {
            return Some(step);
        };
        match step.op {
            // A directory cannot move below itself: let the rename fail. The
            // root's times are set last; another directory would show that
            // a name came and went.
            Op::Rename {
                path: ref from,
                ref to,
            } if from == path
                && !to.starts_with(from)
                && (from.parent().is_some_and(|parent| parent.is_root())
                    || from.parent() == to.parent()) =>
            {
                *created_as = Some(std::mem::replace(path, to.clone()));
                fused.push(step.at);
                None
            }
            _ => Some(step),
        }
    }

    fn fold_unlink(&mut self, step: Step) -> Option<Step> {
        let [Step { op, fused, .. }] = self.group.as_mut_slice() else {
            return Some(step);
        };
        match (&*op, &step.op) {
            (Op::Link { path, existing }, Op::Unlink { path: gone })
                if gone == existing && path != existing =>
            {
                *op = Op::Move {
                    path: path.clone(),
                    existing: existing.clone(),
                };
                fused.push(step.at);
                None
            }
            _ => Some(step),
        }
    }

    fn fold_mode(&mut self, step: Step) -> Option<Step> {
        let Op::Chmod {
            path: ref target,
            mode: bits,
        } = step.op
        else {
            return Some(step);
        };
        // The mode decides who may set `user.*` attributes, also through a
        // descriptor.
        let sets_xattrs = self
            .group
            .iter()
            .any(|step| matches!(step.op, Op::SetXattr { .. } | Op::RemoveXattr { .. }));
        if sets_xattrs && bits & 0o200 == 0 {
            return Some(step);
        }
        match self.group.first_mut().map(|first| &mut first.op) {
            Some(Op::Create {
                path,
                kind: NewInode::File | NewInode::Directory,
                mode: mode @ None,
                ..
            }) if path == target && bits & !0o777 == 0 => {
                *mode = Some(bits);
                self.mode_open = false;
                None
            }
            _ => Some(step),
        }
    }

    fn join_write(&mut self, step: Step) -> Option<Step> {
        let Op::Write {
            path: ref to,
            offset: at_offset,
            ref data,
        } = step.op
        else {
            return Some(step);
        };
        let size: usize = data.iter().map(|piece| piece.len()).sum();
        let Some(Step {
            op:
                Op::Write {
                    path,
                    offset,
                    data: pieces,
                },
            fused,
            ..
        }) = self.group.last_mut()
        else {
            return Some(step);
        };
        let held: usize = pieces.iter().map(|piece| piece.len()).sum();
        let follows = path == to
            && offset.checked_add(held as u64) == Some(at_offset)
            && pieces.len() < MAX_PIECES
            && self.bytes + size <= MAX_HELD_BYTES;
        if !follows {
            return Some(step);
        }
        pieces.extend(data.iter().cloned());
        fused.push(step.at);
        self.bytes += size;
        None
    }

    fn join_clone(&mut self, step: Step) -> Option<Step> {
        let Op::Clone(ref next) = step.op else {
            return Some(step);
        };
        let Some(Step {
            op: Op::Clone(held),
            fused,
            ..
        }) = self.group.last_mut()
        else {
            return Some(step);
        };
        let follows = held.path == next.path
            && held.source_uuid == next.source_uuid
            && held.source_ctransid == next.source_ctransid
            && held.source_path == next.source_path
            && held.source_path != held.path
            && Some(next.len) == held.len.checked_div(fused.len() as u64 + 1)
            && held.offset.checked_add(held.len) == Some(next.offset)
            && held.source_offset.checked_add(held.len) == Some(next.source_offset)
            && fused.len() < MAX_PIECES;
        if !follows {
            return Some(step);
        }
        held.len += next.len;
        fused.push(step.at);
        None
    }

    /// Whether the last step held may still take a following one in.
    fn may_join_more(&self) -> bool {
        self.bytes < MAX_HELD_BYTES
            && match self.group.last().map(|step| &step.op) {
                Some(Op::Create { created_as, .. }) => created_as.is_none(),
                Some(Op::Write { data, .. }) => data.len() < MAX_PIECES,
                Some(Op::Clone(_)) => true,
                _ => false,
            }
    }

    /// Whether `op` is a step on the inode the group creates, and nothing
    /// but that.
    fn concerns_group(&self, op: &Op) -> bool {
        let Some(Op::Create { path, .. }) = self.group.first().map(|first| &first.op) else {
            return false;
        };
        !op.changes_names() && same_path(op.path(), path)
    }
}

fn same_path(a: &StreamPath, b: &StreamPath) -> bool {
    a.as_bytes() == b.as_bytes()
}

/// Whether the mode after `op` could differ from the mode given at creation,
/// or a mode given at creation could change what `op` does.
fn changes_mode(op: &Op) -> bool {
    match op {
        Op::SetXattr { name, .. } | Op::RemoveXattr { name, .. } => name.starts_with(b"system."),
        Op::Chmod { .. } | Op::EnableVerity(_) | Op::FileAttr { .. } => true,
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
        | Op::Chown { .. }
        | Op::Utimes { .. } => false,
    }
}

/// Bytes that holding back `op` costs.
fn held_size(op: &Op) -> usize {
    match op {
        Op::Write { data, .. } => data.iter().map(|piece| piece.len()).sum(),
        Op::EncodedWrite(write) => write.data.len(),
        Op::SetXattr { data, .. } => data.len(),
        Op::Create { .. }
        | Op::Rename { .. }
        | Op::Link { .. }
        | Op::Move { .. }
        | Op::Unlink { .. }
        | Op::Rmdir { .. }
        | Op::RemoveXattr { .. }
        | Op::Clone(_)
        | Op::Truncate { .. }
        | Op::Fallocate { .. }
        | Op::Chown { .. }
        | Op::Chmod { .. }
        | Op::FileAttr { .. }
        | Op::Utimes { .. }
        | Op::EnableVerity(_) => 0,
    }
}
