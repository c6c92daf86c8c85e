//! What stands behind the pointer that C programs have.

use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use btrfs_receive::resume::ResumableReceiver;
use btrfs_receive::{Cancel, Receiver};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::fault::{Fault, Stored, text};
use crate::input::Input;
use crate::options::Settings;
use crate::push::{self, Pushed};
use crate::receive::{Received, Sink, event_name, receive};
use crate::sys::Callback;
use crate::types::{brecv_code, brecv_error};

/// Receives streams into one directory.
#[allow(non_camel_case_types)]
#[derive(Debug)]
pub struct brecv {
    cancel: Cancel,
    /// Readable when `cancel` was set.
    wakeup: OwnedFd,
    state: Mutex<State>,
    error: Mutex<Box<Stored>>,
    result: Mutex<CString>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) callback: Option<Callback>,
    destination: Option<Destination>,
    /// After a panic nothing can be relied on.
    is_broken: bool,
}

/// A destination that is open.
struct Destination {
    work: Work,
}

enum Work {
    /// Nothing is under way.
    Idle(push::Receiver),
    /// The caller writes a stream.
    Pushing(Pushed),
    /// The caller writes a stream, and its receive has ended: what more there is
    /// of it changes nothing.
    Ended(push::Receiver, Received),
    /// The receiver is gone.
    Gone,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Destination").finish_non_exhaustive()
    }
}

/// What a call gives: JSON, or nothing.
pub(crate) type Answer = Result<Option<Vec<u8>>, Box<Failed>>;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) fault: Fault,
    /// The JSON that a call gives although it failed.
    pub(crate) json: Option<Vec<u8>>,
}

impl From<Fault> for Box<Failed> {
    fn from(fault: Fault) -> Self {
        Self::new(Failed { fault, json: None })
    }
}

impl brecv {
    /// # Errors
    /// There is no descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            cancel: Cancel::new(),
            wakeup: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            state: Mutex::default(),
            error: Mutex::new(Box::new(Stored::none())),
            result: Mutex::default(),
        })
    }

    /// Runs one call of C, which a panic does not leave.
    pub(crate) fn call(&self, call: impl FnOnce(&mut State) -> Answer) -> brecv_code {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return brecv_code::BRECV_BUSY,
        };
        let answer = if state.is_broken {
            Err(Fault::bug().into())
        } else {
            let result = catch_unwind(AssertUnwindSafe(|| call(&mut state)));
            result.unwrap_or_else(|_| Err(Fault::bug().into()))
        };
        let (json, fault) = match answer {
            Ok(json) => (json, None),
            Err(failed) => (failed.json, Some(failed.fault)),
        };
        let code = fault.as_ref().map_or(brecv_code::BRECV_OK, Fault::code);
        state.is_broken |= code == brecv_code::BRECV_BUG;
        *lock(&self.result) = text(&json.unwrap_or_default());
        **lock(&self.error) = fault.as_ref().map_or_else(Stored::none, Stored::from);
        code
    }

    /// Only what a signal handler may do.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
        // Full is readable too.
        let _ = rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes());
    }

    /// Whether no call is under way.
    pub(crate) fn is_idle(&self) -> bool {
        !matches!(
            self.state.try_lock(),
            Err(std::sync::TryLockError::WouldBlock)
        )
    }

    /// The error of the last call, valid until the next.
    pub(crate) fn last_error(&self) -> *const brecv_error {
        std::ptr::from_ref(lock(&self.error).error())
    }

    /// The JSON of the last call, valid until the next.
    pub(crate) fn result(&self) -> *const c_char {
        lock(&self.result).as_ptr()
    }

    pub(crate) fn open(&self, state: &mut State, path: &Path) -> Answer {
        state.check_not_open()?;
        let directory = open_directory(path)?;
        self.open_in(state, directory)
    }

    /// `directory` stays the caller's.
    pub(crate) fn open_fd(&self, state: &mut State, directory: impl AsFd) -> Answer {
        state.check_not_open()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(directory, ".", flags, Mode::empty())
            .map_err(|error| Fault::open("open", &error.into()))?;
        self.open_in(state, directory)
    }

    fn open_in(&self, state: &mut State, directory: OwnedFd) -> Answer {
        let settings = &state.settings;
        let opened = settings.destination().open_fd(&directory);
        let destination = opened.map_err(|error| Fault::from(&error))?;
        let options = settings.receiver(self.cancel.clone());
        let receiver: push::Receiver = match settings.resume() {
            None => Box::new(Receiver::with_options(destination, options)),
            Some(resume) => {
                let receiver = ResumableReceiver::new(destination, options, resume);
                Box::new(receiver.map_err(|error| Fault::unusable(error.to_string()))?)
            }
        };
        state.destination = Some(Destination {
            work: Work::Idle(receiver),
        });
        Ok(None)
    }

    /// Receives all that `file` holds.
    pub(crate) fn receive(&self, state: &mut State, file: File) -> Answer {
        state.check_not_writing()?;
        let (destination, mut sink) = state.parts(&self.cancel)?;
        let Work::Idle(receiver) = &mut destination.work else {
            return Err(not_open().into());
        };
        let mut input = Input::new(file, &self.cancel, self.wakeup.as_fd());
        answer(receive(&mut **receiver, &mut input, &mut sink))
    }

    /// Receives what follows what was written before.
    pub(crate) fn write(&self, state: &mut State, data: &[u8]) -> Answer {
        let (destination, mut sink) = state.parts(&self.cancel)?;
        destination.begin(&self.cancel, &sink)?;
        if let Work::Pushing(pushed) = &destination.work {
            pushed.write(data, &mut sink);
            if pushed.is_over() {
                destination.end(&mut sink)?;
            }
        }
        match &destination.work {
            Work::Ended(_, received) => match &received.fault {
                Some(_) => answer(received.clone()),
                None => Ok(None),
            },
            Work::Idle(_) | Work::Pushing(_) | Work::Gone => Ok(None),
        }
    }

    /// Waits for what was written to be received.
    pub(crate) fn finish(&self, state: &mut State) -> Answer {
        let (destination, mut sink) = state.parts(&self.cancel)?;
        destination.begin(&self.cancel, &sink)?;
        destination.end(&mut sink)?;
        match std::mem::replace(&mut destination.work, Work::Gone) {
            Work::Ended(receiver, received) => {
                destination.work = Work::Idle(receiver);
                answer(received)
            }
            Work::Idle(_) | Work::Pushing(_) | Work::Gone => Err(not_open().into()),
        }
    }
}

