//! What is on a mounted btrfs.

use std::fs::File;
use std::path::PathBuf;

use btrfs_lineage::{Inventory, PlanOptions, Resolver};
use pyo3::prelude::*;
use serde::de::DeserializeOwned;

use crate::error::{of_io, other, plain};

/// Lists the subvolumes of a filesystem.
#[pyfunction]
pub(crate) fn inventory(py: Python<'_>, path: PathBuf) -> PyResult<Py<PyAny>> {
    let inventory =
        py.detach(|| -> std::io::Result<_> { Ok(Resolver::new(File::open(path)?)?.inventory()) });
    plain(py, &inventory.map_err(|error| of_io(&error))?)
}

/// Finds the parent and the clone sources to send a snapshot with.
#[pyfunction]
#[pyo3(signature = (snapshot, sender, receiver, *, trust_relayed = false, max_clone_sources = None))]
pub(crate) fn plan(
    py: Python<'_>,
    snapshot: u64,
    sender: &Bound<'_, PyAny>,
    receiver: &Bound<'_, PyAny>,
    trust_relayed: bool,
    max_clone_sources: Option<usize>,
) -> PyResult<Py<PyAny>> {
    let (sender, receiver): (Inventory, Inventory) = (document(sender)?, document(receiver)?);
    let mut options = PlanOptions::default();
    options.trust_relayed = trust_relayed;
    if let Some(most) = max_clone_sources {
        options.max_clone_sources = most;
    }
    let plan = btrfs_lineage::plan(snapshot, &sender, &receiver, &options);
    plain(py, &plan.map_err(|error| other(&error))?)
}

/// What [`plain`] made of a value.
fn document<T: DeserializeOwned>(value: &Bound<'_, PyAny>) -> PyResult<T> {
    let json = value.py().import("json")?;
    let text: String = json.call_method1("dumps", (value,))?.extract()?;
    serde_json::from_str(&text).map_err(|error| other(&error))
}
