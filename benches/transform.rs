//! `sendstream` on a real stream, beside `zstd`; see benches/README.md.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_testkit::{LoopFilesystem, Sender, assert_same_tree, scratch_dir, subvolume};
use wait4::Wait4;

const HELP: &str = "\
cargo bench -p benches --bench transform -- [OPTIONS]      (as root)

  --source DIR   files to send are copied from here [/usr]
  --bytes N      stop copying after so many bytes of them [1200000000]
  --runs N       runs of each; the shortest is printed [3]";

/// What is compared: a name, a program, its arguments, and which stream it
/// reads. Ours are `sendstream`.
const CONTENDERS: &[(&str, &str, &[&str], Input)] = &[
    ("zstd -3", "zstd", &["-q", "-3", "-c"], Input::Original),
    (
        "zstd -3 -T0",
        "zstd",
        &["-q", "-3", "-T0", "-c"],
        Input::Original,
    ),
    ("sendstream upgrade", OURS, &["upgrade"], Input::Original),
    (
        "... --threads 1",
        OURS,
        &["upgrade", "--threads", "1"],
        Input::Original,
    ),
    (
        "... --level 1",
        OURS,
        &["upgrade", "--level", "1"],
        Input::Original,
    ),
    (
        "... --level 9",
        OURS,
        &["upgrade", "--level", "9"],
        Input::Original,
    ),
    (
        "... --compression zlib",
        OURS,
        &["upgrade", "--compression", "zlib"],
        Input::Original,
    ),
    ("sendstream cat", OURS, &["cat"], Input::Original),
    (
        "sendstream downgrade",
        OURS,
        &["downgrade", "--drop-newer"],
        Input::Upgraded,
    ),
];

const OURS: &str = "sendstream";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Original,
    /// What `sendstream upgrade` made of it.
    Upgraded,
}

struct Options {
    source: PathBuf,
    bytes: u64,
    runs: usize,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    // Nothing stays mounted, even if this is killed.
    let done = btrfs_testkit::enter_namespace().and_then(|()| run(&options));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        source: "/usr".into(),
        bytes: 1_200_000_000,
        runs: 3,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} needs a value"))
        };
        let number = |text: String| {
            let number = text.parse::<u64>();
            number.map_err(|_| format!("{text:?} is no number"))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--source" => options.source = value()?.into(),
            "--bytes" => options.bytes = number(value()?)?,
            "--runs" => options.runs = number(value()?)?.max(1) as usize,
            // What cargo adds.
            "--bench" => {}
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<(), String> {
    let sendstream = built()?;
    let room = scratch_dir().join("bench-transform");
    fs::create_dir_all(&room).map_err(told)?;
    let from = LoopFilesystem::builder().size(12 << 30).build();
    let work = subvolume::create(&from.path().join("work"));
    let copied = copy(&options.source, &work, options.bytes).map_err(told)?;
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snapshot"));
    let original = room.join("original");
    let file = File::create(&original).map_err(told)?;
    let mut send = Sender::new(&snapshot).version(1).command();
    let status = send.stdin(Stdio::null()).stdout(file).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(format!("{send:?} failed"));
    }
    let upgraded = room.join("upgraded");
    measure(&sendstream, &["upgrade"], &original, &upgraded)?;
    let len = |path: &Path| fs::metadata(path).map(|facts| facts.len()).map_err(told);
    println!(
        "kernel {}, {} processors, files in {}\n{copied} bytes of {} in a stream of {} bytes\n",
        rustix::system::uname().release().to_string_lossy(),
        std::thread::available_parallelism().map_or(0, usize::from),
        scratch_dir().display(),
        options.source.display(),
        len(&original)?,
    );
    let mut best: Vec<Option<Cost>> = vec![None; CONTENDERS.len()];
    let out = room.join("out");
    for _ in 0..options.runs {
        for (best, (_, program, arguments, input)) in best.iter_mut().zip(CONTENDERS) {
            let program = match *program {
                OURS => sendstream.as_path(),
                other => Path::new(other),
            };
            let input = match input {
                Input::Original => &original,
                Input::Upgraded => &upgraded,
            };
            let mut cost = measure(program, arguments, input, &out)?;
            cost.bytes = len(&out)?;
            if best.is_none_or(|best| cost.wall < best.wall) {
                *best = Some(cost);
            }
        }
    }
    println!("| | time | processor time | size | peak memory |\n|---|---|---|---|---|");
    for (cost, (name, ..)) in best.into_iter().zip(CONTENDERS) {
        let Cost {
            wall,
            cpu,
            peak,
            bytes,
        } = cost.unwrap_or_default();
        let (size, peak) = (bytes as f64 / 1e6, peak as f64 / f64::from(1 << 20));
        println!("| `{name}` | {wall:.1} s | {cpu:.1} s | {size:.0} MB | {peak:.0} MiB |");
    }
    // The last contender's output is the stream downgraded again.
    for (what, stream) in [("upgraded", &upgraded), ("downgraded again", &out)] {
        arrives(stream, &snapshot)?;
        println!("\n{what}: the tree received is the one sent");
    }
    fs::remove_dir_all(&room).map_err(told)
}

/// What one run took and made.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    wall: f64,
    cpu: f64,
    /// In bytes.
    peak: u64,
    bytes: u64,
}

fn measure(program: &Path, arguments: &[&str], from: &Path, to: &Path) -> Result<Cost, String> {
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdin(File::open(from).map_err(told)?);
    command.stdout(File::create(to).map_err(told)?);
    let start = Instant::now();
    let child = command.spawn();
    let child = child.map_err(|error| format!("{}: {error}", program.display()))?;
    let used = child.wait4().map_err(told)?;
    let wall = start.elapsed().as_secs_f64();
    if !used.status.success() {
        return Err(format!("{command:?}: {}", used.status));
    }
    Ok(Cost {
        wall,
        cpu: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        peak: used.rusage.maxrss,
        bytes: 0,
    })
}

/// Receives a stream and compares the tree with the one that was sent.
fn arrives(stream: &Path, snapshot: &Path) -> Result<(), String> {
    let to = LoopFilesystem::builder().size(12 << 30).build();
    let destination = BtrfsDestination::open(to.path()).map_err(|error| error.to_string())?;
    let stream = File::open(stream).map_err(told)?;
    let report = Receiver::new(destination).receive(stream, &mut ());
    report.map_err(|error| format!("{error}: {:?}", error.first_failure))?;
    assert_same_tree(snapshot, &to.path().join("snapshot"));
    Ok(())
}

/// The command, brought up to date.
fn built() -> Result<PathBuf, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", OURS])
        .status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(format!("{OURS} cannot be built"));
    }
    let me = std::env::current_exe().map_err(told)?;
    // target/release/deps/transform-…
    let directory = me.parent().and_then(Path::parent);
    Ok(directory.ok_or("no target directory")?.join(OURS))
}

/// Copies files, in the order of their names, until there are so many bytes.
fn copy(from: &Path, to: &Path, most: u64) -> io::Result<u64> {
    let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut copied = 0;
    for entry in entries {
        if copied >= most {
            break;
        }
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&to)?;
            copied += copy(&from, &to, most - copied)?;
        } else if kind.is_file() {
            copied += fs::copy(&from, &to)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)?;
        }
    }
    Ok(copied)
}

fn told(error: io::Error) -> String {
    error.to_string()
}
