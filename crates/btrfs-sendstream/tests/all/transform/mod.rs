//! Transforms, command by command.

mod downgrade;
mod filter;
mod properties;
mod upgrade;

use btrfs_sendstream::transform::{
    self, Apart, Downgrade, Filter, Identity, Rewrite, Together, Transform, TransformError,
    TransformErrorKind, Upgrade,
};
use btrfs_sendstream::{
    Bytes, CloneRange, Command, Item, Position, Reader, StreamPath, SubvolumeName, Timespec, Uuid,
    Version, Writer,
};

fn path(text: &str) -> StreamPath {
    StreamPath::parse(text.to_owned().into()).unwrap()
}

fn subvol(number: u128) -> Command {
    Command::Subvol {
        name: SubvolumeName::parse(format!("subvolume {number}").into()).unwrap(),
        uuid: Uuid::from_u128(number),
        ctransid: 10,
    }
}

fn write(offset: u64, data: &[u8]) -> Command {
    Command::Write {
        path: path("f"),
        offset,
        data: Bytes::copy_from_slice(data),
    }
}

fn punch(offset: u64, len: u64) -> Command {
    Command::Fallocate {
        path: path("f"),
        mode: 3,
        offset,
        len,
    }
}

fn mkfile(at: &str) -> Command {
    Command::Mkfile {
        path: path(at),
        ino: 257,
    }
}

fn rename(from: &str, to: &str) -> Command {
    Command::Rename {
        path: path(from),
        to: path(to),
    }
}

fn utimes(at: &str) -> Command {
    let time = Timespec::default();
    Command::Utimes {
        path: path(at),
        atime: time,
        mtime: time,
        ctime: time,
        otime: None,
    }
}

/// What becomes of these items.
fn changed(
    transform: &mut dyn Transform,
    items: impl IntoIterator<Item = Item>,
) -> Result<Vec<Item>, TransformError> {
    let mut out = Vec::new();
    let mut take = |item: Item, _: Position| {
        out.push(item);
        Ok(())
    };
    for (index, item) in items.into_iter().enumerate() {
        let at = Position {
            stream: 1,
            command: index as u64,
            offset: index as u64 * 1000,
        };
        transform.item(item, at, &mut take)?;
    }
    transform.end(&mut take)?;
    Ok(out)
}

fn items(version: Version, commands: Vec<Command>) -> Vec<Item> {
    let commands = commands.into_iter().map(Item::Command);
    [Item::Header(version)]
        .into_iter()
        .chain(commands)
        .collect()
}

/// What becomes of these commands in a stream of this version.
fn through(
    transform: &mut dyn Transform,
    version: Version,
    commands: Vec<Command>,
) -> Result<Vec<Item>, TransformError> {
    changed(transform, items(version, commands))
}

/// Only what is about the file `f`.
fn about_f(items: Vec<Item>) -> Vec<Command> {
    let commands = items.into_iter().filter_map(|item| match item {
        Item::Command(command) => Some(command),
        _ => None,
    });
    commands
        .filter(|command| command.path() == Some(path("f").borrow()))
        .collect()
}

/// What a WRITE, ENCODED_WRITE or FALLOCATE covers, by a letter.
fn ranges(commands: &[Command]) -> Vec<(char, u64, u64)> {
    let range = |command: &Command| match command {
        Command::Write { offset, data, .. } => ('w', *offset, data.len() as u64),
        Command::EncodedWrite(write) => ('e', write.offset, write.unencoded_len),
        Command::Fallocate { offset, len, .. } => ('h', *offset, *len),
        other => panic!("{other:?}"),
    };
    commands.iter().map(range).collect()
}

