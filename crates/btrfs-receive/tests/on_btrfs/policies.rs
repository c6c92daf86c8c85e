//! What a caller may decide: names, what is left out, what becomes of the
//! rest of a failed receive, and sources that are vouched for.

use std::path::{Path, PathBuf};

use btrfs_receive::btrfs_sendstream::{SubvolumeName, Uuid};
use btrfs_receive::{
    BtrfsDestination, BtrfsDestinationBuilder, Cause, Event, Excluded, Observer, OnError,
    OpenError, Options, Outcome, ReceiveError, Receiver, Report, XattrPattern,
};
use btrfs_testkit::{
    Compared, LoopFilesystem, Sample, Sender, Test, assert_same_tree_in, files, raw, subvolume,
    test,
};

use crate::support::{Pair, Script, assert_received, receive, sample};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(excluded_attributes_are_counted_and_the_rest_is_complete),
        test!(excluded_flags_are_counted),
        test!(what_is_unknown_is_counted),
        test!(the_name_is_the_callers, false),
        test!(the_name_is_the_callers, true),
        test!(one_name_serves_one_subvolume),
        test!(what_is_unfinished_is_deleted),
        test!(what_cannot_be_deleted_stays),
        test!(what_was_there_before_is_never_deleted),
        test!(a_parent_that_is_vouched_for, false),
        test!(a_parent_that_is_vouched_for, true),
        test!(a_clone_source_that_is_vouched_for),
        test!(what_cannot_be_a_source_is_refused),
    ]
}

fn receive_with(options: Options, stream: &[u8], into: &Path) -> Result<Report, ReceiveError> {
    let destination = BtrfsDestination::open(into).unwrap();
    Receiver::with_options(destination, options).receive(stream, &mut ())
}

fn receive_from(
    builder: BtrfsDestinationBuilder,
    stream: &[u8],
    into: &Path,
) -> Result<Report, ReceiveError> {
    Receiver::new(builder.open(into).unwrap()).receive(stream, &mut ())
}

fn excluding(pattern: &str) -> Options {
    let mut options = Options::default();
    options.exclude_xattrs = vec![XattrPattern::parse(pattern.as_bytes()).unwrap()];
    options
}

fn named(name: &str) -> Options {
    let mut options = Options::default();
    options.name = Some(SubvolumeName::parse(name.to_owned().into()).unwrap());
    options
}

fn deleting() -> Options {
    let mut options = Options::default();
    options.on_error = OnError::Delete;
    options
}

fn excluded_attributes_are_counted_and_the_rest_is_complete() {
    let pair = Pair::new();
    let (first, second) = sample(&pair.from, Sample::default());
    for (snapshot, parent) in [(&first, None), (&second, Some(&first))] {
        let mut sender = Sender::new(snapshot).version(2);
        if let Some(parent) = parent {
            sender = sender.parent(parent);
        }
        let stream = sender.to_vec();
        let report = receive_with(excluding("user.*"), &stream, pair.to.path()).unwrap();
        let [subvolume] = &report.subvolumes[..] else {
            panic!("{report:?}");
        };
        assert_ne!(subvolume.excluded.xattrs, 0);
        assert_eq!(report.excluded, subvolume.excluded);
        assert_eq!(subvolume.outcome, Outcome::FinishedWithOmissions);
        assert_eq!((report.finished, report.abandoned), (1, 0));
        let received = pair.to.path().join(snapshot.file_name().unwrap());
        let facts = subvolume::facts(&received);
        assert!(facts.read_only && facts.received_uuid.is_some());
        let compared = Compared {
            without_xattrs: vec![b"user.".to_vec()],
            ..Compared::default()
        };
        assert_same_tree_in(snapshot, &received, &compared);
    }
    // A pattern that matches nothing leaves nothing out.
    let other = subvolume::create(&pair.received("other"));
    let stream = Sender::new(&first).version(2).to_vec();
    let report = receive_with(excluding("security.selinux"), &stream, &other).unwrap();
    assert_eq!(report.subvolumes[0].outcome, Outcome::Finished);
    assert_received(&first, &other.join("first"));
}

fn excluded_flags_are_counted() {
    let to = LoopFilesystem::new();
    const NODUMP: u64 = 1 << 8;
    let stream = Script::full("flags")
        .file("a")
        .attributes("a", NODUMP)
        .end();
    let mut options = Options::default();
    options.exclude_file_attributes = true;
    let report = receive_with(options, &stream, to.path()).unwrap();
    assert_eq!(report.excluded.file_attributes, 1);
    assert_eq!(report.subvolumes[0].outcome, Outcome::FinishedWithOmissions);
    let file = std::fs::File::open(to.path().join("flags/a")).unwrap();
    let flags = rustix::fs::ioctl_getflags(&file).unwrap();
    assert!(!flags.contains(rustix::fs::IFlags::NODUMP));
}

