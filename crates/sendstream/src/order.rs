//! `order`: stored streams in the order in which to receive them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_sendstream::inspect::{Chain, Verifier, VerifyOptions, first_subvolume};
use sendstream_common::foreign::is_foreign;
use sendstream_common::json::File;
use sendstream_common::report;
use sendstream_common::text::push_message;
use sendstream_common::unpack::Decompress;

use crate::args;
use crate::input::Input;
use crate::verify;
use crate::{Failure, say};

/// Where to put streams that have to be unpacked first.
const INTO: &str = "> STREAM";

/// Carries out `order`; returns whether all of the streams can be received in
/// the order that was printed.
pub(crate) fn run(options: &args::Order) -> Result<bool, Failure> {
    let mut out = crate::output(options.format);
    let (files, mut good) = out.stored(&options.inputs, options.unpack.decompress)?;
    let mut inputs = Vec::new();
    let mut names = Vec::new();
    let chain = if options.quick {
        let mut subvolumes = Vec::new();
        for file in &files {
            match beginning(file, options.unpack.decompress) {
                Ok(first) => {
                    names.push(file);
                    inputs.push(report::Input::announced(Some(file), first.as_ref()));
                    subvolumes.push(first);
                }
                Err(text) => {
                    say(&text);
                    good = false;
                }
            }
        }
        Chain::of_subvolumes(&subvolumes)
    } else {
        let mut how = VerifyOptions::default();
        // Only what the order depends on.
        how.names = false;
        how.decode = false;
        how.allow_no_data = true;
        how.allow_unknown = true;
        let verifier = Verifier::new(how);
        let mut reports = Vec::new();
        for file in &files {
            let report = verify::verify(
                &verifier,
                &options.unpack,
                Some(file),
                INTO,
                &mut out,
                |_, _| Ok(()),
            )?;
            let Some(report) = report else {
                good = false;
                continue;
            };
            good &= report.is_good();
            names.push(file);
            inputs.push(report::Input::verified(Some(file), &report));
            reports.push(report);
        }
        Chain::of(&reports)
    };
    if options.quick {
        for name in &names {
            out.emit("input", File::new(Some(name)))?;
        }
    }
    let mut text = Vec::new();
    for name in chain.order.iter().filter_map(|&input| names.get(input)) {
        let name = name.as_os_str().as_bytes();
        if options.null {
            text.extend_from_slice(name);
            text.push(0);
        } else {
            push_message(&mut text, name);
            text.push(b'\n');
        }
    }
    out.text(&text)?;
    out.emit("chain", &chain)?;
    for gap in report::gaps(&inputs, &chain) {
        say(&gap);
    }
    good &= chain.is_whole();
    out.end(good)?;
    Ok(good)
}

/// What the first command of a file asks for.
pub(crate) fn beginning(
    file: &Path,
    decompress: Decompress,
) -> Result<Option<btrfs_sendstream::NewSubvolume>, String> {
    let mut input = Input::open(Some(file), decompress).map_err(|failure| failure.to_string())?;
    let found = first_subvolume(&mut input);
    found.map_err(|error| {
        let name = report::name_of(Some(file));
        if is_foreign(&error) {
            let foreign = input.head().foreign(INTO);
            format!("{name}: {error}\n{}: {}", foreign.likely, foreign.to_do)
        } else {
            format!("{name}: {error}")
        }
    })
}
