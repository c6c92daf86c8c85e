//! What verifying, a dry run and a comparison find.

use btrfs_sendstream::CommandKind;
use btrfs_sendstream::serial::{Fields, Object};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::objects;
use crate::diff::{Action, DiffEntry};
use crate::dry_run::{DryRunReport, Forecast};
use crate::names::InodeKind;
use crate::verify::{Finding, Kernel, Needs, Problem, SubvolumeSummary, VerifyReport};

objects! {
    /// `good`, and the fields of the structure.
    VerifyReport;
    /// `kind`, the fields of the structure, and in `by_command` how many there
    /// are of each command.
    SubvolumeSummary;
    /// Where, `subvolume`, `type` (of the command), `path` and `problem`.
    Finding;
    /// `kind`, the class in one word, and `message`, what is wrong in English.
    Problem;
    /// `features`, a list of words, and the oldest kernels: `kernel`, and
    /// `kernel_as_sent` on which extents stay compressed.
    Needs;
    /// `good`, and the fields of the structure.
    DryRunReport;
    /// The fields of the structure; what is `None` has no key.
    Forecast;
    /// `action`, `path`, `kind` if the stream tells it, `from` or `to`, and
    /// `changes`.
    DiffEntry;
}

impl Fields for VerifyReport {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("good", &self.is_good())?;
        object.field("streams", &self.streams)?;
        object.field("commands", &self.commands)?;
        object.field("bytes", &self.bytes)?;
        object.field("subvolumes", &self.subvolumes)?;
        object.field("more_subvolumes", &self.more_subvolumes)?;
        object.field("findings", &self.findings)?;
        object.field("more_findings", &self.more_findings)
    }
}

impl Fields for SubvolumeSummary {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("kind", self.kind().name())?;
        object.bytes("name", self.name.as_bytes())?;
        object.field("uuid", &self.uuid)?;
        object.field("ctransid", &self.ctransid)?;
        object.optional("parent", self.parent)?;
        object.field("version", &self.version)?;
        self.at.fields(object)?;
        object.field("good", &self.good)?;
        object.field("bytes", &self.bytes)?;
        object.field("commands", &self.commands)?;
        object.field("by_command", &ByCommand(self))?;
        object.field("created", &self.created)?;
        object.field("written", &self.written)?;
        object.field("encoded", &self.encoded)?;
        object.field("encoded_covers", &self.encoded_covers)?;
        object.field("cloned", &self.cloned)?;
        object.field("not_sent", &self.not_sent)?;
        object.field("clone_sources", &self.clone_sources)?;
        object.field("needs", &self.needs)
    }
}

/// How many commands there are of each kind that there is.
struct ByCommand<'a>(&'a SubvolumeSummary);

impl Serialize for ByCommand<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for &kind in CommandKind::ALL {
            match self.0.count(kind) {
                0 => {}
                count => map.serialize_entry(kind.name(), &count)?,
            }
        }
        map.end()
    }
}

impl Fields for Finding {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        self.at.fields(object)?;
        if let Some(name) = &self.subvolume {
            object.bytes("subvolume", name.as_bytes())?;
        }
        object.optional("type", self.command)?;
        if let Some(path) = &self.path {
            object.bytes("path", path)?;
        }
        object.field("problem", &self.problem)
    }
}

impl Fields for Problem {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        let kind = match self {
            Self::Stream(error) => return error.fields(object),
            Self::Operation(cause) => return cause.fields(object),
            Self::Name(_) => "name",
            Self::Undecodable(_) => "undecodable",
            Self::NoFileData => "no_file_data",
            Self::Cancelled => "cancelled",
        };
        object.field("kind", kind)?;
        object.text("message", self)
    }
}

impl Fields for Needs {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        let mut features: Vec<String> = Vec::new();
        for (needed, word) in [
            (self.zlib, "zlib"),
            (self.zstd, "zstd"),
            (self.fallocate, "fallocate"),
            (self.file_attributes, "file_attributes"),
            (self.verity, "verity"),
            (self.clones, "clones"),
            (self.capabilities, "capabilities"),
            (self.trusted_xattrs, "trusted_xattrs"),
            (self.owners, "owners"),
            (self.devices, "devices"),
            (self.no_data, "no_data"),
        ] {
            if needed {
                features.push(word.to_owned());
            }
        }
        features.extend(self.lzo_sector_sizes().map(|size| format!("lzo_{size}")));
        object.field("features", &features)?;
        object.field("kernel", &self.oldest_kernel())?;
        object.field("kernel_as_sent", &self.oldest_kernel_as_sent())
    }
}

/// As text: `6.18`.
impl Serialize for Kernel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Fields for DryRunReport {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("good", &self.is_good())?;
        object.field("stream", &self.stream)?;
        object.field("forecasts", &self.forecasts)?;
        object.field("space", &self.space)
    }
}

impl Fields for Forecast {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.optional("occupied", self.occupied)?;
        object.optional("parent", self.parent.as_ref())?;
        object.field("clone_sources", &self.clone_sources)?;
        object.field("decoded", &self.decoded)?;
        object.optional("decode_reason", self.decode_reason)
    }
}

impl Fields for DiffEntry {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("action", self.action.name())?;
        object.bytes("path", &self.path)?;
        if !matches!(self.kind, InodeKind::Unknown | InodeKind::NoDirectory) {
            object.field("kind", self.kind.name())?;
        }
        match &self.action {
            Action::Renamed { from } => object.bytes("from", from)?,
            Action::Linked { to } => object.bytes("to", to)?,
            Action::Created | Action::Changed | Action::Deleted => {}
        }
        let changes: Vec<_> = self.changes.names().collect();
        object.optional("changes", (!changes.is_empty()).then(|| changes.join(" ")))
    }
}
