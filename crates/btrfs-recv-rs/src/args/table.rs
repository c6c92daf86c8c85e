//! Every option of the command, in one table.
//!
//! Parsing, `--help`, the manual page and the shell completions all come from
//! here. A new option is an [`Id`], an entry in [`SECTIONS`], a field in the
//! request that it belongs to, and an arm in `Given::set`. A new mode is a
//! [`Mode`], a line in [`MODES`], a `Request` and an arm in `Given::request`.
//! A test then tells how to renew the files made from the table.

use super::id::Id;
use super::option::{Hint, Mode, ModeInfo, Operands, Opt, Section};

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
    ModeInfo {
        mode: Mode::Status,
        option: Some("status"),
        operands: Operands::One("PATH"),
    },
    ModeInfo {
        mode: Mode::Abandon,
        option: Some("abandon"),
        operands: Operands::Some("PATH [NAME]..."),
    },
    ModeInfo {
        mode: Mode::Extract,
        option: Some("extract"),
        operands: Operands::One("DIR"),
    },
    ModeInfo {
        mode: Mode::Chain,
        option: Some("chain"),
        operands: Operands::One("PATH"),
    },
    ModeInfo {
        mode: Mode::DryRun,
        option: Some("dry-run"),
        operands: Operands::One("PATH"),
    },
];

const EVERY_MODE: &[Mode] = &[
    Mode::Receive,
    Mode::Dump,
    Mode::Chain,
    Mode::DryRun,
    Mode::Extract,
];

/// The modes that apply streams to something.
const RECEIVING_MODES: &[Mode] = &[Mode::Receive, Mode::Extract, Mode::Chain, Mode::DryRun];

/// Those of them that write to a btrfs, or look at one.
const BTRFS_MODES: &[Mode] = &[Mode::Receive, Mode::Chain, Mode::DryRun];

/// Those of them that take one input.
const ONE_INPUT: &[Mode] = &[Mode::Receive, Mode::Extract, Mode::DryRun];

/// Options that this command had once, and the command to use now.
pub(crate) const MOVED: &[(&str, &str)] = &[
    ("--verify", "sendstream verify"),
    ("--no-names", "sendstream verify --no-names"),
    ("--diff", "sendstream diff"),
    ("--format", "sendstream dump --format=FORMAT"),
];

/// The options, in the order of `--help`.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "Receiving",
        options: RECEIVING,
    },
    Section {
        title: "Receiving in another way",
        options: POLICIES,
    },
    Section {
        title: "Receives that may be interrupted",
        options: RESUMING,
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
    .modes(RECEIVING_MODES)
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
    .modes(RECEIVING_MODES)
    .value("N", Hint::Nothing)
    .manual(
        "Give up after <N> failed commands; 0 means never. The default is 1. \
         A subvolume in which a command failed is not completed, however many failures are \
         allowed. Damage to the stream itself is always the end.",
    ),
    Opt::new(
        Id::Chain,
        "chain",
        "receive the streams in SOURCE, a file or a directory, each after its parent; those \
         that PATH has already are skipped; may be repeated",
    )
    .value("SOURCE", Hint::File)
    .modes(&[Mode::Chain])
    .manual(
        "Receive every stream in <SOURCE>, a file or a directory and what lies below it, into \
         <PATH>, each after its parent and clone sources; may be repeated. All are read and \
         checked before the first is received. Nothing is received if a file in a directory \
         may be a stream and cannot be read as one: it is compressed, or a symbolic link \
         leads out of the directory. Other files, and names that begin with a dot, are \
         skipped with a warning. A subvolume that is in <PATH> already, complete and under its name, is \
         skipped. The first failure is the end. \
         Every <SOURCE> is read twice and has to be a regular file.",
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
    )
    .modes(BTRFS_MODES),
    Opt::new(
        Id::Sandbox,
        "sandbox",
        "give up the network, other programs and all other files before the stream is read",
    )
    .modes(RECEIVING_MODES)
    .manual(
        "Before the stream is read, give up what it does not take. By Landlock, files can be \
         changed only in the destination, and read only there and, for parents and clone sources, \
         on the btrfs it lies on. By seccomp, there are no new sockets, other programs, mounts, \
         and nothing that administers the system. The input stays open. \
         Landlock takes Linux 5.19; without it other files stay within reach, and a warning says \
         so. Data is decompressed as with `--force-decompress`.",
    ),
];

