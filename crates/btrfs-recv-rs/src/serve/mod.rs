//! `--serve`: what a key in `authorized_keys` may do on this host.
//!
//! The command that the other side asked for is in `SSH_ORIGINAL_COMMAND`.
//! [`request`] understands it; no shell and no program gets it. A receive is
//! carried out under the rules, in a directory that [`place`] opened. Queries are
//! answered here or by the real `btrfs`, with arguments that are made anew.

mod log;
mod place;
mod request;
mod words;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_accept::{Query, Rules};
use rustix::io::{FdFlags, fcntl_setfd};

use self::log::Log;
use self::place::Place;
use self::request::Request;
use crate::args::{Receive, Serve};
use crate::btrfs;
use crate::messages::{Messages, strerror};
use crate::receive;

/// Carries out what the other side asked for, if that is allowed; returns whether
/// it succeeded.
pub(crate) fn command(options: &Serve) -> bool {
    let mut messages = Messages::new(1);
    match serve(options) {
        Ok(success) => success,
        Err(text) => {
            messages.error(text);
            false
        }
    }
}

fn serve(options: &Serve) -> Result<bool, String> {
    let Serve { directory, rules } = options;
    let mut log = Log::open(rules.serve.log.as_deref(), &rules.serve.who)
        .map_err(|error| format!("cannot open the log: {}", strerror(&error)))?;
    let line = std::env::var_os("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    let result = Place::open(directory)
        .and_then(|place| Ok((allowed(&line, rules)?, place)))
        .and_then(|(request, place)| match request {
            Request::Receive(asked) => {
                let options = to_receive(&asked, rules, &place)?;
                log.line("receives", line.as_bytes());
                let success = receive::command(&options);
                log.line(if success { "received" } else { "failed" }, line.as_bytes());
                Ok(success)
            }
            Request::Query(query, letters, path) => {
                log.line("asks", line.as_bytes());
                answer(query, &letters, &path, &place)
            }
        });
    result.map_err(|why| {
        log.line(&format!("refused, {why}"), line.as_bytes());
        format!("refused by this host: {why}")
    })
}

/// What is asked for, if the rules allow that.
fn allowed(line: &OsStr, rules: &Rules) -> Result<Request, String> {
    if line.is_empty() {
        return Err("this key is for btrfs receive, not for a shell".to_owned());
    }
    let request = request::parse(line).map_err(|unknown| unknown.to_string())?;
    match &request {
        Request::Query(query, ..) if !rules.serve.queries.contains(query) => Err(format!(
            "serve.queries of the rules does not contain \"{}\"",
            query.name()
        )),
        _ => Ok(request),
    }
}

/// The receive that is asked for. The working directory becomes where it is to
/// be: whatever the path names later, that is the directory that was opened.
fn to_receive(asked: &request::Receive, rules: &Rules, place: &Place) -> Result<Receive, String> {
    let directory = place.to_receive_in(&asked.path)?;
    rustix::process::fchdir(&directory).map_err(|errno| strerror(&errno.into()))?;
    let mut rules = rules.clone();
    rules.sources = rules.sources_in(&place.path);
    let sandbox = rules.serve.sandbox;
    let default = Receive::default();
    Ok(Receive {
        destination: ".".into(),
        accept: Some(rules),
        sandbox,
        stop_at_end: asked.stop_at_end,
        force_decompress: asked.force_decompress,
        max_errors: asked.max_errors.unwrap_or(default.max_errors),
        verbosity: asked.verbosity,
        ..default
    })
}

fn answer(query: Query, letters: &[u8], path: &[u8], place: &Place) -> Result<bool, String> {
    match query {
        Query::Version => Err(by_btrfs(&["--version".into()])),
        Query::List | Query::Show => {
            let directory = match query {
                // It tells of the whole filesystem anyway, and btrbk asks at the
                // mount point.
                Query::List => place.above_or_below(path)?,
                _ => place.below(path)?,
            };
            // The program that is run finds it there.
            fcntl_setfd(&directory, FdFlags::empty()).map_err(|errno| strerror(&errno.into()))?;
            let mut args: Vec<OsString> = vec!["subvolume".into(), query.name().into()];
            args.extend(
                letters
                    .iter()
                    .map(|&it| format!("-{}", char::from(it)).into()),
            );
            args.push(format!("/proc/self/fd/{}", directory.as_raw_fd()).into());
            Err(by_btrfs(&args))
        }
        Query::Readlink => {
            let directory = place.below(path)?;
            let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
            let found = std::fs::read_link(link).map_err(|error| strerror(&error))?;
            print(&[found.as_os_str().as_bytes(), b"\n"].concat())
        }
        Query::Mounts => {
            let mut file =
                File::open(Path::new(OsStr::from_bytes(path))).map_err(|error| strerror(&error))?;
            let mut text = Vec::new();
            io::Read::read_to_end(&mut file, &mut text).map_err(|error| strerror(&error))?;
            print(&text)
        }
        other => Err(format!("{} is not supported", other.name())),
    }
}

/// Becomes the real `btrfs`. Returns only if that fails, with the reason.
fn by_btrfs(args: &[OsString]) -> String {
    btrfs::exec("btrfs".as_ref(), args).to_string()
}

fn print(text: &[u8]) -> Result<bool, String> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.map(|()| true).map_err(|error| strerror(&error))
}
