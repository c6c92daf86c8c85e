//! What went wrong for people, as far as it can be had on one machine.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use btrfs_testkit::raw::{OWN_UUID, RawStream, UNKNOWN_UUID, attr};
use btrfs_testkit::{LoopFilesystem, Sender, Site, Tree, files, subvolume};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::receiver::{Ended, Receiver, state};

/// Runs a case with one receiver and says what happened.
type Run = fn(&Receiver) -> String;

const CASES: &[(&str, &str, Run)] = &[
    (
        "2",
        "A path that means another file after renames is written to.",
        renames,
    ),
    (
        "4",
        "The parent lies outside the mounted subvolume.",
        parent_outside,
    ),
    (
        "5",
        "Two subvolumes have the parent's received UUID; the first lies outside the mount.",
        two_holders,
    ),
    (
        "6",
        "A clone between files with and without checksums.",
        nodatasum,
    ),
    (
        "7",
        "The source of a clone is not there.",
        missing_clone_source,
    ),
    (
        "7",
        "The source of a clone lies outside the mounted subvolume.",
        clone_source_outside,
    ),
    ("10", "The power fails right after exit 0.", power_cut),
    (
        "11",
        "The root of the subvolume has a default ACL and compression.",
        leak,
    ),
    ("13", "`-E 0` and a truncated stream.", endless),
    ("14", "`-e -E 0` and a command that fails.", forgotten),
    ("15", "`-E 5` and a name that exists.", existing),
    ("18", "A file is written by `..`.", dotdot),
    (
        "18",
        "A file is written through a link that the stream made.",
        link,
    ),
    ("18", "A stream without SUBVOL.", no_subvol),
    (
        "18",
        "A disk is written through a device node that the stream made.",
        disk,
    ),
    (
        "19",
        "`-C`, and a clone of `../secret` from a subvolume outside.",
        chroot_clone,
    ),
    (
        "20",
        "`--force-decompress` and an extent whose part lies behind it.",
        decompress,
    ),
    ("32", "A command that nobody knows.", unknown),
    ("33", "`-f` with a file that is not there.", missing_file),
    (
        "",
        "A user tries to open a file of theirs for writing during a full receive, and writes to \
         it after the receive.",
        user_full,
    ),
    (
        "",
        "The same during an incremental receive.",
        user_incremental,
    ),
    (
        "",
        "During the receive the subvolume is renamed, and another one gets its name.",
        renamed_meanwhile,
    ),
];

pub(crate) fn table(receivers: &[Receiver; 2]) {
    println!("| row | case | `btrfs receive` | `btrfs-recv-rs` |");
    println!("|---|---|---|---|");
    for (row, case, run) in CASES {
        let [theirs, ours] = receivers.each_ref().map(run);
        println!("| {row} | {case} | {theirs} | {ours} |");
    }
}

/// Where a case happens: a filesystem, a destination and a canary in it.
struct Place {
    filesystem: LoopFilesystem,
    site: Site,
}

impl Place {
    fn new() -> Self {
        let filesystem = LoopFilesystem::new();
        let site = Site::new(filesystem.path(), "site");
        Self { filesystem, site }
    }

    /// Receives, and says how it ended and what became of `s`.
    fn run(&self, receiver: &Receiver, options: &[&str], stream: RawStream) -> String {
        let ended = receiver.run(stream, options, self.site.path());
        self.describe(&ended)
    }

    fn describe(&self, ended: &Ended) -> String {
        let mut text = format!("{}, {}", ended.how, state(&self.site.path().join("s")));
        if !self.site.damage().is_empty() {
            text += ", **a file outside was changed**";
        }
        text
    }

