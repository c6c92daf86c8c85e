//! From the first command to the record: what is complete, what is left
//! behind otherwise, and what serves as a parent.

use std::fs;
use std::path::Path;

use btrfs_receive::{
    Cause, DirectoryDestination, ExtractionProblem, Occupant, OnError, Outcome, ReceiveError,
    Receiver,
};
use btrfs_testkit::raw::{OWN_UUID, RawStream, attr};
use btrfs_testkit::{Test, Tree};
use tempfile::TempDir;

use crate::support::{extract, names, records, try_extract};

/// A stream of `testdata/streams`.
fn stored(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    fs::read(directory.join(name)).unwrap()
}

fn place() -> TempDir {
    TempDir::new_in(btrfs_testkit::scratch_dir()).unwrap()
}

#[track_caller]
fn cause(result: Result<crate::support::Extracted, Box<ReceiveError>>) -> Cause {
    let error = result.err().expect("an error");
    *error.first_failure.expect("a failure").cause
}

/// SNAPSHOT of the subvolume that other streams here make, under a name.
fn incremental(name: &str) -> RawStream {
    let attributes = [
        attr::path(name),
        attr::uuid([2; 16]),
        attr::ctransid(9),
        attr::clone_uuid(OWN_UUID),
        attr::clone_ctransid(5),
    ];
    RawStream::header(1).command(2, attributes)
}

fn stored_streams_arrive() {
    let place = place();
    for (file, parts) in [
        ("full.v2.stream", 1),
        ("incr.v2.stream", 1),
        ("incr-clone.v2.stream", 1),
        ("encoded-zstd.v2.stream", 1),
        ("encoded-lzo.v2.stream", 1),
        ("encoded-zlib.v2.stream", 1),
    ] {
        let extracted = match try_extract(&stored(file), place.path()) {
            Ok(extracted) => extracted,
            Err(error) => panic!("{file}: {error}"),
        };
        assert_eq!(extracted.report.finished, parts, "{file}");
    }
    let complete = records(place.path()).len();
    assert_eq!(complete, names(place.path()).len());
}

fn unfinished_work_is_obvious_and_nobodys_parent() {
    let place = place();
    let whole = RawStream::new(1).mkfile("f").write("f", 0, b"data").end();
    let whole = whole.into_bytes();
    let cut = &whole[..whole.len() - 10];
    try_extract(cut, place.path()).err().unwrap();
    assert_eq!(names(place.path()), ["s.incomplete"]);
    assert!(records(place.path()).is_empty());
    let child = incremental("child").end().into_bytes();
    let why = cause(try_extract(&child, place.path()));
    assert!(matches!(why, Cause::NotExtracted { .. }), "{why}");
    let why = cause(try_extract(&whole, place.path()));
    let Cause::NameTaken { by } = why else {
        panic!("{why}");
    };
    assert_eq!(by, Occupant::IncompleteExtraction);
    assert_eq!(names(place.path()), ["s.incomplete"]);
    fs::remove_dir_all(place.path().join("s.incomplete")).unwrap();
    extract(&whole, place.path());
    extract(&child, place.path());
    assert_eq!(names(place.path()), ["child", "s"]);
    assert_eq!(records(place.path()).len(), 2);
    assert_eq!(fs::read(place.path().join("child/f")).unwrap(), b"data");
}

fn names_that_are_taken_are_left_alone() {
    let place = place();
    let stream = RawStream::new(1).mkfile("f").end().into_bytes();
    fs::write(place.path().join("s"), b"somebody's").unwrap();
    let taken = |by| {
        let why = cause(try_extract(&stream, place.path()));
        assert!(
            matches!(why, Cause::NameTaken { by: found } if found == by),
            "{why}"
        );
    };
    taken(Occupant::NoSubvolume);
    assert_eq!(fs::read(place.path().join("s")).unwrap(), b"somebody's");
    fs::remove_file(place.path().join("s")).unwrap();
    extract(&stream, place.path());
    taken(Occupant::Same);
    for name in [".btrfs-extract", ".BTRFS-extract"] {
        let stream = RawStream::header(1).subvol(name).mkfile("f").end();
        let why = cause(try_extract(&stream.into_bytes(), place.path()));
        assert!(
            matches!(
                why,
                Cause::NameTaken {
                    by: Occupant::Records
                }
            ),
            "{why}"
        );
    }
    assert_eq!(names(place.path()), ["s"]);
}

