//! Attributes: their framing, which are there, how long they are.

use super::Case;
use super::Layer::Typed;
use crate::raw::{Attr, OWN_UUID, RawStream, attr};

pub(super) fn cases() -> Vec<Case> {
    [broken(), present(), lengths(), versions()].concat()
}

fn with(version: u32, number: u16, attributes: impl IntoIterator<Item = Attr>) -> RawStream {
    RawStream::new(version)
        .mkfile("f")
        .here()
        .command(number, attributes)
        .end()
}

fn broken() -> Vec<Case> {
    let payload = |name: &str, error: &str, defect: &str, bytes: &[u8]| {
        let stream = RawStream::new(1).mkdir("d").here().payload(12, bytes).end();
        Case::new(name, Typed, error, defect, stream)
    };
    vec![
        payload(
            "attribute-header-short",
            "Malformed.TrailingBytes",
            "A payload of three bytes, less than an attribute's header.",
            b"\x0f\0\x01",
        ),
        payload(
            "attribute-trailing-byte",
            "Malformed.TrailingBytes",
            "A byte is left over after the last attribute.",
            b"\x0f\0\x01\0dx",
        ),
        payload(
            "attribute-trailing-zeros",
            "Unsupported.Attribute",
            "The payload is padded with zeros, which read as attribute 0.",
            b"\x0f\0\x01\0d\0\0\0\0",
        ),
        payload(
            "attribute-overrun",
            "Malformed.AttributeOverrun",
            "An attribute claims more bytes than its command has.",
            b"\x0f\0\x05\0d",
        ),
        payload(
            "attribute-overrun-64-kib",
            "Malformed.AttributeOverrun",
            "An attribute claims 65,535 bytes and has one.",
            b"\x0f\0\xff\xffd",
        ),
        Case::new(
            "data-not-last",
            Typed,
            "Malformed.MissingAttribute",
            "DATA stands before FILE_OFFSET in version 2, and swallows it.",
            with(
                2,
                15,
                [attr::path("f"), attr::data("x"), attr::file_offset(0)],
            ),
        ),
        Case::new(
            "data-with-length-overrun-in-version-1",
            Typed,
            "Malformed.AttributeOverrun",
            "DATA without a length in version 1, so that content is read as a length.",
            RawStream::new(1)
                .mkfile("f")
                .here()
                .payload(
                    15,
                    b"\x0f\0\x01\0f\x12\0\x08\0\0\0\0\0\0\0\0\0\x13\0some file data",
                )
                .end(),
        ),
    ]
}

fn present() -> Vec<Case> {
    let missing = "Malformed.MissingAttribute";
    let mut cases = vec![
        Case::new(
            "attribute-0",
            Typed,
            "Unsupported.Attribute",
            "Attribute number 0.",
            with(1, 11, [attr::path("f"), (0, b"x".to_vec())]),
        ),
        Case::new(
            "attribute-36",
            Typed,
            "Unsupported.Attribute",
            "Attribute number 36, one over the highest.",
            with(3, 11, [attr::path("f"), (36, b"x".to_vec())]),
        ),
        Case::new(
            "attribute-65535",
            Typed,
            "Unsupported.Attribute",
            "Attribute number 65,535.",
            with(1, 11, [(65_535, b"x".to_vec()), attr::path("f")]),
        ),
        Case::new(
            "attribute-twice",
            Typed,
            "Malformed.DuplicateAttribute",
            "Two paths: a checker that looks at the first approves what is done to the second.",
            with(1, 11, [attr::path("f"), attr::path("../canary/file")]),
        ),
        Case::new(
            "attribute-twice-the-same",
            Typed,
            "Malformed.DuplicateAttribute",
            "The same path twice.",
            with(1, 11, [attr::path("f"), attr::path("f")]),
        ),
        Case::new(
            "attribute-of-another-command",
            Typed,
            "Unsupported.UnexpectedAttribute",
            "UNLINK with an offset in a file.",
            with(1, 11, [attr::path("f"), attr::file_offset(0)]),
        ),
        Case::new(
            "end-with-attribute",
            Typed,
            "Unsupported.UnexpectedAttribute",
            "END with a path.",
            with(1, 21, [attr::path("f")]),
        ),
        Case::new(
            "missing-all",
            Typed,
            missing,
            "WRITE without any attribute.",
            with(1, 15, []),
        ),
    ];
    for (name, number, attributes) in incomplete() {
        let defect = format!(
            "A command that lacks an attribute: {}.",
            name.replace('-', " ")
        );
        let name = format!("missing-{name}");
        cases.push(Case::new(
            &name,
            Typed,
            missing,
            &defect,
            with(2, number, attributes),
        ));
    }
    cases.push(
        Case::new(
            "missing-uuid-of-subvol",
            Typed,
            missing,
            "SUBVOL without UUID.",
            RawStream::header(1)
                .here()
                .command(1, [attr::path("s"), attr::ctransid(1)])
                .end(),
        )
        .nothing_left(),
    );
    cases
}

