//! Transforms, command by command.

use btrfs_sendstream::transform::{
    self, Apart, Crossing, Downgrade, Filter, Identity, Newer, ParentEntry, Rewrite, Rules,
    Together, Transform, TransformError, TransformErrorKind, UnknownSize, Upgrade,
};
use btrfs_sendstream::{
    Bytes, CloneRange, Command, Item, Position, RawCommand, Reader, StreamPath, SubvolumeName,
    Timespec, Uuid, Version, Writer,
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

/// What becomes of these commands in a stream of this version.
fn through(
    transform: &mut dyn Transform,
    version: Version,
    commands: Vec<Command>,
) -> Result<Vec<Item>, TransformError> {
    let mut out = Vec::new();
    let mut take = |item: Item, _: Position| {
        out.push(item);
        Ok(())
    };
    let items = [Item::Header(version)]
        .into_iter()
        .chain(commands.into_iter().map(Item::Command));
    for (index, item) in items.enumerate() {
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

fn upgraded(commands: Vec<Command>) -> Vec<Command> {
    about_f(through(&mut Upgrade::new(), Version::V1, commands).unwrap())
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
fn adjacent_writes_become_extents() {
    let text = b"some text\n".repeat(30_000);
    let writes = |start: u64| {
        let pieces = (0..).step_by(48 * 1024).zip(text.chunks(48 * 1024));
        pieces
            .map(move |(offset, piece)| write(start + offset, piece))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ranges(&upgraded(writes(0))),
        [
            ('e', 0, 131_072),
            ('e', 131_072, 131_072),
            ('e', 262_144, 37_856)
        ]
    );
    // Up to a sector boundary, data stays as it is.
    assert_eq!(
        ranges(&upgraded(writes(4096 - 10)))[..2],
        [('w', 4086, 10), ('e', 4096, 131_072)]
    );
    // What is not adjacent is not joined.
    let apart = vec![write(0, &text[..8192]), write(12_288, &text[..8192])];
    assert_eq!(
        ranges(&upgraded(apart)),
        [('e', 0, 8192), ('e', 12_288, 8192)]
    );
}

#[test]
fn what_does_not_shrink_is_written() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(200_000)
    .collect();
    let commands = upgraded(vec![
        write(0, &noise[..100_000]),
        write(100_000, &noise[100_000..]),
    ]);
    assert_eq!(
        ranges(&commands),
        [('w', 0, 131_072), ('w', 131_072, 68_928)]
    );
    // Less than two sectors cannot shrink on disk.
    assert_eq!(
        ranges(&upgraded(vec![write(0, &[b'a'; 4096])])),
        [('w', 0, 4096)]
    );
    let empty = write(u64::MAX, b"");
    assert_eq!(upgraded(vec![empty.clone()]), [empty]);
    let too_far = write(u64::MAX, b"ab");
    assert_eq!(upgraded(vec![too_far.clone()]), [too_far]);
}

#[test]
fn zeros_become_holes_but_leave_the_size() {
    let zeros = vec![0; 300_000];
    // At the end of the data, the last sector is written.
    assert_eq!(
        ranges(&upgraded(vec![write(0, &zeros)])),
        [('h', 0, 299_008), ('w', 299_008, 992)]
    );
    let mut mixed = b"data ".repeat(60_000);
    mixed[8192..8192 + 65_536].fill(0);
    mixed[200_000..].fill(0);
    assert_eq!(
        ranges(&upgraded(vec![write(0, &mixed)])),
        [
            ('e', 0, 8192),
            ('h', 8192, 65_536),
            ('e', 73_728, 57_344),
            ('e', 131_072, 69_632),
            ('h', 200_704, 98_304),
            ('w', 299_008, 992),
        ]
    );
    let mut plain = Upgrade::builder().holes(false).build();
    let items = through(&mut plain, Version::V1, vec![write(0, &zeros)]).unwrap();
    assert_eq!(ranges(&about_f(items)).len(), 3);
    let stats = plain.stats();
    assert_eq!((stats.compressed, stats.bytes_punched), (3, 0));
}

#[test]
fn order_is_kept_between_compressed_and_other_commands() {
    let data = b"text ".repeat(20_000);
    let commands: Vec<Command> = (0..500_u64)
        .flat_map(|number| [write(number << 32, &data), utimes("f")])
        .collect();
    let out = upgraded(commands);
    let mut expected = 0;
    for pair in out.chunks(2) {
        assert_eq!(ranges(&pair[..1]), [('e', expected, 100_000)]);
        assert_eq!(pair[1], utimes("f"));
        expected += 1 << 32;
    }
    assert_eq!(out.len(), 1000);
}

fn downgraded(commands: Vec<Command>) -> Result<Vec<Command>, TransformError> {
    through(&mut Downgrade::to(Version::V1), Version::V2, commands).map(about_f)
}

fn truncate(size: u64) -> Command {
    let path = path("f");
    Command::Truncate { path, size }
}

fn fallocate(mode: u32, offset: u64, len: u64) -> Command {
    Command::Fallocate {
        path: path("f"),
        mode,
        offset,
        len,
    }
}

#[test]
fn a_hole_is_zeros_where_the_file_is_long_enough() {
    // Data before it, data after it, or a new size.
    for (before, after) in [
        (Some(write(200_000, b"x")), None),
        (None, Some(write(149_999, b"x"))),
        (None, Some(truncate(150_000))),
    ] {
        let mut commands: Vec<Command> = before.clone().into_iter().collect();
        commands.push(punch(50_000, 100_000));
        commands.extend(after);
        commands.push(utimes("f"));
        let mut out = downgraded(commands).unwrap();
        if before.is_some() {
            out.remove(0);
        }
        let zeros = [
            ('w', 50_000, 49_152),
            ('w', 99_152, 49_152),
            ('w', 148_304, 1696),
        ];
        assert_eq!(ranges(&out[..3]), zeros);
    }
}

/// Zeros beyond the end would make the file longer, and are not needed.
#[test]
fn a_hole_ends_where_its_file_does() {
    let zeros = |offset: u64, len: usize| write(offset, &vec![0; len]);
    for (commands, expected) in [
        // The size is set afterwards, so all before it is known.
        (
            vec![punch(5, 1 << 60), truncate(9)],
            vec![zeros(5, 4), truncate(9)],
        ),
        (vec![punch(5, 10), truncate(5)], vec![truncate(5)]),
        // It was set before.
        (
            vec![truncate(9), punch(5, 1 << 60), punch(9, 1)],
            vec![truncate(9), zeros(5, 4)],
        ),
        // Holes come after the data behind them, and data can be in them.
        (
            vec![
                punch(0, 4),
                write(2, b"ab"),
                punch(6, 4),
                write(7, b"x"),
                truncate(9),
            ],
            vec![
                zeros(0, 4),
                write(2, b"ab"),
                zeros(6, 2),
                write(7, b"x"),
                zeros(8, 1),
                truncate(9),
            ],
        ),
        // Nothing is known of a name that has another file.
        (
            vec![write(0, b"abcd"), rename("f", "g"), rename("h", "f")],
            vec![write(0, b"abcd"), rename("f", "g")],
        ),
    ] {
        assert_eq!(downgraded(commands).unwrap(), expected);
    }
    // A new file is empty; its name does not matter.
    let commands = vec![
        mkfile("o257-1-0"),
        rename("o257-1-0", "f"),
        punch(0, 100),
        write(0, b"ab"),
        punch(1, 100),
        utimes("f"),
    ];
    let out = downgraded(commands).unwrap();
    assert_eq!(out, [write(0, b"ab"), zeros(1, 1), utimes("f")]);
}

/// Zeros in place of such a hole would make the file longer.
#[test]
fn a_hole_that_may_lie_beyond_the_end_is_refused() {
    let cases = [
        vec![punch(0, 10)],
        vec![write(0, b"123456789"), punch(0, 10)],
        vec![punch(0, 10), write(0, b"123456789")],
        vec![punch(0, 10), rename("f", "g"), rename("h", "f")],
    ];
    for mut commands in cases {
        commands.extend([utimes("f"), write(100, b"too late")]);
        let error = downgraded(commands.clone()).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                TransformErrorKind::UnknownSize { end: 10, .. }
            ),
            "{error}"
        );
        assert!(error.position().is_some());
        let assume = Downgrade::builder(Version::V1).unknown_size(UnknownSize::Assume);
        through(&mut assume.build(), Version::V2, commands).unwrap();
    }
    let error = downgraded(vec![truncate(1 << 50), punch(0, 1 << 50)]).unwrap_err();
    assert!(
        matches!(error.kind(), TransformErrorKind::HoleTooLong { .. }),
        "{error}"
    );
    let many = (0..1_000_000).map(|number| punch(number * 8192, 4096));
    let error = downgraded(many.collect()).unwrap_err();
    assert!(
        matches!(error.kind(), TransformErrorKind::UnknownSize { .. }),
        "{error}"
    );
}

/// A clone could read what waits for the length of the file.
#[test]
fn a_hole_that_is_cloned_has_to_be_known() {
    let clone = |uuid: u128| {
        Command::Clone(CloneRange {
            path: path("f"),
            offset: 0,
            len: 4096,
            source_uuid: Uuid::from_u128(uuid),
            source_ctransid: 10,
            source_path: path("f"),
            source_offset: 8192,
        })
    };
    let with = |clone: Command| vec![subvol(1), punch(8192, 4096), clone, truncate(1 << 20)];
    assert!(downgraded(with(clone(2))).is_ok());
    let error = downgraded(with(clone(1))).unwrap_err();
    assert!(
        matches!(error.kind(), TransformErrorKind::UnknownSize { .. }),
        "{error}"
    );
}

#[test]
fn no_content_is_dropped() {
    let zeros = |offset: u64, len: usize| write(offset, &vec![0; len]);
    let dropping = |commands: Vec<Command>| {
        let mut downgrade = Downgrade::builder(Version::V1).newer(Newer::Drop).build();
        let out = through(&mut downgrade, Version::V2, commands).map(about_f);
        assert_eq!(downgrade.dropped(), 0);
        out
    };
    for (commands, expected) in [
        // Zeros, and the file grows.
        (vec![fallocate(0x10, 3, 5)], vec![zeros(3, 5)]),
        // Zeros up to the end of the file.
        (
            vec![truncate(6), fallocate(0x11, 3, 5)],
            vec![truncate(6), zeros(3, 3)],
        ),
        // Nothing but space.
        (vec![fallocate(1, 0, 1 << 40)], vec![]),
        // The file grows, or is long enough, or its size does not matter.
        (
            vec![truncate(6), fallocate(0, 3, 5), punch(7, 9)],
            vec![truncate(6), truncate(8), zeros(7, 1)],
        ),
        (
            vec![write(7, b"x"), fallocate(0, 3, 5)],
            vec![write(7, b"x")],
        ),
        (
            vec![fallocate(0, 3, 5), write(7, b"x")],
            vec![write(7, b"x")],
        ),
        (vec![fallocate(0, 3, 5), truncate(4)], vec![truncate(4)]),
    ] {
        assert_eq!(dropping(commands).unwrap(), expected);
    }
    let error = dropping(vec![fallocate(0, 3, 5)]).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            TransformErrorKind::UnknownGrowth { size: 8, .. }
        ),
        "{error}"
    );
    for mode in [2, 8, 0x20, 0x40, u32::MAX] {
        let error = dropping(vec![fallocate(mode, 0, 4096)]).unwrap_err();
        let expected = TransformErrorKind::FallocateMode {
            path: path("f"),
            mode,
            version: Version::V1,
        };
        assert_eq!(error.kind().to_string(), expected.to_string());
    }
    let raw = RawCommand {
        number: 99,
        payload: Bytes::new(),
    };
    let mut downgrade = Downgrade::builder(Version::V1).newer(Newer::Drop).build();
    let mut out = |_: Item, _: Position| Ok(());
    let at = Position::default();
    downgrade
        .item(Item::Header(Version::V3), at, &mut out)
        .unwrap();
    let error = downgrade
        .item(Item::Unknown(raw), at, &mut out)
        .unwrap_err();
    assert!(
        matches!(
            error.kind(),
            TransformErrorKind::UnknownCommand { number: 99 }
        ),
        "{error}"
    );
}

