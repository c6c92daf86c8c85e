//! What the command finds, and whether what it says to do helps.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use btrfs_receive::resume::{ResumableReceiver, ResumeOptions};
use btrfs_receive::{BtrfsDestination, Options, Receiver};
use btrfs_testkit::{LoopFilesystem, Test, files, subvolume, test};

use super::support::{
    By, Sent, assert_clean, assert_found, audit, carry_out, change, outcome, receive, received, sh,
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(nothing_is_found_on_an_ordinary_backup),
        test!(changed_since_it_was_received),
        test!(received_from_a_changed_parent),
        test!(writable_with_a_received_uuid),
        test!(one_received_uuid_several_times),
        test!(interrupted_receives),
        test!(interrupted_at_the_very_end),
        test!(names_that_tools_stumble_over),
        test!(what_is_not_mounted_is_looked_at),
        test!(below_a_directory),
        test!(what_cannot_be_looked_at_is_said),
    ]
}

fn nothing_is_found_on_an_ordinary_backup() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    assert_clean(to.path());
    for by in [By::Ours, By::Progs] {
        let backup = to.path().join(format!("{by:?}"));
        fs::create_dir(&backup).unwrap();
        receive(by, &sent.full, &backup);
        if by == By::Ours {
            receive(by, &sent.incremental(), &backup);
        }
        subvolume::snapshot_writable(&backup.join("monday"), &backup.join("work"));
        to.sync();
        assert_clean(to.path());
        subvolume::delete(&backup.join("work"));
        subvolume::delete(&backup.join("monday"));
    }
    assert_clean(&to.path().join("Ours/tuesday"));
}

/// What is received from a changed parent has the changes.
fn received_from_a_changed_parent() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let monday = receive(By::Ours, &sent.full, to.path());
    change(&monday, |it| sh(it, "echo x >>d/f1"));
    subvolume::snapshot_read_only(&monday, &to.path().join("copy"));
    receive(By::Ours, &sent.incremental(), to.path());
    let tuesday = to.path().join("tuesday");
    let named = format!(
        "    Received from it, with the changes made before:\n    {} (subvolume {})\n  - ",
        tuesday.display(),
        subvolume::facts(&tuesday).id
    );
    assert_found(to.path(), &[&named]);
}

fn changed_since_it_was_received() {
    let (to, monday) = received(By::Ours);
    change(&monday, |it| sh(it, "echo x >>d/f1"));
    let shown = format!("{} (subvolume ", monday.display());
    let printed = assert_found(
        to.path(),
        &[
            &shown,
            "changed after it was received",
            "1 problem was found",
        ],
    );
    let file = carry_out(&printed, "which file or directory");
    assert_eq!(file, format!("{}\n", monday.join("d/f1").display()));
    carry_out(&printed, "to keep it");
    let facts = subvolume::facts(&monday);
    assert!(facts.read_only && facts.received_uuid.is_none());
    assert_clean(to.path());
    // Or it is received again.
    subvolume::delete(&monday);
    let sent = Sent::new();
    receive(By::Ours, &sent.full, to.path());
    change(&monday, |it| fs::remove_file(it.join("top")).unwrap());
    let printed = assert_found(to.path(), &["inode 256 was last changed"]);
    carry_out(&printed, "to receive it again");
    receive(By::Ours, &sent.full, to.path());
    assert_clean(to.path());
}

fn writable_with_a_received_uuid() {
    let (to, monday) = received(By::Ours);
    subvolume::flip(&monday, false);
    let texts = [
        "writable, but has a received UUID",
        "nothing in it was changed",
    ];
    let printed = assert_found(to.path(), &texts);
    carry_out(&printed, "to use it as a copy");
    assert_clean(to.path());
    subvolume::flip(&monday, false);
    fs::write(monday.join("new"), b"new").unwrap();
    to.sync();
    let printed = assert_found(to.path(), &["writable, but", "was last changed at 20"]);
    assert!(!printed.contains("to use it as a copy"), "{printed}");
    carry_out(&printed, "to keep it writable");
    let facts = subvolume::facts(&monday);
    assert!(!facts.read_only && facts.received_uuid.is_none());
    assert_clean(to.path());
}

