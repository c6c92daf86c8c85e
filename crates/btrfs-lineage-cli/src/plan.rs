//! `plan`: the parent and the clone sources for a transfer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use btrfs_lineage::{
    Inventory, Mounts, PathsFrom, PlanCandidate, PlanOptions, PlanVerdict, Resolver, plan,
};
use btrfs_sendstream::serial::Text;
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
    let here = Here::new(&options.snapshot)?;
    let there = receiver(options)?;
    let mut how = PlanOptions::default();
    how.max_clone_sources = options.clone_sources;
    how.trust_relayed = options.trust_relayed;
    let (found, paths) = here.plan(&there, how, &options.snapshot)?;
    let is_there = !found.already_there.is_empty();
    // In an archive, a parent may need the very stream that would be replaced.
    let arguments = if is_there {
        Vec::new()
    } else {
        arguments(&found, &paths)
    };
    let mut out = io::stdout().lock();
    let written = if options.json {
        out.write_all(&json::line(&Printed::new(&arguments, &found)))
    } else {
        out.write_all(&shell_words(&arguments))
    };
    written
        .and_then(|()| out.flush())
        .map_err(Failure::output)?;
    Explanation {
        here: &here.inventory,
        there: &there,
        plan: &found,
        paths: &paths,
    }
    .say(options.explain);
    Ok(match found.parent {
        _ if is_there => ExitCode::from(ALREADY_THERE),
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(FULL),
    })
}

/// The sender.
struct Here {
    inventory: Inventory,
    snapshot: u64,
}

impl Here {
    fn new(snapshot: &Path) -> Result<Self, Failure> {
        let failed = Failure::path(snapshot);
        let root = File::open(snapshot).map_err(&failed)?;
        let mut resolver = Resolver::new(&root).map_err(&failed)?;
        resolver
            .check_named(&root.try_clone().map_err(&failed)?.into())
            .map_err(|_| Failure::Other(format!("{}: not a subvolume", shown(snapshot))))?;
        let id = btrfs_lineage::subvolume_id(&root).map_err(&failed)?;
        let inventory = resolver.inventory();
        if inventory.paths_from != PathsFrom::Top {
            return Err(Failure::Other(format!(
                "{}: listing the subvolumes of its filesystem needs CAP_DAC_READ_SEARCH: \
                 run this as root, like `btrfs send`",
                shown(snapshot)
            )));
        }
        Ok(Self {
            inventory,
            snapshot: id,
        })
    }

    /// The plan, and the paths of what it names. What is not mounted cannot be
    /// named to `btrfs send`.
    fn plan(
        &self,
        there: &Inventory,
        mut how: PlanOptions,
        near: &Path,
    ) -> Result<(btrfs_lineage::Plan, BTreeMap<u64, PathBuf>), Failure> {
        let near = near.canonicalize().unwrap_or_else(|_| near.to_owned());
        let snapshot = self.inventory.get(self.snapshot);
        if snapshot.is_some_and(|it| it.changed_since_received == Some(true)) {
            return Err(changed(&near));
        }
        loop {
            let found = plan(self.snapshot, &self.inventory, there, &how)
                .map_err(|error| self.refused(&error, &near))?;
            let mut paths = BTreeMap::new();
            let mut all_mounted = true;
            for id in found.parent.iter().chain(&found.clone_sources) {
                match self.mounted(*id, &near)? {
                    Some(path) => drop(paths.insert(*id, path)),
                    None => all_mounted = false,
                }
            }
            if all_mounted {
                return Ok((found, paths));
            }
            // Then none of them is asked for a second time.
            for candidate in &found.candidates {
                if is_usable(candidate) && self.mounted(candidate.id, &near)?.is_none() {
                    how.not_mounted.insert(candidate.id);
                }
            }
        }
    }

    fn mounted(&self, id: u64, near: &Path) -> Result<Option<PathBuf>, Failure> {
        let path = self.inventory.get(id).and_then(|it| it.path.as_deref());
        let (Some(path), Some(filesystem)) = (path, self.inventory.filesystem) else {
            return Ok(None);
        };
        let mounts = Mounts::read();
        let mounts = mounts.map_err(Failure::path(Path::new("/proc/self/mountinfo")))?;
        Ok(mounts.subvolume(filesystem, id, path, near))
    }

    fn refused(&self, error: &btrfs_lineage::PlanError, snapshot: &Path) -> Failure {
        let name = shown(snapshot);
        Failure::Other(match error {
            btrfs_lineage::PlanError::Writable(_) => format!(
                "{name} is writable, and only read-only subvolumes can be sent: take a read-only \
                 snapshot of it (btrfs subvolume snapshot -r)"
            ),
            error => format!("{name}: {error}"),
        })
    }
}

/// It would be sent with the received UUID of what it was once.
fn changed(snapshot: &Path) -> Failure {
    Failure::Other(format!(
        "{} was changed since it was received, and would be sent under the UUID of the original: \
         receivers would take it for that. Take a writable snapshot of it (btrfs subvolume \
         snapshot), and send a read-only snapshot of that one",
        shown(snapshot)
    ))
}

/// Whether it was taken, or could have been.
fn is_usable(candidate: &PlanCandidate) -> bool {
    matches!(
        candidate.verdict,
        PlanVerdict::Parent
            | PlanVerdict::CloneSource
            | PlanVerdict::Farther
            | PlanVerdict::Unrelated
    )
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

/// The options for `btrfs send`.
fn arguments<'a>(found: &btrfs_lineage::Plan, paths: &'a BTreeMap<u64, PathBuf>) -> Vec<&'a [u8]> {
    let parent = found.parent.iter().map(|id| (&b"-p"[..], id));
    let sources = found.clone_sources.iter().map(|id| (&b"-c"[..], id));
    let pairs = parent.chain(sources).filter_map(|(option, id)| {
        let path = paths.get(id)?.as_os_str().as_bytes();
        Some([option, path])
    });
    pairs.flatten().collect()
}

/// Words on a line, as `eval` of a shell takes them back. Nothing for none.
fn shell_words(words: &[&[u8]]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(byte);
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ');
        }
        if !word.is_empty() && word.iter().all(is_plain) {
            line.extend_from_slice(word);
            continue;
        }
        line.push(b'\'');
        for &byte in *word {
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

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Printed<'a> {
    version: u32,
    arguments: Vec<Text<'a>>,
    #[serde(flatten)]
    plan: &'a btrfs_lineage::Plan,
}

impl<'a> Printed<'a> {
    fn new(arguments: &[&'a [u8]], plan: &'a btrfs_lineage::Plan) -> Self {
        Self {
            version: 1,
            arguments: arguments.iter().copied().map(Text).collect(),
            plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let line = shell_words(&words);
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
