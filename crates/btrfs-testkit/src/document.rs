//! The commands of a document, run as they are written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

/// The root of the repository.
pub fn repository() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap()
}

/// A fenced block of code.
pub struct Block {
    /// What its fence says.
    pub info: String,
    text: String,
    /// File and line, for messages.
    place: String,
}

/// Returns the fenced blocks of a file of the repository.
///
/// # Panics
/// If one is neither ```` ```text ````, ```` ```rust ````, ```` ```toml ````,
/// ```` ```sh not run: REASON ```` nor a kind of ```` ```sh ````, or if code is only
/// indented: it would not be run.
pub fn blocks(file: &str) -> Vec<Block> {
    let text = fs::read_to_string(repository().join(file)).unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let place = format!("{file}:{}", at + 1);
        let Some(info) = line.trim_start().strip_prefix("```") else {
            let is_code = line.starts_with("    ");
            assert!(!is_code, "{place}: put code into ```sh or ```text: {line}");
            continue;
        };
        let is_known = ["sh", "text", "rust", "toml"].contains(&info)
            || info.starts_with("sh not run: ")
            || info.starts_with("sh on ");
        assert!(is_known, "{place}: ```{info}");
        // Blocks in lists are indented.
        let indent = line.len() - line.trim_start().len();
        let inside = lines.by_ref().map(|(_, line)| line);
        let inside = inside.take_while(|line| line.trim() != "```");
        found.push(Block {
            info: info.to_owned(),
            text: inside
                .map(|line| format!("{}\n", line.get(indent..).unwrap_or("")))
                .collect(),
            place,
        });
    }
    found
}

impl Block {
    /// Whether it holds commands that are to be run.
    pub fn is_run(&self) -> bool {
        self.info == "sh" || self.info.starts_with("sh on ")
    }

    /// Runs it in `directory` by bash, which stops at the first command that fails.
    /// Programs are looked for in `programs` first.
    ///
    /// # Panics
    /// If a command fails.
    pub fn run(&self, directory: &Path, programs: &Path) {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &self.text])
            .current_dir(directory)
            .env("PATH", format!("{}:{path}", programs.display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        println!("--- {}\n{}{said}", self.place, self.text);
        let (status, place) = (output.status, &self.place);
        assert!(status.success(), "{place}: {status}\n{}{said}", self.text);
    }
}

/// A directory bound to a well-known name, in the mount namespace of the test program
/// only.
pub struct Shown {
    name: &'static Path,
    made: bool,
}

impl Shown {
    /// Shows `directory` as `name`.
    pub fn at(name: &'static str, directory: &Path) -> Self {
        let made = fs::create_dir(name).is_ok();
        mount_bind(directory, name).unwrap();
        let name = Path::new(name);
        Self { name, made }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = unmount(self.name, UnmountFlags::DETACH);
        if self.made {
            let _ = fs::remove_dir(self.name);
        }
    }
}