fn what_is_unknown_is_counted() {
    let to = LoopFilesystem::new();
    let known = Script::full("some").file("a").end();
    // In front of END, which is the last 10 bytes.
    let (begin, end) = known.split_at(known.len() - 10);
    let extra = raw::RawStream::empty()
        .payload(777, b"")
        .payload(11, &[15, 0, 1, 0, b'a', 99, 0, 1, 0, b'x'])
        .into_bytes();
    let stream = [begin, &extra, end].concat();
    assert!(receive_with(Options::default(), &stream, to.path()).is_err());
    subvolume::delete(&to.path().join("some"));
    let mut options = Options::default();
    options.allow_unknown = true;
    let report = receive_with(options, &stream, to.path()).unwrap();
    let Excluded {
        unknown_commands,
        unknown_attributes,
        ..
    } = report.excluded;
    assert_eq!((unknown_commands, unknown_attributes), (1, 1));
    assert_eq!(report.subvolumes[0].outcome, Outcome::FinishedWithOmissions);
    assert!(!to.path().join("some/a").exists());
}

fn the_name_is_the_callers(incremental: bool) {
    let pair = Pair::new();
    let (first, second) = sample(&pair.from, Sample::for_reference());
    let mut sent = (first.clone(), Sender::new(&first));
    if incremental {
        receive(&Sender::new(&first).to_vec(), pair.to.path());
        sent = (second.clone(), Sender::new(&second).parent(&first));
    }
    let report = receive_with(named("chosen"), &sent.1.to_vec(), pair.to.path()).unwrap();
    let subvolume = &report.subvolumes[0];
    assert_eq!(subvolume.name.as_bytes(), b"chosen");
    let name = sent.0.file_name().unwrap().to_str().unwrap();
    assert_eq!(subvolume.sent_name.as_bytes(), name.as_bytes());
    assert_received(&sent.0, &pair.received("chosen"));
    assert!(!pair.received(name).exists());
}

fn one_name_serves_one_subvolume() {
    let pair = Pair::new();
    let (first, second) = sample(&pair.from, Sample::for_reference());
    let stream = Sender::several([first.as_path(), &second]).to_vec();
    let error = receive_with(named("chosen"), &stream, pair.to.path()).unwrap_err();
    let failure = error.first_failure.unwrap();
    assert!(matches!(*failure.cause, Cause::SecondSubvolume));
    assert_eq!(&failure.path[..], b"second");
    assert_eq!((error.report.finished, error.report.abandoned), (1, 1));
    assert_received(&first, &pair.received("chosen"));
    assert!(!pair.received("second").exists());
}

fn what_is_unfinished_is_deleted() {
    let pair = Pair::new();
    let (first, second) = sample(&pair.from, Sample::default());
    let full = Sender::new(&first).version(2).to_vec();
    // Cut off, in the middle and before END; then one command that fails.
    for cut in [full.len() / 2, full.len() - 10] {
        let error = receive_with(deleting(), &full[..cut], pair.to.path()).unwrap_err();
        assert_eq!(error.report.subvolumes[0].outcome, Outcome::Deleted);
        assert!(!pair.received("first").exists());
    }
    receive(&full, pair.to.path());
    let difference = Sender::new(&second).parent(&first).version(2).to_vec();
    let cut = &difference[..difference.len() - 10];
    let error = receive_with(deleting(), cut, pair.to.path()).unwrap_err();
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::Deleted);
    assert!(!pair.received("second").exists());
    // Of two, the one that is complete stays.
    let other = subvolume::create(&pair.received("other"));
    let both = [&full[..], cut].concat();
    let error = receive_with(deleting(), &both, &other).unwrap_err();
    assert_eq!(error.report.finished, 1);
    assert_received(&first, &other.join("first"));
    assert!(!other.join("second").exists());
}

/// Puts a subvolume into the one that is being received.
struct Nesting(PathBuf, bool);

impl Observer for Nesting {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::SubvolumeCreated { .. } => drop(subvolume::create(&self.0.join("nested"))),
            Event::NotDeleted { cause, .. } => {
                self.1 = true;
                assert!(matches!(cause, Cause::System { .. }), "{cause}");
            }
            _ => {}
        }
    }
}

