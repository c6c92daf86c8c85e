//! Copies that become parents.

use std::fs;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use btrfs_testkit::{LoopFilesystem, Sample, Sender, Test, files, subvolume, test};

use rustix::process::{Pid, Signal, kill_process};

use super::support::{COMMAND, document, program, receive, run, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_copy_becomes_a_parent, "rsync").needs("rsync"),
        test!(a_copy_becomes_a_parent, "cp"),
        test!(a_lost_received_uuid_comes_back),
        test!(long_names_are_adopted),
        test!(another_received_uuid_is_not_lost_by_accident),
        test!(what_cannot_be_adopted_says_why),
        test!(what_no_adoption_made_is_not_deleted),
        test!(a_writable_original_is_refused),
        test!(what_changes_meanwhile_is_not_deleted).needs("strace"),
    ]
}

/// Two hosts: the sender has `first` and `second`, and the digest of `first`
/// saved.
pub(crate) struct Hosts {
    pub(crate) from: LoopFilesystem,
    pub(crate) to: LoopFilesystem,
    pub(crate) first: PathBuf,
    pub(crate) second: PathBuf,
    pub(crate) saved: PathBuf,
}

impl Hosts {
    /// With every kind of file.
    fn new() -> Self {
        Self::of(Sample::default())
    }

    fn of(sample: Sample) -> Self {
        let build = |work: &Path| {
            sample.build(work);
            // A copying program would make a directory of it.
            subvolume::delete(&work.join("nested subvolume"));
            for entry in std::fs::read_dir(work.join("sparse")).unwrap() {
                let entry = entry.unwrap();
                // It reads holes too.
                if entry.metadata().unwrap().len() > 1 << 30 {
                    std::fs::remove_file(entry.path()).unwrap();
                }
            }
        };
        Self::with(build, |work| sample.change(work))
    }

    pub(crate) fn with(build: impl FnOnce(&Path), change: impl FnOnce(&Path)) -> Self {
        let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
        let work = subvolume::create(&from.path().join("work"));
        build(&work);
        let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
        change(&work);
        let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
        let saved = from.path().join("first.json");
        let output = run(&["digest", "--json", "--tree"], &[&first]);
        assert!(output.status.success(), "{output:?}");
        std::fs::write(&saved, &output.stdout).unwrap();
        Self {
            from,
            to,
            first,
            second,
            saved,
        }
    }

    /// A writable copy by a program.
    pub(crate) fn copy(&self, with: &str) -> PathBuf {
        let copy = subvolume::create(&self.to.path().join("copy"));
        let source = self.first.join(".");
        match with {
            "rsync" => {
                let mut source = self.first.clone().into_os_string();
                source.push("/");
                // Without the last it compares whole seconds, and leaves what
                // is right by these.
                let options = ["-aHAXS", "--numeric-ids", "--modify-window=-1"];
                program("rsync", &options, &[source.as_ref(), &copy]);
            }
            _ => program("cp", &["-a"], &[&source, &copy]),
        }
        copy
    }

    pub(crate) fn adopt(&self, options: &[&str], copy: &Path) -> (Option<i32>, String, String) {
        let saved = format!("--digest={}", self.saved.display());
        let mut args = vec!["adopt", &saved];
        args.extend(options);
        let output = run(&args, &[copy]);
        let (stdout, stderr) = text(&output);
        (output.status.code(), stdout, stderr)
    }

