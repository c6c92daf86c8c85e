//! Splits a command line the way GNU `getopt_long` does.
//!
//! Scripts write every spelling that `btrfs receive` takes: options behind
//! the path, clusters with the value attached (`-ef FILE`, `-E0`), unique
//! prefixes of long names (`--max=0`), values that begin with a dash. The
//! common argument crates differ in some of these (`-f=x` names the file
//! `=x` here), and their error texts are not the ones callers look for, so
//! the few rules stand here.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// An option that the command knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec<T> {
    /// What the option means.
    pub(crate) id: T,
    /// Its letter, if it has one.
    pub(crate) short: Option<u8>,
    /// Its long name without dashes, if it has one.
    pub(crate) long: Option<&'static str>,
    /// Whether a value follows.
    pub(crate) value: bool,
    /// Whether a value that does not have to be there is attached with `=`.
    pub(crate) optional: bool,
    /// Whether a prefix that no other preferred option has means this one.
    pub(crate) preferred: bool,
}

/// One piece of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arg<T> {
    /// An option that takes no value.
    Flag(T),
    /// An option and its value.
    Valued(T, OsString),
    /// Anything else.
    Operand(OsString),
}

/// A command line that is not understood, in the words of `getopt_long`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OptionError {
    /// No such long option; with its dashes.
    Unrecognized(OsString),
    /// No such letter.
    Invalid(u8),
    /// A prefix of several long names.
    Ambiguous(OsString, Vec<&'static str>),
    /// The value is missing; the option with its dashes or as its letter.
    Missing(String),
    /// A value where none belongs.
    Unwanted(&'static str),
}

impl std::error::Error for OptionError {}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrecognized(option) => {
                write!(f, "unrecognized option '{}'", printable(option))
            }
            Self::Invalid(letter) => {
                write!(f, "invalid option '{}'", letter.escape_ascii())
            }
            Self::Ambiguous(option, names) => {
                let option = printable(option);
                write!(f, "option '{option}' is ambiguous; possibilities:")?;
                names.iter().try_for_each(|name| write!(f, " '--{name}'"))
            }
            Self::Missing(option) if option.starts_with('-') => {
                write!(f, "option '{option}' requires an argument")
            }
            Self::Missing(option) => {
                write!(f, "option requires an argument -- '{option}'")
            }
            Self::Unwanted(name) => {
                write!(f, "option '--{name}' doesn't allow an argument")
            }
        }
    }
}

/// Splits `args`, the program's name not among them.
///
/// With `permute` options are found behind operands too, else everything
/// from the first operand on is one, as `POSIXLY_CORRECT` asks for.
///
/// # Errors
/// The first option that is not understood.
pub(crate) fn split<T: Copy>(
    specs: &[Spec<T>],
    args: impl IntoIterator<Item = OsString>,
    permute: bool,
) -> Result<Vec<Arg<T>>, OptionError> {
    let mut args = args.into_iter();
    let mut found = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"--" => {
                found.extend(args.by_ref().map(Arg::Operand));
            }
            [b'-', b'-', long @ ..] => found.push(long_option(specs, &arg, long, &mut args)?),
            [b'-', cluster @ ..] if !cluster.is_empty() => {
                short_options(specs, cluster, &mut args, &mut found)?;
            }
            _ => {
                found.push(Arg::Operand(arg));
                if !permute {
                    found.extend(args.by_ref().map(Arg::Operand));
                }
            }
        }
    }
    Ok(found)
}

fn long_option<T: Copy>(
    specs: &[Spec<T>],
    whole: &OsStr,
    long: &[u8],
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<Arg<T>, OptionError> {
    let mut halves = long.splitn(2, |&byte| byte == b'=');
    let name = halves.next().unwrap_or_default();
    let attached = halves.next();
    let (name, spec) = find_long(specs, whole, name)?;
    match (spec.value, attached) {
        (false, None) => Ok(Arg::Flag(spec.id)),
        (_, None) if spec.optional => Ok(Arg::Flag(spec.id)),
        (false, Some(_)) => Err(OptionError::Unwanted(name)),
        (true, Some(value)) => Ok(Arg::Valued(spec.id, OsString::from_vec(value.to_vec()))),
        (true, None) => match rest.next() {
            Some(value) => Ok(Arg::Valued(spec.id, value)),
            None => Err(OptionError::Missing(format!("--{name}"))),
        },
    }
}

/// The option of that name, else the only one whose name begins like that;
/// preferred options are as if the others were not there.
fn find_long<'a, T>(
    specs: &'a [Spec<T>],
    whole: &OsStr,
    name: &[u8],
) -> Result<(&'static str, &'a Spec<T>), OptionError> {
    let matching: Vec<_> = specs
        .iter()
        .filter_map(|spec| Some((spec.long?, spec)))
        .filter(|(long, _)| long.as_bytes().starts_with(name))
        .collect();
    if let Some(exact) = matching
        .iter()
        .find(|(long, _)| long.len() == name.len())
        .copied()
    {
        return Ok(exact);
    }
    let mut preferred = matching.iter().filter(|(_, spec)| spec.preferred);
    if let (Some(only), None) = (preferred.next(), preferred.next()) {
        return Ok(*only);
    }
    match matching.as_slice() {
        [] => Err(OptionError::Unrecognized(whole.to_owned())),
        [only] => Ok(*only),
        several => {
            let names = several.iter().map(|(long, _)| *long).collect();
            Err(OptionError::Ambiguous(whole.to_owned(), names))
        }
    }
}

