//! `adopt`: a copy that was not received becomes a parent.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::sync::Arc;

use btrfs_lineage::adopt::{AdoptError, AdoptOptions, AdoptOutcome, Adoption, adopt};
use btrfs_lineage::digest::{Difference, DigestError, DigestProgress, Sha};
use sendstream_common::json;
use sendstream_common::text::escaped;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::Adopt;
use crate::digest::saved;
use crate::progress::Progress;
use crate::{Failure, digest, say};

/// What is printed of a copy that differs.
#[derive(serde::Serialize)]
struct Differs<'a> {
    outcome: &'static str,
    expected: Sha,
    found: Sha,
    differences: &'a [Difference],
}

pub(crate) fn run(options: &Adopt) -> Result<ExitCode, Failure> {
    let document = saved(&options.digest)?;
    let path = &options.subvolume;
    let failed = Failure::path(path);
    // Its real name, and where that is.
    let real = std::fs::canonicalize(path).map_err(&failed)?;
    let (Some(directory), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let directory = File::open(directory).map_err(&failed)?;
    let progress = Progress::start();
    end_on_signals(progress.counters()).map_err(&failed)?;
    let mut how = AdoptOptions::default();
    how.make_read_only = options.make_read_only;
    how.replace_received_uuid = options.replace_received_uuid;
    how.dry_run = options.dry_run;
    how.threads = options.threads;
    how.max_differences = match options.max_differences {
        0 => usize::MAX,
        most => most,
    };
    how.progress = progress.counters();
    let adopted = adopt(&directory, name.as_bytes(), &document, &how);
    drop(progress);
    let adopted = match adopted {
        Ok(adopted) => adopted,
        Err(error) => {
            differs(&error, options)?;
            return Err(Failure::Adopt {
                path: path.clone(),
                error: Box::new(error),
            });
        }
    };
    if options.json {
        print(&json::line(&adopted))?;
    } else {
        let path = escaped(path.as_os_str().as_bytes());
        print(format!("{path}: {}\n", described(&adopted)).as_bytes())?;
    }
    for left in &adopted.left {
        let at = real.with_file_name(std::ffi::OsStr::from_bytes(&left.name));
        say(&format!(
            "note: {} was not deleted: {}",
            at.display(),
            left.reason
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends the reading when a signal asks for it, so that nothing is left behind.
fn end_on_signals(counters: Arc<DigestProgress>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for _ in &mut signals {
            counters.cancel();
        }
    });
    Ok(())
}

fn described(adopted: &Adoption) -> String {
    let Adoption {
        received_uuid,
        stransid,
        replaced_received_uuid,
        ..
    } = adopted;
    let as_what = format!("received UUID {received_uuid}, ctransid {stransid}");
    let instead = match replaced_received_uuid {
        Some(had) => format!(", instead of the received UUID {had}"),
        None => String::new(),
    };
    match adopted.outcome {
        AdoptOutcome::AlreadyAdopted => format!("is adopted already: {as_what}"),
        AdoptOutcome::WouldAdopt => format!("the same; would be adopted: {as_what}{instead}"),
        _ => format!("adopted: {as_what}{instead}"),
    }
}

/// Prints the differences of a copy that has some.
fn differs(error: &AdoptError, options: &Adopt) -> Result<(), Failure> {
    let AdoptError::Differs {
        expected,
        found,
        differences,
    } = error
    else {
        return Ok(());
    };
    if options.json {
        return print(&json::line(&Differs {
            outcome: "differs",
            expected: *expected,
            found: *found,
            differences,
        }));
    }
    let lines = differences.iter().map(|it| format!("{it}\n"));
    print(lines.collect::<String>().as_bytes())
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .map_err(Failure::output)
}

/// What to do about an error, in the shell.
pub(crate) fn advice(error: &AdoptError) -> &'static str {
    match error {
        AdoptError::Digest(DigestError::Writable) | AdoptError::Writable => {
            "; use --make-read-only"
        }
        AdoptError::Digest(error) => digest::advice(error),
        AdoptError::Differs { differences, .. } if differences.is_empty() => {
            "; make the document with digest --json --tree to see what differs"
        }
        AdoptError::OtherReceivedUuid { .. } => {
            "; use --replace-received-uuid if nothing needs that any more"
        }
        AdoptError::OriginalWritable => {
            "; make the original read-only, and compute its digest again"
        }
        AdoptError::Itself => "; it is found by its own UUID and needs no received UUID",
        AdoptError::HoldsSubvolumes => "; move them out of it first",
        AdoptError::NotAnEntry => "; mount the top level of the filesystem and use the path there",
        _ => "",
    }
}
