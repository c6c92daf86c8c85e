//! Limits. What is found in streams is tested in `btrfs-receive` and `sendstream`.

use std::io::Cursor;

use btrfs_sendstream::{
    CloneRange, Command, CommandRef, Encoder, Reader, StreamPath, SubvolumeName, Uuid, Version,
};

use super::*;

const LIMIT: u64 = 1 << 20;

fn stream(commands: &[CommandRef<'_>]) -> Vec<u8> {
    let first = Command::Subvol {
        name: SubvolumeName::parse(&b"s"[..]).unwrap(),
        uuid: Uuid::from_u128(1),
        ctransid: 7,
    };
    let (mut encoder, mut stream) = (Encoder::new(), Vec::new());
    encoder.header(Version::V2, &mut stream).unwrap();
    for command in [&[first][..], commands, &[Command::End]].concat() {
        encoder.command(&command, &mut stream).unwrap();
    }
    stream
}

fn history(commands: &[CommandRef<'_>]) -> History<Cursor<Vec<u8>>> {
    let mut history = History::new(Cursor::new(Vec::new()), LIMIT);
    let stream = stream(commands);
    history.read(&mut Reader::new(&stream[..])).unwrap();
    history
}

fn path(text: &str) -> StreamPath<&[u8]> {
    StreamPath::parse(text.as_bytes()).unwrap()
}

/// A file that doubles 40 times: few commands, and a terabyte that wants the first bytes.
#[test]
fn a_file_of_clones_of_itself_reaches_the_limit() {
    let (path, data) = (path("f"), &[7; 4096][..]);
    let mut commands = vec![
        Command::Mkfile { path, ino: 257 },
        Command::Write {
            path,
            offset: 0,
            data,
        },
    ];
    commands.extend((0..40).map(|times| {
        Command::Clone(CloneRange {
            path,
            offset: 4096 << times,
            len: 4096 << times,
            source_uuid: Uuid::from_u128(1),
            source_ctransid: 7,
            source_path: path,
            source_offset: 0,
        })
    }));
    let history = history(&commands);
    let (file, _, size) = history.find(&path.to_owned()).unwrap();
    assert_eq!(size, 4096 << 40);
    let error = history.content(file).unwrap_err();
    let expected = OutOfMemory { limit: LIMIT };
    assert!(matches!(error, LocateError::Memory(it) if it == expected));
}

/// A block with a million places in the file went to and fro 100,000 times: the places are
/// not copied each time.
#[test]
fn places_are_not_copied_with_each_clone() {
    let [f, g, h] = ["f", "g", "h"].map(path);
    let clone = |to, offset, len, from| {
        Command::Clone(CloneRange {
            path: to,
            offset,
            len,
            source_uuid: Uuid::from_u128(1),
            source_ctransid: 7,
            source_path: from,
            source_offset: 0,
        })
    };
    let data = &[7; 4096][..];
    let mut commands: Vec<_> = [f, g, h]
        .map(|path| Command::Mkfile { path, ino: 257 })
        .into();
    commands.push(Command::Write {
        path: g,
        offset: 0,
        data,
    });
    for _ in 0..50_000 {
        commands.extend([clone(h, 0, 4096, g), clone(g, 0, 4096, h)]);
    }
    commands.push(clone(f, 0, 4096, g));
    commands.extend((0..20).map(|times| clone(f, 4096 << times, 4096 << times, f)));
    let mut history = History::new(Cursor::new(Vec::new()), 1 << 30);
    let stream = stream(&commands);
    history.read(&mut Reader::new(&stream[..])).unwrap();
    let (file, ..) = history.find(&f.to_owned()).unwrap();
    let needs = history.content(file).unwrap();
    assert!(needs.are_in(0));
}

/// A range that was written 100,000 times is needed once.
#[test]
fn what_was_written_over_costs_nothing() {
    let (path, data) = (path("f"), &[7; 16][..]);
    let write = Command::Write {
        path,
        offset: 0,
        data,
    };
    let mut commands = vec![Command::Mkfile { path, ino: 257 }];
    commands.extend(std::iter::repeat_n(write, 100_000));
    let history = history(&commands);
    let (file, ..) = history.find(&path.to_owned()).unwrap();
    let needs = history.content(file).unwrap();
    assert!(needs.are_in(0) && !needs.are_in(1));
}

#[test]
fn names_reach_the_limit() {
    let mut history = history(&[]);
    let paths = (0..10_000).map(|number| format!("{number:0200}"));
    let mut results = paths.map(|at| {
        let path = path(&at);
        history.apply(&Command::Mkfile { path, ino: 257 }, 0, false)
    });
    let error = results.find_map(Result::err).unwrap();
    assert!(matches!(
        error,
        Inapplicable::Tree(_) | Inapplicable::Memory(_)
    ));
}

/// Takes data, and no other.
struct Only(&'static [u8]);

impl Fetch for Only {
    type Error = String;

    fn data(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), String> {
        let expected = self.0.get(offset as usize..).unwrap_or_default();
        if expected.starts_with(data) {
            Ok(())
        } else {
            Err(format!("{data:?} at {offset}"))
        }
    }

    fn metadata(&mut self, _: u32, command: &CommandRef<'_>) -> Result<(), String> {
        Err(format!("{command:?}"))
    }
}

/// A file that was replaced between both readings gives an error, and no data at a wrong
/// place.
#[test]
fn another_stream_is_noticed() {
    let path = path("f");
    let file = Command::Mkfile { path, ino: 257 };
    let write = |offset, data| Command::Write { path, offset, data };
    let data = &b"abcdefgh"[..];
    let truncate = Command::Truncate { path, size: 8 };
    let commands = [file.clone(), write(0, data), truncate.clone()];
    let history = history(&commands);
    let (node, ..) = history.find(&path.to_owned()).unwrap();
    let needs = history.content(node).unwrap();
    let fetch = |commands: &[CommandRef<'_>]| {
        let stream = stream(commands);
        needs.fetch(0, &mut Reader::new(&stream[..]), &mut Only(data))
    };
    fetch(&commands).unwrap();
    for other in [
        &[][..],
        std::slice::from_ref(&file),
        &[file.clone(), write(1, data), truncate.clone()],
        &[file.clone(), write(0, &data[1..]), truncate.clone()],
        &[file.clone(), truncate.clone(), write(0, data)],
        &[truncate.clone(), file.clone(), write(0, data)],
    ] {
        let error = fetch(other).unwrap_err();
        assert!(matches!(error, FetchError::Changed), "{other:?}: {error}");
    }
}
