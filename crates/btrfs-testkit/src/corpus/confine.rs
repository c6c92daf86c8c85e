//! Ways out of the subvolume: symbolic links that the stream makes itself,
//! and special files that data is written to.

use super::Case;
use super::Layer::Confine;
use crate::raw::{OWN_UUID, RawStream, attr};

const ESCAPE: &str = "Escape";
const DATA: &str = "NotRegularFile";

/// A block device that no machine has: 7:1048575, the last loop device. The
/// tests put a real one in its place.
pub const NO_DEVICE: u64 = 0xfff0_07ff;

pub(super) fn cases() -> Vec<Case> {
    [through_links(), at_links(), special_files()].concat()
}

/// A subvolume with a file `f` of 4 KiB, a directory `d`, and links: `out` to
/// a directory beside the subvolume, `outf` to a file in it, `in` to `d`.
fn tree(version: u32) -> RawStream {
    RawStream::new(version)
        .mkfile("f")
        .write("f", 0, &[b'f'; 4096])
        .mkdir("d")
        .mkfile("d/f")
        .symlink("out", "../canary")
        .symlink("outf", "../canary/file")
        .symlink("in", "d")
        .here()
}

fn case(name: &str, error: &str, defect: &str, stream: RawStream) -> Case {
    Case::new(name, Confine, error, defect, stream.end())
}

fn through_links() -> Vec<Case> {
    let path = || attr::path("out/file");
    let t = tree;
    let mut list = names_through_links();
    list.extend([
        (
            "set-xattr",
            t(1).command(
                13,
                [path(), attr::xattr_name("user.x"), attr::xattr_data("x")],
            ),
        ),
        (
            "remove-xattr",
            t(1).command(14, [path(), attr::xattr_name("user.canary")]),
        ),
        ("write", t(1).write("out/file", 0, b"escaped")),
        ("clone-to", t(1).clone_block("out/file", OWN_UUID, "f")),
        ("clone-from", t(1).clone_block("d/f", OWN_UUID, "out/file")),
        ("truncate", t(1).command(17, [path(), attr::size(0)])),
        ("chmod", t(1).command(18, [path(), attr::mode(0o4777)])),
        (
            "chown",
            t(1).command(19, [path(), attr::uid(1000), attr::gid(1000)]),
        ),
        ("utimes", t(1).utimes("out/file", 0, 0)),
        (
            "fallocate",
            t(2).command(
                23,
                [
                    path(),
                    attr::fallocate_mode(3),
                    attr::file_offset(0),
                    attr::size(4096),
                ],
            ),
        ),
        ("fileattr", t(2).command(24, [path(), attr::fileattr(0x10)])),
        (
            "encoded-write",
            t(2).encoded("out/file", [1, 1, 0], [0, 0], b"x"),
        ),
        (
            "enable-verity",
            t(3).command(
                26,
                [
                    path(),
                    attr::verity_algorithm(1),
                    attr::verity_block_size(4096),
                    attr::verity_salt(""),
                    attr::verity_signature(""),
                ],
            ),
        ),
    ]);
    let mut cases: Vec<_> = list
        .into_iter()
        .map(|(name, stream)| {
            let command = name.replace('-', " ");
            let defect = format!(
                "A link made by the stream leads out, and this goes through it: {command}."
            );
            case(&format!("link-{name}"), ESCAPE, &defect, stream)
        })
        .collect();
    cases.push(case(
        "link-inside",
        ESCAPE,
        "A path through a link that stays inside: no sender writes such paths.",
        tree(1).write("in/f", 0, b"x"),
    ));
    cases.push(case(
        "link-after-rename",
        ESCAPE,
        "A directory that was written to is renamed away, and a link takes its name.",
        tree(1)
            .write("d/f", 0, b"x")
            .rename("d", "e")
            .rename("out", "d")
            .here()
            .write("d/file", 0, b"escaped"),
    ));
    cases.push(case(
        "link-deep",
        ESCAPE,
        "A link in the middle of a long path.",
        tree(1)
            .mkdir("d/d")
            .symlink("d/d/l", "../../../canary")
            .here()
            .write("d/d/l/file", 0, b"escaped"),
    ));
    cases
}

/// Commands that make, move or remove names.
fn names_through_links() -> Vec<(&'static str, RawStream)> {
    let t = || tree(1);
    vec![
        ("mkfile", t().mkfile("out/new")),
        ("mkdir", t().mkdir("out/new")),
        ("mknod", t().special(5, "out/new", 0o20_666, 0x103)),
        ("mkfifo", t().special(6, "out/new", 0o10_666, 0)),
        ("mksock", t().special(7, "out/new", 0o140_666, 0)),
        ("symlink", t().symlink("out/new", "x")),
        ("rename-from", t().rename("out/file", "g")),
        ("rename-to", t().rename("f", "out/file")),
        (
            "link-new",
            t().command(10, [attr::path("out/new"), attr::path_link("f")]),
        ),
        (
            "link-existing",
            t().command(10, [attr::path("g"), attr::path_link("out/file")]),
        ),
        ("unlink", t().command(11, [attr::path("out/file")])),
        ("rmdir", t().command(12, [attr::path("out/sub")])),
    ]
}