fn one_received_uuid_several_times() {
    let (to, monday) = received(By::Ours);
    let uuid = subvolume::facts(&monday).received_uuid.unwrap();
    let copy = subvolume::snapshot_read_only(&monday, &to.path().join("copy"));
    let begin = format!("received UUID {uuid}: 2 subvolumes have it, and ");
    assert_found(
        to.path(),
        &[
            &begin,
            "their content is the same",
            "nothing has to be done",
        ],
    );
    change(&monday, |it| sh(it, "echo x >>d/f1"));
    assert_found(
        to.path(),
        &["they DIFFER", ": stransid", "CHANGED", "2 problems"],
    );
    subvolume::delete(&monday);
    assert_clean(to.path());
    // From another state of the same subvolume, or by way of another host.
    let other = subvolume::create(&to.path().join("other"));
    to.sync();
    subvolume::stamp(&other, &uuid, 99_999);
    subvolume::flip(&other, true);
    let printed = assert_found(to.path(), &["they may differ", "stransid 99999"]);
    let compare = format!("digest --compare {} {}", copy.display(), other.display());
    assert!(printed.contains(&compare), "{printed}");
}

fn interrupted_receives() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let cut = &sent.full[..sent.full.len() / 2];
    let destination = BtrfsDestination::builder().atomic(true);
    let destination = destination.open(to.path()).unwrap();
    Receiver::new(destination)
        .receive(cut, &mut ())
        .unwrap_err();
    let printed = assert_found(to.path(), &["monday.receiving (subvolume ", "incomplete"]);
    carry_out(&printed, "if no receive is running");
    assert_clean(to.path());
    let mut options = ResumeOptions::default();
    options.every_bytes = 20_000;
    let destination = BtrfsDestination::open(to.path()).unwrap();
    ResumableReceiver::new(destination, Options::default(), options)
        .unwrap()
        .receive(cut, &mut ())
        .unwrap_err();
    let printed = assert_found(to.path(), &["monday: a resumable receive", "1 problem"]);
    let directory = to.path().display();
    for command in [
        format!("btrfs-recv-rs --status {directory}\n"),
        format!("btrfs-recv-rs --abandon {directory} monday\n"),
    ] {
        assert!(printed.contains(&command), "{printed}");
    }
    // One that was killed before its first checkpoint.
    sh(
        to.path(),
        "btrfs subvolume delete btrfs-recv-rs.unfinished/monday/*/",
    );
    let printed = assert_found(to.path(), &["monday: a resumable receive", "1 problem"]);
    assert!(printed.contains("checkpoints: 0"), "{printed}");
}

/// As after a power cut between the received UUID and the read-only flag, and between
/// that and the name.
fn interrupted_at_the_very_end() {
    let (to, monday) = received(By::Ours);
    let aside = to.path().join("monday.receiving-0123456789abcdef");
    fs::rename(&monday, &aside).unwrap();
    let printed = assert_found(to.path(), &["received completely", "1 problem"]);
    carry_out(&printed, "rename it");
    assert_clean(to.path());
    subvolume::flip(&monday, false);
    files::set_xattr(&monday, "user.btrfs-receive.unfinished", b"").unwrap();
    let printed = assert_found(
        to.path(),
        &["before the subvolume became read-only", "1 problem"],
    );
    carry_out(&printed, "if no receive is running");
    assert_clean(to.path());
}

fn names_that_tools_stumble_over() {
    let to = LoopFilesystem::new();
    fs::create_dir(to.path().join("a\nb")).unwrap();
    for name in [&b"a\nb/one"[..], b"a\nb/two", b"caf\xe9", b"-rf", b"blank "] {
        subvolume::create(&to.path().join(OsStr::from_bytes(name)));
    }
    let printed = assert_found(
        to.path(),
        &[
            "a\\nb: the name contains a newline",
            "2 subvolumes have it in their path",
            "the name is not UTF-8",
            "the name begins with a hyphen",
            "the name begins or ends with a blank",
            "4 problems",
        ],
    );
    for (index, chunk) in printed.split("\n\n").take(4).enumerate() {
        carry_out(chunk, "to rename it");
        let new = to.path().join("NEW-NAME");
        fs::rename(new, to.path().join(format!("new-{index}"))).unwrap();
    }
    assert_clean(to.path());
}

