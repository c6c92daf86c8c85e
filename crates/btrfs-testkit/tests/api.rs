//! `api.txt` of each library lists what is public in it.
//!
//! The list is made of what rustdoc says as JSON. That output is unstable, and
//! so is how std's types are written in it: the lists are compared with one
//! version of Rust, and ignored with another. `.ci/run` installs that one where
//! it is not the one in use.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// The Rust that lists what is public; `public-api` reads what its rustdoc
/// writes. `.ci/run` reads this line.
const LISTED_WITH: &str = "1.95";
/// The environment variable that has the lists written instead of compared.
const UPDATE: &str = "UPDATE_API";
/// Whose types may stand in a signature besides our own.
const ALLOWED: [&str; 10] = [
    "alloc",
    "btrfs_accept",
    "btrfs_ioctl",
    "btrfs_lineage",
    "btrfs_receive",
    "btrfs_sendstream",
    "bytes",
    "core",
    "std",
    "uuid",
];

/// A library, and the features that have public items of their own.
#[derive(Clone, Copy)]
struct Library {
    name: &'static str,
    features: &'static str,
    /// Further crates whose types may stand in signatures.
    allowed: &'static [&'static str],
}

const LIBRARIES: [Library; 5] = [
    Library {
        name: "btrfs-sendstream",
        features: "decompress,inspect,tokio,transform",
        // What its asynchronous reader reads from, and is.
        allowed: &["futures_core", "tokio"],
    },
    Library {
        name: "btrfs-ioctl",
        features: "",
        // Wraps what rustix lacks, and is used beside rustix.
        allowed: &["bitflags", "rustix"],
    },
    Library {
        name: "btrfs-lineage",
        features: "digest",
        // Documents are read and written by whatever serde can.
        allowed: &["serde", "serde_core"],
    },
    Library {
        name: "btrfs-receive",
        features: "",
        allowed: &[],
    },
    Library {
        name: "btrfs-accept",
        features: "",
        // Rules can be part of a caller's own file.
        allowed: &["serde", "serde_core"],
    },
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for library in LIBRARIES {
        let name = format!("listed::{}", library.name);
        trials.push(Trial::ignorable_test(name, move || match other_rust() {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => library.compare().map(|()| Completion::Completed),
        }));
        let name = format!("no_type_of_a_dependency::{}", library.name);
        trials.push(Trial::test(name, move || library.own_types_only()));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

impl Library {
    fn compare(self) -> Result<(), Failed> {
        let now = simplified(&self.listed()?, self.name);
        if std::env::var_os(UPDATE).is_some() {
            fs::write(self.file(), now)?;
            return Ok(());
        }
        let kept = fs::read_to_string(self.file())?;
        let gone = kept.lines().filter(|line| !has(&now, line));
        let new = now.lines().filter(|line| !has(&kept, line));
        let differences: Vec<_> = gone
            .map(|line| format!("- {line}\n"))
            .chain(new.map(|line| format!("+ {line}\n")))
            .collect();
        if differences.is_empty() && kept == now {
            return Ok(());
        }
        Err(format!(
            "what is public changed:\n{}If that is meant: {UPDATE}=1 cargo test -p btrfs-testkit --test api",
            differences.concat()
        )
        .into())
    }

    fn own_types_only(self) -> Result<(), Failed> {
        let kept = fs::read_to_string(self.file())?;
        let foreign: Vec<_> = paths(&kept)
            .filter_map(|path| path.split_once("::"))
            .filter(|(root, _)| {
                !ALLOWED.contains(root) && !self.allowed.contains(root) && starts_lowercase(root)
            })
            .collect();
        if foreign.is_empty() {
            Ok(())
        } else {
            Err(format!("types of others: {foreign:?}").into())
        }
    }

    fn file(self) -> PathBuf {
        workspace().join("crates").join(self.name).join("api.txt")
    }

    /// The public items, one a line.
    fn listed(self) -> Result<String, Failed> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        // A directory of its own: the variable below is one that build scripts
        // look at, so it would have everything built again.
        let target = workspace().join("target/api");
        let output = Command::new(cargo)
            .args(["rustdoc", "--quiet", "--lib", "-p", self.name])
            .args(["--features", self.features, "--target-dir"])
            .arg(&target)
            .args(["--", "-Z", "unstable-options", "--output-format", "json"])
            .current_dir(workspace())
            // Unstable options in a stable rustdoc.
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTDOCFLAGS")
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let file = format!("doc/{}.json", self.name.replace('-', "_"));
        let items = public_api::Builder::from_rustdoc_json(target.join(file))
            .omit_blanket_impls(true)
            .build()?;
        Ok(items.to_string())
    }
}

/// Why nothing can be compared here.
fn other_rust() -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).arg("--version").output().unwrap();
    let here = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let same = here.starts_with(&format!("rustc {LISTED_WITH}."));
    (!same).then(|| format!("listed with Rust {LISTED_WITH}, this is {here}"))
}

/// The list without what says nothing or changes for no reason.
fn simplified(listed: &str, library: &str) -> String {
    let own = library.replace('-', "_");
    let mut lines = Vec::new();
    let mut trait_of_std = false;
    for line in listed.lines() {
        if line.starts_with("impl") {
            trait_of_std = ["core", "alloc", "std"]
                .iter()
                .any(|root| line.contains(&format!(" {root}::")) && line.contains(" for "));
            if is_plain_auto_trait(line) {
                continue;
            }
        } else if trait_of_std && is_associated(line) {
            // The trait says which functions there are.
            continue;
        }
        lines.push(with_public_paths(line, &own) + "\n");
    }
    lines.concat()
}

/// That a type is Send is expected; that it is not is worth a line.
fn is_plain_auto_trait(line: &str) -> bool {
    const AUTO: [&str; 8] = [
        "core::marker::Freeze",
        "core::marker::Send",
        "core::marker::StructuralPartialEq",
        "core::marker::Sync",
        "core::marker::Unpin",
        "core::marker::UnsafeUnpin",
        "core::panic::unwind_safe::RefUnwindSafe",
        "core::panic::unwind_safe::UnwindSafe",
    ];
    let about_threads =
        line.contains("!core::marker::Send") || line.contains("!core::marker::Sync");
    let auto = AUTO
        .iter()
        .any(|name| line.contains(&format!("{name} for ")));
    auto && !about_threads
}

/// Whether the line is of an item inside a type.
fn is_associated(line: &str) -> bool {
    let Some(item) = ["pub fn ", "pub type ", "pub const "]
        .iter()
        .find_map(|kind| line.strip_prefix(kind))
    else {
        return false;
    };
    let path = item.split(['(', ' ']).next().unwrap_or(item);
    path.rsplit("::")
        .skip(1)
        .any(|segment| !starts_lowercase(segment))
}

/// Types of other crates by the name under which they are exported: in which
/// private module they are defined may change.
fn with_public_paths(line: &str, own: &str) -> String {
    let mut line = line.to_owned();
    let long: Vec<_> = paths(&line).map(str::to_owned).collect();
    for path in long {
        let mut segments = path.split("::");
        let (Some(root @ ("btrfs_sendstream" | "bytes")), Some(last)) =
            (segments.next(), segments.find(|it| !starts_lowercase(it)))
        else {
            continue;
        };
        if root == own {
            continue;
        }
        line = line.replace(&path, &format!("{root}::{last}"));
    }
    line
}

fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.contains("::"))
}

fn starts_lowercase(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
}

fn has(text: &str, wanted: &str) -> bool {
    text.lines().any(|line| line == wanted)
}

fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