fn at_links() -> Vec<Case> {
    let last = |name: &str, error: &str, what: &str, stream: RawStream| {
        let defect = format!("{what} a link that leads to a file outside.");
        case(&format!("at-link-{name}"), error, &defect, stream)
    };
    let exists = "System.AlreadyExists";
    vec![
        last(
            "mkfile",
            exists,
            "MKFILE in place of",
            tree(1).mkfile("outf"),
        ),
        last("mkdir", exists, "MKDIR in place of", tree(1).mkdir("outf")),
        last(
            "mknod",
            exists,
            "MKNOD in place of",
            tree(1).special(5, "outf", 0o20_666, 0x103),
        ),
        last(
            "link",
            exists,
            "LINK to the name of",
            tree(1).command(10, [attr::path("outf"), attr::path_link("f")]),
        ),
        last(
            "rmdir",
            "System.NotADirectory",
            "RMDIR of",
            tree(1).command(12, [attr::path("out")]),
        ),
        last(
            "set-xattr",
            "System.PermissionDenied",
            "SET_XATTR of",
            tree(1).command(
                13,
                [
                    attr::path("outf"),
                    attr::xattr_name("user.x"),
                    attr::xattr_data("x"),
                ],
            ),
        ),
        last(
            "chmod",
            "System.Unsupported",
            "CHMOD of",
            tree(1).command(18, [attr::path("outf"), attr::mode(0o777)]),
        ),
        last(
            "write",
            DATA,
            "WRITE to",
            tree(1).write("outf", 0, b"escaped"),
        ),
        last(
            "truncate",
            DATA,
            "TRUNCATE of",
            tree(1).command(17, [attr::path("outf"), attr::size(0)]),
        ),
        last(
            "clone-to",
            DATA,
            "CLONE to",
            tree(1).clone_block("outf", OWN_UUID, "f"),
        ),
        last(
            "clone-from",
            DATA,
            "CLONE from",
            tree(1).clone_block("d/f", OWN_UUID, "outf"),
        ),
        last(
            "fallocate",
            DATA,
            "FALLOCATE of",
            tree(2).command(
                23,
                [
                    attr::path("outf"),
                    attr::fallocate_mode(3),
                    attr::file_offset(0),
                    attr::size(1),
                ],
            ),
        ),
        last(
            "encoded-write",
            DATA,
            "ENCODED_WRITE to",
            tree(2).encoded("outf", [1, 1, 0], [0, 0], b"x"),
        ),
        last(
            "write-after-swap",
            DATA,
            "WRITE by a name that was a file's and is now that of",
            tree(1)
                .write("f", 0, b"x")
                .rename("f", "g")
                .rename("outf", "f")
                .here()
                .write("f", 0, b"escaped"),
        ),
    ]
}

fn special_files() -> Vec<Case> {
    let kinds = [
        ("block-device", 5, 0o60_600, NO_DEVICE, "a block device"),
        // 1:3, /dev/null.
        ("character-device", 5, 0o20_600, 0x103, "a character device"),
        ("fifo", 6, 0o10_600, 0, "a FIFO, which waits for a reader"),
        ("socket", 7, 0o140_600, 0, "a socket"),
    ];
    let mut cases = Vec::new();
    for (name, number, mode, rdev, what) in kinds {
        let made = |version: u32| tree(version).special(number, "n", mode, rdev).here();
        let mut add = |verb: &str, command: &str, stream: RawStream| {
            let defect = format!("{command} {what}.");
            cases.push(case(&format!("{verb}-{name}"), DATA, &defect, stream));
        };
        add("write", "WRITE to", made(1).write("n", 0, b"escaped"));
        if matches!(name, "character-device" | "socket") {
            continue;
        }
        add(
            "clone-from",
            "CLONE from",
            made(1).clone_block("f", OWN_UUID, "n"),
        );
        add(
            "clone-to",
            "CLONE to",
            made(1).clone_block("n", OWN_UUID, "f"),
        );
        add(
            "truncate",
            "TRUNCATE of",
            made(1).command(17, [attr::path("n"), attr::size(0)]),
        );
    }
    let made = tree(2).special(5, "n", 0o60_600, NO_DEVICE).here();
    cases.push(case(
        "encoded-write-block-device",
        DATA,
        "ENCODED_WRITE to a block device.",
        made.encoded("n", [1, 1, 0], [0, 0], b"x"),
    ));
    cases
}
