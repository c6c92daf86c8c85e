//! What older versions can express, and what is refused.

use btrfs_sendstream::transform::{
    Downgrade, Newer, ParentEntry, Transform, TransformError, TransformErrorKind, UnknownSize,
};
use btrfs_sendstream::{
    Bytes, CloneRange, Command, Item, Position, RawCommand, SubvolumeName, Uuid, Version,
};

use super::{about_f, mkfile, path, punch, ranges, rename, subvol, through, utimes, write};

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
