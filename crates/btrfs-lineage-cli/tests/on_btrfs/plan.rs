//! `plan`: what it prints, and that the receiver takes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use btrfs_ioctl as sys;
use btrfs_testkit::{
    LoopFilesystem, Sender, Test, assert_same_tree, reference_receive, subvolume, test,
};
use serde_json::Value;

use crate::support::{lineage, receive, said, send, write_inventory};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(hosts_change_and_come_back),
        test!(stored_streams_are_a_receiver),
        test!(what_is_said_and_what_it_exits_with),
        test!(names_that_a_shell_would_break),
        test!(what_is_not_mounted_is_not_named),
        test!(inventories_that_are_none),
    ]
}

/// A host, with a subvolume for what it receives.
struct Host {
    filesystem: LoopFilesystem,
    scratch: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self::after(0)
    }

    /// A host that has been in use for some time: new ones number their
    /// transactions alike, so that copies seem to come from each other.
    fn after(transactions: usize) -> Self {
        let filesystem = LoopFilesystem::new();
        if transactions > 0 {
            let busy = subvolume::create(&filesystem.path().join("busy"));
            for read_only in [true, false].into_iter().cycle().take(transactions) {
                let root = fs::File::open(&busy).unwrap();
                sys::subvol_set_read_only(root, read_only).unwrap();
            }
        }
        Self {
            filesystem,
            scratch: tempfile::tempdir().unwrap(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.filesystem.path().join(name)
    }

    /// Writes a file into a subvolume, and takes a snapshot of it.
    fn snapshot(&self, work: &str, name: &str) -> PathBuf {
        let work = self.at(work);
        if !work.exists() {
            subvolume::create(&work);
            fs::write(work.join("large"), vec![1; 100_000]).unwrap();
        }
        fs::write(work.join(name), name).unwrap();
        subvolume::snapshot_read_only(&work, &self.at(name))
    }

    fn inventory(&self) -> PathBuf {
        write_inventory(
            self.filesystem.path(),
            &self.scratch.path().join("inventory"),
        )
    }

    /// Plans, sends and receives; checks what arrived. Returns what was planned.
    #[track_caller]
    fn transfer(&self, name: &str, to: &Self) -> String {
        let output = plan(&self.at(name), &to.inventory(), &[]);
        let full = output.status.code() == Some(3);
        assert!(full || output.status.success(), "{}", said(&output));
        assert_eq!(full, output.stdout.is_empty());
        let stream = send(&output.stdout, &self.at(name)).unwrap();
        receive(&stream, to.filesystem.path()).unwrap();
        assert_same_tree(&self.at(name), &to.at(name));
        let planned = String::from_utf8(output.stdout).unwrap();
        planned.replace(&format!("{}/", self.filesystem.path().display()), "")
    }
}

fn plan(snapshot: &Path, against: &Path, options: &[&str]) -> Output {
    let mut command = lineage(["plan"]);
    let command = command.args(options).arg(snapshot);
    command.arg("--against").arg(against).output().unwrap()
}

/// A sends a, b and c to B, and only a and c to C. A dies; B takes over; then C
/// sends everything to a new A.
fn hosts_change_and_come_back() {
    let (a, b, c) = (Host::new(), Host::after(200), Host::after(400));
    for name in ["a", "b", "c"] {
        a.snapshot("work", name);
    }
    assert_eq!(a.transfer("a", &b), "");
    assert_eq!(a.transfer("b", &b), "-p a\n");
    assert_eq!(a.transfer("c", &b), "-p b -c a\n");
    assert_eq!(a.transfer("a", &c), "");
    assert_eq!(a.transfer("c", &c), "-p a\n");
    drop(a);

    // B goes on with what it received.
    subvolume::snapshot_writable(&b.at("c"), &b.at("work"));
    b.snapshot("work", "d");
    b.snapshot("work", "e");
    // The parent that lies at hand is the snapshot before, or the one that the
    // snapshot was received onto. C has neither.
    for (name, parent) in [("e", "d"), ("c", "b"), ("d", "b")] {
        let naive = Sender::new(&b.at(name)).parent(&b.at(parent)).to_vec();
        let refused = reference_receive(&naive, &scratch(&c)).unwrap_err();
        assert!(
            refused.contains("cannot find parent subvolume"),
            "{refused}"
        );
        assert!(receive(&naive, &scratch(&c)).is_err());
    }
    assert_eq!(b.transfer("d", &c), "-p c -c a\n");
    assert_eq!(b.transfer("e", &c), "-p d -c c -c a\n");
    // What C lacks in between is as near to the one as to the other.
    let planned = b.transfer("b", &c);
    assert!(
        planned.starts_with("-p a -c c") || planned.starts_with("-p c -c a"),
        "{planned}"
    );

    // C, in turn, to a new A.
    let a = Host::after(600);
    let naive = Sender::new(&c.at("c")).parent(&c.at("a")).to_vec();
    assert!(reference_receive(&naive, &scratch(&a)).is_err());
    assert_eq!(c.transfer("a", &a), "");
    assert_eq!(c.transfer("c", &a), "-p a\n");
    assert_eq!(c.transfer("e", &a), "-p c -c a\n");
    // And back: A has what C has, and goes on.
    subvolume::snapshot_writable(&a.at("e"), &a.at("work"));
    a.snapshot("work", "f");
    assert_eq!(a.transfer("f", &c), "-p e -c c -c a\n");
    // B and A never spoke with each other. Both know where c and a came from,
    // but A's came by way of C.
    let output = plan(&a.at("f"), &b.inventory(), &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        said(&output).contains("--trust-relayed"),
        "{}",
        said(&output)
    );
    let output = plan(&a.at("f"), &b.inventory(), &["--trust-relayed"]);
    let stream = send(&output.stdout, &a.at("f")).unwrap();
    receive(&stream, b.filesystem.path()).unwrap();
    assert_same_tree(&a.at("f"), &b.at("f"));
}

/// Where what fails does not get in the way.
fn scratch(host: &Host) -> PathBuf {
    let path = host.at("scratch");
    let _ = fs::create_dir(&path);
    path
}

/// Compresses a stream.
fn zstd(stream: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), stream).unwrap();
    let output = std::process::Command::new("zstd")
        .arg("-c")
        .arg(file.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

fn stored_streams_are_a_receiver() {
    let (host, archive) = (Host::new(), tempfile::tempdir().unwrap());
    for name in ["a", "b", "c", "d"] {
        host.snapshot("work", name);
    }
    let store = |name: &str, stream: &[u8]| {
        let path = archive.path().join(name);
        fs::write(&path, stream).unwrap();
        path
    };
    let planned = |name: &str, options: &[&str]| {
        let output = plan(&host.at(name), archive.path(), options);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let root = format!("{}/", host.filesystem.path().display());
        (text.replace(&root, ""), output)
    };
    let (text, output) = planned("a", &[]);
    assert_eq!((&text[..], output.status.code()), ("", Some(3)));
    store("a.stream", &Sender::new(&host.at("a")).to_vec());
    // The parent of this one was not stored.
    let incremental = Sender::new(&host.at("c")).parent(&host.at("b")).to_vec();
    store("c.stream", &incremental);
    let (text, output) = planned("d", &[]);
    assert_eq!(text, "-p a\n");
    assert!(said(&output).contains("c.stream: the stream of its parent is missing"));
    // Cut off, also where a command ends.
    let second = Sender::new(&host.at("b")).parent(&host.at("a")).to_vec();
    for cut in [second.len() - 10, second.len() - 30, 5] {
        store("b.stream", &second[..cut]);
        let (text, output) = planned("d", &[]);
        assert_eq!(text, "-p a\n", "{cut}");
        assert!(said(&output).contains("b.stream: "), "{}", said(&output));
    }
    store("b.stream", &second);
    assert_eq!(planned("d", &[]).0, "-p c -c b -c a\n");
    assert_eq!(planned("d", &["--verify"]).0, "-p c -c b -c a\n");
    // Compressed, whole and cut off.
    let whole = zstd(&second);
    store("b.stream", &whole);
    assert_eq!(planned("d", &[]).0, "-p c -c b -c a\n");
    assert_eq!(planned("d", &["--verify"]).0, "-p c -c b -c a\n");
    for bad in [
        &whole[..whole.len() - 1],
        &zstd(&second[..second.len() - 10]),
    ] {
        store("b.stream", bad);
        let (text, output) = planned("d", &[]);
        assert_eq!(text, "-p a\n");
        assert!(said(&output).contains("b.stream"), "{}", said(&output));
        assert_eq!(planned("d", &["--verify"]).0, "-p a\n");
    }
    store("b.stream", &second);
    // Incremental to what needs it, it would leave nothing that can be restored.
    let (text, output) = planned("a", &[]);
    assert_eq!((&text[..], output.status.code()), ("", Some(4)));
    // Damage inside is seen by reading all of it.
    let mut damaged = second.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    store("b.stream", &damaged);
    let (text, output) = planned("d", &["--verify"]);
    assert_eq!(text, "-p a\n");
    assert!(said(&output).contains("b.stream: "), "{}", said(&output));
    // Two subvolumes in one file.
    let both = Sender::several([&*host.at("b"), &*host.at("c")]);
    store("b.stream", &both.parent(&host.at("a")).to_vec());
    fs::remove_file(archive.path().join("c.stream")).unwrap();
    assert_eq!(planned("d", &[]).0, "-p b -c a\n");
    let (text, output) = planned("d", &["--verify"]);
    assert_eq!(text, "-p c -c b -c a\n");

    // What was planned can be restored.
    let stream = send(&output.stdout, &host.at("d")).unwrap();
    let last = store("d.stream", &stream);
    let new = LoopFilesystem::new();
    for name in ["a.stream", "b.stream", "d.stream"] {
        receive(&fs::read(archive.path().join(name)).unwrap(), new.path()).unwrap();
    }
    assert!(last.exists());
    assert_same_tree(&host.at("d"), &new.path().join("d"));
}

fn what_is_said_and_what_it_exits_with() {
    let (from, to) = (Host::new(), Host::new());
    for name in ["a", "b"] {
        from.snapshot("work", name);
    }
    let output = plan(&from.at("b"), &to.inventory(), &[]);
    assert_eq!(output.status.code(), Some(3));
    let text = "no parent: the receiver does not have the other read-only subvolume. Send all";
    assert!(said(&output).contains(text), "{}", said(&output));
    from.transfer("a", &to);
    let output = plan(&from.at("b"), &to.inventory(), &[]);
    assert!(
        said(&output).contains("on the receiver a"),
        "{}",
        said(&output)
    );
    let output = plan(&from.at("b"), &to.inventory(), &["--explain"]);
    let text = "the parent, on the receiver a; 2 steps from the snapshot";
    assert!(said(&output).contains(text), "{}", said(&output));

    let output = plan(&from.at("b"), &to.inventory(), &["--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["result"], "incremental");
    let parent = from.at("a");
    let arguments = serde_json::json!(["-p", parent.to_str().unwrap()]);
    assert_eq!(found["arguments"], arguments);
    assert_eq!(found["candidates"][0]["verdict"], "parent");

    // Flipped and changed: the received UUID stays, but not the content.
    let copy = fs::File::open(to.at("a")).unwrap();
    sys::subvol_set_read_only(&copy, false).unwrap();
    fs::write(to.at("a/a"), b"other").unwrap();
    sys::subvol_set_read_only(&copy, true).unwrap();
    let output = plan(&from.at("b"), &to.inventory(), &[]);
    assert_eq!(output.status.code(), Some(3));
    let text = "was changed after it was received";
    assert!(said(&output).contains(text), "{}", said(&output));
    let output = plan(&from.at("b"), &to.inventory(), &["--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["result"], output.status.code()),
        (&"full".into(), Some(3))
    );
    assert_eq!(found["impossible"], false);
    assert_eq!(found["candidates"][0]["verdict"], "changed_there");

    from.transfer("b", &to);
    let output = plan(&from.at("b"), &to.inventory(), &[]);
    let text = "the receiver has the snapshot already, nothing has to be sent: b";
    assert!(said(&output).contains(text), "{}", said(&output));
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.is_empty());

    // It would be sent under the UUID of the original.
    let output = plan(&to.at("a"), &from.inventory(), &[]);
    let text = "was changed since it was received";
    assert!(said(&output).contains(text), "{}", said(&output));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());

    let output = plan(&from.at("work"), &to.inventory(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("is writable"), "{}", said(&output));
    fs::create_dir(from.at("work/d")).unwrap();
    let output = plan(&from.at("work/d"), &to.inventory(), &[]);
    assert!(
        said(&output).contains("not a subvolume"),
        "{}",
        said(&output)
    );
}

fn names_that_a_shell_would_break() {
    use std::os::unix::ffi::OsStrExt;

    let (from, to) = (Host::new(), Host::new());
    let work = subvolume::create(&from.at("work"));
    let name = |bytes: &[u8]| {
        from.filesystem
            .path()
            .join(std::ffi::OsStr::from_bytes(bytes))
    };
    let old = subvolume::snapshot_read_only(&work, &name(b"it's $(old)\n\xe9"));
    fs::write(work.join("file"), b"hello").unwrap();
    let new = subvolume::snapshot_read_only(&work, &name(b"-new \\"));
    receive(&Sender::new(&old).to_vec(), to.filesystem.path()).unwrap();
    let output = plan(&new, &to.inventory(), &[]);
    let stream = send(&output.stdout, &new).unwrap();
    receive(&stream, to.filesystem.path()).unwrap();
    let received = to.filesystem.path().join(new.file_name().unwrap());
    assert_same_tree(&new, &received);
}

fn what_is_not_mounted_is_not_named() {
    let (from, to) = (Host::new(), Host::new());
    fs::create_dir(from.at("shown")).unwrap();
    let work = subvolume::create(&from.at("work"));
    for name in ["a", "b", "shown/c", "d"] {
        fs::write(work.join("file"), name).unwrap();
        subvolume::snapshot_read_only(&work, &from.at(name));
    }
    for name in ["a", "b"] {
        receive(&Sender::new(&from.at(name)).to_vec(), to.filesystem.path()).unwrap();
    }
    subvolume::snapshot_read_only(&work, &from.at("shown/e"));
    let inventory = to.inventory();
    let mount = from.filesystem.bind(&from.at("shown"));
    // By the other mount, all can be named.
    let output = plan(&mount.path().join("e"), &inventory, &[]);
    assert!(output.status.success(), "{}", said(&output));
    // In a namespace in which nothing else is mounted.
    let script = "umount -l \"$1\" && exec \"$0\" plan \"$2/e\" --against \"$3\"";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_btrfs-lineage"))
        .arg(from.filesystem.path())
        .arg(mount.path())
        .arg(&inventory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("not mounted here"),
        "{}",
        said(&output)
    );
    // One that is there is taken, even if it is farther.
    receive(
        &Sender::new(&from.at("shown/c")).to_vec(),
        to.filesystem.path(),
    )
    .unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(env!("CARGO_BIN_EXE_btrfs-lineage"))
        .arg(from.filesystem.path())
        .arg(mount.path())
        .arg(to.inventory())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let expected = format!("-p {}/c\n", mount.path().display());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{}",
        said(&output)
    );
}

fn inventories_that_are_none() {
    let host = Host::new();
    let snapshot = host.snapshot("work", "a");
    let inventory = fs::read(host.inventory()).unwrap();
    let path = host.scratch.path().join("other");
    for (bytes, text) in [
        (&b""[..], "is empty"),
        (
            b"btrfs-stream\0",
            "is not what `btrfs-lineage inventory --json` prints",
        ),
        (&inventory[..inventory.len() / 2], "it was cut off"),
        (b"{\"version\":2}", "version 2"),
    ] {
        fs::write(&path, bytes).unwrap();
        let output = plan(&snapshot, &path, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        assert!(said(&output).contains(text), "{}", said(&output));
    }
    let output = plan(&snapshot, Path::new("/no/such"), &[]);
    assert_eq!(output.status.code(), Some(1));
    // From standard input.
    let mut command = lineage(["plan", "--against", "-"]);
    let input = fs::File::open(host.inventory()).unwrap();
    let output = command.arg(&snapshot).stdin(input).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
}