    /// The change since `first`, received where the copy is.
    pub(crate) fn receive_change(&self) -> Result<PathBuf, String> {
        let sender = Sender::new(&self.second).parent(&self.first).version(2);
        receive(&sender.to_vec(), self.to.path())?;
        Ok(self.to.path().join("second"))
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whoever owns the directory can give that name to what is another's.
fn what_no_adoption_made_is_not_deleted() {
    let hosts = Hosts::new();
    let copy = hosts.copy("cp");
    let name = copy.file_name().unwrap().to_str().unwrap();
    let other = copy.with_file_name(format!("{name}.adopting-0123456789abcdef"));
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
    let precious = subvolume::create(&other.join("subvolume"));
    fs::write(precious.join("file"), b"precious").unwrap();
    let (status, stdout, stderr) = hosts.adopt(&["--make-read-only"], &copy);
    assert_eq!(status, Some(0), "{stdout}{stderr}");
    assert_eq!(fs::read(precious.join("file")).unwrap(), b"precious");
}

/// What its UUID stands for may be something else by now.
fn a_writable_original_is_refused() {
    let hosts = Hosts::new();
    let copy = hosts.copy("cp");
    let document = fs::read_to_string(&hosts.saved).unwrap();
    let changed = document.replace("\"read_only\":true", "\"read_only\":false");
    assert_ne!(document, changed);
    fs::write(&hosts.saved, changed).unwrap();
    let (status, _, stderr) = hosts.adopt(&["--make-read-only"], &copy);
    assert_eq!(status, Some(1));
    assert!(stderr.contains("from a writable subvolume"), "{stderr}");
    assert_eq!(subvolume::facts(&copy).received_uuid, None);
}

fn a_copy_becomes_a_parent(with: &'static str) {
    let hosts = Hosts::of(Sample {
        // What rsync creates inherits the compression of the directory.
        root_inheritance: with != "rsync",
        ..Sample::default()
    });
    let copy = hosts.copy(with);
    assert!(hosts.receive_change().is_err());

    let (status, stdout, stderr) = hosts.adopt(&[], &copy);
    assert_eq!(status, Some(1), "{stdout}");
    assert!(stderr.contains("--make-read-only"), "{stderr}");
    let before = subvolume::facts(&copy);
    let (status, stdout, stderr) = hosts.adopt(&["--make-read-only", "--dry-run"], &copy);
    assert_eq!(status, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("would be adopted"), "{stdout}");
    assert_eq!(subvolume::facts(&copy), before);

    let (status, stdout, stderr) = hosts.adopt(&["--make-read-only", "--json"], &copy);
    assert_eq!((status, &*stderr), (Some(0), ""), "{stdout}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let (sent, facts) = (subvolume::facts(&hosts.first), subvolume::facts(&copy));
    assert_eq!(report["outcome"], "adopted");
    assert_eq!(report["subvolume_id"], facts.id);
    assert_eq!(report["uuid"], *facts.uuid);
    assert!(facts.read_only);
    assert_eq!(facts.received_uuid, Some(sent.uuid));
    assert_eq!(facts.send_transid, document(&hosts.first).ctransid);
    btrfs_testkit::assert_same_tree(&hosts.first, &copy);
    assert_eq!(names_in(hosts.to.path()), ["copy"]);
    assert_unchanged_since_received(&copy);

    let received = hosts.receive_change().unwrap();
    assert_eq!(document(&received).sha256, document(&hosts.second).sha256);
    btrfs_testkit::assert_same_tree(&hosts.second, &received);
    let (status, stdout, _) = hosts.adopt(&[], &copy);
    assert_eq!(status, Some(0));
    assert!(stdout.contains("is adopted already"), "{stdout}");
    assert_eq!(subvolume::facts(&copy), facts);
}

/// By which a receiver tells that nobody changed it.
fn assert_unchanged_since_received(path: &Path) {
    use btrfs_ioctl::{INODE_ITEM, Key, subvolume_info, tree_search};
    let root = std::fs::File::open(path).unwrap();
    let info = subvolume_info(&root).unwrap();
    assert!(info.ctransid <= info.rtransid, "{info:?}");
    tree_search(&root, info.id, Key::MIN, Key::MAX, |item| {
        if item.key.item_type == INODE_ITEM {
            let transid = u64::from_le_bytes(*item.data[8..].first_chunk().unwrap());
            assert!(transid <= info.rtransid, "{info:?} {:?}", item.key);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
}

fn long_names_are_adopted() {
    let hosts = Hosts::with(
        |work| std::fs::write(work.join("file"), "text").unwrap(),
        |_| {},
    );
    let copy = hosts.copy("cp");
    let long = copy.with_file_name("x".repeat(255));
    std::fs::rename(&copy, &long).unwrap();
    let (status, _, stderr) = hosts.adopt(&["--make-read-only"], &long);
    assert_eq!((status, &*stderr), (Some(0), ""));
    assert_eq!(names_in(hosts.to.path()), ["x".repeat(255)]);
}

/// As `btrfs property set -f ro false` takes it away.
fn a_lost_received_uuid_comes_back() {
    let hosts = Hosts::new();
    receive(&Sender::new(&hosts.first).to_vec(), hosts.to.path()).unwrap();
    let copy = hosts.to.path().join("first");
    subvolume::set_read_only(&copy, false);
    subvolume::stamp(&copy, &"0".repeat(32), 0);
    subvolume::set_read_only(&copy, true);
    assert_eq!(subvolume::facts(&copy).received_uuid, None);
    assert!(hosts.receive_change().is_err());
    let (status, stdout, stderr) = hosts.adopt(&[], &copy);
    assert_eq!(status, Some(0), "{stdout}{stderr}");
    let received = hosts.receive_change().unwrap();
    assert_eq!(document(&received).sha256, document(&hosts.second).sha256);
    assert_eq!(names_in(hosts.to.path()), ["first", "second"]);
}

fn another_received_uuid_is_not_lost_by_accident() {
    let hosts = Hosts::new();
    let copy = hosts.copy("cp");
    let other = "11111111-2222-3333-4444-555555555555";
    subvolume::stamp(&copy, other, 7);
    subvolume::set_read_only(&copy, true);
    let before = subvolume::facts(&copy);
    let (status, _, stderr) = hosts.adopt(&[], &copy);
    assert_eq!(status, Some(1));
    for part in [other, "--replace-received-uuid"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert_eq!(subvolume::facts(&copy), before);
    let (status, stdout, stderr) = hosts.adopt(&["--replace-received-uuid"], &copy);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(
        stdout.contains(&format!("instead of the received UUID {other}")),
        "{stdout}"
    );
    hosts.receive_change().unwrap();
}

fn what_cannot_be_adopted_says_why() {
    let hosts = Hosts::with(
        |work| std::fs::write(work.join("file"), "text").unwrap(),
        |_| {},
    );
    let copy = hosts.copy("cp");
    let refused = |path: &Path, options: &[&str], why: &str| {
        let (status, stdout, stderr) = hosts.adopt(options, path);
        assert_eq!(status, Some(1), "{stdout}");
        assert!(stderr.contains(why), "{why}: {stderr}");
        stdout
    };
    let options = ["--make-read-only"];
    let mount = hosts.to.mount("subvol=copy");
    refused(mount.path(), &options, "is mounted here");
    drop(mount);
    refused(&hosts.to.path().join("none"), &options, "No such file");
    refused(&hosts.first, &[], "from this very subvolume");
    let directory = hosts.to.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    refused(&directory, &options, "not the root of a btrfs subvolume");
    subvolume::create(&copy.join("inside"));
    refused(&copy, &options, "other subvolumes are in it");
    subvolume::delete(&copy.join("inside"));
    files::set_mode(&copy.join("file"), 0o600).unwrap();
    let stdout = refused(&copy, &options, "not adopted: the digest is");
    assert!(
        stdout.contains("file: mode: expected 0644, found 0600"),
        "{stdout}"
    );
    let facts = subvolume::facts(&copy);
    assert!(!facts.read_only && facts.received_uuid.is_none());
    assert_eq!(names_in(hosts.to.path()), ["copy", "directory"]);
    // Not the document of one subvolume.
    std::fs::write(&hosts.saved, "{\"format\":2}\n").unwrap();
    refused(&copy, &options, "format 2");
    std::fs::write(&hosts.saved, "\n").unwrap();
    refused(&copy, &options, "no digest");
}

/// Somebody has a file of the copy open, from before it was read-only, and
/// writes to it.
fn what_changes_meanwhile_is_not_deleted() {
    let hosts = Hosts::with(
        |work| std::fs::write(work.join("file"), "text").unwrap(),
        |_| {},
    );
    let copy = hosts.copy("cp");
    let open = std::fs::File::options();
    let open = open.clone().append(true).open(copy.join("file")).unwrap();
    subvolume::set_read_only(&copy, true);
    // Stopped when both have exchanged their names, which has to be on disk
    // before the old one is deleted.
    let before = copy.metadata().unwrap().dev();
    let mut adopting = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync"])
        .args(["-e", "inject=fsync:signal=STOP:when=1"])
        .args([COMMAND, "adopt", "--digest"])
        .args([&hosts.saved, &copy])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while copy.metadata().unwrap().dev() == before {
        assert!(adopting.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    (&open).write_all(b"more").unwrap();
    drop(open);
    // It may not have stopped yet.
    while adopting.try_wait().unwrap().is_none() {
        if let Some(number) = process_that_adopts(&copy) {
            let _ = kill_process(number, Signal::CONT);
        }
        std::thread::yield_now();
    }
    let mut stderr = String::new();
    let mut pipe = adopting.stderr.take().unwrap();
    pipe.read_to_string(&mut stderr).unwrap();
    assert!(adopting.wait().unwrap().success(), "{stderr}");
    assert!(
        stderr.contains("was not deleted: it was changed"),
        "{stderr}"
    );
    assert_eq!(document(&copy).sha256, document(&hosts.first).sha256);
    let names = names_in(hosts.to.path());
    assert_eq!(names.len(), 2, "{names:?}");
    let old = hosts.to.path().join(&names[1]).join("file");
    assert_eq!(std::fs::read(old).unwrap(), b"textmore");
}

fn process_that_adopts(copy: &Path) -> Option<Pid> {
    let is_it = |directory: &Path| {
        let line = std::fs::read(directory.join("cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0);
        words.next() == Some(COMMAND.as_bytes())
            && words.any(|word| word == copy.as_os_str().as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let mut found = processes.filter(|process| is_it(&process.path()));
    Pid::from_raw(found.next()?.file_name().to_str()?.parse().ok()?)
}
