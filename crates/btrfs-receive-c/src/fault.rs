//! Errors as C programs get them: a code, a text and a place.

use std::ffi::CString;
use std::io;

use btrfs_receive::{Failure, OpenError, ReceiveError, StopReason};
use btrfs_sendstream::{ErrorKind, Position};
use serde::Serialize;
use serde_json::Value;

use crate::types::{brecv_code, brecv_error};

/// Why a call failed.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    code: brecv_code,
    os_error: Option<i32>,
    at: Option<Position>,
    kind: Box<str>,
    operation: &'static str,
    path: Box<[u8]>,
    message: Box<str>,
}

impl Fault {
    fn new(code: brecv_code, kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            os_error: None,
            at: None,
            kind: kind.into().into(),
            operation: "",
            path: Box::default(),
            message: message.into().into(),
        }
    }

    /// A mistake of the caller.
    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self::new(brecv_code::BRECV_MISUSE, "misuse", message)
    }

    /// The library panicked.
    pub(crate) fn bug() -> Self {
        let message = "the library panicked; this is a bug in it";
        Self::new(brecv_code::BRECV_BUG, "bug", message)
    }

    /// What is needed to read the input cannot be had.
    pub(crate) fn input(what: &str, error: &io::Error) -> Self {
        Self {
            os_error: error.raw_os_error(),
            ..Self::new(brecv_code::BRECV_IO, "io", format!("{what}: {error}"))
        }
    }

    /// `error`, met with what `name` names.
    pub(crate) fn open(name: &str, error: &io::Error) -> Self {
        Self {
            os_error: error.raw_os_error(),
            ..Self::unusable(format!("{name}: {error}"))
        }
    }

    /// A directory or its filesystem cannot be used.
    pub(crate) fn unusable(message: impl Into<String>) -> Self {
        Self::new(brecv_code::BRECV_OPEN, "open", message)
    }

    /// `error` is about something that the stream or the caller wants.
    pub(crate) fn failed(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(brecv_code::BRECV_FAILED, kind, message)
    }

    fn of_failure(failure: &Failure) -> Self {
        let cause = fields(&failure.cause);
        Self {
            os_error: os_error(&cause),
            at: Some(failure.at),
            operation: failure.operation,
            path: failure.path.as_ref().into(),
            ..Self::failed(kind(&cause), failure.to_string())
        }
    }

    pub(crate) fn code(&self) -> brecv_code {
        self.code
    }
}

impl From<&ReceiveError> for Fault {
    fn from(error: &ReceiveError) -> Self {
        match (&error.reason, &error.first_failure) {
            (StopReason::Stream(error), _) => {
                let (code, os_error) = match error.kind() {
                    ErrorKind::Io(error) => (brecv_code::BRECV_IO, error.raw_os_error()),
                    _ => (brecv_code::BRECV_STREAM, None),
                };
                Self {
                    at: error.position(),
                    os_error,
                    ..Self::new(code, kind(&fields(error)), error.to_string())
                }
            }
            (StopReason::Failures, Some(failure)) => Self::of_failure(failure),
            (StopReason::Cancelled, _) => {
                let (code, kind) = (brecv_code::BRECV_CANCELLED, "cancelled");
                Self::new(code, kind, error.to_string())
            }
            (_, _) => Self::failed("failures", error.to_string()),
        }
    }
}

impl From<&OpenError> for Fault {
    fn from(error: &OpenError) -> Self {
        let os_error = match error {
            OpenError::System { error, .. } | OpenError::Source { error, .. } => {
                error.raw_os_error()
            }
            _ => None,
        };
        Self {
            os_error,
            ..Self::unusable(error.to_string())
        }
    }
}

/// What the JSON of an error says.
fn fields(error: &impl Serialize) -> Value {
    serde_json::to_value(error).unwrap_or_default()
}

fn kind(fields: &Value) -> String {
    let kind = fields.get("kind").and_then(Value::as_str);
    kind.unwrap_or_default().to_owned()
}

/// `errno` of a cause, or of the cause within it.
fn os_error(cause: &Value) -> Option<i32> {
    let errno = cause.get("errno").and_then(Value::as_i64);
    match errno {
        Some(errno) => i32::try_from(errno).ok(),
        None => os_error(cause.get("cause")?),
    }
}

/// An error for C, with the strings that it points to.
#[derive(Debug)]
pub(crate) struct Stored {
    error: brecv_error,
    _strings: [CString; 4],
}

impl Stored {
    pub(crate) fn error(&self) -> &brecv_error {
        &self.error
    }

    /// The last call succeeded.
    pub(crate) fn none() -> Self {
        Self::from(&Fault::new(brecv_code::BRECV_OK, "", ""))
    }
}

impl From<&Fault> for Stored {
    fn from(fault: &Fault) -> Self {
        let strings = [
            text(fault.kind.as_bytes()),
            text(fault.operation.as_bytes()),
            text(&fault.path),
            text(fault.message.as_bytes()),
        ];
        let [kind, operation, path, message] = strings.each_ref().map(|it| it.as_ptr());
        let at = fault.at.unwrap_or_default();
        Self {
            error: brecv_error {
                code: fault.code,
                os_error: fault.os_error.unwrap_or(0),
                stream: at.stream,
                command: at.command,
                byte: at.offset,
                kind,
                operation,
                path,
                message,
            },
            _strings: strings,
        }
    }
}

/// The bytes as a C string, up to a NUL. Paths in streams have none, and
/// messages show them escaped.
pub(crate) fn text(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    CString::new(bytes).unwrap_or_default()
}
