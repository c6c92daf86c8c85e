//! What holds for every stream that goes through a transform.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use btrfs_sendstream::decompress::Decompressor;
use btrfs_sendstream::transform::{
    Apart, Codec, Downgrade, Filter, Identity, Newer, ParentEntry, Rewrite, Rules, Together,
    Transform, TransformError, UnknownSize, Upgrade,
};
use btrfs_sendstream::{Bytes, Command, Encoder, Item, StreamPath, SubvolumeName, Uuid, Version};
use proptest::prelude::*;

use super::items;
use crate::strategies;

/// What becomes of these items.
fn through(
    mut transform: impl Transform,
    items: impl IntoIterator<Item = Item>,
) -> Result<Vec<Item>, TransformError> {
    super::changed(&mut transform, items)
}

/// A stream as items.
fn stream() -> impl Strategy<Value = Vec<Item>> {
    strategies::stream().prop_map(|(version, commands, _)| items(version, commands))
}

/// With one subvolume only, which some transforms insist on.
fn single() -> impl Strategy<Value = Vec<Item>> {
    stream().prop_map(|items| {
        let begins = |item: &Item| {
            matches!(
                item,
                Item::Command(Command::Subvol { .. } | Command::Snapshot { .. })
            )
        };
        let (mut seen, mut items) = (false, items);
        items.retain(|item| !begins(item) || !std::mem::replace(&mut seen, true));
        items
    })
}

fn encodes(items: &[Item]) -> bool {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    items
        .iter()
        .all(|item| encoder.item(item, &mut out).is_ok())
}

fn downgrade(target: Version) -> Downgrade {
    Downgrade::builder(target)
        .newer(Newer::Drop)
        .unknown_size(UnknownSize::Assume)
        .max_zeros(1 << 24)
        .build()
}

