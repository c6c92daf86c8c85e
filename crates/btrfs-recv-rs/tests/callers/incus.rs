//! The real Incus, copying volumes and instances through the command.
//!
//! Incus makes what it has received writable and marks it as received again;
//! such subvolumes are the parents of what it receives next.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btrfs_testkit::{
    Compared, LoopFilesystem, Sample, Test, assert_same_tree, assert_same_tree_in, subvolume,
};

use crate::btrbk::which;
use crate::daemon::Daemon;
use crate::shim::write_program;

pub(crate) fn tests() -> Vec<Test> {
    let with = |name: &str, body: fn(&Incus)| {
        Test::on_btrfs(format!("incus_{name}"), move || body(&Incus::start()))
            .needs_if_it_can_be_had("incus")
    };
    vec![
        with("refreshes_a_volume", refreshes_a_volume),
        with("imports_what_it_exported", imports_what_it_exported),
        with("copies_an_instance", copies_an_instance),
        with(
            "goes_on_after_an_aborted_copy",
            goes_on_after_an_aborted_copy,
        ),
    ]
}

/// A server with the storage pools `a` and `b`.
struct Incus {
    // Ends before what it has open goes away.
    _daemon: Daemon,
    a: LoopFilesystem,
    b: LoopFilesystem,
    place: tempfile::TempDir,
}

impl Incus {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for name in ["first", "ours", "real", "state"] {
            fs::create_dir(at(name)).unwrap();
        }
        let command = env!("CARGO_BIN_EXE_btrfs-recv-rs");
        std::os::unix::fs::symlink(command, at("ours/btrfs")).unwrap();
        let log = at("log");
        write_program(
            &at("first/btrfs"),
            &format!(
                "#!/bin/sh\n\
                 case $1 in receive) echo \"$@\" >>{log}; exec {ours} \"$@\" 2>>{log};; esac\n\
                 exec {ours} \"$@\"\n",
                log = log.display(),
                ours = at("ours/btrfs").display()
            ),
        );
        write_program(
            &at("real/btrfs"),
            &format!(
                "#!/bin/sh\n\
                 case $1 in receive) echo ERROR: the wrong receive >&2; exit 1;; esac\n\
                 if [ \"$1\" = send ] && [ -e {cut} ]; then\n\
                 {real} \"$@\" | head -c 300000\n\
                 else exec {real} \"$@\"\n\
                 fi\n",
                cut = at("cut").display(),
                real = which("btrfs").display()
            ),
        );
        File::create(&log).unwrap();
        let (a, b) = (LoopFilesystem::new(), LoopFilesystem::new());
        let search = std::env::var_os("PATH").unwrap_or_default();
        let search = [at("first")]
            .into_iter()
            .chain(std::env::split_paths(&search));
        let server = server();
        let printed = File::create(at("printed")).unwrap();
        let daemon = Daemon::start(
            Daemon::command()
                .args(["--net".as_ref(), server.as_os_str()])
                .args(["--group", "root"])
                .env("PATH", std::env::join_paths(search).unwrap())
                .env("BTRFS_RECV_RS_BTRFS", at("real/btrfs"))
                .env("INCUS_DIR", at("state"))
                .env("HOME", place.path())
                .stdin(Stdio::null())
                .stdout(printed.try_clone().unwrap())
                .stderr(printed),
        );
        let incus = Self {
            _daemon: daemon,
            a,
            b,
            place,
        };
        incus.run_program(&server, "waitready --timeout=60");
        for (name, pool) in [("a", &incus.a), ("b", &incus.b)] {
            let source = pool.path().display();
            incus.run(&format!("storage create {name} btrfs source={source}"));
        }
        incus
    }

    fn join(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn try_program(&self, program: impl AsRef<OsStr>, arguments: &str) -> Output {
        let output = Command::new(program)
            .args(arguments.split_whitespace())
            .env("INCUS_DIR", self.join("state"))
            .env("INCUS_CONF", self.join("client"))
            .env("HOME", self.place.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        println!("--- incus {arguments}: {}", output.status);
        print!("{}", String::from_utf8_lossy(&output.stdout));
        print!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn run_program(&self, program: impl AsRef<OsStr>, arguments: &str) {
        let output = self.try_program(program, arguments);
        if !output.status.success() {
            println!("--- incusd\n{}", self.read("printed"));
            println!("--- receives\n{}", self.read("log"));
            panic!("incus {arguments}: {}", output.status);
        }
    }

    /// Runs `incus`, which has to succeed.
    fn run(&self, arguments: &str) {
        self.run_program("incus", arguments);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).unwrap()
    }

    /// How many streams the command has been called to receive.
    fn receives(&self) -> usize {
        let log = self.read("log");
        log.lines()
            .filter(|line| line.starts_with("receive "))
            .count()
    }

    /// A volume `v` in the pool `a` with every kind of file, and with a
    /// subvolume inside.
    fn volume(&self) -> PathBuf {
        self.run("storage volume create a v");
        let volume = self.a.path().join("custom/default_v");
        Sample::default().build(&volume);
        let inner = subvolume::create(&volume.join("inner"));
        fs::write(inner.join("file"), vec![b'i'; 100_000]).unwrap();
        volume
    }
}

fn server() -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let distributions = ["/usr/libexec/incus", "/usr/lib/incus", "/opt/incus/bin"];
    std::env::split_paths(&search)
        .chain(distributions.map(PathBuf::from))
        .map(|directory| directory.join("incusd"))
        .find(|path| path.exists())
        .expect("incusd where incus is")
}

