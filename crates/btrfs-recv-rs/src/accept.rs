//! `--accept`: receives what rules allow.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use btrfs_accept::{Checker, Rules};
use btrfs_receive::{BtrfsDestination, Options, ReceiveError, Receiver, Report};

use rustix::process::geteuid;

use crate::input::Source;
use crate::messages::{Messages, strerror};
use crate::receives::Receives;

/// No rules are longer.
const MAX_LEN: u64 = 1 << 20;

/// Reads a file with rules.
///
/// # Errors
/// The reason why the rules cannot be used, in one line.
pub(crate) fn read(path: &Path) -> Result<Rules, String> {
    let failed = |error: io::Error| strerror(&error);
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if facts.is_file() && facts.mode() & 0o022 != 0 {
        return Err("others than its owner may write to it (chmod go-w)".to_owned());
    }
    if facts.is_file() && ![0, geteuid().as_raw()].contains(&facts.uid()) {
        return Err("it belongs to another user than root (chown root)".to_owned());
    }
    let mut text = String::new();
    let len = (file.take(MAX_LEN + 1).read_to_string(&mut text)).map_err(failed)?;
    if len as u64 > MAX_LEN {
        return Err("it is longer than 1 MiB".to_owned());
    }
    Rules::parse(&text).map_err(|error| error.to_string())
}

/// A receiver that applies what rules allow.
pub(crate) struct Accepting {
    receiver: Receiver<BtrfsDestination>,
    checker: Checker,
}

impl Accepting {
    pub(crate) fn new(destination: BtrfsDestination, how: Options, rules: &Rules) -> Self {
        Self {
            checker: Checker::new(rules.clone()).with_name(how.name.clone()),
            receiver: Receiver::with_options(destination, how),
        }
    }
}

impl Receives for Accepting {
    fn receive(
        &mut self,
        input: &mut dyn Source,
        messages: &mut Messages,
    ) -> Result<Report, ReceiveError> {
        let report = (self.receiver).receive_filtered(input, &mut self.checker, messages)?;
        for (rule, count) in self.checker.dropped() {
            messages.dropped(rule.key(), *count);
        }
        Ok(report)
    }
}
