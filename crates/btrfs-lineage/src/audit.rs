//! What on a filesystem will go wrong with later sends and receives.

use std::collections::{BTreeMap, BTreeSet};

use btrfs_sendstream::{Bytes, SourceId};
use uuid::Uuid;

use super::Resolver;
use super::candidate::{Candidate, Verdict};
use super::no_source::{Capability, Search};
use super::reach::Reach;
use super::since::{SinceReceived, since_received};
use super::survey::{self, Listing, Subvolume};
use super::unfinished::is_unfinished;
use super::unfinished::{INSIDE, STATE_DIRECTORY, final_name};

/// Something that will go wrong with a later send or receive, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(tag = "kind", rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Finding {
    /// A read-only subvolume was changed after it was received: it is not the copy
    /// that its received UUID says it is. An incremental stream based on it gives
    /// another result than on the sender's side, or fails.
    Changed {
        /// The subvolume.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::subvolume"))]
        subvolume: Subvolume,
        /// Inode number of a file or directory that was changed, or of the directory
        /// that something was removed from.
        inode: u64,
        /// When that was changed last.
        at: btrfs_sendstream::Timespec,
        /// The ids of subvolumes that were received with this one as their parent.
        /// They have the changes that were made before.
        children: Vec<u64>,
    },
    /// A writable subvolume has a received UUID: it serves as the parent or clone
    /// source of later receives, whatever is changed in it.
    WritableReceived {
        /// The subvolume.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::subvolume"))]
        subvolume: Subvolume,
        /// Whether it was changed so far.
        since_received: SinceReceived,
    },
    /// Several subvolumes have one received UUID: which of them serves as a
    /// source depends on the stream.
    SameReceivedUuid {
        /// The received UUID.
        received_uuid: Uuid,
        /// Whether they differ.
        difference: Difference,
        /// The subvolumes, in the order of their ids.
        copies: Vec<ReceivedCopy>,
    },
    /// A receive was interrupted, or is running.
    Unfinished {
        /// The subvolume.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::subvolume"))]
        subvolume: Subvolume,
        /// How far it has come.
        stage: Stage,
    },
    /// A receive with `--resumable` was interrupted, or is running.
    UnfinishedResumable {
        /// Path of the directory that [`STATE_DIRECTORY`] lies in.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "btrfs_sendstream::serial::text")
        )]
        directory: Bytes,
        /// Name of the subvolume that is being received.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "btrfs_sendstream::serial::text")
        )]
        name: Bytes,
        /// The ids of its checkpoints.
        checkpoints: Vec<u64>,
    },
    /// Tools take this name for something else: those that read a name to a line,
    /// that split at blanks, or that expect text.
    Name {
        /// The path, up to the name.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "btrfs_sendstream::serial::text")
        )]
        path: Bytes,
        /// How many subvolumes have the name in their path.
        subvolumes: usize,
        /// What is wrong with it.
        problems: Vec<NameProblem>,
    },
    /// A parent or clone source that a stored stream needs is in none of the streams
    /// before it, and not on the filesystem.
    SourceGone {
        /// Who needs it.
        #[cfg_attr(feature = "serde", serde(flatten))]
        need: Need,
        /// Subvolumes that have the UUID and cannot serve.
        candidates: Vec<Candidate>,
    },
}

/// A subvolume that shares its received UUID with others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ReceivedCopy {
    /// The subvolume.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::subvolume"))]
    pub subvolume: Subvolume,
    /// Whether it was changed since it was received.
    pub since_received: SinceReceived,
}

/// Whether subvolumes of one received UUID hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Difference {
    /// All have the same stransid, and none was changed: they were received from one
    /// state of one subvolume, or are snapshots of such a copy.
    None,
    /// Their stransids differ, or some may have been changed. They were received from
    /// several states of one subvolume; or from one state, some of them by way of
    /// another host.
    Possible,
    /// Some were changed after they were received.
    Certain,
}

