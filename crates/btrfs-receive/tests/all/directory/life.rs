//! From the first command to the record: what is complete, what is left
//! behind otherwise, and what serves as a parent.

use std::fs;
use std::path::Path;

use btrfs_receive::{
    Barrier, Cause, Conflict, DirectoryDestination, Event, ExtractionProblem, Observer, OnError,
    Outcome, ReceiveError, Receiver,
};
use btrfs_testkit::raw::{OWN_UUID, RawStream, attr};
use btrfs_testkit::{Test, Tree};
use tempfile::TempDir;

use super::support::{extract, names, records, try_extract};

/// A stream of `testdata/streams`.
fn stored(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    fs::read(directory.join(name)).unwrap()
}

fn place() -> TempDir {
    TempDir::new_in(btrfs_testkit::scratch_dir()).unwrap()
}

#[track_caller]
fn cause(result: Result<super::support::Extracted, Box<ReceiveError>>) -> Cause {
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
    assert_eq!(by, Conflict::IncompleteExtraction);
    assert_eq!(names(place.path()), ["s.incomplete"]);
    fs::remove_dir_all(place.path().join("s.incomplete")).unwrap();
    extract(&whole, place.path());
    extract(&child, place.path());
    assert_eq!(names(place.path()), ["child", "s"]);
    assert_eq!(records(place.path()).len(), 2);
    assert_eq!(fs::read(place.path().join("child/f")).unwrap(), b"data");
}

/// Another process moves it away and puts something else in its place.
fn another_directory_of_its_name_is_not_complete() {
    let place = place();
    let whole = RawStream::new(1).mkfile("f").write("f", 0, b"data").end();
    let (built, moved) = (
        place.path().join("s.incomplete"),
        place.path().join("moved"),
    );
    let mut observer = Created(|| {
        fs::rename(&built, &moved).unwrap();
        fs::create_dir(&built).unwrap();
    });
    let destination = DirectoryDestination::open(place.path()).unwrap();
    let mut receiver = Receiver::new(destination);
    let error = receiver
        .receive(&whole.into_bytes()[..], &mut observer)
        .unwrap_err();
    let why = *error.first_failure.unwrap().cause;
    let Cause::Escape { path, barrier } = why else {
        panic!("{why}");
    };
    assert_eq!(
        (&path[..], barrier),
        (&b"s.incomplete"[..], Barrier::Replaced)
    );
    assert_eq!(names(place.path()), ["moved", "s.incomplete"]);
    assert!(records(place.path()).is_empty());
    assert_eq!(fs::read(moved.join("f")).unwrap(), b"data");
}

/// Calls back once a directory is created.
struct Created<F>(F);

impl<F: FnMut()> Observer for Created<F> {
    fn event(&mut self, event: Event<'_>) {
        if let Event::SubvolumeCreated { .. } = event {
            (self.0)();
        }
    }
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
    taken(Conflict::NoSubvolume);
    assert_eq!(fs::read(place.path().join("s")).unwrap(), b"somebody's");
    fs::remove_file(place.path().join("s")).unwrap();
    extract(&stream, place.path());
    taken(Conflict::Same);
    for name in [".btrfs-extract", ".BTRFS-extract"] {
        let stream = RawStream::header(1).subvol(name).mkfile("f").end();
        let why = cause(try_extract(&stream.into_bytes(), place.path()));
        assert!(
            matches!(
                why,
                Cause::NameTaken {
                    by: Conflict::Records
                }
            ),
            "{why}"
        );
    }
    assert_eq!(names(place.path()), ["s"]);
}

/// A whole subvolume called `name`: the one that [`incremental`] builds on, as
/// of this transid, with one block in `f`.
fn state(name: &str, transid: u64, content: &[u8]) -> Vec<u8> {
    let attributes = [
        attr::path(name),
        attr::uuid(OWN_UUID),
        attr::ctransid(transid),
    ];
    let stream = RawStream::header(1).command(1, attributes);
    let stream = stream.mkfile("f").write("f", 0, &content.repeat(4096));
    stream.end().into_bytes()
}

