//! From its creation to the read-only flag nobody else enters a subvolume,
//! and what is sealed is what was received.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use btrfs_receive::resume::{ResumableReceiver, ResumeOptions};
use btrfs_receive::{
    BtrfsDestination, Cause, Event, Observer, Options, Outcome, ReceiveError, Receiver, Report,
};
use btrfs_testkit::{Sender, Test, files, subvolume, test};
use rustix::fs::{AtFlags, IFlags, Mode, OFlags, chmodat, ioctl_getflags, open, openat};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::support::{Pair, assert_received};

const ATTACKER: u32 = 1000;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(nobody_opens_a_file_before_it_is_read_only, "plain"),
        test!(nobody_opens_a_file_before_it_is_read_only, "with an ACL"),
        test!(nobody_opens_a_file_before_it_is_read_only, "of a user"),
        test!(who_got_in_at_the_last_moment_is_noticed, Entry::Open),
        test!(who_got_in_at_the_last_moment_is_noticed, Entry::Write),
        test!(who_got_in_at_the_last_moment_is_noticed, Entry::Chmod),
        test!(an_attribute_like_our_mark_arrives),
        test!(the_root_of_a_snapshot_is_closed),
        test!(a_root_that_cannot_be_changed_gets_its_name).needs_version(2),
        test!(a_resumable_one_gets_its_name_too),
        test!(another_subvolume_under_its_name_is_not_sealed, true),
        test!(another_subvolume_under_its_name_is_not_sealed, false),
        test!(one_that_was_moved_away_is_not_sealed),
        test!(one_that_was_deleted_is_not_searched_for_names, true),
        test!(one_that_was_deleted_is_not_searched_for_names, false),
        test!(block_groups_in_a_tree_of_their_own).needs_block_group_tree(),
    ]
}

/// Gives the root an owner, a mode and an ACL that let the attacker in.
fn let_in(root: &Path, how: &str) {
    let mut mode = 0o755;
    match how {
        "with an ACL" => {
            let acl = files::acl(ATTACKER, 7);
            files::set_xattr(root, "system.posix_acl_access", &acl).unwrap();
            mode = 0o770;
        }
        "of a user" => {
            chown(root, Some(ATTACKER), Some(ATTACKER)).unwrap();
            mode = 0o700;
        }
        _ => {}
    }
    fs::set_permissions(root, fs::Permissions::from_mode(mode)).unwrap();
}

/// As another user, opens the files of that user for writing again and again,
/// and writes to them, until `stop`. Returns how often it could.
fn attack(destination: &OwnedFd, paths: &[String], stop: &AtomicBool, tries: &AtomicU64) -> u64 {
    let (uid, gid) = (Uid::from_raw(ATTACKER), Gid::from_raw(ATTACKER));
    // Of this thread alone.
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(gid, gid, gid).unwrap();
    set_thread_res_uid(uid, uid, uid).unwrap();
    let mut opened = 0;
    while !stop.load(Ordering::Relaxed) {
        for path in paths {
            if let Ok(file) = openat(destination, path.as_str(), OFlags::RDWR, Mode::empty()) {
                opened += 1;
                rustix::io::write(&file, b"EVIL").unwrap();
            }
        }
        tries.fetch_add(1, Ordering::Relaxed);
    }
    opened
}

