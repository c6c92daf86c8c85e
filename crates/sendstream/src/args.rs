//! The command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use btrfs_sendstream::transform::{Codec, Identity, Rewrite, Rules};
use btrfs_sendstream::{StreamPath, SubvolumeName, Uuid};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};

use sendstream_common::files::user_path;
use sendstream_common::unpack::Decompress;

use crate::input;

/// Inspect btrfs send streams, and transform them into streams that give the
/// same tree, or part of it.
///
/// Each command reads FILEs, or standard input if there are none, and writes to
/// standard output, or to the file given with --output. The input is checked as
/// by a receiver: checksums, order of commands, paths. An input may contain
/// several streams, and may be compressed with zstd, gzip, lz4 or xz.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 80,
    after_help = "Exit status: 0 if the output is complete and no problem was found; 1 if \
                  something failed or a problem was found, with its position in the input on \
                  standard error (the stream in the output is then incomplete and has no end \
                  command, so that receivers refuse it); 2 if the command line is wrong."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) request: Request,
    /// Print a summary on standard error.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// Check whether streams can be received, and in which order.
    ///
    /// Reads all streams in PATHs, files and directories, or in standard input.
    /// Checks checksums, the order of commands, attributes and the end command,
    /// that compressed extents can be decompressed, and that names are created
    /// before they are used. The content of the parent of an incremental stream
    /// is not known: only contradictions are found.
    ///
    /// Prints the properties and requirements of each subvolume, and for several
    /// files the order in which to receive them. The exit status is 1 if a
    /// problem was found, or if several files are given and a parent or clone
    /// source is in none of them.
    ///
    /// Directories are searched recursively, without following symbolic links.
    /// Compressed files that are not unpacked, and links that lead out of the
    /// directory, are errors.
    /// Other files that are not send streams, FIFOs, sockets, devices, and names
    /// that begin with a dot are skipped with a warning.
    Verify(Verify),
    /// Print the order in which to receive stored streams.
    ///
    /// Prints the files in PATHs, one to a line, each after its parent and its
    /// clone sources. The exit status is 1 if a parent or clone source is
    /// missing, which is printed on standard error, if a stream is damaged, or if
    /// two streams contain different subvolumes with the same name. Directories
    /// are searched as by `verify`.
    Order(Order),
    /// Print which paths a stream creates, changes, renames and deletes.
    ///
    /// The temporary names of senders are not shown. Streams of
    /// `btrfs send --no-data` are supported. For each name in the stream, uses
    /// less than 2 KiB of memory, plus twice the length of the name and four
    /// times that of its path; at most 4 GiB.
    Diff(Diff),
    /// Print what a subvolume contains, from its stored streams.
    ///
    /// Reads the full stream and the incremental streams that lead to a subvolume, in
    /// the right order, and prints its paths at the end of them: `.` is the subvolume
    /// itself, a directory comes before its content, and a file with several names is
    /// printed with each. PATHs are files and directories, which are searched as by
    /// `verify`; streams of other subvolumes are ignored. If no PATH is given, reads
    /// standard input.
    ///
    /// Nothing is printed if one of the streams is damaged, truncated or missing; of a
    /// stream with an index (see `index`), only the index is read. A parent has to have the UUID and the transid that the stream names. With
    /// several files or --subvolume, each file may contain one subvolume only.
    ///
    /// For each name in the subvolume, uses less than 1 KiB of memory (for a directory
    /// 2 KiB), plus twice the length of the name and of the target of a symbolic link;
    /// at most 4 GiB. File data uses none.
    List(List),
    /// Print the content of one file of a subvolume, from its stored streams.
    ///
    /// Reads the streams that `list` reads, and prints the file as it is at the end of
    /// them: PATH is its path in the subvolume, as `list` prints it, without escapes.
    /// FILEs are files and directories of stored streams.
    ///
    /// A stream without an index (see `index`) is read completely and checked. The data
    /// of the file is then read in a second pass. Nothing is printed before the content is complete, and
    /// nothing at all if one of the streams is damaged, truncated or missing. Holes are
    /// printed as zeros. A symbolic link is not followed: its target is in the error.
    /// If the data was cloned from a subvolume that is not a parent, or a parent of a
    /// parent, the file cannot be printed.
    ///
    /// For each name in one of the subvolumes, uses less than 2 KiB of memory (for a
    /// directory 4 KiB), plus four times the length of the name and of the target of a
    /// symbolic link, and 256 bytes for each extent of the file; at most 12 GiB. The
    /// temporary directory (see TMPDIR) needs space for the file, and 48 bytes for each
    /// command in the streams.
    CatFile(CatFile),
    /// Write an index beside each stream, for `list` and `cat-file`.
    ///
    /// The index of FILE is FILE.index: what the stream does, without its data. `list`
    /// then reads the index only, and `cat-file` the index and the data of the file (of
    /// a compressed stream, everything before that data has to be unpacked, too).
    /// PATHs are files and directories, which are searched as by `verify`. Each stream
    /// is read completely and checked. An index is replaced if it exists.
    ///
    /// An index is used if the stream has the size and the time of the last change that
    /// it had, and the same bytes at both ends, and if the index belongs to the owner of
    /// the stream or to root. Otherwise a warning is printed, and the stream is read.
    /// With an index, damage of the stream is noticed only where it is read;
    /// `--no-index` reads all of it. Needs about 100 bytes for each command of the
    /// stream, and the temporary directory (see TMPDIR) 8.
    Index(Index),
    /// Print the commands of streams.
    ///
    /// `text` is the format of `btrfs receive --dump`. `json` is one object to a
    /// line, with all fields of a header or command (of file data, the length),
    /// its position as in messages (`stream`, `command` and `byte`), and its size
    /// in the stream (`total`). Times are local in `text` (see `TZ`), and in UTC,
    /// with nanoseconds, in `json`. `summary` is the paragraph of `verify` for
    /// each subvolume, and the number of commands of each kind.
    ///
    /// In `json` a name that is not UTF-8 is an object with the key `hex`, its
    /// bytes as hexadecimal digits; `docs/json.md` in the repository describes all
    /// keys.
    Dump(Dump),
    /// Convert to version 2: join and compress data, turn zeros into holes.
    ///
    /// Linux 5.18 and later store the extents compressed as they are; on older
    /// kernels the receiver decompresses them. Receiving needs btrfs-progs 6.0 or
    /// later, or btrfs-recv-rs.
    Upgrade(Upgrade),
    /// Convert to a lower version, for older receivers.
    Downgrade(Downgrade),
    /// Change subvolume names, UUIDs and transids.
    Rewrite(RewriteOptions),
    /// Keep only some paths.
    ///
    /// If several rules match a path, the one with the longest path applies. A
    /// path that no rule matches is kept, unless there is an --include. The parent
    /// directories of included paths are kept. A filtered incremental stream needs
    /// a parent that was filtered by the same rules. If a file or directory is
    /// moved between a kept and an excluded path, and the stream does not contain
    /// its content, the stream is refused; so are hard links and clones between
    /// them.
    ///
    /// The subvolume keeps its UUID, so that incremental streams find it, and a
    /// receiver cannot distinguish it from the complete subvolume. Do not keep
    /// both on one filesystem, or change the UUID of the filtered one with
    /// rewrite.
    ///
    /// A stream does not list the other names of a file. If a file has two kept
    /// names, and one of them is moved to an excluded path, later changes under
    /// that name are missing: use full streams in that case.
    ///
    /// Excluded data is not hidden: the output may contain a file under a
    /// temporary name, and its removal.
    Filter(FilterOptions),
    /// Write each subvolume to a file of its own: 0001-NAME.btrfs-stream.
    ///
    /// Each file gets its name when it is complete. If a subvolume fails, the
    /// files of those before it stay.
    Split(Split),
    /// Join all subvolumes into one stream with one header and one end command,
    /// as `btrfs send -e` does.
    Join(Io),
    /// Concatenate and check streams. To print a file of a subvolume, use `cat-file`.
    Cat(Io),
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// Whether inputs are unpacked. They are by default: no stream begins as a
/// compressed file does, so that one cannot be taken for the other, and what is
/// read here is mostly what was stored.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Unpack {
    /// Unpack inputs that are compressed with zstd, gzip, lz4 or xz (auto), take
    /// all inputs to be in one of these formats, or unpack none.
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = decompress)]
    pub(crate) decompress: Decompress,
}