/// A cluster: flags, the last of which may be an option whose value is the
/// rest of the argument or the next one.
fn short_options<T: Copy>(
    specs: &[Spec<T>],
    cluster: &[u8],
    rest: &mut impl Iterator<Item = OsString>,
    found: &mut Vec<Arg<T>>,
) -> Result<(), OptionError> {
    let mut left = cluster;
    while let [letter, tail @ ..] = left {
        let spec = specs
            .iter()
            .find(|spec| spec.short == Some(*letter))
            .ok_or(OptionError::Invalid(*letter))?;
        if !spec.value {
            found.push(Arg::Flag(spec.id));
            left = tail;
            continue;
        }
        let value = if tail.is_empty() {
            rest.next()
                .ok_or_else(|| OptionError::Missing(letter.escape_ascii().to_string()))?
        } else {
            OsString::from_vec(tail.to_vec())
        };
        found.push(Arg::Valued(spec.id, value));
        return Ok(());
    }
    Ok(())
}

fn printable(arg: &OsStr) -> impl fmt::Display {
    arg.as_bytes().escape_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[Spec<char>] = &[
        Spec {
            id: 'e',
            short: Some(b'e'),
            long: None,
            value: false,
            optional: false,
            preferred: false,
        },
        Spec {
            id: 'f',
            short: Some(b'f'),
            long: Some("file"),
            value: true,
            optional: false,
            preferred: false,
        },
        Spec {
            id: 'F',
            short: None,
            long: Some("file-size"),
            value: true,
            optional: false,
            preferred: false,
        },
        Spec {
            id: 'd',
            short: None,
            long: Some("dump"),
            value: false,
            optional: false,
            preferred: true,
        },
        Spec {
            id: 'D',
            short: None,
            long: Some("dump-all"),
            value: false,
            optional: false,
            preferred: false,
        },
    ];

    fn split_words(line: &str, permute: bool) -> Result<Vec<Arg<char>>, OptionError> {
        let words = line.split_whitespace().map(OsString::from);
        split(SPECS, words, permute)
    }

    fn valued(id: char, value: &str) -> Arg<char> {
        Arg::Valued(id, value.into())
    }

    fn operand(value: &str) -> Arg<char> {
        Arg::Operand(value.into())
    }

    #[test]
    fn takes_every_spelling() {
        use Arg::Flag;
        for (line, expected) in [
            ("-f x", vec![valued('f', "x")]),
            ("-fx", vec![valued('f', "x")]),
            ("-f=x", vec![valued('f', "=x")]),
            ("-f -e", vec![valued('f', "-e")]),
            ("-f --", vec![valued('f', "--")]),
            ("-f -", vec![valued('f', "-")]),
            ("-ef x", vec![Flag('e'), valued('f', "x")]),
            ("-eefx", vec![Flag('e'), Flag('e'), valued('f', "x")]),
            ("--file x", vec![valued('f', "x")]),
            ("--file=", vec![valued('f', "")]),
            ("--file=a=b", vec![valued('f', "a=b")]),
            ("--file-s 3", vec![valued('F', "3")]),
            ("--du", vec![Flag('d')]),
            ("--dump", vec![Flag('d')]),
            ("--dump-", vec![Flag('D')]),
            ("a -e b", vec![operand("a"), Flag('e'), operand("b")]),
            ("-e -- -e", vec![Flag('e'), operand("-e")]),
            ("-", vec![operand("-")]),
            ("", vec![]),
        ] {
            assert_eq!(split_words(line, true), Ok(expected), "{line}");
        }
    }

    #[test]
    fn without_permutation_options_end_at_the_first_operand() {
        assert_eq!(
            split_words("-e a -e -- b", false).unwrap(),
            [
                Arg::Flag('e'),
                operand("a"),
                operand("-e"),
                operand("--"),
                operand("b")
            ]
        );
    }

    #[test]
    fn says_what_is_wrong_as_getopt_does() {
        for (line, text) in [
            ("--x", "unrecognized option '--x'"),
            ("--x=1", "unrecognized option '--x=1'"),
            ("-eZ", "invalid option 'Z'"),
            ("-f", "option requires an argument -- 'f'"),
            ("--file", "option '--file' requires an argument"),
            ("--dum=1", "option '--dump' doesn't allow an argument"),
            (
                "--fi",
                "option '--fi' is ambiguous; possibilities: '--file' '--file-size'",
            ),
        ] {
            assert_eq!(split_words(line, true).unwrap_err().to_string(), text);
        }
    }
}
