//! Input from whatever Python can read.

use std::io::{self, Read};

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bytes asked for at a time; each time is a call of Python.
const CHUNK: usize = 256 << 10;

/// A binary file object. Read by Python, so that signals are handled while it
/// waits; what it raises is in the error ([`crate::error::of_io`]).
pub(crate) struct Source {
    /// Its method `read1`, which returns what there is, or `read`.
    read: Py<PyAny>,
    /// A file that was opened here, to be closed.
    opened: Option<Py<PyAny>>,
    /// What was read and not passed on.
    rest: Py<PyBytes>,
    at: usize,
}

impl Source {
    /// A path, a file descriptor, or an object with a method `read`.
    pub(crate) fn new(source: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = source.py();
        let io = py.import(intern!(py, "io"))?;
        let has_read = source.hasattr(intern!(py, "read"))?;
        let mut opened = None;
        let file = if has_read {
            source.clone()
        } else if source.extract::<i32>().is_ok() {
            io.call_method1(intern!(py, "FileIO"), (source, "rb", false))?
        } else {
            let file = io.call_method1(intern!(py, "open"), (source, "rb"))?;
            opened = Some(file.clone().unbind());
            file
        };
        if file.is_instance(&io.getattr(intern!(py, "TextIOBase"))?)? {
            return Err(PyTypeError::new_err(
                "a text file cannot be a stream: open it in binary mode",
            ));
        }
        let read = match file.getattr_opt(intern!(py, "read1"))? {
            Some(read) => read,
            None => file.getattr(intern!(py, "read"))?,
        };
        Ok(Self {
            read: read.unbind(),
            opened,
            rest: PyBytes::new(py, b"").unbind(),
            at: 0,
        })
    }

    fn refill(&mut self, py: Python<'_>) -> PyResult<()> {
        let read = self.read.call1(py, (CHUNK,))?;
        let bytes = read.bind(py).cast::<PyBytes>().map_err(|_| {
            PyTypeError::new_err(
                "read() of the source has to return bytes, and must not be non-blocking",
            )
        })?;
        self.rest = bytes.clone().unbind();
        self.at = 0;
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(file) = &self.opened {
            Python::attach(|py| {
                // An object may be dropped while an exception is on its way, which
                // no call would survive.
                let pending = PyErr::take(py);
                // Nothing was written to it, so nothing is lost if that fails.
                let _ = file.call_method0(py, intern!(py, "close"));
                if let Some(pending) = pending {
                    pending.restore(py);
                }
            });
        }
    }
}

impl Read for Source {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Python::attach(|py| {
            if self.at == self.rest.as_bytes(py).len() {
                self.refill(py).map_err(io::Error::other)?;
            }
            let mut rest = self.rest.as_bytes(py).get(self.at..).unwrap_or_default();
            let read = rest.read(room)?;
            self.at += read;
            Ok(read)
        })
    }
}
