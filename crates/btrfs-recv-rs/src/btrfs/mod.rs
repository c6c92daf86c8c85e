//! Called as `btrfs`: in the place of the program of btrfs-progs.
//!
//! Tools that run `btrfs receive` have no setting for another program, or one
//! that it would be too much to ask for. They find this one first in `PATH`
//! instead: it receives, and leaves every other verb to the real `btrfs`.

mod real;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::args::getopt::{self, Arg, Spec};

pub(crate) use real::{NoBtrfs, exec};

/// What a call as `btrfs` comes down to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A receive: its command line, beginning with the verb.
    Receive(Vec<OsString>),
    /// Something for the real `btrfs`.
    Other,
    /// A receive behind an option that is not known: it must not reach the
    /// real `btrfs`, which may know it, unnoticed.
    Unclear(getopt::OptionError),
}

/// Whether the program was called `btrfs`.
pub(crate) fn is_name(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new("btrfs"))
}

/// Options that stand before the verb.
#[derive(Clone, Copy)]
enum Global {
    Verbose,
    VerboseLong,
    Quiet,
    Log,
    DryRun,
    /// Says nothing about a receive: `btrfs` ignores it there too.
    Ignored,
    /// Answered by the real `btrfs`.
    Answered,
}

const GLOBALS: &[Spec<Global>] = &[
    letter(Global::Verbose, b'v'),
    global(Global::VerboseLong, "verbose", false),
    letter(Global::Quiet, b'q'),
    global(Global::Quiet, "quiet", false),
    global(Global::Log, "log", true),
    global(Global::DryRun, "dry-run", false),
    global(Global::Ignored, "format", true),
    global(Global::Ignored, "param", true),
    global(Global::Answered, "help", false),
    global(Global::Answered, "version", false),
];

const fn global(id: Global, long: &'static str, value: bool) -> Spec<Global> {
    Spec {
        id,
        short: None,
        long: Some(long),
        value,
        optional: false,
        preferred: false,
    }
}

const fn letter(id: Global, short: u8) -> Spec<Global> {
    Spec {
        id,
        short: Some(short),
        long: None,
        value: false,
        optional: false,
        preferred: false,
    }
}

/// Reads a command line, the program's name not among it.
pub(crate) fn read(args: &[OsString]) -> Call {
    let words = match getopt::split(GLOBALS, args.iter().cloned(), false) {
        Ok(words) => words,
        Err(_) if !args.iter().any(|arg| is_receive(arg)) => return Call::Other,
        Err(error) => return Call::Unclear(error),
    };
    let is_verb = |word: &Arg<_>| matches!(word, Arg::Operand(_));
    let Some(at) = words.iter().position(is_verb) else {
        return Call::Other;
    };
    let mut globals = words;
    let mut rest = globals.split_off(at).into_iter().filter_map(operand);
    match rest.next() {
        Some(verb) if is_receive(&verb) => {}
        Some(verb) if verb == "help" => return help(&rest.collect::<Vec<_>>()),
        _ => return Call::Other,
    }
    let mut line = vec![OsString::from("receive")];
    for word in globals {
        let options = match word {
            Arg::Flag(Global::Answered) => return Call::Other,
            Arg::Flag(id) => translated(id),
            Arg::Valued(Global::Log, level) => level_options(&level),
            Arg::Valued(..) | Arg::Operand(_) => &[],
        };
        line.extend(options.iter().map(OsString::from));
    }
    line.extend(rest);
    Call::Receive(line)
}

fn operand(word: Arg<Global>) -> Option<OsString> {
    match word {
        Arg::Operand(operand) => Some(operand),
        Arg::Flag(_) | Arg::Valued(..) => None,
    }
}

/// `btrfs help receive` is about this program.
fn help(topics: &[OsString]) -> Call {
    match topics {
        [topic] if is_receive(topic) => Call::Receive(vec!["receive".into(), "--help".into()]),
        _ => Call::Other,
    }
}

/// Verbs may be shortened while they are unique: `rec` is, `re` is not.
fn is_receive(verb: &OsStr) -> bool {
    let verb = verb.as_bytes();
    verb.len() >= "rec".len() && b"receive".starts_with(verb)
}

/// How a receive is told what a global option asks for. The long form of `-v`
/// counts twice, as it does with `btrfs`.
fn translated(id: Global) -> &'static [&'static str] {
    match id {
        Global::Verbose => &["-v"],
        Global::VerboseLong => &["-v", "-v"],
        Global::Quiet => &["-q"],
        // `btrfs` accepts it and receives all the same.
        Global::DryRun => &["--dry-run"],
        Global::Log | Global::Ignored | Global::Answered => &[],
    }
}

/// The levels of `--log`, `default` being one above the default.
fn level_options(level: &OsStr) -> &'static [&'static str] {
    match level.as_bytes() {
        b"quiet" => &["-q"],
        b"default" => &["-q", "-v", "-v"],
        b"info" | b"verbose" | b"debug" => &["-q", "-v", "-v", "-v"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Call {
        let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        read(&words)
    }

    #[test]
    fn receives_are_recognised() {
        for (line, expected) in [
            ("receive /d", "receive /d"),
            ("rec /d -e", "receive /d -e"),
            ("receive -- -d", "receive -- -d"),
            ("-q receive -v D", "receive -q -v D"),
            ("-vv receive D", "receive -v -v D"),
            ("--verbose receive D", "receive -v -v D"),
            ("--log=quiet receive D", "receive -q D"),
            ("--log default receive D", "receive -q -v -v D"),
            ("--log info receive D", "receive -q -v -v -v D"),
            ("--dry-run receive D", "receive --dry-run D"),
            ("--format json receive D", "receive D"),
            ("--param a=b receive receive", "receive receive"),
            ("receive", "receive"),
            ("-q -- receive D", "receive -q D"),
            ("receive --help", "receive --help"),
            ("help receive", "receive --help"),
            ("help rec", "receive --help"),
        ] {
            let words = expected.split_whitespace().map(OsString::from).collect();
            assert_eq!(read_line(line), Call::Receive(words), "{line}");
        }
    }

    #[test]
    fn everything_else_is_left_to_the_real_one() {
        for line in [
            "",
            "re /d",
            "r /d",
            "send receive",
            "subvolume show receive",
            "-v subvolume list /",
            "--version",
            "version",
            "--help",
            "--help receive",
            "help",
            "help --full",
            "help send",
            "received /d",
            "--new-option filesystem df",
            "-q",
            "--format json filesystem df receive",
        ] {
            assert_eq!(read_line(line), Call::Other, "{line}");
        }
    }

    #[test]
    fn a_receive_behind_an_unknown_option_goes_nowhere() {
        for line in ["--new-option receive D", "-x rec D", "--ver receive D"] {
            assert!(matches!(read_line(line), Call::Unclear(_)), "{line}");
        }
    }
}
