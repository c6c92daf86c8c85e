//! `dump`: prints the commands of streams.

mod json;
mod summary;

use std::io;

use sendstream_common::dump::{self, DumpError};
use sendstream_common::zone::SystemZone;

use crate::Failure;
use crate::args::{self, DumpFormat};
use crate::input::Input;

/// Carries out `dump`.
pub(crate) fn run(options: &args::Dump) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    for file in options.inputs() {
        let mut input = Input::open(file, options.unpack.decompress)?;
        let printed = match options.format {
            DumpFormat::Text => dump::text(&mut input, &mut stdout, SystemZone::new()),
            DumpFormat::Json => json::run(&mut input, &mut stdout),
            DumpFormat::Summary => summary::run(&mut input, &mut stdout),
        };
        printed.map_err(|error| match error {
            DumpError::Stream(error) => input.failure(error, "| sendstream dump"),
            DumpError::Output(error) => Failure::output(error),
        })?;
    }
    Ok(true)
}
