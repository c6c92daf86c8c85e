//! Errors in the command line.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use super::getopt::OptionError;
use super::option::{Mode, ModeInfo, Operands, Opt};
use super::table::MODES;

/// An error in the command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    /// An unknown option, or one without its value.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// An option of an earlier version.
    #[error("option '{option}' was removed: {why}")]
    Gone {
        /// The option with its dashes.
        option: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
    /// Not the number of paths that the mode takes.
    #[error("{}", Count(*.mode, *.given))]
    PathCount {
        /// What was asked for.
        mode: Mode,
        /// How many paths there are.
        given: usize,
    },
    /// The value of an option cannot be used.
    #[error("invalid value for {option}: '{}'", .value.as_bytes().escape_ascii())]
    Value {
        /// The option with its dashes.
        option: &'static str,
        /// What was given.
        value: OsString,
    },
    /// The value of an option cannot be used, for a reason of its own.
    #[error("invalid value for {option}: '{}': {why}", .value.as_bytes().escape_ascii())]
    Unusable {
        /// The option with its dashes.
        option: &'static str,
        /// What was given.
        value: OsString,
        /// What is wrong with it.
        why: String,
    },
    /// Two options ask for different things.
    #[error("{} and {} cannot be used together", dashed(*.0), dashed(*.1))]
    TwoModes(Mode, Mode),
    /// Two options that exclude each other.
    #[error("{0} and {1} cannot be used together")]
    Together(&'static str, &'static str),
    /// An option that another one needs.
    #[error("{0} needs {1}")]
    Needs(&'static str, &'static str),
    /// An option that another command has now.
    #[error("{option}: use `{instead}`")]
    Moved {
        /// The option with its dashes.
        option: &'static str,
        /// The command to use.
        instead: &'static str,
    },
    /// An option that would do nothing.
    #[error("{}", Misplaced(.option, .modes, *.mode))]
    Misplaced {
        /// The option with its dashes.
        option: String,
        /// The modes that it belongs to.
        modes: &'static [Mode],
        /// What was asked for.
        mode: Mode,
    },
}

/// Options of earlier versions, and why they were removed.
const GONE: [(&str, &str); 2] = [
    (
        "--trust-prefix",
        "the part that was received before is always compared, to detect another stream; do not \
         use the option",
    ),
    (
        "--hash-data",
        "file data is always compared by the checksums of the commands; do not use the option",
    ),
];

impl UsageError {
    /// The error for an option that the parser refuses.
    pub(super) fn of(error: OptionError) -> Self {
        if let OptionError::Unrecognized(given) = &error
            && let Some((option, why)) = GONE.into_iter().find(|(option, _)| given == option)
        {
            return Self::Gone { option, why };
        }
        Self::Option(error)
    }

    /// The value of `option` cannot be used.
    pub(super) fn unusable(option: &'static str, value: OsString, why: impl fmt::Display) -> Self {
        Self::Unusable {
            option,
            value,
            why: why.to_string(),
        }
    }

    /// `option` does nothing in `mode`.
    pub(super) fn misplaced(option: &Opt, mode: Mode) -> Self {
        Self::Misplaced {
            option: option.name(),
            modes: option.modes,
            mode,
        }
    }
}

/// What the table says about a mode.
pub(super) fn info(mode: Mode) -> Option<&'static ModeInfo> {
    MODES.iter().find(|info| info.mode == mode)
}

/// The option that asks for a mode.
fn dashed(mode: Mode) -> String {
    match info(mode).and_then(|info| info.option) {
        Some(option) => format!("--{option}"),
        None => "a receive".to_owned(),
    }
}

/// The words of `btrfs receive`, and a hint: a path too many is commonly that
/// of the stream.
struct Count(Mode, usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mode, given) = *self;
        let info = info(mode);
        f.write_str(match info.map(|info| info.operands) {
            Some(Operands::None) => "exactly 0 arguments expected",
            Some(Operands::Some(_)) => "at least 1 argument expected",
            Some(Operands::One(_)) | None => "exactly 1 argument expected",
        })?;
        if info.is_some_and(|info| info.option.is_some()) {
            write!(f, " with {}", dashed(mode))?;
        }
        write!(f, ", {given} given")?;
        if given > 0 {
            f.write_str(" (a stream file is given with -f)")?;
        }
        Ok(())
    }
}

/// The option, the modes that it belongs to, and the one asked for.
struct Misplaced<'a>(&'a str, &'static [Mode], Mode);

impl fmt::Display for Misplaced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(option, modes, mode) = *self;
        if modes.contains(&Mode::Receive) {
            return write!(f, "option '{option}' cannot be used with {}", dashed(mode));
        }
        let modes: Vec<_> = modes.iter().map(|&mode| dashed(mode)).collect();
        write!(f, "option '{option}' needs {}", modes.join(" or "))
    }
}