proptest! {
    #[test]
    fn a_rewrite_can_be_taken_back(
        items in single(),
        new in strategies::uuid(),
        parent in strategies::uuid(),
        name in strategies::subvolume_name(),
    ) {
        let uuids = uuids_of(&items);
        prop_assume!(!uuids.contains(&new) && !uuids.contains(&parent) && new != parent);
        let (old_name, old, old_parent) = match &items[1] {
            Item::Command(Command::Subvol { name, uuid, .. }) => (name, *uuid, None),
            Item::Command(Command::Snapshot { name, uuid, parent_uuid, .. }) => {
                (name, *uuid, Some(*parent_uuid))
            }
            other => panic!("{other:?}"),
        };
        prop_assume!(old_parent != Some(old));
        let identity = |uuid| Identity { uuid: Some(uuid), ctransid: None };
        let there = Rewrite::new().name(name).own(identity(new)).parent(identity(parent));
        let back = Rewrite::new()
            .name(old_name.clone())
            .own(identity(old))
            .parent(identity(old_parent.unwrap_or(parent)));
        let changed = through(there, items.clone()).unwrap();
        prop_assert!(!uuids_of(&changed).contains(&old));
        prop_assert_eq!(through(back, changed).unwrap(), items);
    }

    #[test]
    fn a_replaced_uuid_is_nowhere_left(items in stream(), new in strategies::uuid()) {
        let uuids = uuids_of(&items);
        prop_assume!(!uuids.contains(&new));
        for old in uuids {
            let to = |uuid| Identity { uuid: Some(uuid), ctransid: None };
            let changed = through(Rewrite::new().replace(old, to(new)), items.clone()).unwrap();
            prop_assert!(!uuids_of(&changed).contains(&old));
            let back = through(Rewrite::new().replace(new, to(old)), changed).unwrap();
            prop_assert_eq!(&back, &items);
        }
    }

    #[test]
    fn joined_streams_come_apart_as_they_were(
        streams in prop::collection::vec(single(), 1..4),
    ) {
        let version = |items: &Vec<Item>| match items[0] {
            Item::Header(version) => version,
            _ => panic!("no header"),
        };
        let all: Vec<Item> = streams.concat();
        let joined = through(Together::new(), all.clone());
        let first = version(&streams[0]);
        let rises = streams.iter().any(|items| version(items) > first);
        prop_assert_eq!(joined.is_err(), rises);
        let Ok(joined) = joined else { return Ok(()) };
        let count = |items: &[Item], what: fn(&Item) -> bool| {
            items.iter().filter(|item| what(item)).count()
        };
        prop_assert_eq!(count(&joined, |item| matches!(item, Item::Header(_))), 1);
        prop_assert_eq!(count(&joined, |item| matches!(item, Item::Command(Command::End))), 1);
        let mut expected = all;
        for item in &mut expected {
            if let Item::Header(version) = item {
                *version = first;
            }
        }
        prop_assert_eq!(&through(Apart::new(), joined).unwrap(), &expected);
        // What is apart stays so.
        prop_assert_eq!(&through(Apart::new(), expected.clone()).unwrap(), &expected);
    }

    #[test]
    fn a_filter_without_rules_leaves_everything(items in stream()) {
        prop_assert_eq!(through(Filter::new(Rules::default()), items.clone()).unwrap(), items);
    }

    #[test]
    fn what_a_filter_leaves_names_nothing_that_was_left_out(
        items in stream(),
        path in strategies::path(),
    ) {
        let rules = Rules::default().exclude(path);
        if let Ok(kept) = through(Filter::new(rules.clone()), items) {
            for item in &kept {
                let Item::Command(command) = item else { continue };
                let named = command.path().filter(|path| !path.as_bytes().is_empty());
                let kept = named.is_none_or(|path| rules.keeps(&path.to_owned()));
                prop_assert!(kept, "{command:?}");
            }
            // Twice changes nothing more.
            if let Ok(again) = through(Filter::new(rules), kept.clone()) {
                prop_assert_eq!(again, kept);
            }
        }
    }

    #[test]
    fn a_lower_version_passes_as_it_is(items in stream()) {
        let Item::Header(version) = items[0] else { panic!("no header") };
        for target in Version::ALL.iter().copied().filter(|&target| target >= version) {
            prop_assert_eq!(&through(Downgrade::to(target), items.clone()).unwrap(), &items);
        }
    }

    #[test]
    fn a_downgraded_stream_has_nothing_newer(items in stream()) {
        for target in [Version::V1, Version::V2] {
            let Ok(lower) = through(downgrade(target), items.clone()) else { continue };
            for item in &lower {
                match item {
                    Item::Header(version) => prop_assert!(*version <= target),
                    Item::Command(command) => prop_assert!(command.kind().since() <= target),
                    _ => prop_assert!(false, "unknown"),
                }
            }
            prop_assert!(encodes(&lower));
            // Version 3 to 1 is version 3 to 2 to 1.
            let steps = downgrade(Version::V2).then(downgrade(target));
            prop_assert_eq!(&through(steps, items.clone()).unwrap(), &lower);
            // Twice changes nothing more.
            prop_assert_eq!(&through(downgrade(target), lower.clone()).unwrap(), &lower);
        }
    }

    /// Commands that are not data are neither lost nor moved.
    #[test]
    fn an_upgrade_keeps_the_order_of_the_rest(items in stream()) {
        let data = |item: &Item| {
            matches!(
                item,
                Item::Header(_)
                    | Item::Command(
                        Command::Write { .. } | Command::EncodedWrite(_) | Command::Fallocate { .. }
                    )
            )
        };
        let rest = |items: &[Item]| {
            items.iter().filter(|item| !data(item)).cloned().collect::<Vec<_>>()
        };
        let upgraded = through(Upgrade::new(), items.clone()).unwrap();
        prop_assert_eq!(rest(&upgraded), rest(&items));
        prop_assert!(encodes(&upgraded));
    }
}

