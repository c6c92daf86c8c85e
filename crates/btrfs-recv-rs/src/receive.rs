//! A receive: from the options to the exit status.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use btrfs_receive::resume::{ResumableReceiver, ResumeError, ResumeOptions};
use btrfs_receive::{BtrfsDestination, Cancel, OnError, OpenError, Options, Receiver, StopReason};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::accept::Accepting;
use crate::args::{Receive, Resume};
use crate::buffer;
use crate::digest::Digests;
use crate::input::{Counted, Input};
use crate::messages::{Messages, strerror};
use crate::progress::Progress;
use crate::receives::Receives;
use crate::restore::Restore;
use crate::sandbox::{self, Filesystem, Reach};
use crate::signals::Signals;
use crate::tee::{Copy, Tee, directory_of};
use crate::unfinished;

/// Receives what `options` ask for and says so; returns whether every
/// subvolume in the input was finished. Ends the process by the signal that
/// stopped it, if one did.
pub(crate) fn command(options: &Receive) -> bool {
    let messages = Messages::new(options.verbosity).json(options.json);
    supervised(options, messages, receive)
}

/// Runs `receive` so that signals stop it, and says in the end what is left
/// to say.
pub(crate) fn supervised(
    options: &Receive,
    messages: Messages,
    receive: impl FnOnce(&Receive, Cancel, &Signals, &mut Messages) -> bool,
) -> bool {
    let mut messages = messages
        .max_failures(options.max_errors)
        .destination(options.destination.as_os_str().as_bytes());
    allow_descriptors();
    let cancel = Cancel::new();
    let signals = match Signals::watch(&cancel.flag()) {
        Ok(signals) => signals,
        Err(error) => {
            messages.error(format_args!("cannot watch signals: {}", strerror(&error)));
            messages.emit_end(false, None);
            return false;
        }
    };
    let success = receive(options, cancel, &signals, &mut messages);
    let stopped_by = signals.caught().filter(|_| !success);
    if let Some(signal) = stopped_by {
        messages.stopped_by(signal);
    }
    messages.left_behind();
    messages.writes_unreported();
    if !success {
        messages.complete();
    }
    messages.emit_end(success, stopped_by);
    let success = messages.is_reported(success) && success;
    if let Some(signal) = stopped_by {
        signal.die();
    }
    success
}

/// The library keeps more files open where it may: a process starts with
/// 1,024 descriptors and is commonly allowed many more.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(8192);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // Fewer do as well.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

fn receive(options: &Receive, cancel: Cancel, signals: &Signals, messages: &mut Messages) -> bool {
    let file = options.input.as_deref();
    // Before the destination, so that a relative name means what it says.
    let Some(mut input) = Input::open_or_say(file, options.decompress, Some(signals), messages)
    else {
        return false;
    };
    let Some(restore) = Restore::prepare(options, messages) else {
        return false;
    };
    if let Some(rules) = &options.accept {
        input.set_idle(rules.limits.idle);
        input.set_most(rules.limits.input.map(|it| it.0));
    }
    let tee = match options.tee.as_deref().map(Tee::create).transpose() {
        Ok(tee) => tee,
        Err(error) => {
            messages.error(error);
            return false;
        }
    };
    let copy = tee.as_ref().map(Tee::copy);
    if let Some(copy) = &copy {
        input.tee(Arc::clone(copy));
    }
    if options.sandbox
        && let Err(text) = sandbox::enter(&reach(options, &[]), messages)
    {
        messages.error(text);
        return false;
    }
    let received = match destination(options, copy, &cancel, messages) {
        Some(destination) => match receiver(destination, options, how(options, cancel), file) {
            Ok(mut receiver) => run(&mut *receiver, input, options, messages),
            Err(error) => {
                unfinished::refused(&error, messages);
                false
            }
        },
        None => false,
    };
    if let Some(Err(error)) = tee.filter(|_| received).map(Tee::finish) {
        messages.error(error);
        return false;
    }
    received && restore.finish(messages)
}

/// The receiver for btrfs: a resumable one if `options` ask for it, for input that
/// comes from `file`.
pub(crate) fn receiver(
    destination: BtrfsDestination,
    options: &Receive,
    how: Options,
    file: Option<&Path>,
) -> Result<Box<dyn Receives>, ResumeError> {
    if let Some(rules) = &options.accept {
        return Ok(Box::new(Accepting::new(destination, how, rules)));
    }
    Ok(match &options.resume {
        None => Box::new(Receiver::with_options(destination, how)),
        Some(resume) => {
            let resume = resume_options(resume, file.is_some());
            Box::new(ResumableReceiver::new(destination, how, resume)?)
        }
    })
}

