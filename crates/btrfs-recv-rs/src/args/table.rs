//! Every option of the command, in one table.
//!
//! Parsing, `--help`, the manual page and the shell completions all come from
//! here. A new option is an [`Id`], an entry in [`SECTIONS`], a field in the
//! request that it belongs to, and an arm in `Given::set`. A new mode is a
//! [`Mode`], a line in [`MODES`], a `Request` and an arm in `Given::request`.
//! A test then says how to renew the generated files.

use super::id::Id;
use sendstream_common::unpack::WORDS;

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
    ModeInfo {
        mode: Mode::Serve,
        option: Some("serve"),
        operands: Operands::One("DIR"),
    },
];

/// The modes that read a stream.
const STREAM_MODES: &[Mode] = &[
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
        title: "Changing what is received",
        options: POLICIES,
    },
    Section {
        title: "Restoring",
        options: super::restore::OPTIONS,
    },
    Section {
        title: "Interrupted receives",
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
    .modes(STREAM_MODES)
    .manual(
        "Read the stream from <FILE> instead of standard input. \
         If <FILE> is empty, read standard input; `-` is the name of a file.",
    ),
    Opt::new(
        Id::Decompress,
        "decompress",
        "unpack the input if it is compressed with zstd, gzip, lz4 or xz, or only the named FORMAT",
    )
    .optional("FORMAT", Hint::Words(&WORDS))
    .modes(STREAM_MODES)
    .manual(
        "Unpack the input while it is read. <FORMAT> is `zstd`, `gzip`, `lz4` or `xz`, `auto`, \
         which is the default of <FORMAT> and unpacks what begins as one of these formats does \
         and reads everything else as it is, or `none`, which is the default without this option. \
         Several frames, members or streams may follow one another; all checksums are verified. \
         An error names its place in the stream and in the compressed input. \
         Up to 8 MiB are unpacked ahead of the receive, on a thread of their own; `--buffer` sets \
         another size.\n\
         zstd windows and xz dictionaries of more than 128 MiB (`zstd --long=28`) are refused; they are \
         held in memory. What is in a zstd window is received when more of its frame, or its end, \
         has come. Unpacking zstd takes 2.5 to 3 times the processor time of `zstd -dc`: where that \
         limits a receive, use `zstd -dc FILE | btrfs-recv-rs PATH`. \
         Dictionaries of zstd and lz4, filters of xz, and the legacy format of lz4 are not supported. \
         With `-e`, more of a compressed input than the first stream may have been read. With \
         `--resumable`, going back in the input unpacks it again from its beginning.",
    ),
    Opt::new(
        Id::Tee,
        "tee",
        "store the input in FILE, too, which must not exist",
    )
    .value("FILE", Hint::File)
    .manual(
        "Store the input in <FILE> as it comes, compressed or not. <FILE> must not exist. \
         A subvolume is marked as received only when the input up to and including its end is on \
         disk there; if that cannot be written, the receive fails. \
         The file is written as `.btrfs-recv-rs-XXXXXX.partial` in the directory of <FILE>, and \
         gets its name when all of the input was received. If the receive fails, it is removed: \
         a stream that is cut off cannot be received. A process that was killed leaves it behind. \
         Cannot be used with `-e`. With `--sandbox`, files can be created and removed in the directory \
         of <FILE>.",
    ),
    Opt::letter(
        Id::StopAtEnd,
        b'e',
        "stop after the end command of the first stream",
    )
    .established()
    .modes(RECEIVING_MODES)
    .manual(
        "Stop after the end command of the first stream, and leave the rest of the input unread. \
         By default all streams in the input are received.",
    ),
    Opt::new(
        Id::Chroot,
        "chroot",
        "use only parents and clone sources below PATH",
    )
    .established()
    .short(b'C')
    .manual(
        "Use only parents and clone sources below <PATH>. \
         With or without this option, paths in the stream are confined to the new subvolume.",
    ),
    Opt::new(
        Id::MaxErrors,
        "max-errors",
        "stop after N failed commands (default: 1; 0: never); a subvolume with a failed command \
         is never completed",
    )
    .established()
    .short(b'E')
    .modes(RECEIVING_MODES)
    .value("N", Hint::Nothing)
    .manual(
        "Stop after <N> failed commands. The default is 1; 0 means never. \
         A subvolume with a failed command is not completed, whatever <N> is. \
         Damage to the stream itself always ends the receive.",
    ),
    Opt::new(
        Id::Chain,
        "chain",
        "receive the streams in SOURCE, a file or directory, each after its parent; skip \
         those that are complete in PATH; may be repeated",
    )
    .value("SOURCE", Hint::File)
    .modes(&[Mode::Chain, Mode::Extract])
    .manual(
        "Receive all streams in <SOURCE>, a file or a directory with its subdirectories, into \
         <PATH>, each after its parent and clone sources. May be repeated. \
         All streams are read and checked before the first is received. Nothing is received if a \
         file in a directory is compressed and is not unpacked (see `--decompress`), or if a symbolic link leads out of the directory. \
         Other files that are not streams, and names that begin with a dot, are skipped with a \
         warning. A subvolume that is complete in <PATH> under its name is skipped. \
         The first failure ends the command. Each stream is read twice and must be in a regular \
         file.\n\
         With `--extract --only`, <SOURCE> contains the streams to extract from.",
    ),
    Opt::letter(Id::RootMount, b'm', "the mount point that contains PATH")
        .established()
        .value("ROOTMOUNT", Hint::Directory)
        .manual("A mount point that contains <PATH>. It is checked, but not needed."),
    Opt::new(
        Id::ForceDecompress,
        "force-decompress",
        "decompress data instead of storing it compressed as sent",
    )
    .established()
    .manual("Decompress data before it is written, instead of storing it compressed as sent."),
    Opt::new(
        Id::TestEncoded,
        "test-encoded",
        "test that compressed data can be decompressed; the kernel does not",
    )
    .manual(
        "Test that compressed data can be decompressed before it is stored as sent. \
         The kernel stores such data without a check; damage to it otherwise shows only when the \
         file is read.",
    )
    .modes(BTRFS_MODES),
    Opt::new(
        Id::Digest,
        "digest",
        "complete a subvolume only if it has its digest in FILE, made by btrfs-lineage digest --json",
    )
    .value("FILE", Hint::File)
    .modes(&[Mode::Receive, Mode::Chain])
    .manual(
        "Complete a subvolume only if it has the digest that the sender's has. <FILE> is what \
         `btrfs-lineage digest --json` printed for the sender's subvolume; with several \
         subvolumes, one line for each. When everything is written to disk, all of the \
         subvolume is read. If its digest is another, or <FILE> has none for it, the subvolume \
         fails: it is not marked as received. If the digest was made with `--tree`, the message \
         names the first differences. A subvolume that is skipped because it is complete in \
         <PATH> is not read. Needs CAP_SYS_ADMIN.",
    ),
    Opt::new(
        Id::Sandbox,
        "sandbox",
        "drop unneeded access before reading the stream: network, other programs, other files",
    )
    .modes(RECEIVING_MODES)
    .manual(
        "Drop unneeded access before the stream is read. Landlock restricts writing to the \
         destination, and reading to the destination and, for parents and clone sources, its \
         filesystem. Seccomp prohibits new sockets, other programs, mounts, and system \
         administration. The input stays open. \
         Landlock needs Linux 5.19; without it a warning says that other files stay accessible. \
         Implies `--force-decompress`.",
    ),
];

