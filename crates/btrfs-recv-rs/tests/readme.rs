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
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use btrfs_testkit::{LoopFilesystem, Sample, Sender, Test, subvolume};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

const FILES: &[&str] = &["README.md", "crates/btrfs-recv-rs/README.md"];

fn main() -> ExitCode {
    let marked = FILES.iter().map(|&file| {
        Test::anywhere(format!("{file}_marks_its_code"), move || {
            marks_its_code(file)
        })
    });
    // One test: they share the places that they are shown at.
    let run = Test::on_btrfs("the_commands_run", || {
        FILES.iter().for_each(|file| run(file))
    });
    btrfs_testkit::main(marked.chain([run]))
}

fn repository() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::canonicalize(path).unwrap()
}

/// A block of code: where it begins, what its fence says, and its text.
struct Block {
    line: usize,
    info: String,
    text: String,
}

/// The fenced blocks of a file, and the lines that stand in none.
fn blocks(file: &str) -> (Vec<Block>, Vec<(usize, String)>) {
    let text = fs::read_to_string(repository().join(file)).unwrap();
    let (mut found, mut others) = (Vec::new(), Vec::new());
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            others.push((at + 1, line.to_owned()));
            continue;
        };
        let inside = lines.by_ref().take_while(|(_, line)| line.trim() != "```");
        // Blocks in lists are indented.
        let indent = line.len() - line.trim_start().len();
        found.push(Block {
            line: at + 1,
            info: info.to_owned(),
            text: inside
                .map(|(_, line)| format!("{}\n", line.get(indent..).unwrap_or("")))
                .collect(),
        });
    }
    (found, others)
}

/// Code that is only indented would escape this test.
fn marks_its_code(file: &str) {
    let (found, others) = blocks(file);
    for (line, text) in others {
        assert!(
            !text.starts_with("    "),
            "{file}:{line}: put code into ```sh or ```text: {text}"
        );
    }
    for block in found {
        let known = matches!(block.info.as_str(), "sh" | "text" | "rust" | "toml")
            || block.info.starts_with("sh not run: ");
        assert!(known, "{file}:{}: ```{}", block.line, block.info);
    }
}

fn run(file: &str) {
    let place = Place::new();
    for block in blocks(file).0 {
        if block.info != "sh" {
            continue;
        }
        print!("--- {file}:{}\n{}", block.line, block.text);
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &block.text])
            .current_dir(place.checkout.path())
            .env(
                "PATH",
                format!("/usr/local/bin:{}", std::env::var("PATH").unwrap()),
            )
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        print!("{said}");
        assert!(
            output.status.success(),
            "{file}:{}: {}\n{}{said}",
            block.line,
            output.status,
            block.text
        );
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

/// A directory bound to a well-known name, in the mount namespace of this
/// test only.
struct Shown {
    name: &'static Path,
    made: bool,
}

impl Shown {
    fn at(name: &'static str, directory: &Path) -> Self {
        let made = fs::create_dir(name).is_ok();
        mount_bind(directory, name).unwrap();
        let name = Path::new(name);
        Self { name, made }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = unmount(self.name, UnmountFlags::DETACH);
        if self.made {
            let _ = fs::remove_dir(self.name);
        }
    }
}
