//! Parents and clone sources, wherever they lie.

use std::path::{Path, PathBuf};
use std::process::Command;

use btrfs_receive::btrfs_lineage::{Candidate, Choice};
use btrfs_receive::dry_run::{DryRun, DryRunReport, FoundSource};
use btrfs_receive::{BtrfsDestination, Cause, Options, ReceiveError, Receiver, Report, SourceId};
use btrfs_sendstream::{Bytes, SubvolumeName};
use btrfs_testkit::raw::{OWN_UUID, RawStream, attr};
use btrfs_testkit::{LoopFilesystem, Mount, Sender, Test, files, subvolume, test};

use crate::support::{Pair, Script, assert_received};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_parent_outside_the_mounted_subvolume),
        test!(a_parent_behind_a_bind_mount),
        test!(a_parent_above_the_default_subvolume),
        test!(a_parent_nested_in_another_subvolume),
        test!(a_parent_that_moved_and_was_renamed),
        test!(a_parent_by_way_of_a_third_host),
        test!(a_parent_received_several_times),
        // Linux 5.10 sends data where later kernels send clones.
        test!(a_parent_that_the_caller_chose).needs_version(2),
        test!(a_writable_parent_that_the_caller_insisted_on),
        test!(a_writable_parent_is_refused),
        test!(a_parent_that_is_gone),
        test!(a_parent_outside_the_jail),
        // Linux 5.10 sends data where later kernels send clones.
        test!(a_clone_source_beside_the_parent).needs_version(2),
        test!(a_clone_source_is_called_what_it_is),
        test!(a_clone_from_another_state_of_the_subvolume_itself),
        test!(a_dry_run_takes_the_input_for_received),
        // Linux 5.10 sends data where later kernels send clones.
        test!(a_dry_run_sees_what_is_in_the_way).needs_version(2),
        test!(a_dry_run_takes_the_options_of_the_receive),
        test!(what_is_there_already_needs_no_parent),
    ]
}

/// Receives, and compares with what a dry run said before.
pub(crate) fn try_receive(stream: &[u8], into: &Path) -> Result<Report, Box<ReceiveError>> {
    let before = std::fs::read_dir(into).unwrap().count();
    let forecast = DryRun::open(into).unwrap().run(stream);
    assert_eq!(std::fs::read_dir(into).unwrap().count(), before);
    let result = crate::support::try_receive(stream, into);
    assert_predicted(&forecast, result.as_ref().map_err(|error| &**error));
    result
}

#[track_caller]
pub(crate) fn receive(stream: &[u8], into: &Path) -> Report {
    try_receive(stream, into).unwrap_or_else(|error| panic!("{error}"))
}

/// The same sources were found, or the same failure at the same place.
fn assert_predicted(forecast: &DryRunReport, result: Result<&Report, &ReceiveError>) {
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            let failure = error.first_failure.as_ref().unwrap();
            let foretold = &forecast.failures[0];
            assert_eq!(foretold.at, failure.at, "{foretold}");
            assert_eq!(foretold.cause.to_string(), failure.cause.to_string());
            return;
        }
    };
    assert!(forecast.is_good(), "{forecast:#?}");
    for (forecast, subvolume) in forecast.forecasts.iter().zip(&report.subvolumes) {
        let there = |found: &FoundSource| match found {
            FoundSource::There(used) => used.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(forecast.parent.as_ref().map(there), subvolume.parent);
        let clones: Vec<_> = forecast.clone_sources.iter().map(there).collect();
        assert_eq!(clones, subvolume.clone_sources);
        let decoded = subvolume.fallbacks.encoded_writes_decoded;
        assert_eq!(forecast.decoded, decoded);
    }
}

/// A change that clones from the parent, as `first` and `second`.
pub(crate) struct Change {
    pub(crate) pair: Pair,
    pub(crate) first: PathBuf,
    pub(crate) second: PathBuf,
}

