//! `digest`: a digest of a subvolume, and what differs between two.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use btrfs_lineage::digest::{
    Difference, DigestDocument, DigestError, DigestOptions, differences, digest, read_documents,
};
use sendstream_common::json;
use sendstream_common::text::push_message;

use crate::args::Digest;
use crate::progress::Progress;
use crate::{Failure, say};

/// What stands for standard input in the place of a file.
const STANDARD_INPUT: &str = "-";

pub(crate) fn run(options: &Digest) -> Result<ExitCode, Failure> {
    if let Some([a, b]) = options.compare.as_deref() {
        return compare(a, b, options);
    }
    let Some(path) = &options.subvolume else {
        return Ok(ExitCode::FAILURE);
    };
    let document = of_subvolume(path, options.tree, options)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if options.json {
        json::write_line(&mut out, &document)
    } else {
        print(&mut out, path, &document)
    };
    written
        .and_then(|()| out.flush())
        .map_err(Failure::output)?;
    Ok(ExitCode::SUCCESS)
}

/// Lines as those of sha256sum(1): of the subvolume, then of what is in it.
fn print(out: &mut impl Write, path: &Path, document: &DigestDocument) -> io::Result<()> {
    let mut line = |sha256, path: &[u8]| {
        let mut line = format!("{sha256}  ").into_bytes();
        push_message(&mut line, path);
        line.push(b'\n');
        out.write_all(&line)
    };
    line(document.sha256, path.as_os_str().as_encoded_bytes())?;
    for entry in document.tree.iter().flatten() {
        let path: &[u8] = if entry.path.is_empty() {
            b"."
        } else {
            &entry.path
        };
        line(entry.sha256, path)?;
    }
    Ok(())
}

fn of_subvolume(path: &Path, tree: bool, options: &Digest) -> Result<DigestDocument, Failure> {
    let root = File::open(path).map_err(Failure::path(path))?;
    let progress = Progress::start();
    let mut how = DigestOptions::default();
    how.threads = options.threads;
    how.tree = tree;
    how.allow_writable = options.writable;
    how.progress = progress.counters();
    let document = digest(&root, how);
    drop(progress);
    let document = document.map_err(|error| Failure::Digest {
        path: path.to_owned(),
        error,
    })?;
    match document.nested_subvolumes {
        0 => {}
        count => say(&format!(
            "note: {}: the digest does not include {count} nested subvolumes, which are not sent",
            path.display()
        )),
    }
    Ok(document)
}

/// What to do about an error, in the shell.
pub(crate) fn advice(error: &DigestError) -> &'static str {
    match error {
        DigestError::Writable => {
            "; make it read-only, take a read-only snapshot of it, or use --writable if nothing \
             changes it"
        }
        DigestError::NotPermitted => "; run the command as root",
        DigestError::Mounted { .. } => "; unmount it",
        _ => "",
    }
}

/// The one document in a file, or on standard input.
pub(crate) fn saved(path: &Path) -> Result<DigestDocument, Failure> {
    let read = if path == Path::new(STANDARD_INPUT) {
        read_documents(io::stdin().lock())
    } else {
        let file = File::open(path).map_err(Failure::path(path))?;
        read_documents(BufReader::new(file))
    };
    let documents = read.map_err(|error| Failure::Document {
        path: path.to_owned(),
        error,
    })?;
    let count = documents.len();
    let mut documents = documents.into_iter();
    match (documents.next(), documents.next()) {
        (Some(document), None) => Ok(document),
        _ => Err(Failure::SeveralDocuments {
            path: path.to_owned(),
            count,
        }),
    }
}

/// A comparison, as JSON shows it.
#[derive(serde::Serialize)]
struct Compared<'a> {
    same: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<&'a [Difference]>,
    /// Whether there are more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

fn compare(a: &Path, b: &Path, options: &Digest) -> Result<ExitCode, Failure> {
    let either = |path: &Path| {
        if path == Path::new(STANDARD_INPUT) {
            return saved(path);
        }
        let meta = std::fs::metadata(path).map_err(Failure::path(path))?;
        if meta.is_dir() {
            of_subvolume(path, true, options)
        } else {
            saved(path)
        }
    };
    let (left, right) = (either(a)?, either(b)?);
    let same = left.sha256 == right.sha256;
    let most = match options.max_differences {
        0 => usize::MAX,
        most => most,
    };
    let list = match (&left.tree, &right.tree) {
        (Some(left), Some(right)) if !same => {
            Some(differences(left, right, most.saturating_add(1)))
        }
        _ => None,
    };
    let more = list.as_ref().is_some_and(|list| list.len() > most);
    let shown = list.as_ref().map(|list| list.get(..most).unwrap_or(list));
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if options.json {
        out.write_all(&json::line(&Compared {
            same,
            differences: shown,
            more,
        }))
    } else {
        shown
            .unwrap_or_default()
            .iter()
            .try_for_each(|difference| writeln!(out, "{difference}"))
    };
    written
        .and_then(|()| out.flush())
        .map_err(Failure::output)?;
    if same {
        return Ok(ExitCode::SUCCESS);
    }
    let (a, b) = (a.display(), b.display());
    say(&match &list {
        Some(list) if list.is_empty() => format!(
            "{a} and {b} differ, but their trees do not: a document was changed after it was made"
        ),
        Some(_) if more => format!("{a} and {b} differ; more differences are not shown"),
        Some(_) => format!("{a} and {b} differ"),
        None => format!(
            "{a} and {b} differ; what differs can be shown if both are subvolumes or were saved \
             with --tree"
        ),
    });
    Ok(ExitCode::FAILURE)
}