const POLICIES: &[Opt] = &[
    Opt::new(
        Id::Name,
        "name",
        "call the subvolume NAME, whatever the stream calls it",
    )
    .value("NAME", Hint::Nothing)
    .modes(ONE_INPUT)
    .manual(
        "Call the subvolume <NAME>, whatever the stream calls it. One name serves one \
         subvolume: a second one in the input is refused, and the first stays.",
    ),
    Opt::new(
        Id::OnError,
        "on-error",
        "keep (default) or delete a subvolume that could not be completed",
    )
    .value("ACTION", Hint::Words(&["keep", "delete"]))
    .modes(RECEIVING_MODES)
    .manual(
        "What becomes of a subvolume that could not be completed, because something failed or \
         a signal came: `keep` it, which is the default, or `delete` it. \
         Only what this run created and left unfinished is ever deleted: nothing that was there \
         before, nothing with a received UUID, nothing read-only. Needs Linux 5.7, and \
         CAP_SYS_ADMIN or the mount option user_subvol_rm_allowed.",
    ),
    Opt::new(
        Id::ExcludeXattr,
        "exclude-xattr",
        "leave out extended attributes whose name matches, such as security.selinux or \
         system.posix_acl_*; may be repeated",
    )
    .value("PATTERN", Hint::Nothing)
    .modes(RECEIVING_MODES)
    .manual(
        "Neither set nor remove extended attributes whose whole name matches <PATTERN>, in which \
         `*` stands for any bytes and `?` for one. May be repeated. \
         The subvolume is completed and marked as received all the same, so that it can be the \
         parent of the next; a `WARNING:` line says how many attributes were left out.\n\
         The mode of a file with an access ACL holds the mask of the ACL where the bits of the \
         group are: without `system.posix_acl_access` the group may get more access than it \
         had.",
    ),
    Opt::new(
        Id::NoFileattr,
        "no-fileattr",
        "leave out inode flags (chattr)",
    )
    .modes(RECEIVING_MODES)
    .manual(
        "Leave out inode flags, as chattr(1) sets them: NOCOW, immutable and others. \
         Counted and told like excluded attributes.",
    ),
    Opt::new(
        Id::AllowUnknown,
        "allow-unknown",
        "skip commands and attributes that are unknown, such as those of a vendor",
    )
    .modes(RECEIVING_MODES)
    .manual(
        "Skip commands and attributes that are unknown, such as those of a vendor, instead of \
         refusing the stream. What they stand for is missing from the result. \
         Counted and told like excluded attributes.",
    ),
    Opt::new(
        Id::Parent,
        "parent",
        "take PATH for the parent of the first incremental stream; you vouch that it is",
    )
    .value("PATH", Hint::Directory)
    .modes(&[Mode::Receive, Mode::DryRun])
    .manual(
        "Take the subvolume <PATH> for the parent of the first incremental subvolume in the \
         input, whatever its UUIDs are, and even if it is writable. \
         You vouch that it holds what the sender's parent holds and that nobody changes it: \
         if not, the result is wrong, and marked as received all the same. For a parent \
         that lost its received UUID. A `WARNING:` line says that it was used.",
    ),
    Opt::new(
        Id::CloneSource,
        "clone-source",
        "clone from PATH what names its UUID, or UUID; you vouch for it; may be repeated",
    )
    .value("[UUID:]PATH", Hint::Directory)
    .modes(&[Mode::Receive, Mode::DryRun])
    .manual(
        "Clone from the subvolume <PATH> where the stream names its UUID or its received UUID, \
         even if it is writable; with <UUID> in front, where the stream names that one. \
         You vouch for it as for a `--parent`. May be repeated.",
    ),
];

