//! The names against the model of the kernel.

use proptest::prelude::*;

use super::*;
use crate::memory::Tree;
use crate::plan::op::{NewInode, Op};

const LIMIT: u64 = 1 << 24;

fn path(text: &str) -> StreamPath {
    StreamPath::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn create(at: &str, kind: NewInode) -> Op {
    Op::Create {
        path: path(at),
        created_as: None,
        kind,
        mode: None,
    }
}

fn some_path() -> impl Strategy<Value = StreamPath> {
    let names = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
    names.prop_map(|names| path(&names.join("/")))
}

fn some_op() -> impl Strategy<Value = Op> {
    let kinds = prop::sample::select(vec![
        NewInode::File,
        NewInode::Directory,
        NewInode::Directory,
        NewInode::Symlink {
            target: Bytes::from_static(b"a"),
        },
        NewInode::Fifo { mode: 0o10_644 },
    ]);
    prop_oneof![
        4 => (some_path(), kinds).prop_map(|(path, kind)| Op::Create {
            path, created_as: None, kind, mode: None,
        }),
        2 => (some_path(), some_path()).prop_map(|(path, to)| Op::Rename { path, to }),
        1 => (some_path(), some_path()).prop_map(|(path, existing)| Op::Link { path, existing }),
        1 => some_path().prop_map(|path| Op::Unlink { path }),
        1 => some_path().prop_map(|path| Op::Rmdir { path }),
        1 => some_path().prop_map(|path| Op::Chmod { path, mode: 0o600 }),
        1 => some_path().prop_map(|path| Op::Write {
            path, offset: 0, data: vec![Bytes::from_static(b"x")],
        }),
    ]
}

/// What the model of the kernel makes of an operation.
fn model(tree: &mut Tree, op: &Op) -> bool {
    match op {
        Op::Create { path, kind, .. } => tree.create(path, kind, 0o700),
        Op::Rename { path, to } => tree.rename(path, to),
        Op::Link { path, existing } => tree.link(path, existing),
        Op::Unlink { path } => tree.unlink(path),
        Op::Rmdir { path } => tree.rmdir(path),
        Op::Chmod { path, mode } => tree.chmod(path, *mode),
        Op::Write { path, offset, data } => tree.write(path, *offset, &data[0]),
        other => panic!("{other:?}"),
    }
    .is_ok()
}

proptest! {
    #[test]
    fn a_new_subvolume_fails_where_the_kernel_does(
        ops in prop::collection::vec(some_op(), 1..60)
    ) {
        let mut tree = Tree::new(LIMIT);
        let mut names = NameTree::new(true, LIMIT);
        for (index, op) in ops.iter().enumerate() {
            let expected = model(&mut tree, op);
            let found = names.apply(op);
            prop_assert_eq!(found.is_ok(), expected, "{} {:?}: {:?}", index, op, found);
        }
    }

    /// Of a parent nothing is known: what the kernel does with it is never
    /// called wrong.
    #[test]
    fn a_snapshot_raises_no_false_alarm(
        before in prop::collection::vec(some_op(), 1..40),
        after in prop::collection::vec(some_op(), 1..40),
    ) {
        let mut tree = Tree::new(LIMIT);
        for op in &before {
            // rename(2) does nothing if both are names of one file, which
            // the stream cannot tell. Senders rename no files.
            if !matches!(op, Op::Link { .. }) {
                model(&mut tree, op);
            }
        }
        let mut names = NameTree::new(false, LIMIT).with_origins();
        for op in &after {
            if model(&mut tree, op) {
                let found = names.apply(op);
                prop_assert!(found.is_ok(), "{op:?}: {found:?}");
            }
        }
    }
}

#[test]
fn what_was_taken_away_costs_nothing() {
    let mut names = NameTree::new(true, LIMIT);
    let empty = names.used();
    for _ in 0..3 {
        names.apply(&create("d", NewInode::Directory)).unwrap();
        names.apply(&create("d/f", NewInode::File)).unwrap();
        names
            .apply(&Op::Link {
                path: path("l"),
                existing: path("d/f"),
            })
            .unwrap();
        names.apply(&Op::Unlink { path: path("d/f") }).unwrap();
        names.apply(&Op::Rmdir { path: path("d") }).unwrap();
        names.apply(&Op::Unlink { path: path("l") }).unwrap();
        assert_eq!(names.used(), empty);
    }
    assert!(names.inodes.len() <= 3);
}

#[test]
fn memory_is_limited() {
    let mut names = NameTree::new(true, 10_000);
    let results = (0..1000).map(|n| names.apply(&create(&n.to_string(), NewInode::File)));
    let error = results.filter_map(Result::err).next().unwrap();
    assert_eq!(error, NameError::TooMany { limit: 10_000 });
}

#[test]
fn a_parent_is_taken_at_its_word() {
    let mut names = NameTree::new(false, LIMIT);
    let unlink = |at| Op::Unlink { path: path(at) };
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
