//! The real btrbk, backing up through the command.
//!
//! What btrbk prints is printed here too.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_lineage::adopt::{AdoptOptions, adopt};
use btrfs_lineage::digest::{DigestOptions, digest};
use btrfs_testkit::{LoopFilesystem, Sample, Test, assert_same_tree, files, subvolume};

use crate::shim::write_program;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for backend in [Backend::Shim, Backend::Programs] {
        let with = |name: &str, body: fn(&Btrbk)| {
            let body = move || body(&Btrbk::new(backend));
            Test::on_btrfs(format!("btrbk_{name}::{backend:?}"), body).needs("btrbk")
        };
        tests.extend([
            with("backs_up_in_increments", backs_up_in_increments),
            with("goes_on_after_a_change_of_direction", changes_direction),
            with("cleans_up_a_failed_transfer", cleans_up),
            with(
                "goes_on_where_btrfs_receive_ends",
                goes_on_where_another_ends,
            ),
            with(
                "goes_on_when_a_lost_relation_is_good_again",
                relation_is_good_again,
            ),
            with("goes_on_after_an_adoption", adopts),
        ]);
    }
    let body = || restores_raw_targets(&Btrbk::new(Backend::Shim));
    tests.push(Test::on_btrfs("btrbk_raw_targets_are_restored", body).needs("btrbk"));
    tests
}

/// How btrbk comes to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// It runs `btrfs receive`, and the command is called `btrfs`.
    Shim,
    /// `backend btrfs-progs-btrbk`: it runs `btrfs-receive`.
    Programs,
}

/// btrbk with the command in its `PATH`, and with a btrfs that would not
/// receive.
pub(crate) struct Btrbk {
    backend: Backend,
    place: tempfile::TempDir,
}

impl Btrbk {
    pub(crate) fn new(backend: Backend) -> Self {
        let place = tempfile::tempdir().unwrap();
        for name in ["ours", "real", "cut", "progs"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        let btrbk = Self { backend, place };
        let real = which("btrfs");
        let real = real.display();
        btrbk.program(
            "real/btrfs",
            &format!(
                "case \"$*\" in *receive*) echo ERROR: the wrong receive >&2; exit 1;; esac\n\
                 exec {real} \"$@\"\n"
            ),
        );
        let command = Path::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"));
        match backend {
            Backend::Shim => {
                symlink(command, btrbk.join("ours/btrfs")).unwrap();
                let cut = format!(
                    "case $1 in send) {real} \"$@\" | head -c 300000;; \
                     *) exec {} \"$@\";; esac\n",
                    btrbk.join("ours/btrfs").display()
                );
                btrbk.program("cut/btrfs", &cut);
                btrbk.program("progs/btrfs", &format!("exec {real} \"$@\"\n"));
            }
            Backend::Programs => {
                symlink(command, btrbk.join("ours/btrfs-receive")).unwrap();
                for verb in [
                    "subvolume list",
                    "subvolume show",
                    "subvolume snapshot",
                    "subvolume delete",
                    "send",
                    "filesystem usage",
                ] {
                    let name = format!("ours/btrfs-{}", verb.replace(' ', "-"));
                    btrbk.program(&name, &format!("exec {real} {verb} \"$@\"\n"));
                }
                let cut = format!("{real} send \"$@\" | head -c 300000\n");
                btrbk.program("cut/btrfs-send", &cut);
                let receive = format!("exec {real} receive \"$@\"\n");
                btrbk.program("progs/btrfs-receive", &receive);
            }
        }
        btrbk
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn program(&self, name: &str, text: &str) {
        write_program(&self.join(name), &format!("#!/bin/sh\n{text}"));
    }

    /// Runs `btrbk ACTION` to back up `from/work` to `target`, programs being
    /// found in these directories first.
    fn run(&self, action: &str, from: &Path, target: &str, directories: &[&str]) -> Output {
        fs::create_dir_all(from.join("snapshots")).unwrap();
        let volume = from.to_str().unwrap();
        self.run_with(action, "", (volume, target), directories)
    }

    /// The same with more settings. Volume and target are as btrbk has them;
    /// there is a directory for the snapshots.
    pub(crate) fn run_with(
        &self,
        action: &str,
        settings: &str,
        (volume, target): (&str, &str),
        directories: &[&str],
    ) -> Output {
        let backend = match self.backend {
            Backend::Shim => "btrfs-progs",
            Backend::Programs => "btrfs-progs-btrbk",
        };
        let configuration = format!(
            "timestamp_format long-iso\n\
             backend {backend}\n\
             snapshot_dir snapshots\n\
             incremental yes\n\
             {settings}volume {volume}\n  subvolume work\n    target {target}\n"
        );
        let file = self.join("btrbk.conf");
        fs::write(&file, &configuration).unwrap();
        let output = Command::new("btrbk")
            .args(["--loglevel=info", "-c"])
            .arg(&file)
            .arg(action)
            .env("PATH", self.search_path(directories))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        println!("--- btrbk {action}\n{configuration}--- {}", output.status);
        print!("{}", String::from_utf8_lossy(&output.stdout));
        print!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn search_path(&self, directories: &[&str]) -> std::ffi::OsString {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let mut all: Vec<_> = directories.iter().map(|name| self.join(name)).collect();
        all.extend(std::env::split_paths(&search));
        std::env::join_paths(all).unwrap()
    }

    /// Takes a snapshot of `from/work` and backs it up; all goes well.
    /// Returns the snapshot and its copy.
    fn backup(&self, from: &Path, to: &Path) -> (PathBuf, PathBuf) {
        let output = self.run("run", from, to.to_str().unwrap(), &["ours", "real"]);
        assert_backed_up(&output, from, to)
    }
}

/// All went well. Returns the latest snapshot and its copy.
pub(crate) fn assert_backed_up(output: &Output, from: &Path, to: &Path) -> (PathBuf, PathBuf) {
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("WARNING") && !text.contains("ERROR"));
    let snapshot = latest(&from.join("snapshots"));
    let copy = to.join(snapshot.file_name().unwrap());
    assert_same_tree(&snapshot, &copy);
    (snapshot, copy)
}

pub(crate) fn which(program: &str) -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search)
        .map(|directory| directory.join(program))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{program} is not in PATH"))
}

