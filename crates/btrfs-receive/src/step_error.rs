//! Why a step failed.

use crate::error::{Cause, Failure};
use crate::plan::op::{Op, Step};

/// Why a [`Step`] failed, and which of its commands: what a
/// [`Destination`](crate::Destination) makes a [`Failure`] of.
#[derive(Debug)]
pub struct StepError {
    /// 0 for the first command, then the index of the fused one plus 1.
    pub part: usize,
    /// What went wrong.
    pub cause: Cause,
}

impl From<Cause> for StepError {
    fn from(cause: Cause) -> Self {
        Self { part: 0, cause }
    }
}

impl StepError {
    /// Returns the failure of `step`, or of one of the commands fused into it: where
    /// that stands, what it is called and which path it has.
    pub fn of(self, step: &Step) -> Failure {
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
