//! Names, UUIDs, paths and layouts.

use std::path::Path;

use btrfs_receive::btrfs_sendstream::transform::{
    Apart, Crossing, Filter, Identity, Rewrite, Rules, Together, TransformErrorKind,
};
use btrfs_receive::btrfs_sendstream::{Command, StreamPath, SubvolumeName, Uuid};
use btrfs_testkit::{LoopFilesystem, Sender, Test, assert_same_tree, files, subvolume, test};

use super::support::{assert_received, commands, receive, sample, transformed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_chain_arrives_under_other_names),
        test!(a_part_of_a_tree_arrives, "+home/alice"),
        test!(a_part_of_a_tree_arrives, "-home/bob -cache"),
        test!(a_part_of_a_tree_arrives, "+home +cache/kept -home/bob"),
        test!(what_crosses_the_border_is_refused),
        test!(subvolumes_are_split_and_joined),
    ]
}

fn subvolume_name(text: &str) -> SubvolumeName {
    SubvolumeName::parse(text.to_owned().into()).unwrap()
}

fn a_chain_arrives_under_other_names() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let (first, second) = sample(&from);
    let identity = |number, ctransid| Identity {
        uuid: Some(Uuid::from_u128(number)),
        ctransid: Some(ctransid),
    };
    let full = Sender::new(&first).version(2).to_vec();
    let rewrite = Rewrite::new()
        .name(subvolume_name("one"))
        .own(identity(1, 11));
    receive(&transformed(&full, rewrite).unwrap(), to.path()).unwrap();
    let change = Sender::new(&second).parent(&first).version(2).to_vec();
    let has_clones = |command: &Command| matches!(command, Command::Clone(_));
    assert!(commands(&change).iter().any(has_clones));
    let rewrite = Rewrite::new()
        .name(subvolume_name("two"))
        .own(identity(2, 22))
        .parent(identity(1, 11));
    receive(&transformed(&change, rewrite).unwrap(), to.path()).unwrap();
    for (sent, name, number, ctransid) in [(&first, "one", 1, 11), (&second, "two", 2, 22)] {
        let received = to.path().join(name);
        assert_same_tree(sent, &received);
        let facts = subvolume::facts(&received);
        assert_eq!(
            facts.received_uuid,
            Some(Uuid::from_u128(number).to_string())
        );
        assert_eq!(facts.send_transid, ctransid);
    }
}

fn rules(text: &str) -> Rules {
    text.split_whitespace()
        .fold(Rules::default(), |rules, rule| {
            let (sign, path) = rule.split_at(1);
            let path = StreamPath::parse(path.as_bytes()).unwrap();
            match sign {
                "+" => rules.include(path),
                _ => rules.exclude(path),
            }
        })
}

fn build(root: &Path) {
    for directory in [
        "home/alice/mail",
        "home/bob/www",
        "cache/kept",
        "cache/lost",
        "etc",
    ] {
        let directory = root.join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        for name in ["a", "b"] {
            std::fs::write(directory.join(name), files::pattern(3, 9000, true)).unwrap();
        }
    }
    files::set_owner(&root.join("home"), 7, 7).unwrap();
    files::link(
        &root.join("home/alice/mail/a"),
        &root.join("home/alice/linked"),
    )
    .unwrap();
    // A directory with a higher number than what it holds.
    std::fs::create_dir(root.join("home/alice/later")).unwrap();
    std::fs::rename(
        root.join("home/alice/mail/b"),
        root.join("home/alice/later/b"),
    )
    .unwrap();
    std::fs::create_dir(root.join("cache/later")).unwrap();
    std::fs::rename(root.join("cache/lost/b"), root.join("cache/later/b")).unwrap();
    std::fs::create_dir(root.join("home/bob/later")).unwrap();
    std::fs::rename(root.join("home/bob/www/b"), root.join("home/bob/later/b")).unwrap();
}

fn change(root: &Path) {
    for directory in ["home/alice", "home/bob", "cache/kept", "etc"] {
        std::fs::write(root.join(directory).join("new"), b"new").unwrap();
    }
    std::fs::rename(root.join("home/alice/mail"), root.join("home/alice/post")).unwrap();
    std::fs::rename(root.join("home/bob/www"), root.join("home/bob/web")).unwrap();
    std::fs::remove_dir_all(root.join("home/alice/later")).unwrap();
    std::fs::remove_dir_all(root.join("cache/later")).unwrap();
    std::fs::remove_dir_all(root.join("home/bob/later")).unwrap();
    files::exchange(
        &root.join("home/alice/post/a"),
        &root.join("home/alice/new"),
    )
    .unwrap();
    files::write(&root.join("cache/kept/a"), 100, b"changed").unwrap();
    files::set_mode(&root.join("home"), 0o711).unwrap();
}

/// Removes what the rules leave out, and sets the times that this moves.
fn prune(root: &Path, original: &Path, rules: &Rules, path: &str) {
    let directory = root.join(path);
    for entry in std::fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let below = if path.is_empty() {
            name
        } else {
            format!("{path}/{name}")
        };
        let full = root.join(&below);
        let kept = rules.keeps(&StreamPath::parse(below.as_bytes()).unwrap());
        match (kept, full.is_dir()) {
            (true, true) => prune(root, original, rules, &below),
            (true, false) => {}
            (false, true) => std::fs::remove_dir_all(&full).unwrap(),
            (false, false) => std::fs::remove_file(&full).unwrap(),
        }
    }
    let times = std::fs::metadata(original.join(path)).unwrap();
    std::fs::File::open(&directory)
        .unwrap()
        .set_modified(times.modified().unwrap())
        .unwrap();
}

