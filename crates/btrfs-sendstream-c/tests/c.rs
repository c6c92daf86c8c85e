//! A C program that knows nothing but the header, compiled and run over
//! streams of kernels; with the static library, with the shared one, and under
//! valgrind where that is installed.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use btrfs_sendstream::{Item, Reader};
use btrfs_testkit::documented;

/// Makes the library one that is built for this test.
use btrfs_sendstream_c as _;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// The program with the static library in it, or `None` without a C compiler.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<Program>> = OnceLock::new();
    let library = libraries().join("libbtrfs_sendstream_c.a");
    let compile = || compiled(&[library.as_os_str()]);
    PROGRAM.get_or_init(compile).as_ref().map(|it| &*it.built)
}

struct Program {
    built: PathBuf,
    _directory: tempfile::TempDir,
}

/// `target/debug/deps`, where cargo puts the libraries for this test.
fn libraries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

fn compiled(library: &[&OsStr]) -> Option<Program> {
    if Command::new("cc").arg("--version").output().is_err() {
        eprintln!("left out: no C compiler");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let built = directory.path().join("list");
    let status = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g"])
        .arg(format!("-I{CRATE}/include"))
        .arg(format!("{CRATE}/tests/c/list.c"))
        .args(library)
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&built)
        .status()
        .unwrap();
    assert!(status.success());
    Some(Program {
        built,
        _directory: directory,
    })
}

/// What the program prints about an input.
fn list(arguments: &[&str], input: &[u8]) -> Option<String> {
    let program = program()?;
    Some(run(Command::new(program).args(arguments), input))
}

fn run(command: &mut Command, input: &[u8]) -> String {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = command
        .stdin(file)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn streams() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(CRATE).join("../../testdata/streams");
    let Ok(entries) = std::fs::read_dir(directory) else {
        // A published crate comes without them.
        return Vec::new();
    };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "stream"))
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect()
}

fn stream(name: &str) -> Option<Vec<u8>> {
    let mut streams = streams().into_iter();
    let found = streams.find(|(path, _)| path.ends_with(&format!("/{name}.stream")));
    found.map(|(_, stream)| stream)
}

#[test]
fn each_command_of_each_stream_is_called_back_for() {
    for (name, stream) in streams() {
        let (mut reader, mut commands, mut bytes) = (Reader::new(&stream[..]), 0, 0);
        while let Some(item) = reader.next_item().unwrap() {
            use btrfs_sendstream::Command;
            match item {
                Item::Command(Command::End) => continue,
                Item::Command(Command::Write { data, .. }) => bytes += data.len() as u64,
                Item::Command(Command::EncodedWrite(write)) => bytes += write.unencoded_file_len,
                Item::Command(_) => {}
                _ => continue,
            }
            commands += 1;
        }
        let Some(text) = list(&["all"], &stream) else {
            return;
        };
        let last = format!("= 0, {commands} calls, {bytes} bytes\n");
        assert!(text.ends_with(&last), "{name}:\n{text}");
    }
}

#[test]
fn the_shared_library_does_the_same() {
    let mut search = OsString::from("-L");
    search.push(libraries());
    let library = [&*search, OsStr::new("-lbtrfs_sendstream_c")];
    let (Some(input), Some(program)) = (stream("incr-clone.v2"), compiled(&library)) else {
        return;
    };
    let mut shared = Command::new(&program.built);
    shared.arg("all").env("LD_LIBRARY_PATH", libraries());
    let text = run(&mut shared, &input);
    assert_eq!(Some(text), list(&["all"], &input));
}

#[test]
fn the_documented_stream() {
    let expected = "subvol s 101f 7\n\
                    mkfile o257-7-0\n\
                    o257-7-0, hi\n\
                    write hi 0 5 500\n\
                    = 0, 4 calls, 5 bytes\n";
    if let Some(text) = list(&["all"], &documented::stream()) {
        assert_eq!(text, expected);
    }
}

#[test]
fn one_stream_at_a_time() {
    let Some(input) = stream("multi.v1") else {
        return;
    };
    let Some(text) = list(&["end"], &input) else {
        return;
    };
    assert_eq!(text.matches("-- end\n").count(), 2, "{text}");
    // At the end of the input.
    assert!(text.contains("\n= 1, "), "{text}");
}

#[test]
fn callbacks_may_be_missing() {
    for (name, stream) in streams() {
        if let Some(text) = list(&["null"], &stream) {
            assert_eq!(text, "= 0, 0 calls, 0 bytes\n", "{name}");
        }
    }
}

#[test]
fn errors_of_callbacks_are_counted() {
    let Some(input) = stream("full.v1") else {
        return;
    };
    let calls = |max_errors: &str| {
        let text = list(&["fail", max_errors], &input)?;
        let (_, result) = text.split_once("\n= -17, ").unwrap();
        assert!(result.contains("\n! stream 1, command "), "{text}");
        assert!(result.contains("the callback for mkfile returned -17"));
        Some(text.matches("\nmkfile ").count())
    };
    let Some(all) = calls("0") else {
        return;
    };
    assert!(all > 3);
    assert_eq!(calls("1"), Some(1));
    assert_eq!(calls("3"), Some(3));
}

#[test]
fn damage_is_an_error_that_says_where() {
    let Some(mut input) = stream("full.v1") else {
        return;
    };
    let Some(cut) = list(&["all"], &input[..input.len() - 3]) else {
        return;
    };
    assert!(cut.contains("\n= -22, "), "{cut}");
    assert_eq!(cut.matches("stream 1, command ").count(), 1, "{cut}");
    input[200] ^= 1;
    let damaged = list(&["all"], &input).unwrap();
    assert!(damaged.contains("\n= -22, "), "{damaged}");
    let other = list(&["all"], b"btrfs-stream\0\x09\0\0\0").unwrap();
    assert!(other.starts_with("= -95, 0 calls"), "{other}");
    assert!(list(&["all"], b"").unwrap().starts_with("= 1, 0 calls"));
    assert!(list(&["misuse"], b"").unwrap().starts_with("= 0, "));
}

#[test]
fn valgrind_finds_nothing() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("left out: no valgrind");
        return;
    }
    for name in ["full.v1", "incr-clone.v2", "encoded-lzo.v2"] {
        let (Some(program), Some(input)) = (program(), stream(name)) else {
            return;
        };
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["-q", "--error-exitcode=9", "--leak-check=full"])
            .arg(program);
        let text = run(&mut valgrind, &input);
        assert!(text.contains("\n= 0, "), "{text}");
    }
}
