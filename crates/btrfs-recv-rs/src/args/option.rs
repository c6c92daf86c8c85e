//! What the table of options is made of.

use super::id::Id;

/// What the command is asked to do; each has its own
/// [`Request`](super::Request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Receives; what is done unless an option asks for something else.
    Receive,
    /// `--dump`.
    Dump,
    /// `--status`.
    Status,
    /// `--abandon`.
    Abandon,
    /// `--extract`.
    Extract,
    /// `--chain`.
    Chain,
    /// `--dry-run`.
    DryRun,
    /// `--serve`.
    Serve,
}

/// What a mode expects besides options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operands {
    /// Nothing.
    None,
    /// One, called like this.
    One(&'static str),
    /// One or more, shown like this.
    Some(&'static str),
}

impl Operands {
    /// Whether that many are right.
    pub(crate) fn fit(self, count: usize) -> bool {
        match self {
            Self::None => count == 0,
            Self::One(_) => count == 1,
            Self::Some(_) => count >= 1,
        }
    }

    /// As the usage shows them.
    pub(crate) fn shown(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::One(name) | Self::Some(name) => Some(name),
        }
    }
}

/// How a mode is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModeInfo {
    /// The mode.
    pub(crate) mode: Mode,
    /// The long name of the option that chooses it, without dashes.
    pub(crate) option: Option<&'static str>,
    /// What it expects besides options.
    pub(crate) operands: Operands,
}

/// Options that belong together, under one heading in `--help`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// The heading.
    pub(crate) title: &'static str,
    /// The options, in the order in which they are shown.
    pub(crate) options: &'static [Opt],
}

/// One option: all that is known about it but what it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// What the parser calls it.
    pub(crate) id: Id,
    /// Its letter. One that `btrfs receive` does not have is not there when
    /// the program is called by that name.
    pub(crate) short: Option<u8>,
    /// Its name without dashes.
    pub(crate) long: Option<&'static str>,
    /// What its value is called; it takes none if this is `None`.
    pub(crate) value: Option<&'static str>,
    /// Whether the value may be left out, and else is attached with `=`.
    pub(crate) optional: bool,
    /// What completions offer as the value.
    pub(crate) hint: Hint,
    /// The modes in which it means something.
    pub(crate) modes: &'static [Mode],
    /// Whether `btrfs receive` has it, or callers came to use it as if it
    /// had. Such an option is nowhere refused, and its unique prefixes stay
    /// its own whatever is added.
    pub(crate) established: bool,
    /// What `--help` says: one phrase, plain text.
    pub(crate) help: &'static str,
    /// What the manual page says: sentences with `` `literals` `` and
    /// `<VALUES>`; a paragraph to a line. `help` if empty.
    pub(crate) manual: &'static str,
}

/// What completions offer as the value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// Nothing can be said.
    Nothing,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// One of these.
    Words(&'static [&'static str]),
}

impl Opt {
    /// A flag with a long name only; what else it has is added.
    pub(crate) const fn new(id: Id, long: &'static str, help: &'static str) -> Self {
        Self {
            id,
            short: None,
            long: Some(long),
            value: None,
            optional: false,
            hint: Hint::Nothing,
            modes: &[Mode::Receive],
            established: false,
            help,
            manual: "",
        }
    }

    /// A flag with a letter only, as `btrfs receive` has some.
    pub(crate) const fn letter(id: Id, short: u8, help: &'static str) -> Self {
        let mut option = Self::new(id, "", help).short(short);
        option.long = None;
        option
    }

    /// Adds a letter.
    pub(crate) const fn short(mut self, short: u8) -> Self {
        self.short = Some(short);
        self
    }

    /// Lets it take a value.
    pub(crate) const fn value(mut self, name: &'static str, hint: Hint) -> Self {
        self.value = Some(name);
        self.hint = hint;
        self
    }

    /// Lets it take a value, attached with `=`, or none.
    pub(crate) const fn optional(mut self, name: &'static str, hint: Hint) -> Self {
        self.optional = true;
        self.value(name, hint)
    }

    /// Says in which modes it means something, if not in a receive only.
    pub(crate) const fn modes(mut self, modes: &'static [Mode]) -> Self {
        self.modes = modes;
        self
    }

    /// Marks it as one that callers of `btrfs receive` use.
    pub(crate) const fn established(mut self) -> Self {
        self.established = true;
        self
    }

    /// Sets what the manual page says.
    pub(crate) const fn manual(mut self, text: &'static str) -> Self {
        self.manual = text;
        self
    }

    /// How messages call it: `--name`, or `-f`.
    pub(crate) fn name(&self) -> String {
        match (self.long, self.short) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{}", char::from(short)),
            (None, None) => String::new(),
        }
    }
}
