//! The documents name only what exists: options, crates, files and links.

mod threats;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Options in the documents that are those of other programs.
const OTHER_OPTIONS: &[(&str, &[&str])] = &[
    (
        "btrfs",
        &["--compressed-data", "--no-data", "--proto", "--verbose"],
    ),
    ("kernels/run", &["--part"]),
    ("Synology's btrfs", &["--without-syno-features"]),
    ("rsync", &["--modify-window", "--numeric-ids"]),
    (
        "cargo",
        &[
            "--all-targets",
            "--baseline-rev",
            "--bench",
            "--example",
            "--install",
            "--lib",
            "--locked",
            "--path",
            "--root",
            "--test",
            "--workspace",
        ],
    ),
];

/// What is called like a crate of ours and is something else.
const OTHER_NAMES: &[&str] = &["btrfs-progs", "btrfs-progs-btrbk"];

/// The pages that say where things are in the repository.
const MAPS: &[&str] = &["CONTRIBUTING.md", "docs/architecture.md"];

fn workspace() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file and directory of the repository, relative to its root.
fn everything() -> Vec<String> {
    fn walk(root: &Path, below: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(root.join(below)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if name == ".git" || name == "target" {
                continue;
            }
            let path = below.join(name);
            found.push(path.to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&workspace(), Path::new(""), &mut found);
    found
}

/// The Markdown files of the repository.
fn pages() -> Vec<String> {
    let mut pages = everything();
    pages.retain(|path| path.ends_with(".md"));
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

/// The words of a page, without the punctuation around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "`()[]|,;\"'*".contains(c))
        .map(|word| word.trim_end_matches(['.', ':', '/']))
}

/// Every word that begins with two hyphens, up to its value.
fn options(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let options = words(text).filter_map(|word| {
        let name = word.strip_prefix("--")?;
        let name = name.split(|c| !is_name(c)).next().unwrap_or_default();
        name.starts_with(|c: char| c.is_ascii_lowercase())
            .then(|| format!("--{name}"))
    });
    options.collect()
}

/// The options that a manual page explains. Other tests compare the pages
/// with the tables that the commands parse.
fn explained(page: &str) -> BTreeSet<String> {
    let text = read(page).replace("\\-", "-");
    let heads = text.lines().filter(|line| line.starts_with("\\fB-"));
    let heads: Vec<_> = heads
        .map(|line| line.replace("\\fB", " ").replace("\\fR", " "))
        .collect();
    options(&heads.join("\n"))
}

#[test]
fn every_option_they_name_exists() {
    let mut known = explained("docs/btrfs-recv-rs.8");
    known.extend(explained("docs/sendstream.1"));
    known.extend(explained("docs/btrfs-lineage.8"));
    assert!(known.len() > 40, "{known:?}");
    let others = OTHER_OPTIONS.iter().flat_map(|(_, options)| *options);
    known.extend(others.map(|&option| option.to_owned()));
    let mut unknown = Vec::new();
    for page in pages() {
        // The changelog names options of the past too.
        if page == "README.md" || page == "CONTRIBUTING.md" || page.starts_with("docs/") {
            let named = options(&read(&page));
            let named = named.difference(&known);
            unknown.extend(named.map(|option| format!("{page}: {option}")));
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn every_file_they_name_exists() {
    let all = everything();
    // Files are named by their path, or by the end of it.
    let exists = |word: &str| {
        let end = format!("/{word}");
        all.iter().any(|path| path == word || path.ends_with(&end))
    };
    let is_file = |word: &&str| {
        let ends = [".rs", ".md", ".toml", ".txt", ".h"];
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        word.chars().all(plain)
            && !word.starts_with('/')
            && !word.starts_with("..")
            && !word.contains("//")
            && (word.contains('/') || ends.iter().any(|end| word.ends_with(end)))
    };
    let mut missing = Vec::new();
    for page in MAPS {
        let text = read(page);
        let files: BTreeSet<_> = words(&text).filter(is_file).collect();
        assert!(files.len() > 5, "{page}: {files:?}");
        let unknown = files.into_iter().filter(|file| !exists(file));
        missing.extend(unknown.map(|file| format!("{page}: {file}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_crate_they_name_exists_and_is_named() {
    let mut crates = BTreeSet::new();
    for entry in fs::read_dir(workspace().join("crates")).unwrap() {
        crates.insert(entry.unwrap().file_name().into_string().unwrap());
    }
    let is_crate = |word: &&str| {
        (word.starts_with("btrfs-") || word.starts_with("sendstream-"))
            && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            && !OTHER_NAMES.contains(word)
    };
    for page in MAPS.iter().chain(&["README.md"]) {
        let text = read(page);
        let named: BTreeSet<_> = words(&text).filter(is_crate).map(str::to_owned).collect();
        let missing: Vec<_> = named.difference(&crates).collect();
        assert!(missing.is_empty(), "{page}: {missing:?}");
    }
    for page in MAPS {
        let text = read(page);
        let named: BTreeSet<_> = words(&text).map(str::to_owned).collect();
        let unnamed: Vec<_> = crates.difference(&named).collect();
        assert!(unnamed.is_empty(), "{page} does not name {unnamed:?}");
    }
}

/// The anchor of each heading of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        heading
            .chars()
            .filter(|&c| c.is_alphanumeric() || " -_".contains(c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_resolves() {
    let mut broken = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = read(&page);
        let directory = Path::new(&page).parent().unwrap();
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                workspace().join(&page)
            } else {
                workspace().join(directory).join(path)
            };
            let found = if anchor.is_empty() {
                target.exists()
            } else {
                fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor))
            };
            if !found {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(links > 20, "{links}");
    assert!(broken.is_empty(), "{broken:#?}");
}
