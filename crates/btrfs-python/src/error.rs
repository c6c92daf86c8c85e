//! Exceptions.

use std::io;

use btrfs_sendstream::{ErrorKind, Position};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError};
use pyo3::prelude::*;
use serde::Serialize;

create_exception!(btrfs_recv, Error, PyException);
create_exception!(btrfs_recv, StreamError, Error);
create_exception!(btrfs_recv, ReceiveError, Error);

/// What Python raised below Rust code, or the error of the system.
pub(crate) fn of_io(error: &io::Error) -> PyErr {
    let raised = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<PyErr>());
    match (raised, error.raw_os_error()) {
        (Some(raised), _) => Python::attach(|py| raised.clone_ref(py)),
        (None, Some(number)) => PyOSError::new_err((number, error.to_string())),
        (None, None) => PyOSError::new_err(error.to_string()),
    }
}

/// An error of a stream, with its place.
pub(crate) fn of_stream(error: &btrfs_sendstream::Error) -> PyErr {
    match error.kind() {
        ErrorKind::Io(io) => of_io(io),
        _ => at(&error.to_string(), error.position()),
    }
}

/// A [`StreamError`] at a place, if that is known.
pub(crate) fn at(text: &str, position: Option<Position>) -> PyErr {
    let raised = StreamError::new_err(text.to_owned());
    Python::attach(|py| {
        let value = raised.value(py);
        let number = |of: fn(Position) -> u64| position.map(of);
        value.setattr("stream", number(|at| at.stream))?;
        value.setattr("command", number(|at| at.command))?;
        value.setattr("byte", number(|at| at.offset))?;
        Ok(raised.clone_ref(py))
    })
    .unwrap_or_else(|error| error)
}

/// Any other error. Its text has those of its causes.
pub(crate) fn other(error: &impl std::error::Error) -> PyErr {
    Error::new_err(error.to_string())
}

/// A value of the libraries as dictionaries, lists and strings.
pub(crate) fn plain(py: Python<'_>, value: &impl Serialize) -> PyResult<Py<PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| other(&error))?;
    let json = py.import("json")?;
    Ok(json.call_method1("loads", (text,))?.unbind())
}
