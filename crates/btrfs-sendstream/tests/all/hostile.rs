//! Bad input: each defect and its exact error.

use std::io::{self, Read};

use btrfs_sendstream::{
    Attribute, Command, CommandKind, Decoded, Decoder, Error, ErrorKind, Framer, Item,
    LimitExceeded, Limits, Malformed, PathError, Position, RawCommand, Reader, SequenceError,
    StreamPath, Truncated, Unsupported, Version,
};

const UUID: [u8; 16] = [7; 16];

/// Builds streams that no encoder would write.
struct Stream(Vec<u8>);

impl Stream {
    /// Header, and a SUBVOL of 10 + 38 bytes.
    fn new(version: Version) -> Self {
        Self::header(version).subvol()
    }

    fn header(version: Version) -> Self {
        let mut bytes = Vec::new();
        Framer::header(version, &mut bytes);
        Self(bytes)
    }

    fn subvol(self) -> Self {
        self.command(1, &[(15, b"s"), (1, &UUID), (2, &[1; 8])])
    }

    fn end(self) -> Self {
        self.command(21, &[])
    }

    /// A command with a right checksum; attributes with their lengths.
    fn command(self, number: u16, attributes: &[(u16, &[u8])]) -> Self {
        let mut payload = Vec::new();
        for (number, value) in attributes {
            payload.extend(number.to_le_bytes());
            payload.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
            payload.extend(*value);
        }
        self.payload(number, &payload)
    }

