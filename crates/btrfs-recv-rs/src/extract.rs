//! `--extract`: into a plain directory, and the list of what it does not keep.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use btrfs_receive::{DirectoryDestination, DirectoryDestinationBuilder, OpenError, Receiver};
use sendstream_common::json;

use crate::args::{Extract, Receive};
use crate::input::Input;
use crate::messages::{Made, Messages, strerror};
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
    let builder = builder(report)?;
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
    Ok((input, open(builder, &receive.destination)?))
}

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
