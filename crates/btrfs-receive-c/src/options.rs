//! Options, by key and value.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use btrfs_lineage::PlanOptions;
use btrfs_receive::resume::ResumeOptions;
use btrfs_receive::{
    BtrfsDestination, BtrfsDestinationBuilder, Cancel, OnError, Options, XattrPattern,
};
use btrfs_sendstream::SubvolumeName;
use uuid::Uuid;

/// Everything that can be set before a destination is opened.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    options: Options,
    force_decompress: bool,
    check_encoded: bool,
    zeros_as_holes: bool,
    atomic: bool,
    parent: Option<PathBuf>,
    pub(crate) jail: Option<PathBuf>,
    pub(crate) refuse_writable_sources: bool,
    pub(crate) clone_sources: Vec<(PathBuf, Option<Uuid>)>,
    resumable: bool,
    resume: ResumeOptions,
    pub(crate) plan: PlanOptions,
}

impl Settings {
    /// Sets an option.
    ///
    /// # Errors
    /// There is no such option, or the value is none that it can have: in
    /// English.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let options = &mut self.options;
        let set = match key {
            b"max_errors" => number(value).map(|it| options.max_errors = it),
            b"stop_at_end" => truth(value).map(|it| options.stop_at_end = it),
            b"skip_complete" => truth(value).map(|it| options.skip_complete = it),
            b"allow_unknown" => truth(value).map(|it| options.allow_unknown = it),
            b"name" => name(value).map(|it| options.name = Some(it)),
            b"on_error" => on_error(value).map(|it| options.on_error = it),
            b"exclude_xattr" => pattern(value).map(|it| options.exclude_xattrs.push(it)),
            b"exclude_file_attributes" => {
                truth(value).map(|it| options.exclude_file_attributes = it)
            }
            b"force_decompress" => truth(value).map(|it| self.force_decompress = it),
            b"check_encoded" => truth(value).map(|it| self.check_encoded = it),
            b"zeros_as_holes" => truth(value).map(|it| self.zeros_as_holes = it),
            b"atomic" => truth(value).map(|it| self.atomic = it),
            b"parent" => path(value).map(|it| self.parent = Some(it)),
            b"clone_source" => clone_source(value).map(|it| self.clone_sources.push(it)),
            b"jail" => path(value).map(|it| self.jail = Some(it)),
            b"refuse_writable_sources" => truth(value).map(|it| self.refuse_writable_sources = it),
            b"resumable" => truth(value).map(|it| self.resumable = it),
            b"resume_directory" => path(value).map(|it| self.resume.directory = Some(it)),
            b"resume_every_seconds" => {
                number(value).map(|it| self.resume.every = Duration::from_secs(it))
            }
            b"resume_every_bytes" => number(value).map(|it| self.resume.every_bytes = it),
            b"plan_clone_sources" => number(value)
                .map(|it| self.plan.max_clone_sources = it.try_into().unwrap_or(usize::MAX)),
            b"plan_trust_relayed" => truth(value).map(|it| self.plan.trust_relayed = it),
            _ => return Err(format!("there is no option {}", quoted(key))),
        };
        set.map_err(|why| format!("{}={}: {why}", key.escape_ascii(), value.escape_ascii()))
    }

    /// The destination, not open yet.
    pub(crate) fn destination(&self) -> BtrfsDestinationBuilder {
        let mut builder = BtrfsDestination::builder()
            .force_decompress(self.force_decompress)
            .check_encoded(self.check_encoded)
            .zeros_as_holes(self.zeros_as_holes)
            .refuse_writable_sources(self.refuse_writable_sources)
            .atomic(self.atomic);
        if let Some(parent) = &self.parent {
            builder = builder.parent(parent);
        }
        if let Some(jail) = &self.jail {
            builder = builder.jail(jail);
        }
        for (path, stands_for) in &self.clone_sources {
            builder = builder.clone_source(path, *stands_for);
        }
        builder
    }

    /// The options of the receiver.
    pub(crate) fn receiver(&self, cancel: Cancel) -> Options {
        self.options.clone().with_cancel(cancel)
    }

    /// Those of a receiver that resumes, if one was asked for.
    pub(crate) fn resume(&self) -> Option<ResumeOptions> {
        self.resumable.then(|| self.resume.clone())
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn truth(value: &[u8]) -> Result<bool, String> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

fn number(value: &[u8]) -> Result<u64, String> {
    let digits = value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).unwrap_or_default();
    (text.parse().ok().filter(|_| digits)).ok_or_else(|| "it must be a number".to_owned())
}