impl Change {
    pub(crate) fn new() -> Self {
        let pair = Pair::new();
        let work = pair.work();
        std::fs::create_dir(work.join("directory")).unwrap();
        std::fs::write(
            work.join("directory/data"),
            files::pattern(1, 300_000, false),
        )
        .unwrap();
        let first = pair.snapshot("first");
        files::reflink(&work.join("directory/data"), &work.join("copy")).unwrap();
        std::fs::remove_file(work.join("directory/data")).unwrap();
        let second = pair.snapshot("second");
        Self {
            pair,
            first,
            second,
        }
    }

    pub(crate) fn to(&self) -> &Path {
        self.pair.to.path()
    }

    pub(crate) fn full(&self) -> Vec<u8> {
        Sender::new(&self.first).version(2).to_vec()
    }

    pub(crate) fn difference(&self) -> Vec<u8> {
        Sender::new(&self.second)
            .parent(&self.first)
            .version(2)
            .to_vec()
    }

    /// Receives the difference into `mount`.
    #[track_caller]
    pub(crate) fn assert_arrives(&self, mount: &Path) -> Report {
        let report = receive(&self.difference(), mount);
        assert!(report.fallbacks.is_none(), "{:?}", report.fallbacks);
        assert_received(&self.second, &mount.join("second"));
        report
    }
}

pub(crate) fn directory(path: &Path) -> PathBuf {
    std::fs::create_dir(path).unwrap();
    path.to_owned()
}

fn a_parent_outside_the_mounted_subvolume() {
    let change = Change::new();
    subvolume::create(&change.to().join("inner"));
    receive(&change.full(), &directory(&change.to().join("elsewhere")));
    let mount = change.pair.to.mount("subvol=inner");
    change.assert_arrives(mount.path());
}

fn a_parent_behind_a_bind_mount() {
    let change = Change::new();
    receive(&change.full(), &directory(&change.to().join("elsewhere")));
    let mount = Mount::bind(&directory(&change.to().join("bound")));
    change.assert_arrives(mount.path());
}

fn a_parent_above_the_default_subvolume() {
    let change = Change::new();
    let inner = subvolume::create(&change.to().join("inner"));
    receive(&change.full(), change.to());
    let set = Command::new("btrfs")
        .args(["subvolume", "set-default"])
        .arg(&inner)
        .status();
    assert!(set.unwrap().success());
    let mount = change.pair.to.mount("");
    assert!(!mount.path().join("inner").exists());
    change.assert_arrives(mount.path());
}

fn a_parent_nested_in_another_subvolume() {
    let change = Change::new();
    let outer = subvolume::create(&change.to().join("outer"));
    let place = directory(&outer.join("a directory"));
    receive(&change.full(), &place);
    change.assert_arrives(change.to());
}

fn a_parent_that_moved_and_was_renamed() {
    let change = Change::new();
    let place = directory(&change.to().join("place"));
    receive(&change.full(), &place);
    std::fs::rename(place.join("first"), place.join("renamed")).unwrap();
    std::fs::rename(&place, change.to().join("other place")).unwrap();
    change.assert_arrives(change.to());
}

/// The parent came from a host that had received it itself: no transid of
/// the stream is known here.
fn a_parent_by_way_of_a_third_host() {
    let change = Change::new();
    let between = LoopFilesystem::new();
    // Moves the transids of that host ahead.
    for number in 0..5 {
        subvolume::create(&between.path().join(number.to_string()));
    }
    receive(&change.full(), between.path());
    let onward = Sender::new(&between.path().join("first"))
        .version(2)
        .to_vec();
    receive(&onward, change.to());
    change.assert_arrives(change.to());
}

/// Both have the received UUID; so has a read-only snapshot of one.
fn a_parent_received_several_times() {
    let change = Change::new();
    let (a, b) = (
        directory(&change.to().join("a")),
        directory(&change.to().join("b")),
    );
    receive(&change.full(), &a);
    receive(&change.full(), &b);
    subvolume::snapshot_read_only(&a.join("first"), &b.join("snapshot of first"));
    change.assert_arrives(change.to());
    for gone in [a.join("first"), b.join("first")] {
        subvolume::delete(&gone);
        subvolume::delete(&change.to().join("second"));
        change.assert_arrives(change.to());
    }
}

