//! Random transfers between hosts, on which subvolumes are made, changed, marked
//! and deleted: what is planned is received, and is what was sent.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use btrfs_ioctl as sys;
use btrfs_lineage::btrfs_sendstream::Uuid;
use btrfs_lineage::{Inventory, Plan, PlanOptions, plan};
use btrfs_testkit::{
    Compared, Difference, LoopFilesystem, Sender, Test, Tree, compare, files, reference_receive,
    test,
};

use crate::support::{inventory, receive};

/// The environment variable that says how many topologies to try.
const COUNT: &str = "BTRFS_TOPOLOGIES";

/// The environment variable that repeats a run.
const SEED: &str = "BTRFS_TOPOLOGIES_SEED";

/// How many topologies are tried without the environment saying otherwise.
const DEFAULT_COUNT: u64 = 30;

/// Tests that share the topologies.
const PARTS: usize = 3;

/// Filesystems; each topology uses 3 to 5 of them.
const HOSTS: usize = 5;

/// What happens in one topology.
const EVENTS: usize = 12;

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    // They wait for disks more than they compute.
    let parts = (0..PARTS).map(|part| test!(what_is_planned_is_received, part));
    parts.collect()
}

fn what_is_planned_is_received(part: usize) {
    let seed = environment(SEED).unwrap_or_else(|| RandomState::new().hash_one(0));
    let count = environment(COUNT).unwrap_or(DEFAULT_COUNT);
    eprintln!("{count} random topologies, {SEED}={seed}");
    let filesystems: Vec<_> = (0..HOSTS).map(|_| LoopFilesystem::new()).collect();
    let mut seen = Seen::default();
    for number in (part as u64..count).step_by(PARTS) {
        // A topology does not depend on those before it, but for transaction ids.
        let random = Random(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut topology = Topology::new(&filesystems, random, number);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| topology.run()));
        if let Err(panic) = outcome {
            let events = topology.events.join("\n");
            eprintln!("{SEED}={seed}, topology {number}:\n{events}");
            std::panic::resume_unwind(panic);
        }
        topology.end();
        seen.add(&topology.seen);
    }
    eprintln!("{seen:?}");
    // It would be no test without these.
    if count >= DEFAULT_COUNT {
        let Seen {
            incremental,
            impossible,
            doubtful,
            ..
        } = seen;
        assert!(
            incremental > 0 && impossible > 0 && doubtful > 0,
            "{seen:?}"
        );
    }
}

