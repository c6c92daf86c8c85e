//! `docs/threats.md` says which test shows what: those tests have to exist.

use std::fs;
use std::path::{Path, PathBuf};

use btrfs_testkit::corpus;

fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn page() -> String {
    fs::read_to_string(workspace().join("docs/threats.md")).unwrap()
}

/// Every Rust source below a directory, in one string.
fn sources(directory: &Path, all: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|name| name == "rs") {
            all.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// What stands between backticks in the rows of tables.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2))
}

#[test]
fn every_test_it_names_exists() {
    let mut all = String::new();
    sources(&workspace().join("crates"), &mut all);
    let page = page();
    let is_test = |word: &&str| {
        word.matches('_').count() > 1
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
    };
    let names: Vec<_> = quoted(&page).filter(is_test).collect();
    assert!(names.len() > 40, "{names:?}");
    let missing: Vec<_> = names
        .into_iter()
        .filter(|name| !all.contains(&format!("fn {name}(")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn every_stream_it_names_exists() {
    let cases = corpus::cases();
    let page = page();
    for pattern in quoted(&page).filter(|word| word.ends_with("-*")) {
        let prefix = pattern.trim_end_matches('*');
        let found = cases.iter().any(|case| case.name.starts_with(prefix));
        assert!(found, "{pattern}");
    }
    assert!(page.contains(&format!("has {} streams", cases.len())));
}