fn a_parent_that_the_caller_chose() {
    let change = Change::new();
    let (a, b) = (
        directory(&change.to().join("a")),
        directory(&change.to().join("b")),
    );
    receive(&change.full(), &a);
    receive(&change.full(), &b);
    let id = |path: &Path| subvolume::facts(path).id;
    for chosen in [a.join("first"), b.join("first")] {
        let wanted = id(&chosen);
        let mut asked = 0;
        let report = receive_choosing(&change, move |_, candidates| {
            // The parent, which is the clone source as well.
            asked += 1;
            assert!(asked == 1 && candidates.len() == 2, "{candidates:?}");
            Choice::Subvolume(wanted)
        });
        let subvolume = &report.unwrap().subvolumes[0];
        assert_eq!(subvolume.parent.as_ref().unwrap().subvolume_id, wanted);
        assert_eq!(subvolume.clone_sources[0].subvolume_id, wanted);
        assert_received(&change.second, &change.to().join("second"));
        subvolume::delete(&change.to().join("second"));
    }
    let error = receive_choosing(&change, |_, _| Choice::Decline).unwrap_err();
    let message = no_source(&error);
    assert!(message.contains("was not chosen"), "{message}");
    assert!(!change.to().join("second").exists());
}

fn a_writable_parent_that_the_caller_insisted_on() {
    let change = Change::new();
    let into = directory(&change.pair.from.path().join("into"));
    let stream = change.difference();
    subvolume::set_read_only(&change.first, false);
    let receive_it = |choice: fn(u64) -> Choice| {
        let id = subvolume::facts(&change.first).id;
        let destination = BtrfsDestination::builder()
            .choose_sources(move |_, _| choice(id))
            .open(&into)
            .unwrap();
        Receiver::new(destination).receive(&stream[..], &mut ())
    };
    receive_it(Choice::Subvolume).unwrap_err();
    assert!(!into.join("second").exists());
    receive_it(Choice::DangerouslyUseWritable).unwrap();
    assert_received(&change.second, &into.join("second"));
}

/// Receives the difference, and has `choose` say from what.
fn receive_choosing(
    change: &Change,
    choose: impl FnMut(SourceId, &[Candidate]) -> Choice + Send + 'static,
) -> Result<Report, Box<ReceiveError>> {
    let destination = BtrfsDestination::builder()
        .choose_sources(choose)
        .open(change.to())
        .unwrap();
    Receiver::new(destination)
        .receive(&change.difference()[..], &mut ())
        .map_err(Box::new)
}

/// Its content may be another by now.
fn a_writable_parent_is_refused() {
    let change = Change::new();
    let stream = change.difference();
    subvolume::set_read_only(&change.first, false);
    let into = directory(&change.pair.from.path().join("into"));
    let error = try_receive(&stream, &into).unwrap_err();
    let message = no_source(&error);
    assert!(message.contains("first"), "{message}");
    assert!(message.contains("writable"), "{message}");
    assert!(!into.join("second").exists());
    // Changed back, it serves.
    subvolume::set_read_only(&change.first, true);
    receive(&stream, &into);
    assert_received(&change.second, &into.join("second"));
}

fn a_parent_that_is_gone() {
    let change = Change::new();
    let error = try_receive(&change.difference(), change.to()).unwrap_err();
    let message = no_source(&error);
    let uuid = subvolume::facts(&change.first).uuid;
    assert!(message.contains(&uuid), "{message}");
    assert!(!change.to().join("second").exists());
    // A deleted one does not serve either.
    receive(&change.full(), change.to());
    subvolume::delete(&change.to().join("first"));
    try_receive(&change.difference(), change.to()).unwrap_err();
}

pub(crate) fn no_source(error: &ReceiveError) -> String {
    let failure = error.first_failure.as_ref().unwrap();
    assert!(matches!(*failure.cause, Cause::NoSource(_)), "{failure}");
    failure.to_string()
}