fn environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// What the plans came to.
#[derive(Debug, Default)]
struct Seen {
    incremental: u64,
    clone_sources: u64,
    impossible: u64,
    /// No stream with a parent could be received, and none was.
    refused: u64,
    doubtful: u64,
    /// Candidates that were left out for a doubt, by its name: how many held
    /// other data, and how many the same.
    doubts: BTreeMap<&'static str, (u64, u64)>,
    changed: u64,
    /// Two states of a subvolume got the same transaction id by chance.
    coincidences: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.incremental += other.incremental;
        self.clone_sources += other.clone_sources;
        self.impossible += other.impossible;
        self.refused += other.refused;
        self.doubtful += other.doubtful;
        for (name, (rightly, needlessly)) in &other.doubts {
            let sums = self.doubts.entry(name).or_default();
            sums.0 += rightly;
            sums.1 += needlessly;
        }
        self.changed += other.changed;
        self.coincidences += other.coincidences;
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

/// A subvolume, and which content it has. Two that have the same number hold
/// the same.
#[derive(Clone, Debug)]
struct Held {
    path: PathBuf,
    content: u64,
    read_only: bool,
}

struct Host {
    /// Its directory on its filesystem.
    root: PathBuf,
    work: PathBuf,
    held: Vec<Held>,
}

struct Topology {
    random: Random,
    hosts: Vec<Host>,
    contents: u64,
    names: u64,
    /// What was sent under a UUID and a transaction id.
    sent: HashMap<(Uuid, u64), u64>,
    /// What happened, for the message of a failure.
    events: Vec<String>,
    seen: Seen,
}

impl Topology {
    fn new(filesystems: &[LoopFilesystem], mut random: Random, number: u64) -> Self {
        let count = 3 + random.below(3);
        let hosts = filesystems.iter().take(count).map(|filesystem| {
            let root = filesystem.path().join(format!("topology-{number}"));
            fs::create_dir(&root).unwrap();
            let work = root.join("work");
            make(&work);
            for file in 0..4 {
                fs::write(work.join(format!("f{file}")), vec![file; 20_000]).unwrap();
            }
            Host {
                root,
                work,
                held: Vec::new(),
            }
        });
        Self {
            hosts: hosts.collect(),
            random,
            contents: 0,
            names: 0,
            sent: HashMap::new(),
            events: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn run(&mut self) {
        // One begins, and most of the others get some of what it has.
        let first = self.random.below(self.hosts.len());
        for _ in 0..3 {
            self.take_snapshot(first);
        }
        for at in 0..3 {
            for to in 0..self.hosts.len() {
                if to != first && self.random.percent(50) {
                    self.send(first, to, at);
                }
            }
        }
        for _ in 0..EVENTS {
            let host = self.random.below(self.hosts.len());
            match self.random.below(100) {
                0..12 => self.take_snapshot(host),
                12..17 => self.snapshot_again(host),
                17..25 => self.continue_from(host),
                25..72 => self.transfer(host),
                72..76 => self.delete(host),
                76..80 => self.flip(host, false),
                80..89 => self.flip(host, true),
                89..91 => self.leave_writable(host),
                91..94 => self.rename(host),
                94..97 => self.clear_mark(host),
                _ => self.mark_by_hand(host),
            }
        }
    }

    fn note(&mut self, text: String) {
        self.events.push(text);
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("s{}", self.names)
    }

    fn new_content(&mut self) -> u64 {
        self.contents += 1;
        self.contents
    }

    /// Any subvolume of a host that is read-only, by its place.
    fn any(&mut self, host: usize) -> Option<usize> {
        let held = &self.hosts[host].held;
        let places: Vec<_> = (0..held.len()).filter(|&at| held[at].read_only).collect();
        (!places.is_empty()).then(|| places[self.random.below(places.len())])
    }

    /// Changes files, so that some extents stay shared.
    fn change(&mut self, root: &Path) {
        let number = self.random.below(6);
        let file = root.join(format!("f{number}"));
        let filler = u8::try_from(self.random.below(256)).unwrap();
        match self.random.below(5) {
            0 if file.exists() => fs::remove_file(&file).unwrap(),
            1 if file.exists() => {
                let to = root.join(format!("r{}", self.names));
                fs::rename(&file, to).unwrap();
            }
            2 if file.exists() => {
                let to = root.join(format!("c{}", self.names));
                let _ = fs::remove_file(&to);
                files::reflink(&file, &to).unwrap();
            }
            3 if file.exists() => files::write(&file, 4096, &[filler; 5000]).unwrap(),
            _ => fs::write(&file, vec![filler; 20_000]).unwrap(),
        }
        // Whatever else happened, this is another state. The clock that the kernel
        // notes changes by stands still for milliseconds: what happens at the very
        // time of a receive does not look like a change after it.
        self.names += 1;
        let (state, received) = (root.join("state"), info(root).rtime);
        loop {
            fs::write(&state, self.names.to_string()).unwrap();
            let facts = fs::metadata(&state).unwrap();
            let nanoseconds = u32::try_from(facts.ctime_nsec()).unwrap();
            if (facts.ctime(), nanoseconds) > (received.seconds, received.nanoseconds) {
                return;
            }
        }
    }

    fn take_snapshot(&mut self, host: usize) {
        let work = self.hosts[host].work.clone();
        self.change(&work);
        let content = self.new_content();
        self.snapshot_of(host, &work, content);
    }

    fn snapshot_of(&mut self, host: usize, source: &Path, content: u64) {
        let name = self.name();
        let root = self.hosts[host].root.clone();
        snapshot(source, &root, &name, true);
        self.note(format!("{host}: {name} is a snapshot of {}", short(source)));
        self.hosts[host].held.push(Held {
            path: root.join(name),
            content,
            read_only: true,
        });
    }

    fn snapshot_again(&mut self, host: usize) {
        if let Some(at) = self.any(host) {
            let Held { path, content, .. } = self.hosts[host].held[at].clone();
            self.snapshot_of(host, &path, content);
        }
    }

    /// As after a restore: a writable snapshot is what is worked on.
    fn continue_from(&mut self, host: usize) {
        if let Some(at) = self.any(host) {
            self.continue_with(host, at);
        }
    }

    fn continue_with(&mut self, host: usize, at: usize) {
        let (name, root) = (self.name(), self.hosts[host].root.clone());
        let source = self.hosts[host].held[at].path.clone();
        snapshot(&source, &root, &name, false);
        self.note(format!(
            "{host}: works in {name}, a snapshot of {}",
            short(&source)
        ));
        self.hosts[host].work = root.join(name);
    }

    fn delete(&mut self, host: usize) {
        if let Some(at) = self.any(host) {
            let held = self.hosts[host].held.remove(at);
            self.note(format!("{host}: {} is deleted", short(&held.path)));
            delete(&held.path);
        }
    }

    /// Makes a subvolume writable and read-only again; the received UUID stays.
    fn flip(&mut self, host: usize, changed: bool) {
        let Some(at) = self.any(host) else {
            return;
        };
        let path = self.hosts[host].held[at].path.clone();
        set_read_only(&path, false);
        if changed {
            self.change(&path);
            self.hosts[host].held[at].content = self.new_content();
            self.seen.changed += 1;
        }
        set_read_only(&path, true);
        let how = if changed { "changed" } else { "flipped" };
        self.note(format!("{host}: {} is {how}", short(&path)));
    }

    fn leave_writable(&mut self, host: usize) {
        let Some(at) = self.any(host) else {
            return;
        };
        let path = self.hosts[host].held[at].path.clone();
        set_read_only(&path, false);
        if self.random.percent(50) {
            self.change(&path);
            self.hosts[host].held[at].content = self.new_content();
        }
        self.hosts[host].held[at].read_only = false;
        self.note(format!("{host}: {} is writable", short(&path)));
    }

    fn rename(&mut self, host: usize) {
        if let Some(at) = self.any(host) {
            let name = self.name();
            let held = &mut self.hosts[host].held[at];
            // A read-only subvolume cannot move to another directory.
            let to = held.path.parent().unwrap().join(&name);
            fs::rename(&held.path, &to).unwrap();
            let text = format!("{host}: {} is now {name}", short(&held.path));
            held.path = to;
            self.note(text);
        }
    }

    /// As `btrfs property set` does when it makes a subvolume writable.
    fn clear_mark(&mut self, host: usize) {
        let Some(at) = self.any(host) else {
            return;
        };
        let path = self.hosts[host].held[at].path.clone();
        set_read_only(&path, false);
        sys::set_received_subvol(File::open(&path).unwrap(), Uuid::nil(), 0).unwrap();
        if self.random.percent(50) {
            self.change(&path);
            self.hosts[host].held[at].content = self.new_content();
        }
        set_read_only(&path, true);
        self.note(format!("{host}: {} lost its received UUID", short(&path)));
    }

    /// A program gives a subvolume the UUID of another one, of which it has no
    /// copy, and does not know a transaction id.
    fn mark_by_hand(&mut self, host: usize) {
        let other = self.random.below(self.hosts.len());
        let (Some(at), Some(from)) = (self.any(host), self.any(other)) else {
            return;
        };
        let path = self.hosts[host].held[at].path.clone();
        let uuid = info(&self.hosts[other].held[from].path).uuid;
        set_read_only(&path, false);
        sys::set_received_subvol(File::open(&path).unwrap(), uuid, 0).unwrap();
        let read_only = self.random.percent(70);
        if read_only {
            set_read_only(&path, true);
        }
        self.hosts[host].held[at].read_only = read_only;
        self.note(format!("{host}: {} is marked as {uuid}", short(&path)));
    }

    /// Sends something to another host, as a rule what is newest.
    fn transfer(&mut self, from: usize) {
        let to = (from + 1 + self.random.below(self.hosts.len() - 1)) % self.hosts.len();
        if self.random.percent(40) {
            self.take_snapshot(from);
        }
        let newest = self.hosts[from].held.iter().rposition(|it| it.read_only);
        let any = self.any(from);
        let at = if self.random.percent(60) { newest } else { any };
        if let Some(at) = at {
            self.send(from, to, at);
        }
    }

    /// Plans, and does as was planned.
    fn send(&mut self, from: usize, to: usize, at: usize) {
        let snapshot = self.hosts[from].held[at].clone();
        if self.is_coincidence(from) || self.is_coincidence(to) {
            self.seen.coincidences += 1;
            return;
        }
        let (here, there) = (
            inventory(&self.hosts[from].root),
            inventory(&self.hosts[to].root),
        );
        let id = info(&snapshot.path).id;
        let found = plan(id, &here, &there, &PlanOptions::default()).unwrap();
        self.note(format!(
            "{from} → {to}: {}, parent {:?}, clone sources {:?}",
            short(&snapshot.path),
            found.parent,
            found.clone_sources
        ));
        self.judge(from, to, &here, &there, &found);
        let mut sender = Sender::new(&snapshot.path);
        if self.random.percent(50) {
            sender = sender.version(2);
        }
        let full = sender.clone();
        if let Some(parent) = found.parent {
            self.seen.incremental += 1;
            sender = sender.parent(&self.path_of(from, parent));
            for &source in &found.clone_sources {
                self.seen.clone_sources += 1;
                sender = sender.clone_source(&self.path_of(from, source));
            }
        } else if found.is_impossible() {
            self.seen.impossible += 1;
            self.no_parent_does(from, to, at, &full);
        } else {
            self.seen.doubtful += 1;
        }
        self.remember(&snapshot);
        // The other receiver leaves data in memory behind.
        let reference = found.parent.is_none() && self.random.percent(30);
        self.arrive(&sender, to, &snapshot, reference);
        if self.random.percent(10) {
            self.arrive(&full, to, &snapshot, false);
        }
    }

    /// Receives, and compares what arrived.
    fn arrive(&mut self, sender: &Sender, to: usize, snapshot: &Held, reference: bool) {
        let name = self.name();
        let directory = self.hosts[to].root.join(name);
        fs::create_dir(&directory).unwrap();
        let stream = sender.to_vec();
        let received = if reference {
            reference_receive(&stream, &directory)
        } else {
            receive(&stream, &directory)
        };
        received.unwrap_or_else(|error| panic!("{}: {error}", short(&snapshot.path)));
        let path = directory.join(snapshot.path.file_name().unwrap());
        let compared = Compared {
            root_times: !reference,
            ..Compared::default()
        };
        let differences = compare(&Tree::read(&snapshot.path), &Tree::read(&path), &compared);
        let list = Difference::list(&differences);
        assert!(differences.is_empty(), "{}:\n{list}", short(&snapshot.path));
        self.hosts[to].held.push(Held {
            path,
            content: snapshot.content,
            read_only: true,
        });
        // A host that takes over goes on from there.
        if self.random.percent(30) {
            let last = self.hosts[to].held.len() - 1;
            self.continue_with(to, last);
        }
    }

    /// Checks that what was chosen holds the same on both sides.
    fn judge(&mut self, from: usize, to: usize, here: &Inventory, there: &Inventory, found: &Plan) {
        for candidate in &found.candidates {
            let Some(content) = self.content_of(from, here, candidate.id) else {
                continue;
            };
            let taken =
                found.parent == Some(candidate.id) || found.clone_sources.contains(&candidate.id);
            for id in &candidate.there {
                let other = self.content_of(to, there, *id);
                if taken {
                    assert_eq!(other, Some(content), "{candidate:?}");
                }
            }
            if matches!(candidate.verdict, btrfs_lineage::PlanVerdict::Doubtful(_)) {
                let first = candidate.there.first();
                let first = first.and_then(|id| self.content_of(to, there, *id));
                let counts = self
                    .seen
                    .doubts
                    .entry(candidate.verdict.name())
                    .or_default();
                if first == Some(content) {
                    counts.1 += 1;
                } else {
                    counts.0 += 1;
                }
            }
        }
    }

    /// What a subvolume holds, by its id.
    fn content_of(&self, host: usize, inventory: &Inventory, id: u64) -> Option<u64> {
        let path = inventory.get(id)?.path.clone()?;
        if path.is_empty() {
            return None;
        }
        let ends = |held: &&Held| {
            use std::os::unix::ffi::OsStrExt;
            held.path.as_os_str().as_bytes().ends_with(&path)
        };
        let found = self.hosts[host].held.iter().find(ends)?;
        Some(found.content)
    }

    fn path_of(&self, host: usize, id: u64) -> PathBuf {
        let held = self.hosts[host].held.iter();
        let found = held.map(|it| &it.path).find(|path| info(path).id == id);
        found.unwrap().clone()
    }

    /// Whatever the parent, the receiver refuses the stream.
    fn no_parent_does(&mut self, from: usize, to: usize, snapshot: usize, full: &Sender) {
        let places: Vec<_> = (0..self.hosts[from].held.len())
            .filter(|&at| at != snapshot && self.hosts[from].held[at].read_only)
            .collect();
        let name = self.name();
        let directory = self.hosts[to].root.join(name);
        fs::create_dir(&directory).unwrap();
        for at in places.into_iter().take(4) {
            let parent = self.hosts[from].held[at].path.clone();
            let stream = full.clone().parent(&parent).to_vec();
            let received = receive(&stream, &directory);
            assert!(received.is_err(), "with {} it is received", short(&parent));
            self.seen.refused += 1;
        }
    }

    /// Whether a subvolume of this host has the UUID and the transaction id of
    /// another state that was sent: filesystems number their transactions alike.
    /// Nothing can tell these apart.
    fn is_coincidence(&self, host: usize) -> bool {
        self.hosts[host].held.iter().any(|held| {
            let known = self.sent.get(&mark(&held.path));
            known.is_some_and(|content| *content != held.content)
        })
    }

    fn remember(&mut self, snapshot: &Held) {
        // As the sender does, so that the transaction id is the one in the stream.
        let root = File::open(&snapshot.path).unwrap();
        rustix::fs::syncfs(root).unwrap();
        self.sent.insert(mark(&snapshot.path), snapshot.content);
    }

    /// Leaves the filesystems empty.
    fn end(&mut self) {
        for host in &self.hosts {
            let inventory = inventory(&host.root);
            for subvolume in &inventory.subvolumes {
                if subvolume.id != sys::TOP_LEVEL {
                    let root = File::open(&host.root).unwrap();
                    sys::subvol_destroy(root, subvolume.id).unwrap();
                }
            }
            fs::remove_dir_all(&host.root).unwrap();
        }
    }
}

/// How a stream names a subvolume.
fn mark(path: &Path) -> (Uuid, u64) {
    let info = info(path);
    let uuid = if info.received_uuid.is_nil() {
        info.uuid
    } else {
        info.received_uuid
    };
    (uuid, info.ctransid)
}

fn info(path: &Path) -> sys::SubvolumeInfo {
    sys::subvolume_info(File::open(path).unwrap()).unwrap()
}

fn short(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn make(path: &Path) {
    let parent = File::open(path.parent().unwrap()).unwrap();
    sys::subvol_create(parent, short(path).as_bytes()).unwrap();
}

fn snapshot(source: &Path, directory: &Path, name: &str, read_only: bool) {
    let (source, into) = (File::open(source).unwrap(), File::open(directory).unwrap());
    sys::snap_create(into, name.as_bytes(), source, read_only).unwrap();
}

fn delete(path: &Path) {
    let parent = File::open(path.parent().unwrap()).unwrap();
    sys::snap_destroy(parent, short(path).as_bytes()).unwrap();
}

fn set_read_only(path: &Path, read_only: bool) {
    sys::subvol_set_read_only(File::open(path).unwrap(), read_only).unwrap();
}
