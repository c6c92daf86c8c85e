//! What C calls.
#![allow(unsafe_code)]

pub(crate) mod callback;

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use callback::Callback;

use crate::fault::Fault;
use crate::handle::{Answer, State, brecv};
use crate::sources;
use crate::types::{brecv_code, brecv_error};

/// An error that lives as long as the program.
struct Constant(brecv_error);

// SAFETY: it points to constants only.
unsafe impl Sync for Constant {}

/// What went wrong if there is no receiver.
static NO_RECEIVER: Constant = Constant(brecv_error {
    code: brecv_code::BRECV_MISUSE,
    os_error: 0,
    stream: 0,
    command: 0,
    byte: 0,
    kind: c"misuse".as_ptr(),
    operation: c"".as_ptr(),
    path: c"".as_ptr(),
    message: c"the receiver is NULL".as_ptr(),
});

/// Runs `call` with the receiver and its state.
///
/// # Safety
/// `receiver` is NULL, or brecv_new returned it and it was not freed.
unsafe fn call(
    receiver: *const brecv,
    call: impl FnOnce(&brecv, &mut State) -> Answer,
) -> brecv_code {
    // SAFETY: the caller passes NULL or a receiver that lives; all of it that
    // changes is behind locks.
    match unsafe { receiver.as_ref() } {
        None => brecv_code::BRECV_MISUSE,
        Some(receiver) => receiver.call(|state| call(receiver, state)),
    }
}

/// # Safety
/// `text` is NULL or ends with NUL, and stays as it is for `'a`.
unsafe fn string<'a>(text: *const c_char, what: &str) -> Result<&'a CStr, Fault> {
    if text.is_null() {
        return Err(Fault::misuse(format!("the {what} is NULL")));
    }
    // SAFETY: it is not NULL, and the caller promises the rest.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// The path that a string is.
fn path(text: &CStr) -> &Path {
    OsStr::from_bytes(text.to_bytes()).as_ref()
}

/// # Safety
/// `fd` stays open for `'a`, or was never open.
unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>, Fault> {
    if fd < 0 {
        return Err(Fault::misuse("the descriptor is negative"));
    }
    // SAFETY: it is not -1, and the caller keeps it open. Were it closed, the
    // calls that duplicate it fail and nothing else is done with it.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Makes a receiver: set its options, then open its destination. Returns NULL
/// if there is no descriptor left.
///
/// One thread at a time can use a receiver, any thread. Only brecv_cancel can be
/// called at any time. Different receivers are independent.
///
/// Strings and errors that calls return belong to the receiver, and are valid
/// until the next call with it that is not brecv_cancel, brecv_last_error or
/// brecv_result.
#[unsafe(no_mangle)]
pub extern "C" fn brecv_new() -> *mut brecv {
    match brecv::new() {
        Ok(receiver) => Box::into_raw(Box::new(receiver)),
        Err(_) => std::ptr::null_mut(),
    }
}

/// Frees a receiver, or does nothing if it is NULL. A receive of a stream that
/// was written and not finished is cancelled; its subvolume stays incomplete.
///
/// A receiver that is in use is not freed, so that this is no way out of a
/// callback.
///
/// # Safety
/// `receiver` is NULL, or brecv_new returned it, it was not freed, and no other
/// thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_free(receiver: *mut brecv) {
    // SAFETY: the caller passes NULL or a receiver that lives.
    let idle = unsafe { receiver.as_ref() }.is_some_and(brecv::is_idle);
    if idle {
        // SAFETY: brecv_new made it of a box, and nobody uses it from here on.
        let receiver = unsafe { Box::from_raw(receiver) };
        // A panic while threads are ended is no reason to end the program.
        let free = std::panic::AssertUnwindSafe(|| drop(receiver));
        let _ = std::panic::catch_unwind(free);
    }
}

/// Sets an option, before the destination is opened. README.md of
/// btrfs-receive-c lists the options and their values. Those of which there can
/// be several are added.
///
/// Returns BRECV_MISUSE if there is no such option, or it cannot have this
/// value; the message of the error says which.
///
/// # Safety
/// `receiver` as above; `key` and `value` are NULL or end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_set(
    receiver: *mut brecv,
    key: *const c_char,
    value: *const c_char,
) -> brecv_code {
    let set = |_: &brecv, state: &mut State| {
        // SAFETY: the caller promises it.
        let key = unsafe { string(key, "key") }?;
        // SAFETY: the caller promises it.
        let value = unsafe { string(value, "value") }?;
        state.check_closed()?;
        let set = state.settings.set(key.to_bytes(), value.to_bytes());
        set.map_err(Fault::misuse)?;
        Ok(None)
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, set) }
}