fn a_parent_outside_the_jail() {
    let change = Change::new();
    let (jail, outside) = (
        directory(&change.to().join("jail")),
        directory(&change.to().join("outside")),
    );
    receive(&change.full(), &outside);
    let receive_jailed = || {
        let difference = change.difference();
        let dry_run = DryRun::builder().jail(&jail).open(&jail);
        let forecast = dry_run.unwrap().run(&difference[..]);
        let destination = BtrfsDestination::builder().jail(&jail).open(&jail).unwrap();
        let result = Receiver::new(destination).receive(&difference[..], &mut ());
        assert_predicted(&forecast, result.as_ref());
        result
    };
    let message = no_source(&receive_jailed().unwrap_err());
    assert!(message.contains("outside"), "{message}");
    receive(&change.full(), &jail);
    receive_jailed().unwrap();
    assert_received(&change.second, &jail.join("second"));
}

fn a_clone_source_beside_the_parent() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::write(work.join("small"), b"small").unwrap();
    let parent = pair.carry("parent", None);
    std::fs::write(work.join("data"), files::pattern(1, 300_000, false)).unwrap();
    let source = pair.carry("source", Some(&parent));
    files::reflink(&work.join("data"), &work.join("copy")).unwrap();
    std::fs::remove_file(work.join("data")).unwrap();
    let snapshot = pair.snapshot("snapshot");
    let stream = Sender::new(&snapshot)
        .parent(&parent)
        .clone_source(&source)
        .version(2)
        .to_vec();
    let report = receive(&stream, pair.to.path());
    assert_received(&snapshot, &pair.received("snapshot"));
    let [used] = &report.subvolumes[0].clone_sources[..] else {
        panic!("{:?}", report.subvolumes[0].clone_sources);
    };
    let id = subvolume::facts(&pair.received("source")).id;
    assert_eq!(used.subvolume_id, id);
}

/// Only regular files have data to clone.
fn a_clone_source_is_called_what_it_is() {
    let to = LoopFilesystem::new();
    let tree = |name: &str| {
        Script::full(name)
            .file("file")
            .fifo("fifo")
            .symlink("link", "file")
            .directory("directory")
    };
    for (source, found) in [
        ("fifo", "FIFO"),
        ("link", "symbolic link"),
        ("directory", "directory"),
        ("", "directory"),
    ] {
        let name = format!("from {found} {source}");
        let stream = tree(&name).clone_own(source, "file", (0, 0, 4096)).end();
        let error = crate::support::try_receive(&stream, to.path()).unwrap_err();
        let cause = error.first_failure.unwrap().cause;
        let Cause::NotRegularFile { found: said } = *cause else {
            panic!("{cause}");
        };
        assert_eq!(said, found);
    }
}

/// The sender has received two states of one subvolume, so that both have the
/// same received UUID: the ctransid tells which of them a clone reads.
fn a_clone_from_another_state_of_the_subvolume_itself() {
    let to = LoopFilesystem::new();
    let state = |name: &str, ctransid| {
        let attributes = [
            attr::path(name),
            attr::uuid(OWN_UUID),
            attr::ctransid(ctransid),
        ];
        RawStream::header(1).command(1, attributes).mkfile("f")
    };
    // `clone_block` names the ctransid 5.
    let old = state("old", 5).write("f", 0, &b"o".repeat(4096));
    receive(&old.end().into_bytes(), to.path());
    let new = state("new", 6)
        .write("f", 0, &b"n".repeat(4096))
        .mkfile("g")
        .clone_block("g", OWN_UUID, "f");
    receive(&new.end().into_bytes(), to.path());
    let content = std::fs::read(to.path().join("new/g")).unwrap();
    assert!(content == b"o".repeat(4096));
}