#[test]
fn the_parent_knows_how_long_its_files_are() {
    let snapshot = Command::Snapshot {
        name: SubvolumeName::parse("s".into()).unwrap(),
        uuid: Uuid::from_u128(2),
        ctransid: 10,
        parent_uuid: Uuid::from_u128(1),
        parent_ctransid: 10,
    };
    let parent = || {
        Downgrade::to(Version::V1).with_parent(|path| match path.as_bytes() {
            b"g" => Ok(Some(ParentEntry { inode: 1, size: 9 })),
            b"broken" => Err(std::io::Error::other("broken")),
            _ => Ok(None),
        })
    };
    let begun = |commands: Vec<Command>| [vec![snapshot.clone()], commands].concat();
    let run = |commands| through(&mut parent(), Version::V2, commands).map(about_f);
    let zeros = write(5, &[0; 4]);
    let link = Command::Link {
        path: path("f"),
        existing: path("g"),
    };
    let times = utimes("f");
    let commands = begun(vec![link.clone(), punch(5, 10), times.clone()]);
    assert_eq!(run(commands).unwrap(), [link.clone(), zeros, times.clone()]);
    // What this stream changed counts, under whatever name.
    let longer = Command::Write {
        path: path("g"),
        offset: 10,
        data: Bytes::from_static(b"x"),
    };
    let commands = begun(vec![longer, utimes("g"), link.clone(), punch(5, 10)]);
    assert_eq!(run(commands).unwrap(), [link, write(5, &[0; 6])]);
    // A file of another subvolume is another one.
    let commands = begun(vec![
        Command::End,
        snapshot.clone(),
        rename("g", "f"),
        punch(5, 10),
        times,
    ]);
    let error = run(commands).unwrap_err();
    assert!(
        matches!(error.kind(), TransformErrorKind::UnknownSize { .. }),
        "{error}"
    );
    let error = run(begun(vec![rename("broken", "f")])).unwrap_err();
    assert_eq!(error.to_string(), "broken (stream 1, command 2, byte 2000)");
}

