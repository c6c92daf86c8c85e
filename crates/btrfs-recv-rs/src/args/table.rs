//! Every option of the command, in one table.
//!
//! Parsing, `--help`, the manual page and the shell completions all come from
//! here. A new option is an [`Id`], an entry in [`SECTIONS`], a field in the
//! request that it belongs to, and an arm in `Given::set`. A new mode is a
//! [`Mode`], a line in [`MODES`], a `Request` and an arm in `Given::request`.
//! A test then tells how to renew the files made from the table.

use super::option::{Hint, Mode, ModeInfo, Operands, Opt, Section};

/// What the parser calls the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
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

/// The modes, in the order of the usage.
pub(crate) const MODES: &[ModeInfo] = &[
    ModeInfo {
        mode: Mode::Receive,
        option: None,
        operands: Operands::One("PATH"),
    },
    ModeInfo {
        mode: Mode::Dump,
        option: Some("dump"),
        operands: Operands::None,
    },
];

const EVERY_MODE: &[Mode] = &[Mode::Receive, Mode::Dump];

/// The options, in the order of `--help`.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "Receiving",
        options: RECEIVING,
    },
    Section {
        title: "Instead of receiving",
        options: INSTEAD,
    },
    Section {
        title: "Messages",
        options: MESSAGES,
    },
];

const RECEIVING: &[Opt] = &[
    Opt::letter(
        Id::File,
        b'f',
        "read the stream from FILE instead of standard input",
    )
    .established()
    .value("FILE", Hint::File)
    .modes(EVERY_MODE)
    .manual(
        "Read the stream from <FILE> instead of standard input. \
             An empty name means standard input; `-` is the name of a file.",
    ),
    Opt::letter(
        Id::StopAtEnd,
        b'e',
        "stop at the end command of the first stream, and leave what follows it unread",
    )
    .established()
    .manual(
        "Stop at the end command of the first stream and leave what follows it unread. \
         Without it, streams are received until the end of the input.",
    ),
    Opt::new(
        Id::Chroot,
        "chroot",
        "take nothing from outside PATH: parents and clone sources too have to lie in it",
    )
    .established()
    .short(b'C')
    .manual(
        "Refuse parents and clone sources that do not lie below <PATH>. \
         What the stream itself names is confined to the new subvolume with and without \
         this option.",
    ),
    Opt::new(
        Id::MaxErrors,
        "max-errors",
        "give up after N failed commands (default 1), 0: never; a subvolume in which one \
         failed is never completed",
    )
    .established()
    .short(b'E')
    .value("N", Hint::Nothing)
    .manual(
        "Give up after <N> failed commands; 0 means never. The default is 1. \
         A subvolume in which a command failed is not completed, however many failures are \
         allowed. Damage to the stream itself is always the end.",
    ),
    Opt::letter(Id::RootMount, b'm', "the mount point that PATH lies in")
        .established()
        .value("ROOTMOUNT", Hint::Directory)
        .manual("A mount point that <PATH> lies in. It is checked, and not needed otherwise."),
    Opt::new(
        Id::ForceDecompress,
        "force-decompress",
        "decompress data here instead of passing it to the filesystem compressed",
    )
    .established()
    .manual(
        "Decompress data before writing it, instead of handing it to the filesystem as it is \
         in the stream.",
    ),
    Opt::new(
        Id::TestEncoded,
        "test-encoded",
        "decompress data to test it before it is passed on; a filesystem stores compressed \
         data without a look",
    )
    .manual(
        "Decompress data to test it before it is handed on compressed. \
         The kernel stores such data without a look; what does not decompress is otherwise \
         found out when the file is read.",
    ),
];

const INSTEAD: &[Opt] = &[
    Opt::new(
        Id::Dump,
        "dump",
        "print the commands of the stream, receive nothing",
    )
    .established()
    .modes(&[Mode::Dump])
    .manual(
        "Print the commands of all streams in the input, one to a line, and receive \
             nothing. There must be no <PATH>. Times are local, see `TZ`.",
    ),
    Opt::new(Id::Help, "help", "print this help")
        .established()
        .modes(EVERY_MODE)
        .manual("Print the options."),
    Opt::new(Id::Version, "version", "print the version")
        .established()
        .modes(EVERY_MODE)
        .manual("Print the version."),
];

const MESSAGES: &[Opt] = &[
    Opt::new(Id::Quiet, "quiet", "print errors and warnings only")
        .established()
        .short(b'q')
        .modes(EVERY_MODE)
        .manual("Print errors and warnings only."),
    Opt::new(Id::Verbose, "verbose", "print more; may be repeated")
        .established()
        .short(b'v')
        .modes(EVERY_MODE)
        .manual(
            "Once: also print the commands that write data. Twice: print every command. \
             After `-q` it takes one step back first.",
        ),
];

/// All options, in the order of `--help`.
pub(crate) fn options() -> impl Iterator<Item = &'static Opt> {
    SECTIONS.iter().flat_map(|section| section.options)
}