/// Calls `callback` for each event of later receives; NULL ends that.
///
/// `event` is the name of the event and `json` its line, without a line feed:
/// docs/json.md describes them. They are those that `btrfs-recv-rs --json`
/// prints, except that there is no advice (`likely`, `to_do`) and no `end`, and
/// that `progress` comes with every MiB of input. The last one is `report`. The
/// strings are valid until the callback returns.
///
/// It is called on the thread that calls brecv_receive_fd, brecv_write or
/// brecv_finish, and only during that call. If it returns another value than 0,
/// the receive is cancelled; it is still called for what happens until the end.
/// What is written is received while the program goes on: events come later
/// than they happen, and the receive may have ended before it is cancelled.
///
/// Callbacks have to return: no longjmp, and no C++ exception. With this
/// receiver, they can call brecv_cancel and nothing else.
///
/// # Safety
/// `receiver` as above. `callback` is NULL, or can be called with `user` until
/// the receiver is freed or has another callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_on_event(
    receiver: *mut brecv,
    callback: Option<
        unsafe extern "C" fn(event: *const c_char, json: *const c_char, user: *mut c_void) -> c_int,
    >,
    user: *mut c_void,
) -> brecv_code {
    let set = |_: &brecv, state: &mut State| {
        state.check_not_writing()?;
        state.callback = callback.map(|function| Callback { function, user });
        Ok(None)
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, set) }
}

/// Opens `directory`, which is on a mounted btrfs, as the place where
/// subvolumes are created. Starts threads.
///
/// Returns BRECV_OPEN if that is impossible. The receiver can be used to open
/// another one then.
///
/// # Safety
/// `receiver` as above; `directory` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_open(receiver: *mut brecv, directory: *const c_char) -> brecv_code {
    let open = |receiver: &brecv, state: &mut State| {
        // SAFETY: the caller promises it.
        let directory = unsafe { string(directory, "directory") }?;
        receiver.open(state, |destination| destination.open(path(directory)))
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, open) }
}

/// As brecv_open, with a descriptor of the directory, which may be open with
/// O_PATH. The descriptor can be closed afterwards.
///
/// # Safety
/// `receiver` as above; `fd` stays open during the call, or was never open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_open_fd(receiver: *mut brecv, fd: c_int) -> brecv_code {
    let open = |receiver: &brecv, state: &mut State| {
        // SAFETY: the caller promises it.
        let directory = unsafe { descriptor(fd) }?;
        receiver.open(state, |destination| destination.open_fd(directory))
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, open) }
}

/// Receives everything that can be read from `fd`: a pipe, a socket, a file from
/// its present offset. The descriptor stays open.
///
/// Returns BRECV_OK only if every subvolume in the input is complete, on disk,
/// marked as received and read-only. brecv_result returns the report, also of a
/// receive that failed. The receiver can be used for the next input then.
///
/// # Safety
/// `receiver` as above; `fd` stays open during the call, or was never open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_receive_fd(receiver: *mut brecv, fd: c_int) -> brecv_code {
    let receive = |receiver: &brecv, state: &mut State| {
        // SAFETY: the caller promises it.
        let fd = unsafe { descriptor(fd) }?;
        let file = fd
            .try_clone_to_owned()
            .map_err(|error| Fault::input("the descriptor cannot be duplicated", &error))?;
        receiver.receive(state, File::from(file))
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, receive) }
}

/// Receives `len` bytes that follow those written before. The first call begins
/// a receive, brecv_finish ends it. Waits while there are more than 1 MiB to be
/// received. The data can be changed when this returns.
///
/// BRECV_OK says that the receive goes on, not that anything is complete. With
/// any other code it has ended, as if brecv_receive_fd had returned that; later
/// calls return the same until brecv_finish was called.
///
/// With the option stop_at_end, what is written behind the first END is
/// ignored.
///
/// # Safety
/// `receiver` as above; `data` points to `len` bytes, or `len` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_write(
    receiver: *mut brecv,
    data: *const c_void,
    len: usize,
) -> brecv_code {
    let write = |receiver: &brecv, state: &mut State| {
        let data = match len {
            0 => &[],
            _ if data.is_null() => return Err(Fault::misuse("the data is NULL").into()),
            _ if isize::try_from(len).is_err() => {
                return Err(Fault::misuse("the length is larger than memory can be").into());
            }
            // SAFETY: it is not NULL, and the caller promises that it points
            // to so many bytes.
            _ => unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) },
        };
        receiver.write(state, data)
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, write) }
}

/// Says that everything was written, and waits until it is received. Returns
/// what brecv_receive_fd would have returned for the same bytes; without
/// brecv_write before it, for an empty input.
///
/// # Safety
/// `receiver` as above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_finish(receiver: *mut brecv) -> brecv_code {
    let finish = |receiver: &brecv, state: &mut State| receiver.finish(state);
    // SAFETY: the caller promises it.
    unsafe { call(receiver, finish) }
}