fn incomplete() -> Vec<(&'static str, u16, Vec<Attr>)> {
    let path = || attr::path("f");
    let [atime, mtime, _] = attr::times(0, 0);
    vec![
        ("ino-of-mkfile", 3, vec![attr::path("g")]),
        ("target-of-symlink", 8, vec![path(), attr::ino(1)]),
        ("new-name-of-rename", 9, vec![path()]),
        ("offset-of-write", 15, vec![path(), attr::data("x")]),
        (
            "source-of-clone",
            16,
            vec![attr::file_offset(0), attr::clone_len(1), path()],
        ),
        ("size-of-truncate", 17, vec![path()]),
        ("ctime-of-utimes", 20, vec![path(), atime, mtime]),
        (
            "lengths-of-encoded-write",
            25,
            vec![path(), attr::file_offset(0), attr::data("x")],
        ),
    ]
}

fn lengths() -> Vec<Case> {
    let wrong = "Malformed.AttributeLength";
    let long = |attribute: Attr, len: usize| (attribute.0, vec![0; len]);
    vec![
        Case::new(
            "length-of-number-0",
            Typed,
            wrong,
            "A 64-bit number of no bytes.",
            with(1, 17, [attr::path("f"), long(attr::size(0), 0)]),
        ),
        Case::new(
            "length-of-number-4",
            Typed,
            wrong,
            "A 64-bit number of four bytes.",
            with(1, 17, [attr::path("f"), long(attr::size(0), 4)]),
        ),
        Case::new(
            "length-of-number-9",
            Typed,
            wrong,
            "A 64-bit number of nine bytes.",
            with(1, 17, [attr::path("f"), long(attr::size(0), 9)]),
        ),
        Case::new(
            "length-of-time-8",
            Typed,
            wrong,
            "A time without nanoseconds.",
            with(
                1,
                20,
                [attr::path("f")]
                    .into_iter()
                    .chain([11, 10, 9].map(|number| (number, vec![0; 8]))),
            ),
        ),
        Case::new(
            "length-of-uuid-15",
            Typed,
            wrong,
            "A UUID of 15 bytes.",
            RawStream::header(1)
                .here()
                .command(1, [attr::path("s"), attr::uuid([1; 15]), attr::ctransid(1)])
                .end(),
        )
        .nothing_left(),
        Case::new(
            "length-of-compression-8",
            Typed,
            wrong,
            "A 32-bit compression number of eight bytes.",
            with(
                2,
                25,
                [
                    attr::path("f"),
                    attr::file_offset(0),
                    attr::unencoded_file_len(1),
                    attr::unencoded_len(1),
                    attr::unencoded_offset(0),
                    (30, vec![0; 8]),
                    attr::data("x"),
                ],
            ),
        ),
        Case::new(
            "length-of-verity-algorithm-4",
            Typed,
            wrong,
            "The one-byte hash algorithm in four bytes.",
            with(
                3,
                26,
                [
                    attr::path("f"),
                    (32, vec![1, 0, 0, 0]),
                    attr::verity_block_size(4096),
                    attr::verity_salt(""),
                    attr::verity_signature(""),
                ],
            ),
        ),
    ]
}

fn versions() -> Vec<Case> {
    let newer = "Unsupported.CommandVersion";
    let range = || {
        [
            attr::path("f"),
            attr::fallocate_mode(3),
            attr::file_offset(0),
            attr::size(1),
        ]
    };
    vec![
        Case::new(
            "command-27",
            Typed,
            "Unsupported.Command",
            "Command number 27, one over the highest.",
            with(3, 27, [attr::path("f")]),
        ),
        Case::new(
            "command-65535",
            Typed,
            "Unsupported.Command",
            "Command number 65,535.",
            with(1, 65_535, []),
        ),
        Case::new(
            "fallocate-in-version-1",
            Typed,
            newer,
            "FALLOCATE, which version 2 brought, in a version 1 stream.",
            with(1, 23, range()),
        ),
        Case::new(
            "encoded-write-in-version-1",
            Typed,
            newer,
            "ENCODED_WRITE in a version 1 stream.",
            with(1, 25, [attr::path("f")]),
        ),
        Case::new(
            "verity-in-version-2",
            Typed,
            newer,
            "ENABLE_VERITY, which version 3 brought, in a version 2 stream.",
            with(2, 26, [attr::path("f")]),
        ),
        Case::new(
            "fileattr-attribute-in-version-1",
            Typed,
            "Unsupported.AttributeVersion",
            "An attribute of version 2 in a version 1 stream.",
            with(1, 11, [attr::path("f"), attr::fileattr(0)]),
        ),
        Case::new(
            "otime-in-version-1",
            Typed,
            "Unsupported.UnexpectedAttribute",
            "UTIMES with the time of creation in a version 1 stream.",
            with(
                1,
                20,
                [attr::path("f")]
                    .into_iter()
                    .chain(attr::times(0, 0))
                    .chain([(12, attr::timespec(0, 0))]),
            ),
        ),
        Case::new(
            "subvol-with-parent",
            Typed,
            "Unsupported.UnexpectedAttribute",
            "SUBVOL with the attributes of SNAPSHOT.",
            RawStream::header(1)
                .here()
                .command(
                    1,
                    [
                        attr::path("s"),
                        attr::uuid(OWN_UUID),
                        attr::ctransid(1),
                        attr::clone_uuid([3; 16]),
                        attr::clone_ctransid(1),
                    ],
                )
                .end(),
        )
        .nothing_left(),
    ]
}
