//! What `--verify` prints: a paragraph for each input, and the chain.

use std::fmt::{self, Write};
use std::path::Path;

use btrfs_receive::chain::{Chain, Member, Missing};
use btrfs_receive::verify::{SubvolumeSummary, VerifyReport};

use super::Verified;
use crate::escape::push_message;
use crate::messages::Messages;

/// Most problems of one input that are told one by one.
const MAX_SHOWN: usize = 20;

/// Puts text together.
#[derive(Default)]
pub(crate) struct Printer {
    text: String,
}

impl Printer {
    /// The text since the last call.
    pub(crate) fn text(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text).into_bytes()
    }

    /// One line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) {
        // A String's Write never fails.
        let _ = writeln!(self.text, "{line}");
    }

    /// One input.
    pub(crate) fn input(&mut self, file: Option<&Path>, report: &VerifyReport) {
        let found = report.findings.len() as u64 + report.more_findings;
        let verdict = match found {
            0 => "good".to_owned(),
            1 => "WRONG, 1 problem".to_owned(),
            found => format!("WRONG, {found} problems"),
        };
        self.line(format_args!("{}: {verdict}", name_of(file)));
        for subvolume in &report.subvolumes {
            self.subvolume(subvolume);
        }
        self.more_subvolumes(report.more_subvolumes);
    }

    /// How many subvolumes are not listed, if any.
    pub(crate) fn more_subvolumes(&mut self, more: u64) {
        if more > 0 {
            self.line(format_args!("  and {more} subvolumes more"));
        }
    }

    /// One subvolume of an input.
    pub(crate) fn subvolume(&mut self, subvolume: &SubvolumeSummary) {
        let bad = if subvolume.good { "" } else { ", WRONG" };
        self.line(format_args!(
            "  {} {} (version {}): {} commands, {} bytes{bad}",
            subvolume.kind().name(),
            escaped(subvolume.name.as_bytes()),
            subvolume.version,
            subvolume.commands,
            subvolume.bytes,
        ));
        let (uuid, ctransid) = (subvolume.uuid, subvolume.ctransid);
        self.line(format_args!("    uuid {uuid}, ctransid {ctransid}"));
        if let Some(parent) = subvolume.parent {
            let (uuid, ctransid) = (parent.uuid, parent.ctransid);
            self.line(format_args!("    parent {uuid}, ctransid {ctransid}"));
        }
        for source in &subvolume.clone_sources {
            if subvolume.parent.map(|parent| parent.uuid) != Some(source.uuid) {
                self.line(format_args!("    clones from {}", source.uuid));
            }
        }
        let created = subvolume.created;
        self.line(format_args!(
            "    makes {} files, {} directories, {} symlinks, {} special files",
            created.files, created.directories, created.symlinks, created.special
        ));
        self.data(subvolume);
        self.needs(subvolume);
    }

    fn data(&mut self, subvolume: &SubvolumeSummary) {
        let mut parts = vec![format!("{} bytes plain", subvolume.written)];
        if subvolume.encoded > 0 {
            parts.push(format!(
                "{} compressed (for {})",
                subvolume.encoded, subvolume.encoded_covers
            ));
        }
        if subvolume.cloned > 0 {
            parts.push(format!("{} cloned", subvolume.cloned));
        }
        if subvolume.not_sent > 0 {
            parts.push(format!("{} not sent", subvolume.not_sent));
        }
        self.line(format_args!("    data: {}", parts.join(", ")));
    }

    fn needs(&mut self, subvolume: &SubvolumeSummary) {
        let needs = subvolume.needs;
        let features = needs.to_string();
        let (oldest, as_sent) = (needs.oldest_kernel(), needs.oldest_kernel_as_sent());
        let mut line = format!("    needs Linux {oldest} or later");
        if as_sent > oldest {
            let _ = write!(line, ", {as_sent} to store it compressed as it is");
        }
        if !features.is_empty() {
            let _ = write!(line, "; uses {features}");
        }
        self.line(line);
    }

    /// The order to receive several inputs in.
    pub(crate) fn chain(&mut self, inputs: &[Verified], chain: &Chain) {
        self.line("order to receive in:");
        let order = chain.order.iter().filter_map(|&input| inputs.get(input));
        let order = order.filter(|it| !it.report.subvolumes.is_empty());
        for (number, input) in order.enumerate() {
            let names = input.report.subvolumes.iter();
            let names: Vec<_> = names.map(|it| escaped(it.name.as_bytes())).collect();
            let file = name_of(input.file.as_deref());
            let number = number + 1;
            self.line(format_args!("  {number}. {file} ({})", names.join(", ")));
        }
        for (again, first) in &chain.repeated {
            self.line(format_args!(
                "  {} has {}, which {} has already",
                input_name(inputs, *again),
                subvolume_name(inputs, *again),
                input_name(inputs, *first),
            ));
        }
    }
}

