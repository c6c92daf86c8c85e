//! Input that is damaged, or not a stream at all.

use btrfs_sendstream::{Error, ErrorKind, LimitExceeded, Malformed, Unsupported};
use sendstream_common::foreign::{Head, is_foreign};

use super::Advice;

/// What to say about input that cannot be received; `head` is its beginning,
/// and `reader` the command that was called.
pub(crate) fn on_stream_error(error: &Error, head: &Head, reader: &str) -> Option<Advice> {
    if error.is_restarted_sender() {
        return Some(Advice::new(
            "the sender was stopped and started again, and both wrote into one pipe or file",
            "send again, from the beginning, into a new pipe or file",
        ));
    }
    if is_foreign(error) {
        let foreign = head.foreign(&format!("| {reader}"));
        return Some(Advice::new(foreign.likely, foreign.to_do));
    }
    Some(match error.kind() {
        ErrorKind::Truncated(_) => Advice::new(
            "the sender or the connection ended early, or the stored stream was cut",
            "look for errors of btrfs send and of what lies between; send again (with set -o \
             pipefail in scripts)",
        ),
        ErrorKind::Malformed(Malformed::CommandZero) => Advice::new(
            "zeros where there should be data, as a crash or a full disk leaves them in a stored \
             stream",
            "send again; the rest of this one cannot be received",
        ),
        ErrorKind::Malformed(Malformed::Magic) | ErrorKind::Sequence(_) => Advice::new(
            "something other than a stream was appended, or several senders wrote at once",
            "send again; with -e, what follows the first stream is left unread",
        ),
        ErrorKind::Malformed(_) | ErrorKind::Limit(LimitExceeded::Payload { .. }) => Advice::new(
            "the stream was damaged on its way or where it was stored",
            "compare it with the original if there is one, or send again; test the memory if it \
             happens twice",
        ),
        ErrorKind::Unsupported(Unsupported::Version { .. }) => Advice::new(
            "the sender's kernel writes a newer format than this program knows",
            "send with --proto 2, or receive with a newer version",
        ),
        ErrorKind::Unsupported(_) => Advice::new(
            "an extension of a vendor, or a newer format",
            "send without extensions (Synology: --without-syno-features), or let them be skipped: \
             --allow-unknown",
        ),
        ErrorKind::Io(_) => Advice::new(
            "the disk, the network or the process that the stream comes from failed",
            "look at dmesg and at the messages of the sender, then send again",
        ),
        _ => return None,
    })
}
