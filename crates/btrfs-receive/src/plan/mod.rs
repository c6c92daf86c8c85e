//! From commands to operations: pure, in bounded memory.
//!
//! The planner sees one command after the other and says what a destination
//! has to do. It holds back three things: the attributes of the subvolume's
//! root, which new inodes would inherit ([`root`]), the newest inode for as
//! long as following commands may be fused into its creation ([`fuse`]), and
//! times of directories that are likely to be set again ([`times`]).

mod capability;
mod fuse;
pub(crate) mod op;
mod root;
#[cfg(test)]
mod tests;
mod times;

use btrfs_sendstream::{Command, CommandBuf, Position, StreamPath};

use crate::destination::DeferredAttributes;
use crate::error::{Cause, Failure};
use capability::LastCapability;
use fuse::Fuser;
pub use fuse::Rules;
use op::{NewInode, Op, Step};
use root::RootAttributes;
use times::HeldTimes;

/// Turns the commands of one subvolume into [`Step`]s.
///
/// Memory: at most 1 MiB of file data and 128 steps held back, and one value
/// for each attribute of the root.
#[derive(Debug, Default)]
pub struct Planner {
    times: HeldTimes,
    fuser: Fuser,
    root: RootAttributes,
    capability: LastCapability,
}

impl Planner {
    /// A planner with some of the fusing rules switched off.
    pub fn new(rules: Rules) -> Self {
        Self {
            times: HeldTimes::new(rules.drop_superseded_times),
            fuser: Fuser::new(rules),
            ..Self::default()
        }
    }

    /// Starts a subvolume whose root had `deferred` taken off it.
    pub fn begin(&mut self, deferred: &DeferredAttributes, at: Position) {
        self.times.clear();
        self.fuser.clear();
        self.capability = LastCapability::default();
        self.root = RootAttributes::new(deferred, at);
    }

    /// Takes one command of the subvolume and appends what is to be done now
    /// to `steps`.
    ///
    /// # Errors
    /// A value is out of the range that the operation can carry. The command
    /// is dropped; the planner can go on. `steps` gets what was held back,
    /// which came before: one of those may fail first.
    pub fn command(
        &mut self,
        command: CommandBuf,
        at: Position,
        steps: &mut Vec<Step>,
    ) -> Result<(), Failure> {
        let op = match op_of(command, at) {
            Ok(Some(op)) => op,
            Ok(None) => return Ok(()),
            Err(failure) => {
                self.flush(steps);
                return Err(failure);
            }
        };
        let again = self.capability.after(&op);
        if let Some(step) = self.root.defer_attributes(Step::new(op, at)) {
            let fuser = &mut self.fuser;
            self.times.pass(step, |step| fuser.push(step, steps));
        }
        if let Some(op) = again {
            self.fuser.push(Step::new(op, at), steps);
        }
        Ok(())
    }

    /// Ends the subvolume: appends everything still held back, the root's
    /// attributes last.
    pub fn finish(&mut self, steps: &mut Vec<Step>) {
        self.flush(steps);
        self.root.release(steps);
    }

    /// Appends what is held back for fusing, and goes on.
    pub(crate) fn flush(&mut self, steps: &mut Vec<Step>) {
        self.fuser.flush(steps);
        self.times.release(|step| steps.push(step));
    }
}

/// For a caller that pauses: everything else is held back for a moment only.
#[cfg(feature = "resume")]
impl Planner {
    /// Whether nothing is held back but what [`flush`](Self::flush) gives out
    /// and [`deferred`](Self::deferred) tells.
    pub(crate) fn is_between_inodes(&self) -> bool {
        self.capability.is_none()
    }

    /// The operations on the root that wait for the end.
    pub(crate) fn deferred(&self) -> Vec<Op> {
        self.root.ops()
    }

    /// Starts in the middle of a subvolume, with what waited for the end.
    pub(crate) fn go_on(&mut self, deferred: Vec<Op>, at: Position) {
        self.begin(&DeferredAttributes::default(), at);
        for op in deferred {
            self.root.defer_attributes(Step::new(op, at));
        }
    }
}

/// The operation that a command asks for; `None` for one that changes
/// nothing.
///
/// # Errors
/// A value is out of the range that the operation can carry, or the stream
/// has no file data.
fn op_of(command: CommandBuf, at: Position) -> Result<Option<Op>, Failure> {
    let kind = command.kind();
    let failed = |path: &[u8], cause| Failure::new(at, kind.name(), path, cause);
    // While the command still has its path, which is copied for an error only.
    if let Err(error) = command.check_values() {
        let path = command.path().unwrap_or_default();
        return Err(failed(path.as_bytes(), error.into()));
    }
    let narrow = |what, value: u64, path: &StreamPath| {
        u32::try_from(value).map_err(|_| {
            let value = value.into();
            failed(path.as_bytes(), Cause::OutOfRange { what, value })
        })
    };
    let op = match command {
        Command::Subvol { .. } | Command::Snapshot { .. } | Command::End => return Ok(None),
        // The file did change, and how is not in the stream.
        Command::UpdateExtent { path, .. } => {
            return Err(failed(path.as_bytes(), Cause::NoFileData));
        }
        Command::Mkfile { path, .. } => create(path, NewInode::File),
        Command::Mkdir { path, .. } => create(path, NewInode::Directory),
        Command::Symlink { path, target, .. } => create(path, NewInode::Symlink { target }),
        Command::Mknod {
            path, rdev, mode, ..
        } => {
            let mode = narrow("mode", mode, &path)?;
            create(path, NewInode::Device { mode, rdev })
        }
        Command::Mkfifo { path, mode, .. } => {
            let mode = narrow("mode", mode, &path)?;
            create(path, NewInode::Fifo { mode })
        }
        Command::Mksock { path, mode, .. } => {
            let mode = narrow("mode", mode, &path)?;
            create(path, NewInode::Socket { mode })
        }
        Command::Rename { path, to } => Op::Rename { path, to },
        Command::Link { path, existing } => Op::Link { path, existing },
        Command::Unlink { path } => Op::Unlink { path },
        Command::Rmdir { path } => Op::Rmdir { path },
        Command::SetXattr { path, name, data } => Op::SetXattr { path, name, data },
        Command::RemoveXattr { path, name } => Op::RemoveXattr { path, name },
        Command::Write { path, offset, data } => Op::Write {
            path,
            offset,
            data: vec![data],
        },
        Command::Clone(clone) => Op::Clone(clone),
        Command::EncodedWrite(write) => Op::EncodedWrite(write),
        Command::Truncate { path, size } => Op::Truncate { path, size },
        Command::Fallocate {
            path,
            mode,
            offset,
            len,
        } => Op::Fallocate {
            path,
            mode,
            offset,
            len,
        },
        Command::Chmod { path, mode } => {
            let mode = narrow("mode", mode, &path)?;
            Op::Chmod { path, mode }
        }
        Command::Chown { path, uid, gid } => {
            let (uid, gid) = (narrow("uid", uid, &path)?, narrow("gid", gid, &path)?);
            Op::Chown { path, uid, gid }
        }
        Command::Utimes {
            path, atime, mtime, ..
        } => Op::Utimes {
            path,
            atime,
            mtime: Some(mtime),
        },
        Command::FileAttr { path, attributes } => Op::FileAttr { path, attributes },
        Command::EnableVerity(verity) => Op::EnableVerity(verity),
    };
    Ok(Some(op))
}

fn create(path: StreamPath, kind: NewInode) -> Op {
    Op::Create {
        path,
        created_as: None,
        kind,
        mode: None,
    }
}