/// Parents and names that come earlier in the input; without file data.
fn a_dry_run_takes_the_input_for_received() {
    let change = Change::new();
    let both = [change.full(), change.difference()].concat();
    let forecast = DryRun::open(change.to()).unwrap().run(&both[..]);
    assert!(forecast.is_good(), "{forecast:#?}");
    let [_, second] = &forecast.forecasts[..] else {
        panic!("{forecast:#?}");
    };
    assert!(matches!(second.parent, Some(FoundSource::Earlier(_))));
    let twice = [change.full(), change.full()].concat();
    let forecast = DryRun::open(change.to()).unwrap().run(&twice[..]);
    assert_eq!(forecast.failures.len(), 1);
    let no_data = Sender::new(&change.first).no_data().to_vec();
    let forecast = DryRun::open(change.to()).unwrap().run(&no_data[..]);
    assert!(forecast.is_good(), "{forecast:#?}");
    assert!(forecast.space.needed >= 300_000, "{:?}", forecast.space);
}

/// A parent that was named, another name, and a name of its own while the
/// subvolume is built.
fn a_dry_run_takes_the_options_of_the_receive() {
    let change = Change::new();
    receive(&change.full(), change.to());
    let parent = subvolume::snapshot_writable(
        &change.to().join("first"),
        &change.to().join("no received UUID"),
    );
    subvolume::delete(&change.to().join("first"));
    let name = || SubvolumeName::parse(Bytes::from_static(b"other")).ok();
    let mut options = Options::default();
    options.name = name();
    let attempt = |stream: &[u8]| {
        let dry_run = DryRun::builder().parent(&parent).atomic(true);
        let dry_run = dry_run.receive(options.clone()).open(change.to());
        let forecast = dry_run.unwrap().run(stream);
        let destination = BtrfsDestination::builder().parent(&parent).atomic(true);
        let destination = destination.open(change.to()).unwrap();
        let mut receiver = Receiver::with_options(destination, options.clone());
        let result = receiver.receive(stream, &mut ());
        assert_predicted(&forecast, result.as_ref());
        result
    };
    let other = directory(&change.to().join("other"));
    let error = attempt(&change.difference()).unwrap_err();
    assert!(error.to_string().contains("name is taken"), "{error}");
    std::fs::remove_dir(other).unwrap();
    // One name serves one subvolume.
    let error = attempt(&[change.full(), change.full()].concat()).unwrap_err();
    assert!(error.to_string().contains("second"), "{error}");
    subvolume::delete(&change.to().join("other"));
    directory(&change.to().join("other.receiving"));
    let error = attempt(&change.difference()).unwrap_err();
    assert!(error.to_string().contains("other.receiving"), "{error}");
    std::fs::remove_dir(change.to().join("other.receiving")).unwrap();
    attempt(&change.difference()).unwrap();
    assert_received(&change.second, &change.to().join("other"));
}

fn what_is_there_already_needs_no_parent() {
    let change = Change::new();
    receive(&change.full(), change.to());
    receive(&change.difference(), change.to());
    subvolume::delete(&change.to().join("first"));
    let error = try_receive(&change.difference(), change.to()).unwrap_err();
    assert!(
        error.to_string().contains("received completely before"),
        "{error}"
    );
}

fn a_dry_run_sees_what_is_in_the_way() {
    let change = Change::new();
    let (full, into) = (change.full(), change.to());
    let taken = |what: &str| {
        let error = try_receive(&full, into).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    };
    std::fs::write(into.join("first"), b"").unwrap();
    taken("something that is not a subvolume");
    std::fs::remove_file(into.join("first")).unwrap();
    subvolume::create(&into.join("first"));
    taken("a writable subvolume");
    subvolume::delete(&into.join("first"));
    receive(&full, into);
    taken("received completely before");
    // Not where everything is read-only.
    let inner = subvolume::create(&into.join("inner"));
    subvolume::set_read_only(&inner, true);
    let error = try_receive(&full, &inner).unwrap_err();
    assert!(error.to_string().contains("Read-only"), "{error}");
    // A clone source that has changed so that the range is not there.
    let difference = change.difference();
    subvolume::set_read_only(&change.first, false);
    std::fs::write(change.first.join("directory/data"), b"short").unwrap();
    subvolume::set_read_only(&change.first, true);
    let beside = directory(&change.pair.from.path().join("beside"));
    let forecast = DryRun::open(beside).unwrap().run(&difference[..]);
    let finding = forecast.failures[0].to_string();
    assert!(finding.contains("has 5 bytes"), "{finding}");
}
