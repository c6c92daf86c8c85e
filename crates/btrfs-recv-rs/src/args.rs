//! The command line of `btrfs receive`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::getopt::{self, Arg, OptionError, Spec};

/// How `--help` and a wrong command line describe the command.
pub(crate) const USAGE: &str = "\
usage: btrfs-recv-rs [receive] [options] PATH
       btrfs-recv-rs [receive] --dump [options]
";

/// What `--help` says below [`USAGE`].
pub(crate) const HELP: &str = "
Receive the subvolumes of a btrfs send stream.

Every subvolume in the input is created in PATH, a directory on a mounted
btrfs. When its data is on disk it gets its received UUID and becomes
read-only; one that could not be completed stays writable and has none.

    -f FILE            read the stream from FILE instead of standard input
    -e                 stop at the end command of the first stream, and leave
                       what follows it unread
    -C, --chroot       take nothing from outside PATH: parents and clone
                       sources too have to lie in it
    -E, --max-errors N give up after N failed commands (default 1), 0: never;
                       a subvolume in which one failed is never completed
    -m ROOTMOUNT       the mount point that PATH lies in
    --force-decompress decompress data here instead of passing it to the
                       filesystem compressed
    --test-encoded     decompress data to test it before it is passed on; a
                       filesystem stores compressed data without a look
    --dump             print the commands of the stream, receive nothing
    -q, --quiet        print errors and warnings only
    -v, --verbose      print more; may be repeated
    --help             print this help
    --version          print the version

Compression support: zlib, lzo, zstd
Features: stream versions 1, 2 and 3, fsverity
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `--dump`: the stream's file, if not standard input.
    Dump(Option<PathBuf>),
    /// Anything else.
    Receive(Receive),
}

/// What to receive, where, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Receive {
    /// The directory to create subvolumes in.
    pub(crate) destination: PathBuf,
    /// The stream's file, if not standard input.
    pub(crate) input: Option<PathBuf>,
    /// Whether to stop at the first END command.
    pub(crate) stop_at_end: bool,
    /// Whether parents and clone sources have to lie in the destination.
    pub(crate) confine_sources: bool,
    /// Give up after this many failed commands; 0: never.
    pub(crate) max_errors: u64,
    /// A mount point that the destination lies in.
    pub(crate) root_mount: Option<PathBuf>,
    /// Whether to decompress data instead of handing it on compressed.
    pub(crate) force_decompress: bool,
    /// Whether to test compressed data before it is handed on.
    pub(crate) test_encoded: bool,
    /// 0 quiet, 1 default, 2 data, 3 every command.
    pub(crate) verbosity: u8,
}

/// A command line that cannot be followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    /// An option is not understood.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Not exactly one path.
    #[error("exactly 1 argument expected, {0} given{hint}", hint = file_hint(.0))]
    PathCount(usize),
    /// A path that nothing would be done with.
    #[error("exactly 0 arguments expected with --dump, {0} given{hint}", hint = file_hint(.0))]
    PathWithDump(usize),
    /// The value of `-E` is no number.
    #[error("invalid value for --max-errors: '{}'", .0.as_bytes().escape_ascii())]
    MaxErrors(OsString),
}

/// A path too many is commonly that of the stream.
fn file_hint(paths: &usize) -> &'static str {
    match paths {
        0 => "",
        _ => " (a stream file is given with -f)",
    }
}

#[derive(Clone, Copy)]
enum Id {
    File,
    StopAtEnd,
    Chroot,
    MaxErrors,
    RootMount,
    ForceDecompress,
    TestEncoded,
    Dump,
    Quiet,
    Verbose,
    Help,
    Version,
}

const OPTIONS: &[Spec<Id>] = &[
    option(Id::File, Some(b'f'), None, true),
    option(Id::StopAtEnd, Some(b'e'), None, false),
    option(Id::Chroot, Some(b'C'), Some("chroot"), false),
    option(Id::MaxErrors, Some(b'E'), Some("max-errors"), true),
    option(Id::RootMount, Some(b'm'), None, true),
    option(Id::ForceDecompress, None, Some("force-decompress"), false),
    option(Id::TestEncoded, None, Some("test-encoded"), false),
    option(Id::Dump, None, Some("dump"), false),
    option(Id::Quiet, Some(b'q'), Some("quiet"), false),
    option(Id::Verbose, Some(b'v'), Some("verbose"), false),
    option(Id::Help, None, Some("help"), false),
    option(Id::Version, None, Some("version"), false),
];

