//! `verify`: whether stored streams can be received, without a filesystem.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use btrfs_sendstream::inspect::{Chain, Verifier, VerifyOptions, VerifyReport};
use sendstream_common::foreign::is_foreign;
use sendstream_common::json::{self, Event, Message, Verified};
use sendstream_common::report::{self, Printer};
use sendstream_common::stored::{Stored, no_stream_in};
use serde::Serialize;

use crate::args::{self, Format};
use crate::input::Input;
use crate::{Failure, say};

#[derive(Serialize)]
struct End {
    success: bool,
}

/// Where results and messages go.
pub(crate) struct Output<W> {
    to: W,
    format: Format,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(to: W, format: Format) -> Self {
        Self { to, format }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Text, unless JSON is wanted.
    pub(crate) fn text(&mut self, text: &[u8]) -> Result<(), Failure> {
        if self.is_json() {
            return Ok(());
        }
        self.write(text)
    }

    /// A line of JSON, if that is wanted.
    pub(crate) fn emit(&mut self, event: &str, fields: impl Serialize) -> Result<(), Failure> {
        if !self.is_json() {
            return Ok(());
        }
        self.write(&json::line(&Event { event, fields }))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.to.write_all(bytes).and_then(|()| self.to.flush());
        written.map_err(Failure::output)
    }

    /// Says what is wrong, on standard error and in JSON.
    fn error(&mut self, message: &str) -> Result<(), Failure> {
        say(message);
        self.emit("error", Message { message })
    }

    /// Says what may be a mistake.
    fn warning(&mut self, message: &str) -> Result<(), Failure> {
        say(&format!("warning: {message}"));
        self.emit("warning", Message { message })
    }

    /// The last line of JSON. Passes on whether all is well.
    pub(crate) fn end(&mut self, success: bool) -> Result<bool, Failure> {
        self.emit("end", End { success })?;
        Ok(success)
    }
}

/// Carries out `verify`; returns whether nothing is wrong.
pub(crate) fn run(options: &args::Verify) -> Result<bool, Failure> {
    let mut out = Output::new(io::stdout().lock(), options.format);
    let mut how = VerifyOptions::default();
    how.names = !options.no_names;
    how.allow_unknown = options.allow_unknown;
    let verifier = Verifier::new(how);
    let (files, mut good) = if options.inputs.is_empty() {
        (vec![None], true)
    } else {
        let (files, good) = files(&options.inputs, &mut out)?;
        (files.into_iter().map(Some).collect(), good)
    };
    let mut printer = Printer::default();
    let mut verified = Vec::new();
    for file in files {
        let file = file.as_deref();
        let Some(report) = verify(
            &verifier,
            file,
            "| sendstream verify",
            &mut out,
            |out, report| {
                printer.input(file, report);
                out.text(&printer.text())
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
    out.end(good)
}

/// Verifies one input, prints it with `show`, and says what is wrong with it;
/// `None` if it cannot be opened, which is said. `into` is where to put
/// the stream if it has to be unpacked first.
pub(crate) fn verify<W: Write>(
    verifier: &Verifier,
    file: Option<&Path>,
    into: &str,
    out: &mut Output<W>,
    show: impl FnOnce(&mut Output<W>, &VerifyReport) -> Result<(), Failure>,
) -> Result<Option<VerifyReport>, Failure> {
    let mut input = match Input::open(file) {
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

/// The files that `paths` stand for, and whether everything could be looked
/// at, which it is not if there are none.
pub(crate) fn files<W: Write>(
    paths: &[PathBuf],
    out: &mut Output<W>,
) -> Result<(Vec<PathBuf>, bool), Failure> {
    let stored = match Stored::find(paths) {
        Ok(stored) => stored,
        Err(text) => {
            out.error(&text)?;
            return Ok((Vec::new(), false));
        }
    };
    let mut good = true;
    for skipped in &stored.skipped {
        if skipped.is_error() {
            out.error(&skipped.to_string())?;
            good = false;
        } else {
            out.warning(&skipped.to_string())?;
        }
    }
    if stored.files.is_empty() {
        out.error(&no_stream_in(paths))?;
        good = false;
    }
    Ok((stored.files, good))
}
