//! Receiving.

use std::path::PathBuf;

use btrfs_receive::{
    BtrfsDestination, Cancel, DirectoryDestination, Event, Observer, OnError, Options, Receiver,
    Report, StopReason,
};
use btrfs_sendstream::{Bytes, SubvolumeName};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::{ReceiveError, of_stream, other, plain};
use crate::source::Source;

/// Passes events to Python, and stops the receive if that raises.
struct Progress {
    callback: Option<Py<PyAny>>,
    cancel: Cancel,
    raised: Option<PyErr>,
}

impl Observer for Progress {
    fn event(&mut self, event: Event<'_>) {
        if self.raised.is_some() || matches!(event, Event::Command { .. }) {
            return;
        }
        let pass_on = |py: Python<'_>| {
            // Ctrl-C, also while the source is never waited for.
            py.check_signals()?;
            match &self.callback {
                Some(callback) => callback.call1(py, (plain(py, &event)?,)).map(|_| ()),
                None => Ok(()),
            }
        };
        if let Err(raised) = Python::attach(pass_on) {
            self.raised = Some(raised);
            self.cancel.cancel();
        }
    }
}

/// Receives a stream.
#[pyfunction]
#[pyo3(signature = (source, directory, *, progress = None, name = None, parent = None, on_error = "keep", max_errors = 1, refuse_writable_sources = false, force_decompress = false, zeros_as_holes = false, extract = false))]
#[expect(clippy::too_many_arguments, reason = "Python's are by name")]
pub(crate) fn receive(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    directory: PathBuf,
    progress: Option<Py<PyAny>>,
    name: Option<&[u8]>,
    parent: Option<PathBuf>,
    on_error: &str,
    max_errors: u64,
    refuse_writable_sources: bool,
    force_decompress: bool,
    zeros_as_holes: bool,
    extract: bool,
) -> PyResult<Py<PyAny>> {
    let cancel = Cancel::new();
    let on_error = match on_error {
        "keep" => OnError::Keep,
        "delete" => OnError::Delete,
        _ => return Err(PyValueError::new_err("on_error is \"keep\" or \"delete\"")),
    };
    if extract
        && (parent.is_some() || refuse_writable_sources || force_decompress || zeros_as_holes)
    {
        return Err(PyValueError::new_err(
            "an option needs btrfs, and cannot be used with extract",
        ));
    }
    let mut options = Options::new()
        .with_cancel(cancel.clone())
        .with_on_error(on_error)
        .with_max_errors(max_errors);
    if let Some(name) = name {
        let name = SubvolumeName::parse(Bytes::copy_from_slice(name));
        options = options.with_name(name.map_err(|error| other(&error))?);
    }
    let mut source = Source::new(source)?;
    let mut observer = Progress {
        callback: progress,
        cancel,
        raised: None,
    };
    let received = py.detach(|| -> Result<_, PyErr> {
        if extract {
            let destination =
                DirectoryDestination::open(&directory).map_err(|error| other(&error))?;
            return Ok(
                Receiver::with_options(destination, options).receive(&mut source, &mut observer)
            );
        }
        let mut builder = BtrfsDestination::builder()
            .refuse_writable_sources(refuse_writable_sources)
            .force_decompress(force_decompress)
            .zeros_as_holes(zeros_as_holes);
        if let Some(parent) = parent {
            builder = builder.parent(parent);
        }
        let destination = builder.open(&directory).map_err(|error| other(&error))?;
        Ok(Receiver::with_options(destination, options).receive(&mut source, &mut observer))
    })?;
    match received {
        Ok(report) => match observer.raised {
            // The last event raised: everything is received all the same.
            Some(raised) => Err(with_report(py, raised, &report)),
            None => plain(py, &report),
        },
        Err(error) => {
            let raised = match (observer.raised, &error.reason) {
                (Some(raised), _) => raised,
                (None, StopReason::Stream(stream)) if is_io(stream) => of_stream(stream),
                _ => ReceiveError::new_err(error.to_string()),
            };
            Err(with_report(py, raised, &error.report))
        }
    }
}

fn is_io(error: &btrfs_sendstream::Error) -> bool {
    matches!(error.kind(), btrfs_sendstream::ErrorKind::Io(_))
}

/// An exception with the report as an attribute.
fn with_report(py: Python<'_>, raised: PyErr, report: &Report) -> PyErr {
    // An exception of the caller may refuse it, and says what happened all the same.
    let _ = plain(py, report).and_then(|report| raised.value(py).setattr("report", report));
    raised
}
