//! A drop-in for `btrfs receive`.

mod accept;
mod advice;
mod args;
mod btrfs;
mod buffer;
mod chain;
mod digest;
mod directory;
mod dry_run;
mod dump;
mod extract;
#[cfg(test)]
mod generate;
mod input;
mod logging;
mod messages;
mod only;
mod privilege;
mod progress;
mod receive;
mod receives;
mod restore;
mod sandbox;
mod serve;
mod signals;
mod tee;
mod unfinished;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use args::getopt::OptionError;
use args::{Request, UsageError};
use messages::Messages;

fn main() -> ExitCode {
    let mut line: Vec<OsString> = std::env::args_os().collect();
    if let Some((program, args)) = line.split_first()
        && btrfs::is_name(program)
    {
        line = match btrfs::read(args) {
            btrfs::Call::Receive(line) => line,
            btrfs::Call::Other => return cannot_hand_over(&btrfs::exec(program, args)),
            btrfs::Call::Unclear(error) => return refuse_global(&error),
        };
    }
    run(line)
}

fn run(line: Vec<OsString>) -> ExitCode {
    logging::start();
    let posixly_correct = std::env::var_os("POSIXLY_CORRECT").is_some();
    match args::parse(line, posixly_correct) {
        Ok(Request::Help) => print(&args::help()),
        Ok(Request::Version) => print(concat!("btrfs-recv-rs ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Dump(options)) => exit(dump::command(&options)),
        Ok(Request::Extract(options)) => exit(extract::command(&options)),
        Ok(Request::Status(options)) => exit(unfinished::status(&options, &mut Messages::new(1))),
        Ok(Request::Abandon(options)) => exit(unfinished::abandon(&options, &mut Messages::new(1))),
        Ok(Request::Chain(options)) => exit(chain::command(&options)),
        Ok(Request::Serve(options)) => exit(serve::command(&options)),
        Ok(Request::DryRun(options)) => exit(dry_run::command(&options)),
        Ok(Request::Receive(options)) => exit(receive::command(&options)),
        Err(error) => refuse(&error),
    }
}

fn exit(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints what was asked for. It is no failure if nobody reads it.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Messages::new(1).error(format_args!("cannot write: {}", messages::strerror(&error)));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// The real `btrfs` was wanted; the status is that of a shell which does not
/// find a program.
fn cannot_hand_over(error: &btrfs::NoBtrfs) -> ExitCode {
    let _ = writeln!(io::stderr(), "ERROR: {error}");
    ExitCode::from(127)
}

/// The status is that of `btrfs`.
fn refuse_global(error: &OptionError) -> ExitCode {
    let _ = writeln!(io::stderr(), "btrfs-recv-rs: {error} before receive");
    ExitCode::from(129)
}

/// Says what is wrong with the command line. `btrbk` knows these texts by
/// `unrecognized option`, `invalid option` and `usage:`; what helps people
/// comes on lines behind.
fn refuse(error: &UsageError) -> ExitCode {
    let text = match error {
        UsageError::Option(_)
        | UsageError::Gone { .. }
        | UsageError::TwoModes(..)
        | UsageError::Together(..)
        | UsageError::Needs(..)
        | UsageError::Misplaced { .. }
        | UsageError::Moved { .. } => {
            let hint = match error {
                UsageError::Option(error) => args::hint(error).map(|hint| hint + "\n"),
                _ => None,
            };
            format!(
                "btrfs-recv-rs: {error}\n{}Try 'btrfs-recv-rs --help' for more information\n",
                hint.unwrap_or_default()
            )
        }
        UsageError::PathCount { .. } => {
            format!("btrfs-recv-rs: {error}\n{}", args::usage())
        }
        UsageError::Value { .. } | UsageError::Unusable { .. } => format!("ERROR: {error}\n"),
    };
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}
