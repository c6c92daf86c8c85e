//! The Python module `btrfs_recv`: reads, checks, rewrites and receives btrfs send
//! streams, and plans transfers.
//!
//! Each function does what a function of the Rust libraries does; the stub file
//! `python/btrfs_recv/__init__.pyi` documents them for Python. What is not a command
//! becomes plain dictionaries, with the keys of `docs/json.md`.

mod command;
mod error;
mod filesystem;
mod receive;
mod source;
mod stream;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Error", module.py().get_type::<error::Error>())?;
    module.add("StreamError", module.py().get_type::<error::StreamError>())?;
    module.add(
        "ReceiveError",
        module.py().get_type::<error::ReceiveError>(),
    )?;
    module.add_class::<command::Command>()?;
    module.add_class::<command::Timespec>()?;
    module.add_class::<stream::Reader>()?;
    module.add_function(wrap_pyfunction!(stream::verify, module)?)?;
    module.add_function(wrap_pyfunction!(stream::diff, module)?)?;
    module.add_function(wrap_pyfunction!(stream::rewrite, module)?)?;
    module.add_function(wrap_pyfunction!(receive::receive, module)?)?;
    module.add_function(wrap_pyfunction!(filesystem::inventory, module)?)?;
    module.add_function(wrap_pyfunction!(filesystem::plan, module)?)
}
