//! One workload: ours, the reference and the floors, interleaved.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use btrfs_testkit::{LoopFilesystem, Sender, scratch_dir, subvolume};
use wait4::Wait4;

use crate::options::Options;
use crate::workload::{Copy, FIRST, Then, Workload};

/// Size of each filesystem; the image is sparse.
const FILESYSTEM: u64 = 12 << 30;

pub(crate) const HEADING: &str = "\
Medians. Ratios are the reference's time divided by ours: over 1 is faster.
Floors are given as our wall time divided by theirs: under 1 is below the floor.

workload     |  ours s |   ref s | wall ratio | cpu ratio | ours MiB | ref MiB | / copy | / bare
-------------|---------|---------|------------|-----------|----------|---------|--------|-------";

/// The programs that compete.
pub(crate) struct Tools {
    me: PathBuf,
    ours: Vec<String>,
    reference: Vec<String>,
}

impl Tools {
    pub(crate) fn find(options: &Options) -> Result<Self, String> {
        let me = std::env::current_exe().map_err(|error| error.to_string())?;
        let text = |path: &Path| path.display().to_string();
        let ours = match &options.ours {
            _ if options.library => vec![text(&me), "--child".into(), "library".into()],
            Some(path) => vec![text(path), "-q".into()],
            None => vec![text(&built(&me)?), "-q".into()],
        };
        let reference = std::env::var("REF").unwrap_or_else(|_| "btrfs".to_owned());
        let reference = vec![reference, "receive".into(), "-q".into()];
        Ok(Self {
            me,
            ours,
            reference,
        })
    }

    pub(crate) fn describe(&self) -> String {
        let system = rustix::system::uname();
        let version = Command::new(&self.reference[0]).arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "kernel {}, {processors} processors, images in {}\nours:      {}\nreference: {} ({})",
            system.release().to_string_lossy(),
            scratch_dir().display(),
            self.ours.join(" "),
            self.reference.join(" "),
            version.unwrap_or_default().lines().next().unwrap_or("?"),
        )
    }

    /// What receives into `directory`: the program and its arguments.
    pub(crate) fn ours(&self, directory: &Path) -> Vec<String> {
        let mut command = self.ours.clone();
        command.push(directory.display().to_string());
        command
    }

    fn reference(&self, directory: &Path) -> Vec<String> {
        let mut command = self.reference.clone();
        command.push(directory.display().to_string());
        command
    }

    /// A child of this program.
    fn child(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.me);
        command.arg("--child").args(arguments);
        command
    }
}

/// The command's binary beside this one, brought up to date.
fn built(me: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "btrfs-recv-rs"])
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => return Err(format!("btrfs-recv-rs cannot be built: {other:?}")),
    }
    // target/release/deps/receive-…
    let directory = me.parent().and_then(Path::parent);
    let path = directory
        .ok_or("no target directory")?
        .join("btrfs-recv-rs");
    Ok(path)
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Ours,
    Reference,
}

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) peak_mib: f64,
}

/// A workload made ready: its stream, the tree it stands for, and an image to
/// begin each run with.
struct Prepared {
    room: PathBuf,
    // Keeps the source mounted.
    _source: LoopFilesystem,
    snapshot: PathBuf,
    stream: PathBuf,
    base: PathBuf,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.room);
    }
}

/// Runs a workload and gives its line of the table.
pub(crate) fn run(workload: &Workload, tools: &Tools, options: &Options) -> Result<String, String> {
    let prepared = prepare(workload, tools, options)?;
    let mut costs: [Vec<Cost>; 4] = Default::default();
    for run in 0..options.runs {
        let mut turn = [0, 1, 2, 3];
        // Nobody is always the first.
        turn.rotate_left(run % 4);
        for side in turn {
            let cost = match side {
                0 => Some(receive(&prepared, tools, Side::Ours, run == 0)?),
                1 => Some(receive(&prepared, tools, Side::Reference, run == 0)?),
                2 if options.floors => copy(&prepared, workload, tools)?,
                3 if options.floors => Some(bare(&prepared, tools)?),
                _ => None,
            };
            costs[side].extend(cost);
        }
    }
    Ok(Line {
        name: workload.name,
        costs,
    }
    .to_string())
}