fn what_is_not_the_parent_any_more_is_refused() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    let stream = RawStream::new(1).mkfile("f").end().into_bytes();
    let child = incremental("child").end().into_bytes();
    extract(&stream, place.path());
    let refused = |expected| {
        let why = cause(try_extract(&child, place.path()));
        let Cause::BadExtraction { problem, .. } = why else {
            panic!("{why}");
        };
        assert_eq!(problem, expected);
        assert!(!at("child").exists() && !at("child.incomplete").exists());
    };
    fs::rename(at("s"), at("elsewhere")).unwrap();
    refused(ExtractionProblem::Gone);
    fs::create_dir(at("s")).unwrap();
    refused(ExtractionProblem::Replaced);
    fs::remove_dir(at("s")).unwrap();
    std::os::unix::fs::symlink("elsewhere", at("s")).unwrap();
    refused(ExtractionProblem::Gone);
    fs::remove_file(at("s")).unwrap();
    fs::rename(at("elsewhere"), at("s")).unwrap();
    let record = &records(place.path())[0];
    let text = fs::read_to_string(record).unwrap();
    fs::write(record, &text[..text.len() - 3]).unwrap();
    refused(ExtractionProblem::DamagedRecord);
    fs::write(record, text.replace("name s", "name ..%2fs")).unwrap();
    refused(ExtractionProblem::DamagedRecord);
    // As the error advises for a copy.
    let lines: Vec<_> = text.lines().filter(|l| !l.starts_with("born")).collect();
    fs::write(record, lines.join("\n") + "\n").unwrap();
    extract(&child, place.path());
}

/// Between two extractions somebody puts links into the first, and where the
/// second works.
fn links_that_were_planted_lead_nowhere() {
    let outside = place();
    fs::write(outside.path().join("f"), b"outside").unwrap();
    let first = RawStream::new(1)
        .mkdir("d")
        .mkfile("d/f")
        .write("d/f", 0, b"inside");
    let first = first.end().into_bytes();
    let second = incremental("child")
        .write("d/f", 0, b"new")
        .end()
        .into_bytes();
    let uuid = |place: &TempDir| {
        let record = &records(place.path())[0];
        record.file_name().unwrap().to_str().unwrap().to_owned()
    };
    let attempt = |plant: &dyn Fn(&TempDir)| {
        let place = place();
        extract(&first, place.path());
        plant(&place);
        let error = try_extract(&second, place.path()).err();
        assert_eq!(fs::read(outside.path().join("f")).unwrap(), b"outside");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        error.map(|it| it.to_string())
    };
    let link = |to: &Path, at: &Path| std::os::unix::fs::symlink(to, at).unwrap();
    let refused = [
        attempt(&|place| {
            fs::remove_file(place.path().join("s/d/f")).unwrap();
            link(&outside.path().join("f"), &place.path().join("s/d/f"));
        }),
        attempt(&|place| {
            fs::remove_dir_all(place.path().join("s/d")).unwrap();
            link(outside.path(), &place.path().join("s/d"));
        }),
        attempt(&|place| link(outside.path(), &place.path().join("child"))),
        attempt(&|place| link(outside.path(), &place.path().join("child.incomplete"))),
        attempt(&|place| {
            let records = place.path().join(".btrfs-extract");
            fs::rename(&records, place.path().join("records")).unwrap();
            link(Path::new("records"), &records);
        }),
        attempt(&|place| {
            let uuid = uuid(place);
            let records = place.path().join(".btrfs-extract");
            fs::remove_file(records.join(&uuid)).unwrap();
            link(&outside.path().join("f"), &records.join(&uuid));
        }),
    ];
    for (number, error) in refused.iter().enumerate() {
        assert!(error.is_some(), "{number}");
    }
}

fn a_list_that_cannot_be_written_completes_nothing() {
    let place = place();
    let path = || attr::path("f");
    let stream = RawStream::new(2)
        .mkfile("f")
        .command(24, [path(), attr::fileattr(0x10)]);
    let destination = DirectoryDestination::builder()
        .not_kept(|_| Err(std::io::Error::other("no room")))
        .open(place.path())
        .unwrap();
    let mut receiver = Receiver::new(destination);
    let stream = stream.end().into_bytes();
    let error = receiver.receive(&stream[..], &mut ()).unwrap_err();
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::Abandoned);
    let why = *error.first_failure.unwrap().cause;
    assert!(matches!(why, Cause::ListNotWritten { .. }), "{why}");
    assert_eq!(names(place.path()), ["s.incomplete"]);
    assert!(records(place.path()).is_empty());
}