fn what_cannot_be_deleted_stays() {
    let to = LoopFilesystem::new();
    let stream = Script::full("sub").file("a").truncate("b", 1).end();
    let destination = BtrfsDestination::open(to.path()).unwrap();
    let mut observer = Nesting(to.path().join("sub"), false);
    let error = Receiver::with_options(destination, deleting())
        .receive(&stream[..], &mut observer)
        .unwrap_err();
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::Abandoned);
    assert!(observer.1);
    assert!(to.path().join("sub/nested").exists());
}

fn what_was_there_before_is_never_deleted() {
    let pair = Pair::new();
    let (first, _) = sample(&pair.from, Sample::for_reference());
    let full = Sender::new(&first).to_vec();
    // A leftover, something else, and a complete one.
    let leftover = subvolume::create(&pair.received("first"));
    std::fs::write(leftover.join("mine"), b"mine").unwrap();
    let error = receive_with(deleting(), &full, pair.to.path()).unwrap_err();
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::NotCreated);
    assert_eq!(std::fs::read(leftover.join("mine")).unwrap(), b"mine");
    subvolume::delete(&leftover);
    receive(&full, pair.to.path());
    let error = receive_with(deleting(), &full[..full.len() / 2], pair.to.path()).unwrap_err();
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::AlreadyComplete);
    assert_received(&first, &pair.received("first"));
}

/// The parent on this side lost its received UUID, as it does when it is made
/// writable with `btrfs property set -f`.
fn a_parent_that_is_vouched_for(writable: bool) {
    let pair = Pair::new();
    let (first, second) = sample(&pair.from, Sample::default());
    receive(&Sender::new(&first).version(2).to_vec(), pair.to.path());
    let parent = pair.received("parent");
    match writable {
        true => subvolume::snapshot_writable(&pair.received("first"), &parent),
        false => {
            // A read-only snapshot of a writable one has no received UUID.
            let between =
                subvolume::snapshot_writable(&pair.received("first"), &pair.received("between"));
            subvolume::snapshot_read_only(&between, &parent)
        }
    };
    subvolume::delete(&pair.received("first"));
    let difference = Sender::new(&second).parent(&first).version(2).to_vec();
    assert!(receive_with(Options::default(), &difference, pair.to.path()).is_err());

    let builder = BtrfsDestination::builder().parent(&parent);
    let report = receive_from(builder, &difference, pair.to.path()).unwrap();
    let used = report.subvolumes[0].parent.as_ref().unwrap();
    assert!(used.unverified);
    assert_eq!(used.path.as_deref(), Some(&b"parent"[..]));
    assert_received(&second, &pair.received("second"));
}

fn a_clone_source_that_is_vouched_for() {
    let to = LoopFilesystem::new();
    let data = files::pattern(3, 65_536, false);
    let source = subvolume::create(&to.path().join("source"));
    std::fs::write(source.join("file"), &data).unwrap();
    let wanted = Uuid::from_u128(77);
    let stream = Script::full("clone")
        .file("a")
        .clone_from((wanted, 5), "file", "a", (0, 0, 65_536))
        .end();
    let open = BtrfsDestination::builder;
    // It is not known by that UUID.
    let error = receive_from(open().clone_source(&source, None), &stream, to.path()).unwrap_err();
    assert!(matches!(
        *error.first_failure.unwrap().cause,
        Cause::NoSource(_)
    ));
    subvolume::delete(&to.path().join("clone"));
    let builder = open().clone_source(&source, Some(wanted));
    let report = receive_from(builder, &stream, to.path()).unwrap();
    assert!(report.subvolumes[0].clone_sources[0].unverified);
    assert_eq!(std::fs::read(to.path().join("clone/a")).unwrap(), data);
    subvolume::delete(&to.path().join("clone"));
    // By its own UUID, although it is writable.
    let own = Uuid::parse_str(&subvolume::facts(&source).uuid).unwrap();
    let stream = Script::full("clone")
        .file("a")
        .clone_from((own, 5), "file", "a", (0, 0, 65_536))
        .end();
    let builder = open().clone_source(&source, None);
    let report = receive_from(builder, &stream, to.path()).unwrap();
    assert!(report.subvolumes[0].clone_sources[0].unverified);
}

fn what_cannot_be_a_source_is_refused() {
    let to = LoopFilesystem::new();
    let elsewhere = LoopFilesystem::new();
    let directory = to.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let missing = to.path().join("missing");
    for path in [&directory, &missing, elsewhere.path()] {
        for builder in [
            BtrfsDestination::builder().parent(path),
            BtrfsDestination::builder().clone_source(path, None),
            BtrfsDestination::builder().clone_source(path, Some(Uuid::from_u128(1))),
        ] {
            let error = builder.open(to.path()).unwrap_err();
            assert!(
                matches!(&error, OpenError::Source { path: named, .. } if named == path),
                "{error}"
            );
        }
    }
}
