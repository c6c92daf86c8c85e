//! `verify` and `order` on the sample streams, whole, cut, damaged, and in sets.
//! What they print stands in `tests/golden`; run with `UPDATE_GOLDEN=1` to write it
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
    let output = Command::new(env!("CARGO_BIN_EXE_sendstream"))
        .args(args)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    format!(
        "$ sendstream {}\n{}{}exit status {}\n",
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

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let output = Command::new("gzip").arg("-c").arg(file.path()).output();
    let output = output.unwrap();
    assert!(output.status.success());
    output.stdout
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
        .map(|name| run(&streams(), &["verify", name]))
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
        .map(|name| run(directory.path(), &["verify", name]))
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
    put("packed/2.gz", &gzip(&sample("incr.v2.stream")));
    put("packed/3.zst", b"\x28\xb5\x2f\xfd and so on");
    put("packed/4.bz2", b"BZh91AY&SY");
    put("packed/notes.gz", &gzip(b"notes"));
    let cut = sample("incr.v2.stream");
    put("cut/1", &sample("full.v2.stream"));
    put("cut/2", &cut[..cut.len() - 1000]);
    put("cut/3", &sample("incr-swap.v1.stream"));
    put("odd/a\nERROR: b", b"");
    put("odd/1", &sample("full.v2.stream"));
    put("odd/2\n", &sample("incr.v2.stream"));
    let texts: Vec<_> = ["whole", "gap", "packed", "cut", "odd"]
        .iter()
        .flat_map(|name| ["verify", "order"].map(|command| run(directory.path(), &[command, name])))
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
    let program = env!("CARGO_BIN_EXE_sendstream");
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
    let output = command.args(["verify", "."]).current_dir(directory.path());
    let output = output.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let hidden = "sendstream: warning: ./.program has a name that begins with a dot: skipped\n";
    let stderr = stderr.replace(hidden, "");
    assert_eq!(stderr, "sendstream: cannot open ./a: Permission denied\n");
    assert!(output.stdout.starts_with(b"./b: good\n"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn command_lines() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("notes.txt"), b"notes").unwrap();
    let texts: Vec<_> = [
        &["verify"][..],
        &["verify", "missing"],
        &["verify", "."],
        &["verify", "notes.txt"],
        &["order", "."],
        &["order", "missing"],
    ]
    .iter()
    .map(|args| run(directory.path(), args))
    .collect();
    assert_golden("verify-command-lines", &texts.join("\n"));
}

/// A damaged stream in a directory below is found, and what is no file is
/// named.
#[test]
fn directories_are_searched_to_the_bottom() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::create_dir(at.join("2024")).unwrap();
    let good = sample("full.v2.stream");
    fs::write(at.join("good.st"), &good).unwrap();
    fs::write(at.join("2024/bad.st"), &good[..good.len() - 1000]).unwrap();
    for command in ["verify", "order"] {
        let text = run(at, &[command, "."]);
        assert!(text.contains("./2024/bad.st: in "), "{text}");
        assert!(text.ends_with("exit status 1\n"), "{text}");
    }
    fs::remove_file(at.join("2024/bad.st")).unwrap();
    let fifo = Command::new("mkfifo").arg(at.join("2024/fifo")).status();
    assert!(fifo.unwrap().success());
    let text = run(at, &["verify", "."]);
    let warning = "sendstream: warning: ./2024/fifo is a FIFO: skipped\n";
    assert!(text.contains(warning), "{text}");
    assert!(text.ends_with("exit status 0\n"), "{text}");
    // Another filesystem's files are not ours to search.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("bad.st"), b"btrfs-stream").unwrap();
    std::os::unix::fs::symlink(outside.path(), at.join("2024/link")).unwrap();
    let text = run(at, &["verify", "."]);
    assert!(
        text.contains("2024/link is a symbolic link that leads out"),
        "{text}"
    );
    assert!(text.ends_with("exit status 1\n"), "{text}");
}

/// Names with line feeds, and the order by the first commands alone.
#[test]
fn order_is_for_other_programs() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("1\n"), sample("incr.v2.stream")).unwrap();
    let full = sample("full.v2.stream");
    fs::write(at.join("2"), &full).unwrap();
    for quick in [&[][..], &["--quick"]] {
        let text = run(at, &[&["order"], quick, &["."]].concat());
        assert!(text.contains("\n./2\n./1\\n\nexit status 0\n"), "{text}");
        let text = run(at, &[&["order", "-0"], quick, &["."]].concat());
        assert!(text.contains("\n./2\0./1\n\0exit status 0\n"), "{text}");
    }
    // Only a whole look finds damage.
    fs::write(at.join("2"), &full[..full.len() - 1000]).unwrap();
    assert!(run(at, &["order", "--quick", "."]).ends_with("exit status 0\n"));
    assert!(run(at, &["order", "."]).ends_with("exit status 1\n"));
    fs::remove_file(at.join("2")).unwrap();
    for quick in [&[][..], &["--quick"]] {
        let text = run(at, &[&["order"], quick, &["."]].concat());
        assert!(text.contains("the parent of "), "{text}");
        assert!(text.ends_with("exit status 1\n"), "{text}");
    }
}

/// The hint fits the command, and nothing calls a packed stream damaged.
#[test]
fn packed_streams_are_recognised() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("a.zst"), b"\x28\xb5\x2f\xfd and so on, and on").unwrap();
    for (args, hint) in [
        (&["dump", "a.zst"][..], "zstd -dc FILE | sendstream dump"),
        (
            &["dump", "--format=json", "a.zst"],
            "zstd -dc FILE | sendstream dump",
        ),
        (
            &["dump", "--format=summary", "a.zst"],
            "zstd -dc FILE | sendstream dump",
        ),
        (&["diff", "a.zst"], "zstd -dc FILE | sendstream diff"),
        (&["verify", "a.zst"], "zstd -dc FILE | sendstream verify"),
        (&["order", "a.zst"], "zstd -dc FILE > STREAM"),
        (&["order", "--quick", "a.zst"], "zstd -dc FILE > STREAM"),
        (
            &["verify", "."],
            "unpack it (zstd -dc FILE > STREAM), or move it",
        ),
        (
            &["order", "."],
            "unpack it (zstd -dc FILE > STREAM), or move it",
        ),
    ] {
        let text = run(at, &[args, &["--decompress=none"]].concat());
        assert!(text.contains(hint), "{text}");
        assert!(!text.contains("damaged or incomplete"), "{text}");
        assert!(text.ends_with("exit status 1\n"), "{text}");
    }
}
