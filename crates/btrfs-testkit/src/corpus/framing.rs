//! Headers, lengths and checksums.

use super::Case;
use super::Layer::Frame;
use crate::raw::{RawStream, attr};

pub(super) fn cases() -> Vec<Case> {
    [stream_headers(), command_headers(), damage(), cuts()].concat()
}

fn stream_headers() -> Vec<Case> {
    let magic = b"btrfs-stream\0";
    let version = |number: u32| {
        let bytes = [&magic[..], &number.to_le_bytes()].concat();
        RawStream::empty().bytes(&bytes)
    };
    let first = |name: &str, error: &str, defect: &str, stream: RawStream| {
        Case::new(name, Frame, error, defect, stream).at_start()
    };
    vec![
        first("empty", "Empty", "No bytes at all.", RawStream::empty()),
        first(
            "header-short",
            "Truncated.InHeader",
            "The stream header ends within the magic.",
            RawStream::empty().bytes(b"btrfs-st"),
        ),
        first(
            "header-without-version",
            "Truncated.InHeader",
            "The stream header ends before the version.",
            RawStream::empty().bytes(magic),
        ),
        first(
            "magic-wrong",
            "Malformed.Magic",
            "The magic has one wrong byte.",
            RawStream::empty().bytes(b"btrfs-strean\0\x01\0\0\0"),
        ),
        first(
            "magic-without-nul",
            "Malformed.Magic",
            "A space stands for the NUL byte of the magic.",
            RawStream::empty().bytes(b"btrfs-stream \x01\0\0\0"),
        ),
        first(
            "text",
            "Malformed.Magic",
            "A line of text instead of a stream.",
            RawStream::empty().bytes(b"ERROR: cannot send: permission denied\n"),
        ),
        first(
            "gzip",
            "Malformed.Magic",
            "A stream compressed with gzip that nobody unpacked.",
            RawStream::empty().bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\x03K*)J+\xd6-.)J\xcde`d``\0\0"),
        ),
        first(
            "zeros",
            "Malformed.Magic",
            "4,096 zero bytes.",
            RawStream::empty().bytes(&[0; 4096]),
        ),
        first(
            "version-0",
            "Unsupported.Version",
            "Stream version 0.",
            version(0).subvol("s").end(),
        ),
        first(
            "version-4",
            "Unsupported.Version",
            "Stream version 4.",
            version(4).subvol("s").end(),
        ),
        first(
            "version-big-endian",
            "Unsupported.Version",
            "The version in the wrong byte order.",
            version(1_u32.swap_bytes()).subvol("s").end(),
        ),
        first(
            "version-huge",
            "Unsupported.Version",
            "Stream version 4,294,967,295.",
            version(u32::MAX).subvol("s").end(),
        ),
        Case::new(
            "second-header-of-version-9",
            Frame,
            "Unsupported.Version",
            "A second stream follows whose version is unknown.",
            RawStream::new(1).end().here().next_header(9).subvol("t"),
        )
        .finished(1),
        Case::new(
            "second-header-short",
            Frame,
            "Truncated.InHeader",
            "A second stream follows and ends within its header.",
            RawStream::new(1).end().here().bytes(b"btrfs-stream"),
        )
        .finished(1),
    ]
}

fn command_headers() -> Vec<Case> {
    let claims = |version: u32, len: u32| {
        let bytes = [&len.to_le_bytes()[..], &[15, 0, 1, 2, 3, 4]].concat();
        RawStream::new(version).here().bytes(&bytes)
    };
    vec![
        Case::new(
            "command-zeros",
            Frame,
            "Malformed.CommandZero",
            "A command header of ten zero bytes, whose checksum is right.",
            RawStream::new(1).here().bytes(&[0; 10]).end(),
        ),
        Case::new(
            "command-0",
            Frame,
            "Malformed.CommandZero",
            "Command number 0 with a payload.",
            RawStream::new(1).here().payload(0, b"payload").end(),
        ),
        Case::new(
            "length-4-gib",
            Frame,
            "Limit.Payload",
            "27 bytes that claim a command of 4 GiB.",
            RawStream::header(2)
                .here()
                .bytes(&[255, 255, 255, 255, 1, 0, 0, 0, 0, 0]),
        )
        .nothing_left(),
        Case::new(
            "length-over-version-1",
            Frame,
            "Limit.Payload",
            "A version 1 command that claims one byte more than version 1 allows.",
            claims(1, 65_527),
        ),
        Case::new(
            "length-over-limit",
            Frame,
            "Limit.Payload",
            "A version 2 command that claims 16 MiB and a byte.",
            claims(2, (16 << 20) + 1),
        ),
        Case::new(
            "length-past-end",
            Frame,
            "Truncated.InCommand",
            "A command that claims 60,000 bytes where two are left.",
            claims(1, 60_000).bytes(b"xx"),
        ),
        Case::new(
            "length-swallows-the-next-command",
            Frame,
            "Malformed.Checksum",
            "The length of a command was raised to cover the next one.",
            RawStream::new(1).here().mkfile("f").mkfile("g").end(),
        )
        .length(17 + 27),
        Case::new(
            "length-zero-for-a-payload",
            Frame,
            "Malformed.Checksum",
            "The length of a command was set to 0.",
            RawStream::new(1).here().mkfile("f").end(),
        )
        .length(0),
    ]
}

impl Case {
    /// Puts another length into the command at the mark.
    fn length(mut self, len: u32) -> Self {
        let at = usize::try_from(self.at.offset).expect("fits memory");
        self.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        self
    }
}

fn damage() -> Vec<Case> {
    let flipped = |index: usize| {
        RawStream::new(1)
            .here()
            .write("f", 0, b"some file data")
            .end()
            .flip(index)
    };
    vec![
        Case::new(
            "checksum-number-damaged",
            Frame,
            "Malformed.Checksum",
            "One bit of a command's number was flipped.",
            flipped(4),
        ),
        Case::new(
            "checksum-itself-damaged",
            Frame,
            "Malformed.Checksum",
            "One bit of a command's checksum was flipped.",
            flipped(6),
        ),
        Case::new(
            "checksum-attribute-damaged",
            Frame,
            "Malformed.Checksum",
            "One bit of an attribute's number was flipped.",
            flipped(10),
        ),
        Case::new(
            "checksum-data-damaged",
            Frame,
            "Malformed.Checksum",
            "One bit of file data was flipped.",
            flipped(35),
        ),
        Case::new(
            "checksum-of-subvol",
            Frame,
            "Malformed.Checksum",
            "One bit of the subvolume's name was flipped.",
            RawStream::header(1).here().subvol("s").end().flip(14),
        )
        .nothing_left(),
        Case::new(
            "checksum-of-end",
            Frame,
            "Malformed.Checksum",
            "One bit of END was flipped.",
            RawStream::new(1).mkfile("f").here().end().flip(6),
        ),
        Case::new(
            "checksum-standard-crc32c",
            Frame,
            "Malformed.Checksum",
            "END with the checksum that CRC-32C has elsewhere, which starts at -1 and is inverted.",
            RawStream::new(1)
                .here()
                .bytes(b"\0\0\0\0\x15\0\xd4\xd7\x1f\x9d"),
        ),
        Case::new(
            "byte-inserted",
            Frame,
            "Malformed.Checksum",
            "A line feed was put between two commands, as a transfer in text mode does.",
            RawStream::new(1).here().bytes(b"\n").end().end(),
        ),
    ]
}

fn cuts() -> Vec<Case> {
    let write = || {
        RawStream::new(1)
            .mkfile("f")
            .here()
            .command(
                15,
                [
                    attr::path("f"),
                    attr::file_offset(0),
                    attr::data("some file data"),
                ],
            )
            .end()
    };
    let cut = |name: &str, error: &str, defect: &str, len: usize| {
        Case::new(name, Frame, error, defect, write().cut(len))
    };
    vec![
        Case::new(
            "cut-after-header",
            Frame,
            "Truncated.BetweenCommands",
            "Nothing but a stream header.",
            RawStream::header(1).here(),
        )
        .nothing_left(),
        Case::new(
            "cut-after-subvol",
            Frame,
            "Truncated.BetweenCommands",
            "The input ends after SUBVOL.",
            RawStream::new(1).here(),
        ),
        cut(
            "cut-between-commands",
            "Truncated.BetweenCommands",
            "The input ends between two commands.",
            0,
        ),
        cut(
            "cut-in-command-header",
            "Truncated.InCommand",
            "The input ends within a command header.",
            7,
        ),
        cut(
            "cut-after-command-header",
            "Truncated.InCommand",
            "The input ends between a command header and its payload.",
            10,
        ),
        cut(
            "cut-in-payload",
            "Truncated.InCommand",
            "The input ends within file data.",
            36,
        ),
        Case::new(
            "cut-before-end",
            Frame,
            "Truncated.BetweenCommands",
            "Everything is there but END.",
            RawStream::new(1).mkfile("f").write("f", 0, b"data").here(),
        ),
        Case::new(
            "cut-in-end",
            Frame,
            "Truncated.InCommand",
            "The last byte of END is missing.",
            RawStream::new(1).mkfile("f").here().end().cut(9),
        ),
        Case::new(
            "cut-in-second-stream",
            Frame,
            "Truncated.BetweenCommands",
            "The second of two streams ends after its first file.",
            RawStream::new(1)
                .end()
                .next_header(1)
                .subvol("t")
                .mkfile("f")
                .here(),
        )
        .finished(1)
        .left(),
    ]
}

impl Case {
    /// A subvolume is left after all.
    fn left(mut self) -> Self {
        self.partial = true;
        self
    }
}
