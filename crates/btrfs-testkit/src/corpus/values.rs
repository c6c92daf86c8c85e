//! Values of the right length that mean something impossible or hostile.

use super::Case;
use super::Layer::Typed;
use crate::raw::{Attr, OWN_UUID, RawStream, UNKNOWN_UUID, attr};

pub(super) fn cases() -> Vec<Case> {
    [paths(), both_ends(), subvolume_names(), others()].concat()
}

fn with(number: u16, attributes: impl IntoIterator<Item = Attr>) -> RawStream {
    RawStream::new(1)
        .mkfile("f")
        .here()
        .command(number, attributes)
        .end()
}

fn paths() -> Vec<Case> {
    let shapes: [(&str, &[u8], &str, &str); 10] = [
        ("parent", b"..", "DotComponent", "is `..`"),
        (
            "escape",
            b"../canary/file",
            "DotComponent",
            "begins with `..`",
        ),
        (
            "escape-later",
            b"d/../../canary/file",
            "DotComponent",
            "climbs out by `..` after going down",
        ),
        ("dotdot-last", b"d/..", "DotComponent", "ends in `..`"),
        ("dot", b"./f", "DotComponent", "begins with `.`"),
        ("absolute", b"/canary/file", "Absolute", "is absolute"),
        ("slash", b"/", "Absolute", "is a slash"),
        (
            "double-slash",
            b"d//f",
            "EmptyComponent",
            "has an empty component",
        ),
        ("trailing-slash", b"d/", "EmptyComponent", "ends in a slash"),
        ("nul", b"f\0../../canary", "Nul", "contains a NUL byte"),
    ];
    shapes
        .into_iter()
        .map(|(name, path, reason, what)| {
            let stream = with(
                15,
                [attr::path(path), attr::file_offset(0), attr::data("x")],
            );
            let error = format!("Malformed.Path.{reason}");
            let defect = format!("WRITE to a path that {what}.");
            Case::new(&format!("path-{name}"), Typed, &error, &defect, stream)
        })
        .collect()
}

/// Paths that are not a command's first one, and such that create or remove.
fn both_ends() -> Vec<Case> {
    let out = "../canary/file";
    let clone = |path: &str, source: &str| {
        [
            attr::file_offset(0),
            attr::clone_len(4096),
            attr::path(path),
            attr::clone_uuid(UNKNOWN_UUID),
            attr::clone_ctransid(1),
            attr::clone_path(source),
            attr::clone_offset(0),
        ]
    };
    let list: [(&str, &str, u16, Vec<Attr>); 10] = [
        (
            "mkfile",
            "MKFILE outside",
            3,
            vec![attr::path("../canary/new"), attr::ino(1)],
        ),
        (
            "mkdir",
            "MKDIR outside",
            4,
            vec![attr::path("../canary/new"), attr::ino(1)],
        ),
        (
            "symlink",
            "SYMLINK made outside",
            8,
            vec![
                attr::path("../canary/new"),
                attr::ino(1),
                attr::path_link("x"),
            ],
        ),
        (
            "rename-from",
            "RENAME of something outside",
            9,
            vec![attr::path(out), attr::path_to("g")],
        ),
        (
            "rename-to",
            "RENAME to a name outside",
            9,
            vec![attr::path("f"), attr::path_to(out)],
        ),
        (
            "link-new",
            "LINK made outside",
            10,
            vec![attr::path(out), attr::path_link("f")],
        ),
        (
            "link-existing",
            "LINK to a file outside",
            10,
            vec![attr::path("g"), attr::path_link(out)],
        ),
        ("unlink", "UNLINK outside", 11, vec![attr::path(out)]),
        (
            "clone-to",
            "CLONE into a file outside",
            16,
            clone(out, "f").into(),
        ),
        (
            "clone-from",
            "CLONE of a file outside",
            16,
            clone("f", out).into(),
        ),
    ];
    list.into_iter()
        .map(|(name, what, number, attributes)| {
            let name = format!("path-escape-{name}");
            let defect = format!("{what}, by `..`.");
            let error = "Malformed.Path.DotComponent";
            Case::new(&name, Typed, error, &defect, with(number, attributes))
        })
        .collect()
}

