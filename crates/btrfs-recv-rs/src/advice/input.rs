//! Input that is damaged, or not a stream at all.

use btrfs_sendstream::{Error, ErrorKind, LimitExceeded, Malformed, Truncated, Unsupported};

use super::Advice;

/// How much of the input is kept to tell what it is.
const HEAD: usize = 64;

/// The first bytes of the input.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
}

/// What a compressed file begins with, its name, and what unpacks it.
const PACKED: [(&[u8], &str, &str); 6] = [
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    (b"\x1f\x8b", "gzip", "gzip -dc"),
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"LZIP", "lzip", "lzip -dc"),
];

/// What else is taken for a stream, with its name and what to do.
const OTHERS: [(&[u8], &str, &str); 4] = [
    (
        b"Salted__",
        "encrypted with openssl",
        "decrypt it first: openssl enc -d … | btrfs-recv-rs PATH",
    ),
    (
        b"age-encryption.org/",
        "encrypted with age",
        "decrypt it first: age -d FILE | btrfs-recv-rs PATH",
    ),
    (
        b"-----BEGIN PGP MESSAGE",
        "encrypted with gpg",
        "decrypt it first: gpg -d FILE | btrfs-recv-rs PATH",
    ),
    (
        b"At s",
        "a message of btrfs send and not its stream",
        "do not send messages into the pipe or the file (no 2>&1)",
    ),
];

impl Head {
    /// Takes bytes as they are read; all but the first are ignored.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.bytes.len());
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(bytes);
    }

    /// What the input is instead of a stream.
    fn advice(&self) -> Advice {
        for (magic, name, command) in PACKED {
            if self.bytes.starts_with(magic) {
                return Advice::new(
                    format!("the input is compressed with {name}"),
                    format!("unpack it first: {command} FILE | btrfs-recv-rs PATH"),
                );
            }
        }
        for (magic, name, to_do) in OTHERS {
            if self.bytes.starts_with(magic) {
                return Advice::new(format!("the input is {name}"), to_do);
            }
        }
        let printable = |byte: &u8| byte.is_ascii_graphic() || b" \t\r".contains(byte);
        let line = self.bytes.split(|&byte| byte == b'\n').next();
        let line = line.unwrap_or_default().trim_ascii_end();
        if !line.is_empty() && line.iter().all(printable) {
            let text = String::from_utf8_lossy(line);
            return Advice::new(
                format!("the input is text, and begins with \"{text}\""),
                "look at what the sender, its login shell or ssh prints: only the stream of btrfs \
                 send may come here",
            );
        }
        Advice::new(
            "the input is something else, or is compressed or encrypted, or its beginning is gone",
            "give the output of btrfs send as it is, or undo first what was done to it",
        )
    }
}

/// What to say about input that cannot be received; `head` is its beginning.
pub(crate) fn on_stream_error(error: &Error, head: &Head) -> Option<Advice> {
    if error.is_restarted_sender() {
        return Some(Advice::new(
            "the sender was stopped and started again, and both wrote into one pipe or file",
            "send again, from the beginning, into a new pipe or file",
        ));
    }
    let at_start = error.position().is_none_or(|at| at.offset == 0);
    Some(match error.kind() {
        ErrorKind::Malformed(Malformed::Magic) if at_start => head.advice(),
        ErrorKind::Truncated(Truncated::InHeader { .. }) if at_start => head.advice(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn likely(input: &[u8]) -> String {
        let mut reader = btrfs_sendstream::Reader::new(input);
        let error = reader.next_item().unwrap_err();
        let mut head = Head::default();
        head.push(input);
        on_stream_error(&error, &head).unwrap().likely.into_owned()
    }

    #[test]
    fn what_is_no_stream_is_recognised() {
        for (input, expected) in [
            (&b"\x28\xb5\x2f\xfd and so on and so on"[..], "with zstd"),
            (b"\x1f\x8b\x08", "with gzip"),
            (b"BZh9", "with bzip2"),
            (b"At subvol /snapshots/one\n", "a message of btrfs send"),
            (b"Welcome to nas!\nbtrfs-stream", "\"Welcome to nas!\""),
            (
                b"\x80\x81\x82\x83 or something, who knows",
                "something else",
            ),
        ] {
            let likely = likely(input);
            assert!(likely.contains(expected), "{likely}");
        }
    }
}
