//! The names that a verifier follows, against the model of the kernel.

use btrfs_model::Tree;
use btrfs_receive::NewInode;
use btrfs_sendstream::inspect::{Checker, Problem, VerifyReport};
use btrfs_sendstream::{
    Bytes, Command, CommandBuf, Item, Position, StreamPath, SubvolumeName, Uuid, Version,
};
use btrfs_testkit::Test;
use proptest::prelude::*;

const LIMIT: u64 = 1 << 24;

fn path(text: &str) -> StreamPath {
    StreamPath::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn some_path() -> impl Strategy<Value = StreamPath> {
    let names = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
    names.prop_map(|names| path(&names.join("/")))
}

fn some_creation() -> impl Strategy<Value = CommandBuf> {
    (some_path(), 0..5).prop_map(|(path, kind)| {
        let ino = 257;
        match kind {
            0 => Command::Mkfile { path, ino },
            1 | 2 => Command::Mkdir { path, ino },
            3 => Command::Symlink {
                path,
                ino,
                target: Bytes::from_static(b"a"),
            },
            _ => Command::Mkfifo {
                path,
                ino,
                rdev: 0,
                mode: 0o10_644,
            },
        }
    })
}

fn some_command() -> impl Strategy<Value = CommandBuf> {
    prop_oneof![
        4 => some_creation(),
        2 => (some_path(), some_path()).prop_map(|(path, to)| Command::Rename { path, to }),
        1 => (some_path(), some_path()).prop_map(|(path, existing)| Command::Link {
            path, existing,
        }),
        1 => some_path().prop_map(|path| Command::Unlink { path }),
        1 => some_path().prop_map(|path| Command::Rmdir { path }),
        1 => some_path().prop_map(|path| Command::Chmod { path, mode: 0o600 }),
        1 => some_path().prop_map(|path| Command::Write {
            path, offset: 0, data: Bytes::from_static(b"x"),
        }),
    ]
}

/// What the model of the kernel makes of a command.
fn model(tree: &mut Tree, command: &CommandBuf) -> bool {
    match command {
        Command::Mkfile { path, .. } => tree.create(path, &NewInode::File, 0o700),
        Command::Mkdir { path, .. } => tree.create(path, &NewInode::Directory, 0o700),
        Command::Symlink { path, target, .. } => {
            let target = target.clone();
            tree.create(path, &NewInode::Symlink { target }, 0o700)
        }
        Command::Mkfifo { path, .. } => {
            tree.create(path, &NewInode::Fifo { mode: 0o10_644 }, 0o700)
        }
        Command::Rename { path, to } => tree.rename(path, to),
        Command::Link { path, existing } => tree.link(path, existing),
        Command::Unlink { path } => tree.unlink(path),
        Command::Rmdir { path } => tree.rmdir(path),
        Command::Chmod { path, .. } => tree.chmod(path, 0o600),
        Command::Write { path, offset, data } => tree.write(path, *offset, data),
        other => panic!("{other:?}"),
    }
    .is_ok()
}

/// What a verifier finds in these commands of a subvolume, counting them from
/// 0.
fn verified(parent: bool, commands: impl IntoIterator<Item = CommandBuf>) -> VerifyReport {
    let mut checker = Checker::default();
    let name = SubvolumeName::parse(Bytes::from_static(b"s")).unwrap();
    let (uuid, ctransid) = (Uuid::from_u128(1), 7);
    let first = if parent {
        Command::Snapshot {
            name,
            uuid,
            ctransid,
            parent_uuid: Uuid::from_u128(2),
            parent_ctransid: 6,
        }
    } else {
        Command::Subvol {
            name,
            uuid,
            ctransid,
        }
    };
    let mut at = Position::default();
    checker.item(&Item::<Bytes>::Header(Version::V1), at, 17);
    checker.item(&Item::Command(first), at, 10);
    for command in commands {
        checker.item(&Item::Command(command), at, 10);
        at.command += 1;
    }
    checker.item(&Item::<Bytes>::Command(Command::End), at, 10);
    checker.finish()
}

proptest! {
    fn a_new_subvolume_fails_where_the_kernel_does(
        commands in prop::collection::vec(some_command(), 1..60)
    ) {
        let mut tree = Tree::new(LIMIT);
        let fail = |(index, command)| (!model(&mut tree, command)).then_some(index as u64);
        let expected: Vec<_> = commands.iter().enumerate().filter_map(fail).collect();
        let report = verified(false, commands.iter().cloned());
        let names = |problem: &Problem| matches!(problem, Problem::Name(_));
        prop_assert!(report.findings.iter().all(|it| names(&it.problem)));
        let found: Vec<_> = report.findings.iter().map(|it| it.at.command).collect();
        prop_assert_eq!(found, expected, "{:?}: {:#?}", commands, report.findings);
    }

    /// Of a parent nothing is known: what the kernel does with it is never
    /// called wrong.
    fn a_snapshot_raises_no_false_alarm(
        before in prop::collection::vec(some_command(), 1..40),
        after in prop::collection::vec(some_command(), 1..40),
    ) {
        let mut tree = Tree::new(LIMIT);
        for command in &before {
            // rename(2) does nothing if both are names of one file, which
            // the stream cannot tell. Senders rename no files.
            if !matches!(command, Command::Link { .. }) {
                model(&mut tree, command);
            }
        }
        let possible = after.iter().filter(|command| model(&mut tree, command));
        let report = verified(true, possible.cloned());
        prop_assert!(report.is_good(), "{:#?}", report.findings);
    }
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere(
            "a_new_subvolume_fails_where_the_kernel_does",
            a_new_subvolume_fails_where_the_kernel_does,
        ),
        Test::anywhere(
            "a_snapshot_raises_no_false_alarm",
            a_snapshot_raises_no_false_alarm,
        ),
    ]
}