proptest! {
    // Each compresses megabytes.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn data_is_the_same_after_an_upgrade(
        commands in data(),
        settings in (any::<bool>(), 1..4_u8, any::<bool>(), 1..5_usize),
    ) {
        let (zlib, level, holes, threads) = settings;
        let upgrade = |threads| {
            Upgrade::builder()
                .codec(if zlib { Codec::Zlib } else { Codec::Zstd })
                .level(level)
                .holes(holes)
                .threads(NonZeroUsize::new(threads).unwrap())
                .build()
        };
        let before = contents(&commands);
        let original = items(Version::V1, commands);
        let upgraded = through(upgrade(threads), original.clone()).unwrap();
        prop_assert!(encodes(&upgraded));
        prop_assert_eq!(&contents(&commands_of(&upgraded)), &before);
        // Threads change nothing but the time.
        prop_assert_eq!(&through(upgrade(1), original).unwrap(), &upgraded);
        // Down again it is still the same.
        let down = through(downgrade(Version::V1), upgraded).unwrap();
        prop_assert_eq!(&contents(&commands_of(&down)), &before);
        prop_assert!(encodes(&down));
    }
}

/// Lengths of files that a stream finds in its parent.
const LENGTHS: [usize; 8] = [0, 1, 9, 10, 11, 20, 31, 64];

