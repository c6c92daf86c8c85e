//! What is a change of a received subvolume, and what is none. `docs/kernel.md` has
//! the table of what the kernel records.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use btrfs_lineage::{SinceReceived, since_received};
use btrfs_testkit::{LoopFilesystem, Test, files, subvolume, test};

use super::support::{By, Sent, change, receive, received, sh};

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        test!(late_write_back_is_no_change),
        test!(after_a_power_cut_changes_are_found),
    ];
    for by in [By::Ours, By::Progs] {
        tests.push(test!(nothing_but_changes_is_a_change, by));
        tests.push(test!(every_change_is_found, by));
        tests.push(test!(snapshots_of_it_are_as_changed_as_it, by));
    }
    tests
}

fn since(subvolume: &Path) -> SinceReceived {
    since_received(File::open(subvolume).unwrap()).unwrap()
}

#[track_caller]
fn assert_unchanged(subvolume: &Path, after: &str) {
    assert_eq!(since(subvolume), SinceReceived::Unchanged, "{after}");
}

#[track_caller]
fn assert_changed(subvolume: &Path, by: &str) {
    let since = since(subvolume);
    assert!(since.changed_inode().is_some(), "{by}: {since:?}");
}

/// What leaves the subvolume as it was received, one after the other.
fn nothing_but_changes_is_a_change(by: By) {
    let (to, monday) = received(by);
    let top = to.path();
    assert_unchanged(&monday, "the receive");
    to.sync();
    assert_unchanged(&monday, "write-back");
    for script in [
        "mkdir other; btrfs filesystem sync .; touch other/x; btrfs filesystem sync .",
        "mount -o remount,strictatime .; find monday -type f -exec cat {} + >/dev/null; sync -f .",
        "mount -o remount,noatime,compress=zstd .; find monday -type f -exec cat {} + >/dev/null; sync -f .",
        "btrfs subvolume snapshot -r monday ro; btrfs subvolume snapshot monday rw; sync -f .",
        "btrfs subvolume delete --commit-after ro rw",
        "btrfs quota enable .; btrfs quota rescan -w .",
        "btrfs qgroup limit 1G monday; sync -f .",
        "btrfs quota disable .; sync -f .",
        "btrfs scrub start -B .",
        "btrfs balance start --full-balance .",
        "! btrfs filesystem defragment -r -f monday; sync -f .",
        "! btrfs property set monday/top compression zstd; ! chattr +c monday/top",
        "! mkdir monday/x; ! btrfs subvolume create monday/x; ! setfattr -n user.a -v b monday",
        "mv monday else; sync -f .; mv else monday",
        "btrfs subvolume set-default monday; btrfs subvolume set-default 5 .",
        "btrfs filesystem resize -100M .",
    ] {
        sh(top, script);
        assert_unchanged(&monday, script);
    }
    deduplicate(&monday.join("d/f1"), &top.join("copy"));
    to.sync();
    assert_unchanged(&monday, "deduplication");
    for _ in 0..2 {
        change(&monday, |_| {});
        assert_unchanged(&monday, "flips alone");
    }
    subvolume::flip(&monday, false);
    for script in [
        "btrfs filesystem defragment -f -czstd monday/d/f3; sync -f .",
        "mount -o remount,strictatime .; find monday -type f -exec cat {} + >/dev/null; sync -f .",
        "btrfs balance start --full-balance .",
    ] {
        sh(top, script);
        assert_unchanged(&monday, script);
    }
    subvolume::flip(&monday, true);
    assert_unchanged(&monday, "what a writable one allows");
}

/// Has `received` share the extents of a copy of it.
fn deduplicate(received: &Path, copy: &Path) {
    // FIDEDUPERANGE
    const PROGRAM: &str = "\
        open(my $from, '<', $ARGV[0]) or die; open(my $to, '<', $ARGV[1]) or die; \
        my $args = pack('Q Q S S L q Q Q l L', 0, 16384, 1, 0, 0, fileno($to), 0, 0, 0, 0); \
        ioctl($from, 0xC0189436, $args) or die $!; \
        my ($bytes, $status) = unpack('x40 Q l', $args); \
        $bytes == 16384 && $status == 0 or die \"$bytes $status\";";
    fs::write(copy, fs::read(received).unwrap()).unwrap();
    files::sync(copy).unwrap();
    let mut perl = Command::new("perl");
    let status = perl.args(["-e", PROGRAM]).args([copy, received]).status();
    assert!(status.unwrap().success());
}