fn what_is_not_mounted_is_looked_at() {
    let (to, monday) = received(By::Ours);
    subvolume::create(&to.path().join("else"));
    subvolume::flip(&monday, false);
    let mount = to.mount("subvol=else");
    // There is another mount, by which it can be reached.
    assert_found(mount.path(), &[&format!("{} (", monday.display())]);
    let script = format!(
        "umount {}; {} audit {}",
        to.path().display(),
        env!("CARGO_BIN_EXE_btrfs-lineage"),
        mount.path().display()
    );
    let mut unshare = Command::new("unshare");
    let output = unshare
        .args(["--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    let (status, printed, stderr) = outcome(&output);
    assert_eq!((status, stderr.as_str()), (1, ""));
    let expected = "/TOP-LEVEL/monday (subvolume ";
    assert!(printed.starts_with(expected), "{printed}");
    assert!(
        printed.contains("      mount -o subvolid=5 DEVICE /TOP-LEVEL\n"),
        "{printed}"
    );
}

fn below_a_directory() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    for name in ["a", "b"] {
        let directory = to.path().join(name);
        fs::create_dir(&directory).unwrap();
        receive(By::Ours, &sent.full, &directory);
    }
    assert_found(
        to.path(),
        &["2 subvolumes have it", "3 subvolumes: 1 problem"],
    );
    let below = |path: &Path| outcome(&audit([OsStr::new("--below"), path.as_os_str()]));
    let (status, printed, _) = below(&to.path().join("a"));
    assert_eq!(
        (status, &*printed),
        (0, "1 subvolume: no problem was found\n")
    );
    subvolume::flip(&to.path().join("a/monday"), false);
    let (status, printed, _) = below(&to.path().join("a"));
    let shown = format!("{}/a/monday (subvolume ", to.path().display());
    assert!(status == 1 && printed.starts_with(&shown), "{printed}");
}

fn what_cannot_be_looked_at_is_said() {
    for path in ["/no/such/path", "/proc"] {
        let (status, stdout, stderr) = outcome(&audit([path]));
        assert_eq!((status, &*stdout), (2, ""));
        assert!(
            stderr.starts_with(&format!("btrfs-lineage: {path}: ")),
            "{stderr}"
        );
    }
    assert_eq!(outcome(&audit::<&str>([])).0, 2);
    let (to, monday) = received(By::Ours);
    // Late enough that its transaction ids do not say that nothing was changed.
    change(&monday, |it| {
        sh(
            it,
            "cat d/f1 >/dev/null; btrfs filesystem defragment -f d/f1",
        )
    });
    to.sync();
    assert_clean(to.path());
    let without = |capability: &str| {
        let mut setpriv = Command::new("setpriv");
        setpriv.arg(format!("--bounding-set=-{capability}"));
        setpriv.args([env!("CARGO_BIN_EXE_btrfs-lineage"), "audit"]);
        outcome(&setpriv.arg(to.path()).output().unwrap())
    };
    let (status, _, stderr) = without("sys_admin");
    assert!(
        status == 3 && stderr.contains("missing: CAP_SYS_ADMIN"),
        "{stderr}"
    );
    let mount = to.mount("subvol=monday");
    let mut setpriv = Command::new("setpriv");
    setpriv.args([
        "--bounding-set=-dac_read_search",
        env!("CARGO_BIN_EXE_btrfs-lineage"),
        "audit",
    ]);
    let (status, _, stderr) = outcome(&setpriv.arg(mount.path()).output().unwrap());
    assert!(
        status == 3 && stderr.contains("missing: CAP_DAC_READ_SEARCH"),
        "{stderr}"
    );
}
