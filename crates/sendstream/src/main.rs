//! Inspects and transforms btrfs send streams.

mod args;
mod cat_file;
mod chosen;
mod diff;
mod dump;
mod index;
mod input;
mod list;
#[cfg(test)]
mod manual;
mod order;
mod output;
mod parent;
mod split;
mod transforms;
mod verify;

use std::io;
use std::process::ExitCode;

use btrfs_sendstream::inspect::TreeError;
use btrfs_sendstream::transform::TransformError;
use clap::Parser;
use sendstream_common::foreign::Foreign;
use sendstream_common::leading::Several;
use sendstream_common::output::{Output, Unwritten};
use sendstream_common::text;

use args::{Args, Format, Request};
use cat_file::CatError;
use output::Destination;

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// An input that cannot be read, or what it holds cannot be transformed.
    #[error("{input}: {error}")]
    Input {
        input: String,
        error: TransformError,
    },
    /// A file that cannot be opened, written or finished.
    #[error("{file}: {error}")]
    File { file: String, error: io::Error },
    /// An input that is damaged, or is no stream.
    #[error("{input}: {error}")]
    Stream {
        input: String,
        error: btrfs_sendstream::Error,
        foreign: Option<Foreign>,
    },
    /// Commands that contradict each other.
    #[error("{input}: {error}")]
    Contradiction {
        input: String,
        error: btrfs_sendstream::inspect::DiffError,
    },
    /// A command that cannot be applied to the tree of the streams before it.
    #[error("{input}: {operation}: {error} ({at})")]
    Tree {
        input: String,
        operation: String,
        error: Box<TreeError>,
        at: btrfs_sendstream::Position,
    },
    /// See [`CatError`].
    #[error(transparent)]
    Cat(#[from] CatError),
    /// See [`Several`].
    #[error(transparent)]
    SeveralSubvolumes(#[from] Several),
    /// What was written could not be finished.
    #[error("{file}: {error}")]
    Finish {
        file: String,
        error: btrfs_sendstream::Error,
    },
    /// A binary stream would be written to a terminal.
    #[error("not writing a stream to a terminal; redirect the output, or use --output FILE")]
    Terminal,
    /// There is no standard output.
    #[error(
        "standard output is closed, or is /dev/null opened for reading and writing; use \
         --output FILE, or --force --output /dev/null to discard the stream"
    )]
    Closed,
}

impl Failure {
    /// Standard output could not be written.
    fn output(error: io::Error) -> Self {
        let file = "standard output".to_owned();
        Self::File { file, error }
    }

    /// Whether nobody reads the output any more, who needs no message.
    fn is_unread(&self) -> bool {
        matches!(self, Self::File { error, .. } if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            if !failure.is_unread() {
                say(&format!("{failure}{}", advice(&failure)));
            }
            ExitCode::FAILURE
        }
    }
}

impl From<Unwritten> for Failure {
    fn from(Unwritten(error): Unwritten) -> Self {
        Self::output(error)
    }
}

fn output(format: Format) -> Output<io::StdoutLock<'static>> {
    Output::new("sendstream", io::stdout().lock(), format == Format::Json)
}

/// Prints a message on standard error.
fn say(text: &str) {
    text::say("sendstream", text);
}

/// Carries out a request; returns whether all is well with what was looked at.
fn run(args: Args) -> Result<bool, Failure> {
    match args.request {
        Request::Verify(options) => return verify::run(&options),
        Request::Diff(options) => return diff::run(&options),
        Request::Dump(options) => return dump::run(&options),
        Request::Order(options) => return order::run(&options),
        Request::List(options) => return list::run(&options),
        Request::CatFile(options) => return cat_file::run(&options),
        Request::Index(options) => return index::run(&options),
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
    }?;
    Ok(true)
}

/// What to do next, where there is something.
fn advice(failure: &Failure) -> String {
    match failure {
        Failure::Stream {
            foreign: Some(foreign),
            ..
        } => format!("\n({}; {})", foreign.likely, foreign.to_do),
        Failure::Input { error, .. } => advice_on_input(error).to_owned(),
        Failure::Tree { error, .. } => advice_on_tree(error).to_owned(),
        Failure::Cat(error) => error.advice().to_owned(),
        Failure::SeveralSubvolumes(_) => SPLIT.to_owned(),
        Failure::Stream { .. }
        | Failure::Contradiction { .. }
        | Failure::File { .. }
        | Failure::Finish { .. }
        | Failure::Terminal
        | Failure::Closed => String::new(),
    }
}

const SPLIT: &str = "\n(sendstream split writes each subvolume to a file of its own)";

fn advice_on_tree(error: &TreeError) -> &'static str {
    match error {
        TreeError::NoParent { .. } => {
            "\n(add the stream of the parent to the command line, and those before it back to the \
             full stream)"
        }
        TreeError::OtherParent { parent, found, .. } if parent.uuid == found.uuid => {
            "\n(one UUID with two transids: the parent was made writable and changed, or the streams \
             are from two hosts)"
        }
        TreeError::OtherParent { .. } | TreeError::SecondSubvolume { .. } => SPLIT,
        _ => "",
    }
}

fn advice_on_input(error: &TransformError) -> &'static str {
    use btrfs_sendstream::transform::TransformErrorKind as Kind;
    match error.kind() {
        Kind::Newer { .. } => "\n(--drop-newer drops such commands)",
        Kind::UnknownSize { .. } => {
            "\n(--parent DIR looks up the size in the parent snapshot; --assume-size assumes that the \
             file is long enough, which is wrong only if it has space preallocated beyond its end)"
        }
        Kind::UnknownGrowth { .. } => "\n(--parent DIR looks up the size in the parent snapshot)",
        Kind::HoleTooLong { .. } => "\n(--max-zeros sets the limit)",
        Kind::Crossing { .. } => {
            "\n(use a rule with a shorter path; a full stream instead of an incremental one may help)"
        }
        Kind::SecondSubvolume { .. } => "\n(split the input first)",
        Kind::VersionRises { .. } => {
            "\n(convert the inputs to one version with upgrade or downgrade, or put the higher version \
             first)"
        }
        _ => "",
    }
}
