//! What is left out, under all its names.

use btrfs_sendstream::transform::{Crossing, Filter, Rules, TransformError, TransformErrorKind};
use btrfs_sendstream::{Command, Item, Version};

use super::{mkfile, path, rename, subvol, through, utimes, write};

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
