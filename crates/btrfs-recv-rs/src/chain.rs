//! `--chain`: receives a set of stored streams, each after its parent.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use btrfs_receive::Cancel;
use btrfs_receive::dry_run::DryRun;
use btrfs_sendstream::inspect::{Chain, Verifier, VerifyOptions, VerifyReport};
use sendstream_common::json::{self, File};
use sendstream_common::report;
use sendstream_common::stored::{Stored, no_stream_in};
use sendstream_common::text::escaped;

use crate::args;
use crate::args::Receive;
use crate::input::Input;
use crate::messages::Messages;
use crate::receive;
use crate::restore::Restore;
use crate::sandbox;
use crate::signals::Signals;
use crate::unfinished;

/// An input that was verified.
struct Verified {
    file: PathBuf,
    report: VerifyReport,
}

/// Carries out `--chain`; returns whether all subvolumes are complete.
pub(crate) fn command(options: &args::Chain) -> bool {
    let messages = Messages::new(options.receive.verbosity).json(options.receive.json);
    receive::supervised(
        &options.receive,
        messages,
        |how, cancel, signals, messages| run(&options.sources, how, cancel, signals, messages),
    )
}

fn run(
    sources: &[PathBuf],
    options: &Receive,
    cancel: Cancel,
    signals: &Signals,
    messages: &mut Messages,
) -> bool {
    let Some((inputs, order)) = check(sources, options, signals, messages) else {
        return false;
    };
    let Some(restore) = Restore::prepare(options, messages) else {
        return false;
    };
    let files: Vec<_> = inputs.iter().map(|it| it.file.as_path()).collect();
    if options.sandbox
        && let Err(text) = sandbox::enter(&receive::reach(options, &files), messages)
    {
        messages.error(text);
        return false;
    }
    let Some(destination) = receive::destination(options, None, &cancel, messages) else {
        return false;
    };
    let mut how = receive::how(options, cancel);
    how.skip_complete = true;
    let of_files = Some(options.destination.as_path());
    let mut receiver = match receive::receiver(destination, options, how, of_files) {
        Ok(receiver) => receiver,
        Err(error) => {
            unfinished::refused(&error, messages);
            return false;
        }
    };
    // Stops at the first that fails: what follows may need it.
    let all = order.into_iter().all(|index| {
        let Some(file) = inputs.get(index).map(|it| it.file.as_path()) else {
            return true;
        };
        messages.emit("input", File::new(Some(file)));
        Input::open_or_say(Some(file), options.decompress, Some(signals), messages)
            .is_some_and(|input| receive::one_input(&mut *receiver, input, options, messages))
    });
    all && restore.finish(messages)
}

/// Reads everything before anything is received. `None` if something is
/// wrong, which was said.
fn check(
    sources: &[PathBuf],
    options: &Receive,
    signals: &Signals,
    messages: &mut Messages,
) -> Option<(Vec<Verified>, Vec<usize>)> {
    let mut how = VerifyOptions::default();
    // The receive looks at these.
    how.names = false;
    how.decode = false;
    how.allow_unknown = options.allow_unknown;
    let verifier = Verifier::new(how);
    let (files, mut good) = files(sources, options, messages)?;
    let mut inputs = Vec::new();
    for file in files {
        // Each is read twice.
        if file.metadata().is_ok_and(|it| !it.is_file()) {
            messages.error(format_args!(
                "{} is not a regular file; --chain reads each stream twice",
                escaped(file.as_os_str().as_bytes())
            ));
            good = false;
            continue;
        }
        let Some(input) =
            Input::open_or_say(Some(&file), options.decompress, Some(signals), messages)
        else {
            good = false;
            continue;
        };
        let report = verifier.verify(input);
        if signals.caught().is_some() {
            return None;
        }
        for problem in report::problems(Some(&file), &report) {
            messages.error_line(problem);
        }
        messages.emit("verified", json::Verified::new(Some(&file), &report));
        good &= report.is_good();
        inputs.push(Verified { file, report });
    }
    let mut chain = Chain::of(inputs.iter().map(|it| &it.report));
    if good && !chain.missing.is_empty() {
        find_missing(&inputs, &mut chain, options, messages)?;
    }
    let named = inputs
        .iter()
        .map(|it| report::Input::verified(Some(&it.file), &it.report));
    for gap in report::gaps(&named.collect::<Vec<_>>(), &chain) {
        messages.error_line(gap);
    }
    messages.emit("chain", &chain);
    if !good || !chain.is_whole() {
        messages.error("nothing was received");
        return None;
    }
    Some((inputs, chain.order))
}

/// The files that `sources` stand for, and whether everything could be looked
/// at. `None` if there are none, which was said.
pub(crate) fn files(
    sources: &[PathBuf],
    options: &Receive,
    messages: &mut Messages,
) -> Option<(Vec<PathBuf>, bool)> {
    let stored = match Stored::find(sources, options.decompress) {
        Ok(stored) => stored,
        Err(text) => {
            messages.error(text);
            return None;
        }
    };
    let mut good = true;
    for skipped in &stored.skipped {
        if skipped.is_error() {
            messages.error(skipped);
            good = false;
        } else {
            messages.warning(skipped);
        }
    }
    if stored.files.is_empty() {
        messages.error(no_stream_in(sources));
        return None;
    }
    Some((stored.files, good))
}

/// What is missing from the set may be at the destination.
fn find_missing(
    inputs: &[Verified],
    chain: &mut Chain,
    options: &Receive,
    messages: &mut Messages,
) -> Option<()> {
    let mut builder = DryRun::builder();
    if options.confine_sources {
        builder = builder.jail(&options.destination);
    }
    let mut destination = match builder.open(&options.destination) {
        Ok(destination) => destination,
        Err(error) => {
            receive::cannot_open(error, messages);
            return None;
        }
    };
    chain.missing.retain(|missing| {
        let report = inputs.get(missing.needed_by.input).map(|it| &it.report);
        let subvolume = report.and_then(|it| it.subvolumes.get(missing.needed_by.subvolume));
        // What is there needs nothing more; whether it is what the stream
        // holds is looked at when its turn comes.
        let is_there = subvolume.is_some_and(|it| {
            let name = OsStr::from_bytes(it.name.as_bytes());
            options.destination.join(name).symlink_metadata().is_ok()
        });
        !is_there && destination.find_source(missing.wanted).is_err()
    });
    Some(())
}
