//! A function of the C program that is called with events.

use std::ffi::{CStr, c_char, c_int, c_void};

/// A callback, and what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callback {
    pub(super) function: Function,
    pub(super) user: *mut c_void,
}

pub(super) type Function =
    unsafe extern "C" fn(event: *const c_char, json: *const c_char, user: *mut c_void) -> c_int;

impl Callback {
    pub(crate) fn call(&self, event: &CStr, json: &CStr) -> c_int {
        // SAFETY: who set it said that it can be called with `user`, on the
        // threads that receive; the strings live until after the call.
        unsafe { (self.function)(event.as_ptr(), json.as_ptr(), self.user) }
    }
}
