//! One workload: ours, the reference and the floors, interleaved.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use btrfs_testkit::{LoopFilesystem, Sender, scratch_dir, subvolume};
use wait4::Wait4;

use crate::options::Options;
use crate::slow_disk::SlowFilesystem;
use crate::table::{Column, Cost, Side, lines};
use crate::workload::{Copy, FIRST, Then, Workload};

/// Size of each filesystem; the image is sparse.
const FILESYSTEM: u64 = 12 << 30;

/// The programs that compete.
pub(crate) struct Tools {
    me: PathBuf,
    ours: Vec<String>,
    before: Option<Vec<String>>,
    reference: Vec<String>,
}

impl Tools {
    pub(crate) fn find(options: &Options) -> Result<Self, String> {
        let me = std::env::current_exe().map_err(|error| error.to_string())?;
        let text = |path: &Path| path.display().to_string();
        let ours = match &options.ours {
            _ if options.library || !options.lanes.is_empty() => {
                vec![text(&me), "--child".into(), "library".into()]
            }
            Some(path) => vec![text(path), "-q".into()],
            None => vec![text(&built(&me)?), "-q".into()],
        };
        let before = options.before.as_ref();
        let before = before.map(|path| vec![text(path), "-q".into()]);
        let reference = std::env::var("REF").unwrap_or_else(|_| "btrfs".to_owned());
        let reference = vec![reference, "receive".into(), "-q".into()];
        Ok(Self {
            me,
            ours,
            before,
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
        into(&self.ours, directory)
    }

    /// A child of this program.
    fn child(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.me);
        command.arg("--child").args(arguments);
        command
    }
}

fn into(command: &[String], directory: &Path) -> Vec<String> {
    let mut command = command.to_vec();
    command.push(directory.display().to_string());
    command
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

impl Side {
    fn all(options: &Options) -> Vec<Self> {
        let mut sides: Vec<Self> = options.lanes.iter().copied().map(Self::Lanes).collect();
        if sides.is_empty() {
            sides.push(Self::Ours);
        }
        sides.extend(options.before.is_some().then_some(Self::Before));
        sides.push(Self::Reference);
        if options.floors {
            sides.extend([Self::Copy, Self::Bare]);
        }
        sides
    }
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
    /// How long each read of the disk takes.
    delay: Option<Duration>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.room);
    }
}

/// Runs a workload and gives its lines of the table.
pub(crate) fn run(workload: &Workload, tools: &Tools, options: &Options) -> Result<String, String> {
    let prepared = prepare(workload, tools, options)?;
    let sides = Side::all(options);
    let mut columns: Vec<_> = sides.iter().copied().map(Column::new).collect();
    for run in 0..options.runs {
        let mut turn: Vec<_> = columns.iter_mut().collect();
        // Of three sides, six rounds have every order once: what a run leaves behind
        // (caches, write-back) costs the next one up to 3 %.
        turn.rotate_left(run / 2 % sides.len());
        if run % 2 == 1 {
            turn.reverse();
        }
        for column in turn {
            let cost = match column.side {
                Side::Copy => copy(&prepared, workload, tools)?,
                Side::Bare => bare(&prepared, tools)?,
                side => Some(receive(&prepared, tools, side, run == 0)?),
            };
            column.costs.extend(cost);
        }
    }
    Ok(lines(workload.name, &columns))
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
            Then::Changed(change) | Then::InFull(change) => change(&work, options.scale),
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
    let base = base(&room, &before, workload.quota, tools)?;
    let mut sender = Sender::new(&snapshot);
    if let Some((parent, sources)) = before.split_last()
        && !matches!(workload.then, Some(Then::InFull(_)))
    {
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
        delay: workload.read_ms.map(Duration::from_millis),
    })
}

