//! Frames, cuts and whole streams, decoded and encoded.

use std::io::{self, Read};

use btrfs_sendstream::{
    Decoded, Decoder, Deframed, Deframer, Encoder, ErrorKind, Framer, Item, Limits, Misuse,
    Position, RawCommand, Reader, Version,
};

/// What every stream begins with; a version follows, a little-endian u32.
const MAGIC: [u8; 13] = *b"btrfs-stream\0";

const STREAM_HEADER_LEN: usize = MAGIC.len() + 4;

/// Length, number and checksum.
const COMMAND_HEADER_LEN: usize = 10;

/// Longest payload that the targets allow: an input cannot be longer.
const MAX_PAYLOAD: u32 = 1 << 20;

/// Any bytes: no panic, and every frame gives the bytes it was made of.
pub fn deframe(data: &[u8]) {
    let mut deframer = Deframer::new(limits());
    let mut rest = data;
    loop {
        match deframer.deframe(rest) {
            Ok(Deframed::Frame { frame, consumed }) => {
                let mut again = Vec::new();
                let framed = Framer::frame(&frame, &mut again);
                assert!(framed.is_ok(), "{framed:?}");
                let (taken, left) = rest.split_at(consumed);
                assert_eq!(again, taken);
                rest = left;
            }
            Ok(Deframed::Need { total }) => {
                assert!(total > rest.len(), "asks for what it has");
                let end = deframer.end_of_input(rest);
                assert!(end.is_err() || rest.is_empty());
                return;
            }
            Err(error) => {
                assert!(error.position().is_some());
                return;
            }
        }
    }
}

/// A stream with right checksums, in pieces of any size: the same items, and
/// the same error in the same place, as in one piece.
pub fn split(data: &[u8]) {
    let Some((pieces, data)) = data.split_first_chunk::<4>() else {
        return;
    };
    let allow = pieces.iter().any(|piece| piece & 1 != 0);
    let stream = repaired(data);
    let whole = decode(&stream, allow);
    for exact in [false, true] {
        let source = Pieces {
            rest: &stream,
            lengths: pieces.iter().cycle(),
        };
        let mut reader = Reader::builder()
            .limits(limits())
            .allow_unknown(allow)
            .exact(exact)
            .build(source);
        let mut read = Seen::default();
        loop {
            // Both ways of reading, mixed.
            let item = match read.items.len() % 3 {
                0 => reader.next_owned(),
                _ => reader
                    .next_item()
                    .map(|item| item.map(|item| item.to_owned())),
            };
            match item {
                Ok(Some(item)) => read.items.push(item),
                Ok(None) => break,
                Err(error) => {
                    read.error = Some((error.to_string(), error.position()));
                    break;
                }
            }
        }
        assert_eq!(read, whole);
    }
}

/// A stream with right checksums: what is decoded can be encoded and decodes
/// to the same, and from then on to the same bytes.
pub fn roundtrip(data: &[u8]) {
    let items = decode(&repaired(data), true).items;
    let first = encode(&items);
    let again = decode(&first, true);
    assert_eq!(again.items, items);
    assert_eq!(encode(&again.items), first);
}

/// Those of the targets that read a stream.
pub fn limits() -> Limits {
    Limits::default().with_max_payload(MAX_PAYLOAD)
}

/// Items up to the end, or up to an error.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    items: Vec<Item>,
    error: Option<(String, Option<Position>)>,
}

fn decode(input: &[u8], allow_unknown: bool) -> Seen {
    let builder = Decoder::builder().limits(limits());
    let mut decoder = builder.allow_unknown(allow_unknown).build();
    let (mut rest, mut seen) = (input, Seen::default());
    let error = loop {
        match decoder.decode(rest) {
            Ok(Decoded::Item { item, consumed }) => {
                seen.items.push(item.to_owned());
                rest = rest.split_at(consumed).1;
            }
            Ok(Decoded::Need { total }) => {
                assert!(total > rest.len(), "asks for what it has");
                break decoder.end_of_input(rest).err();
            }
            Err(error) => break Some(error),
        }
    };
    seen.error = error.map(|error| (error.to_string(), error.position()));
    seen
}

fn encode(items: &[Item]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::with_limits(limits()), Vec::new());
    for item in items {
        if let Err(error) = encoder.item(item, &mut out) {
            // Attributes that were ignored may have left less than there was,
            // never more; a command that grew would be a mistake here.
            let grew = matches!(
                error.kind(),
                ErrorKind::Misuse(Misuse::CommandTooLong { .. })
            );
            assert!(!grew, "{error} on {item:?}");
            panic!("cannot encode what was decoded: {error} on {item:?}");
        }
    }
    out
}

/// The stream that a target makes of its input, if it reads one.
pub fn stream(target: &str, data: &[u8]) -> Option<Vec<u8>> {
    match target {
        "deframe" => Some(data.to_vec()),
        "split" => data
            .split_first_chunk::<4>()
            .map(|(_, data)| repaired(data)),
        "roundtrip" => Some(repaired(data)),
        _ => None,
    }
}

/// The bytes as a stream: a header in front, and each command's checksum
/// right. Lengths stay as they are, so that they can be wrong.
fn repaired(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = header(data, &mut out);
    while let Some((frame, left)) = rest.split_first_chunk::<COMMAND_HEADER_LEN>() {
        if rest.starts_with(&MAGIC) {
            rest = header(rest, &mut out);
            continue;
        }
        let [l0, l1, l2, l3, n0, n1, ..] = *frame;
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some((payload, left)) = left.split_at_checked(len) else {
            break;
        };
        let number = u16::from_le_bytes([n0, n1]);
        if Framer::command(&RawCommand { number, payload }, &mut out).is_err() {
            break;
        }
        rest = left;
    }
    out.extend_from_slice(rest);
    out
}

/// Appends a header of some version; a header in front of `data` says which.
fn header<'a>(data: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (version, rest) = match data.split_first_chunk::<STREAM_HEADER_LEN>() {
        Some((header, rest)) if header.starts_with(&MAGIC) => (header.get(MAGIC.len()), rest),
        _ => (data.first(), data.get(1..).unwrap_or_default()),
    };
    let version = match version.map(|version| version % 4) {
        Some(2) => Version::V2,
        Some(3) => Version::V3,
        _ => Version::V1,
    };
    Framer::header(version, out);
    rest
}

/// A source that gives its bytes in pieces of these lengths, over and over;
/// 0 stands for an interrupted read, 255 for as much as is asked for.
struct Pieces<'a> {
    rest: &'a [u8],
    lengths: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = match self.lengths.next() {
            // All of them 0 would never end.
            Some(0) if self.lengths.clone().take(4).any(|&len| len != 0) => {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Some(255) | None => usize::MAX,
            Some(&len) => usize::from(len).max(1),
        };
        let len = len.min(buffer.len());
        let (start, _) = buffer.split_at_mut(len);
        self.rest.read(start)
    }
}
