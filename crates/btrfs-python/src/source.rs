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
    /// Its method `read`, if `read1` is used: that returns the same at the end, and
    /// where a non-blocking file has nothing yet.
    read_at_end: Option<Py<PyAny>>,
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
        let read = file.getattr(intern!(py, "read"))?.unbind();
        let (read, read_at_end) = match file.getattr_opt(intern!(py, "read1"))? {
            Some(read1) => (read1.unbind(), Some(read)),
            None => (read, None),
        };
        Ok(Self {
            read,
            read_at_end,
            opened,
            rest: PyBytes::new(py, b"").unbind(),
            at: 0,
        })
    }

    fn refill(&mut self, py: Python<'_>) -> PyResult<()> {
        // Ctrl-C: methods that are not written in Python do not look for it.
        py.check_signals()?;
        let mut bytes = bytes_of(self.read.bind(py), CHUNK)?;
        if let Some(read) = &self.read_at_end
            && bytes.as_bytes().is_empty()
        {
            bytes = bytes_of(read.bind(py), 1)?;
        }
        self.rest = bytes.unbind();
        self.at = 0;
        Ok(())
    }
}

/// What a method returns that reads `size` bytes.
fn bytes_of<'py>(read: &Bound<'py, PyAny>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = read.call1((size,))?;
    bytes.cast_into::<PyBytes>().map_err(|_| {
        PyTypeError::new_err(
            "read() of the source has to return bytes, and must not be non-blocking",
        )
    })
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
