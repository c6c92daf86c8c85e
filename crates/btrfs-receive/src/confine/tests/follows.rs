//! The directory cache follows inodes: a root with a cache and one that
//! resolves every path afresh make the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::fstat;

use super::{Fixture, path, with_both};
use crate::confine::Resolver;
use crate::confine::cache::PathCache;

/// The sequence that makes a receiver with descriptors by path text write
/// into the wrong file, exit 0.
#[test]
fn a_path_means_another_directory_after_renames() {
    with_both(|fixture| {
        let root = &fixture.root;
        root.mkdir(&path("d"), 0o755).unwrap();
        root.mkdir(&path("z"), 0o755).unwrap();
        root.create_file(&path("d/old"), 0o600).unwrap();
        root.rename(&path("d"), &path("e"), true).unwrap();
        root.rename(&path("z"), &path("d"), true).unwrap();
        root.create_file(&path("d/new"), 0o600).unwrap();
        root.create_file(&path("e/too"), 0o600).unwrap();
        let names = |at: &str| {
            let names = fs::read_dir(fixture.inside(at)).unwrap();
            let mut names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names("d"), ["new"]);
        assert_eq!(names("e"), ["old", "too"]);
    });
}

/// One change, on names chosen so that they collide often.
#[derive(Clone, Debug)]
enum Change {
    Mkdir(String),
    Create(String),
    Rename(String, String),
    Rmdir(String),
    Unlink(String),
    Open(String),
}

fn some_path() -> impl Strategy<Value = String> {
    // "a!" and "a-" sort between "a" and "a/".
    let name = prop::sample::select(vec!["a", "b", "a!", "a-", "ab"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn some_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => some_path().prop_map(Change::Mkdir),
        2 => some_path().prop_map(Change::Create),
        4 => (some_path(), some_path()).prop_map(|(from, to)| Change::Rename(from, to)),
        1 => some_path().prop_map(Change::Rmdir),
        1 => some_path().prop_map(Change::Unlink),
        3 => some_path().prop_map(Change::Open),
    ]
}

fn carry_out(fixture: &Fixture, change: &Change) -> bool {
    let root = &fixture.root;
    match change {
        Change::Mkdir(at) => root.mkdir(&path(at), 0o755).is_ok(),
        Change::Create(at) => root.create_file(&path(at), 0o600).is_ok(),
        Change::Rename(from, to) => root.rename(&path(from), &path(to), true).is_ok(),
        Change::Rmdir(at) => root.rmdir(&path(at)).is_ok(),
        Change::Unlink(at) => root.unlink(&path(at)).is_ok(),
        Change::Open(at) => match root.directory(&path(at)) {
            Ok(directory) => {
                let meta = fixture.inside(at).metadata().unwrap();
                assert_eq!(fstat(&*directory).unwrap().st_ino, meta.ino(), "{at}");
                true
            }
            Err(_) => false,
        },
    }
}

fn tree(top: &Path, at: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(top.join(at)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{at}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            tree(top, &format!("{name}/"), found);
        }
        found.push(name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cached_and_fresh_make_the_same_tree(
        changes in prop::collection::vec(some_change(), 1..80),
        capacity in 1..6_usize,
    ) {
        let cached = Fixture::new(Resolver::Openat2);
        *cached.root.cache.borrow_mut() = PathCache::new(capacity);
        let fresh = Fixture::new(Resolver::Walk);
        for change in &changes {
            fresh.root.cache.borrow_mut().clear();
            prop_assert_eq!(carry_out(&cached, change), carry_out(&fresh, change));
        }
        let list = |fixture: &Fixture| {
            let mut found = Vec::new();
            tree(&fixture.inside(""), "", &mut found);
            found.sort();
            found
        };
        prop_assert_eq!(list(&cached), list(&fresh));
    }

    /// Against a map of every path to its directory, with no bound.
    #[test]
    fn the_cache_never_gives_another_directory(
        steps in prop::collection::vec((0..4_u8, some_path(), some_path()), 1..200),
        capacity in prop_oneof![1..8_usize, Just(1000)],
    ) {
        let mut cache = PathCache::new(capacity);
        let mut model: BTreeMap<String, usize> = BTreeMap::new();
        for (number, (what, one, two)) in steps.into_iter().enumerate() {
            let below = |path: &str, at: &str| path == at || path.starts_with(&format!("{at}/"));
            match what {
                0 => {
                    model.insert(one.clone(), number);
                    cache.insert(one.as_bytes(), number);
                }
                1 => {
                    model.retain(|path, _| !below(path, &one));
                    cache.remove(one.as_bytes());
                }
                // The kernel refuses to move a directory below itself, or
                // onto one that it lies in and that is thus not empty.
                2 if !below(&two, &one) && !below(&one, &two) => {
                    let (moved, mut stay): (BTreeMap<_, _>, _) =
                        model.into_iter().partition(|(path, _)| below(path, &one));
                    stay.retain(|path, _| !below(path, &two));
                    let renamed = moved
                        .into_iter()
                        .map(|(path, id)| (format!("{two}{}", &path[one.len()..]), id));
                    stay.extend(renamed);
                    model = stay;
                    cache.rename(one.as_bytes(), two.as_bytes());
                }
                _ => {
                    if let Some(id) = cache.get(one.as_bytes()) {
                        prop_assert_eq!(model.get(&one), Some(&id));
                    }
                }
            }
            prop_assert!(cache.len() <= capacity);
            for path in model.keys() {
                if let Some(id) = cache.get(path.as_bytes()) {
                    prop_assert_eq!(model[path], id);
                }
            }
            // With room for everything, nothing may be missing either.
            if capacity > number {
                prop_assert_eq!(cache.len(), model.len());
            }
        }
    }
}
