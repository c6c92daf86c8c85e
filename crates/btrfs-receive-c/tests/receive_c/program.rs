//! C programs that know nothing but the header, compiled and run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

/// Makes the library one that is built for this test.
use btrfs_receive_c as _;

pub(crate) const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// What a program is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    Static,
    Shared,
    AddressSanitizer,
}

impl With {
    fn arguments(self) -> Vec<String> {
        let libraries = libraries().display().to_string();
        let library = match self {
            Self::Static | Self::AddressSanitizer => {
                vec![format!("{libraries}/libbtrfs_receive_c.a")]
            }
            Self::Shared => vec![format!("-L{libraries}"), "-lbtrfs_receive_c".to_owned()],
        };
        let sanitizer = (self == Self::AddressSanitizer).then(|| "-fsanitize=address".to_owned());
        library.into_iter().chain(sanitizer).collect()
    }
}

/// `target/debug/deps`, where cargo puts the libraries for this test.
pub(crate) fn libraries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

/// Where programs are compiled.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| tempfile::tempdir().unwrap())
        .path()
}

/// Compiles a program that is not in a file.
pub(crate) fn compile_text(name: &str, source: &str) -> PathBuf {
    let file = directory().join(format!("{name}.c"));
    std::fs::write(&file, source).unwrap();
    compile(file.to_str().unwrap(), With::Static)
}

/// Compiles a source, by its path in this crate or from the root.
pub(crate) fn compile(source: &str, with: With) -> PathBuf {
    let source = Path::new(CRATE).join(source);
    let stem = source.file_stem().unwrap().to_string_lossy();
    let built = directory().join(format!("{stem}-{with:?}"));
    // One test at a time writes programs, and no program is written while it runs.
    static COMPILING: Mutex<()> = Mutex::new(());
    let _compiling = COMPILING.lock();
    if built.exists() {
        return built;
    }
    let status = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g"])
        .arg(format!("-DVERSION=\"{}\"", env!("CARGO_PKG_VERSION")))
        .arg(format!("-I{CRATE}/include"))
        .arg(&source)
        .args(with.arguments())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&built)
        .status()
        .unwrap();
    assert!(status.success());
    built
}

/// The program of the tests, with the static library.
pub(crate) fn drive() -> PathBuf {
    compile("tests/receive_c/drive.c", With::Static)
}

/// Runs what has to succeed, and returns its standard output.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{command:?}: {status}\n{text}\n{errors}");
    assert_eq!(errors, "", "{command:?}");
    text.into_owned()
}

/// What [`drive`] prints.
#[track_caller]
pub(crate) fn driven(directory: &Path, what: &str, file: &Path, options: &[&str]) -> String {
    let arguments = [directory.as_os_str(), OsStr::new(what), file.as_os_str()];
    run(Command::new(drive()).args(arguments).args(options))
}
