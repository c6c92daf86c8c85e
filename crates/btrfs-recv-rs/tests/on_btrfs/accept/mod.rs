//! `--accept`: what rules allow, refuse and drop.

mod property;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Output;

use btrfs_sendstream::{
    CloneRange, Command, CommandRef, EnableVerity, EncodedWrite, StreamPath, SubvolumeName, Version,
};
use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};
use uuid::Uuid;

use self::property::what_rules_refuse_is_in_no_received_tree;
use crate::packed::packed;
use crate::support::{Sent, command, encode, names_in, receive, text};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(each_rule_refuses_and_leaves_nothing),
        test!(what_is_dropped_is_counted_and_the_rest_is_complete),
        test!(nothing_may_follow_the_last_end),
        test!(a_subvolume_before_the_refused_one_stays),
        test!(a_second_subvolume_without_end_takes_the_first_with_it),
        test!(the_chosen_name_is_judged),
        test!(sources_lie_below_the_destination_unless_the_rules_say_otherwise),
        test!(a_refusal_ends_the_receive_whatever_the_options_say),
        test!(a_silent_sender_is_given_up),
        test!(what_is_unpacked_to_nothing_is_input),
        test!(rules_that_cannot_be_used_are_refused_before_anything_is_read),
        test!(a_real_tree_arrives_within_rules),
        test!(what_rules_refuse_is_in_no_received_tree),
    ]
}

const OWN: Uuid = Uuid::from_u128(0x1111);
const OTHER: Uuid = Uuid::from_u128(0x2222);
const BYTES: &[u8] = &[7; 4096];

/// A file with rules, below a `names = ["*"]`.
struct RulesFile(tempfile::NamedTempFile);

impl RulesFile {
    fn new(rules: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let names = if rules.starts_with("names") {
            ""
        } else {
            "names = [\"*\"]\n"
        };
        writeln!(file, "{names}{rules}").unwrap();
        Self(file)
    }

    fn option(&self) -> String {
        format!("--accept={}", self.0.path().display())
    }
}

fn accept(stream: &[u8], rules: &str, options: &[&str], to: &Path) -> Output {
    let rules = RulesFile::new(rules);
    let option = rules.option();
    receive(stream, &[&[option.as_str()], options].concat(), to)
}

