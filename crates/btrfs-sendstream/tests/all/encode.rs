//! What encoders refuse, and what a writer does when its sink fails.

use std::io::{self, Write};

use btrfs_sendstream::{
    Attribute, Command, CommandKind, Encoder, ErrorKind, Limits, Malformed, Misuse, RawCommand,
    SequenceError, StreamPath, SubvolumeName, Timespec, Uuid, Version, Writer,
};

fn path(bytes: &[u8]) -> StreamPath<&[u8]> {
    StreamPath::parse(bytes).unwrap()
}

fn subvol<'a>(uuid: u128) -> Command<&'a [u8]> {
    Command::Subvol {
        name: SubvolumeName::parse(&b"s"[..]).unwrap(),
        uuid: Uuid::from_u128(uuid),
        ctransid: 1,
    }
}

/// What a stream of `version` refuses about `command`.
#[track_caller]
fn refusal(version: Version, command: &Command<&[u8]>) -> Misuse {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.header(version, &mut out).unwrap();
    encoder.command(&subvol(1), &mut out).unwrap();
    let before = (out.clone(), encoder.written());
    let error = encoder.command(command, &mut out).unwrap_err();
    assert_eq!((&out, encoder.written()), (&before.0, before.1));
    let position = error.position().unwrap();
    assert_eq!((position.stream, position.command), (1, 2));
    assert_eq!(position.offset, out.len() as u64);
    // The encoder goes on.
    encoder.command(&Command::<&[u8]>::End, &mut out).unwrap();
    match error.into_kind() {
        ErrorKind::Misuse(misuse) => misuse,
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_that_do_not_fit() {
    let data = vec![0; 65_536];
    let write = |data| Command::Write {
        path: path(b"f"),
        offset: 0,
        data,
    };
    assert_eq!(
        refusal(Version::V1, &write(&data[..])),
        Misuse::ValueTooLong {
            attribute: Attribute::Data,
            len: 65_536
        }
    );
    // 21 bytes of attributes: one more than the 64 KiB of a command.
    assert_eq!(
        refusal(Version::V1, &write(&data[..65_506])),
        Misuse::CommandTooLong {
            len: 65_527,
            max: 65_526,
            version: Version::V1
        }
    );
    let xattr = Command::SetXattr {
        path: path(b"f"),
        name: &b"user.x"[..],
        data: &data[..],
    };
    assert!(matches!(
        refusal(Version::V3, &xattr),
        Misuse::ValueTooLong {
            attribute: Attribute::XattrData,
            ..
        }
    ));
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.header(Version::V1, &mut out).unwrap();
    encoder.command(&subvol(1), &mut out).unwrap();
    encoder.command(&write(&data[..65_505]), &mut out).unwrap();
}

#[test]
fn limits_hold_for_later_versions() {
    let limits = Limits::default().with_max_payload(100);
    let (mut encoder, mut out) = (Encoder::with_limits(limits), Vec::new());
    encoder.header(Version::V2, &mut out).unwrap();
    encoder.command(&subvol(1), &mut out).unwrap();
    let raw = |len| RawCommand {
        number: 99,
        payload: vec![0; len],
    };
    encoder.raw(&raw(100), &mut out).unwrap();
    let error = encoder.raw(&raw(101), &mut out).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::Misuse(Misuse::CommandTooLong { len: 101, .. })
    ));
}

#[test]
fn what_the_version_lacks() {
    let file_attr = Command::FileAttr {
        path: path(b"f"),
        attributes: 0,
    };
    assert_eq!(
        refusal(Version::V1, &file_attr),
        Misuse::CommandVersion {
            command: CommandKind::FileAttr,
            version: Version::V1
        }
    );
    let time = Timespec::default();
    let utimes = Command::Utimes {
        path: path(b"f"),
        atime: time,
        mtime: time,
        ctime: time,
        otime: Some(time),
    };
    assert_eq!(
        refusal(Version::V1, &utimes),
        Misuse::AttributeVersion {
            attribute: Attribute::Otime,
            version: Version::V1
        }
    );
}

#[test]
fn what_a_decoder_would_refuse() {
    let command = CommandKind::Subvol;
    assert_eq!(
        refusal(Version::V1, &subvol(0)),
        Misuse::Value(Malformed::NilUuid { command })
    );
    let xattr = Command::RemoveXattr {
        path: path(b"f"),
        name: &b"a\0"[..],
    };
    let attribute = Attribute::XattrName;
    assert_eq!(
        refusal(Version::V1, &xattr),
        Misuse::Value(Malformed::Nul { attribute })
    );
}

#[test]
fn commands_out_of_place() {
    let mut out = Vec::new();
    let refused = |result: Result<(), btrfs_sendstream::Error>| match result {
        Err(error) => match error.into_kind() {
            ErrorKind::Misuse(Misuse::Sequence(breach)) => breach,
            other => panic!("{other:?}"),
        },
        Ok(()) => panic!("accepted"),
    };
    let mut encoder = Encoder::new();
    let end = Command::<&[u8]>::End;
    assert_eq!(
        refused(encoder.command(&subvol(1), &mut out)),
        SequenceError::NoHeader
    );
    encoder.header(Version::V1, &mut out).unwrap();
    assert!(matches!(
        refused(encoder.command(&end, &mut out)),
        SequenceError::NoSubvolume { .. }
    ));
    assert_eq!(
        refused(encoder.header(Version::V1, &mut out)),
        SequenceError::HeaderInStream
    );
    encoder.command(&subvol(1), &mut out).unwrap();
    encoder.command(&end, &mut out).unwrap();
    assert_eq!(
        refused(encoder.command(&end, &mut out)),
        SequenceError::AfterEnd
    );
    encoder.header(Version::V2, &mut out).unwrap();
    assert!(!encoder.is_complete());
}

#[test]
fn raw_command_zero_is_refused() {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.header(Version::V1, &mut out).unwrap();
    encoder.command(&subvol(1), &mut out).unwrap();
    let raw = RawCommand {
        number: 0,
        payload: b"",
    };
    let error = encoder.raw(&raw, &mut out).unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::Misuse(Misuse::CommandZero)
    ));
}

/// Takes a few bytes a call, and fails every third time.
#[derive(Debug, Default)]
struct Reluctant {
    taken: Vec<u8>,
    calls: usize,
}

impl Write for Reluctant {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        match self.calls % 3 {
            0 => Err(io::ErrorKind::StorageFull.into()),
            1 => Err(io::ErrorKind::Interrupted.into()),
            _ => {
                let len = bytes.len().min(7);
                self.taken.extend(&bytes[..len]);
                Ok(len)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failed_finish_gives_the_writer_back() {
    let mut writer = Writer::new(Reluctant::default());
    writer.header(Version::V1).unwrap();
    writer.command(&subvol(1)).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(matches!(
        error.error().kind(),
        ErrorKind::Misuse(Misuse::Unfinished)
    ));
    let mut writer = error.into_writer();
    writer.command(&Command::<&[u8]>::End).unwrap();
    let sink = loop {
        match writer.finish() {
            Ok(sink) => break sink,
            Err(error) => {
                assert!(matches!(error.error().kind(), ErrorKind::Io(_)));
                writer = error.into_writer();
            }
        }
    };
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.header(Version::V1, &mut out).unwrap();
    encoder.command(&subvol(1), &mut out).unwrap();
    encoder.command(&Command::<&[u8]>::End, &mut out).unwrap();
    assert_eq!(sink.taken, out);
}