fn nobody_opens_a_file_before_it_is_read_only(how: &str) {
    let pair = Pair::new();
    let work = pair.work();
    let home = work.join("home");
    fs::create_dir(&home).unwrap();
    for index in 0..200_u8 {
        let file = home.join(format!("f{index}"));
        fs::write(&file, files::pattern(index, 5000, false)).unwrap();
        chown(&file, Some(ATTACKER), Some(ATTACKER)).unwrap();
    }
    let_in(&work, how);
    let first = pair.snapshot("first");
    fs::write(home.join("f0"), b"changed").unwrap();
    let second = pair.snapshot("second");

    let full = Sender::new(&first).version(2).to_vec();
    let change = Sender::new(&second).parent(&first).version(2).to_vec();
    let names = ["first", "second", "first.receiving", "second.receiving"];
    let paths: Vec<_> = names
        .iter()
        .flat_map(|name| [format!("{name}/home/f0"), format!("{name}/home/f7")])
        .collect();
    let destination = open(pair.to.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    let (stop, tries) = (AtomicBool::new(false), AtomicU64::new(0));
    for atomic in [true, false] {
        stop.store(false, Ordering::Relaxed);
        let opened = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| attack(&destination, &paths, &stop, &tries));
            for stream in [&full, &change] {
                let builder = BtrfsDestination::builder().atomic(atomic);
                let destination = builder.open(pair.to.path()).unwrap();
                let received = Receiver::new(destination).receive(&stream[..], &mut ());
                assert_eq!(received.unwrap().finished, 1);
            }
            stop.store(true, Ordering::Relaxed);
            attacker.join().unwrap()
        });
        assert_eq!(opened, 0);
        for (sent, name) in [(&first, "first"), (&second, "second")] {
            assert_received(sent, &pair.received(name));
            let read = pair.to.mount("ro,subvolid=5");
            assert_received(sent, &read.path().join(name));
        }
        for name in ["second", "first"] {
            subvolume::delete(&pair.received(name));
        }
        assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 0);
    }
    assert!(tries.into_inner() > 0);
}

/// What the attacker does to a file of its own.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Opens it for writing, and writes when all is over.
    Open,
    /// Writes and closes it.
    Write,
    /// Changes it without opening it.
    Chmod,
}

/// As another user, finds the root under its name without a permission on it,
/// and goes on from there until `stop`. Returns what was opened, and whether
/// anything could be done.
fn enter(destination: &OwnedFd, entry: Entry, stop: &AtomicBool) -> (Option<OwnedFd>, bool) {
    let (uid, gid) = (Uid::from_raw(ATTACKER), Gid::from_raw(ATTACKER));
    // Of this thread alone.
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(gid, gid, gid).unwrap();
    set_thread_res_uid(uid, uid, uid).unwrap();
    let mut root = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(root) = &root else {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            root = openat(destination, "s", flags, Mode::empty()).ok();
            continue;
        };
        if let Entry::Chmod = entry {
            if chmodat(
                root,
                "home/f",
                Mode::from_raw_mode(0o4777),
                AtFlags::empty(),
            )
            .is_ok()
            {
                return (None, true);
            }
        } else if let Ok(file) = openat(root, "home/f", OFlags::RDWR, Mode::empty()) {
            if let Entry::Write = entry {
                rustix::io::write(&file, b"EVIL").unwrap();
                return (None, true);
            }
            return (Some(file), true);
        }
    }
    (None, false)
}

/// Somebody who holds the root by `O_PATH` can be faster than the receiver
/// between the calls that open the root and the one that makes it read-only.
fn who_got_in_at_the_last_moment_is_noticed(entry: Entry) {
    let pair = Pair::new();
    let work = pair.work();
    let home = work.join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("f"), files::pattern(1, 5000, false)).unwrap();
    chown(home.join("f"), Some(ATTACKER), Some(ATTACKER)).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o755)).unwrap();
    let sent = pair.snapshot("s");
    let stream = Sender::new(&sent).version(2).to_vec();
    let destination = open(pair.to.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    let received = pair.received("s");
    let mut noticed = 0;
    for _ in 0..60 {
        let stop = AtomicBool::new(false);
        let (result, (file, entered)) = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| enter(&destination, entry, &stop));
            let into = BtrfsDestination::open(pair.to.path()).unwrap();
            let result = Receiver::new(into).receive(&stream[..], &mut ());
            stop.store(true, Ordering::Relaxed);
            (result, attacker.join().unwrap())
        });
        match result {
            Ok(_) => {
                assert!(!entered);
                assert_received(&sent, &received);
            }
            Err(error) => {
                noticed += 1;
                let failure = error.first_failure.unwrap();
                // One that is closed by now may have been open when it was
                // looked at.
                let is_it = matches!(
                    *failure.cause,
                    Cause::EnteredByOthers { open, .. } if open || file.is_none()
                );
                assert!(is_it && entered, "{failure}");
                assert_not_sealed(&received);
            }
        }
        drop(file);
        subvolume::delete(&received);
        assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 0);
    }
    eprintln!("{entry:?}: noticed in {noticed} of 60 rounds");
}

