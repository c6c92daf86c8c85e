//! Streams without a defect, written byte by byte: what the streams of a kernel do not
//! show.

use btrfs_testkit::raw::{Attr, RawStream, attr};

/// A stream without a defect.
pub(crate) struct Valid {
    /// Name of the file, without `.stream`.
    pub(crate) name: &'static str,
    /// What is special about it.
    pub(crate) about: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// All, by name.
pub(crate) fn streams() -> Vec<Valid> {
    let mut streams = [structure(), commands(), attributes(), values(), sizes()].concat();
    streams.sort_by_key(|(name, ..)| *name);
    streams
        .into_iter()
        .map(|(name, about, stream)| Valid {
            name,
            about,
            bytes: stream.into_bytes(),
        })
        .collect()
}

type Entry = (&'static str, &'static str, RawStream);

/// SNAPSHOT.
fn snapshot(stream: RawStream, name: &str) -> RawStream {
    let attributes = [
        attr::path(name),
        attr::uuid([2; 16]),
        attr::ctransid(9),
        attr::clone_uuid([1; 16]),
        attr::clone_ctransid(7),
    ];
    stream.command(2, attributes)
}

fn structure() -> Vec<Entry> {
    let two = snapshot(RawStream::new(2).mkfile("a"), "t")
        .mkfile("b")
        .end();
    vec![
        (
            "subvolume-empty",
            "SUBVOL and END.",
            RawStream::new(1).end(),
        ),
        (
            "snapshot-empty",
            "SNAPSHOT and END.",
            snapshot(RawStream::header(1), "s").end(),
        ),
        (
            "two-subvolumes-one-end",
            "A SNAPSHOT after the commands of a SUBVOL, in one stream.",
            two,
        ),
        (
            "three-versions",
            "Three streams, of versions 3, 1 and 2; the form of DATA differs.",
            [3, 1, 2]
                .into_iter()
                .fold(RawStream::empty(), |input, version| {
                    let input = input.next_header(version).subvol("s").mkfile("f");
                    input.write("f", 0, b"data").end()
                }),
        ),
        (
            "header-in-data",
            "File data that contains a whole send stream.",
            RawStream::new(2)
                .mkfile("f")
                .write("f", 0, &RawStream::new(1).end().into_bytes())
                .end(),
        ),
    ]
}

fn commands() -> Vec<Entry> {
    vec![
        (
            "every-command.v1",
            "Each command of version 1.",
            every_command(1),
        ),
        (
            "every-command.v2",
            "Each command of version 2.",
            every_command(2),
        ),
        (
            "every-command.v3",
            "Each command of version 3.",
            every_command(3),
        ),
    ]
}

fn every_command(version: u32) -> RawStream {
    let mut stream = RawStream::new(version)
        .mkfile("f")
        .mkdir("d")
        .special(5, "null", 0o020_666, 0x103)
        .special(6, "fifo", 0o010_600, 0)
        .special(7, "socket", 0o140_755, 0)
        .symlink("symlink", "../f")
        .rename("d", "dir")
        .command(10, [attr::path("dir/hard"), attr::path_link("f")])
        .command(11, [attr::path("dir/hard")])
        .command(12, [attr::path("dir")])
        .command(
            13,
            [
                attr::path("f"),
                attr::xattr_name("user.name"),
                attr::xattr_data("value"),
            ],
        )
        .command(14, [attr::path("f"), attr::xattr_name("user.name")])
        .write("f", 0, &[b'w'; 4096])
        .clone_block("f", [7; 16], "g")
        .command(17, [attr::path("f"), attr::size(4096)])
        .command(18, [attr::path("f"), attr::mode(0o4755)])
        .command(19, [attr::path("f"), attr::uid(1000), attr::gid(100)])
        .utimes("f", 1_700_000_000, 123_456_789)
        .command(
            22,
            [attr::path("f"), attr::file_offset(4096), attr::size(8192)],
        );
    if version >= 2 {
        stream = stream
            .command(
                23,
                [
                    attr::path("f"),
                    attr::fallocate_mode(3),
                    attr::file_offset(4096),
                    attr::size(8192),
                ],
            )
            .command(24, [attr::path("f"), attr::fileattr(1 << 32 | 1)])
            .encoded("f", [4096, 8192, 4096], [2, 0], b"not checked by a parser");
    }
    if version >= 3 {
        stream = stream.command(
            26,
            [
                attr::path("f"),
                attr::verity_algorithm(1),
                attr::verity_block_size(4096),
                attr::verity_salt("salt"),
                attr::verity_signature(""),
            ],
        );
    }
    snapshot(stream, "t").end()
}

fn attributes() -> Vec<Entry> {
    let reversed = |number: u16, mut attributes: Vec<Attr>| {
        attributes.reverse();
        (number, attributes)
    };
    let order = [
        reversed(3, vec![attr::path("f"), attr::ino(300)]),
        reversed(19, vec![attr::path("f"), attr::uid(1), attr::gid(2)]),
        reversed(
            20,
            [attr::path("f")]
                .into_iter()
                .chain(attr::times(5, 6))
                .collect(),
        ),
    ];
    let otime = |stream: RawStream, otime: Option<Attr>| {
        let times = [attr::path("f")].into_iter().chain(attr::times(5, 6));
        stream.command(20, times.chain(otime))
    };
    let encoded = [
        attr::path("f"),
        attr::file_offset(0),
        attr::unencoded_file_len(4),
        attr::unencoded_len(4),
        attr::unencoded_offset(0),
        attr::data("data"),
    ];
    vec![
        (
            "attributes-in-another-order",
            "Attributes in the reverse of the order in which kernels write them.",
            order
                .into_iter()
                .fold(RawStream::new(1), |stream, (number, attributes)| {
                    stream.command(number, attributes)
                })
                .end(),
        ),
        (
            "data-first-in-version-1",
            "WRITE of version 1 with DATA as the first attribute.",
            RawStream::new(1)
                .mkfile("f")
                .command(
                    15,
                    [attr::data("data"), attr::file_offset(0), attr::path("f")],
                )
                .end(),
        ),
        (
            "otime",
            "UTIMES of version 2 with OTIME, and without.",
            otime(
                otime(
                    RawStream::new(2).mkfile("f"),
                    Some((12, attr::timespec(4, 3))),
                ),
                None,
            )
            .end(),
        ),
        (
            "encoded-write-without-compression",
            "ENCODED_WRITE without the two attributes that may be absent.",
            RawStream::new(2).mkfile("f").command(25, encoded).end(),
        ),
        (
            "data-that-looks-like-attributes",
            "DATA of version 2, without a length, with the bytes of attributes.",
            RawStream::new(2)
                .mkfile("f")
                .write(
                    "f",
                    0,
                    b"\x0f\0\x01\0g\x12\0\x08\0\0\0\0\0\0\0\0\0\x13\0\x04\0data",
                )
                .end(),
        ),
    ]
}

fn values() -> Vec<Entry> {
    let highest = u64::MAX;
    vec![
        (
            "names-not-utf-8",
            "Names that are not UTF-8: all bytes but NUL and slash, and half a character.",
            {
                let all: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
                RawStream::new(2)
                    .mkfile(&all)
                    .rename(&all, b"half \xc3")
                    .symlink(b"link", b"\xff\xfe")
                    .command(
                        14,
                        [attr::path(b"half \xc3"), attr::xattr_name(b"user.\x80")],
                    )
                    .end()
            },
        ),
        (
            "names-that-look-odd",
            "Names with control characters, quotes, three dots, and characters over U+FFFF.",
            [
                "...",
                "a\nb",
                "\t\u{7f}",
                "\"\\\"",
                " ",
                "\u{1f9c8}",
                "-",
                "~",
                "\u{85}",
            ]
            .into_iter()
            .fold(RawStream::new(1), |stream, name| stream.mkfile(name))
            .end(),
        ),
        (
            "path-empty",
            "The empty path, which is the root.",
            RawStream::new(1)
                .command(18, [attr::path(""), attr::mode(0o755)])
                .end(),
        ),
        (
            "symlink-targets",
            "Targets of symbolic links that are absolute, lead up, and are empty.",
            RawStream::new(1)
                .symlink("a", "/etc/passwd")
                .symlink("b", "../../c")
                .symlink("c", "")
                .end(),
        ),
        (
            "values-empty",
            "An extended attribute and a WRITE without a byte, in both forms of DATA.",
            [1, 2]
                .into_iter()
                .fold(RawStream::empty(), |input, version| {
                    input
                        .next_header(version)
                        .subvol("s")
                        .mkfile("f")
                        .command(
                            13,
                            [
                                attr::path("f"),
                                attr::xattr_name("user.e"),
                                attr::xattr_data(""),
                            ],
                        )
                        .write("f", 0, b"")
                        .end()
                }),
        ),
        (
            "numbers-highest",
            "Integers with all bits set. A parser reports them; a receiver refuses some.",
            RawStream::header(3)
                .command(
                    1,
                    [
                        attr::path("s"),
                        attr::uuid([255; 16]),
                        attr::ctransid(highest),
                    ],
                )
                .command(3, [attr::path("f"), attr::ino(highest)])
                .command(17, [attr::path("f"), attr::size(highest)])
                .command(
                    19,
                    [attr::path("f"), attr::uid(highest), attr::gid(highest)],
                )
                .command(24, [attr::path("f"), attr::fileattr(highest)])
                .command(
                    23,
                    [
                        attr::path("f"),
                        attr::fallocate_mode(u32::MAX),
                        attr::file_offset(highest),
                        attr::size(highest),
                    ],
                )
                .command(
                    26,
                    [
                        attr::path("f"),
                        attr::verity_algorithm(255),
                        attr::verity_block_size(u32::MAX),
                        attr::verity_salt(""),
                        attr::verity_signature(""),
                    ],
                )
                .end(),
        ),
        (
            "numbers-that-floats-round",
            "Integers around 2⁵³, of which a floating-point number is another.",
            [(1 << 53) - 1, 1 << 53, (1 << 53) + 1, (1 << 63) + 1]
                .into_iter()
                .fold(RawStream::new(1), |stream, size| {
                    stream.command(17, [attr::path("f"), attr::size(size)])
                })
                .end(),
        ),
        (
            "times",
            "Times before 1970, after 2038, and the first and last that there are.",
            [
                (0, 0),
                (-1, 999_999_999),
                (-2, 0),
                (1 << 31, 1),
                (i64::MAX, 999_999_999),
                (i64::MIN, 0),
            ]
            .into_iter()
            .fold(RawStream::new(1), |stream, (seconds, nanoseconds)| {
                stream.utimes("f", seconds, nanoseconds)
            })
            .end(),
        ),
        (
            "uuid-order",
            "A UUID whose bytes are all different.",
            RawStream::header(1)
                .command(
                    1,
                    [
                        attr::path("s"),
                        attr::uuid([
                            0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b,
                            0x1c, 0x1d, 0x1e, 0x1f,
                        ]),
                        attr::ctransid(0x0102_0304_0506_0708),
                    ],
                )
                .end(),
        ),
    ]
}

fn sizes() -> Vec<Entry> {
    let xattr = |stream: RawStream, len: usize| {
        let attributes = [
            attr::path("f"),
            attr::xattr_name("user.long"),
            attr::xattr_data(vec![b'x'; len]),
        ];
        stream.command(13, attributes)
    };
    let path = format!("{}last", format!("{}/", "d".repeat(255)).repeat(15));
    // What the header and the three attributes take of 65,536 bytes.
    let around = 10 + (4 + 1) + (4 + 9) + 4;
    vec![
        (
            "path-of-16-names",
            "A path of 3,844 bytes, most of whose names have 255.",
            RawStream::new(1).mkfile(&path).end(),
        ),
        (
            "command-of-64-kib.v1",
            "A command of 65,536 bytes, header included: the longest of version 1.",
            xattr(RawStream::new(1), 65_536 - around).end(),
        ),
        (
            "value-of-65535-bytes.v2",
            "An attribute of 65,535 bytes, in a command that is longer than version 1 allows.",
            xattr(RawStream::new(2), 65_535).end(),
        ),
        (
            "data-of-70000-bytes.v2",
            "File data that no length field of 16 bits could have.",
            RawStream::new(2)
                .mkfile("f")
                .write("f", 0, &[b'd'; 70_000])
                .end(),
        ),
    ]
}
