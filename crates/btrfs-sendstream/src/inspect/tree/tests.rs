//! Trees of streams by hand. That a tree is what a receiver makes of streams of the
//! kernel is tested in `btrfs-receive`.

use uuid::Uuid;

use super::*;
use crate::{CommandRef, SubvolumeName};

const LIMIT: u64 = 1 << 24;

fn path(text: &str) -> StreamPath<&[u8]> {
    StreamPath::parse(text.as_bytes()).unwrap()
}

fn full(uuid: u128) -> CommandRef<'static> {
    Command::Subvol {
        name: SubvolumeName::parse(&b"s"[..]).unwrap(),
        uuid: Uuid::from_u128(uuid),
        ctransid: 7,
    }
}

fn incremental(uuid: u128, parent: u128, parent_ctransid: u64) -> CommandRef<'static> {
    Command::Snapshot {
        name: SubvolumeName::parse(&b"t"[..]).unwrap(),
        uuid: Uuid::from_u128(uuid),
        ctransid: 9,
        parent_uuid: Uuid::from_u128(parent),
        parent_ctransid,
    }
}

fn mkfile(at: &str) -> CommandRef<'_> {
    let path = path(at);
    Command::Mkfile { path, ino: 257 }
}

fn mkdir(at: &str) -> CommandRef<'_> {
    let path = path(at);
    Command::Mkdir { path, ino: 257 }
}

fn rename<'a>(from: &'a str, to: &'a str) -> CommandRef<'a> {
    let (path, to) = (path(from), path(to));
    Command::Rename { path, to }
}

fn tree(commands: &[CommandRef<'_>]) -> Tree {
    let mut tree = Tree::new(LIMIT);
    for command in commands {
        tree.apply(command).unwrap();
    }
    tree
}

fn paths(tree: &Tree) -> Vec<String> {
    let entries = tree.entries();
    entries
        .map(|entry| String::from_utf8(entry.path.to_vec()).unwrap())
        .collect()
}

#[test]
fn directories_come_before_their_content() {
    let tree = tree(&[
        full(1),
        mkdir("old"),
        mkfile("old/f"),
        mkfile("a-b"),
        mkdir("a"),
        mkfile("a/z"),
        incremental(2, 1, 7),
        rename("old", "a/new"),
    ]);
    assert_eq!(
        paths(&tree),
        ["", "a", "a/new", "a/new/f", "a/z", "a-b"].map(str::to_owned)
    );
}

#[test]
fn a_new_inode_has_nothing_of_one_that_was_removed() {
    let tree = tree(&[
        full(1),
        mkfile("f"),
        Command::Truncate {
            path: path("f"),
            size: 10,
        },
        Command::Chmod {
            path: path("f"),
            mode: 0o4755,
        },
        Command::Unlink { path: path("f") },
        mkfile("g"),
    ]);
    let entry = tree.entries().nth(1).unwrap();
    assert_eq!((entry.size, entry.mode), (Some(0), None));
}

#[test]
fn a_tree_is_of_one_chain() {
    let mut trees = [full(1)].map(|first| tree(&[first]));
    let [tree] = &mut trees;
    let second = tree.apply(&full(3)).unwrap_err();
    assert!(matches!(second, TreeError::SecondSubvolume { .. }));
    for wrong in [incremental(2, 5, 7), incremental(2, 1, 8)] {
        let error = tree.apply(&wrong).unwrap_err();
        assert!(matches!(error, TreeError::OtherParent { .. }), "{error}");
    }
    tree.apply(&incremental(2, 1, 7)).unwrap();
    tree.apply(&incremental(3, 2, 9)).unwrap();
    let error = Tree::new(LIMIT).apply(&incremental(2, 1, 7)).unwrap_err();
    assert!(matches!(error, TreeError::NoParent { .. }), "{error}");
}

#[test]
fn memory_is_limited_by_names_and_link_targets() {
    let mut names = Tree::new(100_000);
    let results = (0..1000).map(|n: i32| names.apply(&mkfile(&n.to_string())));
    let error = results.filter_map(Result::err).next().unwrap();
    let expected = NameError::TooMany { limit: 100_000 };
    assert_eq!(error, TreeError::Name(expected.clone()));
    let (mut links, target) = (Tree::new(100_000), [b'x'; 4000]);
    let results = (0..50).map(|n: i32| {
        let at = n.to_string();
        let (path, target) = (path(&at), &target[..]);
        links.apply(&Command::Symlink {
            path,
            ino: 257,
            target,
        })
    });
    let error = results.filter_map(Result::err).next().unwrap();
    assert_eq!(error, TreeError::Name(expected));
    // File data costs nothing, nor does what is replaced.
    let (mut data, zeros) = (Tree::new(100_000), [0; 4096]);
    data.apply(&mkfile("f")).unwrap();
    for n in 0..1000 {
        let (path, offset) = (path("f"), n * 4096);
        let data_command = Command::Write {
            path,
            offset,
            data: &zeros[..],
        };
        data.apply(&data_command).unwrap();
        let path = self::path("l");
        data.apply(&Command::Symlink {
            path,
            ino: 258,
            target: &target[..],
        })
        .unwrap();
        data.apply(&CommandRef::Unlink { path }).unwrap();
    }
    assert_eq!(data.entries().nth(1).unwrap().size, Some(4_096_000));
}

#[test]
fn devices_have_numbers_of_32_bits() {
    let device = Device::new(0o060_644, 0x1234_5678);
    assert_eq!(
        (device.block, device.major, device.minor),
        (true, 0x456, 0x1_2378)
    );
    assert!(!Device::new(0o020_644, 0).block);
}
