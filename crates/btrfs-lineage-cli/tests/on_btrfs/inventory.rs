//! `inventory`: what a filesystem holds.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use btrfs_ioctl as sys;
use btrfs_testkit::{LoopFilesystem, Sender, Test, reference_receive, subvolume, test};
use serde_json::Value;
use wait4::Wait4;

use crate::support::{lineage, printed, receive, said};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(what_the_kernel_says_is_listed_from_any_mount),
        test!(below_a_directory),
        test!(what_receivers_leave_is_not_a_change),
        test!(without_privileges_it_says_what_it_could_not_see),
        test!(what_is_not_btrfs_is_refused),
        test!(ten_thousand_subvolumes_take_seconds_and_little_memory),
    ]
}

fn json(path: &Path) -> Value {
    let text = printed(lineage(["inventory", "--json"]).arg(path));
    serde_json::from_str(&text).unwrap()
}

fn by_path<'a>(inventory: &'a Value, path: &str) -> &'a Value {
    let all = inventory["subvolumes"].as_array().unwrap();
    let found = all.iter().find(|it| it["path"] == path);
    found.unwrap_or_else(|| panic!("{path} is not in {inventory:#}"))
}

fn what_the_kernel_says_is_listed_from_any_mount() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    fs::write(work.join("file"), b"hello").unwrap();
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("snapshot"));
    let outer = subvolume::create(&to.path().join("outer"));
    fs::create_dir(outer.join("d")).unwrap();
    receive(&Sender::new(&snapshot).to_vec(), &outer.join("d")).unwrap();
    let strange = to.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    subvolume::create(&strange);
    let mount = to.mount("subvol=outer");
    let bind = to.bind(&outer.join("d"));
    let inventory = json(to.path());
    for path in [mount.path(), bind.path()] {
        assert_eq!(json(path), inventory);
    }
    assert_eq!(inventory["version"], 1);
    assert_eq!(inventory["searched"], "filesystem");
    assert_eq!(inventory["complete"], true);
    let (sent, copy) = (json(from.path()), by_path(&inventory, "outer/d/snapshot"));
    let original = by_path(&sent, "snapshot");
    assert_eq!(original["state"], "read_only");
    assert_eq!(original["parent_uuid"], by_path(&sent, "work")["uuid"]);
    let facts = subvolume::facts(&outer.join("d/snapshot"));
    assert_eq!(copy["id"], facts.id);
    assert_eq!(copy["uuid"], facts.uuid);
    assert_eq!(copy["received_uuid"], original["uuid"]);
    assert_eq!(copy["stransid"], original["ctransid"]);
    assert_eq!(copy["state"], "complete");
    assert_eq!(copy["changed_since_received"], false);
    for key in ["otransid", "rtransid", "ctransid"] {
        assert!(copy[key].as_u64().unwrap() > 0, "{copy}");
    }
    for key in ["ctime", "otime", "rtime"] {
        assert!(copy[key].as_str().unwrap().starts_with("20"), "{copy}");
    }
    let strange = serde_json::json!({"hex": "636166e9"});
    let all = inventory["subvolumes"].as_array().unwrap();
    assert!(all.iter().any(|it| it["path"] == strange));

    // For people.
    let table = Command::new("sh")
        .args(["-c", "TZ=UTC \"$0\" inventory \"$1\""])
        .arg(env!("CARGO_BIN_EXE_btrfs-lineage"))
        .arg(mount.path())
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].contains("ID  STATE"), "{table}");
    assert!(lines[1].ends_with("  /"), "{table}");
    let line = lines.iter().find(|it| it.ends_with("outer/d/snapshot"));
    let line = line.unwrap_or_else(|| panic!("{table}"));
    assert!(
        line.contains("received") && line.contains(&facts.uuid[..8]),
        "{table}"
    );
}

fn below_a_directory() {
    let filesystem = LoopFilesystem::new();
    let top = filesystem.path();
    fs::create_dir(top.join("here")).unwrap();
    for path in ["here/a", "here/a/b", "there"] {
        subvolume::create(&top.join(path));
    }
    for (path, expected) in [("here", &["here/a", "here/a/b"][..]), ("there", &["there"])] {
        let text = printed(lineage(["inventory", "--json", "--below"]).arg(top.join(path)));
        let inventory: Value = serde_json::from_str(&text).unwrap();
        let all = inventory["subvolumes"].as_array().unwrap();
        let paths: Vec<_> = all.iter().map(|it| it["path"].as_str().unwrap()).collect();
        assert_eq!(paths, expected);
        assert_eq!(inventory["searched"], "directory");
        assert_eq!(inventory["paths_from"], "top");
        assert_eq!(inventory["complete"], true);
    }
}

/// Both receivers leave something that is recorded after the received UUID.
fn what_receivers_leave_is_not_a_change() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    for file in 0..20 {
        fs::write(work.join(file.to_string()), vec![7; 100_000]).unwrap();
    }
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("s"));
    let stream = Sender::new(&snapshot).to_vec();
    for (name, ours) in [("ours", true), ("theirs", false)] {
        let directory = to.path().join(name);
        fs::create_dir(&directory).unwrap();
        if ours {
            receive(&stream, &directory).unwrap();
        } else {
            reference_receive(&stream, &directory).unwrap();
        }
        to.sync();
        subvolume::snapshot_read_only(&directory.join("s"), &directory.join("of it"));
        let changed = directory.join("changed");
        subvolume::snapshot_read_only(&directory.join("s"), &changed);
        set_read_only(&changed, false);
        fs::write(changed.join("1"), b"other").unwrap();
        set_read_only(&changed, true);
        let inventory = json(to.path());
        for (copy, state) in [("s", false), ("of it", false), ("changed", true)] {
            let copy = by_path(&inventory, &format!("{name}/{copy}"));
            assert_eq!(copy["state"], "complete", "{copy:#}");
            assert_eq!(copy["changed_since_received"], state, "{copy:#}");
        }
    }
}