/// Ends what is under way.
impl Drop for brecv {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(destination) = state.destination.take()
            && let Work::Pushing(pushed) = destination.work
        {
            pushed.abandon();
        }
    }
}

impl State {
    pub(crate) fn check_not_open(&self) -> Result<(), Fault> {
        match &self.destination {
            None => Ok(()),
            Some(_) => Err(Fault::misuse("the destination is open already")),
        }
    }

    /// A stream that is written has the callback that it began with.
    pub(crate) fn check_not_writing(&self) -> Result<(), Fault> {
        let work = self.destination.as_ref().map(|it| &it.work);
        match work {
            Some(Work::Pushing(_) | Work::Ended(..)) => Err(Fault::misuse(
                "a stream is being written to this receiver: brecv_finish ends it",
            )),
            Some(Work::Idle(_) | Work::Gone) | None => Ok(()),
        }
    }

    fn parts<'a>(
        &'a mut self,
        cancel: &'a Cancel,
    ) -> Result<(&'a mut Destination, ToCaller<'a>), Fault> {
        let callback = self.callback.as_ref();
        let destination = self.destination.as_mut().ok_or_else(not_open)?;
        Ok((destination, ToCaller { callback, cancel }))
    }
}

impl Destination {
    /// Starts a receive of what is written, unless there is one.
    fn begin(&mut self, cancel: &Cancel, sink: &ToCaller<'_>) -> Result<(), Fault> {
        self.work = match std::mem::replace(&mut self.work, Work::Gone) {
            Work::Idle(receiver) => {
                let pushed = Pushed::start(receiver, cancel, sink.is_open());
                let pushed = pushed.map_err(|error| Fault::input("thread", &error))?;
                Work::Pushing(pushed)
            }
            Work::Gone => return Err(not_open()),
            busy @ (Work::Pushing(_) | Work::Ended(..)) => busy,
        };
        Ok(())
    }

    /// Waits for the end of the receive of what is written.
    fn end(&mut self, sink: &mut ToCaller<'_>) -> Result<(), Fault> {
        self.work = match std::mem::replace(&mut self.work, Work::Gone) {
            Work::Pushing(pushed) => match pushed.end(sink) {
                (Some(receiver), Ok(received)) => Work::Ended(receiver, received),
                (_, Err(fault)) => return Err(fault),
                (None, Ok(_)) => return Err(Fault::bug()),
            },
            other => other,
        };
        Ok(())
    }
}

/// Lines for the callback.
struct ToCaller<'a> {
    callback: Option<&'a Callback>,
    cancel: &'a Cancel,
}

impl Sink for ToCaller<'_> {
    fn is_open(&self) -> bool {
        self.callback.is_some()
    }

    fn line(&mut self, line: Vec<u8>) {
        if let Some(callback) = self.callback {
            let (event, line) = (text(event_name(&line)), text(&line));
            if callback.call(&event, &line) != 0 {
                self.cancel.cancel();
            }
        }
    }
}

fn answer(received: Received) -> Answer {
    match received.fault {
        None => Ok(Some(received.report)),
        Some(fault) => Err(Box::new(Failed {
            fault,
            json: Some(received.report),
        })),
    }
}

fn not_open() -> Fault {
    Fault::misuse("no destination is open")
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(|error| Fault::open(&format!("open {}", path.display()), &error.into()))
}

/// The path that a C string is.
pub(crate) fn path(text: &CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(text.to_bytes()).into()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_the_call_and_the_receiver() {
        let receiver = brecv::new().unwrap();
        let code = receiver.call(|_| panic!("as the test wants"));
        assert_eq!(code, brecv_code::BRECV_BUG);
        assert_eq!(receiver.call(|_| Ok(None)), brecv_code::BRECV_BUG);
        assert_eq!(lock(&receiver.error).error().code, brecv_code::BRECV_BUG);
    }

    #[test]
    fn a_call_within_a_call_is_refused() {
        let receiver = brecv::new().unwrap();
        let code = receiver.call(|_| {
            assert_eq!(receiver.call(|_| Ok(None)), brecv_code::BRECV_BUSY);
            assert!(!receiver.is_idle());
            receiver.cancel();
            Ok(Some(b"{}".to_vec()))
        });
        assert_eq!(code, brecv_code::BRECV_OK);
        assert_eq!(lock(&receiver.result).to_bytes(), b"{}");
        assert!(receiver.cancel.is_cancelled());
    }
}
