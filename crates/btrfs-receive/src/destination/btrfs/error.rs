//! Errors on their way to a [`Failure`].

use rustix::io::Errno;

use crate::error::{Cause, Failure};
use crate::plan::op::{Op, Step};

/// Why a step failed, and which of the commands fused into it.
#[derive(Debug)]
pub(in crate::destination) struct StepError {
    /// 0 for the first command, then the index of the fused one plus 1.
    pub(in crate::destination) part: usize,
    pub(in crate::destination) cause: Cause,
}

impl From<Cause> for StepError {
    fn from(cause: Cause) -> Self {
        Self { part: 0, cause }
    }
}

impl StepError {
    /// The failure of `step`, or of one of the commands fused into it: where
    /// that stands, what it is called and which path it has.
    pub(in crate::destination) fn of(self, step: &Step) -> Failure {
        let Self { part, cause } = self;
        let fused = part.checked_sub(1).and_then(|index| step.fused.get(index));
        let (operation, path) = match (&step.op, part) {
            (
                Op::Create {
                    path,
                    created_as: Some(_),
                    ..
                },
                1,
            ) => ("rename", path),
            (Op::Move { existing, .. }, 1) => ("unlink", existing),
            (op, _) => (op.name(), op.path()),
        };
        Failure::new(
            *fused.unwrap_or(&step.at),
            operation,
            path.as_bytes(),
            cause,
        )
    }
}

/// Names the call that failed.
pub(in crate::destination) fn named(call: &'static str) -> impl FnOnce(Errno) -> Cause {
    move |errno| Cause::system(call, errno)
}

/// Whether a call failed with this error number.
pub(in crate::destination) fn is_errno(cause: &Cause, errno: Errno) -> bool {
    match cause {
        Cause::System { error, .. } => error.raw_os_error() == Some(errno.raw_os_error()),
        _ => false,
    }
}