/// The destination; `None` if it cannot be opened, which was said. If the input is
/// stored in `copy`, that has to be on disk before a subvolume is complete.
pub(crate) fn destination(
    options: &Receive,
    copy: Option<Arc<Copy>>,
    cancel: &Cancel,
    messages: &mut Messages,
) -> Option<BtrfsDestination> {
    let destination = match open_destination(options, copy, cancel, messages) {
        Ok(destination) => destination,
        Err(Refused { text, to_do }) => {
            messages.refused(&text, to_do);
            return None;
        }
    };
    if options.confine_sources {
        match resolve(&options.destination) {
            Ok(path) => messages.chroot(path.as_os_str().as_bytes()),
            Err(text) => {
                messages.error(text);
                return None;
            }
        }
    }
    Some(destination)
}

/// What a receive on btrfs needs to reach; also `files`, which it has yet to
/// open.
pub(crate) fn reach<'a>(options: &'a Receive, files: &[&'a Path]) -> Reach<'a> {
    let parent = options.parent.iter().map(PathBuf::as_path);
    let clones = options.clone_sources.iter();
    let clones = clones.map(|source| source.path.as_path());
    Reach {
        destination: &options.destination,
        tee: options.tee.as_deref().map(directory_of),
        state: (options.resume.as_ref()).and_then(|resume| resume.state_dir.as_deref()),
        sources: (parent.chain(clones))
            .chain(options.digest.as_deref())
            .chain(options.accept.iter().map(|it| it.sources.as_path()))
            .chain(files.iter().copied())
            .collect(),
        filesystem: if options.confine_sources || options.accept.is_some() {
            Filesystem::IfPermitted
        } else {
            Filesystem::Needed
        },
    }
}

/// The options of the library.
pub(crate) fn how(options: &Receive, cancel: Cancel) -> Options {
    let mut how = Options::default();
    how.max_errors = options.max_errors;
    how.stop_at_end = options.stop_at_end;
    how.name = options.name.clone();
    how.on_error = options.on_error;
    how.exclude_xattrs = options.exclude_xattrs.clone();
    how.exclude_file_attributes = options.no_file_attributes;
    how.allow_unknown = options.allow_unknown;
    how.cancel = cancel;
    if options.accept.is_some() {
        how.on_error = OnError::Delete;
    }
    how
}

/// Applies one input of several; whether all of it was.
pub(crate) fn one_input(
    receiver: &mut dyn Receives,
    mut input: Input<'_>,
    options: &Receive,
    messages: &mut Messages,
) -> bool {
    let fed = buffer::feed(&mut input, options.buffer, options.stop_at_end, |source| {
        receiver.receive(source, messages)
    });
    let received = match fed {
        Ok(received) => received,
        Err(error) => {
            messages.cannot_buffer(&error);
            return false;
        }
    };
    let error = match received {
        Ok(report) => {
            messages.waits(&report.waits);
            messages.emit_report(true, &report);
            return true;
        }
        Err(error) => error,
    };
    // Failed operations were reported when they failed.
    if let StopReason::Stream(error) = &error.reason {
        messages.stream_error(error, input.head());
    }
    messages.waits(&error.report.waits);
    messages.emit_report(false, &error.report);
    false
}

/// Applies the input; whether all of it was.
pub(crate) fn run(
    receiver: &mut dyn Receives,
    mut input: Input<'_>,
    options: &Receive,
    messages: &mut Messages,
) -> bool {
    let size = input.size().or(options.size);
    if !input.may_unpack() {
        messages.input_size(size);
    }
    // The lines of -v would be all that can be read.
    let may_draw = (options.progress || options.verbosity == 1) && !input.is_terminal();
    let counters = messages.counters();
    let progress = Progress::start(counters, options.progress, may_draw, size);
    if input.is_terminal() {
        messages.warning(
            "reading the stream from a terminal; did you mean btrfs send SUBVOLUME | \
             btrfs-recv-rs PATH, or -f FILE?",
        );
    }
    let counters = Arc::clone(progress.counters());
    let counts_what_comes = input.may_unpack();
    if counts_what_comes {
        input.count(Arc::clone(&counters));
    }
    let received = buffer::feed(&mut input, options.buffer, options.stop_at_end, |source| {
        if counts_what_comes {
            return receiver.receive(source, messages);
        }
        let mut source = Counted {
            source,
            counters: &counters,
        };
        receiver.receive(&mut source, messages)
    });
    drop(progress);
    let received = match received {
        Ok(received) => received,
        Err(error) => {
            messages.cannot_buffer(&error);
            return false;
        }
    };
    match received {
        Ok(report) => {
            let mut subvolumes = report.subvolumes.iter();
            if options.parent.is_some() && subvolumes.all(|it| it.wanted_parent.is_none()) {
                messages.parent_not_used();
            }
            messages.waits(&report.waits);
            messages.emit_report(true, &report);
            true
        }
        Err(error) => {
            // Failed operations were reported when they failed.
            match &error.reason {
                StopReason::Stream(error) => messages.stream_error(error, input.head()),
                StopReason::Cancelled if error.report.abandoned == 0 => messages.between_streams(),
                _ => {}
            }
            messages.waits(&error.report.waits);
            messages.emit_report(false, &error.report);
            false
        }
    }
}

fn resume_options(resume: &Resume, from_file: bool) -> ResumeOptions {
    let mut how = ResumeOptions::default();
    how.every_bytes = resume.every_bytes.unwrap_or(how.every_bytes);
    how.every = resume.every.unwrap_or(how.every);
    how.directory.clone_from(&resume.state_dir);
    how.hint = unfinished::hint(from_file);
    how
}

/// Why there is no receive.
struct Refused {
    text: String,
    to_do: Option<&'static str>,
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self { text, to_do: None }
    }
}