fn every_change_is_found(by: By) {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    for script in [
        "echo x >>d/f1",
        "touch -r d/f1 ../times; printf x | dd of=d/f1 conv=notrunc; touch -r ../times d/f1",
        "truncate -s 10 d/f1",
        "fallocate -p -o 0 -l 4096 d/f1",
        "cp --reflink=always d/f1 d/f2",
        "chmod 711 d/f1",
        "chown 5 d/f1",
        "touch -d 2001-01-01 d/f1",
        "setfattr -n user.x -v y d/f1",
        "setfattr -x user.a d/f2",
        "setfacl -m u:5:r d/f1",
        "chattr +A d/f1",
        "btrfs property set d/f1 compression zstd",
        "rm d/f1",
        "touch -r d ../times; rm d/f1; touch -r ../times d",
        "rm top",
        "rmdir empty",
        "touch new",
        "touch d/e/new",
        "mv d/f1 d/e/",
        "mv top above",
        "ln d/f1 d/e/",
        "ln -s x d/x",
        "mkfifo d/x",
        "btrfs subvolume create d/x",
        "btrfs subvolume create x; btrfs subvolume delete x",
    ] {
        let monday = receive(by, &sent.full, to.path());
        to.sync();
        assert_unchanged(&monday, "the receive");
        change(&monday, |it| sh(it, script));
        to.sync();
        assert_changed(&monday, script);
        // A nested subvolume would have to be deleted first.
        fs::rename(&monday, to.path().join("old")).unwrap();
        sh(
            to.path(),
            "btrfs property set -f old ro false; ! [ -e old/d/x/. ] || btrfs subvolume delete \
             old/d/x; btrfs subvolume delete old",
        );
    }
    let monday = receive(by, &sent.full, to.path());
    change(&monday, |it| sh(it, "rm d/f1"));
    sh(to.path(), "btrfs balance start --full-balance .");
    assert_changed(&monday, "a change, then a balance");
    subvolume::delete(&monday);
    // The receiver sets these last, so they prove nothing; docs/kernel.md says so.
    for script in ["chmod 711 .", "setfattr -n user.x -v y ."] {
        let monday = receive(by, &sent.full, to.path());
        change(&monday, |it| sh(it, script));
        to.sync();
        assert_unchanged(&monday, script);
        subvolume::delete(&monday);
    }
}

fn snapshots_of_it_are_as_changed_as_it(by: By) {
    let (to, monday) = received(by);
    to.sync();
    let ro = subvolume::snapshot_read_only(&monday, &to.path().join("ro"));
    assert_unchanged(&ro, "a snapshot of what was received");
    let again = subvolume::snapshot_read_only(&ro, &to.path().join("again"));
    assert_unchanged(&again, "a snapshot of that");
    let rw = subvolume::snapshot_writable(&monday, &to.path().join("rw"));
    assert_eq!(since(&rw), SinceReceived::NotReceived);
    change(&monday, |it| sh(it, "touch d/new"));
    assert_changed(&monday, "a new file");
    assert_unchanged(&ro, "a change of what it was taken of");
    let later = subvolume::snapshot_read_only(&monday, &to.path().join("later"));
    assert_changed(&later, "a change before the snapshot");
}

/// `btrfs receive` leaves data in memory, which reaches the disk in whatever
/// transaction comes then.
fn late_write_back_is_no_change() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let other = subvolume::create(&to.path().join("other"));
    let monday = receive(By::Progs, &sent.full, to.path());
    for _ in 0..4 {
        // Commits a transaction, and writes no data.
        subvolume::flip(&other, true);
        subvolume::flip(&other, false);
    }
    to.sync();
    assert_unchanged(&monday, "write-back after other transactions");
}

/// The mount after a power cut brings back what fsync had saved, and leaves ctransid
/// as it was.
fn after_a_power_cut_changes_are_found() {
    let outer = LoopFilesystem::new();
    let inner = LoopFilesystem::builder().directory(outer.path()).build();
    let sent = Sent::new();
    let monday = receive(By::Ours, &sent.full, inner.path());
    subvolume::flip(&monday, false);
    files::write(&monday.join("d/f1"), 0, b"changed").unwrap();
    files::sync(&monday.join("d/f1")).unwrap();
    let image = outer.path().join("cut");
    let mut cp = Command::new("cp");
    let status = cp
        .arg("--reflink=always")
        .args([inner.image(), &image])
        .status();
    assert!(status.unwrap().success());
    drop(inner);
    let cut = LoopFilesystem::builder().existing_image(&image).build();
    let monday = cut.path().join("monday");
    assert!(
        fs::read(monday.join("d/f1"))
            .unwrap()
            .starts_with(b"changed")
    );
    assert_changed(&monday, "a change before the power cut");
    subvolume::flip(&monday, true);
    assert_changed(&monday, "the same, read-only");
}
