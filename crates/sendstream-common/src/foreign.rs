//! Recognises input that is not a send stream.

use btrfs_sendstream::{Error, ErrorKind, Malformed, Truncated};

use crate::unpack;

/// How every stream begins.
pub const MAGIC: &[u8] = b"btrfs-stream\0";

/// How much of the input is remembered to recognise it.
const HEAD: usize = 64;

/// A format in which streams are stored compressed.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    /// What the file begins with.
    magic: &'static [u8],
    /// Its name.
    pub name: &'static str,
    /// The command that unpacks a file to standard output.
    pub unpack: &'static str,
}

const PACKED: [Packed; 6] = [
    Packed {
        magic: b"\x28\xb5\x2f\xfd",
        name: "zstd",
        unpack: "zstd -dc",
    },
    Packed {
        magic: b"\x1f\x8b",
        name: "gzip",
        unpack: "gzip -dc",
    },
    Packed {
        magic: b"\xfd7zXZ\0",
        name: "xz",
        unpack: "xz -dc",
    },
    Packed {
        magic: b"BZh",
        name: "bzip2",
        unpack: "bzip2 -dc",
    },
    Packed {
        magic: b"\x04\x22\x4d\x18",
        name: "lz4",
        unpack: "lz4 -dc",
    },
    Packed {
        magic: b"LZIP",
        name: "lzip",
        unpack: "lzip -dc",
    },
];

impl Packed {
    /// The format of a file that begins with `start`.
    pub fn of(start: &[u8]) -> Option<&'static Self> {
        if unpack::is_skippable(start) {
            // Of lz4 nothing is known that writes one first.
            return PACKED.first();
        }
        PACKED.iter().find(|packed| start.starts_with(packed.magic))
    }

    /// Whether the commands unpack it themselves.
    pub fn is_supported(&self) -> bool {
        unpack::WORDS.contains(&self.name)
    }
}

/// Other input: its beginning, its name, and the command that decrypts it.
const OTHERS: [(&[u8], &str, Option<&str>); 4] = [
    (
        b"Salted__",
        "encrypted with openssl",
        Some("openssl enc -d …"),
    ),
    (
        b"age-encryption.org/",
        "encrypted with age",
        Some("age -d FILE"),
    ),
    (
        b"-----BEGIN PGP MESSAGE",
        "encrypted with gpg",
        Some("gpg -d FILE"),
    ),
    (b"At s", "a message of btrfs send, not its stream", None),
];

/// Whether an error means that the input is not a send stream, rather than a
/// damaged one.
pub fn is_foreign(error: &Error) -> bool {
    error.position().is_none_or(|at| at.offset == 0)
        && matches!(
            error.kind(),
            ErrorKind::Malformed(Malformed::Magic)
                | ErrorKind::Truncated(Truncated::InHeader { .. })
        )
}

/// The first bytes of the input.
#[derive(Clone, Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
}

/// What an input is instead of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What it is.
    pub likely: String,
    /// What to do.
    pub to_do: String,
}

impl Head {
    /// Takes bytes as they are read; all but the first are ignored.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.bytes.len());
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(bytes);
    }

    /// What the input is instead of a stream. `into` is where to put the stream
    /// once it is unpacked, such as `| sendstream dump` or `> STREAM`.
    pub fn foreign(&self, into: &str) -> Foreign {
        let foreign = |likely: String, to_do: String| Foreign { likely, to_do };
        if let Some(packed) = Packed::of(&self.bytes) {
            let option = if packed.is_supported() {
                "use --decompress, or "
            } else {
                ""
            };
            return foreign(
                format!("the input is compressed with {}", packed.name),
                format!("{option}unpack it first: {} FILE {into}", packed.unpack),
            );
        }
        for (magic, name, decrypt) in OTHERS {
            if self.bytes.starts_with(magic) {
                let to_do = match decrypt {
                    Some(command) => format!("decrypt it first: {command} {into}"),
                    None => "do not redirect messages into the pipe or the file (2>&1)".to_owned(),
                };
                return foreign(format!("the input is {name}"), to_do);
            }
        }
        let printable = |byte: &u8| byte.is_ascii_graphic() || b" \t\r".contains(byte);
        let line = self.bytes.split(|&byte| byte == b'\n').next();
        let line = line.unwrap_or_default().trim_ascii_end();
        if !line.is_empty() && line.iter().all(printable) {
            let text = String::from_utf8_lossy(line);
            return foreign(
                format!("the input is text that begins with \"{text}\""),
                "check what the sender, its login shell or ssh prints: the input must contain \
                 nothing but the stream of btrfs send"
                    .to_owned(),
            );
        }
        foreign(
            "the input is not a stream, or is compressed or encrypted, or its beginning is missing"
                .to_owned(),
            "use the output of btrfs send; decompress or decrypt it first".to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_stream_is_recognised() {
        for (input, expected) in [
            (&b"\x28\xb5\x2f\xfd and so on and so on"[..], "with zstd"),
            (b"\x1f\x8b\x08", "with gzip"),
            (b"\x50\x2a\x4d\x18\x04\0\0\0", "with zstd"),
            (b"BZh9", "with bzip2"),
            (b"LZIP\x01", "with lzip"),
            (b"At subvol /snapshots/one\n", "a message of btrfs send"),
            (b"Welcome to nas!\nbtrfs-stream", "\"Welcome to nas!\""),
            (
                b"\x80\x81\x82\x83 or something, who knows",
                "not a stream, or is compressed",
            ),
        ] {
            let mut reader = btrfs_sendstream::Reader::new(input);
            assert!(is_foreign(&reader.next_item().unwrap_err()));
            let mut head = Head::default();
            head.push(input);
            let foreign = head.foreign("| sendstream dump");
            assert!(foreign.likely.contains(expected), "{foreign:?}");
        }
        let mut reader = btrfs_sendstream::Reader::new(&b"btrfs-stream\0\x01\0\0\0"[..]);
        let error = std::iter::from_fn(|| match reader.next_item() {
            Ok(_) => Some(None),
            Err(error) => Some(Some(error)),
        });
        assert!(!is_foreign(&error.flatten().next().unwrap()));
    }

    #[test]
    fn the_hint_is_for_the_command_that_was_called() {
        let mut head = Head::default();
        head.push(b"\x28\xb5\x2f\xfd");
        let to_do = head.foreign("| sendstream dump").to_do;
        let expected = "use --decompress, or unpack it first: zstd -dc FILE | sendstream dump";
        assert_eq!(to_do, expected);
    }
}