fn open_destination(
    options: &Receive,
    copy: Option<Arc<Copy>>,
    cancel: &Cancel,
    messages: &mut Messages,
) -> Result<BtrfsDestination, Refused> {
    let path = &options.destination;
    if let Some(mount) = &options.root_mount {
        check_root_mount(mount, path)?;
    }
    let mut builder = BtrfsDestination::builder()
        // What becomes of encoded data is looked up by inode number, which
        // a sandbox can refuse.
        .force_decompress(options.force_decompress || options.sandbox)
        .check_encoded(options.test_encoded)
        .zeros_as_holes(options.zeros_as_holes)
        .atomic(options.atomic);
    if options.confine_sources {
        builder = builder.jail(path);
    }
    if let Some(rules) = &options.accept {
        builder = builder.jail(&rules.sources);
    }
    if let Some(parent) = &options.parent {
        builder = builder.parent(parent);
    }
    for source in &options.clone_sources {
        builder = builder.clone_source(&source.path, source.stands_for);
    }
    let digests = options
        .digest
        .as_deref()
        .map(|file| Digests::read(file, cancel.flag(), messages.counters()))
        .transpose()?;
    if copy.is_some() || digests.is_some() {
        builder = builder.check_before_seal(move |subvolume| {
            if let Some(copy) = &copy {
                copy.sync()?;
            }
            digests.as_ref().map_or(Ok(()), |it| it.check(subvolume))
        });
    }
    builder.open(path).map_err(refused)
}

/// Says why the destination cannot be opened.
pub(crate) fn cannot_open(error: OpenError, messages: &mut Messages) {
    let Refused { text, to_do } = refused(error);
    messages.refused(&text, to_do);
}

fn refused(error: OpenError) -> Refused {
    let to_do = match &error {
        OpenError::Source { .. } => None,
        OpenError::NotBtrfs { .. } => Some(
            "name a directory on a mounted btrfs (findmnt -T PATH shows what is mounted there), or \
             receive into a plain directory with --extract",
        ),
        OpenError::System { error, .. }
            if matches!(
                Errno::from_io_error(error),
                Some(Errno::MFILE | Errno::NFILE)
            ) =>
        {
            Some("raise the limit of open files (ulimit -n), to 4096 or more")
        }
        OpenError::System { call: "thread", .. } => Some(
            "raise the limit of processes (ulimit -u, or pids.max of the cgroup; in systemd, \
             TasksMax), or give it more memory",
        ),
        _ => {
            Some("name a directory on a mounted btrfs; findmnt -T PATH shows what is mounted there")
        }
    };
    let text = match error {
        OpenError::System { call, path, error } => match resolve(&path) {
            // The common mistake, in the words of `btrfs receive`. Asked for
            // only now: a path into another mount namespace may be opened
            // and yet not be resolved.
            Err(unresolved) => unresolved,
            Ok(_) => format!(
                "cannot open destination directory {}: {} ({call})",
                path.display(),
                strerror(&error)
            ),
        },
        OpenError::Source { path, error } => format!(
            "{} cannot be used as parent or clone source: {}",
            path.display(),
            strerror(&error)
        ),
        OpenError::NotBtrfs { path } => {
            format!("{} doesn't belong to btrfs mount point", path.display())
        }
        other => other.to_string(),
    };
    Refused { text, to_do }
}

/// `-m` once replaced the search for the mount point. Nothing searches it
/// any more, but a wrong one still means a mistake.
fn check_root_mount(mount: &Path, destination: &Path) -> Result<(), String> {
    if resolve(destination)?.starts_with(resolve(mount)?) {
        return Ok(());
    }
    Err(format!(
        "{} is not below the mount point {}",
        destination.display(),
        mount.display()
    ))
}

fn resolve(path: &Path) -> Result<PathBuf, String> {
    std::fs::canonicalize(path).map_err(|error: io::Error| {
        format!("realpath({}) failed: {}", path.display(), strerror(&error))
    })
}