#[test]
fn newer_commands_are_refused_or_dropped() {
    let flags = |attributes| Command::FileAttr {
        path: path("f"),
        attributes,
    };
    let error = downgraded(vec![flags(1 << 6)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "f: version 1 cannot express fileattr (stream 1, command 1, byte 1000)"
    );
    // Nothing is asked for here.
    assert!(downgraded(vec![flags(1 << 4)]).unwrap().is_empty());
    let mut dropping = Downgrade::builder(Version::V1).newer(Newer::Drop).build();
    let kept = through(
        &mut dropping,
        Version::V2,
        vec![flags(1 << 6), write(0, b"x")],
    )
    .unwrap();
    assert_eq!(about_f(kept), [write(0, b"x")]);
    assert_eq!(dropping.dropped(), 1);
    // A stream of that version or lower passes as it is.
    let same = vec![flags(1 << 6), punch(0, 10)];
    let passed = through(&mut Downgrade::to(Version::V2), Version::V2, same.clone()).unwrap();
    assert_eq!(about_f(passed), same);
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

fn filtered(rules: Rules, commands: Vec<Command>) -> Result<Vec<Command>, TransformError> {
    let commands = [vec![subvol(1)], commands, vec![Command::End]].concat();
    let mut items = through(&mut Filter::new(rules), Version::V1, commands)?;
    // Header, SUBVOL and END.
    items.drain(..2);
    items.pop();
    Ok(items
        .into_iter()
        .filter_map(|item| match item {
            Item::Command(command) => Some(command),
            _ => None,
        })
        .collect())
}

#[test]
fn temporary_names_are_kept_until_their_place_is_known() {
    let mkdir = Command::Mkdir {
        path: path("o300-8-0"),
        ino: 300,
    };
    let child = [mkfile("o257-8-0"), rename("o257-8-0", "o300-8-0/child")];
    let rules = || Rules::default().include(path("in")).exclude(path("in/not"));
    let early = |place: &str| {
        let child = child.to_vec();
        [vec![mkdir.clone()], child, vec![rename("o300-8-0", place)]].concat()
    };
    assert_eq!(filtered(rules(), early("in/d")).unwrap(), early("in/d"));
    let gone = [
        mkdir.clone(),
        child[0].clone(),
        child[1].clone(),
        Command::Unlink {
            path: path("o300-8-0/child"),
        },
        Command::Rmdir {
            path: path("o300-8-0"),
        },
    ];
    for place in ["out/d", "in/not"] {
        assert_eq!(filtered(rules(), early(place)).unwrap(), gone);
    }
    // The directory on the way stays, what is in it does not.
    let on_the_way = filtered(Rules::default().include(path("d/in")), early("d")).unwrap();
    assert_eq!(on_the_way[..4], gone[..4]);
    assert_eq!(on_the_way[4], rename("o300-8-0", "d"));
    // Whoever is really called so is treated by the rules, at the end.
    assert_eq!(filtered(rules(), early("o300-8-1")).unwrap().len(), 6);
    assert_eq!(
        filtered(Rules::default(), early("o300-8-1")).unwrap(),
        early("o300-8-1")
    );
}

/// No kernel renames over a temporary name that is in use; others may.
#[test]
fn what_is_left_out_replaces_a_temporary_name() {
    let temporary = "o257-8-0";
    let mkdir = Command::Mkdir {
        path: path(temporary),
        ino: 257,
    };
    let rmdir = Command::Rmdir {
        path: path(temporary),
    };
    let unlink = Command::Unlink {
        path: path(temporary),
    };
    let rules = || Rules::default().exclude(path("out"));
    for (creation, removal) in [(mkfile(temporary), unlink), (mkdir, rmdir)] {
        let commands = vec![
            creation.clone(),
            utimes(temporary),
            rename("out/x", temporary),
            utimes(temporary),
            rename(temporary, "out/y"),
        ];
        let kept = filtered(rules(), commands).unwrap();
        assert_eq!(kept, [creation, utimes(temporary), removal]);
    }
    // What is kept replaces it without further words.
    let commands = vec![
        mkfile(temporary),
        utimes("in"),
        rename("in/x", temporary),
        utimes(temporary),
        rename(temporary, "in/y"),
    ];
    assert_eq!(filtered(rules(), commands.clone()).unwrap(), commands);
    // Whether it was a directory nobody knows.
    let commands = vec![rename("in/x", temporary), rename("out/x", temporary)];
    let error = filtered(rules(), commands).unwrap_err();
    assert!(
        matches!(error.kind(), TransformErrorKind::Crossing { .. }),
        "{error}"
    );
}

#[test]
fn names_that_lead_to_no_path_are_refused() {
    let rules = Rules::default().exclude(path("out"));
    // What was in the root has no path any more.
    let commands = vec![rename("", "o257-8-0"), rename("o257-8-0/x", "in")];
    let error = filtered(rules, commands).unwrap_err();
    let TransformErrorKind::InvalidPath { path, .. } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!(path.as_ref(), b"/x");
}

#[test]
fn a_file_is_not_changed_under_a_name_that_is_left_out() {
    let link = |new: &str, existing: &str| Command::Link {
        path: path(new),
        existing: path(existing),
    };
    let rules = || Rules::default().exclude(path("out"));
    let created = [
        mkfile("o257-8-0"),
        rename("o257-8-0", "f"),
        link("out/g", "f"),
    ];
    let kept = filtered(rules(), [&created[..], &[write(0, b"x")]].concat()).unwrap();
    assert_eq!(
        kept,
        [created[0].clone(), created[1].clone(), write(0, b"x")]
    );
    let by_the_other = [&created[..], &[utimes("out/g")]].concat();
    let shared = |commands| {
        let error = filtered(rules(), commands).unwrap_err();
        let kind = error.kind();
        let Crossing::Shared { .. } = (match kind {
            TransformErrorKind::Crossing { crossing, .. } => crossing,
            _ => panic!("{error}"),
        }) else {
            panic!("{error}");
        };
    };
    shared(by_the_other);
    // Also where the name that is kept has changed, and another file had it.
    let renamed = [
        rename("f", "f2"),
        mkfile("f"),
        Command::Unlink { path: path("f") },
        utimes("out/g"),
    ];
    shared([&created[..], &renamed].concat());
    // A further name that is kept outlives the one that it was given by.
    let utimes_of = |name: &str| utimes(name);
    let two = [link("h", "f"), link("out/g", "f")];
    for order in [[0, 1], [1, 0]] {
        let links = order.map(|index| two[index].clone());
        let unlink = Command::Unlink { path: path("f") };
        let new = [&created[..2], &links, &[unlink.clone(), utimes_of("out/g")]].concat();
        shared(new);
        shared([&links[..], &[unlink]].concat());
    }
    // The first name of a file from before is one that is left out.
    let moved_within = |times| {
        vec![
            link("d/f", "f"),
            Command::Unlink { path: path("f") },
            utimes("d"),
            utimes(times),
            utimes("out/other"),
        ]
    };
    shared(moved_within("out/f"));
    // Another file may have to make room in between.
    let mut room = moved_within("d/f");
    room.insert(2, rename("x", "o300-8-0"));
    assert_eq!(filtered(rules(), room).unwrap().len(), 5);
    assert_eq!(filtered(rules(), moved_within("d/f")).unwrap().len(), 4);
    // A file from before: a move is fine, a further name is not.
    let moved = vec![
        link("out/g", "f"),
        Command::Unlink { path: path("f") },
        utimes("out/g"),
    ];
    assert_eq!(
        filtered(rules(), moved).unwrap(),
        [Command::Unlink { path: path("f") }]
    );
    shared(vec![link("out/g", "f")]);
}

#[test]
fn names_below_temporary_ones_divide_no_file() {
    let link = |new: &str, existing: &str| Command::Link {
        path: path(new),
        existing: path(existing),
    };
    let mkdir = |name: &str| Command::Mkdir {
        path: path(name),
        ino: 300,
    };
    let rules = || Rules::default().exclude(path("out"));
    let directories = |one: &str, two: &str| {
        vec![
            mkdir("o257-8-0"),
            utimes("o257-8-0"),
            mkdir("o258-8-0"),
            utimes("o258-8-0"),
            mkfile("o259-8-0"),
            rename("o259-8-0", "o257-8-0/f"),
            link("o258-8-0/g", "o257-8-0/f"),
            rename("o257-8-0", one),
            rename("o258-8-0", two),
        ]
    };
    let shared = |commands| {
        let error = filtered(rules(), commands).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                TransformErrorKind::Crossing {
                    crossing: Crossing::Shared { .. },
                    ..
                }
            ),
            "{error}"
        );
    };
    shared(directories("in", "out/d"));
    shared(directories("out/d", "in"));
    let kept = directories("in", "there");
    assert_eq!(filtered(rules(), kept.clone()).unwrap(), kept);
    let commands = filtered(rules(), directories("out/d", "out/e")).unwrap();
    let unlinked = |command: &&Command| matches!(command, Command::Unlink { .. });
    assert_eq!(commands.iter().filter(unlinked).count(), 2);
    // One of them is nowhere else, or has its place already.
    for existing in ["f", "o257-8-0/f"] {
        let mut commands = vec![
            mkdir("o257-8-0"),
            utimes("o257-8-0"),
            mkfile("o258-8-0"),
            rename("o258-8-0", existing),
            utimes("o257-8-0"),
        ];
        let new = if existing == "f" { "o257-8-0/f" } else { "f" };
        commands.extend([link(new, existing), rename("o257-8-0", "out/d")]);
        shared(commands);
    }
    // A file may be called like that.
    let commands = vec![mkfile("o1-1-0"), utimes("o1-1-0"), link("in", "o1-1-0")];
    let error = filtered(Rules::default().include(path("in")), commands).unwrap_err();
    assert!(
        error.to_string().contains("also has the name o1-1-0"),
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