    fn read(&self, path: &str) -> String {
        let bytes = fs::read(self.site.path().join("s").join(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn renames(receiver: &Receiver) -> String {
    let place = Place::new();
    let stream = RawStream::new(1)
        .mkdir("d")
        .mkdir("z")
        .mkfile("d/foo")
        .mkfile("z/foo")
        .write("d/foo", 0, b"one")
        .rename("d", "e")
        .rename("z", "d")
        .write("d/foo", 0, b"two")
        .end();
    let text = place.run(receiver, &[], stream);
    match (&*place.read("e/foo"), &*place.read("d/foo")) {
        ("one", "two") => format!("{text}, both files right"),
        (e, d) => format!("{text}, **the files hold {e:?} and {d:?}**"),
    }
}

/// A parent `far/s`, and a subvolume `inner` that alone is mounted.
fn with_inner(receiver: &Receiver, copies: &[&str]) -> String {
    let filesystem = LoopFilesystem::new();
    let inner = subvolume::create(&filesystem.path().join("inner"));
    for directory in copies {
        let site = Site::new(filesystem.path(), directory);
        receiver.run(RawStream::new(1).mkfile("f").end(), &[], site.path());
    }
    let site = Site::new(&inner, "site");
    let mount = filesystem.mount("subvol=inner");
    let next = snapshot("t", OWN_UUID).mkfile("g").end();
    let ended = receiver.run(next, &[], &mount.path().join("site"));
    format!("{}, {}", ended.how, state(&site.path().join("t")))
}

fn parent_outside(receiver: &Receiver) -> String {
    with_inner(receiver, &["far"])
}

fn two_holders(receiver: &Receiver) -> String {
    with_inner(receiver, &["far", "inner/near"])
}

fn snapshot(name: &str, parent: [u8; 16]) -> RawStream {
    let attributes = [
        attr::path(name),
        attr::uuid([0x77; 16]),
        attr::ctransid(9),
        attr::clone_uuid(parent),
        attr::clone_ctransid(5),
    ];
    RawStream::header(1).command(2, attributes)
}

/// The received UUID of the subvolume that [`source`] makes.
const SOURCE: [u8; 16] = [0x33; 16];

/// Receives a subvolume `source` with a file `f`, to be cloned from: older
/// versions of the reference find sources by received UUID only.
fn source(receiver: &Receiver, directory: &Path) {
    let subvol = [attr::path("source"), attr::uuid(SOURCE), attr::ctransid(5)];
    let stream = RawStream::header(1)
        .command(1, subvol)
        .mkfile("f")
        .write("f", 0, &[b's'; 4096])
        .end();
    receiver.run(stream, &[], directory);
}

fn nodatasum(receiver: &Receiver) -> String {
    let place = Place::new();
    source(receiver, place.filesystem.path());
    let remounted = Command::new("mount")
        .args(["-o", "remount,nodatasum"])
        .arg(place.filesystem.path())
        .status();
    assert!(remounted.is_ok_and(|status| status.success()), "remount");
    let stream = RawStream::new(1)
        .mkfile("f")
        .clone_block("f", SOURCE, "f")
        .end();
    let text = place.run(receiver, &[], stream);
    format!("{text}, {} bytes of 4096", place.read("f").len())
}

/// The source is there, but not below the mount point, where alone the
/// reference can open it.
fn clone_source_outside(receiver: &Receiver) -> String {
    let filesystem = LoopFilesystem::new();
    let inner = subvolume::create(&filesystem.path().join("inner"));
    source(receiver, filesystem.path());
    let site = Site::new(&inner, "site");
    let mount = filesystem.mount("subvol=inner");
    let stream = RawStream::new(1)
        .mkfile("f")
        .clone_block("f", SOURCE, "f")
        .end();
    let ended = receiver.run(stream, &[], &mount.path().join("site"));
    let received = site.path().join("s");
    let bytes = fs::read(received.join("f")).unwrap_or_default().len();
    let text = format!("{}, {}", ended.how, state(&received));
    match (ended.success, bytes) {
        (true, 0) => format!("{text}, **the file is empty**"),
        _ => format!("{text}, {bytes} bytes of 4096"),
    }
}

fn missing_clone_source(receiver: &Receiver) -> String {
    let stream = RawStream::new(1)
        .mkfile("f")
        .clone_block("f", UNKNOWN_UUID, "f")
        .end();
    Place::new().run(receiver, &[], stream)
}

/// The image lies on another btrfs; a reflink copy of it is the disk at the
/// instant the receiver exits.
fn power_cut(receiver: &Receiver) -> String {
    let outer = LoopFilesystem::builder().size(3 << 30).build();
    let builder = LoopFilesystem::builder().directory(outer.path());
    let inner = builder.size(1 << 30).build();
    let from = LoopFilesystem::new();
    let work = subvolume::create(&from.path().join("work"));
    for index in 0..400_u32 {
        let content = files::pattern(index.to_le_bytes()[0], 60_000, false);
        fs::write(work.join(format!("file{index}")), content).expect("room");
    }
    let sent = subvolume::snapshot_read_only(&work, &from.path().join("s"));
    let stream = RawStream::empty().bytes(&Sender::new(&sent).to_vec());
    let ended = receiver.run(stream, &[], inner.path());
    let cut = outer.path().join("cut");
    files::reflink(inner.image(), &cut).expect("a reflink copy");
    let after = LoopFilesystem::builder().existing_image(&cut).build();
    let received = after.path().join("s");
    let mut text = format!("{}, {}", ended.how, state(&received));
    if received.exists() {
        let (sent, received) = (Tree::read(&sent), Tree::read(&received));
        let different = sent
            .entries
            .iter()
            .filter(|(path, entry)| {
                let found = received.get(path.as_slice());
                found.map(|found| &found.content) != Some(&entry.content)
            })
            .count();
        let all = sent.entries.len() - 1;
        text += &match different {
            0 => format!(", all {all} files whole"),
            _ => format!(", **{different} of {all} files differ**"),
        };
    }
    text
}

fn leak(receiver: &Receiver) -> String {
    let place = Place::new();
    let set = |stream: RawStream, name: &str, value: &[u8]| {
        let attributes = [
            attr::path(""),
            attr::xattr_name(name),
            attr::xattr_data(value),
        ];
        stream.command(13, attributes)
    };
    let acl = files::acl(1234, 7);
    let stream = set(RawStream::new(1), "system.posix_acl_default", &acl);
    let stream = set(stream, "btrfs.compression", b"zstd").mkfile("f").end();
    let text = place.run(receiver, &[], stream);
    let tree = Tree::read(&place.site.path().join("s"));
    match tree.get("f").map(|entry| entry.xattrs.len()) {
        Some(0) => format!("{text}, a new file has neither"),
        _ => format!("{text}, **a new file has inherited them**"),
    }
}

fn endless(receiver: &Receiver) -> String {
    let place = Place::new();
    let stream = RawStream::new(1)
        .mkfile("f")
        .here()
        .write("f", 0, b"data")
        .cut(20);
    let ended = receiver.run(stream, &["-E", "0"], place.site.path());
    let text = place.describe(&ended);
    match ended.lines {
        0..10 => text,
        _ => format!("{text}, **thousands of error lines**"),
    }
}

fn forgotten(receiver: &Receiver) -> String {
    let place = Place::new();
    let stream = RawStream::new(1)
        .mkfile("f")
        .write("missing", 0, b"x")
        .end();
    place.run(receiver, &["-e", "-E", "0"], stream)
}

fn existing(receiver: &Receiver) -> String {
    let place = Place::new();
    let mine = subvolume::create(&place.site.path().join("s"));
    fs::write(mine.join("f"), b"mine").expect("room");
    let stream = RawStream::new(1).write("f", 0, b"gone").end();
    let text = place.run(receiver, &["-E", "5"], stream);
    match &*place.read("f") {
        "mine" => format!("{text}, its file is untouched"),
        _ => format!("{text}, **its file was overwritten**"),
    }
}

fn dotdot(receiver: &Receiver) -> String {
    let stream = RawStream::new(1)
        .write("../canary/file", 0, b"escaped")
        .end();
    Place::new().run(receiver, &[], stream)
}

fn link(receiver: &Receiver) -> String {
    let stream = RawStream::new(1)
        .symlink("l", "../canary")
        .write("l/file", 0, b"escaped")
        .end();
    Place::new().run(receiver, &[], stream)
}

fn no_subvol(receiver: &Receiver) -> String {
    let place = Place::new();
    let file = place.site.path().join("canary/file");
    let path = file.to_string_lossy();
    let stream = RawStream::header(1)
        .write(path.trim_start_matches('/'), 0, b"escaped")
        .end();
    place.run(receiver, &[], stream)
}

fn disk(receiver: &Receiver) -> String {
    let (place, disk) = (Place::new(), LoopFilesystem::new());
    disk.sync();
    let number = fs::metadata(disk.device()).expect("a device").rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let rdev = u64::from(minor & 0xff | major << 8 | (minor & !0xff) << 12);
    // btrfs leaves the first 64 KiB of a disk to others.
    let stream = RawStream::new(1)
        .special(5, "n", 0o60_600, rdev)
        .write("n", 4096, b"escaped")
        .end();
    let text = place.run(receiver, &[], stream);
    let mut found = [0; 7];
    let device = fs::File::open(disk.device()).expect("a device");
    device.read_exact_at(&mut found, 4096).expect("a disk");
    match found == *b"escaped" {
        true => format!("{text}, **the disk was written to**"),
        false => format!("{text}, the disk is untouched"),
    }
}

fn chroot_clone(receiver: &Receiver) -> String {
    let place = Place::new();
    let top = place.filesystem.path();
    source(receiver, top);
    fs::write(top.join("secret"), [b's'; 4096]).expect("room");
    let stream = RawStream::new(1)
        .mkfile("f")
        .clone_block("f", SOURCE, "../secret")
        .end();
    let text = place.run(receiver, &["-C"], stream);
    match place.read("f").is_empty() {
        true => text,
        false => format!("{text}, **it holds a file from outside**"),
    }
}

fn decompress(receiver: &Receiver) -> String {
    let place = Place::new();
    let case = btrfs_testkit::corpus::load()
        .into_iter()
        .find(|case| case.name == "encoded-offset-outside")
        .expect("a case of the corpus");
    let stream = RawStream::empty().bytes(&case.bytes);
    let text = place.run(receiver, &["--force-decompress"], stream);
    let file = fs::read(place.site.path().join("s/f")).unwrap_or_default();
    let odd = file.iter().filter(|&&byte| byte != 0).count();
    match (file.is_empty(), odd) {
        (true, _) => text,
        (false, 0) => format!("{text}, **{} bytes from nowhere**", file.len()),
        (false, _) => format!("{text}, **{odd} bytes of its own memory in the file**"),
    }
}

fn unknown(receiver: &Receiver) -> String {
    let stream = RawStream::new(2).mkfile("f").command(60, []).end();
    Place::new().run(receiver, &[], stream)
}

fn missing_file(receiver: &Receiver) -> String {
    let place = Place::new();
    let ended = receiver.run_with(None, &["-f", "/nowhere/file"], place.site.path());
    place.describe(&ended)
}

/// A subvolume with a file of user 1000 and a larger one after it; the stream
/// of it, and that of a change of both.
fn of_a_user(place: &Place) -> (Vec<u8>, Vec<u8>) {
    let path = place.filesystem.path();
    let work = subvolume::create(&path.join("work"));
    fs::create_dir(work.join("home")).unwrap();
    let file = work.join("home/f");
    fs::write(&file, b"good").unwrap();
    files::set_owner(&file, 1000, 1000).unwrap();
    fs::write(work.join("rest"), files::pattern(1, 1 << 20, false)).unwrap();
    let first = subvolume::snapshot_read_only(&work, &path.join("first"));
    fs::write(work.join("rest"), files::pattern(2, 1 << 20, false)).unwrap();
    let second = subvolume::snapshot_read_only(&work, &path.join("second"));
    let full = Sender::new(&first).to_vec();
    (full, Sender::new(&second).parent(&first).to_vec())
}

/// Receives while `meddle` runs beside it: once the first half was handed
/// over, until it returns, and then the rest.
fn meanwhile(
    receiver: &Receiver,
    place: &Place,
    stream: &[u8],
    meddle: impl FnOnce() + Send,
) -> Ended {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (first, rest) = stream.split_at(stream.len() / 2);
            // A receiver that has ended does not read.
            let _ = writer.write_all(first);
            meddle();
            let _ = writer.write_all(rest);
        });
        let input = File::from(OwnedFd::from(reader));
        receiver.run_with(Some(input), &[], place.site.path())
    })
}

