//! From words to a [`Request`].

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::error::{UsageError, info};
use super::getopt::{self, Arg, Spec};
use super::id::Id;
use super::option::{Mode, Operands, Opt};
use super::table::{MOVED, options};
use super::{
    Chain, Dump, Extract, Only, Receive, Request, Resume, Serve, Unfinished, policy, quantity,
};

const SERVE: &str = "--serve";
const ACCEPT: &str = "--accept";

/// Reads a command line, the program's name first.
///
/// A first argument `receive` or `btrfs-receive` is the verb, not a path,
/// unless the program itself is called that. `posixly_correct` is whether
/// the environment has `POSIXLY_CORRECT`.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    posixly_correct: bool,
) -> Result<Request, UsageError> {
    let mut args = args.into_iter().peekable();
    let program = args.next().unwrap_or_default();
    let called_receive = Path::new(&program).file_name().is_some_and(is_verb);
    let has_verb = called_receive || args.next_if(|arg| is_verb(arg)).is_some();
    let mut args: Vec<_> = args.collect();
    let mut specs: Vec<_> = options().map(spec).collect();
    if called_receive {
        // `btrfs receive` refuses these letters, and callers look for how.
        for spec in &mut specs {
            if matches!(spec.id.id, Id::Help | Id::Version) {
                spec.short = None;
            }
        }
    }
    if let [word] = args.as_mut_slice()
        && !has_verb
        && word == "help"
    {
        *word = "--help".into();
    }
    if let Some(error) = moved(&args) {
        return Err(error);
    }
    let mut given = Given::default();
    for arg in getopt::split(&specs, args, !posixly_correct).map_err(UsageError::of)? {
        let (option, value) = match arg {
            Arg::Flag(option) => (option, OsString::new()),
            Arg::Valued(option, value) => (option, value),
            Arg::Operand(path) => {
                given.paths.push(path.into());
                continue;
            }
        };
        match option.id {
            Id::Help => return Ok(Request::Help),
            Id::Version => return Ok(Request::Version),
            id => given.set(id, value)?,
        }
        given.options.push(option);
    }
    given.request()
}

/// Whether there is an option that another command has now. Only whole names:
/// what is shorter may be the beginning of another option.
fn moved(args: &[OsString]) -> Option<UsageError> {
    let options = args.iter().take_while(|arg| *arg != "--");
    let mut names = options.filter_map(|arg| arg.to_str()?.split('=').next());
    names.find_map(|name| {
        let (option, instead) = MOVED.iter().copied().find(|(option, _)| *option == name)?;
        Some(UsageError::Moved { option, instead })
    })
}

/// How [`getopt`] sees an option.
pub(super) fn spec(option: &'static Opt) -> Spec<&'static Opt> {
    Spec {
        id: option,
        short: option.short,
        long: option.long,
        value: option.value.is_some(),
        optional: option.optional,
        preferred: option.established,
    }
}

fn is_verb(name: &OsStr) -> bool {
    name == "receive" || name == "btrfs-receive"
}

/// What was seen so far; of a repeated option the last counts.
struct Given {
    /// In their order.
    options: Vec<&'static Opt>,
    paths: Vec<PathBuf>,
    /// Those that an option asked for.
    modes: Vec<Mode>,
    input: Option<PathBuf>,
    report: Option<PathBuf>,
    verbosity: u8,
    chain: Vec<PathBuf>,
    only: Only,
    receive: Receive,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            options: Vec::new(),
            paths: Vec::new(),
            modes: Vec::new(),
            input: None,
            report: None,
            verbosity: 1,
            chain: Vec::new(),
            only: Only::default(),
            receive: Receive::default(),
        }
    }
}

impl Given {
    /// Notes an option; `value` is empty if it takes none.
    fn set(&mut self, id: Id, value: OsString) -> Result<(), UsageError> {
        match id {
            // An empty name means standard input, as does no -f at all.
            Id::File => self.input = Some(value).filter(|v| !v.is_empty()).map(Into::into),
            Id::StopAtEnd => self.receive.stop_at_end = true,
            Id::Sandbox => self.receive.sandbox = true,
            Id::Chroot => self.receive.confine_sources = true,
            Id::MaxErrors => self.receive.max_errors = count("--max-errors", value)?,
            Id::RootMount => self.receive.root_mount = Some(value.into()),
            Id::ForceDecompress => self.receive.force_decompress = true,
            Id::TestEncoded => self.receive.test_encoded = true,
            Id::Name => self.receive.name = Some(policy::name(value)?),
            Id::OnError => self.receive.on_error = policy::on_error(value)?,
            Id::ExcludeXattr => self.receive.exclude_xattrs.push(policy::pattern(value)?),
            Id::NoFileattr => self.receive.no_file_attributes = true,
            Id::AllowUnknown => self.receive.allow_unknown = true,
            Id::Accept => self.receive.accept = Some(policy::accept(value)?),
            Id::Parent => self.receive.parent = Some(policy::parent(value)?),
            Id::CloneSource => {
                let source = policy::clone_source(value)?;
                self.receive.clone_sources.push(source);
            }
            Id::Atomic => self.receive.atomic = true,
            Id::Digest => self.receive.digest = Some(value.into()),
            Id::Writable => self.receive.restore.writable(value)?,
            Id::Replace => self.receive.restore.replace(value)?,
            Id::KeepOld => self.receive.restore.keep_old(value)?,
            Id::DeleteOld => self.receive.restore.delete_old = true,
            Id::Zeros => self.receive.zeros_as_holes = policy::zeros(value)?,
            Id::Resumable => _ = self.resume(),
            Id::CheckpointEvery => self.resume().every(value)?,
            Id::StateDir => self.resume().state_dir = Some(value.into()),
            Id::Status => self.modes.push(Mode::Status),
            Id::Abandon => self.modes.push(Mode::Abandon),
            Id::Progress => self.receive.progress = true,
            Id::Size => self.receive.size = Some(quantity::size("--size", value)?),
            Id::Tee => self.receive.tee = Some(value.into()),
            Id::Decompress => self.receive.decompress = policy::decompress(value)?,
            Id::Buffer => self.receive.buffer = quantity::buffer(value)?,
            Id::Json => self.receive.json = true,
            Id::Dump => self.modes.push(Mode::Dump),
            Id::Extract => self.modes.push(Mode::Extract),
            Id::ExtractReport => self.report = Some(value.into()),
            Id::Only => self.only.add(value)?,
            Id::Subvolume => self.only.subvolume = Some(value),
            Id::DryRun => self.modes.push(Mode::DryRun),
            Id::Serve => self.modes.push(Mode::Serve),
            Id::Chain => {
                self.modes.push(Mode::Chain);
                self.chain.push(value.into());
            }
            Id::Quiet => self.verbosity = 0,
            // Counts up from where a -q before it left off: -q -v is the
            // default level.
            Id::Verbose => self.verbosity = (self.verbosity + 1).min(3),
            // Answered where they are met.
            Id::Help | Id::Version => {}
        }
        Ok(())
    }

