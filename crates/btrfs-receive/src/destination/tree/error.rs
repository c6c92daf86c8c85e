//! Errors on their way to a [`Failure`].

use rustix::io::Errno;

use crate::error::Cause;
pub(in crate::destination) use crate::step_error::StepError;

/// Whether a call failed with this error number.
pub(in crate::destination) fn is_errno(cause: &Cause, errno: Errno) -> bool {
    match cause {
        Cause::System { error, .. } => error.raw_os_error() == Some(errno.raw_os_error()),
        _ => false,
    }
}
