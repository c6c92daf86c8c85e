//! Commands and headers in the wrong place.

use super::Case;
use super::Layer::Sequence;
use crate::raw::RawStream;

pub(super) fn cases() -> Vec<Case> {
    [before_subvol(), after_end(), restarted()].concat()
}

fn before_subvol() -> Vec<Case> {
    let error = "Sequence.NoSubvolume";
    let case = |name: &str, defect: &str, stream: RawStream| {
        Case::new(name, Sequence, error, defect, stream).nothing_left()
    };
    // Where a receiver without a subvolume takes paths from the root of the
    // machine, this lands in a directory that tests make private.
    let path = "run/btrfs-testkit/escaped";
    vec![
        case(
            "end-before-subvol",
            "END right after the stream header.",
            RawStream::header(1).here().end(),
        ),
        case(
            "mkfile-before-subvol",
            "MKFILE without a subvolume to make it in.",
            RawStream::header(1).here().mkfile(path).end(),
        ),
        case(
            "write-before-subvol",
            "WRITE without a subvolume.",
            RawStream::header(1).here().write(path, 0, b"escaped").end(),
        ),
        case(
            "symlink-before-subvol",
            "SYMLINK without a subvolume, which comes later.",
            RawStream::header(1)
                .here()
                .symlink(path, "/")
                .subvol("s")
                .end(),
        ),
        case(
            "mkfile-before-subvol-in-second-stream",
            "The second of two streams has no SUBVOL.",
            RawStream::new(1)
                .end()
                .next_header(1)
                .here()
                .mkfile(path)
                .end(),
        )
        .finished(1),
    ]
}

fn after_end() -> Vec<Case> {
    let case = |name: &str, defect: &str, junk: RawStream| {
        Case::new(name, Sequence, "Sequence.AfterEnd", defect, junk).finished(1)
    };
    let ended = || RawStream::new(1).mkfile("f").end().here();
    vec![
        case(
            "junk-after-end",
            "Text after END.",
            ended().bytes(b"At subvol s\n"),
        ),
        case(
            "zeros-after-end",
            "Zeros after END, as a tape or a block device pads.",
            ended().bytes(&[0; 512]),
        ),
        case(
            "byte-after-end",
            "One byte after END.",
            ended().bytes(b"\0"),
        ),
        case("end-twice", "END twice.", ended().end()),
        case(
            "command-after-end",
            "A command after END, to change what is finished.",
            ended().write("f", 0, b"late"),
        ),
        case(
            "subvol-after-end",
            "SUBVOL after END without a header.",
            ended().subvol("t").end(),
        ),
    ]
}

fn restarted() -> Vec<Case> {
    let write = |stream: RawStream| stream.write("f", 0, &[b'x'; 200]);
    let inside = |len: usize| {
        write(RawStream::new(2).mkfile("f").here())
            .cut(len)
            .next_header(2)
            .subvol("s")
            .mkfile("f")
    };
    let case = |name: &str, error: &str, defect: &str, stream: RawStream| {
        Case::new(name, Sequence, error, defect, stream)
    };
    vec![
        case(
            "header-twice",
            "Sequence.HeaderInStream",
            "Two stream headers in a row.",
            RawStream::header(1).here().next_header(1).subvol("s").end(),
        )
        .nothing_left(),
        case(
            "restart-between-commands",
            "Sequence.HeaderInStream",
            "A second stream begins between two commands: the sender was started again.",
            RawStream::new(1)
                .mkfile("f")
                .here()
                .next_header(1)
                .subvol("s")
                .end(),
        ),
        case(
            "restart-in-command-header",
            "Sequence.HeaderInCommand",
            "A second stream begins within a command header.",
            write(inside(6)).end(),
        ),
        case(
            "restart-in-payload",
            "Sequence.HeaderInCommand",
            "A second stream begins within file data.",
            write(inside(60)).end(),
        ),
        case(
            "restart-in-payload-and-cut",
            "Sequence.HeaderInCommand",
            "A second stream begins within file data, and ends before the first command would.",
            inside(60),
        ),
    ]
}
