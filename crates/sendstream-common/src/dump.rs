//! Dumps: the commands of a stream, line by line.

use std::io::{self, IsTerminal, Read, Write};

use btrfs_sendstream::inspect::DumpFormatter;
use btrfs_sendstream::{Item, Reader};

use crate::zone::SystemZone;

/// Text is written in pieces of about this many bytes.
pub const FLUSH_AT: usize = 64 * 1024;

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The stream is damaged, or cannot be read.
    #[error(transparent)]
    Stream(#[from] btrfs_sendstream::Error),
    /// The text cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Prints the commands of every stream in `input` as `btrfs receive --dump`
/// does, with times in `zone`.
///
/// # Errors
/// See [`lines`].
pub fn text(
    input: impl Read,
    output: &mut (impl Write + IsTerminal),
    zone: SystemZone,
) -> Result<(), DumpError> {
    let mut formatter = DumpFormatter::new(zone);
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

/// Writes what `next` appends, until it returns `false`. On a terminal each
/// line is written at once.
///
/// # Errors
/// See [`DumpError`]. The lines before the failure have been written, unless
/// writing failed.
pub fn lines(
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
