//! Turns btrfs send streams into others.

mod args;
mod input;
#[cfg(test)]
mod manual;
mod output;
mod parent;
mod split;
mod transforms;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Request};
use output::Destination;

/// Why the command failed, in words for its user.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// An input that cannot be read, or what it holds cannot be transformed.
    #[error("{input}: {error}")]
    Input {
        input: String,
        error: btrfs_sendstream::transform::TransformError,
    },
    /// A file that cannot be opened, written or finished.
    #[error("{file}: {error}")]
    File { file: String, error: io::Error },
    /// What was written could not be finished.
    #[error("{file}: {error}")]
    Finish {
        file: String,
        error: btrfs_sendstream::Error,
    },
    /// A binary stream would be written to a terminal.
    #[error("a send stream is not for the terminal; redirect the output, or use --output FILE")]
    Terminal,
    /// There is no standard output.
    #[error(
        "standard output is closed, or is /dev/null opened for reading and writing; use \
         --output FILE, or --force --output /dev/null to discard the stream"
    )]
    Closed,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "sendstream: {failure}{}", advice(&failure));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    match args.request {
        Request::Split(options) => split::run(&options, args.verbose),
        Request::Upgrade(options) => {
            transforms::upgrade(&options, Destination::open(&options.io)?, args.verbose)
        }
        Request::Downgrade(options) => {
            transforms::downgrade(&options, Destination::open(&options.io)?)
        }
        Request::Rewrite(options) => {
            let rewrite = options.rewrite();
            transforms::simple(rewrite, &options.io, Destination::open(&options.io)?)
        }
        Request::Filter(options) => {
            let filter = btrfs_sendstream::transform::Filter::new(options.rules());
            transforms::simple(filter, &options.io, Destination::open(&options.io)?)
        }
        Request::Join(io) => {
            let together = btrfs_sendstream::transform::Together::new();
            transforms::simple(together, &io, Destination::open(&io)?)
        }
        Request::Cat(io) => transforms::simple((), &io, Destination::open(&io)?),
    }
}

/// What to do next, where there is something.
fn advice(failure: &Failure) -> &'static str {
    use btrfs_sendstream::transform::TransformErrorKind as Kind;
    let Failure::Input { error, .. } = failure else {
        return "";
    };
    match error.kind() {
        Kind::Newer { .. } => "\n(--drop-newer leaves such commands out)",
        Kind::UnknownSize { .. } => {
            "\n(--parent DIR looks the size up in the parent snapshot; --assume-size takes the file \
             to be long enough, which is wrong only if the sender's file has space preallocated \
             beyond its end)"
        }
        Kind::UnknownGrowth { .. } => "\n(--parent DIR looks the size up in the parent snapshot)",
        Kind::HoleTooLong { .. } => "\n(--max-zeros sets the limit)",
        Kind::Crossing { .. } => {
            "\n(filter by a wider path; if the stream is incremental, a full one may do)"
        }
        Kind::SecondSubvolume { .. } => "\n(split the input first)",
        Kind::VersionRises { .. } => {
            "\n(upgrade or downgrade the inputs to one version, or join the higher one first)"
        }
        _ => "",
    }
}
