//! Reports about verified streams: a paragraph for each input, the problems
//! found, and the order in which to receive several streams.

use std::fmt::{self, Write};
use std::path::Path;

use btrfs_sendstream::inspect::{Chain, Member, Missing, SubvolumeSummary, VerifyReport};
use btrfs_sendstream::{NewSubvolume, SubvolumeName};

use crate::text::escaped;

/// Most problems of one input that are printed one by one.
const MAX_SHOWN: usize = 20;

/// Collects text.
#[derive(Debug, Default)]
pub struct Printer {
    text: String,
}

impl Printer {
    /// The text since the last call.
    pub fn text(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text).into_bytes()
    }

    /// One line.
    pub fn line(&mut self, line: impl fmt::Display) {
        // A String's Write never fails.
        let _ = writeln!(self.text, "{line}");
    }

    /// One input.
    pub fn input(&mut self, file: Option<&Path>, report: &VerifyReport) {
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
    pub fn more_subvolumes(&mut self, more: u64) {
        if more > 0 {
            self.line(format_args!("  and {more} more subvolumes"));
        }
    }

    /// One subvolume of an input.
    pub fn subvolume(&mut self, subvolume: &SubvolumeSummary) {
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
            "    creates {} files, {} directories, {} symlinks, {} special files",
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
            let _ = write!(line, ", {as_sent} to store data compressed as sent");
        }
        if !features.is_empty() {
            let _ = write!(line, "; uses {features}");
        }
        self.line(line);
    }

    /// The order to receive several inputs in.
    pub fn chain(&mut self, inputs: &[Input], chain: &Chain) {
        self.line("receive in this order:");
        let order = chain.order.iter().filter_map(|&input| inputs.get(input));
        let order = order.filter(|it| !it.subvolumes.is_empty());
        for (number, input) in order.enumerate() {
            let number = number + 1;
            let (name, subvolumes) = (&input.name, input.subvolumes.join(", "));
            self.line(format_args!("  {number}. {name} ({subvolumes})"));
        }
        for (again, first) in &chain.repeated {
            self.line(format_args!(
                "  {} contains {}, which is also in {}",
                input_name(inputs, *again),
                subvolume_name(inputs, *again),
                input_name(inputs, *first),
            ));
        }
    }
}

/// An input of a set: what messages call it and the subvolumes in it.
#[derive(Clone, Debug)]
pub struct Input {
    name: String,
    subvolumes: Vec<String>,
}

impl Input {
    /// An input that was verified.
    pub fn verified(file: Option<&Path>, report: &VerifyReport) -> Self {
        Self::new(file, report.subvolumes.iter().map(|it| &it.name))
    }

    /// An input of which the first command was read.
    pub fn announced(file: Option<&Path>, new: Option<&NewSubvolume>) -> Self {
        Self::new(file, new.into_iter().map(|it| &it.name))
    }

    fn new<'a>(file: Option<&Path>, names: impl Iterator<Item = &'a SubvolumeName>) -> Self {
        Self {
            name: name_of(file),
            subvolumes: names.map(|name| escaped(name.as_bytes())).collect(),
        }
    }
}

/// The problems of an input, a line for each.
pub fn problems(file: Option<&Path>, report: &VerifyReport) -> Vec<String> {
    let file = name_of(file);
    let shown = report.findings.iter().take(MAX_SHOWN);
    let mut lines: Vec<_> = shown
        .map(|finding| match &finding.subvolume {
            Some(name) => format!("{file}: in {}: {finding}", escaped(name.as_bytes())),
            None => format!("{file}: {finding}"),
        })
        .collect();
    let listed = report.findings.len().saturating_sub(MAX_SHOWN) as u64;
    let more = listed + report.more_findings;
    if more > 0 {
        lines.push(format!("{file}: and {more} more problems"));
    }
    lines
}

/// Why a set of streams cannot be received completely, a line for each reason.
pub fn gaps(inputs: &[Input], chain: &Chain) -> Vec<String> {
    let missing = chain.missing.iter().map(|missing| gap(inputs, missing));
    let same_name = chain.same_name.iter().map(|(one, other)| {
        format!(
            "{} and {} contain different subvolumes with the name {}: receive them into different \
             directories",
            input_name(inputs, *other),
            input_name(inputs, *one),
            subvolume_name(inputs, *one),
        )
    });
    let mut lines: Vec<_> = missing.chain(same_name).collect();
    if !chain.circular.is_empty() {
        let names = chain.circular.iter().filter_map(|&input| inputs.get(input));
        let names: Vec<_> = names.map(|it| it.name.as_str()).collect();
        lines.push(format!("these need each other: {}", names.join(", ")));
    }
    lines
}

fn gap(inputs: &[Input], missing: &Missing) -> String {
    let role = if missing.is_parent {
        "parent"
    } else {
        "clone source"
    };
    format!(
        "{}: the {role} of {}, {} (ctransid {}), is missing or incomplete: receive it first, or \
         add its stream",
        input_name(inputs, missing.needed_by),
        subvolume_name(inputs, missing.needed_by),
        missing.wanted.uuid,
        missing.wanted.ctransid,
    )
}

fn input_name(inputs: &[Input], member: Member) -> &str {
    inputs.get(member.input).map_or("", |it| &it.name)
}

fn subvolume_name(inputs: &[Input], member: Member) -> &str {
    let subvolumes = inputs.get(member.input).map(|it| &it.subvolumes);
    subvolumes
        .and_then(|it| it.get(member.subvolume))
        .map_or("", String::as_str)
}

/// What messages call an input.
pub fn name_of(file: Option<&Path>) -> String {
    match file {
        Some(file) => escaped(file.as_os_str().as_encoded_bytes()),
        None => "standard input".to_owned(),
    }
}