/// As `btrfs property` does not any more: the received UUID stays.
fn set_read_only(path: &Path, read_only: bool) {
    sys::subvol_set_read_only(fs::File::open(path).unwrap(), read_only).unwrap();
}

fn without_privileges_it_says_what_it_could_not_see() {
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    let snapshot = subvolume::snapshot_read_only(&work, &from.path().join("s"));
    let holder = subvolume::create(&to.path().join("holder"));
    reference_receive(&Sender::new(&snapshot).to_vec(), &holder).unwrap();
    subvolume::create(&to.path().join("outside"));
    let changed = subvolume::snapshot_read_only(&holder.join("s"), &holder.join("changed"));
    for number in 0..4 {
        set_read_only(&changed, false);
        fs::write(changed.join(number.to_string()), b"other").unwrap();
        set_read_only(&changed, true);
    }
    let mount = to.mount("subvol=holder");
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(env!("CARGO_BIN_EXE_btrfs-lineage"))
        .args(["inventory", "--json"])
        .arg(mount.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let inventory: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(inventory["searched"], "mount");
    assert_eq!(inventory["complete"], false);
    assert_eq!(inventory["paths_from"], "mount");
    let missing = serde_json::json!(["CAP_DAC_READ_SEARCH"]);
    assert_eq!(inventory["missing_capabilities"], missing);
    assert_eq!(by_path(&inventory, "s")["state"], "complete");
    assert_eq!(by_path(&inventory, "s")["changed_since_received"], false);
    let changed = by_path(&inventory, "changed");
    assert!(changed.get("changed_since_received").is_none(), "{changed}");
    assert_eq!(inventory["subvolumes"].as_array().unwrap().len(), 3);
    assert!(said(&output).contains("CAP_SYS_ADMIN"), "{}", said(&output));
    assert!(
        said(&output).contains("CAP_DAC_READ_SEARCH"),
        "{}",
        said(&output)
    );
}

fn what_is_not_btrfs_is_refused() {
    for (path, text) in [("/proc", "not on a btrfs"), ("/no/such", "No such file")] {
        let output = lineage(["inventory", path]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(text), "{}", said(&output));
    }
    let output = lineage(["inventory"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// docs/topologies.md has the figures.
fn ten_thousand_subvolumes_take_seconds_and_little_memory() {
    const SNAPSHOTS: usize = 1000;
    const EMPTY: usize = 9000;
    let filesystem = LoopFilesystem::builder().size(4 << 30).build();
    let top = filesystem.path();
    let work = subvolume::create(&top.join("work"));
    fs::write(work.join("file"), b"hello").unwrap();
    let root = fs::File::open(&work).unwrap();
    sys::set_received_subvol(&root, some_uuid(), 7).unwrap();
    let directory = top.join("a directory");
    fs::create_dir(&directory).unwrap();
    let into = fs::File::open(&directory).unwrap();
    for number in 0..EMPTY {
        sys::subvol_create(&into, format!("empty-{number}").as_bytes()).unwrap();
    }
    let into = fs::File::open(top).unwrap();
    for number in 0..SNAPSHOTS {
        let name = format!("snapshot-{number}");
        sys::snap_create(&into, name.as_bytes(), &root, true).unwrap();
    }
    let begun = Instant::now();
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut command = lineage(["inventory", "--json"]);
    let child = command
        .arg(top)
        .stdout(output.reopen().unwrap())
        .spawn()
        .unwrap();
    let used = child.wait4().unwrap();
    assert!(used.status.success());
    let peak = used.rusage.maxrss;
    eprintln!(
        "{} subvolumes: {:.2} s, of which CPU {:.2} s; at most {} KiB of memory; {} bytes of JSON",
        EMPTY + SNAPSHOTS + 2,
        begun.elapsed().as_secs_f64(),
        (used.rusage.utime + used.rusage.stime).as_secs_f64(),
        peak / 1024,
        output.as_file().metadata().unwrap().len(),
    );
    let inventory: Value = serde_json::from_reader(output.reopen().unwrap()).unwrap();
    let all = inventory["subvolumes"].as_array().unwrap();
    assert_eq!(all.len(), EMPTY + SNAPSHOTS + 2);
    assert_eq!(inventory["complete"], true);
    let first = by_path(&inventory, "a directory/empty-0");
    assert_eq!(first["state"], "writable");
    // A child begins with the peak of its parent, which runs other tests too.
    assert!(
        peak < 64 << 20 || peak <= own_peak(),
        "{peak} bytes of memory"
    );
}

/// The most memory that this process had, in bytes.
fn own_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

fn some_uuid() -> btrfs_lineage::btrfs_sendstream::Uuid {
    btrfs_lineage::btrfs_sendstream::Uuid::from_u128(0x1234)
}
