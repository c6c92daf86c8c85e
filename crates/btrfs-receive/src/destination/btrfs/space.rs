//! Another attempt where the kernel says that there is no space.
//!
//! Space that was freed can be used only when the transaction that freed it is
//! committed, and what is about to be written has more reserved than it will take.
//! So everything is written to disk and committed, and the call is made again: at
//! most twice, and for the subvolume no more once that did not help.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, openat, syncfs};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use tracing::debug;

use crate::destination::tree::lock::lock;
use crate::error::{Cause, is_errno};
use crate::plan::op::Op;
use crate::step_error::StepError;

/// Further attempts for one step.
const ATTEMPTS: usize = 2;

/// What the threads that work on one subvolume know about its space.
#[derive(Clone, Default)]
pub(super) struct Space(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// A directory of the filesystem.
    directory: Option<OwnedFd>,
    /// What is synced.
    sync: Option<OwnedFd>,
    /// Attempts that succeeded.
    helped: u64,
    /// Whether further attempts did not help.
    is_full: bool,
}

impl Space {
    /// That of a subvolume on the filesystem of this directory.
    pub(super) fn of(directory: impl AsFd) -> rustix::io::Result<Self> {
        let directory = fcntl_dupfd_cloexec(directory, 0)?;
        Ok(Self(Arc::new(Mutex::new(State {
            directory: Some(directory),
            ..State::default()
        }))))
    }

    /// How many operations succeeded only after everything was written to disk.
    pub(super) fn helped(&self) -> u64 {
        lock(&self.0).helped
    }

    /// Carries out `act` again for the operation that failed with `error`, if that is
    /// for want of space and `act` may be repeated then; otherwise, and if it does
    /// not help, returns the error.
    pub(super) fn again<T>(
        &self,
        error: StepError,
        op: &Op,
        act: impl FnMut() -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let is_lacking = |error: &StepError| is_no_space(&error.cause) && may_repeat(op, error);
        self.retry(error, is_lacking, act)
    }

    /// Carries out `act` again after an error, if `is_lacking` says of it that another
    /// attempt may help.
    ///
    /// The lock is not held during `act`, which may wait for other threads.
    pub(super) fn retry<T, E>(
        &self,
        mut error: E,
        is_lacking: impl Fn(&E) -> bool,
        mut act: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        for _ in 0..ATTEMPTS {
            if !is_lacking(&error) || !self.commit() {
                return Err(error);
            }
            match act() {
                Ok(done) => {
                    lock(&self.0).helped += 1;
                    return Ok(done);
                }
                Err(other) => error = other,
            }
        }
        if is_lacking(&error) {
            lock(&self.0).is_full = true;
        }
        Err(error)
    }

    /// Writes everything to disk and commits; whether that may help.
    fn commit(&self) -> bool {
        let state = &mut *lock(&self.0);
        let Some(directory) = state.directory.as_ref().filter(|_| !state.is_full) else {
            return false;
        };
        debug!("no space: writing everything to disk before another attempt");
        // Not the descriptor of the root: syncfs(2) reports a failed write-back once
        // to each, and the seal has to learn of it.
        if state.sync.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            state.sync = openat(directory, c".", flags, Mode::empty()).ok();
        }
        state.sync.as_ref().is_some_and(|it| syncfs(it).is_ok())
    }
}

/// Whether there was no space.
pub(super) fn is_no_space(cause: &Cause) -> bool {
    is_errno(cause, Errno::NOSPC)
}

/// Whether the operation comes to the same if it is carried out again after it failed
/// with `error`.
fn may_repeat(op: &Op, error: &StepError) -> bool {
    match op {
        // A part that is there already is written, shared or removed again.
        Op::Write { .. }
        | Op::Clone(_)
        | Op::EncodedWrite(_)
        | Op::Truncate { .. }
        | Op::Fallocate { .. }
        | Op::SetXattr { .. }
        | Op::RemoveXattr { .. }
        | Op::Chmod { .. }
        | Op::Utimes { .. }
        // One call, which does all or nothing.
        | Op::Rename { .. }
        | Op::Link { .. }
        | Op::Unlink { .. }
        | Op::Rmdir { .. } => true,
        // The first call did nothing; later ones find the name taken.
        Op::Create { .. } => error.part == 0 && is_creation(&error.cause),
        // A link and an unlink.
        Op::Move { .. } => error.part == 0,
        // The set-id bits of the file may be gone. The others have several calls.
        Op::Chown { .. } | Op::FileAttr { .. } | Op::EnableVerity(_) => false,
    }
}

/// Whether it is the call that creates an inode.
fn is_creation(cause: &Cause) -> bool {
    const CALLS: [&str; 4] = ["openat", "mkdirat", "symlinkat", "mknodat"];
    matches!(cause, Cause::System { call, .. } if CALLS.contains(call))
}

#[cfg(test)]
mod tests {
    use btrfs_sendstream::StreamPath;

    use super::*;
    use crate::error::named;
    use crate::plan::op::NewInode;

    fn error(errno: Errno) -> StepError {
        named("pwrite")(errno).into()
    }

    fn truncate() -> Op {
        let path = StreamPath::default();
        Op::Truncate { path, size: 1 }
    }

    fn space() -> Space {
        Space::of(std::fs::File::open("/").unwrap()).unwrap()
    }

    #[test]
    fn a_commit_may_help_at_once_or_later() {
        for needed in 1..=2 {
            let space = space();
            let mut calls = 0;
            let done = space.again(error(Errno::NOSPC), &truncate(), || {
                calls += 1;
                if calls < needed {
                    Err(error(Errno::NOSPC))
                } else {
                    Ok(calls)
                }
            });
            assert_eq!(done.unwrap(), needed);
            assert_eq!(space.helped(), 1);
        }
    }

    #[test]
    fn what_does_not_help_is_not_tried_for_ever() {
        let space = space();
        for calls_wanted in [2, 0] {
            let mut calls = 0;
            let failed: Result<(), _> = space.again(error(Errno::NOSPC), &truncate(), || {
                calls += 1;
                Err(error(Errno::NOSPC))
            });
            assert!(is_no_space(&failed.unwrap_err().cause));
            assert_eq!(calls, calls_wanted);
        }
        assert_eq!(space.helped(), 0);
    }

    #[test]
    fn nothing_is_done_twice() {
        let path = StreamPath::default;
        let create = Op::Create {
            path: path(),
            created_as: None,
            kind: NewInode::Directory,
            mode: None,
        };
        let chown = Op::Chown {
            path: path(),
            uid: 1,
            gid: 1,
        };
        let renamed = StepError {
            part: 1,
            ..named("renameat2")(Errno::NOSPC).into()
        };
        for (op, error) in [
            (&create, renamed),
            (&create, named("fchmod")(Errno::NOSPC).into()),
            (&chown, named("fchown")(Errno::NOSPC).into()),
            (&truncate(), error(Errno::IO)),
            (&truncate(), error(Errno::DQUOT)),
        ] {
            let again = space().again(error, op, || -> Result<(), StepError> {
                panic!("repeated")
            });
            assert!(again.is_err());
        }
        let made = named("mkdirat")(Errno::NOSPC).into();
        assert!(space().again(made, &create, || Ok(())).is_ok());
        // Another error than before ends it.
        let failed = space().again(error(Errno::NOSPC), &truncate(), || {
            Err::<(), _>(error(Errno::IO))
        });
        assert!(!is_no_space(&failed.unwrap_err().cause));
        assert!(
            Space::default()
                .again(error(Errno::NOSPC), &truncate(), || Ok(()))
                .is_err()
        );
    }
}
