//! The digest of a subvolume beside `tar c | sha256sum` of it; see README.md.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use btrfs_lineage::digest::{DigestOptions, digest};
use btrfs_testkit::{LoopFilesystem, files, subvolume};
use wait4::Wait4;

/// Runs of each side; `--runs N`.
const RUNS: usize = 5;

const HELP: &str = "\
cargo bench -p benches --bench digest -- [--runs N] [--scale F]      (as root)";

type Fill = fn(&Path, f64);

const TREES: [(&str, Fill); 3] = [
    ("20,000 files of 0 to 16 KiB", small),
    ("400 files of 1 to 3 MiB", medium),
    ("one file of 1 GiB", large),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child, path] = &arguments[..]
        && child == "--child"
    {
        return child_main(Path::new(path));
    }
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let runs = value("--runs").map_or(Some(RUNS), |text| text.parse().ok());
    let scale = value("--scale").map_or(Some(1.0), |text| text.parse().ok());
    let (Some(runs), Some(scale)) = (runs, scale) else {
        eprintln!("{HELP}");
        return ExitCode::FAILURE;
    };
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("needs root: it makes and mounts filesystems");
        return ExitCode::FAILURE;
    }
    // Nothing stays mounted, even if this is killed.
    if let Err(error) = btrfs_testkit::enter_namespace() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    println!("tree | digest s | tar, sha256sum s | ratio | digest CPU s | MiB");
    println!("-----|----------|------------------|-------|--------------|----");
    for (name, fill) in TREES {
        contest(name, fill, runs, scale);
    }
    ExitCode::SUCCESS
}

/// What is measured: the library in a process of its own.
fn child_main(path: &Path) -> ExitCode {
    let root = fs::File::open(path).expect("the subvolume");
    let document = digest(root, DigestOptions::default()).expect("a digest");
    println!("{}", document.sha256);
    ExitCode::SUCCESS
}

fn contest(name: &str, fill: Fill, runs: usize, scale: f64) {
    let filesystem = LoopFilesystem::builder().size(4 << 30).build();
    let work = subvolume::create(&filesystem.path().join("work"));
    fill(&work, scale);
    let snapshot = subvolume::snapshot_read_only(&work, &filesystem.path().join("snapshot"));
    filesystem.sync();
    let me = std::env::current_exe().expect("this program");
    let ours = [
        me.into_os_string(),
        "--child".into(),
        snapshot.clone().into(),
    ];
    // Without ACLs and attributes, which the digest reads too.
    let tar = "tar c -C \"$1\" . | sha256sum";
    let theirs: [OsString; 5] = [
        "sh".into(),
        "-c".into(),
        tar.into(),
        "sh".into(),
        snapshot.into(),
    ];
    let (mut walls, mut cpu, mut peak) = ([Vec::new(), Vec::new()], Vec::new(), 0);
    // The first run of each only reads the files into memory.
    for run in 0..=runs {
        for side in 0..2 {
            let words = if (run + side) % 2 == 0 {
                &ours[..]
            } else {
                &theirs[..]
            };
            let is_ours = words.len() == ours.len();
            let start = Instant::now();
            let child = Command::new(&words[0])
                .args(&words[1..])
                .stdout(Stdio::null())
                .spawn();
            let used = child.expect("a program").wait4().expect("its end");
            let wall = start.elapsed().as_secs_f64();
            assert!(used.status.success(), "{words:?}");
            if run == 0 {
                continue;
            }
            walls[usize::from(!is_ours)].push(wall);
            if is_ours {
                cpu.push((used.rusage.utime + used.rusage.stime).as_secs_f64());
                peak = peak.max(used.rusage.maxrss >> 20);
            }
        }
    }
    let [ours, theirs] = walls.map(median);
    println!(
        "{name} | {ours:.3} | {theirs:.3} | {:.2} | {:.3} | {peak}",
        theirs / ours,
        median(cpu)
    );
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

fn scaled(count: usize, scale: f64) -> usize {
    ((count as f64 * scale) as usize).max(1)
}

fn small(work: &Path, scale: f64) {
    let bytes = files::pattern(1, 64 << 10, false);
    for number in 0..scaled(20_000, scale) {
        let directory = work.join(format!("{}", number / 50));
        if number % 50 == 0 {
            fs::create_dir(&directory).expect("a directory");
        }
        let (from, len) = (number % 40_000, number * 7919 % (16 << 10));
        fs::write(
            directory.join(format!("file {number}")),
            &bytes[from..from + len],
        )
        .expect("a file");
    }
}

fn medium(work: &Path, scale: f64) {
    let bytes = files::pattern(2, 4 << 20, false);
    for number in 0..scaled(400, scale) {
        let len = (1 << 20) + number * 104_729 % (2 << 20);
        fs::write(
            work.join(format!("file {number}")),
            &bytes[number..number + len],
        )
        .expect("a file");
    }
}

fn large(work: &Path, scale: f64) {
    let bytes = files::pattern(3, 8 << 20, false);
    for number in 0..scaled(128, scale) {
        files::write(&work.join("file"), (number as u64) << 23, &bytes).expect("the file");
    }
}
