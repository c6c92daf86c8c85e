//! `--verify`: whether stored streams can be received, without a filesystem.

mod print;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use btrfs_receive::chain::Chain;
use btrfs_receive::verify::{Verifier, VerifyOptions, VerifyReport};
use serde::Serialize;

use crate::args::Verify;
use crate::input::Input;
use crate::messages::{File, Messages, strerror};
use crate::signals::{Signal, Signals};
use crate::stored::Stored;
pub(crate) use print::{Printer, escaped, gaps, problems};

/// An input that was verified.
pub(crate) struct Verified {
    /// What to call it; empty for standard input.
    pub(crate) file: Option<PathBuf>,
    pub(crate) report: VerifyReport,
}

/// Carries out `--verify`; returns whether nothing is wrong.
pub(crate) fn command(options: &Verify) -> bool {
    let messages = &mut Messages::new(1).json(options.json);
    let mut stdout = io::stdout().lock();
    match run(options, &mut stdout, messages) {
        Ok(good) => {
            messages.emit_end(good, None);
            messages.is_reported(good) && good
        }
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Signal::PIPE.die();
            false
        }
        Err(error) => {
            let reason = strerror(&error);
            messages.error(format_args!("cannot write the result: {reason}"));
            false
        }
    }
}

fn run(options: &Verify, out: &mut impl Write, messages: &mut Messages) -> io::Result<bool> {
    let mut how = VerifyOptions::default();
    how.names = options.names;
    how.allow_unknown = options.allow_unknown;
    let verifier = Verifier::new(how);
    let mut printer = Printer::default();
    let (files, mut good) = match options.paths.is_empty() {
        true => (vec![None], true),
        false => match files(&options.paths, messages) {
            Some((files, good)) => (files.into_iter().map(Some).collect(), good),
            None => return Ok(false),
        },
    };
    let mut verified = Vec::new();
    for file in files {
        let Some(report) = verify(&verifier, file.as_deref(), None, messages) else {
            good = false;
            continue;
        };
        if messages.is_json() {
            emit(file.as_deref(), &report, messages);
        } else {
            printer.input(file.as_deref(), &report);
            out.write_all(&printer.text())?;
        }
        out.flush()?;
        problems(file.as_deref(), &report, messages);
        good &= report.is_good();
        verified.push(Verified { file, report });
    }
    if verified.len() > 1 {
        let reports: Vec<_> = verified.iter().map(|it| &it.report).collect();
        let chain = Chain::of(reports.iter().copied());
        if messages.is_json() {
            messages.emit("chain", &chain);
        } else {
            printer.chain(&verified, &chain);
            out.write_all(&printer.text())?;
        }
        gaps(&verified, &chain, messages);
        good &= chain.is_whole();
    }
    Ok(good)
}

/// What was found in one input, in JSON.
#[derive(Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    file: File<'a>,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

/// Says in JSON what was found in one input, if that is wanted.
pub(crate) fn emit(file: Option<&Path>, report: &VerifyReport, messages: &Messages) {
    let file = File(file);
    messages.emit("verified", Found { file, report });
}

/// The files that `paths` stand for, and whether all could be looked at.
pub(crate) fn files(paths: &[PathBuf], messages: &mut Messages) -> Option<(Vec<PathBuf>, bool)> {
    let stored = match Stored::find(paths) {
        Ok(stored) => stored,
        Err(text) => {
            messages.error(text);
            return None;
        }
    };
    let mut good = stored.unreadable.is_empty();
    for text in &stored.unreadable {
        messages.error(text);
    }
    for (path, packed) in &stored.passed_over {
        let path = path.display();
        if let Some(packed) = packed {
            messages.error(format_args!(
                "{path} is packed with {packed}, and was not looked at: unpack it first"
            ));
            good = false;
        } else {
            messages.warning(format_args!("{path} is no send stream: passed over"));
        }
    }
    if stored.files.is_empty() {
        messages.error("there is no send stream in what was given");
        return None;
    }
    Some((stored.files, good))
}

/// Verifies one input; `None` if it cannot be opened.
pub(crate) fn verify(
    verifier: &Verifier,
    file: Option<&Path>,
    signals: Option<&Signals>,
    messages: &mut Messages,
) -> Option<VerifyReport> {
    Input::open_or_say(file, signals, messages).map(|input| verifier.verify(input))
}