const fn option(id: Id, short: Option<u8>, long: Option<&'static str>, value: bool) -> Spec<Id> {
    Spec {
        id,
        short,
        long,
        value,
    }
}

/// Reads a command line, the program's name first.
///
/// A first argument `receive` or `btrfs-receive` is the verb, not a path,
/// unless the program itself is called that. `posixly_correct` is whether
/// the environment has `POSIXLY_CORRECT`.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    posixly_correct: bool,
) -> Result<Request, UsageError> {
    let mut args = args.into_iter().peekable();
    let program = args.next().unwrap_or_default();
    let called_receive = Path::new(&program).file_name().is_some_and(is_verb);
    if !called_receive {
        args.next_if(|arg| is_verb(arg));
    }
    let mut given = Given::default();
    for arg in getopt::split(OPTIONS, args, !posixly_correct)? {
        match arg {
            Arg::Flag(Id::Help) => return Ok(Request::Help),
            Arg::Flag(Id::Version) => return Ok(Request::Version),
            Arg::Flag(id) => given.flag(id),
            Arg::Valued(id, value) => given.valued(id, value)?,
            Arg::Operand(path) => given.paths.push(path.into()),
        }
    }
    given.request()
}

fn is_verb(name: &OsStr) -> bool {
    name == "receive" || name == "btrfs-receive"
}

/// What was seen so far; of a repeated option the last counts.
struct Given {
    paths: Vec<PathBuf>,
    input: Option<PathBuf>,
    stop_at_end: bool,
    confine_sources: bool,
    max_errors: u64,
    root_mount: Option<PathBuf>,
    force_decompress: bool,
    test_encoded: bool,
    dump: bool,
    verbosity: u8,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            input: None,
            stop_at_end: false,
            confine_sources: false,
            max_errors: 1,
            root_mount: None,
            force_decompress: false,
            test_encoded: false,
            dump: false,
            verbosity: 1,
        }
    }
}

impl Given {
    fn flag(&mut self, id: Id) {
        match id {
            Id::StopAtEnd => self.stop_at_end = true,
            Id::Chroot => self.confine_sources = true,
            Id::ForceDecompress => self.force_decompress = true,
            Id::TestEncoded => self.test_encoded = true,
            Id::Dump => self.dump = true,
            Id::Quiet => self.verbosity = 0,
            // Counts up from where a -q before it left off: -q -v is the
            // default level.
            Id::Verbose => self.verbosity = (self.verbosity + 1).min(3),
            Id::File | Id::MaxErrors | Id::RootMount | Id::Help | Id::Version => {}
        }
    }

    fn valued(&mut self, id: Id, value: OsString) -> Result<(), UsageError> {
        match id {
            // An empty name means standard input, as does no -f at all.
            Id::File => self.input = Some(value).filter(|v| !v.is_empty()).map(Into::into),
            Id::RootMount => self.root_mount = Some(value.into()),
            Id::MaxErrors => self.max_errors = parse_count(value)?,
            _ => {}
        }
        Ok(())
    }

    fn request(self) -> Result<Request, UsageError> {
        let count = self.paths.len();
        if self.dump {
            return match count {
                0 => Ok(Request::Dump(self.input)),
                _ => Err(UsageError::PathWithDump(count)),
            };
        }
        let Ok([destination]) = <[PathBuf; 1]>::try_from(self.paths) else {
            return Err(UsageError::PathCount(count));
        };
        Ok(Request::Receive(Receive {
            destination,
            input: self.input,
            stop_at_end: self.stop_at_end,
            confine_sources: self.confine_sources,
            max_errors: self.max_errors,
            root_mount: self.root_mount,
            force_decompress: self.force_decompress,
            test_encoded: self.test_encoded,
            verbosity: self.verbosity,
        }))
    }
}

