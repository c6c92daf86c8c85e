//! What can be wrong with a stream: a short list, the same for all parsers.

use btrfs_sendstream::{ErrorKind, Malformed, SequenceError, Truncated, Unsupported};

/// The names of all classes, and what each means.
pub const CLASSES: &[(&str, &str)] = &[
    ("empty", "The input has no bytes."),
    (
        "bad-magic",
        "The input does not begin with a stream header.",
    ),
    ("unsupported-version", "The version is not 1, 2 or 3."),
    ("truncated", "The input ends before END."),
    ("bad-checksum", "The checksum of a command is wrong."),
    (
        "too-long",
        "A command is longer than its version allows, or claims more than 16 MiB.",
    ),
    (
        "unknown-command",
        "The command's number is 0, over 26, or newer than the stream's version.",
    ),
    (
        "unknown-attribute",
        "An attribute's number is 0, over 35, or newer than the stream's version.",
    ),
    (
        "unexpected-attribute",
        "The command does not use this attribute.",
    ),
    ("duplicate-attribute", "A command has an attribute twice."),
    ("missing-attribute", "A command lacks an attribute."),
    (
        "bad-length",
        "The length of an attribute is not that of its type, or does not fit the command.",
    ),
    (
        "bad-path",
        "A path is absolute, has `.`, `..`, an empty component or a NUL, or is no name where \
         it has to be one.",
    ),
    (
        "bad-value",
        "A NUL in a text, 1,000,000,000 nanoseconds or more, or a subvolume with a UUID of zeros.",
    ),
    ("order", "A command before SUBVOL and SNAPSHOT."),
    (
        "second-stream",
        "A stream header before END, between commands or in one: the sender was started again.",
    ),
    (
        "trailing-data",
        "Something other than a stream header follows END.",
    ),
];

/// A defect in terms of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defect {
    /// The class; one of [`CLASSES`].
    pub class: &'static str,
    /// Other classes that describe the same bytes as well.
    pub or: &'static [&'static str],
    /// Whether every parser has to refuse the stream. Some parsers leave the other
    /// rules to their callers, and those of btrfs-progs have no such rules.
    pub must: bool,
}

/// The defect that an error of the decoder reports; `None` for errors that have nothing
/// to do with the input's bytes.
pub fn of(kind: &ErrorKind) -> Option<Defect> {
    let must = |class, or| {
        Some(Defect {
            class,
            or,
            must: true,
        })
    };
    let may = |class| {
        Some(Defect {
            class,
            or: &[],
            must: false,
        })
    };
    match kind {
        ErrorKind::Empty => must("empty", &["truncated"]),
        ErrorKind::Malformed(malformed) => match malformed {
            Malformed::Magic => must("bad-magic", &[]),
            Malformed::Checksum { .. } => must("bad-checksum", &[]),
            Malformed::CommandZero => may("unknown-command"),
            Malformed::TrailingBytes { .. }
            | Malformed::AttributeOverrun { .. }
            | Malformed::AttributeLength { .. } => must("bad-length", &[]),
            Malformed::MissingAttribute { .. } => must("missing-attribute", &[]),
            Malformed::DuplicateAttribute { .. } => may("duplicate-attribute"),
            Malformed::Path { .. } => may("bad-path"),
            Malformed::Nul { .. } | Malformed::Nanoseconds { .. } | Malformed::NilUuid { .. } => {
                may("bad-value")
            }
            _ => None,
        },
        ErrorKind::Sequence(sequence) => match sequence {
            SequenceError::NoSubvolume { .. } => may("order"),
            SequenceError::HeaderInStream => {
                must("second-stream", &["too-long", "truncated", "bad-checksum"])
            }
            SequenceError::HeaderInCommand { .. } => {
                must("second-stream", &["bad-checksum", "truncated"])
            }
            SequenceError::AfterEnd => must("trailing-data", &["bad-magic", "truncated"]),
            _ => None,
        },
        ErrorKind::Unsupported(unsupported) => match unsupported {
            Unsupported::Version { number: 0 } => may("unsupported-version"),
            Unsupported::Version { .. } => must("unsupported-version", &[]),
            Unsupported::Command { .. } | Unsupported::CommandVersion { .. } => {
                may("unknown-command")
            }
            Unsupported::Attribute { .. } | Unsupported::AttributeVersion { .. } => {
                may("unknown-attribute")
            }
            Unsupported::UnexpectedAttribute { .. } => may("unexpected-attribute"),
            _ => None,
        },
        ErrorKind::Truncated(Truncated::InHeader { .. }) => must("truncated", &["bad-magic"]),
        ErrorKind::Truncated(_) => must("truncated", &[]),
        ErrorKind::Limit(_) => must("too-long", &["truncated", "bad-checksum"]),
        _ => None,
    }
}