/// The sender made its subvolume writable, changed it, and sealed it again: it
/// has the same UUID, and another content.
fn another_state_of_the_parent_is_refused() {
    let child = incremental("child").end().into_bytes();
    // An incremental stream, and a full one that clones from it.
    let clones = RawStream::header(1)
        .command(
            1,
            [attr::path("clones"), attr::uuid([3; 16]), attr::ctransid(9)],
        )
        .mkfile("f")
        .clone_block("f", OWN_UUID, "f");
    let clones = clones.end().into_bytes();
    let (old, new) = (state("old", 5, b"o"), state("new", 6, b"n"));
    for order in [[&old, &new], [&new, &old]] {
        let place = place();
        for stream in order {
            extract(stream, place.path());
        }
        for (name, stream) in [("child", &child), ("clones", &clones)] {
            let report = extract(stream, place.path()).report;
            let content = fs::read(place.path().join(name).join("f")).unwrap();
            assert!(content == b"o".repeat(4096), "{name}");
            let used = &report.subvolumes[0];
            let source = used.parent.as_ref().or(used.clone_sources.first());
            assert_eq!(source.unwrap().path.as_deref(), Some(&b"old"[..]));
        }
    }
    let place = place();
    extract(&new, place.path());
    for stream in [&child, &clones] {
        let why = cause(try_extract(stream, place.path()));
        let text = why.to_string();
        let Cause::BadExtraction { name, problem, .. } = why else {
            panic!("{text}");
        };
        let expected = ExtractionProblem::OtherState {
            found: 6,
            wanted: 5,
        };
        assert_eq!((&name[..], problem), (&b"new"[..], expected));
    }
    assert_eq!(names(place.path()), ["clones.incomplete", "new"]);
    // Its name is not taken by the same subvolume.
    let why = cause(try_extract(&state("new", 5, b"o"), place.path()));
    let is_other = matches!(
        why,
        Cause::NameTaken {
            by: Conflict::NoSubvolume
        }
    );
    assert!(is_other, "{why}");
    // As the error advises where both are one snapshot.
    let record = &records(place.path())[0];
    let text = fs::read_to_string(record).unwrap();
    fs::write(record, text.replace("transid 6", "transid 5")).unwrap();
    extract(&child, place.path());
}

/// Two subvolumes on the sender were received from one subvolume, so that a
/// stream has one UUID for both.
fn a_clone_from_another_state_of_oneself_is_found() {
    let place = place();
    extract(&state("old", 5, b"o"), place.path());
    let attributes = [attr::path("new"), attr::uuid(OWN_UUID), attr::ctransid(6)];
    let stream = RawStream::header(1).command(1, attributes);
    let stream = stream
        .mkfile("f")
        .write("f", 0, &b"n".repeat(4096))
        .mkfile("g")
        .clone_block("g", OWN_UUID, "f");
    extract(&stream.end().into_bytes(), place.path());
    let content = fs::read(place.path().join("new/g")).unwrap();
    assert!(content == b"o".repeat(4096));
}

/// A later state, and leftovers of a write.
fn what_is_beside_a_record_is_in_nobodys_way() {
    let place = place();
    extract(&state("s", 5, b"o"), place.path());
    let record = records(place.path()).remove(0);
    extract(&state("later", 6, b"n"), place.path());
    let beside = |end: &str| record.with_extension(end);
    fs::write(beside("5.new"), "cut").unwrap();
    fs::create_dir(beside("links")).unwrap();
    extract(&incremental("child").end().into_bytes(), place.path());
    let content = fs::read(place.path().join("child/f")).unwrap();
    assert!(content == b"o".repeat(4096));
}

/// Within one tick of the kernel's clock, with the inode number of the one
/// before it, or on a clock that was set back.
fn a_directory_made_in_the_same_moment_is_another_one() {
    let place = place();
    extract(&state("s", 5, b"o"), place.path());
    let record = &records(place.path())[0];
    let text = fs::read_to_string(record).unwrap();
    let born = text.lines().find(|line| line.starts_with("born")).unwrap();
    let handle = born.split(' ').nth(3).expect("a handle");
    let s = place.path().join("s");
    fs::rename(&s, place.path().join("moved")).unwrap();
    fs::create_dir(&s).unwrap();
    let made = fs::metadata(&s).unwrap().created().unwrap();
    let made = made.duration_since(std::time::UNIX_EPOCH).unwrap();
    let same = format!("born {} {} {handle}", made.as_secs(), made.subsec_nanos());
    fs::write(record, text.replace(born, &same)).unwrap();
    let why = cause(try_extract(
        &incremental("child").end().into_bytes(),
        place.path(),
    ));
    let Cause::BadExtraction { problem, .. } = why else {
        panic!("{why}");
    };
    assert_eq!(problem, ExtractionProblem::Replaced);
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
        .losses(|_| Err(std::io::Error::other("no room")))
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
            "another_directory_of_its_name_is_not_complete",
            another_directory_of_its_name_is_not_complete,
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
            "another_state_of_the_parent_is_refused",
            another_state_of_the_parent_is_refused,
        ),
        Test::anywhere(
            "a_clone_from_another_state_of_oneself_is_found",
            a_clone_from_another_state_of_oneself_is_found,
        ),
        Test::anywhere(
            "what_is_beside_a_record_is_in_nobodys_way",
            what_is_beside_a_record_is_in_nobodys_way,
        ),
        Test::anywhere(
            "a_directory_made_in_the_same_moment_is_another_one",
            a_directory_made_in_the_same_moment_is_another_one,
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
