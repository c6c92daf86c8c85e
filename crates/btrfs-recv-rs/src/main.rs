//! A drop-in for `btrfs receive`.

mod args;
mod dump;
mod escape;
mod input;
mod local_time;
mod messages;
mod receive;
mod signals;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Request, UsageError};
use messages::Messages;

fn main() -> ExitCode {
    let posixly_correct = std::env::var_os("POSIXLY_CORRECT").is_some();
    match args::parse(std::env::args_os(), posixly_correct) {
        Ok(Request::Help) => print(&args::help()),
        Ok(Request::Version) => print(concat!("btrfs-recv-rs ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Request::Dump(options)) => exit(dump::command(&options, &mut Messages::new(1))),
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
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Says what is wrong with the command line. `btrbk` knows these texts by
/// `unrecognized option`, `invalid option` and `usage:`.
fn refuse(error: &UsageError) -> ExitCode {
    let text = match error {
        UsageError::Option(_) | UsageError::TwoModes(..) | UsageError::Misplaced { .. } => {
            format!("btrfs-recv-rs: {error}\nTry 'btrfs-recv-rs --help' for more information\n")
        }
        UsageError::PathCount { .. } => {
            format!("btrfs-recv-rs: {error}\n{}", args::usage())
        }
        UsageError::Value { .. } | UsageError::Unusable { .. } => format!("ERROR: {error}\n"),
    };
    let _ = io::stderr().write_all(text.as_bytes());
    ExitCode::FAILURE
}