/// The filesystem that each run begins with; the snapshots are there already.
fn base(room: &Path, before: &[PathBuf], quota: bool, tools: &Tools) -> Result<PathBuf, String> {
    let io = |error: std::io::Error| error.to_string();
    let base = room.join("base");
    File::create(&base)
        .and_then(|file| file.set_len(FILESYSTEM))
        .map_err(io)?;
    quiet(Command::new("mkfs.btrfs").arg("--quiet").arg(&base))?;
    if quota {
        let filesystem = mount(&base);
        for words in [&["enable"][..], &["rescan", "-w"]] {
            let mut command = Command::new("btrfs");
            quiet(command.arg("quota").args(words).arg(filesystem.path()))?;
        }
    }
    if !before.is_empty() {
        let first = room.join("first-stream");
        let snapshots = before.iter().map(PathBuf::as_path);
        send(&Sender::several(snapshots), &first)?;
        let filesystem = mount(&base);
        let mut command = words(&into(&tools.reference, filesystem.path()));
        let input = File::open(&first).map_err(io)?;
        let status = command.stdin(input).status().map_err(io)?;
        if !status.success() {
            return Err(format!("beforehand: {command:?}: {status}"));
        }
    }
    Ok(base)
}

/// Runs a command that has much to say that concerns nobody here.
fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
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

/// The filesystem of one run.
enum Mounted {
    Fast(LoopFilesystem),
    Slow(SlowFilesystem),
}

impl Mounted {
    fn path(&self) -> &Path {
        match self {
            Self::Fast(filesystem) => filesystem.path(),
            Self::Slow(filesystem) => filesystem.path(),
        }
    }
}

impl Prepared {
    /// A filesystem like the base, for one run.
    fn fresh(&self, tools: &Tools) -> Result<Mounted, String> {
        let image = self.image();
        let _ = std::fs::remove_file(&image);
        let mut command = Command::new("cp");
        command.arg("--sparse=always").arg(&self.base).arg(&image);
        match command.status() {
            Ok(status) if status.success() => {}
            other => return Err(format!("{command:?}: {other:?}")),
        }
        rustix::fs::sync();
        Ok(match self.delay {
            Some(delay) => Mounted::Slow(SlowFilesystem::mount(&tools.me, &image, delay)?),
            None => Mounted::Fast(mount(&image)),
        })
    }

    fn image(&self) -> PathBuf {
        self.room.join("run")
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
        reads: None,
    })
}

fn receive(prepared: &Prepared, tools: &Tools, side: Side, compare: bool) -> Result<Cost, String> {
    let mounted = prepared.fresh(tools)?;
    let directory = mounted.path().display().to_string();
    let mut program = match side {
        Side::Reference => into(&tools.reference, mounted.path()),
        Side::Before => into(
            tools.before.as_ref().ok_or("no other build")?,
            mounted.path(),
        ),
        _ => tools.ours(mounted.path()),
    };
    if let Side::Lanes(lanes) = side {
        program.push(lanes.to_string());
    }
    let mut command = tools.child(&["synced", &directory]);
    command.args(program);
    command.stdin(prepared.stream()?);
    let mut cost = measure(command)?;
    let filesystem = match mounted {
        Mounted::Fast(filesystem) => filesystem,
        // The comparison reads everything, and would take very long there.
        Mounted::Slow(filesystem) => {
            cost.reads = Some(filesystem.unmount()?);
            mount(&prepared.image())
        }
    };
    if compare {
        let name = prepared.snapshot.file_name().unwrap_or_default();
        let found = filesystem.path().join(name).display().to_string();
        let expected = prepared.snapshot.display().to_string();
        let what = match side {
            Side::Reference => "but the root's times",
            _ => "all",
        };
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
    let mounted = prepared.fresh(tools)?;
    let directory = mounted.path().display().to_string();
    let mut command = tools.child(&["synced", &directory]);
    let stream = prepared.stream.display();
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
        Copy::Raw => command.args([
            "dd",
            "bs=1M",
            "status=none",
            &format!("if={stream}"),
            &format!("of={directory}/raw"),
        ]),
    };
    measure(command).map(Some)
}

/// The bare calls of the stream; the child measures itself, without the
/// decoding before.
fn bare(prepared: &Prepared, tools: &Tools) -> Result<Option<Cost>, String> {
    let stream = prepared.stream.display().to_string();
    let mounted = prepared.fresh(tools)?;
    let directory = mounted.path().display().to_string();
    let mut command = tools.child(&["bare", &stream, &directory]);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(wall)), Some(Ok(cpu))) => Ok(Some(Cost {
            wall,
            cpu,
            ..Cost::default()
        })),
        _ => Err(format!("the bare calls failed: {}", output.status)),
    }
}
