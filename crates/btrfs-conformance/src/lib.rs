//! The conformance set for parsers of send streams, and its runner. Never published.
//!
//! `testdata/conformance.json` says of each stream in `testdata` what a parser has to
//! report. [`set`] writes and reads it. An *adapter* is a program that has a parser
//! report on a stream in the form of [`report`]; [`run`] starts one, [`judge`]
//! compares its report, and [`score`] counts. `testdata/README.md` describes all of it
//! for authors of parsers.

pub mod decode;
pub mod defect;
pub mod judge;
pub mod report;
pub mod run;
pub mod score;
pub mod set;
mod valid;
pub mod value;

use std::path::PathBuf;

/// The directory `testdata`.
pub fn testdata() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata"))
}
