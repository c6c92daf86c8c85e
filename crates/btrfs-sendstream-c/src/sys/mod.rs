//! What C calls.
#![allow(unsafe_code)]

mod dispatch;

use std::ffi::{c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::BorrowedFd;

use crate::ops::bss_send_ops;
use crate::{errno, input};
use dispatch::Callbacks;

/// Reads a send stream from `fd` and calls back for each command.
///
/// With `honor_end_cmd` not 0, reading stops right behind the first END, and
/// the next call goes on with the stream that follows. Otherwise everything to
/// the end of the input is read.
///
/// A callback that returns anything but 0 has failed. After `max_errors`
/// failures reading stops; 0 means never.
///
/// Returns 0 if everything was read and no callback failed; 1 if the input was
/// at its end before a stream began; else a negative errno: the first that a
/// callback returned (a positive one counts as its negative), that of a failed
/// read, -EOPNOTSUPP for a version or command that is not known, -EMSGSIZE for
/// a command that is too long, -EINVAL for a stream that is damaged, was cut,
/// or is none. Damage ends the call whatever `max_errors` is.
///
/// The stream is checked as it is read; a callback may have been called for
/// what comes before damage. A stream is whole only if 0 is returned.
///
/// Memory: one command, of at most 16 MiB, and half a MiB. Threads may call
/// this at the same time, with descriptors of their own.
///
/// A mistake in the library itself ends the call with -EIO.
///
/// # Safety
/// `ops` is NULL, or points to callbacks with the types of the header, which
/// are not changed while this runs. `fd` stays open, or was never open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bss_read_send_stream(
    fd: c_int,
    ops: *const bss_send_ops,
    user: *mut c_void,
    honor_end_cmd: c_int,
    max_errors: u64,
) -> c_int {
    if fd < 0 {
        errno::remember("the descriptor is negative");
        return -libc::EBADF;
    }
    // SAFETY: the caller passes NULL or a table that stays as it is; it has
    // the layout of the header, which is made from this type.
    let ops = unsafe { ops.as_ref() };
    let Some(ops) = ops else {
        errno::remember("the table of callbacks is NULL");
        return -libc::EFAULT;
    };
    // SAFETY: it is not -1, and the caller keeps it open. Were it closed, dup
    // fails below and nothing else is done with it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let file = match fd.try_clone_to_owned() {
        Ok(file) => File::from(file),
        Err(error) => {
            errno::remember(&format!("the descriptor cannot be duplicated: {error}"));
            return -error.raw_os_error().unwrap_or(libc::EBADF);
        }
    };
    // SAFETY: the caller vouches for callbacks and `user`.
    let mut callbacks = unsafe { Callbacks::new(ops, user) };
    input::read(file, honor_end_cmd != 0, max_errors, |command| {
        callbacks.call(command)
    })
}

/// Says in words what the last call on this thread that did not return 0 met:
/// stream, command and byte, and what is wrong there. Never NULL; valid until
/// the next call on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn bss_last_error() -> *const c_char {
    errno::message()
}