const POLICIES: &[Opt] = &[
    Opt::new(
        Id::Name,
        "name",
        "create the subvolume as NAME instead of the name in the stream",
    )
    .value("NAME", Hint::Nothing)
    .modes(ONE_INPUT)
    .manual(
        "Create the subvolume as <NAME> instead of the name in the stream. A second subvolume in \
         the input is refused; the first stays.",
    ),
    Opt::new(
        Id::OnError,
        "on-error",
        "keep (default) or delete an incomplete subvolume",
    )
    .value("ACTION", Hint::Words(&["keep", "delete"]))
    .modes(RECEIVING_MODES)
    .manual(
        "What to do with a subvolume that is incomplete after a failure or a signal: `keep`, the \
         default, or `delete`. Only subvolumes that this run created are deleted, and none that \
         has a received UUID or is read-only. Needs Linux 5.7, and CAP_SYS_ADMIN or the mount \
         option user_subvol_rm_allowed.",
    ),
    Opt::new(
        Id::ExcludeXattr,
        "exclude-xattr",
        "ignore extended attributes whose name matches PATTERN, such as security.selinux or \
         system.posix_acl_*; may be repeated",
    )
    .value("PATTERN", Hint::Nothing)
    .modes(RECEIVING_MODES)
    .manual(
        "Neither set nor remove extended attributes whose whole name matches <PATTERN>, where \
         `*` matches any bytes and `?` one byte. May be repeated. \
         The subvolume is still marked as received, so that it can be the parent of the next one; \
         a `WARNING:` line shows how many attributes were ignored.\n\
         The group bits in the mode of a file with an access ACL are the mask of the ACL: without \
         `system.posix_acl_access` the group may get more access than on the sender.",
    ),
    Opt::new(Id::NoFileattr, "no-fileattr", "ignore inode flags (chattr)")
        .modes(RECEIVING_MODES)
        .manual(
            "Ignore inode flags, as set by chattr(1): NOCOW, immutable and others. \
         A warning shows how many changes of flags were ignored.",
        ),
    Opt::new(
        Id::AllowUnknown,
        "allow-unknown",
        "skip unknown commands and attributes, such as vendor extensions",
    )
    .modes(RECEIVING_MODES)
    .manual(
        "Skip unknown commands and attributes, such as vendor extensions, instead of refusing the \
         stream. What they describe is missing from the subvolume. A warning shows how many were \
         skipped.",
    ),
    Opt::new(
        Id::Zeros,
        "zeros",
        "keep (default) blocks of zeros, or make holes of them",
    )
    .value("WHAT", Hint::Words(&["keep", "holes"]))
    .modes(BTRFS_MODES)
    .manual(
        "What to do with blocks of zeros in file data: `keep`, the default, or make `holes` of \
         them, which take no space. In incremental streams of version 1, and before Linux 6.17 in \
         all, kernels send the new holes of a changed file as zeros, so that it grows with each \
         receive. The content of the files is the same. Compressed extents stay as they are. Room that a file set aside \
         (fallocate) is given back where zeros are written. A line shows how many bytes became \
         holes.",
    ),
    Opt::new(
        Id::Accept,
        "accept",
        "accept only streams that the rules in FILE allow; a refused subvolume is deleted",
    )
    .value("FILE", Hint::File)
    .modes(&[Mode::Receive, Mode::Serve])
    .manual(
        "Accept only streams that the rules in <FILE> allow: which names, parents and clone \
         sources, how much data, and whether device nodes, set-user-ID programs, file capabilities \
         and other attributes. What a rule refuses ends the receive before it is applied, \
         and the incomplete subvolume is deleted (`--on-error=delete` is implied). What a rule \
         drops is not applied, and a warning shows how much. \
         Parents and clone sources must lie below <PATH>, unless the rules say otherwise. \
         See RESTRICTED RECEIVE below.",
    ),
    Opt::new(
        Id::Parent,
        "parent",
        "use PATH as the parent of the first incremental stream (not verified)",
    )
    .value("PATH", Hint::Directory)
    .modes(&[Mode::Receive, Mode::DryRun])
    .manual(
        "Use the subvolume <PATH> as the parent of the first incremental stream, whatever its \
         UUIDs are, and even if it is writable. This is for a parent that lost its received UUID. \
         The content of <PATH> is not verified: unless it is that of the sender's parent, and \
         does not change during the receive, the new subvolume is wrong, but marked as received. \
         A `WARNING:` line says that <PATH> was used.",
    ),
    Opt::new(
        Id::CloneSource,
        "clone-source",
        "clone from PATH where the stream names its UUID, or UUID (not verified); may be repeated",
    )
    .value("[UUID:]PATH", Hint::Directory)
    .modes(&[Mode::Receive, Mode::DryRun])
    .manual(
        "Clone from the subvolume <PATH> where the stream names its UUID or received UUID, or \
         <UUID> if that is given, even if <PATH> is writable. May be repeated. \
         The content of <PATH> is not verified; see `--parent`.",
    ),
];

