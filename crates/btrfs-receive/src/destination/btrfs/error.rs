//! Errors on their way to a [`Failure`].

use btrfs_sendstream::{Position, StreamPath};
use rustix::io::Errno;

use crate::error::{Cause, Failure};

/// Why a step failed, and which of the commands fused into it.
#[derive(Debug)]
pub(in crate::destination) struct StepError {
    /// 0 for the first command, then the index of the fused one plus 1.
    pub(in crate::destination) part: usize,
    /// The command's name, if it is not that of the whole step.
    pub(in crate::destination) operation: Option<&'static str>,
    pub(in crate::destination) cause: Cause,
}

impl From<Cause> for StepError {
    fn from(cause: Cause) -> Self {
        Self {
            part: 0,
            operation: None,
            cause,
        }
    }
}

impl StepError {
    /// The failure of a step that stands `at` a command, with others `fused`.
    pub(in crate::destination) fn at(
        self,
        at: Position,
        fused: &[Position],
        operation: &'static str,
        path: &StreamPath,
    ) -> Failure {
        let part = self.part.checked_sub(1).and_then(|index| fused.get(index));
        Failure::new(
            part.copied().unwrap_or(at),
            self.operation.unwrap_or(operation),
            path.as_bytes(),
            self.cause,
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
