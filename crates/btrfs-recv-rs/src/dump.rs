//! `--dump`: prints the commands of a stream, and receives nothing.

use std::io;

use sendstream_common::dump::{self, DumpError};
use sendstream_common::foreign::is_foreign;
use sendstream_common::zone::SystemZone;

use crate::args::Dump;
use crate::input::Input;
use crate::messages::{Messages, strerror};
use crate::privilege;
use crate::signals::Signal;

/// Carries out `--dump`; returns whether all of the input was printed.
pub(crate) fn command(options: &Dump) -> bool {
    let messages = &mut Messages::new(1).reader("btrfs-recv-rs --dump");
    let Some(mut input) =
        Input::open_or_say(options.input.as_deref(), options.decompress, None, messages)
    else {
        return false;
    };
    let zone = if privilege::is_raised() {
        SystemZone::utc()
    } else {
        SystemZone::new()
    };
    let Err(error) = dump::text(&mut input, &mut io::stdout().lock(), zone) else {
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
