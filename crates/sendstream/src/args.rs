//! The command line.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use btrfs_sendstream::transform::{Codec, Identity, Rewrite, Rules};
use btrfs_sendstream::{StreamPath, SubvolumeName, Uuid};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};

use crate::input;

/// Inspect btrfs send streams, and turn them into others that give the same
/// tree, or a chosen part of it.
///
/// Each command reads FILEs, or standard input if there is none, and writes
/// to standard output; those that make a stream also to the file that --output
/// names. What is read is checked as a receiver would: checksums, order, paths.
/// Several streams in one input are welcome.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 80,
    after_help = "Exit status: 0 if everything was written and nothing is wrong with what was \
                  inspected; 1 if something failed or is wrong, with the reason and its place \
                  in the input on standard error (what was written of a stream that failed has \
                  no end then, so that no receiver takes it for complete); 2 if the command \
                  line is wrong."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) request: Request,
    /// Say on standard error what was done.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// Check whether streams can be received, and in which order.
    ///
    /// Reads the streams in PATHs, files and directories, or in standard input,
    /// to their end, without a filesystem: checksums, the order of commands,
    /// attributes, the end command; that every compressed extent can be
    /// decompressed; that names are made before they are used. Of the parent of
    /// an incremental stream nothing is known: only contradictions are found.
    ///
    /// Prints what each subvolume is and needs; for several files also the order
    /// to receive them in. The exit status is 1 if anything is wrong, or if
    /// several files are given and a parent or clone source is in none of them.
    ///
    /// Directories are searched to the bottom, without following symbolic links.
    /// A file that is compressed and a link that leads out of the directory are
    /// errors; other files that are no send streams, FIFOs, sockets and devices,
    /// and names that begin with a dot are skipped with a warning.
    Verify(Verify),
    /// Print the order in which to receive stored streams.
    ///
    /// Prints the files in PATHs, one to a line, so that each comes after its
    /// parent and its clone sources. The exit status is 1 if a parent or clone
    /// source is in none of them, if a stream is damaged, or if two hold
    /// different subvolumes of one name; what is missing is named on standard
    /// error. Directories are searched as by `verify`.
    Order(Order),
    /// Print which paths a stream creates, changes, renames and deletes.
    ///
    /// Temporary names that senders use are not shown. Works on streams of
    /// `btrfs send --no-data` as well. Takes less than 2 KiB of memory for each
    /// name that the stream uses, twice its bytes, and four times those of its
    /// path; 4 GiB at most.
    Diff(Diff),
    /// Print the commands of streams.
    ///
    /// `text` is what `btrfs receive --dump` prints, of all streams of the
    /// input. `json` is one object to a line with every field of a header or
    /// command but the file data, of which it has the length; where it is:
    /// `stream`, `command` and `byte`, as messages count them; and `total`, how
    /// many bytes of the stream it takes. Times are local in `text` (see `TZ`),
    /// and in UTC, to the nanosecond, in `json`. `summary` is what `verify`
    /// prints about each subvolume, and how many commands of each kind it has.
    ///
    /// In `json` a name that is not UTF-8 is an object whose `hex` has the bytes
    /// as hexadecimal digits; `docs/json.md` of the repository has all keys.
    Dump(Dump),
    /// Make version 2: join and compress data, turn zeros into holes.
    ///
    /// Receivers store the extents as they are: Linux 5.18 or later does,
    /// elsewhere they decompress. Needs btrfs-progs 6.0 or later, or
    /// btrfs-recv-rs, to receive.
    Upgrade(Upgrade),
    /// Make a lower version, for older receivers.
    Downgrade(Downgrade),
    /// Change subvolume names, UUIDs and transids.
    Rewrite(RewriteOptions),
    /// Keep some paths only.
    ///
    /// Of several rules, the one with the longest path counts. What none is
    /// about is kept, unless there is an --include. Directories on the way to
    /// what is included are kept. An incremental stream is for a parent that
    /// was filtered by the same rules. Where a file or directory crosses the
    /// border, and the stream does not hold what is needed, it is refused; so
    /// are hard links and clones across the border.
    ///
    /// The result keeps its UUID, so that incremental streams find it. A
    /// receiver cannot tell it from the complete subvolume: do not keep both on
    /// one filesystem, or give the filtered one UUIDs of its own with rewrite.
    ///
    /// No stream tells that a file has further names. If it has two names that
    /// are kept, and one of them moves to where it is left out, later changes
    /// under that name are missing: filter full streams where that may be.
    ///
    /// What is left out is not hidden: data of a file may be in the output under
    /// a temporary name, and removed again behind it.
    Filter(FilterOptions),
    /// Write each subvolume to a file of its own: 0001-NAME.btrfs-stream.
    ///
    /// A file gets its name when it is complete. Files of subvolumes before
    /// the one that fails stay.
    Split(Split),
    /// Put all subvolumes into one stream with one header and one END, as
    /// `btrfs send -e` does.
    Join(Io),
    /// Put streams one after the other, and check them.
    Cat(Io),
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Files and directories; standard input if there are none.
    #[arg(value_name = "PATH")]
    pub(crate) inputs: Vec<PathBuf>,
    /// How to print: text, or JSON, an object to a line.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Do not follow which names exist. Following them takes less than 512
    /// bytes of memory for each name, 1 KiB for each directory, and the bytes
    /// of the names; 4 GiB at most.
    #[arg(long)]
    pub(crate) no_names: bool,
    /// Skip commands and attributes that are unknown, such as those of a
    /// vendor, instead of refusing the stream.
    #[arg(long)]
    pub(crate) allow_unknown: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// Files and directories.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// How to print: text, or JSON, an object to a line.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// End each name with a NUL byte instead of a line feed, for `xargs -0`.
    /// Without it control characters in names are escaped.
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// Read the first command of each file only. Then clone sources are not
    /// known, subvolumes after the first in a file are not seen, and damage is
    /// not found.
    #[arg(long)]
    pub(crate) quick: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Where to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// How to print: text, or JSON, an object to a line.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

