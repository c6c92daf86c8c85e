//! Every command of `docs/topologies.md` runs as it is written.
//!
//! A block that begins with ```` ```sh ```` is run by bash, which stops at the
//! first command that fails; one with ```` ```sh on HOST ```` too, on that host.
//! The blocks run one after the other. A host is a filesystem of its own, which is
//! mounted at the same place for all of them; `ssh HOST COMMAND` runs the command
//! here.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use btrfs_testkit::document::{Shown, blocks, repository};
use btrfs_testkit::{LoopFilesystem, Sample, Sender, Test, assert_same_tree, subvolume, test};

use crate::support::receive;

const FILE: &str = "docs/topologies.md";

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![test!(the_commands_run)]
}

fn the_commands_run() {
    let place = Place::new();
    let blocks = blocks(FILE);
    let run: Vec<_> = blocks.iter().filter(|it| it.is_run()).collect();
    assert!(run.len() >= 5, "{}", run.len());
    for block in run {
        block.run(Path::new("/"), place.programs.path());
    }
    // What was to be shown: nothing but the first stream was a full one.
    for copy in [
        "/snapshots/thursday",
        "/offsite/thursday",
        "/restored/thursday",
    ] {
        assert_same_tree(Path::new("/backup/thursday"), Path::new(copy));
    }
    let size = |name: &str| {
        fs::metadata(format!("/archive/{name}.stream"))
            .unwrap()
            .len()
    };
    assert!(size("tuesday") < size("monday") / 2);
    assert!(size("thursday") < size("monday") / 2);
}

/// The names that the document uses.
struct Place {
    programs: tempfile::TempDir,
    // Gone before what is mounted there.
    _shown: Vec<Shown>,
    _archive: tempfile::TempDir,
    _filesystems: Vec<LoopFilesystem>,
}

impl Place {
    fn new() -> Self {
        let filesystems: Vec<_> = (0..4).map(|_| LoopFilesystem::new()).collect();
        let [snapshots, backup, offsite, restored] = &filesystems[..] else {
            unreachable!("there are four");
        };
        let work = subvolume::create(&snapshots.path().join("work"));
        let take = |name: &str| subvolume::snapshot_read_only(&work, &snapshots.path().join(name));
        Sample::default().build(&work);
        let monday = take("monday");
        Sample::default().change(&work);
        // Of a nested subvolume, cp leaves a directory.
        subvolume::delete(&work.join("nested subvolume"));
        let tuesday = take("tuesday");
        fs::write(work.join("wednesday"), b"file").unwrap();
        take("wednesday");
        let full = Sender::new(&monday).to_vec();
        receive(&full, backup.path()).unwrap();
        receive(&full, offsite.path()).unwrap();
        let incremental = Sender::new(&tuesday).parent(&monday).to_vec();
        receive(&incremental, backup.path()).unwrap();
        let archive = tempfile::tempdir().unwrap();
        let shown = vec![
            Shown::at("/snapshots", snapshots.path()),
            Shown::at("/backup", backup.path()),
            Shown::at("/offsite", offsite.path()),
            Shown::at("/restored", restored.path()),
            Shown::at("/archive", archive.path()),
        ];
        Self {
            programs: programs(),
            _shown: shown,
            _archive: archive,
            _filesystems: filesystems,
        }
    }
}

/// The commands of this repository, and an `ssh` that goes nowhere.
fn programs() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let ours = Path::new(env!("CARGO_BIN_EXE_btrfs-lineage"));
    symlink(ours, directory.path().join("btrfs-lineage")).unwrap();
    for name in ["btrfs-recv-rs", "sendstream"] {
        let program = ours.with_file_name(name);
        // They are there if the tests of the workspace are built. To build them
        // with other features takes minutes.
        if !program.exists() {
            build(name);
        }
        symlink(program, directory.path().join(name)).unwrap();
    }
    let ssh = directory.path().join("ssh");
    fs::write(&ssh, "#!/bin/sh\nshift\nexec sh -c \"$*\"\n").unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

fn build(program: &str) {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--workspace", "--bin", program])
        .current_dir(repository())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
}