fn on_error(value: &[u8]) -> Result<OnError, String> {
    match value {
        b"keep" => Ok(OnError::Keep),
        b"delete" => Ok(OnError::Delete),
        _ => Err("it must be keep or delete".to_owned()),
    }
}

fn name(value: &[u8]) -> Result<SubvolumeName, String> {
    SubvolumeName::parse(value.to_vec().into()).map_err(|error| error.to_string())
}

fn pattern(value: &[u8]) -> Result<XattrPattern, String> {
    XattrPattern::parse(value).map_err(|error| error.to_string())
}

fn path(value: &[u8]) -> Result<PathBuf, String> {
    if value.is_empty() {
        return Err("the path is empty".to_owned());
    }
    Ok(OsStr::from_bytes(value).into())
}

/// A path, or a UUID, a colon and a path, as in `--clone-source`.
fn clone_source(value: &[u8]) -> Result<(PathBuf, Option<Uuid>), String> {
    let uuid_and_path = value.split_at_checked(36).and_then(|(uuid, rest)| {
        let uuid = Uuid::try_parse_ascii(uuid).ok()?;
        Some((Some(uuid), rest.strip_prefix(b":")?))
    });
    let (stands_for, source) = uuid_and_path.unwrap_or((None, value));
    Ok((path(source)?, stands_for))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_option_can_be_set() {
        let readme = include_str!("../README.md");
        let rows: Vec<_> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|row| row.split_once("` | "))
            .filter(|(_, rest)| rest.contains(" | "))
            .collect();
        assert_eq!(rows.len(), 22);
        let mut settings = Settings::default();
        for (key, rest) in rows {
            let value = match rest.split(" | ").next().unwrap() {
                "`true`, `false`" => "true",
                "`keep`, `delete`" => "delete",
                "number" => "18446744073709551615",
                "pattern" => "user.*",
                "name" => "home",
                "path" => "/backup",
                "path, or UUID`:`path" => "00000000-0000-0000-0000-000000000001:/a",
                kind => panic!("{key}: {kind}"),
            };
            settings.set(key.as_bytes(), value.as_bytes()).unwrap();
        }
        assert_eq!(
            settings.clone_sources,
            [("/a".into(), Some(Uuid::from_u128(1)))]
        );
    }

    #[test]
    fn wrong_options_are_named() {
        let mut settings = Settings::default();
        for (key, value, expected) in [
            ("", "", "there is no option \"\""),
            ("on-error", "keep", "there is no option \"on-error\""),
            ("x\n", "", "there is no option \"x\\n\""),
            ("atomic", "yes", "atomic=yes: it must be true or false"),
            ("max_errors", "+1", "max_errors=+1: it must be a number"),
            ("max_errors", "", "max_errors=: it must be a number"),
            (
                "max_errors",
                "18446744073709551616",
                "max_errors=18446744073709551616: it must be a number",
            ),
            ("on_error", "", "on_error=: it must be keep or delete"),
            ("parent", "", "parent=: the path is empty"),
            (
                "clone_source",
                "00000000-0000-0000-0000-000000000001:",
                "clone_source=00000000-0000-0000-0000-000000000001:: the path is empty",
            ),
        ] {
            let error = settings.set(key.as_bytes(), value.as_bytes());
            assert_eq!(error.unwrap_err(), expected);
        }
        assert!(settings.set(b"name", b"a/b").is_err());
        assert!(settings.set(b"exclude_xattr", b"selinux").is_err());
    }
}