impl Diff {
    pub(crate) fn inputs(&self) -> impl Iterator<Item = Option<&Path>> {
        input::each(&self.inputs)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dump {
    /// Where to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: DumpFormat,
}

impl Dump {
    pub(crate) fn inputs(&self) -> impl Iterator<Item = Option<&Path>> {
        input::each(&self.inputs)
    }
}

/// How to print commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DumpFormat {
    Text,
    Json,
    Summary,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Io {
    /// Where to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) inputs: Vec<PathBuf>,
    /// Write here instead of to standard output. The file must not exist, and
    /// does not before it is complete and on disk.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the output file, once the new one is complete.
    #[arg(short, long, requires = "output")]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) io: Io,
    /// How to compress.
    #[arg(short, long, value_enum, default_value = "zstd")]
    pub(crate) compression: Compression,
    /// How hard: 1 to 15 for zstd, 1 to 9 for zlib.
    #[arg(short, long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=15))]
    pub(crate) level: u8,
    /// How many threads compress [default: as many as there are processors].
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Leave zeros as data.
    #[arg(long)]
    pub(crate) no_holes: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Compression {
    Zstd,
    Zlib,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Zstd => Self::Zstd,
            Compression::Zlib => Self::Zlib,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Downgrade {
    #[command(flatten)]
    pub(crate) io: Io,
    /// The version to make.
    #[arg(short, long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) to: u8,
    /// Leave out commands that the version lacks and that are not about the
    /// content of files (inode flags, verity) instead of refusing the stream.
    #[arg(long)]
    pub(crate) drop_newer: bool,
    /// Look up the sizes of files in DIR, the snapshot that the stream was made
    /// against or a received copy of it.
    ///
    /// A stream does not say how long an existing file is, unless that changes,
    /// so without it a hole in such a file is refused. Give the right
    /// snapshot: from another one, files get a wrong size. For the first
    /// stream of the input only.
    #[arg(long, value_name = "DIR")]
    pub(crate) parent: Option<PathBuf>,
    /// Write a hole as zeros even if nothing shows that the file is that
    /// long. Wrong only where the sender's file has space preallocated beyond
    /// its end.
    #[arg(long)]
    pub(crate) assume_size: bool,
    /// Longest hole to write as zeros, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 40)]
    pub(crate) max_zeros: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RewriteOptions {
    #[command(flatten)]
    pub(crate) io: Io,
    /// Name of the subvolume.
    #[arg(long, value_parser = OsStringValueParser::new().try_map(name))]
    name: Option<SubvolumeName>,
    /// UUID of the subvolume, also where it is its own clone source.
    #[arg(long, value_parser = uuid)]
    uuid: Option<Uuid>,
    /// ctransid of the subvolume.
    #[arg(long, value_name = "N")]
    ctransid: Option<u64>,
    /// UUID of the parent, also where it is a clone source.
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    parent_uuid: Option<Uuid>,
    /// ctransid of the parent.
    #[arg(long, value_name = "N")]
    parent_ctransid: Option<u64>,
    /// Replace a UUID wherever it occurs, and the ctransid beside it.
    #[arg(long = "replace", value_name = "OLD=NEW[:CTRANSID]", value_parser = replacement)]
    replacements: Vec<(Uuid, Identity)>,
}

impl RewriteOptions {
    pub(crate) fn rewrite(&self) -> Rewrite {
        let identity = |uuid, ctransid| Identity { uuid, ctransid };
        let mut rewrite = Rewrite::new()
            .own(identity(self.uuid, self.ctransid))
            .parent(identity(self.parent_uuid, self.parent_ctransid));
        if let Some(name) = &self.name {
            rewrite = rewrite.name(name.clone());
        }
        for (old, new) in &self.replacements {
            rewrite = rewrite.replace(*old, *new);
        }
        rewrite
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct FilterOptions {
    #[command(flatten)]
    pub(crate) io: Io,
    /// Keep this path and what lies below it.
    #[arg(short, long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(path))]
    include: Vec<StreamPath>,
    /// Leave out this path and what lies below it.
    #[arg(short, long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(path))]
    exclude: Vec<StreamPath>,
}

impl FilterOptions {
    pub(crate) fn rules(&self) -> Rules {
        let rules = self
            .include
            .iter()
            .cloned()
            .fold(Rules::default(), Rules::include);
        self.exclude.iter().cloned().fold(rules, Rules::exclude)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Split {
    /// Where to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) inputs: Vec<PathBuf>,
    /// The directory to write to.
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) directory: PathBuf,
}

fn name(text: std::ffi::OsString) -> Result<SubvolumeName, btrfs_sendstream::PathError> {
    SubvolumeName::parse(text.into_encoded_bytes().into())
}

/// A path as people write it: slashes around it do no harm.
fn path(text: std::ffi::OsString) -> Result<StreamPath, btrfs_sendstream::PathError> {
    let bytes = text.into_encoded_bytes();
    let start = bytes
        .iter()
        .position(|&byte| byte != b'/')
        .unwrap_or(bytes.len());
    let end = bytes
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(start, |last| last + 1);
    StreamPath::parse(bytes.get(start..end).unwrap_or_default().to_vec().into())
}

fn uuid(text: &str) -> Result<Uuid, String> {
    match Uuid::parse_str(text) {
        Ok(uuid) if uuid.is_nil() => Err("a UUID of zeros means none".to_owned()),
        Ok(uuid) => Ok(uuid),
        Err(error) => Err(error.to_string()),
    }
}

fn replacement(text: &str) -> Result<(Uuid, Identity), String> {
    let (old, new) = text.split_once('=').ok_or("OLD=NEW is needed")?;
    let (new, ctransid) = match new.split_once(':') {
        Some((new, number)) => {
            let number = number.parse::<u64>().map_err(|error| error.to_string())?;
            (new, Some(number))
        }
        None => (new, None),
    };
    let identity = Identity {
        uuid: Some(uuid(new)?),
        ctransid,
    };
    Ok((uuid(old)?, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn paths_may_have_slashes_around_them() {
        for (text, expected) in [("/a/b/", "a/b"), ("a", "a"), ("/", ""), ("", "")] {
            assert_eq!(path(text.into()).unwrap().as_bytes(), expected.as_bytes());
        }
        assert!(path("a/../b".into()).is_err());
    }

    #[test]
    fn replacements_have_two_uuids() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (old, new) = replacement(&format!("{a}={b}:7")).unwrap();
        assert_eq!((old, new.uuid, new.ctransid), (a, Some(b), Some(7)));
        for wrong in [
            format!("{a}"),
            format!("{a}={b}:x"),
            format!("{a}={}", Uuid::nil()),
        ] {
            assert!(replacement(&wrong).is_err(), "{wrong}");
        }
    }
}
