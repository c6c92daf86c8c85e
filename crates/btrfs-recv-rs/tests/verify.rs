//! `--verify` on the sample streams, whole, cut, damaged, and in sets. What
//! it prints stands in `tests/golden`; run with `UPDATE_GOLDEN=1` to write it
//! anew.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn streams() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams")
}

/// What the command prints, run in `directory`, and how it ends.
fn run(directory: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"))
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    format!(
        "$ btrfs-recv-rs {}\n{}{}exit status {}\n",
        args.join(" "),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        output.status.code().unwrap()
    )
}

/// Compares with a golden file.
#[track_caller]
fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == found,
        "{}: expected\n{expected}\nfound\n{found}",
        path.display()
    );
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(streams().join(name)).unwrap()
}

#[test]
fn every_sample() {
    let mut names: Vec<_> = fs::read_dir(streams())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".stream"))
        .collect();
    names.sort();
    assert!(names.len() >= 13, "{names:?}");
    let texts: Vec<_> = names
        .iter()
        .map(|name| run(&streams(), &["--verify", name]))
        .collect();
    assert_golden("verify-samples", &texts.join("\n"));
}

#[test]
fn cut_and_flipped() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    let full = sample("full.v2.stream");
    put("cut", &full[..full.len() - 1000]);
    put("no-end", &full[..full.len() - 10]);
    put("empty", b"");
    let mut flipped = full.clone();
    flipped[100_000] ^= 1;
    put("flipped", &flipped);
    let texts: Vec<_> = ["cut", "no-end", "empty", "flipped"]
        .iter()
        .map(|name| run(directory.path(), &["--verify", name]))
        .collect();
    assert_golden("verify-damaged", &texts.join("\n"));
}

#[test]
fn sets() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    // By name the last comes first.
    put("whole/3", &sample("full.v2.stream"));
    put("whole/2", &sample("incr.v2.stream"));
    put("whole/1", &sample("incr-swap.v1.stream"));
    put("whole/notes.txt", b"notes");
    put("gap/1", &sample("full.v2.stream"));
    put("gap/3", &sample("incr-swap.v1.stream"));
    put("packed/1", &sample("full.v2.stream"));
    put("packed/2.zst", b"\x28\xb5\x2f\xfd and so on");
    let cut = sample("incr.v2.stream");
    put("cut/1", &sample("full.v2.stream"));
    put("cut/2", &cut[..cut.len() - 1000]);
    put("cut/3", &sample("incr-swap.v1.stream"));
    put("odd/a\nERROR: b", b"");
    put("odd/1", &sample("full.v2.stream"));
    put("odd/2\n", &sample("incr.v2.stream"));
    let texts: Vec<_> = ["whole", "gap", "packed", "cut", "odd"]
        .iter()
        .map(|name| run(directory.path(), &["--verify", name]))
        .collect();
    assert_golden("verify-sets", &texts.join("\n"));
}

/// What cannot be read is told, and the rest is verified all the same.
#[test]
fn unreadable_files() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), b"").unwrap();
    fs::write(directory.path().join("b"), sample("full.v2.stream")).unwrap();
    let nobody = fs::Permissions::from_mode(0o000);
    fs::set_permissions(directory.path().join("a"), nobody).unwrap();
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), everybody).unwrap();
    let program = env!("CARGO_BIN_EXE_btrfs-recv-rs");
    let mut command = Command::new(program);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // A copy, since the user may not enter the directory of this one. Not
        // written by this process, which could not execute it meanwhile.
        let copy = directory.path().join(".program");
        let copied = Command::new("cp").arg(program).arg(&copy).status();
        assert!(copied.unwrap().success());
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(copy);
    }
    let output = command
        .args(["--verify", "."])
        .current_dir(directory.path());
    let output = output.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "ERROR: cannot open ./a: Permission denied\n");
    assert!(output.stdout.starts_with(b"./b: good\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn command_lines() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("notes.txt"), b"notes").unwrap();
    let texts: Vec<_> = [
        &["--verify"][..],
        &["--verify", "missing"],
        &["--verify", "."],
        &["--verify", "notes.txt"],
        &["--verify", "--dump"],
        &["--no-names", "."],
    ]
    .iter()
    .map(|args| run(directory.path(), args))
    .collect();
    assert_golden("verify-command-lines", &texts.join("\n"));
}
