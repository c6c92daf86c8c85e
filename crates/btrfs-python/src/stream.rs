//! Streams without a filesystem.

use std::io::{self, Write};

use btrfs_sendstream::inspect::{DiffError, DiffOptions, Differ, Verifier, VerifyOptions};
use btrfs_sendstream::transform::{self, Identity, Rewrite, TransformErrorKind};
use btrfs_sendstream::{Bytes, Item, SubvolumeName, Uuid};
use pyo3::exceptions::PyBlockingIOError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::command::Command;
use crate::error::{at, of_io, of_stream, other, plain};
use crate::source::Source;

/// Iterates over the commands of a stream.
#[pyclass(module = "btrfs_recv")]
pub(crate) struct Reader(btrfs_sendstream::Reader<Source>);

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (source, *, allow_unknown = false))]
    fn new(source: &Bound<'_, PyAny>, allow_unknown: bool) -> PyResult<Self> {
        let builder = btrfs_sendstream::Reader::builder().allow_unknown(allow_unknown);
        Ok(Self(builder.build(Source::new(source)?)))
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&mut self) -> PyResult<Option<Command>> {
        loop {
            match self.0.next_owned().map_err(|error| of_stream(&error))? {
                Some(Item::Command(command)) => return Ok(Some(command.into())),
                Some(Item::Unknown(command)) => return Ok(Some(command.into())),
                // The version is an attribute.
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    #[getter]
    fn version(&self) -> Option<u32> {
        self.0.version().map(|version| version.number())
    }

    #[getter]
    fn stream(&self) -> u64 {
        self.0.position().stream
    }

    #[getter]
    fn command(&self) -> u64 {
        self.0.position().command
    }

    #[getter]
    fn byte(&self) -> u64 {
        self.0.position().offset
    }

    #[getter]
    fn consumed(&self) -> u64 {
        self.0.consumed()
    }
}

/// Verifies a stream.
#[pyfunction]
pub(crate) fn verify(py: Python<'_>, source: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let source = Source::new(source)?;
    let report = py.detach(|| Verifier::new(VerifyOptions::default()).verify(source));
    match report.stream_error().map(btrfs_sendstream::Error::kind) {
        // That the source cannot be read says nothing about the stream.
        Some(btrfs_sendstream::ErrorKind::Io(error)) => Err(of_io(error)),
        _ => plain(py, &report),
    }
}

/// Lists what a stream changes.
#[pyfunction]
pub(crate) fn diff(py: Python<'_>, source: &Bound<'_, PyAny>) -> PyResult<Vec<Py<PyAny>>> {
    let mut differ = Differ::with_options(Source::new(source)?, DiffOptions::default());
    let mut all = Vec::new();
    loop {
        match py.detach(|| differ.next_difference()) {
            Ok(Some(difference)) => all.push(plain(py, &difference)?),
            Ok(None) => return Ok(all),
            Err(DiffError::Stream(error)) => return Err(of_stream(&error)),
            Err(error) => return Err(other(&error)),
        }
    }
}

/// Where a rewritten stream goes.
struct Target {
    file: Py<PyAny>,
    /// It is an `io.RawIOBase`.
    is_raw: bool,
}

impl Target {
    fn new(file: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = file.py();
        let raw = py
            .import(intern!(py, "io"))?
            .getattr(intern!(py, "RawIOBase"))?;
        Ok(Self {
            is_raw: file.is_instance(&raw)?,
            file: file.clone().unbind(),
        })
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = |py: Python<'_>| -> PyResult<Option<usize>> {
            let written = self
                .file
                .call_method1(py, "write", (PyBytes::new(py, bytes),))?;
            match written.extract(py)? {
                // Which is how these say that they have written nothing.
                None if self.is_raw => Err(PyBlockingIOError::new_err(
                    "the target is non-blocking, and takes no more now",
                )),
                written => Ok(written),
            }
        };
        // A raw file may write less; another that returns nothing has written all.
        let written = Python::attach(write).map_err(io::Error::other)?;
        Ok(written.unwrap_or(bytes.len()).min(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives a stream another name, UUID, transid or parent.
#[pyfunction]
#[pyo3(signature = (source, target, *, name = None, uuid = None, ctransid = None, parent_uuid = None, parent_ctransid = None))]
#[expect(clippy::too_many_arguments, reason = "Python's are by name")]
pub(crate) fn rewrite(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    target: &Bound<'_, PyAny>,
    name: Option<&[u8]>,
    uuid: Option<Uuid>,
    ctransid: Option<u64>,
    parent_uuid: Option<Uuid>,
    parent_ctransid: Option<u64>,
) -> PyResult<()> {
    let identity = |uuid, ctransid| Identity { uuid, ctransid };
    let mut rewrite = Rewrite::new()
        .own(identity(uuid, ctransid))
        .parent(identity(parent_uuid, parent_ctransid));
    if let Some(name) = name {
        let name = SubvolumeName::parse(Bytes::copy_from_slice(name));
        rewrite = rewrite.name(name.map_err(|error| other(&error))?);
    }
    let mut reader = btrfs_sendstream::Reader::new(Source::new(source)?);
    let target = Target::new(target)?;
    py.detach(|| {
        let mut writer = btrfs_sendstream::Writer::new(target);
        transform::run(&mut reader, &mut rewrite, &mut writer).map_err(|error| {
            match error.kind() {
                TransformErrorKind::Input(error) | TransformErrorKind::Output(error) => {
                    of_stream(error)
                }
                _ => at(&error.to_string(), error.position()),
            }
        })?;
        writer
            .finish()
            .map(|_| ())
            .map_err(|error| of_stream(error.error()))
    })
}