    fn payload(mut self, number: u16, payload: &[u8]) -> Self {
        Framer::command(&RawCommand { number, payload }, &mut self.0).unwrap();
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn error(&self) -> Error {
        error_of(Decoder::new(), &self.0)
    }
}

/// Where the first command after [`Stream::new`] begins, and its payload.
const COMMAND: u64 = 17 + 10 + 37;
const PAYLOAD: u64 = COMMAND + 10;

/// Through decoder and reader alike.
fn error_of(mut decoder: Decoder, input: &[u8]) -> Error {
    let mut rest = input;
    let error = loop {
        match decoder.decode(rest) {
            Ok(Decoded::Item { consumed, .. }) => rest = &rest[consumed..],
            Ok(Decoded::Need { .. }) => break decoder.end_of_input(rest).unwrap_err(),
            Err(error) => break error,
        }
    };
    for exact in [false, true] {
        let mut reader = Reader::builder().exact(exact).build(input);
        let same = drain(&mut reader).unwrap_err();
        assert_eq!(format!("{same:?}"), format!("{error:?}"));
    }
    error
}

fn drain<R: Read>(reader: &mut Reader<R>) -> Result<usize, Error> {
    let mut items = 0;
    while reader.next_item()?.is_some() {
        items += 1;
    }
    Ok(items)
}

#[track_caller]
fn malformed(stream: &Stream, expected: Malformed) {
    match stream.error().kind() {
        ErrorKind::Malformed(found) => assert_eq!(*found, expected),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn sequence(stream: &Stream, expected: SequenceError) {
    match stream.error().kind() {
        ErrorKind::Sequence(found) => assert_eq!(*found, expected),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unsupported(stream: &Stream, expected: Unsupported) {
    match stream.error().kind() {
        ErrorKind::Unsupported(found) => assert_eq!(*found, expected),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn truncated(stream: &Stream, expected: Truncated) {
    match stream.error().kind() {
        ErrorKind::Truncated(found) => assert_eq!(*found, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn empty_input() {
    let error = Stream(Vec::new()).error();
    assert!(matches!(error.kind(), ErrorKind::Empty));
    assert_eq!(error.position(), Some(Position::default()));
}

#[test]
fn not_a_stream() {
    malformed(&Stream(b"hello\n".to_vec()), Malformed::Magic);
    malformed(&Stream(vec![0; 4096]), Malformed::Magic);
}

#[test]
fn unknown_versions() {
    for number in [0_u32, 4, u32::MAX] {
        let stream = Stream(b"btrfs-stream\0".to_vec()).bytes(&number.to_le_bytes());
        unsupported(&stream, Unsupported::Version { number });
    }
}

#[test]
fn wrong_checksum() {
    let mut stream = Stream::new(Version::V1).command(12, &[(15, b"d")]);
    *stream.0.last_mut().unwrap() = b'e';
    let error = stream.error();
    assert!(matches!(
        error.kind(),
        ErrorKind::Malformed(Malformed::Checksum { .. })
    ));
    let position = Position {
        stream: 1,
        command: 2,
        offset: COMMAND,
    };
    assert_eq!(error.position(), Some(position));
    assert!(error.to_string().contains("crc32 mismatch"));
    assert!(
        error
            .to_string()
            .ends_with("(stream 1, command 2, byte 64)")
    );
}

#[test]
fn zeros_are_not_a_command() {
    let stream = Stream::new(Version::V1).bytes(&[0; 10]);
    malformed(&stream, Malformed::CommandZero);
}

#[test]
fn broken_attribute_framing() {
    let stream = Stream::new(Version::V1).payload(12, b"\x0f\0\x01\0d\x0f");
    let expected = Malformed::TrailingBytes {
        left: 1,
        offset: PAYLOAD + 5,
    };
    malformed(&stream, expected);
    let stream = Stream::new(Version::V1).payload(12, b"\x0f\0\x05\0d");
    let expected = Malformed::AttributeOverrun {
        number: 15,
        len: 5,
        left: 1,
        offset: PAYLOAD,
    };
    malformed(&stream, expected);
}

#[test]
fn duplicate_attribute() {
    let stream = Stream::new(Version::V1).command(12, &[(15, b"a"), (15, b"b")]);
    let expected = Malformed::DuplicateAttribute {
        attribute: Attribute::Path,
        offset: PAYLOAD + 5,
    };
    malformed(&stream, expected);
}

#[test]
fn missing_attribute() {
    let stream = Stream::new(Version::V1).command(18, &[(15, b"a")]);
    let expected = Malformed::MissingAttribute {
        command: CommandKind::Chmod,
        attribute: Attribute::Mode,
    };
    malformed(&stream, expected);
    assert!(
        stream
            .error()
            .to_string()
            .starts_with("chmod lacks attribute mode (5)")
    );
}

#[test]
fn wrong_lengths() {
    for len in [0, 7, 9] {
        let stream = Stream::new(Version::V1).command(18, &[(15, b"a"), (5, &[0; 9][..len])]);
        let expected = Malformed::AttributeLength {
            attribute: Attribute::Mode,
            len,
            expected: 8,
        };
        malformed(&stream, expected);
    }
}

#[test]
fn paths_that_escape() {
    for (path, reason) in [
        (&b"/etc/passwd"[..], PathError::Absolute),
        (b"../x", PathError::DotComponent),
        (b"a/./b", PathError::DotComponent),
        (b"a//b", PathError::EmptyComponent),
        (b"a/", PathError::EmptyComponent),
        (b"a\0b", PathError::Nul),
    ] {
        let attribute = Attribute::Path;
        let stream = Stream::new(Version::V1).command(11, &[(15, path)]);
        malformed(&stream, Malformed::Path { attribute, reason });
    }
    let reason = PathError::NotOneComponent;
    let attribute = Attribute::Path;
    let stream = Stream::header(Version::V1).command(1, &[(15, b"a/b"), (1, &UUID), (2, &[1; 8])]);
    malformed(&stream, Malformed::Path { attribute, reason });
}

#[test]
fn nul_in_names() {
    let attribute = Attribute::PathLink;
    let symlink = [(15, &b"l"[..]), (3, &[0; 8]), (17, b"a\0")];
    let stream = Stream::new(Version::V1).command(8, &symlink);
    malformed(&stream, Malformed::Nul { attribute });
    let attribute = Attribute::XattrName;
    let stream = Stream::new(Version::V1).command(14, &[(15, b"f"), (13, b"user.\0")]);
    malformed(&stream, Malformed::Nul { attribute });
}

#[test]
fn too_many_nanoseconds() {
    let time = [&[0; 8][..], &1_000_000_000_u32.to_le_bytes()].concat();
    let utimes = [(15, &b""[..]), (11, &time), (10, &[0; 12]), (9, &[0; 12])];
    let expected = Malformed::Nanoseconds {
        attribute: Attribute::Atime,
        nanoseconds: 1_000_000_000,
    };
    malformed(&Stream::new(Version::V1).command(20, &utimes), expected);
}

#[test]
fn nil_uuid() {
    let attributes = [(15, &b"s"[..]), (1, &[0; 16]), (2, &[1; 8])];
    let stream = Stream::header(Version::V1).command(1, &attributes);
    let command = CommandKind::Subvol;
    malformed(&stream, Malformed::NilUuid { command });
}

#[test]
fn unknown_numbers() {
    let stream = Stream::new(Version::V2).command(99, &[]);
    let expected = Unsupported::Command {
        number: 99,
        offset: COMMAND,
    };
    unsupported(&stream, expected);
    for number in [0, 36, u16::MAX] {
        let stream = Stream::new(Version::V3).command(12, &[(15, b"d"), (number, b"x")]);
        let offset = PAYLOAD + 5;
        unsupported(&stream, Unsupported::Attribute { number, offset });
    }
}

#[test]
fn newer_than_the_version() {
    let stream = Stream::new(Version::V1).command(24, &[(15, b"f"), (26, &[0; 8])]);
    let expected = Unsupported::CommandVersion {
        command: CommandKind::FileAttr,
        version: Version::V1,
        offset: COMMAND,
    };
    unsupported(&stream, expected);
    let stream = Stream::new(Version::V2).command(12, &[(15, b"d"), (32, &[1])]);
    let expected = Unsupported::AttributeVersion {
        attribute: Attribute::VerityAlgorithm,
        version: Version::V2,
        offset: PAYLOAD + 5,
    };
    unsupported(&stream, expected);
}

#[test]
fn attributes_of_other_commands() {
    let stream = Stream::new(Version::V1).command(12, &[(15, b"d"), (3, &[0; 8])]);
    let expected = Unsupported::UnexpectedAttribute {
        command: CommandKind::Rmdir,
        attribute: Attribute::Ino,
        offset: PAYLOAD + 5,
    };
    unsupported(&stream, expected);
    let times = [
        (15, &b""[..]),
        (11, &[0; 12]),
        (10, &[0; 12]),
        (9, &[0; 12]),
        (12, &[0; 12]),
    ];
    let expected = Unsupported::UnexpectedAttribute {
        command: CommandKind::Utimes,
        attribute: Attribute::Otime,
        offset: PAYLOAD + 4 + 3 * 16,
    };
    unsupported(&Stream::new(Version::V1).command(20, &times), expected);
}

#[test]
fn unknown_things_pass_when_allowed() {
    let stream = Stream::new(Version::V2)
        .command(99, &[(50, b"x")])
        .command(12, &[(15, b"d"), (50, b"x"), (3, b"")])
        .end();
    let mut reader = Reader::builder().allow_unknown(true).build(&stream.0[..]);
    let mut items = Vec::new();
    while let Some(item) = reader.next_owned().unwrap() {
        items.push(item);
    }
    let [_, _, Item::Unknown(raw), Item::Command(rmdir), _] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!((raw.number, &raw.payload[..]), (99, &b"\x32\0\x01\0x"[..]));
    assert!(matches!(rmdir, Command::Rmdir { path } if path.as_bytes() == b"d"));
    // Attribute 0 and what is newer than the version stay refused.
    for number in [0, 32] {
        let stream = Stream::new(Version::V2).command(12, &[(15, b"d"), (number, b"x")]);
        let mut reader = Reader::builder().allow_unknown(true).build(&stream.0[..]);
        let error = drain(&mut reader).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unsupported(_)));
    }
}

#[test]
fn commands_out_of_place() {
    let stream = Stream::header(Version::V1).command(12, &[(15, b"d")]);
    match stream.error().kind() {
        ErrorKind::Sequence(SequenceError::NoSubvolume { command }) => {
            assert_eq!(command.to_string(), "rmdir");
        }
        other => panic!("{other:?}"),
    }
    let stream = Stream::header(Version::V1).end();
    let error = stream.error();
    assert!(error.to_string().starts_with("end before any subvol"));
    sequence(
        &Stream::new(Version::V1).end().end(),
        SequenceError::AfterEnd,
    );
    sequence(
        &Stream::new(Version::V1).end().bytes(b"x"),
        SequenceError::AfterEnd,
    );
}

#[test]
fn sender_restarted_between_commands() {
    let second = Stream::new(Version::V1);
    for (len, notices) in [(13, true), (second.0.len(), true), (12, false)] {
        let stream = Stream::new(Version::V1).bytes(&second.0[..len]);
        assert_eq!(stream.error().is_restarted_sender(), notices, "{len}");
        if notices {
            sequence(&stream, SequenceError::HeaderInStream);
        }
    }
}

#[test]
fn sender_restarted_inside_a_command() {
    let whole = Stream::header(Version::V2)
        .subvol()
        .payload(15, &[b'x'; 200]);
    let command = usize::try_from(COMMAND).unwrap();
    for cut in [command + 2, command + 4, command + 8, command + 50] {
        let stream = Stream(whole.0[..cut].to_vec())
            .bytes(&Stream::new(Version::V2).0)
            .bytes(&whole.0);
        let offset = cut as u64;
        sequence(&stream, SequenceError::HeaderInCommand { offset });
        assert!(stream.error().is_restarted_sender());
    }
    // Cut off before the damaged command is whole.
    let stream = Stream(whole.0[..command + 50].to_vec()).bytes(&Stream::new(Version::V2).0);
    let offset = COMMAND + 50;
    sequence(&stream, SequenceError::HeaderInCommand { offset });
}

#[test]
fn cut_off_input() {
    let stream = Stream(b"btrfs-st".to_vec());
    truncated(&stream, Truncated::InHeader { have: 8, need: 17 });
    truncated(&Stream::header(Version::V1), Truncated::BetweenCommands);
    truncated(&Stream::new(Version::V1), Truncated::BetweenCommands);
    let stream = Stream::new(Version::V1).bytes(&[5, 0, 0]);
    truncated(&stream, Truncated::InCommand { have: 3, need: 10 });
    let stream = Stream::new(Version::V1).bytes(&[5, 0, 0, 0, 12, 0, 1, 2, 3, 4, 5]);
    truncated(&stream, Truncated::InCommand { have: 11, need: 15 });
}

#[test]
fn version_1_commands_end_at_64_kib() {
    for (len, version, fits) in [
        (65_526_u32, Version::V1, true),
        (65_527, Version::V1, false),
        (16 << 20, Version::V2, true),
        ((16 << 20) + 1, Version::V2, false),
    ] {
        let stream = Stream::new(version)
            .bytes(&len.to_le_bytes())
            .bytes(&[12, 0, 1, 2, 3, 4]);
        match stream.error().kind() {
            ErrorKind::Truncated(_) => assert!(fits),
            ErrorKind::Limit(LimitExceeded::Payload { len: claimed, .. }) => {
                assert!(!fits);
                assert_eq!(*claimed, u64::from(len));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A source that remembers the largest buffer it was offered.
struct Spy<'a> {
    rest: &'a [u8],
    largest: usize,
}

impl Read for Spy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest = self.largest.max(buffer.len());
        self.rest.read(buffer)
    }
}

#[test]
fn claiming_4_gib_costs_kilobytes() {
    let stream = Stream::header(Version::V2).bytes(&[255, 255, 255, 255, 1, 0, 0, 0, 0, 0]);
    assert_eq!(stream.0.len(), 27);
    for (max, exact) in [(u32::MAX, false), (u32::MAX, true), (16 << 20, false)] {
        let limits = Limits::default().with_max_payload(max);
        let rest = &stream.0[..];
        let mut reader = Reader::builder()
            .limits(limits)
            .exact(exact)
            .build(Spy { rest, largest: 0 });
        let error = drain(&mut reader).unwrap_err();
        match error.kind() {
            ErrorKind::Truncated(Truncated::InCommand { have: 10, .. }) => {
                assert_eq!(max, u32::MAX);
            }
            ErrorKind::Limit(_) => assert!(max < u32::MAX),
            other => panic!("{other:?}"),
        }
        assert!(reader.get_ref().largest <= 256 * 1024);
    }
}

#[test]
fn buffer_grows_with_what_arrived() {
    let data = vec![1; 3 << 20];
    let write = [
        b"\x0f\0\x01\0f\x12\0\x08\0\0\0\0\0\0\0\0\0\x13\0",
        &data[..],
    ]
    .concat();
    let stream = Stream::new(Version::V2).payload(15, &write).end();
    let rest = &stream.0[..];
    let mut reader = Reader::new(Spy { rest, largest: 0 });
    assert_eq!(drain(&mut reader).unwrap(), 4);
    assert!(reader.get_ref().largest <= 2 * data.len());
}

#[test]
fn errors_stay() {
    let stream = Stream::new(Version::V1).command(99, &[]).end();
    let mut reader = Reader::new(&stream.0[..]);
    reader.next_item().unwrap();
    reader.next_owned().unwrap();
    let position = Position {
        stream: 1,
        command: 2,
        offset: COMMAND,
    };
    for turn in 0..4 {
        let error = match turn % 2 {
            0 => reader.next_owned().unwrap_err(),
            _ => reader.next_item().unwrap_err(),
        };
        assert!(matches!(error.kind(), ErrorKind::Unsupported(_)));
        assert_eq!(error.position(), Some(position));
        assert_eq!(reader.position(), position);
    }
}

/// Fails once in the middle, then goes on.
struct Hiccup<'a>(Vec<Option<&'a [u8]>>);

impl Read for Hiccup<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.first_mut() {
            None => Ok(0),
            Some(None) => {
                self.0.remove(0);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Some(Some([])) => {
                self.0.remove(0);
                self.read(buffer)
            }
            Some(Some(bytes)) => bytes.read(buffer),
        }
    }
}

#[test]
fn reading_goes_on_after_an_io_error() {
    let stream = Stream::new(Version::V1).command(12, &[(15, b"d")]).end();
    let (first, second) = stream.0.split_at(70);
    let mut reader = Reader::new(Hiccup(vec![Some(first), None, Some(second)]));
    let error = drain(&mut reader).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io(error)
        if error.kind() == io::ErrorKind::WouldBlock));
    assert_eq!(error.position().unwrap().offset, COMMAND);
    let path = StreamPath::parse(&b"d"[..]).unwrap();
    assert_eq!(
        reader.next_item().unwrap(),
        Some(Item::Command(Command::Rmdir { path }))
    );
    assert_eq!(drain(&mut reader).unwrap(), 1);
}
