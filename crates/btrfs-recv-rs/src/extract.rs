//! `--extract`: into a plain directory, and the list of what it does not keep.

use std::path::Path;

use btrfs_receive::{DirectoryDestination, Receiver};

use crate::args::{Extract, Receive};
use crate::directory;
use crate::input::Input;
use crate::messages::{Made, Messages};
use crate::only;
use crate::receive::{how, run, supervised};
use crate::sandbox::{self, Filesystem, Reach};
use crate::signals::Signals;

/// Extracts what `options` ask for; whether every subvolume in the input was.
pub(crate) fn command(options: &Extract) -> bool {
    let listed = options.report.is_some();
    let messages = Messages::new(options.receive.verbosity)
        .made(Made::Directory { listed })
        .reader("btrfs-recv-rs --extract DIR")
        .json(options.receive.json);
    let report = options.report.as_deref();
    let extract = |receive: &Receive, cancel, signals: &Signals, messages: &mut Messages| {
        if let Some(only) = &options.only {
            return only::run(only, receive, report, cancel, signals, messages);
        }
        match prepare(receive, report, signals, messages) {
            Ok((input, destination)) => {
                let mut receiver = Receiver::with_options(destination, how(receive, cancel));
                run(&mut receiver, input, receive, messages)
            }
            Err(text) => {
                messages.error(text);
                false
            }
        }
    };
    supervised(&options.receive, messages, extract)
}

fn prepare<'s>(
    receive: &Receive,
    report: Option<&Path>,
    signals: &'s Signals,
    messages: &mut Messages,
) -> Result<(Input<'s>, DirectoryDestination), String> {
    let file = receive.input.as_deref();
    // Before the destination, so that a relative name means what it says.
    let input = Input::open(file, receive.decompress, Some(signals))?;
    let builder = directory::builder(report)?;
    if receive.sandbox {
        let reach = Reach {
            destination: &receive.destination,
            state: None,
            tee: None,
            sources: Vec::new(),
            filesystem: Filesystem::Useless,
        };
        sandbox::enter(&reach, messages)?;
    }
    Ok((input, directory::open(builder, &receive.destination)?))
}