/// btrbk's names sort by time.
fn latest(directory: &Path) -> PathBuf {
    names(directory).pop().expect("a snapshot")
}

pub(crate) fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A host with something to back up.
pub(crate) fn host() -> LoopFilesystem {
    let host = LoopFilesystem::new();
    Sample::default().build(&subvolume::create(&host.path().join("work")));
    host
}

pub(crate) fn target() -> (LoopFilesystem, PathBuf) {
    let host = LoopFilesystem::new();
    let directory = host.path().join("backup");
    fs::create_dir(&directory).unwrap();
    (host, directory)
}

/// A file that is new, another one that is larger.
pub(crate) fn change(work: &Path, round: u8) {
    fs::write(work.join(format!("round-{round}")), vec![round; 100_000]).unwrap();
    fs::write(work.join("grows"), vec![b'g'; 50_000 * usize::from(round)]).unwrap();
}

pub(crate) fn assert_incremental(copy: &Path, incremental: bool) {
    let facts = subvolume::facts(copy);
    assert_eq!(facts.parent_uuid.is_some(), incremental, "{facts:?}");
    assert!(facts.read_only && facts.received_uuid.is_some());
}

fn backs_up_in_increments(btrbk: &Btrbk) {
    let from = host();
    let (_to, backup) = target();
    let (_, copy) = btrbk.backup(from.path(), &backup);
    assert_incremental(&copy, false);
    Sample::default().change(&from.path().join("work"));
    for round in 1..3 {
        change(&from.path().join("work"), round);
        let (_, copy) = btrbk.backup(from.path(), &backup);
        assert_incremental(&copy, true);
    }
    assert_eq!(names(&backup).len(), 3);
}

/// The backup is put into use on the other host, backed up to the first one,
/// and so back. Parents and clone sources are known there by their own UUID,
/// not by a received one; `btrfs receive` of btrfs-progs 6.2 ends here with
/// "clone: did not find source subvol".
fn changes_direction(btrbk: &Btrbk) {
    let first = host();
    let (second, backup) = target();
    let (_, copy) = btrbk.backup(first.path(), &backup);
    let work = subvolume::snapshot_writable(&copy, &second.path().join("work"));
    change(&work, 1);
    let returned = first.path().join("returned");
    fs::create_dir(&returned).unwrap();
    let (_, copy) = btrbk.backup(second.path(), &returned);
    assert_incremental(&copy, true);
    let work = first.path().join("work");
    fs::rename(&work, first.path().join("old")).unwrap();
    subvolume::snapshot_writable(&copy, &work);
    change(&work, 2);
    let (_, copy) = btrbk.backup(first.path(), &backup);
    assert_incremental(&copy, true);
}

/// The same where btrfs-progs receives at the end, and a file is cloned from the
/// parent; then the command does.
fn goes_on_where_another_ends(btrbk: &Btrbk) {
    let first = host();
    let (second, backup) = target();
    change(&first.path().join("work"), 1);
    let (_, copy) = btrbk.backup(first.path(), &backup);
    let work = subvolume::snapshot_writable(&copy, &second.path().join("work"));
    change(&work, 2);
    let returned = first.path().join("returned");
    fs::create_dir(&returned).unwrap();
    let (_, copy) = btrbk.backup(second.path(), &returned);
    let work = first.path().join("work");
    fs::rename(&work, first.path().join("old")).unwrap();
    subvolume::snapshot_writable(&copy, &work);
    files::reflink(&work.join("round-2"), &work.join("clone")).unwrap();
    let before = names(&backup);
    let to = backup.to_str().unwrap();
    let output = btrbk.run("run", first.path(), to, &["progs", "ours", "real"]);
    if output.status.success() {
        // A later btrfs-progs finds the source, too.
        return;
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("did not find source subvol"));
    assert_eq!(names(&backup), before);
    let output = btrbk.run("resume", first.path(), to, &["ours", "real"]);
    let (_, copy) = assert_backed_up(&output, first.path(), &backup);
    assert_incremental(&copy, true);
}