#[test]
fn clone_sources_follow_their_subvolumes() {
    let id = Uuid::from_u128;
    let clone = |uuid| {
        Command::Clone(CloneRange {
            path: path("f"),
            offset: 0,
            len: 4096,
            source_uuid: uuid,
            source_ctransid: 10,
            source_path: path("g"),
            source_offset: 0,
        })
    };
    let snapshot = Command::Snapshot {
        name: SubvolumeName::parse("s".into()).unwrap(),
        uuid: id(1),
        ctransid: 10,
        parent_uuid: id(2),
        parent_ctransid: 10,
    };
    let identity = |number, ctransid| Identity {
        uuid: Some(id(number)),
        ctransid,
    };
    let mut rewrite = Rewrite::new()
        .own(identity(11, Some(7)))
        .parent(identity(12, None))
        .replace(id(3), identity(13, Some(8)));
    let commands = vec![
        snapshot,
        clone(id(1)),
        clone(id(2)),
        clone(id(3)),
        clone(id(4)),
    ];
    let out = about_f(through(&mut rewrite, Version::V1, commands).unwrap());
    let sources: Vec<_> = out
        .iter()
        .map(|command| match command {
            Command::Clone(clone) => (clone.source_uuid.as_u128(), clone.source_ctransid),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sources, [(11, 7), (12, 10), (13, 8), (4, 10)]);
    let error = through(&mut rewrite, Version::V1, vec![subvol(9)]).unwrap_err();
    assert!(
        matches!(error.kind(), TransformErrorKind::SecondSubvolume { .. }),
        "{error}"
    );
}

#[test]
fn streams_come_apart_and_together() {
    let header = Item::Header(Version::V1);
    let one = || vec![subvol(1), mkfile("f")];
    let together = [one(), one(), vec![Command::End]].concat();
    let out = through(&mut Apart::new(), Version::V1, together.clone()).unwrap();
    let end = Item::Command(Command::End);
    let stream = [
        vec![header],
        one().into_iter().map(Item::Command).collect(),
        vec![end],
    ]
    .concat();
    assert_eq!(out, [stream.clone(), stream].concat());
    let mut both = Apart::new().then(Together::new());
    let out = through(&mut both, Version::V1, together.clone()).unwrap();
    assert_eq!(out.len(), together.len() + 1);
    let mut rising = Together::new();
    through(&mut rising, Version::V1, vec![]).unwrap();
    let mut rising = Together::new();
    let mut none = |_: Item, _: Position| Ok(());
    let at = Position::default();
    rising
        .item(Item::Header(Version::V1), at, &mut none)
        .unwrap();
    let error = rising
        .item(Item::Header(Version::V2), at, &mut none)
        .unwrap_err();
    assert!(
        matches!(error.kind(), TransformErrorKind::VersionRises { .. }),
        "{error}"
    );
}

#[test]
fn errors_of_the_input_and_of_the_output_are_told_apart() {
    let mut writer = Writer::new(Vec::new());
    let cut = &b"btrfs-stream\0\x01\0\0\0\x11"[..];
    let error = transform::run(&mut Reader::new(cut), &mut (), &mut writer).unwrap_err();
    assert!(
        matches!(error.kind(), TransformErrorKind::Input(_)),
        "{error}"
    );
    assert!(error.position().is_some());
    // Too long for version 1.
    let long = Command::SetXattr {
        path: path("f"),
        name: "user.a".into(),
        data: vec![0; 65_535].into(),
    };
    let mut downgrade = Downgrade::to(Version::V1);
    let mut writer = Writer::new(Vec::new());
    let items = [
        Item::Header(Version::V2),
        Item::Command(subvol(1)),
        Item::Command(long),
    ];
    let at = Position {
        stream: 1,
        command: 2,
        offset: 300,
    };
    let results: Vec<_> = items
        .into_iter()
        .map(|item| downgrade.item(item, at, &mut writer))
        .collect();
    let error = results.into_iter().find_map(Result::err).unwrap();
    assert!(
        matches!(error.kind(), TransformErrorKind::Output(_)),
        "{error}"
    );
    assert_eq!(error.position(), Some(at));
}

#[test]
fn transforms_cross_threads() {
    fn sent<T: Send>() {}
    sent::<Upgrade>();
    sent::<Downgrade>();
    sent::<Filter>();
    sent::<Rewrite>();
    sent::<TransformError>();
}