/// How far a receive has come that was interrupted, or is running.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Stage {
    /// The subvolume is incomplete.
    Building,
    /// It has its received UUID, but is not read-only, and perhaps its root does not
    /// have its owner and mode. It is never used as a source.
    Sealing,
    /// It is complete, but has not got its name.
    Complete {
        /// The name that it is to have.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "btrfs_sendstream::serial::text")
        )]
        name: Bytes,
    },
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum NameProblem {
    /// It contains a newline.
    Newline,
    /// It contains another control character.
    ControlCharacter,
    /// It is not UTF-8.
    NotUtf8,
    /// It begins or ends with a blank.
    BlankAtEnd,
    /// It begins with a hyphen, as options do.
    LeadingHyphen,
}

/// A parent or clone source that a stored stream needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Need {
    /// Path of the stream.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "btrfs_sendstream::serial::text")
    )]
    pub file: Bytes,
    /// Name of the subvolume in it.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "btrfs_sendstream::serial::text")
    )]
    pub name: Bytes,
    /// What it needs.
    pub wanted: SourceId,
    /// Whether that is its parent; else a clone source.
    pub is_parent: bool,
}

/// What [`Resolver::audit`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// What was found: first about single subvolumes, by id, then about received
    /// UUIDs, then about receives and names.
    pub findings: Vec<Finding>,
    /// The subvolumes that were looked at, and how they were searched for.
    pub listing: Listing,
    /// How many received subvolumes may have been changed, which could not be found
    /// out.
    pub unknown: usize,
    /// Capabilities that would have let more be seen, had the process had them in
    /// the initial user namespace.
    pub missing: Vec<Capability>,
}

impl Audit {
    /// How the subvolumes were searched for.
    pub fn search(&self) -> &Search {
        &self.listing.search
    }

    /// Whether everything was looked at, so that there is nothing else to be found.
    pub fn is_exhaustive(&self) -> bool {
        self.unknown == 0 && self.listing.is_exhaustive()
    }
}

impl Resolver {
    /// Looks for what will go wrong with later sends and receives: on the whole
    /// filesystem, or within the directory that sources are confined to.
    ///
    /// Data in memory is written to disk first, since only then changes can be seen.
    /// Nothing else is written.
    ///
    /// A subvolume that is incomplete, and has neither received UUID nor a name that
    /// says so, looks like one that people made, and is not found.
    pub fn audit(&mut self) -> Audit {
        // What cannot be written is not the audit's to report.
        let _ = rustix::fs::syncfs(self.reach.opener.mount());
        audit(&mut self.reach)
    }

    /// Looks for what stored streams need. Returns a [`Finding::SourceGone`] for each
    /// source that a receive would not find.
    pub fn audit_needs(&mut self, needs: impl IntoIterator<Item = Need>) -> Vec<Finding> {
        let needs: Vec<Need> = needs.into_iter().collect();
        let surveys = self.survey_all(needs.iter().map(|need| need.wanted));
        let gone = needs.into_iter().zip(surveys).filter(|(_, survey)| {
            let serves =
                |it: &Candidate| matches!(it.verdict, Verdict::Suitable | Verdict::LastResort);
            !survey.candidates.iter().any(serves)
        });
        gone.map(|(need, survey)| Finding::SourceGone {
            need,
            candidates: survey.candidates,
        })
        .collect()
    }
}

