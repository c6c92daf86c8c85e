//! The types that C programs share with this library.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_int};

/// What a call returns. Later versions may add codes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum brecv_code {
    /// It succeeded. Of a receive: every subvolume in the input is complete, on
    /// disk, marked as received and read-only.
    BRECV_OK = 0,
    /// A command of the stream could not be applied, or no subvolume can be the
    /// parent or clone source.
    BRECV_FAILED = 1,
    /// The stream is damaged, was cut, is of an unknown version, or is none.
    BRECV_STREAM = 2,
    /// The input cannot be read.
    BRECV_IO = 3,
    /// brecv_cancel was called, or a callback returned another value than 0.
    BRECV_CANCELLED = 4,
    /// The destination, or another directory, cannot be opened or used.
    BRECV_OPEN = 5,
    /// The caller made a mistake: NULL, an unknown option, a call that is not
    /// possible now. Nothing was done.
    BRECV_MISUSE = 6,
    /// The receiver is in use, by another thread or by the call whose callback
    /// this is. Nothing was done, and brecv_last_error is about an earlier call: only the
    /// thread of the call that is under way may use it, because the end of that call
    /// changes it.
    BRECV_BUSY = 7,
    /// A bug in the library. The receiver can only be freed.
    BRECV_BUG = 8,
}

/// The error of a call. Later versions may add fields at the end.
///
/// Strings end with NUL and are never NULL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brecv_error {
    /// What the call returned; BRECV_OK if it succeeded.
    pub code: brecv_code,
    /// errno of the system call that failed; 0 if none did.
    pub os_error: c_int,
    /// Number of the stream in the input, from 1; 0 if the error has no place
    /// in the input.
    pub stream: u64,
    /// Number of the command in the stream, from 1.
    pub command: u64,
    /// Offset in the input, in bytes.
    pub byte: u64,
    /// The class of the error in one word: `kind` in docs/json.md; or
    /// "cancelled", "open", "misuse", "bug".
    pub kind: *const c_char,
    /// The operation that failed, such as "write"; or "".
    pub operation: *const c_char,
    /// Its path in the stream; or "". It may not be UTF-8.
    pub path: *const c_char,
    /// The whole error in English, with its place. May have several lines.
    pub message: *const c_char,
}