/// Finds the subvolume for the UUID and the ctransid by which a stream names its
/// parent or a clone source, on the filesystem of `directory`, without a
/// receive. `uuid` is text with hyphens; `ctransid` is 0 if it is not known. The
/// options jail, refuse_writable_sources and clone_source are respected.
///
/// Returns BRECV_OK if there is one, and BRECV_FAILED with the kind "no_source" if
/// there is none. The result is JSON in either case: `wanted`; `source`, as in
/// docs/json.md; `mounted_at`, a path that leads to it, if there is one;
/// `candidates`, the first 32 subvolumes that were considered, with `reason`, the
/// best first; `exhaustive`, whether all subvolumes were looked at; and
/// `missing_capabilities`.
///
/// # Safety
/// `receiver` as above; `directory` and `uuid` are NULL or end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_resolve(
    receiver: *mut brecv,
    directory: *const c_char,
    uuid: *const c_char,
    ctransid: u64,
) -> brecv_code {
    let resolve = |_: &brecv, state: &mut State| {
        // SAFETY: the caller promises it.
        let directory = unsafe { string(directory, "directory") }?;
        // SAFETY: the caller promises it.
        let uuid = unsafe { string(uuid, "UUID") }?;
        sources::resolve(&state.settings, path(directory), uuid.to_bytes(), ctransid)
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, resolve) }
}

/// Lists the subvolumes of the filesystem of `directory`; with the option jail,
/// those below that. The result is the JSON that `btrfs-lineage inventory --json`
/// prints.
///
/// # Safety
/// `receiver` as above; `directory` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_inventory(
    receiver: *mut brecv,
    directory: *const c_char,
) -> brecv_code {
    let list = |_: &brecv, state: &mut State| {
        // SAFETY: the caller promises it.
        let directory = unsafe { string(directory, "directory") }?;
        sources::inventory(&state.settings, path(directory))
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, list) }
}

/// Chooses, on the sender, the parent and clone sources for `btrfs send` of
/// `snapshot`, a mounted read-only subvolume. `inventory` is the result of
/// brecv_inventory on the receiver. The result is the JSON that
/// `btrfs-lineage plan --json` prints.
///
/// Returns BRECV_OK also if all of the snapshot has to be sent, or the receiver
/// has it already; BRECV_FAILED if it cannot be sent.
///
/// # Safety
/// `receiver` as above; `snapshot` and `inventory` are NULL or end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_plan(
    receiver: *mut brecv,
    snapshot: *const c_char,
    inventory: *const c_char,
) -> brecv_code {
    let plan = |_: &brecv, state: &mut State| {
        // SAFETY: the caller promises it.
        let snapshot = unsafe { string(snapshot, "snapshot") }?;
        // SAFETY: the caller promises it.
        let inventory = unsafe { string(inventory, "inventory") }?;
        sources::plan(&state.settings, path(snapshot), inventory.to_bytes())
    };
    // SAFETY: the caller promises it.
    unsafe { call(receiver, plan) }
}

/// Cancels the receive, and every later one of this receiver: they return
/// BRECV_CANCELLED. The subvolume that is not complete stays writable and
/// without received UUID, or is deleted with on_error=delete.
///
/// Can be called from any thread at any time, and in a signal handler.
///
/// # Safety
/// `receiver` is NULL, or brecv_new returned it and it was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_cancel(receiver: *const brecv) {
    // SAFETY: the caller passes NULL or a receiver that lives.
    if let Some(receiver) = unsafe { receiver.as_ref() } {
        receiver.cancel();
    }
}

/// Returns the error of the last call with this receiver: its code is BRECV_OK
/// if that succeeded. Never NULL: without a receiver, the error says that.
///
/// # Safety
/// `receiver` is NULL, or brecv_new returned it and it was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_last_error(receiver: *const brecv) -> *const brecv_error {
    // SAFETY: the caller passes NULL or a receiver that lives.
    let receiver = unsafe { receiver.as_ref() };
    receiver.map_or(&raw const NO_RECEIVER.0, brecv::last_error)
}

/// Returns the JSON that the last call gave, on one line: of a receive the
/// report, whether it succeeded or not. "" if that call gives none. Never NULL.
///
/// # Safety
/// `receiver` is NULL, or brecv_new returned it and it was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brecv_result(receiver: *const brecv) -> *const c_char {
    // SAFETY: the caller passes NULL or a receiver that lives.
    let receiver = unsafe { receiver.as_ref() };
    receiver.map_or(c"".as_ptr(), brecv::result)
}

/// Returns the version of the library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn brecv_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    VERSION.as_ptr()
}