fn path(path: &'static str) -> StreamPath<&'static [u8]> {
    StreamPath::parse(path.as_bytes()).unwrap()
}

fn subvol(name: &'static str, uuid: Uuid) -> CommandRef<'static> {
    Command::Subvol {
        name: SubvolumeName::parse(name.as_bytes()).unwrap(),
        uuid,
        ctransid: 7,
    }
}

fn snapshot(name: &'static str) -> CommandRef<'static> {
    Command::Snapshot {
        name: SubvolumeName::parse(name.as_bytes()).unwrap(),
        uuid: OTHER,
        ctransid: 9,
        parent_uuid: OWN,
        parent_ctransid: 7,
    }
}

fn mkfile(name: &'static str) -> CommandRef<'static> {
    Command::Mkfile {
        path: path(name),
        ino: 257,
    }
}

fn chmod(name: &'static str, mode: u64) -> CommandRef<'static> {
    Command::Chmod {
        path: path(name),
        mode,
    }
}

fn xattr(name: &'static str) -> CommandRef<'static> {
    Command::SetXattr {
        path: path("file"),
        name: name.as_bytes(),
        data: b"x",
    }
}

fn special(kind: u64, mode: u64) -> CommandRef<'static> {
    let (path, ino, rdev) = (path("special"), 258, 0x103);
    match kind {
        0o10_000 => Command::Mkfifo {
            path,
            ino,
            rdev: 0,
            mode,
        },
        0o140_000 => Command::Mksock {
            path,
            ino,
            rdev: 0,
            mode,
        },
        _ => Command::Mknod {
            path,
            ino,
            rdev,
            mode,
        },
    }
}

fn write_at(offset: u64, len: usize) -> CommandRef<'static> {
    Command::Write {
        path: path("file"),
        offset,
        data: &BYTES[..len],
    }
}

fn clone_from(source_uuid: Uuid, offset: u64) -> CommandRef<'static> {
    Command::Clone(CloneRange {
        path: path("file"),
        offset,
        len: 4096,
        source_uuid,
        source_ctransid: 7,
        source_path: path("file"),
        source_offset: 0,
    })
}

fn encoded(len: u64, data: &'static [u8]) -> CommandRef<'static> {
    Command::EncodedWrite(EncodedWrite {
        path: path("file"),
        offset: 0,
        unencoded_file_len: len,
        unencoded_len: len,
        unencoded_offset: 0,
        compression: Some(0),
        encryption: Some(0),
        data,
    })
}

fn fallocate(mode: u32, len: u64) -> CommandRef<'static> {
    Command::Fallocate {
        path: path("file"),
        mode,
        offset: 0,
        len,
    }
}

/// A subvolume `some` with a `file` and these commands, in the version that they
/// need.
fn stream(commands: &[CommandRef<'static>]) -> Vec<u8> {
    let newest = commands.iter().map(|it| it.kind().since()).max();
    let all = [
        &[subvol("some", OWN), mkfile("file")],
        commands,
        &[Command::End],
    ]
    .concat();
    encode(newest.unwrap_or(Version::V1), &all)
}

fn is_complete(path: &Path) -> bool {
    let facts = subvolume::facts(path);
    facts.read_only && facts.received_uuid.is_some()
}

#[track_caller]
fn assert_refused(output: &Output, rule: &str, to: &Path) {
    assert_eq!(output.status.code(), Some(1), "{rule}: {output:?}");
    let expected = format!("refused by the rule {rule}: ");
    assert!(text(output).1.contains(&expected), "{rule}: {output:?}");
    assert!(text(output).1.contains("byte "), "{rule}: {output:?}");
    assert_eq!(names_in(to), [""; 0], "{rule}: {output:?}");
}

fn each_rule_refuses_and_leaves_nothing() {
    let to = LoopFilesystem::new();
    let owner = |uid, gid| Command::Chown {
        path: path("file"),
        uid,
        gid,
    };
    let flags = Command::FileAttr {
        path: path("file"),
        attributes: 1 << 7,
    };
    let verity = Command::EnableVerity(EnableVerity {
        path: path("file"),
        algorithm: 1,
        block_size: 4096,
        salt: &b""[..],
        signature: &b""[..],
    });
    let inherited = |size| Command::Truncate {
        path: path("file"),
        size,
    };
    const FIFO: u64 = 0o10_000;
    const SOCKET: u64 = 0o140_000;
    const BLOCK: u64 = 0o60_000;
    let capability = Command::SetXattr {
        path: path("file"),
        name: &b"security.capability"[..],
        // Version 2, CAP_NET_RAW, effective.
        data: &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    // The commands, the rules that refuse them, the rule that does, and rules
    // that allow them.
    let cases: &[(&[CommandRef<'static>], &str, &str, &str)] = &[
        (&[], "names = [\"other*\", \"som\"]", "names", ""),
        (&[], "names = []", "names", ""),
        (&[], "full = false", "full", "incremental = false"),
        (&[], "versions = [2, 3]", "versions", "versions = [1]"),
        (
            &[],
            "uuids = [\"00000000-0000-0000-0000-000000002222\"]",
            "uuids",
            "uuids = [\"00000000-0000-0000-0000-000000001111\"]",
        ),
        (
            &[special(BLOCK, 0o60_600)],
            "",
            "devices",
            "devices = \"allow\"",
        ),
        (
            &[special(0, 0o20_600)],
            "",
            "devices",
            "devices = \"allow\"",
        ),
        // The receiver refuses this one, too.
        (&[special(FIFO, 0o60_600)], "", "devices", ""),
        (&[chmod("file", 0o4755)], "", "setuid", "setuid = \"allow\""),
        (&[chmod("", 0o4755)], "", "setuid", "setuid = \"allow\""),
        (&[chmod("file", 0o2755)], "", "setgid", "setgid = \"allow\""),
        (
            &[special(FIFO, 0o14_644)],
            "",
            "setuid",
            "setuid = \"allow\"",
        ),
        (
            &[special(SOCKET, 0o142_644)],
            "",
            "setgid",
            "setgid = \"allow\"",
        ),
        (
            &[special(BLOCK, 0o64_600)],
            "devices = \"allow\"",
            "setuid",
            "devices = \"allow\"\nsetuid = \"allow\"",
        ),
        (
            &[capability],
            "",
            "capabilities",
            "capabilities = \"allow\"",
        ),
        // Allowed as an attribute, it is still a capability.
        (
            &[xattr("security.capability")],
            "[xattrs]\nallow = [\"*\"]",
            "capabilities",
            "",
        ),
        (
            &[xattr("trusted.overlay.opaque")],
            "",
            "xattrs",
            "[xattrs]\nallow = [\"trusted.overlay.*\"]",
        ),
        (
            &[xattr("user.a")],
            "[xattrs]\nallow = [\"user.b\"]",
            "xattrs",
            "",
        ),
        (
            &[Command::RemoveXattr {
                path: path("file"),
                name: b"security.selinux",
            }],
            "",
            "xattrs",
            "[xattrs]\notherwise = \"allow\"",
        ),
        (
            &[owner(1000, 0)],
            "[owners]\nuids = [0, \"2000-2999\"]",
            "owners",
            "[owners]\nuids = [0, \"1000-2999\"]",
        ),
        (
            &[owner(0, 1000)],
            "[owners]\ngids = [0]",
            "owners",
            "[owners]\nuids = [0]",
        ),
        // Of the low 32 bits the rule would allow 0.
        (&[owner(1 << 32, 0)], "[owners]\nuids = [0]", "owners", ""),
        (
            std::slice::from_ref(&flags),
            "file-attributes = \"refuse\"",
            "file-attributes",
            "",
        ),
        (std::slice::from_ref(&verity), "", "verity", ""),
        (
            &[write_at(0, 4096)],
            "[limits]\ninput = 1000",
            "limits.input",
            "[limits]\ninput = 5000",
        ),
        // Each byte occupies a block.
        (
            &[write_at(0, 1), write_at(8192, 1), write_at(65_535, 2)],
            "[limits]\ndata = \"15K\"",
            "limits.data",
            "[limits]\ndata = \"16K\"",
        ),
        (
            &[encoded(4096, BYTES)],
            "[limits]\ndata = 4095",
            "limits.data",
            "[limits]\ndata = 4096",
        ),
        (
            &[fallocate(1, 1 << 20)],
            "[limits]\ndata = \"512K\"",
            "limits.data",
            "[limits]\ndata = \"1M\"",
        ),
        (
            &[
                write_at(0, 4096),
                clone_from(OWN, 4096),
                clone_from(OWN, 8192),
            ],
            "[limits]\ndata = \"8K\"",
            "limits.data",
            "[limits]\ndata = \"4K\"\ncloned = \"8K\"",
        ),
        (
            &[
                write_at(0, 4096),
                clone_from(OWN, 4096),
                clone_from(OWN, 8192),
            ],
            "[limits]\ncloned = \"7K\"",
            "limits.cloned",
            "[limits]\ndata = \"12K\"",
        ),
        (
            &[clone_from(OTHER, 0)],
            "source-uuids = []",
            "source-uuids",
            "",
        ),
        (
            &[inherited(1 << 40)],
            "[limits]\nfile-size = \"1G\"",
            "limits.file-size",
            "[limits]\nfile-size = \"1T\"",
        ),
        (
            &[write_at(1 << 40, 1)],
            "[limits]\nfile-size = \"1T\"",
            "limits.file-size",
            "[limits]\nfile-size = 1099511627777",
        ),
        // What wraps around is not small.
        (
            &[write_at(u64::MAX, 1)],
            "[limits]\nfile-size = \"1T\"",
            "limits.file-size",
            "",
        ),
        (
            &[mkfile("b"), mkfile("c")],
            "[limits]\ninodes = 2",
            "limits.inodes",
            "[limits]\ninodes = 3",
        ),
        (
            &[mkfile("b")],
            "[limits]\ncommands = 3",
            "limits.commands",
            "[limits]\ncommands = 4",
        ),
    ];
    for (commands, refusing, rule, allowing) in cases {
        let output = accept(&stream(commands), refusing, &[], to.path());
        assert_refused(&output, rule, to.path());
        if allowing.is_empty() {
            continue;
        }
        let output = accept(&stream(commands), allowing, &[], to.path());
        assert!(output.status.success(), "{allowing}: {output:?}");
        assert!(is_complete(&to.path().join("some")), "{allowing}");
        subvolume::delete(&to.path().join("some"));
    }
    // Holes cost nothing.
    let hole = [inherited(1 << 30), fallocate(3, 1 << 30)];
    let output = accept(&stream(&hole), "[limits]\ndata = 0", &[], to.path());
    assert!(output.status.success(), "{output:?}");
}

fn what_is_dropped_is_counted_and_the_rest_is_complete() {
    let to = LoopFilesystem::new();
    let commands = [
        special(0o60_000, 0o60_600),
        // Whatever comes later for the device has to go well.
        Command::Rename {
            path: path("special"),
            to: path("disk"),
        },
        chmod("disk", 0o660),
        chmod("file", 0o6755),
        xattr("security.selinux"),
        xattr("user.stays"),
        Command::Chown {
            path: path("file"),
            uid: 1000,
            gid: 1000,
        },
    ];
    let rules = "devices = \"drop\"\nsetuid = \"drop\"\nsetgid = \"drop\"\n\
                 [xattrs]\nallow = [\"user.*\"]\ndrop = [\"security.*\"]\n\
                 [owners]\nuids = [\"2000\"]\notherwise = \"drop\"";
    let output = accept(&stream(&commands), rules, &[], to.path());
    assert!(output.status.success(), "{output:?}");
    let some = to.path().join("some");
    assert!(is_complete(&some));
    let stderr = text(&output).1;
    for line in [
        "WARNING: some: complete except for 4 changes (--accept), ignored as requested\n",
        "WARNING: the rule devices dropped or changed 1 command\n",
        "WARNING: the rule setuid dropped or changed 1 command\n",
        "WARNING: the rule setgid dropped or changed 1 command\n",
        "WARNING: the rule xattrs dropped or changed 1 command\n",
        "WARNING: the rule owners dropped or changed 1 command\n",
    ] {
        assert!(stderr.contains(line), "{line}{stderr}");
    }
    let file = fs::symlink_metadata(some.join("file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o755, 0));
    assert_eq!(xattrs_of(&some.join("file")), ["user.stays"]);
    let disk = fs::symlink_metadata(some.join("disk")).unwrap();
    assert!(disk.is_file() && disk.mode() & 0o7777 == 0o660);
    subvolume::delete(&some);
    // In JSON, too.
    let output = accept(&stream(&commands), rules, &["--json"], to.path());
    let stdout = text(&output).0;
    assert!(stdout.contains("\"outcome\":\"finished_with_omissions\""));
    assert!(stdout.contains("\"by_filter\":4}"), "{stdout}");
}

fn nothing_may_follow_the_last_end() {
    let to = LoopFilesystem::new();
    let one = stream(&[]);
    let other = encode(Version::V1, &[subvol("other", OTHER), Command::End]);
    let output = accept(&[&one[..], &other].concat(), "", &[], to.path());
    assert_refused(&output, "subvolumes", to.path());
    let expected = "ERROR: header failed: refused by the rule subvolumes: the input goes on after \
                    the one subvolume (stream 2, command 0, byte ";
    assert!(text(&output).1.contains(expected), "{output:?}");
    for garbage in [
        &b"\0"[..],
        b"btrfs-stream\0\x01\0\0",
        &[0; 4096],
        &one[17..],
    ] {
        let output = accept(&[&one[..], garbage].concat(), "", &[], to.path());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(names_in(to.path()), [""; 0], "{output:?}");
    }
    // It is not complete while more can come.
    let rules = RulesFile::new("");
    let mut child = command(&[&rules.option()])
        .arg(to.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&one).unwrap();
    stdin.write_all(b"\0").unwrap();
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(names_in(to.path()), [""; 0]);
    // With -e, the rest is not read at all.
    let both = [&one[..], &other].concat();
    let output = accept(&both, "", &["-e"], to.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names_in(to.path()), ["some"]);
    // Two are two.
    subvolume::delete(&to.path().join("some"));
    let output = accept(&both, "subvolumes = 2", &[], to.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names_in(to.path()), ["other", "some"]);
}

fn a_subvolume_before_the_refused_one_stays() {
    let to = LoopFilesystem::new();
    let bad = [subvol("bad", OTHER), chmod("", 0o4755), Command::End];
    let both = [stream(&[]), encode(Version::V1, &bad)].concat();
    let output = accept(&both, "subvolumes = 2", &[], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).1.ends_with("complete: some\n"), "{output:?}");
    assert_eq!(names_in(to.path()), ["some"]);
    assert!(is_complete(&to.path().join("some")));
}

/// SUBVOL ends the subvolume before it, as END does.
fn a_second_subvolume_without_end_takes_the_first_with_it() {
    let to = LoopFilesystem::new();
    let commands = [
        subvol("some", OWN),
        mkfile("file"),
        subvol("other", OTHER),
        Command::End,
    ];
    let output = accept(&encode(Version::V1, &commands), "", &[], to.path());
    assert_refused(&output, "subvolumes", to.path());
}

fn the_chosen_name_is_judged() {
    let to = LoopFilesystem::new();
    let rules = "names = [\"mine.?\"]";
    let output = accept(&stream(&[]), rules, &["--name=mine.1"], to.path());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names_in(to.path()), ["mine.1"]);
    subvolume::delete(&to.path().join("mine.1"));
    let output = accept(&stream(&[]), "names = [\"some\"]", &["--name=x"], to.path());
    assert_refused(&output, "names", to.path());
    // What the name looks like makes up no line.
    let name = encode(Version::V1, &[subvol("a\nERROR: b", OWN), Command::End]);
    let output = accept(&name, rules, &[], to.path());
    assert_refused(&output, "names", to.path());
    assert!(!text(&output).1.contains("\nERROR: b"), "{output:?}");
}

fn sources_lie_below_the_destination_unless_the_rules_say_otherwise() {
    let to = LoopFilesystem::new();
    let (mine, theirs) = (to.path().join("mine"), to.path().join("theirs"));
    for directory in [&mine, &theirs] {
        fs::create_dir(directory).unwrap();
    }
    let change = encode(Version::V1, &[snapshot("next"), Command::End]);
    assert!(receive(&stream(&[]), &[], &theirs).status.success());
    for sandbox in [&[][..], &["--sandbox"]] {
        let output = accept(&change, "", sandbox, &mine);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(names_in(&mine), [""; 0]);
        // Nor is a clone from there.
        let output = accept(&stream(&[clone_from(OTHER, 0)]), "", sandbox, &mine);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(names_in(&mine), [""; 0]);
        for rules in ["sources = \"..\"", "sources = \"../theirs\""] {
            let output = accept(&change, rules, sandbox, &mine);
            assert!(output.status.success(), "{rules}: {output:?}");
            subvolume::delete(&mine.join("next"));
        }
        let uuids = "sources = \"..\"\nsource-uuids = [\"00000000-0000-0000-0000-000000002222\"]";
        let output = accept(&change, uuids, sandbox, &mine);
        assert_refused(&output, "source-uuids", &mine);
        let output = accept(&change, "incremental = false", sandbox, &mine);
        assert_refused(&output, "incremental", &mine);
    }
    assert!(accept(&stream(&[]), "", &[], &mine).status.success());
    // Of a refused snapshot nothing is left either.
    let bad = [snapshot("next"), chmod("file", 0o4755), Command::End];
    let output = accept(&encode(Version::V1, &bad), "", &["--sandbox"], &mine);
    assert!(text(&output).1.contains("refused by the rule setuid"));
    assert_eq!(names_in(&mine), ["some"], "{output:?}");
    let output = accept(&change, "full = false", &["--sandbox"], &mine);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names_in(&mine), ["next", "some"]);
}

fn a_refusal_ends_the_receive_whatever_the_options_say() {
    let to = LoopFilesystem::new();
    let commands = stream(&[chmod("file", 0o4755), chmod("file", 0o4711)]);
    for options in [
        &["--max-errors=0"][..],
        &["--on-error=keep"],
        &["--atomic"],
        &["--sandbox"],
        &["--buffer=1M"],
        &["--exclude-xattr=*", "--no-fileattr", "--allow-unknown"],
    ] {
        let output = accept(&commands, "", options, to.path());
        assert_refused(&output, "setuid", to.path());
        let count = text(&output).1.matches("refused by").count();
        assert_eq!(count, 1, "{output:?}");
    }
    // Nor does a sender that gives up leave anything.
    let whole = stream(&[write_at(0, 4096)]);
    for len in [0, 17, 90, 120, whole.len() - 10, whole.len() - 1] {
        let output = accept(&whole[..len], "", &[], to.path());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(names_in(to.path()), [""; 0], "{output:?}");
    }
    // What has the name already is not touched.
    assert!(receive(&stream(&[]), &[], to.path()).status.success());
    let output = accept(&commands, "", &["--max-errors=0"], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(is_complete(&to.path().join("some")));
    let output = accept(&stream(&[]), "", &["--resumable"], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).1.contains("cannot be used together"));
}

fn a_silent_sender_is_given_up() {
    let to = LoopFilesystem::new();
    let rules = RulesFile::new("[limits]\nidle = \"1s\"");
    for options in [&[][..], &["--buffer=1M"]] {
        let mut child = command(&[&[rules.option().as_str()], options].concat())
            .arg(to.path())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&stream(&[])[..100]).unwrap();
        // The pipe stays open until the command has ended.
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output).1.contains("no input for 1 s"), "{output:?}");
        assert_eq!(names_in(to.path()), [""; 0]);
    }
}

/// Frames that are skipped, and empty ones, fill the file of --tee and go on for
/// ever, but are no part of the stream.
fn what_is_unpacked_to_nothing_is_input() {
    let (to, stored) = (LoopFilesystem::new(), tempfile::tempdir().unwrap());
    let stream = stream(&[]);
    let zstd = packed("zstd", &stream);
    let len: usize = 1 << 16;
    let skipped = [&b"\x50\x2a\x4d\x18\0\0\x01\0"[..], &vec![0; len]].concat();
    let tee = format!("--tee={}", stored.path().join("file").display());
    let exactly = skipped.len() + zstd.len();
    let empty = packed("gzip", b"").repeat(len / 20);
    for (input, limit, is_allowed) in [
        ([&skipped[..], &zstd].concat(), exactly, true),
        ([&skipped[..], &zstd].concat(), exactly - 1, false),
        ([&zstd[..], &skipped].concat(), exactly, true),
        ([&zstd[..], &skipped].concat(), exactly - 1, false),
        ([packed("gzip", &stream), empty].concat(), len / 2, false),
    ] {
        for options in [&[][..], &["--buffer=1M"]] {
            let options = [&["--decompress", tee.as_str()], options].concat();
            let rules = format!("[limits]\ninput = {limit}");
            let output = accept(&input, &rules, &options, to.path());
            let (_, stderr) = text(&output);
            assert_eq!(output.status.success(), is_allowed, "{limit}: {stderr}");
            if is_allowed {
                assert!(is_complete(&to.path().join("some")));
                assert!(fs::read(stored.path().join("file")).unwrap() == input);
                subvolume::delete(&to.path().join("some"));
                fs::remove_file(stored.path().join("file")).unwrap();
            } else {
                assert!(stderr.contains("the rule limits.input"), "{stderr}");
                assert_eq!(names_in(to.path()), [""; 0]);
            }
            assert_eq!(names_in(stored.path()), [""; 0]);
        }
    }
}

fn rules_that_cannot_be_used_are_refused_before_anything_is_read() {
    let to = LoopFilesystem::new();
    for (rules, part) in [
        ("setuit = \"drop\"", "line 2: unknown field `setuit`"),
        ("setuid = \"no\"", "line 2: unknown variant `no`"),
        ("subvolumes = 0", "subvolumes must be at least 1"),
    ] {
        let output = accept(&stream(&[]), rules, &[], to.path());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output).1.contains(part), "{output:?}");
    }
    let rules = RulesFile::new("");
    let writable = fs::Permissions::from_mode(0o622);
    fs::set_permissions(rules.0.path(), writable).unwrap();
    let output = receive(&stream(&[]), &[&rules.option()], to.path());
    assert!(text(&output).1.contains("may write to it"), "{output:?}");
    let rules = RulesFile::new("");
    std::os::unix::fs::chown(rules.0.path(), Some(1000), None).unwrap();
    let output = receive(&stream(&[]), &[&rules.option()], to.path());
    assert!(text(&output).1.contains("another user"), "{output:?}");
    let output = receive(&stream(&[]), &["--accept=/no/such"], to.path());
    assert!(text(&output).1.contains("No such file"), "{output:?}");
    let output = receive(&stream(&[]), &["--accept="], to.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(names_in(to.path()), [""; 0]);
}

/// What the kernel sends of every kind of file, in full and in increments.
fn a_real_tree_arrives_within_rules() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let lax = "names = [\"first\", \"second\"]\ndevices = \"allow\"\nsetuid = \"allow\"\n\
               setgid = \"allow\"\ncapabilities = \"allow\"\nverity = \"allow\"\n\
               [xattrs]\notherwise = \"allow\"";
    let strict = lax.replace("\"allow\"", "\"drop\"");
    for (name, stream) in [("first", &sent.full), ("second", &sent.incremental)] {
        let output = accept(stream, lax, &[], to.path());
        assert!(output.status.success(), "{output:?}");
        let copy = to.path().join(name);
        btrfs_testkit::assert_same_tree(&sent.from.path().join(name), &copy);
    }
    for name in ["first", "second"] {
        subvolume::delete(&to.path().join(name));
    }
    for (name, stream) in [("first", &sent.full), ("second", &sent.incremental)] {
        let output = accept(stream, &strict, &[], to.path());
        assert!(output.status.success(), "{output:?}");
        let mut seen = 0;
        walk(&to.path().join(name), &mut |path, facts| {
            seen += 1;
            assert!(!is_device(facts), "{}", path.display());
            assert_eq!(facts.mode() & 0o6000, 0, "{}", path.display());
            let names = xattrs_of(path);
            let allowed = |name: &String| {
                ["user.", "system.posix_acl_", "btrfs."]
                    .iter()
                    .any(|it| name.starts_with(it))
            };
            assert!(names.iter().all(allowed), "{}: {names:?}", path.display());
        });
        assert!(seen > 20);
    }
}

fn is_device(facts: &fs::Metadata) -> bool {
    facts.file_type().is_char_device() || facts.file_type().is_block_device()
}

/// Everything at and below `path`.
fn walk(path: &Path, see: &mut impl FnMut(&Path, &fs::Metadata)) {
    let facts = fs::symlink_metadata(path).unwrap();
    see(path, &facts);
    if facts.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), see);
        }
    }
}

fn xattrs_of(path: &Path) -> Vec<String> {
    let mut names = vec![0; 4096];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}