fn prepare(workload: &Workload, tools: &Tools, options: &Options) -> Result<Prepared, String> {
    let room = scratch_dir().join(format!("bench-{}", workload.name));
    std::fs::create_dir_all(&room).map_err(|error| error.to_string())?;
    let mut builder = LoopFilesystem::builder().size(FILESYSTEM);
    if workload.compressed {
        builder = builder.mount_options("compress-force=zstd");
    }
    let source = builder.build();
    let mut work = subvolume::create(&source.path().join(FIRST));
    (workload.fill)(&work, options.scale);
    let mut snapshot = subvolume::snapshot_read_only(&work, &source.path().join("first"));
    // What the receiver has when the clock starts; the last is the parent.
    let mut before = Vec::new();
    if let Some(then) = workload.then {
        before.push(snapshot);
        match then {
            Then::Changed(change) => change(&work, options.scale),
            Then::Other(fill) => {
                // `btrfs send` takes clone sources of other subvolumes only
                // beside a parent.
                work = subvolume::create(&source.path().join("other"));
                let empty = source.path().join("empty");
                before.push(subvolume::snapshot_read_only(&work, &empty));
                fill(&work, options.scale);
            }
        }
        snapshot = subvolume::snapshot_read_only(&work, &source.path().join("second"));
    }
    source.sync();
    let base = base(&room, &before, tools)?;
    let mut sender = Sender::new(&snapshot);
    if let Some((parent, sources)) = before.split_last() {
        sender = sender.parent(parent);
        for source in sources {
            sender = sender.clone_source(source);
        }
    }
    let stream = room.join("stream");
    if workload.compressed {
        sender = sender.version(2).compressed();
    }
    send(&sender, &stream)?;
    Ok(Prepared {
        room,
        _source: source,
        snapshot,
        stream,
        base,
    })
}

/// The filesystem that each run begins with; the snapshots are there already.
fn base(room: &Path, before: &[PathBuf], tools: &Tools) -> Result<PathBuf, String> {
    let io = |error: std::io::Error| error.to_string();
    let base = room.join("base");
    File::create(&base)
        .and_then(|file| file.set_len(FILESYSTEM))
        .map_err(io)?;
    // It has much to say that concerns nobody here.
    let made = Command::new("mkfs.btrfs")
        .arg("--quiet")
        .arg(&base)
        .output();
    let made = made.map_err(io)?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned());
    }
    if !before.is_empty() {
        let first = room.join("first-stream");
        let snapshots = before.iter().map(PathBuf::as_path);
        send(&Sender::several(snapshots), &first)?;
        let filesystem = mount(&base);
        let mut command = words(&tools.reference(filesystem.path()));
        let input = File::open(&first).map_err(io)?;
        let status = command.stdin(input).status().map_err(io)?;
        if !status.success() {
            return Err(format!("beforehand: {command:?}: {status}"));
        }
    }
    Ok(base)
}

fn send(sender: &Sender, to: &Path) -> Result<(), String> {
    let file = File::create(to).map_err(|error| error.to_string())?;
    let mut command = sender.command();
    let status = command.stdin(Stdio::null()).stdout(file).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("{command:?}: {other:?}")),
    }
}

fn mount(image: &Path) -> LoopFilesystem {
    LoopFilesystem::builder().existing_image(image).build()
}

fn words(command: &[String]) -> Command {
    let mut words = Command::new(&command[0]);
    words.args(&command[1..]);
    words
}

impl Prepared {
    /// A filesystem like the base, for one run.
    fn fresh(&self) -> Result<LoopFilesystem, String> {
        let image = self.room.join("run");
        let _ = std::fs::remove_file(&image);
        let mut command = Command::new("cp");
        command.arg("--sparse=always").arg(&self.base).arg(&image);
        match command.status() {
            Ok(status) if status.success() => {}
            other => return Err(format!("{command:?}: {other:?}")),
        }
        rustix::fs::sync();
        Ok(mount(&image))
    }

    fn stream(&self) -> Result<File, String> {
        File::open(&self.stream).map_err(|error| error.to_string())
    }
}

