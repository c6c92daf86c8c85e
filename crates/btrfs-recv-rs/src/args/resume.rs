//! Values of the options that make receives resumable.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::UsageError;
use super::quantity::{Quantity, interval};

/// How receives are made resumable; `None` for what is left at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resume {
    /// Bytes of the stream between checkpoints.
    pub(crate) every_bytes: Option<u64>,
    /// Time between checkpoints.
    pub(crate) every: Option<Duration>,
    /// Where the state is.
    pub(crate) state_dir: Option<PathBuf>,
}

/// What to show or to abandon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// The directory that subvolumes are received in.
    pub(crate) destination: PathBuf,
    /// Where the state is, if not there.
    pub(crate) state_dir: Option<PathBuf>,
    /// Names of subvolumes; for `--abandon`.
    pub(crate) names: Vec<OsString>,
}

impl Resume {
    /// `--checkpoint-every`: a size or a time. Either may be given once more.
    pub(super) fn every(&mut self, value: OsString) -> Result<(), UsageError> {
        match interval(value)? {
            Quantity::Size(bytes) => self.every_bytes = Some(bytes),
            Quantity::Time(time) => self.every = Some(time),
        }
        Ok(())
    }
}