const RESUMING: &[Opt] = &[
    Opt::new(
        Id::Atomic,
        "atomic",
        "let a subvolume have its name only when it is complete; until then it is called \
         NAME.receiving",
    )
    .modes(BTRFS_MODES)
    .manual(
        "Build each subvolume as `NAME.receiving` in <PATH>, and give it its name when it is \
         complete, on disk, marked as received and read-only. Whatever has the name by then is \
         left alone: the subvolume is complete and keeps the other name.",
    ),
    Opt::new(
        Id::Resumable,
        "resumable",
        "take checkpoints, and go on from those of an interrupted receive of the same stream",
    )
    .modes(&[Mode::Receive, Mode::Chain])
    .manual(
        "Take checkpoints. If a receive of the same stream was interrupted, compare its \
         beginning with what was received, and go on from the newest checkpoint; if the stream \
         differs before that, from an earlier one. A subvolume that is complete already is passed \
         over, and none that is incomplete is deleted. Until the subvolume is complete there is a \
         directory `btrfs-recv-rs.unfinished` in <PATH>, with read-only snapshots of it. \
         Going on needs CAP_SYS_ADMIN and Linux 6.0. Use the same options each time.",
    ),
    Opt::new(
        Id::CheckpointEvery,
        "checkpoint-every",
        "with --resumable: a size (default 4G) or a time (default 5min) between checkpoints",
    )
    .value("WHEN", Hint::Nothing)
    .modes(&[Mode::Receive, Mode::Chain])
    .manual(
        "Take a checkpoint after so much of the stream (`K`, `M`, `G`, `T`), or after so much \
         time (`s`, `min`, `h`); may be given for both. The default is `4G` and `5min`, \
         whichever comes first. Implies `--resumable`.",
    ),
    Opt::new(
        Id::StateDir,
        "state-dir",
        "with --resumable: put btrfs-recv-rs.unfinished into DIR instead of PATH",
    )
    .value("DIR", Hint::Directory)
    .modes(&[Mode::Receive, Mode::Chain, Mode::Status, Mode::Abandon])
    .manual(
        "Put `btrfs-recv-rs.unfinished` into <DIR>, on the same filesystem, instead of <PATH>. \
         Implies `--resumable` when receiving.",
    ),
    Opt::new(
        Id::Status,
        "status",
        "show what is unfinished in PATH, and how to go on",
    )
    .modes(&[Mode::Status])
    .manual(
        "Show which receives in <PATH> are unfinished, how far they are, since when, and the \
         command that goes on. Writable subvolumes without received UUID are shown as well: \
         a receive may have left them, or be at work, or have nothing to do with them.",
    ),
    Opt::new(
        Id::Abandon,
        "abandon",
        "remove unfinished receives from PATH: all resumable ones, or those named",
    )
    .modes(&[Mode::Abandon])
    .manual(
        "Remove unfinished receives from <PATH>: the half-built subvolume, its checkpoints and \
         its state. Without a <NAME> all resumable ones. A writable subvolume without received \
         UUID that is none of these is removed only if it is named.",
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
             nothing. There must be no <PATH>. Times are local, see `TZ`. \
             sendstream(1) prints JSON and summaries.",
    ),
    Opt::new(
        Id::Extract,
        "extract",
        "receive into DIR, a plain directory on any filesystem; needs no root",
    )
    .modes(&[Mode::Extract])
    .manual(
        "Receive each subvolume as a plain directory in <DIR>, on any filesystem and by any \
         user. An incremental stream begins with a copy of its parent, which must have been \
         extracted into <DIR> before; data is shared where the filesystem can.\n\
         It is built as <NAME>`.incomplete`, renamed when all of it is on disk, and then \
         recorded in <DIR>`/.btrfs-extract`: what has a record is complete. What the filesystem \
         or the user cannot hold (owners, device nodes, attributes, inode flags) is counted in \
         a warning. Content that cannot be kept is an error.",
    ),
    Opt::new(
        Id::ExtractReport,
        "extract-report",
        "list what an extraction does not keep in FILE, as JSON lines",
    )
    .value("FILE", Hint::File)
    .modes(&[Mode::Extract])
    .manual(
        "Write to <FILE> what the extraction does not keep, a JSON object to a line: \
         `subvolume`, `path`, `lacks`, the values that were sent, and the `errno` of the \
         refusal. A name that is not UTF-8 is an object whose `hex` has the bytes as \
         hexadecimal digits.",
    ),
    Opt::new(
        Id::DryRun,
        "dry-run",
        "tell whether the stream can be received in PATH, change nothing",
    )
    .modes(&[Mode::DryRun])
    .manual(
        "Verify the stream, and look up in <PATH> what a receive would need: free names, the \
         parent, every clone source and the files cloned from, support for compressed extents, \
         free space. Nothing is changed. It can be asked before data is sent, with \
         `btrfs send --no-data`. Options of a receive may be given as they would be to it. \
         The exit status is 0 if nothing speaks against a receive.",
    ),
    Opt::new(Id::Help, "help", "print this help")
        .established()
        .short(b'h')
        .modes(EVERY_MODE)
        .manual("Print the options."),
    Opt::new(Id::Version, "version", "print the version")
        .established()
        .short(b'V')
        .modes(EVERY_MODE)
        .manual("Print the version."),
];

const MESSAGES: &[Opt] = &[
    Opt::new(
        Id::Progress,
        "progress",
        "show progress where standard error is no terminal, too",
    )
    .manual(
        "On a terminal a line shows how far the receive is, and goes away at the end. \
         With this option it is shown with `-q` and `-v`, too, and where standard error is no \
         terminal a line is written there every 10 seconds.",
    ),
    Opt::new(
        Id::Size,
        "size",
        "how long the input is, so that progress can tell what is left",
    )
    .value("BYTES", Hint::Nothing)
    .manual(
        "How many bytes the input has, so that progress can tell the percentage and the time \
         left; `K`, `M`, `G`, `T` or `P` may follow. Not needed with `-f` and a file.",
    ),
    Opt::new(
        Id::Json,
        "json",
        "print what happens, and what was found or done, as JSON lines on standard output",
    )
    .modes(RECEIVING_MODES)
    .manual(
        "Print JSON on standard output, an object to a line, and nothing else there: of a receive \
         its events and in the end a report; what `--dry-run` finds. The last line has the key \
         `success`. Messages go to standard error as without it, `At snapshot` lines too. A name \
         that is not UTF-8 is an object whose `hex` has the bytes as hexadecimal digits. \
         `docs/json.md` of the repository has all keys.",
    ),
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
