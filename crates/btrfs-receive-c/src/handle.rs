//! What stands behind the pointer that C programs have.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, TryLockError};

use btrfs_receive::resume::ResumableReceiver;
use btrfs_receive::{BtrfsDestination, BtrfsDestinationBuilder, Cancel, OpenError, Receiver};
use rustix::event::{EventfdFlags, eventfd};

use crate::fault::{Fault, Stored, text};
use crate::input::Input;
use crate::options::Settings;
use crate::push::{self, Pushed};
use crate::receive::{Received, Sink, event_name, receive};
use crate::sys::callback::Callback;
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
    work: Work,
    /// After a panic nothing can be relied on.
    is_broken: bool,
}

/// What is done in the destination.
#[derive(Default)]
enum Work {
    /// No destination is open.
    #[default]
    Closed,
    /// Nothing is under way.
    Idle(push::Receiver),
    /// The caller writes a stream.
    Pushing(Pushed),
    /// The caller writes a stream, and its receive has ended: what more there is
    /// of it changes nothing.
    Ended(push::Receiver, Received),
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "Closed",
            Self::Idle(_) => "Idle",
            Self::Pushing(_) => "Pushing",
            Self::Ended(..) => "Ended",
        })
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
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return brecv_code::BRECV_BUSY,
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
        !matches!(self.state.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// The error of the last call, valid until the next.
    pub(crate) fn last_error(&self) -> *const brecv_error {
        std::ptr::from_ref(lock(&self.error).error())
    }

    /// The JSON of the last call, valid until the next.
    pub(crate) fn result(&self) -> *const c_char {
        lock(&self.result).as_ptr()
    }

    /// Opens a destination as `open` does.
    pub(crate) fn open(
        &self,
        state: &mut State,
        open: impl FnOnce(BtrfsDestinationBuilder) -> Result<BtrfsDestination, OpenError>,
    ) -> Answer {
        state.check_closed()?;
        let settings = &state.settings;
        let destination = open(settings.destination()).map_err(|error| Fault::from(&error))?;
        let options = settings.receiver(self.cancel.clone());
        let receiver: push::Receiver = match settings.resume() {
            None => Box::new(Receiver::with_options(destination, options)),
            Some(resume) => {
                let receiver = ResumableReceiver::new(destination, options, resume);
                Box::new(receiver.map_err(|error| Fault::unusable(error.to_string()))?)
            }
        };
        state.work = Work::Idle(receiver);
        Ok(None)
    }

    /// Receives all that `file` holds.
    pub(crate) fn receive(&self, state: &mut State, file: File) -> Answer {
        state.check_not_writing()?;
        let (work, mut sink) = state.parts(&self.cancel);
        let Work::Idle(receiver) = work else {
            return Err(closed().into());
        };
        let mut input = Input::new(file, &self.cancel, self.wakeup.as_fd());
        answer(receive(&mut **receiver, &mut input, &mut sink))
    }

    /// Receives what follows what was written before.
    pub(crate) fn write(&self, state: &mut State, data: &[u8]) -> Answer {
        let (work, mut sink) = state.parts(&self.cancel);
        work.begin(&mut sink)?;
        if let Work::Pushing(pushed) = work {
            pushed.write(data, &mut sink);
            if pushed.is_over() {
                work.end(&mut sink)?;
            }
        }
        match work {
            Work::Ended(_, received) if received.fault.is_some() => answer(received.clone()),
            Work::Ended(..) | Work::Pushing(_) => Ok(None),
            Work::Closed | Work::Idle(_) => Err(closed().into()),
        }
    }

    /// Waits for what was written to be received.
    pub(crate) fn finish(&self, state: &mut State) -> Answer {
        let (work, mut sink) = state.parts(&self.cancel);
        work.begin(&mut sink)?;
        work.end(&mut sink)?;
        match std::mem::take(work) {
            Work::Ended(receiver, received) => {
                *work = Work::Idle(receiver);
                answer(received)
            }
            Work::Closed | Work::Idle(_) | Work::Pushing(_) => Err(closed().into()),
        }
    }
}

/// Ends what is under way.
impl Drop for brecv {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Work::Pushing(pushed) = std::mem::take(&mut state.work) {
            pushed.abandon();
        }
    }
}

impl State {
    pub(crate) fn check_closed(&self) -> Result<(), Fault> {
        match &self.work {
            Work::Closed => Ok(()),
            Work::Idle(_) | Work::Pushing(_) | Work::Ended(..) => {
                Err(Fault::misuse("the destination is open already"))
            }
        }
    }

    /// A stream that is written has the callback that it began with.
    pub(crate) fn check_not_writing(&self) -> Result<(), Fault> {
        match &self.work {
            Work::Pushing(_) | Work::Ended(..) => Err(Fault::misuse(
                "a stream is being written to this receiver: brecv_finish ends it",
            )),
            Work::Closed | Work::Idle(_) => Ok(()),
        }
    }

    fn parts<'a>(&'a mut self, cancel: &'a Cancel) -> (&'a mut Work, ToCaller<'a>) {
        let callback = self.callback.as_ref();
        (&mut self.work, ToCaller { callback, cancel })
    }
}

impl Work {
    /// Starts a receive of what is written, unless there is one.
    fn begin(&mut self, sink: &mut ToCaller<'_>) -> Result<(), Fault> {
        *self = match std::mem::take(self) {
            Self::Closed => return Err(closed()),
            Self::Idle(receiver) => {
                let pushed = Pushed::start(receiver, sink.cancel, sink.is_open());
                Self::Pushing(pushed.map_err(|error| Fault::input("thread", &error))?)
            }
            under_way @ (Self::Pushing(_) | Self::Ended(..)) => under_way,
        };
        Ok(())
    }

    /// Waits for the end of the receive of what is written.
    fn end(&mut self, sink: &mut ToCaller<'_>) -> Result<(), Fault> {
        *self = match std::mem::take(self) {
            Self::Pushing(pushed) => {
                let (receiver, received) = pushed.end(sink)?;
                Self::Ended(receiver, received)
            }
            other @ (Self::Closed | Self::Idle(_) | Self::Ended(..)) => other,
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

fn closed() -> Fault {
    Fault::misuse("no destination is open")
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