/// The sender may have a snapshot of a subvolume that is unfinished.
fn an_attribute_like_our_mark_arrives() {
    let pair = Pair::new();
    let work = pair.work();
    let name = "user.btrfs-receive.unfinished";
    files::set_xattr(&work, name, b"theirs").unwrap();
    let first = pair.carry("first", None);
    fs::write(work.join("f"), b"new").unwrap();
    let second = pair.carry("second", Some(&first));
    rustix::fs::removexattr(&work, name).unwrap();
    pair.carry("third", Some(&second));
}

/// Calls back once a subvolume is created.
struct Created<F>(F);

impl<F: FnMut()> Observer for Created<F> {
    fn event(&mut self, event: Event<'_>) {
        if let Event::SubvolumeCreated { .. } = event {
            (self.0)();
        }
    }
}

fn the_root_of_a_snapshot_is_closed() {
    let pair = Pair::new();
    let work = pair.work();
    fs::write(work.join("f"), b"one").unwrap();
    chown(&work, Some(7), Some(8)).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o2775)).unwrap();
    let first = pair.carry("first", None);
    fs::write(work.join("f"), b"another").unwrap();
    let second = pair.snapshot("second");
    let stream = Sender::new(&second).parent(&first).version(2).to_vec();
    let built = pair.received("second");
    let mut seen = 0;
    let mut observer = Created(|| {
        let found = fs::metadata(&built).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o700, 0));
        assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 2);
        seen += 1;
    });
    let destination = BtrfsDestination::open(pair.to.path()).unwrap();
    let received = Receiver::new(destination).receive(&stream[..], &mut observer);
    assert_eq!(received.unwrap().finished, 1);
    assert_eq!(seen, 1);
    assert_received(&second, &built);
}

/// Three snapshots, the second of which has a root with these flags, and the
/// third, too.
fn with_flags(pair: &Pair, flags: IFlags) -> [Vec<u8>; 3] {
    let work = pair.work();
    fs::write(work.join("f"), b"one").unwrap();
    let first = pair.snapshot("first");
    files::change_flags(&work, flags, IFlags::empty()).unwrap();
    let second = pair.snapshot("second");
    fs::write(work.join("f"), b"three").unwrap();
    let third = pair.snapshot("third");
    [
        Sender::new(&first).version(2).to_vec(),
        Sender::new(&second).parent(&first).version(2).to_vec(),
        Sender::new(&third).parent(&second).version(2).to_vec(),
    ]
}

/// Deletes what [`with_flags`] made, and what was received of it.
fn clear(pair: &Pair) {
    let flags = IFlags::IMMUTABLE | IFlags::APPEND;
    let mut paths = vec![pair.from.path().join("work")];
    for name in ["first", "second", "third"] {
        paths.extend([pair.received(name), pair.from.path().join(name)]);
    }
    for path in paths {
        subvolume::set_read_only(&path, false);
        files::change_flags(&path, IFlags::empty(), flags).unwrap();
        subvolume::delete(&path);
    }
}

fn a_root_that_cannot_be_changed_gets_its_name() {
    let pair = Pair::new();
    for flags in [IFlags::IMMUTABLE, IFlags::APPEND] {
        for atomic in [true, false] {
            for stream in with_flags(&pair, flags) {
                let builder = BtrfsDestination::builder().atomic(atomic);
                let destination = builder.open(pair.to.path()).unwrap();
                let received = Receiver::new(destination).receive(&stream[..], &mut ());
                assert_eq!(received.unwrap().finished, 1);
            }
            for name in ["first", "second", "third"] {
                assert_received(&pair.from.path().join(name), &pair.received(name));
            }
            for name in ["second", "third"] {
                let root = fs::File::open(pair.received(name)).unwrap();
                assert!(ioctl_getflags(root).unwrap().contains(flags));
            }
            assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 3);
            clear(&pair);
        }
    }
}

fn resume(stream: &[u8], pair: &Pair) -> Result<Report, ReceiveError> {
    let builder = BtrfsDestination::builder().atomic(true);
    let destination = builder.open(pair.to.path()).unwrap();
    ResumableReceiver::new(destination, Options::default(), ResumeOptions::default())
        .unwrap()
        .receive(stream, &mut ())
}

