//! `--extract --only`: paths of stored streams, each compared with the extraction of all of
//! the streams. Random histories are in the tests of `btrfs-receive`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_testkit::{Entry, Kind, Tree};
use tempfile::TempDir;

fn stored(name: &str) -> PathBuf {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    streams.join(name)
}

/// An archive of a full stream, and an incremental one that is compressed.
fn archive() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name| directory.path().join(name);
    fs::copy(stored("full.v2.stream"), at("z.stream")).unwrap();
    let packed = Command::new("gzip")
        .arg("-c")
        .arg(stored("incr.v2.stream"))
        .output();
    fs::write(at("a.stream.gz"), packed.unwrap().stdout).unwrap();
    directory
}

fn extract(args: &[&OsStr], into: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"))
        .arg("--extract")
        .args(args)
        .arg(into)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Extracts paths of an archive; what is said if that succeeds, or fails.
#[track_caller]
fn only(paths: &[&str], archive: &Path, more: &[&str], into: &Path, success: bool) -> String {
    let paths = paths.iter().map(|path| format!("--only={path}"));
    let chain = format!("--chain={}", archive.display());
    let args: Vec<_> = paths
        .chain([chain, "--decompress".to_owned()])
        .chain(more.iter().map(|&it| it.to_owned()))
        .collect();
    let args: Vec<_> = args.iter().map(OsStr::new).collect();
    let output = extract(&args, into);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), success, "{args:?}: {text}");
    text
}

/// Both subvolumes, extracted as a whole.
fn whole() -> TempDir {
    let into = tempfile::tempdir().unwrap();
    for name in ["full.v2.stream", "incr.v2.stream"] {
        let output = extract(&["-f".as_ref(), stored(name).as_ref()], into.path());
        assert!(output.status.success(), "{output:?}");
    }
    into
}

/// What is there, except for what depends on which other names there are.
fn records(at: &Path) -> BTreeMap<Vec<u8>, Entry> {
    let mut entries = Tree::read(at).entries;
    for entry in entries.values_mut() {
        entry.links = 0;
        entry.first_link.clear();
        // Reading moves it.
        entry.atime = entry.mtime;
        if entry.kind == Kind::Directory {
            entry.size = 0;
        }
    }
    entries
}

fn is_in(path: &[u8], directory: &[u8]) -> bool {
    let rest = path.strip_prefix(directory);
    directory.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Of a whole extraction, what paths select.
fn selected(all: &BTreeMap<Vec<u8>, Entry>, paths: &[&[u8]]) -> BTreeMap<Vec<u8>, Entry> {
    let is_selected = |path: &[u8]| {
        let mut paths = paths.iter();
        paths.any(|chosen| is_in(path, chosen) || is_in(chosen, path))
    };
    let all = all.iter().filter(|(path, _)| is_selected(path));
    all.map(|(path, entry)| (path.clone(), entry.clone()))
        .collect()
}

#[test]
fn each_path_alone_is_as_in_the_whole() {
    let (archive, whole) = (archive(), whole());
    let chain = format!("--chain={}", archive.path().display());
    for name in ["s1", "s2"] {
        let all = records(&whole.path().join(name));
        assert!(all.len() > 20);
        for path in all.keys() {
            let into = tempfile::tempdir().unwrap();
            let mut option = b"--only=".to_vec();
            option.extend_from_slice(if path.is_empty() { b"." } else { path });
            let subvolume = format!("--subvolume={name}");
            let args = [
                OsStr::from_bytes(&option),
                chain.as_ref(),
                "--decompress".as_ref(),
                subvolume.as_ref(),
            ];
            let output = extract(&args, into.path());
            assert!(output.status.success(), "{output:?}");
            let found = records(&into.path().join(name));
            let shown = path.escape_ascii();
            assert!(found == selected(&all, &[path]), "{shown}: {found:#?}");
            // Nothing else, and no record.
            assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1, "{shown}");
        }
    }
}

#[test]
fn several_paths_with_their_links() {
    let (archive, whole) = (archive(), whole());
    let all = records(&whole.path().join("s2"));
    let tree = Tree::read(&whole.path().join("s2"));
    // A file with several names, in different directories.
    let linked = tree
        .entries
        .iter()
        .find(|(path, entry)| entry.kind == Kind::File && entry.first_link != **path);
    let (second, entry) = linked.unwrap();
    let paths = [&entry.first_link, second, second];
    let paths = paths.map(|path| std::str::from_utf8(path).unwrap());
    let into = tempfile::tempdir().unwrap();
    only(&paths, archive.path(), &[], into.path(), true);
    let chosen = paths.map(str::as_bytes);
    let found = records(&into.path().join("s2"));
    assert_eq!(found, selected(&all, &chosen));
    let found = Tree::read(&into.path().join("s2"));
    assert_eq!(found.get(second).unwrap().first_link, entry.first_link);
    assert_eq!(found.get(second).unwrap().links, 2);
    // Everything, under another name.
    only(&["."], archive.path(), &["--name=all"], into.path(), true);
    let everything = Tree::read(&into.path().join("all"));
    let links = |tree: &Tree| -> BTreeSet<_> {
        let entries = tree.entries.iter();
        entries
            .map(|(path, it)| (path.clone(), it.first_link.clone(), it.links))
            .collect()
    };
    assert_eq!(links(&everything), links(&tree));
    assert_eq!(records(&into.path().join("all")), all);
}