/// `btrfs property set -f` made the backup writable, which removes the received UUID:
/// btrbk sends everything again, until the copy is marked as received again.
fn relation_is_good_again(btrbk: &Btrbk) {
    let from = host();
    let (_to, backup) = target();
    let (snapshot, copy) = btrbk.backup(from.path(), &backup);
    subvolume::set_read_only(&copy, false);
    subvolume::set_read_only(&copy, true);
    assert_eq!(subvolume::facts(&copy).received_uuid, None);
    change(&from.path().join("work"), 1);
    let target = backup.to_str().unwrap();
    let output = btrbk.run("run", from.path(), target, &["ours", "real"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("exists, but is not a receive target"));
    let full = latest(&backup);
    assert_incremental(&full, false);
    subvolume::delete(&full);
    mark_again(&copy, &snapshot);
    let output = btrbk.run("resume", from.path(), target, &["ours", "real"]);
    let (_, resumed) = assert_backed_up(&output, from.path(), &backup);
    let parent = subvolume::facts(&resumed).parent_uuid;
    assert_eq!(parent, Some(subvolume::facts(&copy).uuid));
}

/// Marks a copy as received from a snapshot once more, as it holds the same.
fn mark_again(copy: &Path, snapshot: &Path) {
    assert_same_tree(snapshot, copy);
    subvolume::set_read_only(copy, false);
    subvolume::stamp(copy, &subvolume::facts(snapshot).uuid, 0);
    subvolume::flip(copy, true);
}

/// The copy has lost its received UUID, and btrbk sends everything again. When
/// the copy is adopted, it goes on in increments.
fn adopts(btrbk: &Btrbk) {
    let from = host();
    let (_to, backup) = target();
    let (snapshot, copy) = btrbk.backup(from.path(), &backup);
    lose_received_uuid(&copy);
    change(&from.path().join("work"), 1);
    let target = backup.to_str().unwrap();
    let output = btrbk.run("run", from.path(), target, &["ours", "real"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("is not a receive target of"));
    let everything = latest(&backup);
    assert_incremental(&everything, false);
    subvolume::delete(&everything);

    let of = File::open(&snapshot).unwrap();
    let document = digest(of, DigestOptions::default()).unwrap();
    let directory = File::open(&backup).unwrap();
    let name = copy.file_name().unwrap().as_bytes();
    adopt(&directory, name, &document, &AdoptOptions::default()).unwrap();
    change(&from.path().join("work"), 2);
    btrbk.backup(from.path(), &backup);
    let copies = names(&backup);
    assert!(copies.len() > 1);
    for copy in &copies {
        assert_incremental(copy, true);
    }
}

fn lose_received_uuid(copy: &Path) {
    subvolume::set_read_only(copy, false);
    subvolume::stamp(copy, &"0".repeat(32), 0);
    subvolume::set_read_only(copy, true);
    assert_eq!(subvolume::facts(copy).received_uuid, None);
}

fn cleans_up(btrbk: &Btrbk) {
    let from = host();
    let (_to, backup) = target();
    let target = backup.to_str().unwrap();
    let output = btrbk.run("run", from.path(), target, &["cut", "ours", "real"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("ERROR: ... the input ends inside a command"));
    assert!(text.contains("WARNING: Deleted partially received (garbled) subvolume"));
    assert_eq!(names(&backup), Vec::<PathBuf>::new());
    // What is missing is sent the next time.
    let output = btrbk.run("resume", from.path(), target, &["ours", "real"]);
    assert!(output.status.success());
    assert_same_tree(&latest(&from.path().join("snapshots")), &latest(&backup));
}

/// btrbk's raw targets are files with a stream each; btrbk brings a program
/// that restores them, in the order of their parents.
fn restores_raw_targets(btrbk: &Btrbk) {
    let from = host();
    let (to, files) = target();
    let raw = format!("raw {}", files.display());
    for round in 1..4 {
        change(&from.path().join("work"), round);
        let output = btrbk.run("run", from.path(), &raw, &["ours", "real"]);
        assert!(output.status.success());
    }
    let restored = to.path().join("restored");
    fs::create_dir(&restored).unwrap();
    for file in names(&files) {
        if file.extension().is_some_and(|it| it == "btrfs") {
            let output = Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"))
                .arg("-f")
                .args([&file, &restored])
                .output()
                .unwrap();
            print!("{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success());
        }
    }
    let copies = names(&restored);
    assert_eq!(copies.len(), 3);
    for (snapshot, copy) in names(&from.path().join("snapshots")).iter().zip(&copies) {
        assert_same_tree(snapshot, copy);
    }
}