fn what_failed_is_deleted_on_request() {
    let place = place();
    let mut options = btrfs_receive::Options::default();
    options.on_error = OnError::Delete;
    let stream = RawStream::new(1)
        .mkdir("d")
        .mkfile("d/f")
        .symlink("l", "/")
        .command(18, [attr::path("d"), attr::mode(0)])
        .mkfile("d/f");
    let destination = DirectoryDestination::open(place.path()).unwrap();
    let mut receiver = Receiver::with_options(destination, options);
    let stream = stream.end().into_bytes();
    let error = receiver.receive(&stream[..], &mut ()).unwrap_err();
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::Deleted);
    assert_eq!(names(place.path()), Vec::<String>::new());
}

fn the_longest_names_work() {
    let place = place();
    for (name, stream) in [
        (
            "n".repeat(255),
            RawStream::header(1).subvol("n".repeat(255)),
        ),
        ("m".repeat(255), incremental(&"m".repeat(255))),
    ] {
        extract(&stream.end().into_bytes(), place.path());
        assert!(place.path().join(name).is_dir());
    }
}

fn several_names_of_a_file_survive_copies() {
    let place = place();
    let link = |new: &str| [attr::path(new), attr::path_link("a/one")];
    let stream = RawStream::new(1)
        .mkdir("a")
        .mkdir("b")
        .mkfile("a/one")
        .write("a/one", 0, b"linked")
        .symlink("a/link", "target")
        .command(10, link("b/two"))
        .command(10, link("three"))
        .command(10, [attr::path("b/link"), attr::path_link("a/link")]);
    extract(&stream.end().into_bytes(), place.path());
    extract(&incremental("child").end().into_bytes(), place.path());
    let tree = Tree::read(&place.path().join("child"));
    for path in ["a/one", "b/two", "three"] {
        let entry = tree.get(path).unwrap();
        assert_eq!((entry.links, &entry.first_link[..]), (3, &b"a/one"[..]));
    }
    assert_eq!(tree.get("b/link").unwrap().first_link, b"a/link");
    let left: Vec<_> = records(place.path());
    assert_eq!(left.len(), 2, "{left:?}");
}

fn deep_trees_are_copied() {
    let place = place();
    let mut stream = RawStream::new(1);
    let mut path = String::new();
    for depth in 0..300 {
        path += if depth > 0 { "/d" } else { "d" };
        stream = stream.mkdir(&path).mkfile(format!("{path}/f"));
    }
    extract(&stream.end().into_bytes(), place.path());
    extract(&incremental("child").end().into_bytes(), place.path());
    let tree = Tree::read(&place.path().join("child"));
    assert_eq!(tree.entries.len(), 601);
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::on_btrfs("stored_streams_arrive", stored_streams_arrive),
        Test::anywhere(
            "unfinished_work_is_obvious_and_nobodys_parent",
            unfinished_work_is_obvious_and_nobodys_parent,
        ),
        Test::anywhere(
            "names_that_are_taken_are_left_alone",
            names_that_are_taken_are_left_alone,
        ),
        Test::anywhere(
            "what_is_not_the_parent_any_more_is_refused",
            what_is_not_the_parent_any_more_is_refused,
        ),
        Test::anywhere(
            "links_that_were_planted_lead_nowhere",
            links_that_were_planted_lead_nowhere,
        ),
        Test::anywhere(
            "a_list_that_cannot_be_written_completes_nothing",
            a_list_that_cannot_be_written_completes_nothing,
        ),
        Test::anywhere(
            "what_failed_is_deleted_on_request",
            what_failed_is_deleted_on_request,
        ),
        Test::anywhere("the_longest_names_work", the_longest_names_work),
        Test::anywhere(
            "several_names_of_a_file_survive_copies",
            several_names_of_a_file_survive_copies,
        ),
        Test::anywhere("deep_trees_are_copied", deep_trees_are_copied),
    ]
}