/// Runs a child to its end and says what it took.
pub(crate) fn measure(mut command: Command) -> Result<Cost, String> {
    let start = Instant::now();
    let child = command.spawn().map_err(|error| error.to_string())?;
    let used = child.wait4().map_err(|error| error.to_string())?;
    let wall = start.elapsed().as_secs_f64();
    if !used.status.success() {
        return Err(format!("{command:?}: {}", used.status));
    }
    Ok(Cost {
        wall,
        cpu: (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        peak_mib: used.rusage.maxrss as f64 / f64::from(1 << 20),
    })
}

fn receive(prepared: &Prepared, tools: &Tools, side: Side, compare: bool) -> Result<Cost, String> {
    let filesystem = prepared.fresh()?;
    let directory = filesystem.path().display().to_string();
    let mut command = tools.child(&["synced", &directory]);
    let (program, what) = match side {
        Side::Ours => (tools.ours(filesystem.path()), "all"),
        Side::Reference => (tools.reference(filesystem.path()), "but the root's times"),
    };
    command.args(program);
    command.stdin(prepared.stream()?);
    let cost = measure(command)?;
    if compare {
        let name = prepared.snapshot.file_name().unwrap_or_default();
        let found = filesystem.path().join(name).display().to_string();
        let expected = prepared.snapshot.display().to_string();
        let compared = measure(tools.child(&["compare", &expected, &found, what]));
        compared.map_err(|error| format!("{side:?}: {error}"))?;
    }
    Ok(cost)
}

/// A plain copy of the tree.
fn copy(prepared: &Prepared, workload: &Workload, tools: &Tools) -> Result<Option<Cost>, String> {
    let Some(copy) = workload.copy else {
        return Ok(None);
    };
    let filesystem = prepared.fresh()?;
    let directory = filesystem.path().display().to_string();
    let mut command = tools.child(&["synced", &directory]);
    let from = prepared.snapshot.display();
    match copy {
        Copy::Cp => command.args(["cp", "-a", &from.to_string(), &directory]),
        Copy::Dd => command.args([
            "dd",
            "bs=1M",
            "status=none",
            &format!("if={from}/large"),
            &format!("of={directory}/large"),
        ]),
    };
    measure(command).map(Some)
}

/// The bare calls of the stream; the child measures itself, without the
/// decoding before.
fn bare(prepared: &Prepared, tools: &Tools) -> Result<Cost, String> {
    let filesystem = prepared.fresh()?;
    let stream = prepared.stream.display().to_string();
    let directory = filesystem.path().display().to_string();
    let mut command = tools.child(&["bare", &stream, &directory]);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(wall)), Some(Ok(cpu))) => Ok(Cost {
            wall,
            cpu,
            peak_mib: 0.0,
        }),
        _ => Err(format!("the bare calls failed: {}", output.status)),
    }
}

/// A line of the table.
struct Line {
    name: &'static str,
    costs: [Vec<Cost>; 4],
}

impl Line {
    /// Median over runs of one side's number.
    fn median(&self, side: usize, number: fn(&Cost) -> f64) -> f64 {
        median(self.costs[side].iter().map(number).collect())
    }

    /// Median over runs of the quotient of two sides; what ran in the same
    /// round is compared.
    fn ratio(&self, over: usize, under: usize, number: fn(&Cost) -> f64) -> Option<f64> {
        let pairs = self.costs[over].iter().zip(&self.costs[under]);
        let ratios: Vec<f64> = pairs.map(|(a, b)| number(a) / number(b)).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, cpu, peak) = (
            |cost: &Cost| cost.wall,
            |cost: &Cost| cost.cpu,
            |cost: &Cost| cost.peak_mib,
        );
        let show = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        write!(
            f,
            "{:<12} | {:>7.2} | {:>7.2} | {:>10} | {:>9} | {:>8.1} | {:>7.1} | {:>6} | {:>6}",
            self.name,
            self.median(0, wall),
            self.median(1, wall),
            show(self.ratio(1, 0, wall)),
            show(self.ratio(1, 0, cpu)),
            self.median(0, peak),
            self.median(1, peak),
            show(self.ratio(0, 2, wall)),
            show(self.ratio(0, 3, wall)),
        )
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => 0.0,
        len if len % 2 == 1 => numbers[len / 2],
        len => (numbers[len / 2 - 1] + numbers[len / 2]) / 2.0,
    }
}