const RESUMING: &[Opt] = &[
    Opt::new(
        Id::Atomic,
        "atomic",
        "build under a temporary name, NAME.receiving, and rename when complete",
    )
    .modes(BTRFS_MODES)
    .manual(
        "Build each subvolume in <PATH> as `NAME.receiving`, and rename it when it is complete, on \
         disk, marked as received and read-only. Nothing is replaced: if the name is taken by \
         then, the subvolume stays complete under its temporary name.",
    ),
    Opt::new(
        Id::Resumable,
        "resumable",
        "take checkpoints, and resume an interrupted receive of the same stream",
    )
    .modes(&[Mode::Receive, Mode::Chain])
    .manual(
        "Take checkpoints. If a receive of the same stream was interrupted, compare the beginning \
         of the stream with what was received, and resume from the newest checkpoint, or from an \
         earlier one if the stream differs before that. A subvolume that is complete is skipped, \
         and incomplete ones are kept. Until the subvolume is complete, the directory \
         `btrfs-recv-rs.unfinished` in <PATH> holds read-only snapshots of it. \
         Resuming needs CAP_SYS_ADMIN. Use the same options each time.",
    ),
    Opt::new(
        Id::CheckpointEvery,
        "checkpoint-every",
        "take a checkpoint after this much data (default: 4G) or time (default: 5min); \
         implies --resumable",
    )
    .value("WHEN", Hint::Nothing)
    .modes(&[Mode::Receive, Mode::Chain])
    .manual(
        "Take a checkpoint after this much of the stream (`K`, `M`, `G`, `T`, `P`), or this much \
         time (`s`, `min`, `h`), whichever comes first. The defaults are `4G` and `5min`; give the \
         option twice to set both. Implies `--resumable`.",
    ),
    Opt::new(
        Id::StateDir,
        "state-dir",
        "keep btrfs-recv-rs.unfinished in DIR instead of PATH; implies --resumable",
    )
    .value("DIR", Hint::Directory)
    .modes(&[Mode::Receive, Mode::Chain, Mode::Status, Mode::Abandon])
    .manual(
        "Keep `btrfs-recv-rs.unfinished` in <DIR>, on the same filesystem, instead of <PATH>. \
         Implies `--resumable` when receiving.",
    ),
    Opt::new(
        Id::Status,
        "status",
        "list the unfinished receives in PATH, and how to resume them",
    )
    .modes(&[Mode::Status])
    .manual(
        "List the unfinished receives in <PATH>: when they began, how much was received, and the \
         command that resumes them. Writable subvolumes without received UUID are listed as well: \
         they are left from a receive, being received, or not from a receive.",
    ),
    Opt::new(
        Id::Abandon,
        "abandon",
        "remove unfinished receives from PATH: all resumable ones, or those named",
    )
    .modes(&[Mode::Abandon])
    .manual(
        "Remove unfinished receives from <PATH>: the incomplete subvolume, its checkpoints and \
         its state. Without <NAME>, remove all resumable ones. Another writable subvolume without \
         received UUID is removed only if it is named.",
    ),
];