/// As user 1000, tries to open a file again and again until that succeeds or
/// `stop` is set.
fn open_as_user(place: &Place, path: &str, stop: &AtomicBool) -> Option<OwnedFd> {
    let directory = open(place.site.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    let (uid, gid) = (Uid::from_raw(1000), Gid::from_raw(1000));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(gid, gid, gid).unwrap();
    set_thread_res_uid(uid, uid, uid).unwrap();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(file) = openat(&directory, path, OFlags::RDWR, Mode::empty()) {
            return Some(file);
        }
    }
    None
}

fn changed_by_user(receiver: &Receiver, place: &Place, stream: &[u8], name: &str) -> String {
    let stop = AtomicBool::new(false);
    let received = place.site.path().join(name);
    std::thread::scope(|scope| {
        let path = format!("{name}/home/f");
        let user = scope.spawn({
            let stop = &stop;
            move || open_as_user(place, &path, stop)
        });
        let ended = meanwhile(receiver, place, stream, || {
            while !received.exists() {
                std::thread::yield_now();
            }
        });
        stop.store(true, Ordering::Relaxed);
        if let Some(file) = user.join().unwrap() {
            rustix::io::write(file, b"EVIL").unwrap();
        }
        let found = fs::read(received.join("home/f")).unwrap();
        let what = match &found[..] {
            b"good" => "the file is untouched",
            _ => "**the file is changed**",
        };
        format!("{}, {}, {what}", ended.how, state(&received))
    })
}

fn user_full(receiver: &Receiver) -> String {
    let place = Place::new();
    let (full, _) = of_a_user(&place);
    changed_by_user(receiver, &place, &full, "first")
}

fn user_incremental(receiver: &Receiver) -> String {
    let place = Place::new();
    let (full, change) = of_a_user(&place);
    meanwhile(receiver, &place, &full, || {});
    changed_by_user(receiver, &place, &change, "second")
}

fn renamed_meanwhile(receiver: &Receiver) -> String {
    let place = Place::new();
    let (full, _) = of_a_user(&place);
    let name = place.site.path().join("first");
    let ended = meanwhile(receiver, &place, &full, || {
        while !name.exists() {
            std::thread::yield_now();
        }
        fs::rename(&name, place.site.path().join("moved")).unwrap();
        subvolume::create(&name);
    });
    let moved = state(&place.site.path().join("moved"));
    let what = if state(&name) == "stamped" {
        "**the other is stamped**"
    } else {
        "the other is untouched"
    };
    format!("{}, {moved}, {what}", ended.how)
}