fn audit(reach: &mut Reach) -> Audit {
    let listing = survey::list(reach);
    let mut audit = Audit {
        findings: Vec::new(),
        missing: listing.missing.clone(),
        listing,
        unknown: 0,
    };
    let mut received: BTreeMap<Uuid, Vec<ReceivedCopy>> = BTreeMap::new();
    for subvolume in &audit.listing.subvolumes {
        if let Some(stage) = named_as_unfinished(subvolume) {
            let subvolume = subvolume.clone();
            audit
                .findings
                .push(Finding::Unfinished { subvolume, stage });
            continue;
        }
        let uuid = subvolume.state.received_uuid;
        if uuid.is_nil() || is_checkpoint(subvolume) {
            continue;
        }
        let opened = match reach.open(subvolume.id) {
            Ok(opened) => opened,
            Err(Verdict::Gone) => continue,
            Err(_) => {
                audit.unknown += 1;
                continue;
            }
        };
        let subvolume = subvolume.clone();
        if is_unfinished(&opened.fd, &subvolume.state) {
            let stage = Stage::Sealing;
            audit
                .findings
                .push(Finding::Unfinished { subvolume, stage });
            continue;
        }
        let since_received = since_received(&opened.fd).unwrap_or(SinceReceived::Unknown);
        if since_received == SinceReceived::Unknown {
            audit.unknown += 1;
        }
        received.entry(uuid).or_default().push(ReceivedCopy {
            subvolume: subvolume.clone(),
            since_received,
        });
        match since_received {
            _ if !subvolume.state.read_only => audit.findings.push(Finding::WritableReceived {
                subvolume,
                since_received,
            }),
            SinceReceived::Changed { inode, at } => audit.findings.push(Finding::Changed {
                children: children(&subvolume, &audit.listing),
                subvolume,
                inode,
                at,
            }),
            _ => {}
        }
    }
    if audit.unknown > 0 {
        audit.missing.push(Capability::SysAdmin);
    }
    audit.findings.extend(received.into_iter().filter_map(same));
    let subvolumes = &audit.listing.subvolumes;
    audit.findings.extend(resumable(subvolumes));
    audit.findings.extend(names(subvolumes));
    audit
}

/// What was received with `parent` as its parent. Snapshots of it have its own received
/// UUID.
fn children(parent: &Subvolume, listing: &Listing) -> Vec<u64> {
    let of = &parent.state;
    let received = listing.subvolumes.iter().filter(|it| {
        let state = &it.state;
        state.parent_uuid == of.uuid
            && !state.received_uuid.is_nil()
            && state.received_uuid != of.received_uuid
    });
    received.map(|it| it.id).collect()
}

/// How far the receive of a subvolume has come, by the name that it has meanwhile.
fn named_as_unfinished(subvolume: &Subvolume) -> Option<Stage> {
    let mut names = subvolume.path.as_deref()?.rsplit(|&byte| byte == b'/');
    let mut last = names.next()?;
    if last == INSIDE {
        last = names.next()?;
    }
    let name = final_name(last)?;
    let state = &subvolume.state;
    Some(match (state.read_only, state.received_uuid.is_nil()) {
        (true, false) => Stage::Complete {
            name: Bytes::copy_from_slice(name),
        },
        (false, false) => Stage::Sealing,
        (false, true) => Stage::Building,
        // Made by somebody else.
        (true, true) => return None,
    })
}

fn same((received_uuid, copies): (Uuid, Vec<ReceivedCopy>)) -> Option<Finding> {
    let first = copies.first()?.subvolume.state.stransid;
    let any = |is: fn(SinceReceived) -> bool| copies.iter().any(|it| is(it.since_received));
    let difference = if any(|since| since.changed_inode().is_some()) {
        Difference::Certain
    } else if any(|since| since == SinceReceived::Unknown)
        || copies.iter().any(|it| it.subvolume.state.stransid != first)
    {
        Difference::Possible
    } else {
        Difference::None
    };
    (copies.len() > 1).then_some(Finding::SameReceivedUuid {
        received_uuid,
        difference,
        copies,
    })
}

/// The names on the way to a subvolume, and where each ends.
fn steps(path: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    path.split(|&byte| byte == b'/').scan(0, |end, name| {
        let begin = if *end == 0 { 0 } else { *end + 1 };
        *end = begin + name.len();
        Some((name, *end))
    })
}

/// The directory, and the receive in it, that a checkpoint is of.
fn checkpoint_of(subvolume: &Subvolume) -> Option<(Bytes, Bytes)> {
    let path = subvolume.path.as_ref()?;
    let mut steps = steps(path);
    let (folder, end) = steps.find(|(name, _)| *name == STATE_DIRECTORY.as_bytes())?;
    let (name, _) = steps.next()?;
    steps.next()?;
    let directory = path.get(..end - folder.len()).unwrap_or_default();
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    Some((
        Bytes::copy_from_slice(directory),
        Bytes::copy_from_slice(name),
    ))
}