fn a_part_of_a_tree_arrives(text: &str) {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let rules = rules(text);
    let work = subvolume::create(&from.path().join("work"));
    build(&work);
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    change(&work);
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    for sender in [Sender::new(&first), Sender::new(&second).parent(&first)] {
        let stream = sender.version(2).to_vec();
        let stream = transformed(&stream, Filter::new(rules.clone())).unwrap();
        receive(&stream, to.path()).unwrap();
    }
    for snapshot in [&first, &second] {
        let name = snapshot.file_name().unwrap();
        let expected = from.path().join("expected");
        subvolume::snapshot_writable(snapshot, &expected);
        prune(&expected, snapshot, &rules, "");
        assert_same_tree(&expected, &to.path().join(name));
        subvolume::delete(&expected);
    }
}

fn what_crosses_the_border_is_refused() {
    let from = LoopFilesystem::new();
    let rules = rules("-out");
    let base = subvolume::create(&from.path().join("base"));
    for directory in ["in/d", "out/d"] {
        std::fs::create_dir_all(base.join(directory)).unwrap();
        std::fs::write(
            base.join(directory).join("f"),
            files::pattern(1, 200_000, false),
        )
        .unwrap();
    }
    // The first name of a file lies in the directory with the lowest number.
    std::fs::create_dir(base.join("in/later")).unwrap();
    std::fs::write(base.join("in/both"), b"one").unwrap();
    files::link(&base.join("in/both"), &base.join("out/both")).unwrap();
    let first = subvolume::snapshot_read_only(&base, &from.path().join("first"));
    let full = Sender::new(&first).version(1).to_vec();
    transformed(&full, Filter::new(rules.clone())).unwrap();
    type Change = fn(&Path);
    type Expected = fn(&Crossing) -> bool;
    let refused: [(&str, Change, Expected); 8] = [
        (
            "directory in",
            |root| std::fs::rename(root.join("out/d"), root.join("in/e")).unwrap(),
            |crossing| matches!(crossing, Crossing::MovesIn { .. }),
        ),
        (
            "directory out",
            |root| std::fs::rename(root.join("in/d"), root.join("out/e")).unwrap(),
            |crossing| matches!(crossing, Crossing::MovesOut { .. }),
        ),
        (
            "file in",
            |root| std::fs::rename(root.join("out/d/f"), root.join("in/f")).unwrap(),
            |crossing| matches!(crossing, Crossing::MovesIn { .. }),
        ),
        (
            "link in",
            |root| files::link(&root.join("out/d/f"), &root.join("in/f")).unwrap(),
            |crossing| matches!(crossing, Crossing::MovesIn { .. }),
        ),
        (
            "link out",
            |root| files::link(&root.join("in/d/f"), &root.join("out/f")).unwrap(),
            |crossing| matches!(crossing, Crossing::Shared { .. }),
        ),
        (
            "moved, and a link out",
            |root| {
                std::fs::rename(root.join("in/d/f"), root.join("in/moved")).unwrap();
                files::link(&root.join("in/moved"), &root.join("out/f")).unwrap();
                files::write(&root.join("in/moved"), 0, b"changed").unwrap();
            },
            |crossing| matches!(crossing, Crossing::Shared { .. }),
        ),
        (
            "moved, and was linked out before",
            |root| std::fs::rename(root.join("in/both"), root.join("in/later/both")).unwrap(),
            |crossing| matches!(crossing, Crossing::Shared { .. }),
        ),
        (
            "clone",
            |root| files::reflink(&root.join("out/d/f"), &root.join("in/f")).unwrap(),
            |crossing| matches!(crossing, Crossing::ClonesFrom { .. }),
        ),
    ];
    for (what, change, expected) in refused {
        let work = from.path().join("work");
        subvolume::snapshot_writable(&first, &work);
        change(&work);
        let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
        let stream = Sender::new(&second).parent(&first).version(1).to_vec();
        let error = transformed(&stream, Filter::new(rules.clone())).unwrap_err();
        match error.kind() {
            TransformErrorKind::Crossing { crossing, .. } if expected(crossing) => {}
            _ => panic!("{what}: {error}"),
        }
        assert!(error.position().is_some());
        subvolume::delete(&second);
        subvolume::delete(&work);
    }
    // A file that leaves is removed.
    let work = from.path().join("work");
    subvolume::snapshot_writable(&first, &work);
    std::fs::rename(work.join("in/d/f"), work.join("out/f")).unwrap();
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    let stream = Sender::new(&second).parent(&first).version(1).to_vec();
    let to = LoopFilesystem::new();
    for stream in [full, stream] {
        let stream = transformed(&stream, Filter::new(rules.clone())).unwrap();
        receive(&stream, to.path()).unwrap();
    }
    assert!(!to.path().join("second/in/d/f").exists());
    assert!(!to.path().join("second/out").exists());
}

fn subvolumes_are_split_and_joined() {
    let from = LoopFilesystem::new();
    let (first, second) = sample(&from);
    let both = || Sender::several([first.as_path(), second.as_path()]).version(2);
    let (apart, together) = (both().to_vec(), both().omit_end().to_vec());
    for stream in [&apart, &together] {
        let joined = transformed(stream, Together::new()).unwrap();
        assert!(joined == together);
        let split = transformed(stream, Apart::new()).unwrap();
        assert!(split == apart);
        for stream in [joined, split] {
            let to = LoopFilesystem::new();
            receive(&stream, to.path()).unwrap();
            for snapshot in [&first, &second] {
                let received = to.path().join(snapshot.file_name().unwrap());
                assert_received(snapshot, &received);
            }
        }
    }
}
