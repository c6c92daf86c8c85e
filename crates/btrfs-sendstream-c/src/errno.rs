//! Errors as C programs get them: a negative errno and a message.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};

use btrfs_sendstream::{Error, ErrorKind};

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Keeps the message of this thread's last failed call.
pub(crate) fn remember(message: &str) {
    // No error of ours has a NUL in its text: names are shown escaped.
    let message = CString::new(message).unwrap_or_default();
    MESSAGE.set(message);
}

/// The message, valid until the next one is remembered on this thread.
pub(crate) fn message() -> *const c_char {
    MESSAGE.with_borrow(|message| message.as_ptr())
}

/// What a failed read returns: 1 for an input without a stream, else a
/// negative errno.
pub(crate) fn code(error: &Error) -> c_int {
    match error.kind() {
        ErrorKind::Empty => 1,
        ErrorKind::Io(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        ErrorKind::Unsupported(_) => -libc::EOPNOTSUPP,
        ErrorKind::Limit(_) => -libc::EMSGSIZE,
        _ => -libc::EINVAL,
    }
}