#[test]
fn a_part_is_no_parent() {
    let archive = archive();
    let into = tempfile::tempdir().unwrap();
    let full = stored("full.v2.stream");
    let args = ["-f".as_ref(), full.as_os_str()];
    assert!(extract(&args, into.path()).status.success());
    let records = into.path().join(".btrfs-extract");
    let record = fs::read_dir(&records)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    // As on a filesystem that does not tell one directory from another.
    let text = fs::read_to_string(&record).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("born"));
    fs::write(&record, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let incremental = stored("incr.v2.stream");
    let increment = ["-f".as_ref(), incremental.as_os_str()];
    // An extraction that exists is left alone.
    let options = ["--subvolume=s1"];
    let text = only(&["d"], archive.path(), &options, into.path(), false);
    assert!(text.contains("s1"), "{text}");
    fs::remove_dir_all(into.path().join("s1")).unwrap();
    only(&["d"], archive.path(), &options, into.path(), true);
    let output = extract(&increment, into.path());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no complete extraction"), "{text}");
    assert_eq!(fs::read_dir(&records).unwrap().count(), 0);
}

#[test]
fn nothing_is_left_of_what_cannot_be_selected() {
    let archive = archive();
    let into = tempfile::tempdir().unwrap();
    let cut = tempfile::tempdir().unwrap();
    let whole = fs::read(stored("full.v2.stream")).unwrap();
    let at = cut.path().join("cut.stream");
    fs::write(&at, &whole[..whole.len() - 30]).unwrap();
    let (incremental, mixed) = (stored("incr.v2.stream"), stored("concat-mixed.stream"));
    for (paths, from, options, expected) in [
        (
            &["d/none"][..],
            archive.path(),
            &[][..],
            "d/none does not exist in subvolume s2",
        ),
        (
            &["d", "none"],
            archive.path(),
            &[],
            "the nearest directory is .",
        ),
        (
            &["none"],
            archive.path(),
            &[],
            "sendstream list prints the paths",
        ),
        (
            &["d"],
            archive.path(),
            &["--subvolume=s3"],
            "no stream begins with a subvolume s3",
        ),
        (&["d"], &at, &[], "cut.stream: "),
        (
            &["d"],
            &incremental,
            &[],
            "name the streams back to the full one",
        ),
        (
            &["d"],
            &mixed,
            &["--subvolume=s1"],
            "contains several subvolumes",
        ),
        (
            &["d"],
            Path::new("/dev/null"),
            &[],
            "--only reads each stream twice",
        ),
        (
            &["d"],
            Path::new("/nonexistent"),
            &[],
            "cannot open /nonexistent",
        ),
        (
            &["d"],
            archive.path(),
            &["--decompress=none"],
            "was not read",
        ),
    ] {
        let text = only(paths, from, options, into.path(), false);
        assert!(text.contains(expected), "{paths:?}, {expected}: {text}");
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0, "{text}");
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let full = stored("full.v2.stream");
    let file = format!("-f{}", full.display());
    for (args, expected) in [
        (&["--extract", "--only=d"][..], "--only needs -f or --chain"),
        (
            &["--extract", "--only=d", &file, "-e"],
            "--only and -e cannot be used together",
        ),
        (
            &["--extract", "--only=d", &file, "--buffer=1M"],
            "--only and --buffer cannot be used together",
        ),
        (
            &["--extract", "--subvolume=s1", &file],
            "--subvolume needs --only",
        ),
        (
            &["--extract", "--chain=/x"],
            "--extract and --chain cannot be used together",
        ),
        (&["--only=d", &file], "option '--only' needs --extract"),
        (
            &["--chain=/x", "--only=d"],
            "option '--only' needs --extract",
        ),
        (
            &["--extract", "--only=../x", &file],
            "invalid value for --only: '../x'",
        ),
        (
            &["--extract", "--only=", &file],
            "invalid value for --only: ''",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"));
        let output = command.args(args).arg("/nonexistent").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.contains(expected),
            "{args:?}: {text}"
        );
    }
}

/// In a sandbox, with JSON, by an option of each kind that an extraction has.
#[test]
fn other_options_still_work() {
    let archive = archive();
    let into = tempfile::tempdir().unwrap();
    let list = into.path().join("list");
    let report = format!("--extract-report={}", list.display());
    let options = ["--sandbox", "--json", "-v", &report, "--name=part"];
    only(&["d"], archive.path(), &options, into.path(), true);
    assert!(into.path().join("part/d").is_dir() && list.is_file());
    let options = ["--exclude-xattr=*", "--name=bare", "--on-error=delete"];
    only(&["d"], archive.path(), &options, into.path(), true);
    let entries = Tree::read(&into.path().join("bare")).entries;
    assert!(entries.values().all(|entry| entry.xattrs.is_empty()));
    // What is not of this extraction is not deleted.
    let taken = into.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("part.incomplete"), "").unwrap();
    let options = ["--name=part", "--on-error=delete"];
    only(&["d"], archive.path(), &options, &taken, false);
    assert!(taken.join("part.incomplete").is_file());
}