/// A file that is new, others that are longer.
fn change(volume: &Path, round: u8) {
    fs::write(volume.join(format!("round-{round}")), vec![round; 100_000]).unwrap();
    for file in ["grows", "inner/file"] {
        fs::write(volume.join(file), vec![b'g'; 50_000 * usize::from(round)]).unwrap();
    }
}

/// Compares what is in them too. Incus moves that to its place at the end,
/// which changes the times of the directory around it.
#[track_caller]
fn assert_same_volume(one: &Path, other: &Path) {
    let compared = Compared {
        root_times: false,
        ..Compared::default()
    };
    assert_same_tree_in(one, other, &compared);
    assert_same_tree(&one.join("inner"), &other.join("inner"));
}

fn refreshes_a_volume(incus: &Incus) {
    let volume = incus.volume();
    let copy = incus.b.path().join("custom/default_w");
    let snapshots =
        |pool: &LoopFilesystem, name: &str| pool.path().join("custom-snapshots").join(name);
    let (ours, theirs) = (
        snapshots(&incus.a, "default_v"),
        snapshots(&incus.b, "default_w"),
    );
    for round in 0..4_u8 {
        let before = incus.receives();
        change(&volume, round + 1);
        incus.run(&format!("storage volume snapshot create a v s{round}"));
        change(&volume, round + 10);
        let refresh = if round == 0 { "" } else { "--refresh" };
        incus.run(&format!("storage volume copy a/v b/w {refresh}"));
        assert_same_volume(&volume, &copy);
        for earlier in 0..=round {
            let name = format!("s{earlier}");
            // Reading them changes access times, where they are writable.
            assert_same_volume(&ours.join(&name), &theirs.join(&name));
        }
        assert!(incus.receives() > before);
        let newest = theirs.join(format!("s{round}"));
        for received in [newest.join("inner"), copy.join("inner"), newest] {
            let facts = subvolume::facts(&received);
            assert!(facts.received_uuid.is_some(), "{facts:?}");
            let has_parent = facts.parent_uuid.is_some();
            assert!(has_parent || round == 0, "{}", received.display());
        }
    }
    println!("{}", incus.read("log"));
}

fn imports_what_it_exported(incus: &Incus) {
    let volume = incus.volume();
    incus.run("storage volume snapshot create a v s0");
    change(&volume, 1);
    let file = incus.join("v.tar");
    let file = file.display();
    incus.run(&format!(
        "storage volume export a v {file} --optimized-storage"
    ));
    incus.run(&format!("storage volume import b {file} w"));
    // The volume, its snapshot, and what is in each.
    assert_eq!(incus.receives(), 4);
    assert_same_volume(&volume, &incus.b.path().join("custom/default_w"));
    let snapshot = |pool: &LoopFilesystem, name: &str| {
        pool.path().join("custom-snapshots").join(name).join("s0")
    };
    assert_same_volume(
        &snapshot(&incus.a, "default_v"),
        &snapshot(&incus.b, "default_w"),
    );
}

fn copies_an_instance(incus: &Incus) {
    incus.run("profile device add default root disk path=/ pool=a");
    incus.run("create --empty c");
    let instance = incus.a.path().join("containers/c");
    Sample::default().build(&subvolume::create(&instance.join("inner")));
    fs::write(instance.join("file"), b"first").unwrap();
    incus.run("snapshot create c s0");
    incus.run("copy c d --storage b");
    let copy = incus.b.path().join("containers/d");
    assert!(incus.receives() > 0);
    assert_same_instance(&instance, &copy);
    for round in 1..3 {
        change(&instance, round);
        incus.run(&format!("snapshot create c s{round}"));
        incus.run("copy c d --storage b --refresh");
        assert_same_instance(&instance, &copy);
    }
}

#[track_caller]
fn assert_same_instance(one: &Path, other: &Path) {
    // Each has a file of Incus's own with its name and its pool.
    let same = |name: &str| {
        assert_eq!(
            fs::read(one.join(name)).ok(),
            fs::read(other.join(name)).ok()
        );
    };
    ["file", "grows", "round-1", "round-2"]
        .into_iter()
        .for_each(same);
    assert_same_tree(&one.join("inner"), &other.join("inner"));
}

fn goes_on_after_an_aborted_copy(incus: &Incus) {
    let volume = incus.volume();
    change(&volume, 20);
    let copy = incus.b.path().join("custom/default_w");
    let cut = incus.join("cut");
    File::create(&cut).unwrap();
    let output = incus.try_program("incus", "storage volume copy a/v b/w");
    assert!(!output.status.success());
    let said = "the input ends inside a command";
    assert!(incus.read("log").contains(said), "{}", incus.read("log"));
    assert!(!copy.exists());
    fs::remove_file(&cut).unwrap();
    incus.run("storage volume copy a/v b/w");
    assert_same_volume(&volume, &copy);
    // The same with a difference.
    incus.run("storage volume snapshot create a v s0");
    incus.run("storage volume copy a/v b/w --refresh");
    change(&volume, 40);
    File::create(&cut).unwrap();
    let output = incus.try_program("incus", "storage volume copy a/v b/w --refresh");
    assert!(!output.status.success());
    assert_eq!(incus.read("log").matches(said).count(), 2);
    fs::remove_file(&cut).unwrap();
    incus.run("storage volume copy a/v b/w --refresh");
    assert_same_volume(&volume, &copy);
}