/// Commands about a file of the parent and one of the stream.
fn few_bytes() -> impl Strategy<Value = Vec<Command>> {
    let mode = prop::sample::select(vec![0, 1, 3, 3, 3, 3, 0x10, 0x11]);
    let action = (0..10_u8, any::<bool>(), 0..40_u64, 1..20_u64, mode);
    prop::collection::vec(action, 1..8).prop_map(|actions| {
        let path = |name: &str| StreamPath::parse(name.to_owned().into()).unwrap();
        let time = btrfs_sendstream::Timespec::default();
        let snapshot = Command::Snapshot {
            name: SubvolumeName::parse("s".into()).unwrap(),
            uuid: Uuid::from_u128(2),
            ctransid: 1,
            parent_uuid: Uuid::from_u128(1),
            parent_ctransid: 1,
        };
        let new = Command::Mkfile {
            path: path("new"),
            ino: 300,
        };
        let mut commands = vec![snapshot, new];
        for (what, is_new, offset, len, mode) in actions {
            let path = path(if is_new { "new" } else { "old" });
            commands.push(match what {
                0 => Command::Utimes {
                    path,
                    atime: time,
                    mtime: time,
                    ctime: time,
                    otime: None,
                },
                1 | 2 => Command::Truncate { path, size: offset },
                3..6 => Command::Write {
                    path,
                    offset,
                    data: vec![b'w'; len as usize].into(),
                },
                _ => Command::Fallocate {
                    path,
                    mode,
                    offset,
                    len,
                },
            });
        }
        commands.push(Command::End);
        commands
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// What a downgrade does not refuse is right for a file of any length; with
    /// the parent at hand nothing is refused.
    #[test]
    fn a_downgrade_never_depends_on_a_length_it_does_not_know(commands in few_bytes()) {
        let original = items(Version::V2, commands.clone());
        let downgrade = || Downgrade::builder(Version::V1).newer(Newer::Drop).build();
        let alone = through(downgrade(), original.clone());
        for len in LENGTHS {
            let before = || BTreeMap::from([(b"old".to_vec(), vec![b'o'; len])]);
            let expected = contents_after(before(), &commands);
            if let Ok(alone) = &alone {
                prop_assert_eq!(&contents_after(before(), &commands_of(alone)), &expected);
            }
            let with_parent = downgrade().with_parent(move |path| {
                let size = len as u64;
                let entry = ParentEntry { inode: 257, size };
                Ok((path.as_bytes() == b"old").then_some(entry))
            });
            match through(with_parent, original.clone()) {
                Ok(lower) => {
                    prop_assert_eq!(&contents_after(before(), &commands_of(&lower)), &expected);
                }
                // A file of the stream that it comes back to.
                Err(error) => prop_assert!(error.to_string().starts_with("new: "), "{}", error),
            }
        }
    }
}

fn commands_of(items: &[Item]) -> Vec<Command> {
    let command = |item: &Item| match item {
        Item::Command(command) => Some(command.clone()),
        _ => None,
    };
    items.iter().filter_map(command).collect()
}

/// Every UUID that a stream names.
fn uuids_of(items: &[Item]) -> Vec<Uuid> {
    let mut uuids = Vec::new();
    for command in commands_of(items) {
        match command {
            Command::Subvol { uuid, .. } => uuids.push(uuid),
            Command::Snapshot {
                uuid, parent_uuid, ..
            } => uuids.extend([uuid, parent_uuid]),
            Command::Clone(clone) => uuids.push(clone.source_uuid),
            _ => {}
        }
    }
    uuids.sort();
    uuids.dedup();
    uuids
}

const SECTOR: u64 = 4096;

/// Longest file that the commands of [`data`] make.
const LONGEST: u64 = 4 << 20;

/// A stream with data that is adjacent or not, long or short, and compresses,
/// does not, or is zero; between it, truncations and commands that are none.
fn data() -> impl Strategy<Value = Vec<Command>> {
    let place = prop_oneof![
        5 => Just(None),
        2 => (0..LONGEST / SECTOR / 2).prop_map(|sector| Some(sector * SECTOR)),
        1 => (0..LONGEST / 2).prop_map(Some),
    ];
    let len = prop_oneof![
        3 => Just(48 * 1024_usize),
        1 => (1..40_usize).prop_map(|sectors| sectors * 4096),
        1 => 0..150_000_usize,
    ];
    let action = prop_oneof![
        10 => (place, len, 0..4_u8).prop_map(Some),
        1 => Just(None),
    ];
    let actions = prop::collection::vec((prop::sample::select(vec!["f", "g"]), action), 1..30);
    actions.prop_map(|actions| {
        let mut ends = BTreeMap::new();
        let mut commands = vec![Command::Subvol {
            name: SubvolumeName::parse("s".into()).unwrap(),
            uuid: Uuid::from_u128(1),
            ctransid: 1,
        }];
        for (name, action) in actions {
            let path = StreamPath::parse(name.into()).unwrap();
            let end = ends.entry(name).or_insert(0);
            let Some((place, len, kind)) = action else {
                let size = *end / 2;
                *end = size;
                commands.push(Command::Truncate { path, size });
                continue;
            };
            let offset = place.unwrap_or(*end).min(LONGEST);
            *end = offset + len as u64;
            let data = bytes(kind, len);
            commands.push(Command::Write { path, offset, data });
        }
        commands.push(Command::End);
        commands
    })
}

/// Text, noise, zeros, or some of each.
fn bytes(kind: u8, len: usize) -> Bytes {
    let mut state = len as u64 + 1;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let text = |index: usize| b"some text, again and again\n"[index % 27];
    let byte = |index: usize| match (kind, index / 10_000 % 3) {
        (0, _) | (3, 0) => text(index),
        (1, _) | (3, 1) => noise(),
        _ => 0,
    };
    (0..len).map(byte).collect()
}

/// What the data in these commands makes of files that are empty at first.
fn contents(commands: &[Command]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    contents_after(BTreeMap::new(), commands)
}

/// The same for files that may be there before.
fn contents_after(
    mut files: BTreeMap<Vec<u8>, Vec<u8>>,
    commands: &[Command],
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut decompressor = Decompressor::new();
    for command in commands {
        let Some(path) = command.path() else { continue };
        let file = files.entry(path.as_bytes().to_vec()).or_default();
        match command {
            Command::Write { offset, data, .. } => put(file, *offset, data),
            Command::EncodedWrite(write) => {
                let data = decompressor.decode_write(write).unwrap();
                put(file, write.offset, data);
            }
            Command::Fallocate {
                mode, offset, len, ..
            } => {
                let end = offset + len;
                if mode & 1 == 0 {
                    file.resize(file.len().max(end as usize), 0);
                }
                if mode & 0x12 != 0 {
                    let end = end.min(file.len() as u64);
                    let zeros = vec![0; end.saturating_sub(*offset) as usize];
                    put(file, *offset, &zeros);
                }
            }
            Command::Truncate { size, .. } => file.resize(*size as usize, 0),
            _ => {}
        }
    }
    files
}

fn put(file: &mut Vec<u8>, offset: u64, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let (start, end) = (offset as usize, offset as usize + data.len());
    file.resize(file.len().max(end), 0);
    file[start..end].copy_from_slice(data);
}
