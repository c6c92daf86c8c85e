//! `audit`: what will go wrong with later sends and receives.

mod advice;
mod places;
mod stored;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, StdoutLock, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use btrfs_lineage::{Audit, Finding, Resolver, STATE_DIRECTORY, SearchPlace};
use btrfs_sendstream::Bytes;
use sendstream_common::output::Output;
use serde::Serialize;

use crate::Failure;
use crate::args;
use advice::{Advice, ToDo};
use places::Places;
use stored::Stored;

/// The exit status if something was found.
const FOUND: u8 = 1;

/// The exit status if nothing could be looked at, as for a wrong command line.
const FAILED: u8 = 2;

/// The exit status if nothing was found in what could be looked at.
const INCOMPLETE: u8 = 3;

/// Carries out `audit`.
pub(crate) fn run(options: &args::Audit) -> ExitCode {
    let status = match audit(options) {
        Ok(status) => status,
        Err(failure) if failure.is_unread() => INCOMPLETE,
        Err(failure) => {
            let mut out = output(options);
            // What cannot be written either was said.
            let _ = out.error(&failure.to_string());
            let _ = out.end(false);
            FAILED
        }
    };
    ExitCode::from(status)
}

fn output(options: &args::Audit) -> Output<StdoutLock<'static>> {
    Output::new("btrfs-lineage", io::stdout().lock(), options.json)
}

fn audit(options: &args::Audit) -> Result<u8, Failure> {
    let mut out = output(options);
    let failed = Failure::path(&options.path);
    let directory = File::open(&options.path).map_err(&failed)?;
    let mut builder = Resolver::builder();
    if options.below {
        let jail = directory.try_clone().map_err(&failed)?;
        builder = builder.jail(jail.into());
    }
    let audit = builder.build(&directory).map_err(&failed)?.audit();
    let mut complete = audit.is_exhaustive();
    let mut count = 0;
    let places = Places::of(&options.path, options.below, audit.search().place);
    let mut advice = Advice::new(places, &audit.listing.subvolumes);
    let unseen = without_checkpoint(&audit, advice.places());
    for finding in audit.findings.iter().chain(&unseen) {
        print(&mut out, finding, &mut advice)?;
        count += 1;
    }
    if !options.stored.is_empty() {
        let stored = Stored::read(&options.stored, options.quick, &mut out)?;
        complete &= stored.complete;
        // Whatever lies outside of the path can be a parent too.
        let mut resolver = Resolver::new(&directory).map_err(&failed)?;
        let mut gone = resolver.audit_needs(stored.needs);
        gone.extend(stored::stuck(stored.circular, &mut resolver));
        complete &= gone.is_empty() || resolver.list().is_exhaustive();
        for finding in &gone {
            print(&mut out, finding, &mut advice)?;
        }
        count += gone.len() + stored.damaged;
    }
    summary(&mut out, &audit, count, complete)?;
    let status = if count > 0 {
        FOUND
    } else if complete {
        0
    } else {
        INCOMPLETE
    };
    out.end(status == 0)?;
    Ok(status)
}

/// Resumable receives that have no checkpoint, which no subvolume tells of: in the
/// directories where subvolumes lie.
fn without_checkpoint(audit: &Audit, places: &Places) -> Vec<Finding> {
    let subvolumes = &audit.listing.subvolumes;
    let paths = subvolumes.iter().filter_map(|it| it.path.as_ref());
    let directories: BTreeSet<Bytes> = paths
        .filter(|path| !path.is_empty())
        .map(|path| {
            let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            path.slice(..end)
        })
        .collect();
    let known = |in_directory: &Bytes, of: &[u8]| {
        audit.findings.iter().any(|finding| {
            matches!(finding, Finding::UnfinishedResumable { directory, name, .. }
                if directory == in_directory && name == of)
        })
    };
    let mut found = Vec::new();
    for directory in directories {
        let Some(path) = places.find(&directory) else {
            continue;
        };
        let entries = fs::read_dir(path.join(STATE_DIRECTORY));
        for entry in entries.into_iter().flatten().flatten() {
            let name = Bytes::from(entry.file_name().into_vec());
            // Without one, nothing was created yet.
            let has_begun = entry.path().join("journal").exists();
            if has_begun && !known(&directory, &name) {
                found.push(Finding::UnfinishedResumable {
                    directory: directory.clone(),
                    name,
                    checkpoints: Vec::new(),
                });
            }
        }
    }
    found
}

fn summary(
    out: &mut Output<impl Write>,
    audit: &Audit,
    findings: usize,
    complete: bool,
) -> Result<(), Failure> {
    let subvolumes = audit.listing.subvolumes.len();
    out.emit(
        "report",
        Summary {
            findings,
            subvolumes,
            complete,
            unknown: audit.unknown,
            missing_capabilities: audit.missing.iter().map(|it| it.name()).collect(),
        },
    )?;
    let found = match findings {
        0 => "no problem was found".to_owned(),
        1 => "1 problem was found".to_owned(),
        _ => format!("{findings} problems were found"),
    };
    let looked_at = match subvolumes {
        1 => "1 subvolume".to_owned(),
        _ => format!("{subvolumes} subvolumes"),
    };
    out.text(format!("{looked_at}: {found}\n").as_bytes())?;
    if !audit.is_exhaustive() {
        out.say(&not_seen(audit));
    }
    Ok(())
}

/// What could not be looked at, and why.
fn not_seen(audit: &Audit) -> String {
    let mut text = String::from("not everything could be looked at");
    if !audit.listing.is_exhaustive() {
        text += &format!("\nsearched: {}", audit.search());
    }
    if audit.unknown > 0 {
        text += &format!(
            "\nwhether a subvolume was changed since it was received could not be found out: {} \
             of them",
            audit.unknown
        );
    }
    if !audit.missing.is_empty() {
        let names: Vec<_> = audit.missing.iter().map(|it| it.name()).collect();
        text += &format!("\nmissing: {}", names.join(", "));
    }
    if audit.search().place == SearchPlace::Mount {
        text += "\nonly what is mounted was looked at";
    }
    text
}

#[derive(Serialize)]
struct Summary {
    findings: usize,
    subvolumes: usize,
    complete: bool,
    unknown: usize,
    missing_capabilities: Vec<&'static str>,
}

#[derive(Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    message: String,
    to_do: Vec<ToDo>,
}

fn print(
    out: &mut Output<impl Write>,
    finding: &Finding,
    advice: &mut Advice<'_>,
) -> Result<(), Failure> {
    if !out.is_json() {
        return Ok(out.text(&advice.text(finding))?);
    }
    let (message, to_do) = advice.on(finding);
    let found = Found {
        finding,
        message,
        to_do,
    };
    Ok(out.emit("finding", found)?)
}
