//! `--dump`: prints the commands of a stream, and receives nothing.

mod format;
mod json;
mod summary;

use std::io::{self, IsTerminal, Read, Write};

use btrfs_sendstream::{Item, Reader};

use crate::args::{Dump, Format};
use crate::input::Input;
use crate::messages::{Messages, strerror};
use crate::signals::Signal;
use format::Formatter;

/// Text is written in pieces of about this many bytes.
const FLUSH_AT: usize = 64 * 1024;

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DumpError {
    /// The stream is damaged, or cannot be read.
    #[error(transparent)]
    Stream(#[from] btrfs_sendstream::Error),
    /// The text cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Prints every stream of `input`, line by line. With `at_once` each line is
/// written as soon as it is known, for a reader who waits for it.
///
/// # Errors
/// See [`DumpError`]. The lines before the failure have been written, unless
/// it was writing that failed.
pub(crate) fn run(
    input: impl Read,
    output: &mut impl Write,
    format: Format,
    at_once: bool,
) -> Result<(), DumpError> {
    if format == Format::Summary {
        return summary::run(input, output);
    }
    let mut reader = Reader::new(input);
    let mut lines = Lines::new(format);
    let mut text = Vec::with_capacity(2 * FLUSH_AT);
    let flush_at = if at_once { 1 } else { FLUSH_AT };
    let result = loop {
        match lines.push_next(&mut text, &mut reader) {
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

/// What prints an item.
enum Lines {
    Text(Formatter),
    Json,
}

impl Lines {
    fn new(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Text | Format::Summary => Self::Text(Formatter::new()),
        }
    }

    /// Appends the line of the next item, if it has one. `false` at the end
    /// of the input.
    fn push_next(
        &mut self,
        text: &mut Vec<u8>,
        reader: &mut Reader<impl Read>,
    ) -> Result<bool, btrfs_sendstream::Error> {
        match self {
            Self::Text(formatter) => match reader.next_item()? {
                Some(Item::Command(command)) => formatter.push(text, &command),
                Some(_) => {}
                None => return Ok(false),
            },
            Self::Json => {
                let start = reader.consumed();
                let Some(item) = reader.next_owned()? else {
                    return Ok(false);
                };
                let total = reader.consumed() - start;
                text.extend(json::line(&item, reader.position(), total));
            }
        }
        Ok(true)
    }
}

/// Carries out `--dump`; returns whether all of the input was printed.
pub(crate) fn command(options: &Dump, messages: &mut Messages) -> bool {
    let Some(mut input) = Input::open_or_say(options.input.as_deref(), None, messages) else {
        return false;
    };
    let mut stdout = io::stdout().lock();
    let at_once = stdout.is_terminal();
    let Err(error) = run(&mut input, &mut stdout, options.format, at_once) else {
        return true;
    };
    let reason = match &error {
        DumpError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Signal::PIPE.die();
            return false;
        }
        DumpError::Output(error) => strerror(error),
        DumpError::Stream(error) => {
            messages.stream_error(error, input.head());
            "the input is damaged or incomplete".to_owned()
        }
    };
    messages.error(format_args!("failed to dump the send stream: {reason}"));
    false
}