fn decompress(word: &str) -> Result<Decompress, &'static str> {
    word.parse()
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Files and directories; standard input if there are none.
    #[arg(value_name = "PATH")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
    /// The output format: text, or JSON, an object to a line.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Do not check names. Checking them uses less than 512 bytes of memory for
    /// each name, 1 KiB for each directory, and the bytes of the names; at most
    /// 4 GiB.
    #[arg(long)]
    pub(crate) no_names: bool,
    /// Skip unknown commands and attributes, such as vendor extensions, instead
    /// of refusing the stream.
    #[arg(long)]
    pub(crate) allow_unknown: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// Files and directories.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
    /// The output format: text, or JSON, an object to a line.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// End each name with a NUL byte instead of a newline, for `xargs -0`. Without
    /// this option control characters in names are escaped.
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// Read only the first command of each file. Clone sources, further
    /// subvolumes in a file, and damage are not found.
    #[arg(long)]
    pub(crate) quick: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Files and directories; standard input if there are none.
    #[arg(value_name = "PATH")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
    /// The subvolume to list, if the streams contain several: its name or UUID. By
    /// default, the one that is not the parent of another.
    #[arg(long, value_name = "NAME|UUID")]
    pub(crate) subvolume: Option<OsString>,
    /// Print kind and permissions, number of names, owner, group, size in bytes, time of
    /// the last change, and the target of a symbolic link. Of a device, print the number
    /// instead of the size.
    #[arg(short, long)]
    pub(crate) long: bool,
    /// The output format: text, or JSON, an object to a line.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// End each path with a NUL byte instead of a newline, for `xargs -0`. Without
    /// this option, paths are escaped as `dump` does.
    #[arg(short = '0', long, conflicts_with = "long")]
    pub(crate) null: bool,
    /// Read the streams completely, although they have an index.
    #[arg(long)]
    pub(crate) no_index: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CatFile {
    /// The file to print: its path in the subvolume.
    #[arg(value_name = "PATH", value_parser = OsStringValueParser::new().try_map(path))]
    pub(crate) path: StreamPath,
    /// Files and directories of stored streams.
    #[arg(value_name = "FILE", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
    /// The subvolume that contains the file, if the streams contain several: its name
    /// or UUID. By default, the one that is not the parent of another.
    #[arg(long, value_name = "NAME|UUID")]
    pub(crate) subvolume: Option<OsString>,
    /// Read the streams completely, although they have an index.
    #[arg(long)]
    pub(crate) no_index: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Index {
    /// Files and directories of stored streams.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// The files to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
    /// The output format: text, or JSON, an object to a line.
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
    /// The files to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
    /// The output format.
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
    /// The files to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
    /// Write to FILE instead of standard output. FILE must not exist; it appears
    /// when it is complete and on disk.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace an existing output file when the new one is complete.
    #[arg(short, long, requires = "output")]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) io: Io,
    /// The compression algorithm.
    #[arg(short, long, value_enum, default_value = "zstd")]
    pub(crate) compression: Compression,
    /// The compression level: 1 to 15 for zstd, 1 to 9 for zlib.
    #[arg(short, long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=15))]
    pub(crate) level: u8,
    /// Number of compression threads [default: number of processors].
    #[arg(short, long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Do not turn zeros into holes.
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
    /// The version to convert to.
    #[arg(short, long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(crate) to: u8,
    /// Drop commands that the version does not have and that do not change the
    /// content of files (inode flags, fs-verity), instead of refusing the stream.
    #[arg(long)]
    pub(crate) drop_newer: bool,
    /// Look up the sizes of files in DIR, the parent snapshot of the stream or a
    /// received copy of it.
    ///
    /// A stream contains the size of an existing file only if it changes; without
    /// this option a hole in such a file is refused. DIR is not verified: with
    /// another snapshot, files get a wrong size. Applies to the first stream of
    /// the input.
    #[arg(long, value_name = "DIR")]
    pub(crate) parent: Option<PathBuf>,
    /// Write a hole as zeros even if the size of the file is not known. This is
    /// wrong only if the file has space preallocated beyond its end.
    #[arg(long)]
    pub(crate) assume_size: bool,
    /// The longest hole to write as zeros, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 40)]
    pub(crate) max_zeros: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RewriteOptions {
    #[command(flatten)]
    pub(crate) io: Io,
    /// Set the name of the subvolume.
    #[arg(long, value_parser = OsStringValueParser::new().try_map(name))]
    name: Option<SubvolumeName>,
    /// Set the UUID of the subvolume, also where it is its own clone source.
    #[arg(long, value_parser = uuid)]
    uuid: Option<Uuid>,
    /// Set the ctransid of the subvolume.
    #[arg(long, value_name = "N")]
    ctransid: Option<u64>,
    /// Set the UUID of the parent, also where it is a clone source.
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    parent_uuid: Option<Uuid>,
    /// Set the ctransid of the parent.
    #[arg(long, value_name = "N")]
    parent_ctransid: Option<u64>,
    /// Replace a UUID wherever it occurs, and the ctransid with it.
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
    /// Keep PATH and everything below it.
    #[arg(short, long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(path))]
    include: Vec<StreamPath>,
    /// Exclude PATH and everything below it.
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
    /// The files to read; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) unpack: Unpack,
    /// The directory to write to.
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) directory: PathBuf,
}

fn name(text: std::ffi::OsString) -> Result<SubvolumeName, btrfs_sendstream::PathError> {
    SubvolumeName::parse(text.into_encoded_bytes().into())
}

fn path(text: std::ffi::OsString) -> Result<StreamPath, btrfs_sendstream::PathError> {
    user_path(&text)
}

fn uuid(text: &str) -> Result<Uuid, String> {
    match Uuid::parse_str(text) {
        Ok(uuid) if uuid.is_nil() => Err("the UUID must not be all zeros".to_owned()),
        Ok(uuid) => Ok(uuid),
        Err(error) => Err(error.to_string()),
    }
}

fn replacement(text: &str) -> Result<(Uuid, Identity), String> {
    let (old, new) = text
        .split_once('=')
        .ok_or("the form is OLD=NEW or OLD=NEW:CTRANSID")?;
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
        for (text, expected) in [
            ("/a/b/", "a/b"),
            ("a", "a"),
            ("./a", "a"),
            ("/", ""),
            (".", ""),
            ("", ""),
        ] {
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