fn a_resumable_one_gets_its_name_too() {
    let pair = Pair::new();
    for stream in with_flags(&pair, IFlags::IMMUTABLE) {
        // Stopped before its end, from the start, and once more.
        resume(&stream[..stream.len() - 40], &pair).unwrap_err();
        let report = resume(&stream, &pair).unwrap();
        assert_eq!(report.subvolumes[0].outcome, Outcome::Finished);
        let report = resume(&stream, &pair).unwrap();
        assert_eq!(report.subvolumes[0].outcome, Outcome::AlreadyComplete);
    }
    for name in ["first", "second", "third"] {
        assert_received(&pair.from.path().join(name), &pair.received(name));
    }
    assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 3);
    clear(&pair);
}

/// Receives, while `meddle` is called once the subvolume is there, what has to
/// fail because of that; returns the message.
fn fails_if_moved(pair: &Pair, atomic: bool, meddle: impl FnMut()) -> String {
    let work = pair.work();
    fs::write(work.join("f"), b"one").unwrap();
    let stream = Sender::new(&pair.snapshot("s")).version(2).to_vec();
    let builder = BtrfsDestination::builder().atomic(atomic);
    let error = Receiver::new(builder.open(pair.to.path()).unwrap())
        .receive(&stream[..], &mut Created(meddle))
        .unwrap_err();
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::Abandoned);
    let failure = error.first_failure.unwrap();
    assert!(matches!(*failure.cause, Cause::Moved { .. }), "{failure}");
    failure.to_string()
}

fn assert_not_sealed(path: &Path) {
    let facts = subvolume::facts(path);
    assert_eq!((facts.received_uuid, facts.read_only), (None, false));
}

fn another_subvolume_under_its_name_is_not_sealed(atomic: bool) {
    let pair = Pair::new();
    let name = if atomic { "s.receiving" } else { "s" };
    let (built, moved) = (pair.received(name), pair.received("moved"));
    let message = fails_if_moved(&pair, atomic, || {
        fs::rename(&built, &moved).unwrap();
        subvolume::create(&built);
        fs::write(built.join("mine"), b"").unwrap();
    });
    assert!(message.contains("its name is \"moved\" now"), "{message}");
    for path in [&built, &moved] {
        assert_not_sealed(path);
    }
    assert!(built.join("mine").exists());
    assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 2);
}

fn one_that_was_moved_away_is_not_sealed() {
    let pair = Pair::new();
    let other = pair.received("other");
    fs::create_dir(&other).unwrap();
    let message = fails_if_moved(&pair, false, || {
        fs::rename(pair.received("s"), other.join("t")).unwrap();
    });
    assert!(message.contains("its name is \"t\" now"), "{message}");
    assert_not_sealed(&other.join("t"));
    assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 1);
}

/// Before a name is looked for in it, and with nothing left to do in it.
fn one_that_was_deleted_is_not_searched_for_names(first: bool) {
    let pair = Pair::new();
    let work = pair.work();
    if first {
        fs::write(work.join("f"), b"one").unwrap();
    }
    let stream = Sender::new(&pair.snapshot("s")).version(2).to_vec();
    let into = BtrfsDestination::open(pair.to.path()).unwrap();
    let mut id = None;
    let mut observer = Created(|| {
        id = Some(subvolume::facts(&pair.received("s")).id);
        subvolume::delete(&pair.received("s"));
    });
    let error = Receiver::new(into).receive(&stream[..], &mut observer);
    let error = error.unwrap_err();
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::Abandoned);
    assert_eq!(error.report.subvolumes[0].subvolume_id, id);
    let failure = error.first_failure.unwrap();
    let Cause::Moved {
        subvolume_id,
        called,
        ..
    } = &*failure.cause
    else {
        panic!("{failure}");
    };
    assert_eq!(Some(*subvolume_id), id);
    assert!(called.is_empty());
}

/// What newer mkfs makes.
fn block_groups_in_a_tree_of_their_own() {
    let pair = Pair {
        from: btrfs_testkit::LoopFilesystem::new(),
        to: btrfs_testkit::LoopFilesystem::builder()
            .block_group_tree()
            .build(),
    };
    let work = pair.work();
    fs::write(work.join("f"), files::pattern(1, 300_000, true)).unwrap();
    let first = pair.carry("first", None);
    fs::write(work.join("g"), b"new").unwrap();
    pair.carry("second", Some(&first));
}
