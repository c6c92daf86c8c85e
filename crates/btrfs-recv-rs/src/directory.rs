//! Opens the plain directory that `--extract` extracts into.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use btrfs_receive::{DirectoryDestination, DirectoryDestinationBuilder, OpenError};
use sendstream_common::json;

use crate::messages::strerror;

/// The settings of the destination, which lists losses in `report`.
pub(crate) fn builder(report: Option<&Path>) -> Result<DirectoryDestinationBuilder, String> {
    let mut builder = DirectoryDestination::builder();
    if let Some(path) = report {
        let cannot = |error| format!("cannot write {}: {}", path.display(), strerror(&error));
        let mut list = File::create(path).map_err(cannot)?;
        builder = builder.losses(move |item| list.write_all(&json::line(item)));
    }
    Ok(builder)
}

/// Opens the directory.
pub(crate) fn open(
    builder: DirectoryDestinationBuilder,
    directory: &Path,
) -> Result<DirectoryDestination, String> {
    builder.open(directory).map_err(|error| match error {
        OpenError::System { path, error, .. } => format!(
            "cannot open destination directory {}: {}",
            path.display(),
            strerror(&error)
        ),
        other => other.to_string(),
    })
}