const INSTEAD: &[Opt] = &[
    Opt::new(
        Id::Dump,
        "dump",
        "print the commands of the stream instead of receiving",
    )
    .established()
    .modes(&[Mode::Dump])
    .manual(
        "Print the commands of all streams in the input, one to a line, instead of receiving. \
         <PATH> must not be given. Times are local; see `TZ`. \
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
         user. An incremental stream starts with a copy of its parent, which must have been \
         extracted into <DIR> before; data is shared if the filesystem supports that.\n\
         The directory is built as <NAME>`.incomplete`, renamed when it is complete and on disk, \
         and then recorded in <DIR>`/.btrfs-extract`: a directory with a record is complete. \
         Metadata that the filesystem or the user cannot set (owners, device nodes, attributes, \
         inode flags) is counted in a warning. Content that cannot be stored is an error.",
    ),
    Opt::new(
        Id::ExtractReport,
        "extract-report",
        "list metadata that cannot be extracted in FILE, as JSON lines",
    )
    .value("FILE", Hint::File)
    .modes(&[Mode::Extract])
    .manual(
        "Write a list of metadata that cannot be extracted to <FILE>, a JSON object to a line: \
         `subvolume`, `path`, `loss`, the values in the stream, and the `errno` of the failure. \
         A name that is not UTF-8 is an object with the key `hex`, its bytes as hexadecimal \
         digits.",
    ),
    super::only::ONLY_OPTION,
    super::only::SUBVOLUME_OPTION,
    Opt::new(
        Id::DryRun,
        "dry-run",
        "check whether the stream can be received into PATH, without changes",
    )
    .modes(&[Mode::DryRun])
    .manual(
        "Check whether the stream can be received into <PATH>, without changing anything: \
         verify the stream, and look up what a receive needs: free names, the parent, all clone \
         sources and the files cloned from, support for compressed extents, free space. \
         The stream may be one without data (`btrfs send --no-data`). \
         Options of a receive may be given, and have the same meaning. \
         The exit status is 0 if no problem was found.",
    ),
    Opt::new(
        Id::Serve,
        "serve",
        "do what another host asks for by ssh, if --accept allows it; for authorized_keys",
    )
    .modes(&[Mode::Serve])
    .manual(
        "For `command=` in authorized_keys(5): carry out the command in `SSH_ORIGINAL_COMMAND`, if \
         it is a receive into <DIR> or a directory below it, or a query that the rules of \
         `--accept` allow, and refuse everything else. Nothing that exists can be replaced or \
         deleted. Receives run with `--sandbox`, unless the rules say otherwise. Each request is \
         logged. See RESTRICTED RECEIVE below.",
    ),
    Opt::new(Id::Help, "help", "print this help")
        .established()
        .short(b'h')
        .modes(STREAM_MODES)
        .manual("Print the options."),
    Opt::new(Id::Version, "version", "print the version")
        .established()
        .short(b'V')
        .modes(STREAM_MODES)
        .manual("Print the version."),
];