/// Says what is wrong with an input.
pub(crate) fn problems(file: Option<&Path>, report: &VerifyReport, messages: &mut Messages) {
    let file = name_of(file);
    for finding in report.findings.iter().take(MAX_SHOWN) {
        let text = finding.to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        match &finding.subvolume {
            Some(name) => {
                let name = escaped(name.as_bytes());
                messages.error_line(format_args!("{file}: in {name}: {first}"));
            }
            None => messages.error_line(format_args!("{file}: {first}")),
        }
        for line in lines {
            messages.error_line(line);
        }
    }
    let listed = report.findings.len().saturating_sub(MAX_SHOWN) as u64;
    let more = listed + report.more_findings;
    if more > 0 {
        messages.error_line(format_args!("{file}: and {more} problems more"));
    }
}

/// Says why a set cannot be received from its beginning to its end.
pub(crate) fn gaps(inputs: &[Verified], chain: &Chain, messages: &mut Messages) {
    for missing in &chain.missing {
        messages.error_line(format_args!("{}", gap(inputs, missing)));
    }
    for (one, other) in &chain.same_name {
        messages.error_line(format_args!(
            "{} and {} hold different subvolumes of the name {}: receive them into different \
             directories",
            input_name(inputs, *other),
            input_name(inputs, *one),
            subvolume_name(inputs, *one),
        ));
    }
    if !chain.circular.is_empty() {
        let names = chain.circular.iter().filter_map(|&input| inputs.get(input));
        let names: Vec<_> = names.map(|it| name_of(it.file.as_deref())).collect();
        messages.error_line(format_args!(
            "each of these needs another of them first: {}",
            names.join(", ")
        ));
    }
}

fn gap(inputs: &[Verified], missing: &Missing) -> String {
    let role = match missing.is_parent {
        true => "parent",
        false => "clone source",
    };
    format!(
        "{}: the {role} of {}, {} (ctransid {}), is in none of these, or not whole: receive it \
         first, or find its stream",
        input_name(inputs, missing.needed_by),
        subvolume_name(inputs, missing.needed_by),
        missing.wanted.uuid,
        missing.wanted.ctransid,
    )
}

fn input_name(inputs: &[Verified], member: Member) -> String {
    let input = inputs.get(member.input);
    input.map_or_else(String::new, |it| name_of(it.file.as_deref()))
}

fn subvolume_name(inputs: &[Verified], member: Member) -> String {
    let report = inputs.get(member.input).map(|it| &it.report);
    let subvolume = report.and_then(|it| it.subvolumes.get(member.subvolume));
    subvolume.map_or_else(String::new, |it| escaped(it.name.as_bytes()))
}

fn name_of(file: Option<&Path>) -> String {
    match file {
        Some(file) => escaped(file.as_os_str().as_encoded_bytes()),
        None => "standard input".to_owned(),
    }
}

/// Text that stays on its line; what is no UTF-8 is replaced.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    push_message(&mut text, bytes);
    String::from_utf8_lossy(&text).into_owned()
}