    fn resume(&mut self) -> &mut Resume {
        self.receive.resume.get_or_insert_default()
    }

    fn unfinished(self) -> Unfinished {
        let mut paths = self.paths.into_iter();
        Unfinished {
            destination: paths.next().unwrap_or_default(),
            state_dir: self.receive.resume.and_then(|resume| resume.state_dir),
            names: paths.map(PathBuf::into_os_string).collect(),
        }
    }

    fn request(mut self) -> Result<Request, UsageError> {
        let mode = self.mode()?;
        self.check(mode)?;
        Ok(match mode {
            Mode::Status => Request::Status(self.unfinished()),
            Mode::Abandon => Request::Abandon(self.unfinished()),
            Mode::Dump => Request::Dump(Dump {
                input: self.input,
                decompress: self.receive.decompress,
            }),
            Mode::Chain => {
                let mut sources = std::mem::take(&mut self.chain);
                sources.extend(self.input.take());
                let receive = self.receive();
                Request::Chain(Chain { sources, receive })
            }
            Mode::DryRun => Request::DryRun(self.receive()),
            Mode::Serve => Request::Serve(Serve {
                directory: self.paths.pop().unwrap_or_default(),
                rules: (self.receive.accept.take()).ok_or(UsageError::Needs(SERVE, ACCEPT))?,
            }),
            Mode::Receive => Request::Receive(self.receive()),
            Mode::Extract => Request::Extract(Extract {
                report: self.report.take(),
                only: self.take_only(),
                receive: self.receive(),
            }),
        })
    }

    fn take_only(&mut self) -> Option<Only> {
        let mut only = std::mem::take(&mut self.only);
        if only.paths.is_empty() {
            return None;
        }
        only.sources = std::mem::take(&mut self.chain);
        only.sources.extend(self.input.take());
        Some(only)
    }

    fn receive(mut self) -> Receive {
        let destination = self.paths.pop().unwrap_or_default();
        if let Some(rules) = &mut self.receive.accept {
            rules.sources = rules.sources_in(&destination);
        }
        Receive {
            destination,
            input: self.input,
            verbosity: self.verbosity,
            ..self.receive
        }
    }

    /// The one mode that was asked for.
    fn mode(&self) -> Result<Mode, UsageError> {
        let Some((&first, others)) = self.modes.split_first() else {
            return Ok(Mode::Receive);
        };
        let both = [Mode::Extract, Mode::Chain];
        if !self.only.paths.is_empty()
            && both.iter().all(|mode| self.modes.contains(mode))
            && self.modes.iter().all(|mode| both.contains(mode))
        {
            return Ok(Mode::Extract);
        }
        match others.iter().find(|&&other| other != first) {
            Some(&other) => Err(UsageError::TwoModes(first, other)),
            None => Ok(first),
        }
    }

    /// Whether paths and options are what the mode takes. Established options
    /// may always be there: `btrfs receive` ignores those that do nothing.
    fn check(&self, mode: Mode) -> Result<(), UsageError> {
        let misplaced = |option: &&&Opt| !option.established && !option.modes.contains(&mode);
        if let Some(option) = self.options.iter().find(misplaced) {
            return Err(UsageError::misplaced(option, mode));
        }
        if self.receive.buffer.is_some() && self.receive.stop_at_end {
            return Err(UsageError::Together("--buffer", "-e"));
        }
        self.only.check(
            mode,
            self.input.is_some() || !self.chain.is_empty(),
            self.receive.stop_at_end,
            self.receive.buffer.is_some(),
        )?;
        self.receive.restore.check(self.receive.name.as_ref())?;
        if self.receive.accept.is_some() && self.receive.resume.is_some() {
            return Err(UsageError::Together(ACCEPT, "--resumable"));
        }
        if self.receive.tee.is_some() && self.receive.stop_at_end {
            return Err(UsageError::Together("--tee", "-e"));
        }
        let operands = info(mode).map_or(Operands::None, |info| info.operands);
        let given = self.paths.len();
        if !operands.fit(given) {
            return Err(UsageError::PathCount { mode, given });
        }
        Ok(())
    }
}

/// A decimal number without sign; empty counts as 0.
fn count(option: &'static str, value: OsString) -> Result<u64, UsageError> {
    let digits = value.to_str().unwrap_or("?");
    if digits.is_empty() {
        return Ok(0);
    }
    let number = if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    };
    number.ok_or(UsageError::Value { option, value })
}
