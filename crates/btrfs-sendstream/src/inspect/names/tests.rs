//! Names that come, go, and cost memory. That a tree fails where the kernel
//! does is tested beside the model of the kernel, in `btrfs-receive`.

use super::*;
use crate::CommandRef;

const LIMIT: u64 = 1 << 24;

fn path(text: &str) -> StreamPath<&[u8]> {
    StreamPath::parse(text.as_bytes()).unwrap()
}

fn mkfile(at: &str) -> CommandRef<'_> {
    let ino = 257;
    CommandRef::Mkfile {
        path: path(at),
        ino,
    }
}

fn unlink(at: &str) -> CommandRef<'_> {
    CommandRef::Unlink { path: path(at) }
}

#[test]
fn what_was_taken_away_costs_nothing() {
    let mut names = NameTree::new(true, LIMIT);
    let empty = names.used();
    for _ in 0..3 {
        let commands = [
            CommandRef::Mkdir {
                path: path("d"),
                ino: 256,
            },
            mkfile("d/f"),
            CommandRef::Link {
                path: path("l"),
                existing: path("d/f"),
            },
            unlink("d/f"),
            CommandRef::Rmdir { path: path("d") },
            unlink("l"),
        ];
        for command in &commands {
            names.apply(command).unwrap();
        }
        assert_eq!(names.used(), empty);
    }
    assert!(names.inodes.len() <= 3);
}

#[test]
fn memory_is_limited() {
    let mut names = NameTree::new(true, 10_000);
    let results = (0..1000).map(|n: i32| names.apply(&mkfile(&n.to_string())));
    let error = results.filter_map(Result::err).next().unwrap();
    assert_eq!(error, NameError::TooMany { limit: 10_000 });
}

#[test]
fn a_parent_is_taken_at_its_word() {
    let mut names = NameTree::new(false, LIMIT);
    names.apply(&unlink("d/gone")).unwrap();
    let missing = NameError::Missing {
        path: Bytes::from_static(b"d/gone"),
    };
    assert_eq!(names.apply(&unlink("d/gone")), Err(missing));
    // It was a directory when something was in it.
    let is_directory = NameError::IsDirectory {
        path: Bytes::from_static(b"d"),
    };
    assert_eq!(names.apply(&unlink("d")), Err(is_directory));
}