/// A decimal number without sign; empty counts as 0.
fn parse_count(value: OsString) -> Result<u64, UsageError> {
    let digits = value.to_str().unwrap_or("?");
    if digits.is_empty() {
        return Ok(0);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UsageError::MaxErrors(value));
    }
    digits.parse().map_err(|_| UsageError::MaxErrors(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Request, UsageError> {
        parse(line.split_whitespace().map(OsString::from), false)
    }

    fn receive(line: &str) -> Receive {
        match parse_line(line) {
            Ok(Request::Receive(receive)) => receive,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_verb_is_optional_and_may_be_the_program() {
        for line in [
            "btrfs-recv-rs /d",
            "btrfs-recv-rs receive /d",
            "btrfs-recv-rs btrfs-receive /d",
            "/usr/bin/btrfs-receive /d",
            "receive /d",
        ] {
            assert_eq!(receive(line).destination, Path::new("/d"), "{line}");
        }
        assert_eq!(
            receive("/bin/btrfs-receive receive").destination,
            Path::new("receive")
        );
    }

    #[test]
    fn reads_what_callers_write() {
        let btrbk = receive("btrfs-receive --max-errors=0 /dir/");
        assert_eq!((btrbk.max_errors, btrbk.verbosity), (0, 1));
        let snbk = receive("x receive -- /dir");
        assert!(!snbk.stop_at_end && snbk.input.is_none());
        assert!(receive("x receive DIR -e").stop_at_end);
        let xfstests = receive("x receive -vvvv --force -f FILE MNT");
        assert!(xfstests.force_decompress);
        assert_eq!(xfstests.verbosity, 3);
        assert_eq!(xfstests.input, Some("FILE".into()));
        let after = receive("x MNT -f FILE -q");
        assert_eq!((after.verbosity, after.input), (0, Some("FILE".into())));
        let scripts = receive("x --chroot --max-errors 1 -m / D");
        assert!(scripts.confine_sources);
        assert_eq!(scripts.root_mount, Some("/".into()));
    }

    #[test]
    fn the_last_of_quiet_and_verbose_counts() {
        for (line, level) in [
            ("x D", 1),
            ("x -q D", 0),
            ("x -v D", 2),
            ("x -q -v D", 1),
            ("x -v -q D", 0),
            ("x -qvv D", 2),
            ("x --verbose -v D", 3),
            ("x -vvvvvvvv D", 3),
        ] {
            assert_eq!(receive(line).verbosity, level, "{line}");
        }
    }

    #[test]
    fn max_errors_is_decimal() {
        for (value, expected) in [("-E5", 5), ("--max=0", 0), ("--max-errors=", 0)] {
            assert_eq!(receive(&format!("x {value} D")).max_errors, expected);
        }
        for value in ["0x10", "-1", "+1", "1k", "99999999999999999999", "\u{661}"] {
            let error = parse_line(&format!("x -E {value} D")).unwrap_err();
            assert!(matches!(error, UsageError::MaxErrors(_)), "{value}");
        }
    }

    #[test]
    fn an_empty_file_name_is_standard_input() {
        let args = ["x", "-f", "", "D"].map(OsString::from);
        let Ok(Request::Receive(receive)) = parse(args, false) else {
            panic!("refused");
        };
        assert_eq!(receive.input, None);
    }

    #[test]
    fn dump_takes_no_path() {
        assert_eq!(parse_line("x --dump"), Ok(Request::Dump(None)));
        assert_eq!(
            parse_line("x --dump -f - -E 1"),
            Ok(Request::Dump(Some("-".into())))
        );
        assert_eq!(parse_line("x --dump D"), Err(UsageError::PathWithDump(1)));
    }

    #[test]
    fn counts_paths() {
        for (line, count) in [
            ("x", 0),
            ("x -e", 0),
            ("x a b", 2),
            ("x receive receive a", 2),
        ] {
            assert_eq!(parse_line(line), Err(UsageError::PathCount(count)));
        }
        let posix = parse(["x", "D", "-e"].map(OsString::from), true);
        assert_eq!(posix, Err(UsageError::PathCount(2)));
    }
}
