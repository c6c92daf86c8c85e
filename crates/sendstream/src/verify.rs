//! `verify`: whether stored streams can be received, without a filesystem.

use std::io::Write;
use std::path::Path;

use btrfs_sendstream::inspect::{Chain, Verifier, VerifyOptions, VerifyReport};
use sendstream_common::foreign::is_foreign;
use sendstream_common::json::Verified;
use sendstream_common::output::Output;
use sendstream_common::report::{self, Printer};

use crate::args;
use crate::input::Input;
use crate::{Failure, say};

/// Carries out `verify`; returns whether nothing is wrong.
pub(crate) fn run(options: &args::Verify) -> Result<bool, Failure> {
    let mut out = crate::output(options.format);
    let mut how = VerifyOptions::default();
    how.names = !options.no_names;
    how.allow_unknown = options.allow_unknown;
    let verifier = Verifier::new(how);
    let (files, mut good) = if options.inputs.is_empty() {
        (vec![None], true)
    } else {
        let (files, good) = out.stored(&options.inputs, options.unpack.decompress)?;
        (files.into_iter().map(Some).collect(), good)
    };
    let mut printer = Printer::default();
    let mut verified = Vec::new();
    for file in files {
        let file = file.as_deref();
        let Some(report) = verify(
            &verifier,
            &options.unpack,
            file,
            "| sendstream verify",
            &mut out,
            |out, report| {
                printer.input(file, report);
                Ok(out.text(&printer.text())?)
            },
        )?
        else {
            good = false;
            continue;
        };
        good &= report.is_good();
        verified.push((file.map(Path::to_owned), report));
    }
    if verified.len() > 1 {
        let chain = Chain::of(verified.iter().map(|(_, report)| report));
        let inputs: Vec<_> = verified
            .iter()
            .map(|(file, report)| report::Input::verified(file.as_deref(), report))
            .collect();
        printer.chain(&inputs, &chain);
        out.text(&printer.text())?;
        out.emit("chain", &chain)?;
        for gap in report::gaps(&inputs, &chain) {
            say(&gap);
        }
        good &= chain.is_whole();
    }
    out.end(good)?;
    Ok(good)
}

/// Verifies one input, prints it with `show`, and says what is wrong with it;
/// `None` if it cannot be opened, which is said. `into` is where to put
/// the stream if it has to be unpacked first.
pub(crate) fn verify<W: Write>(
    verifier: &Verifier,
    unpack: &args::Unpack,
    file: Option<&Path>,
    into: &str,
    out: &mut Output<W>,
    show: impl FnOnce(&mut Output<W>, &VerifyReport) -> Result<(), Failure>,
) -> Result<Option<VerifyReport>, Failure> {
    let mut input = match Input::open(file, unpack.decompress) {
        Ok(input) => input,
        Err(failure) => {
            out.error(&failure.to_string())?;
            return Ok(None);
        }
    };
    let report = verifier.verify(&mut input);
    show(out, &report)?;
    out.emit("verified", Verified::new(file, &report))?;
    for problem in report::problems(file, &report) {
        say(&problem);
    }
    if report.stream_error().is_some_and(is_foreign) {
        let foreign = input.head().foreign(into);
        say(&format!("{}: {}", foreign.likely, foreign.to_do));
    }
    Ok(Some(report))
}
