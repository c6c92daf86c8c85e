//! `--dump`: prints the commands of a stream, and receives nothing.

use std::io::{self, IsTerminal, Read, Write};

use btrfs_sendstream::inspect::DumpFormatter;
use btrfs_sendstream::{Item, Reader};
use sendstream_common::foreign::is_foreign;
use sendstream_common::zone::SystemZone;

use crate::args::Dump;
use crate::input::Input;
use crate::messages::{Messages, strerror};
use crate::privilege;
use crate::signals::Signal;

/// Text is written in pieces of about this many bytes.
const FLUSH_AT: usize = 64 * 1024;

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
enum DumpError {
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
fn run(input: impl Read, output: &mut impl Write, at_once: bool) -> Result<(), DumpError> {
    let mut reader = Reader::new(input);
    let zone = if privilege::is_raised() {
        SystemZone::utc()
    } else {
        SystemZone::new()
    };
    let mut formatter = DumpFormatter::new(zone);
    let mut text = Vec::with_capacity(2 * FLUSH_AT);
    let flush_at = if at_once { 1 } else { FLUSH_AT };
    let result = loop {
        match reader.next_item() {
            Ok(Some(Item::Command(command))) => formatter.push(&mut text, &command),
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
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

/// Carries out `--dump`; returns whether all of the input was printed.
pub(crate) fn command(options: &Dump) -> bool {
    let messages = &mut Messages::new(1).reader("btrfs-recv-rs --dump");
    let Some(mut input) = Input::open_or_say(options.input.as_deref(), None, messages) else {
        return false;
    };
    let mut stdout = io::stdout().lock();
    let at_once = stdout.is_terminal();
    let Err(error) = run(&mut input, &mut stdout, at_once) else {
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
            if is_foreign(error) {
                return false;
            }
            "the input is damaged or incomplete".to_owned()
        }
    };
    messages.error(format_args!("failed to dump the send stream: {reason}"));
    false
}
