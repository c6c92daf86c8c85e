//! Every command of the READMEs runs as it is written.
//!
//! A block that begins with ```` ```sh ```` is run by bash, which stops at
//! the first command that fails; one with ```` ```sh not run: REASON ```` is
//! passed over. The blocks of a file run one after the other, at a place
//! where the names that they use exist: `/snapshots` with `today`, `monday`
//! and `tuesday`, `/backup` on another filesystem, a `/usr/local` with nothing
//! but the command, and the checkout as the current directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

use btrfs_testkit::document::{Shown, blocks, repository};
use btrfs_testkit::{LoopFilesystem, Sample, Sender, Test, subvolume};

const FILES: &[&str] = &["README.md", "crates/btrfs-recv-rs/README.md"];

fn main() -> ExitCode {
    let marked = FILES.iter().map(|&file| {
        Test::anywhere(format!("{file}_marks_its_code"), move || {
            assert!(!blocks(file).is_empty());
        })
    });
    // One test: they share the places that they are shown at.
    let run = Test::on_btrfs("the_commands_run", || {
        FILES.iter().for_each(|file| run(file))
    });
    btrfs_testkit::main(marked.chain([run]))
}

fn run(file: &str) {
    let place = Place::new();
    for block in blocks(file).iter().filter(|it| it.is_run()) {
        block.run(place.checkout.path(), Path::new("/usr/local/bin"));
    }
}

/// The names that the READMEs use.
struct Place {
    checkout: tempfile::TempDir,
    // Gone before what is mounted there.
    _shown: Vec<Shown>,
    _local: [tempfile::TempDir; 2],
    _filesystems: [LoopFilesystem; 2],
}

impl Place {
    fn new() -> Self {
        let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
        let work = subvolume::create(&from.path().join("work"));
        let snapshot = |name: &str| subvolume::snapshot_read_only(&work, &from.path().join(name));
        Sample::default().build(&work);
        let monday = snapshot("monday");
        Sample::default().change(&work);
        let tuesday = snapshot("tuesday");
        snapshot("wednesday");
        snapshot("today");
        let local = tempfile::tempdir().unwrap();
        fs::create_dir(local.path().join("bin")).unwrap();
        let command = env!("CARGO_BIN_EXE_btrfs-recv-rs");
        symlink(command, local.path().join("bin/btrfs-recv-rs")).unwrap();
        let checkout = checkout();
        let streams = checkout.path();
        fs::write(streams.join("monday.stream"), Sender::new(&monday).to_vec()).unwrap();
        let incremental = Sender::new(&tuesday).parent(&monday).to_vec();
        fs::write(streams.join("tuesday.stream"), incremental).unwrap();
        let archive = tempfile::tempdir().unwrap();
        for name in ["monday.stream", "tuesday.stream"] {
            fs::copy(streams.join(name), archive.path().join(name)).unwrap();
        }
        let shown = vec![
            Shown::at("/snapshots", from.path()),
            Shown::at("/backup", to.path()),
            Shown::at("/archive", archive.path()),
            Shown::at("/usr/local", local.path()),
        ];
        Self {
            checkout,
            _shown: shown,
            _local: [local, archive],
            _filesystems: [from, to],
        }
    }
}

/// What is in the checkout, in a directory that may be written to.
fn checkout() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(repository()).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    directory
}