fn is_checkpoint(subvolume: &Subvolume) -> bool {
    checkpoint_of(subvolume).is_some()
}

fn resumable(subvolumes: &[Subvolume]) -> impl Iterator<Item = Finding> {
    let mut found: BTreeMap<(Bytes, Bytes), Vec<u64>> = BTreeMap::new();
    for subvolume in subvolumes {
        if let Some(of) = checkpoint_of(subvolume) {
            found.entry(of).or_default().push(subvolume.id);
        }
    }
    found.into_iter().map(
        |((directory, name), checkpoints)| Finding::UnfinishedResumable {
            directory,
            name,
            checkpoints,
        },
    )
}

/// Each name once, however many subvolumes lie beneath it.
fn names(subvolumes: &[Subvolume]) -> impl Iterator<Item = Finding> {
    let mut found: BTreeMap<Bytes, (usize, BTreeSet<NameProblem>)> = BTreeMap::new();
    for path in subvolumes.iter().filter_map(|it| it.path.as_ref()) {
        for (name, end) in steps(path) {
            let problems = problems(name);
            if !problems.is_empty() {
                let entry = found.entry(path.slice(..end)).or_default();
                *entry = (entry.0 + 1, problems);
            }
        }
    }
    found
        .into_iter()
        .map(|(path, (subvolumes, problems))| Finding::Name {
            path,
            subvolumes,
            problems: problems.into_iter().collect(),
        })
}

fn problems(name: &[u8]) -> BTreeSet<NameProblem> {
    let blank = |byte: Option<&u8>| byte == Some(&b' ');
    let is_other_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\n';
    let text = std::str::from_utf8(name);
    // Those beyond ASCII, U+0080 to U+009F, drive terminals too.
    let wide = text.is_ok_and(|text| text.chars().any(|it| !it.is_ascii() && it.is_control()));
    let all = [
        (name.contains(&b'\n'), NameProblem::Newline),
        (
            wide || name.iter().any(is_other_control),
            NameProblem::ControlCharacter,
        ),
        (text.is_err(), NameProblem::NotUtf8),
        (
            blank(name.first()) || blank(name.last()),
            NameProblem::BlankAtEnd,
        ),
        (name.starts_with(b"-"), NameProblem::LeadingHyphen),
    ];
    let found = all.into_iter().filter(|(found, _)| *found);
    found.map(|(_, problem)| problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_where_their_names_do() {
        let of = |path: &'static str| -> Vec<_> {
            let steps = steps(path.as_bytes());
            steps
                .map(|(name, end)| (std::str::from_utf8(name).unwrap(), &path[..end]))
                .collect()
        };
        assert_eq!(of("a/bc/d"), [("a", "a"), ("bc", "a/bc"), ("d", "a/bc/d")]);
        assert_eq!(of(""), [("", "")]);
    }

    #[test]
    fn names_that_tools_stumble_over() {
        use NameProblem::*;
        let of = |name: &[u8]| problems(name).into_iter().collect::<Vec<_>>();
        for fine in ["a", "a b", "@home", "2026-11-27T10:00", ".snapshots", "ä"] {
            assert_eq!(of(fine.as_bytes()), [], "{fine}");
        }
        assert_eq!(of(b"a\nb"), [Newline]);
        assert_eq!(of(b"\x1b[2J"), [ControlCharacter]);
        assert_eq!(of("\u{9b}2J".as_bytes()), [ControlCharacter]);
        assert_eq!(of(b"caf\xe9 "), [NotUtf8, BlankAtEnd]);
        assert_eq!(of(b" -"), [BlankAtEnd]);
        assert_eq!(of(b"-rf"), [LeadingHyphen]);
    }
}
