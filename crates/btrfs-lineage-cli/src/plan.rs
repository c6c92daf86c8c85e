//! `plan`: the parent and the clone sources for a transfer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use btrfs_lineage::{Inventory, PlanError, PlanOptions, SendPlanError, SnapshotToSend};
use sendstream_common::json;

use crate::args::Plan;
use crate::explain::{Explanation, shown};
use crate::{Failure, streams};

/// The exit status if all of the snapshot has to be sent.
const FULL: u8 = 3;

/// The exit status if the receiver has the snapshot already.
const ALREADY_THERE: u8 = 4;

/// Most bytes of an inventory that are read: 65,536 subvolumes with paths of
/// 4096 bytes, twice.
const MAX_INVENTORY: u64 = 512 << 20;

pub(crate) fn run(options: &Plan) -> Result<ExitCode, Failure> {
    let snapshot = &options.snapshot;
    let here = SnapshotToSend::open(snapshot).map_err(|error| refused(error, snapshot))?;
    let there = receiver(options)?;
    let mut how = PlanOptions::default();
    how.max_clone_sources = options.clone_sources;
    how.trust_relayed = options.trust_relayed;
    let found = here.plan(&there, how);
    let found = found.map_err(|error| refused(error, snapshot))?;
    let is_there = !found.plan.already_there.is_empty();
    let mut out = io::stdout().lock();
    let written = if options.json {
        out.write_all(&json::line(&found))
    } else {
        out.write_all(&shell_words(&found.arguments()))
    };
    written
        .and_then(|()| out.flush())
        .map_err(Failure::output)?;
    Explanation {
        here: here.inventory(),
        there: &there,
        plan: &found.plan,
        paths: &found.paths,
    }
    .say(options.explain);
    Ok(match found.plan.parent {
        _ if is_there => ExitCode::from(ALREADY_THERE),
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(FULL),
    })
}

/// Why there is no plan, and what to do.
fn refused(error: SendPlanError, snapshot: &Path) -> Failure {
    // Where it is, whatever it was called.
    let real = snapshot.canonicalize();
    let real = shown(real.as_deref().unwrap_or(snapshot));
    let name = shown(snapshot);
    Failure::Other(match error {
        SendPlanError::Open(error) => return Failure::path(snapshot)(error),
        SendPlanError::Mounts(error) => {
            return Failure::path(Path::new("/proc/self/mountinfo"))(error);
        }
        SendPlanError::NotPrivileged => {
            format!("{name}: {error}: run this as root, like `btrfs send`")
        }
        SendPlanError::Changed => format!(
            "{real} was changed since it was received, and would be sent under the UUID of the \
             original: receivers would take it for that. Take a writable snapshot of it (btrfs \
             subvolume snapshot), and send a read-only snapshot of that one"
        ),
        SendPlanError::Plan(PlanError::Writable(_)) => format!(
            "{real} is writable, and only read-only subvolumes can be sent: take a read-only \
             snapshot of it (btrfs subvolume snapshot -r)"
        ),
        SendPlanError::Plan(error) => format!("{real}: {error}"),
        error => format!("{name}: {error}"),
    })
}

/// What the receiver has.
fn receiver(options: &Plan) -> Result<Inventory, Failure> {
    let path = &options.against;
    if path.is_dir() {
        return streams::inventory(path, options.verify);
    }
    let name = if path.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        shown(path)
    };
    let input: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(Failure::path(path))?)
    };
    let mut text = Vec::new();
    let read = BufReader::new(input)
        .take(MAX_INVENTORY)
        .read_to_end(&mut text);
    read.map_err(Failure::path(Path::new(&name)))?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::Other(format!(
            "{name} is empty: did `btrfs-lineage inventory --json` on the receiver fail?"
        )));
    }
    serde_json::from_slice(&text).map_err(|error| {
        let cut = if error.is_eof() {
            ": it was cut off"
        } else {
            ""
        };
        Failure::Other(format!(
            "{name} is not what `btrfs-lineage inventory --json` prints{cut}: {error}"
        ))
    })
}

/// Words on a line, as `eval` of a shell takes them back. Nothing for none.
fn shell_words(words: &[&OsStr]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(byte);
    let mut line = Vec::new();
    for word in words.iter().map(|it| it.as_bytes()) {
        if !line.is_empty() {
            line.push(b' ');
        }
        if !word.is_empty() && word.iter().all(is_plain) {
            line.extend_from_slice(word);
            continue;
        }
        line.push(b'\'');
        for &byte in word {
            match byte {
                b'\'' => line.extend_from_slice(b"'\\''"),
                byte => line.push(byte),
            }
        }
        line.push(b'\'');
    }
    if !line.is_empty() {
        line.push(b'\n');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn words_survive_a_shell() {
        let words: [&[u8]; 7] = [
            b"-p",
            b"/snapshots/a-1_2.3@x",
            b"with blank",
            b"it's",
            b"$(reboot)\n*",
            b"caf\xe9",
            b"",
        ];
        let line = shell_words(&words.map(OsStr::from_bytes));
        let expected =
            b"-p /snapshots/a-1_2.3@x 'with blank' 'it'\\''s' '$(reboot)\n*' 'caf\xe9' ''\n";
        assert_eq!(line, expected);
        assert_eq!(shell_words(&[]), b"");
        let script = [b"printf '%s\\0' ", &line[..]].concat();
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(std::ffi::OsStr::from_bytes(&script))
            .output()
            .unwrap();
        let read: Vec<_> = output.stdout.split_inclusive(|&byte| byte == 0).collect();
        let expected: Vec<_> = words
            .iter()
            .map(|word| [word, &b"\0"[..]].concat())
            .collect();
        assert_eq!(read, expected);
    }
}
