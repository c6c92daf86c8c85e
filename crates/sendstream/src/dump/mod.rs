//! `dump`: prints the commands of streams.

mod json;
mod summary;

use std::io::{self, IsTerminal, Read, Write};

use btrfs_sendstream::inspect::DumpFormatter;
use btrfs_sendstream::{Item, Reader};
use sendstream_common::zone::SystemZone;

use crate::Failure;
use crate::args::{self, DumpFormat};
use crate::input::Input;

/// Text is written in pieces of about this many bytes.
const FLUSH_AT: usize = 64 * 1024;

/// Why a dump ended early.
enum DumpError {
    Stream(btrfs_sendstream::Error),
    Output(io::Error),
}

impl From<btrfs_sendstream::Error> for DumpError {
    fn from(error: btrfs_sendstream::Error) -> Self {
        Self::Stream(error)
    }
}

impl From<io::Error> for DumpError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Carries out `dump`.
pub(crate) fn run(options: &args::Dump) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    for file in options.inputs() {
        let mut input = Input::open(file)?;
        let printed = match options.format {
            DumpFormat::Text => text(&mut input, &mut stdout),
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

fn text(input: impl Read, output: &mut (impl Write + IsTerminal)) -> Result<(), DumpError> {
    let mut formatter = DumpFormatter::new(SystemZone::new());
    let mut reader = Reader::new(input);
    lines(output, |out| {
        match reader.next_item()? {
            Some(Item::Command(command)) => formatter.push(out, &command),
            Some(_) => {}
            None => return Ok(false),
        }
        Ok(true)
    })
}

/// Writes lines as long as there are some. What comes before a failure is
/// written, unless writing failed. On a terminal, for a reader who waits, each
/// line is written as soon as it is known.
fn lines(
    output: &mut (impl Write + IsTerminal),
    mut next: impl FnMut(&mut Vec<u8>) -> Result<bool, btrfs_sendstream::Error>,
) -> Result<(), DumpError> {
    let mut text = Vec::with_capacity(2 * FLUSH_AT);
    let flush_at = if output.is_terminal() { 1 } else { FLUSH_AT };
    let result = loop {
        match next(&mut text) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
        if text.len() >= flush_at {
            output.write_all(&text)?;
            text.clear();
        }
    };
    output.write_all(&text)?;
    output.flush()?;
    result
}