const MESSAGES: &[Opt] = &[
    Opt::new(
        Id::Progress,
        "progress",
        "show progress even if standard error is not a terminal",
    )
    .manual(
        "Show progress also with `-q` and `-v`, and where standard error is not a terminal: \
         there a line is written every 10 seconds. \
         By default progress is shown on a terminal only, in a line that is removed at the end.",
    ),
    Opt::new(
        Id::Size,
        "size",
        "size of the input, to show the percentage and the time remaining",
    )
    .value("BYTES", Hint::Nothing)
    .manual(
        "Size of the input in bytes, or with a unit: `K`, `M`, `G`, `T` or `P`. \
         With it progress shows the percentage and the time remaining. \
         The size of a regular file is known without this option.",
    ),
    Opt::new(
        Id::Buffer,
        "buffer",
        "read up to BYTES of input ahead of the receive",
    )
    .value("BYTES", Hint::Nothing)
    .modes(&[Mode::Receive, Mode::Extract])
    .manual(
        "Read up to <BYTES> of input ahead of the receive, as `mbuffer` does: the sender goes on \
         while the receiver writes to disk, and the receiver while the sender waits for its own. \
         <BYTES> has a unit as in `--size`; 0, the default, means no buffer but that of the pipe. \
         It has no effect on a regular file, which the kernel reads ahead, and cannot be used \
         with `-e`, which leaves the rest of the input unread.",
    ),
    Opt::new(
        Id::Json,
        "json",
        "print events and the report as JSON lines on standard output",
    )
    .modes(RECEIVING_MODES)
    .manual(
        "Print JSON on standard output, an object to a line: the events of a receive and a report \
         at its end, or the result of `--dry-run`. The last line has the key `success`. \
         Messages, including `At snapshot` lines, go to standard error. \
         A name that is not UTF-8 is an object with the key `hex`, its bytes as hexadecimal \
         digits. `docs/json.md` in the repository describes all keys.",
    ),
    Opt::new(Id::Quiet, "quiet", "print errors and warnings only")
        .established()
        .short(b'q')
        .modes(STREAM_MODES)
        .manual("Print errors and warnings only."),
    Opt::new(Id::Verbose, "verbose", "print more; may be repeated")
        .established()
        .short(b'v')
        .modes(STREAM_MODES)
        .manual(
            "Print the commands that write data, and at the end what the receive waited for: \
             the input, data and metadata that were queued before, and at the end of each \
             subvolume the disk. Given twice, print every command. \
             After `-q`, the first `-v` only restores the default.",
        ),
];

/// All options, in the order of `--help`.
pub(crate) fn options() -> impl Iterator<Item = &'static Opt> {
    SECTIONS.iter().flat_map(|section| section.options)
}
