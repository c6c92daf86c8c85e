//! Input that is damaged, or not a stream.

use btrfs_sendstream::{Error, ErrorKind, LimitExceeded, Malformed, Unsupported};
use sendstream_common::foreign::{Head, is_foreign};
use sendstream_common::unpack::{Problem, UnpackError};

use super::Advice;
use crate::tee::TeeError;

/// What to do if the input cannot be stored.
pub(super) fn no_copy() -> Advice {
    Advice::to_do(
        "make room for the file of --tee, or name one on another filesystem, then receive again",
    )
}

/// What to do about compressed input that cannot be unpacked.
fn on_packed(problem: &Problem) -> Advice {
    match problem {
        Problem::Other(_) => Advice::new(
            "--decompress names another format than that of the input",
            "use --decompress=auto",
        ),
        Problem::Ended => Advice::new(
            "the sender, the compressing program or the connection failed, or the stored file \
                 is incomplete",
            "look for errors of btrfs send and of the programs between; send again (with set -o \
                 pipefail in scripts)",
        ),
        Problem::Damaged(_) => Advice::new(
            "the compressed input was damaged in transit or in storage",
            "compare it with the original, or send again; if it happens again, test the memory",
        ),
        Problem::Trailing => Advice::new(
            "something was appended to the compressed input, or two programs wrote at the same \
                 time",
            "send again; a stream that ended before is complete",
        ),
        Problem::Unsupported(_) | Problem::Window(_) => Advice::new(
            "the input was compressed with options that need another program to unpack it",
            "unpack it with the program that compressed it (zstd -dc --memory=2048MB, xz -dc, \
                 lz4 -dc), and pipe its output here",
        ),
    }
}

/// Returns the advice for input that cannot be received, if there is some.
/// `head` is its beginning, and `reader` the command that was called.
pub(crate) fn on_stream_error(error: &Error, head: &Head, reader: &str) -> Option<Advice> {
    if error.is_restarted_sender() {
        return Some(Advice::new(
            "the sender was stopped and restarted, and both wrote to the same pipe or file",
            "send again, to a new pipe or file",
        ));
    }
    if let ErrorKind::Io(cause) = error.kind()
        && let Some(packed) = UnpackError::of(cause)
    {
        return Some(on_packed(&packed.problem));
    }
    if matches!(error.kind(), ErrorKind::Io(cause) if TeeError::is(cause)) {
        return Some(no_copy());
    }
    if is_foreign(error) {
        let foreign = head.foreign(&format!("| {reader}"));
        return Some(Advice::new(foreign.likely, foreign.to_do));
    }
    Some(match error.kind() {
        ErrorKind::Truncated(_) => Advice::new(
            "the sender or the connection failed, or the stored stream is incomplete",
            "look for errors of btrfs send and of the programs between; send again (with set -o \
             pipefail in scripts)",
        ),
        ErrorKind::Malformed(Malformed::CommandZero) => Advice::new(
            "the stored stream contains zeros in place of data, after a crash or because the disk \
             was full",
            "send again; the rest of this stream cannot be received",
        ),
        ErrorKind::Malformed(Malformed::Magic) | ErrorKind::Sequence(_) => Advice::new(
            "something that is not a stream was appended, or several senders wrote at the same \
             time",
            "send again; -e stops after the first stream",
        ),
        ErrorKind::Malformed(_) | ErrorKind::Limit(LimitExceeded::Payload { .. }) => Advice::new(
            "the stream was damaged in transit or in storage",
            "compare it with the original, or send again; if it happens again, test the memory",
        ),
        ErrorKind::Unsupported(Unsupported::Version { .. }) => Advice::new(
            "the sender's kernel writes a newer format than this version supports",
            "send with --proto 2, or receive with a newer version",
        ),
        ErrorKind::Unsupported(_) => Advice::new(
            "the stream uses an extension of a vendor, or a newer format",
            "send without extensions (Synology: --without-syno-features), or skip them with \
             --allow-unknown",
        ),
        ErrorKind::Io(_) => Advice::new(
            "the disk, the network or the process that provides the stream failed",
            "look at dmesg and at the messages of the sender, then send again",
        ),
        _ => return None,
    })
}