fn subvolume_names() -> Vec<Case> {
    let long = [b'n'; 256];
    let names: [(&str, &[u8], &str, &str); 8] = [
        ("empty", b"", "EmptyName", "is empty"),
        ("dot", b".", "DotComponent", "is `.`"),
        ("dotdot", b"..", "DotComponent", "is `..`"),
        (
            "escape",
            b"../s",
            "DotComponent",
            "leads out of the destination",
        ),
        ("absolute", b"/s", "Absolute", "is absolute"),
        (
            "slash",
            b"canary/s",
            "NotOneComponent",
            "leads into a directory beside it",
        ),
        ("nul", b"s\0t", "Nul", "contains a NUL byte"),
        ("256-bytes", &long, "NameTooLong", "has 256 bytes"),
    ];
    let mut cases: Vec<_> = names
        .into_iter()
        .map(|(name, bytes, reason, what)| {
            let stream = RawStream::header(1).here().subvol(bytes).end();
            let error = format!("Malformed.Path.{reason}");
            let defect = format!("SUBVOL with a name that {what}.");
            Case::new(&format!("subvol-{name}"), Typed, &error, &defect, stream).nothing_left()
        })
        .collect();
    let snapshot = RawStream::header(1).here().command(
        2,
        [
            attr::path("../s"),
            attr::uuid(OWN_UUID),
            attr::ctransid(1),
            attr::clone_uuid(UNKNOWN_UUID),
            attr::clone_ctransid(1),
        ],
    );
    cases.push(
        Case::new(
            "snapshot-escape",
            Typed,
            "Malformed.Path.DotComponent",
            "SNAPSHOT with a name that leads out of the destination.",
            snapshot.end(),
        )
        .nothing_left(),
    );
    cases
}

fn others() -> Vec<Case> {
    let nil = |number: u16| {
        let mut attributes = vec![attr::path("s"), attr::uuid([0; 16]), attr::ctransid(1)];
        if number == 2 {
            attributes.extend([attr::clone_uuid(UNKNOWN_UUID), attr::clone_ctransid(1)]);
        }
        RawStream::header(1)
            .here()
            .command(number, attributes)
            .end()
    };
    let time = |name: &str, nanoseconds: u32, what: &str| {
        let stream = RawStream::new(1)
            .mkfile("f")
            .here()
            .utimes("f", 0, nanoseconds)
            .end();
        let defect = format!("A time with {what} nanoseconds.");
        Case::new(name, Typed, "Malformed.Nanoseconds", &defect, stream)
    };
    vec![
        Case::new(
            "uuid-nil-of-subvol",
            Typed,
            "Malformed.NilUuid",
            "SUBVOL with a UUID of zeros: stamping it would remove the stamp.",
            nil(1),
        )
        .nothing_left(),
        Case::new(
            "uuid-nil-of-snapshot",
            Typed,
            "Malformed.NilUuid",
            "SNAPSHOT with a UUID of zeros.",
            nil(2),
        )
        .nothing_left(),
        time("nanoseconds-1e9", 1_000_000_000, "1,000,000,000"),
        // What utimensat(2) takes for "now" and for "leave it".
        time("nanoseconds-utime-now", 0x3fff_ffff, "UTIME_NOW"),
        time("nanoseconds-utime-omit", 0x3fff_fffe, "UTIME_OMIT"),
        Case::new(
            "symlink-target-with-nul",
            Typed,
            "Malformed.Nul",
            "A link target with a NUL byte.",
            with(8, [attr::path("l"), attr::ino(1), attr::path_link("a\0b")]),
        ),
        Case::new(
            "xattr-name-with-nul",
            Typed,
            "Malformed.Nul",
            "The name of an extended attribute with a NUL byte.",
            with(
                13,
                [
                    attr::path("f"),
                    attr::xattr_name("user.a\0security.capability"),
                    attr::xattr_data("x"),
                ],
            ),
        ),
    ]
}
