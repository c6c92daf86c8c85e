//! What a finding means, and what to do.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use btrfs_lineage::{
    Difference, Finding, NameProblem, Need, ReceivedCopy, SinceReceived, Stage, Subvolume,
};
use btrfs_sendstream::Timespec;
use btrfs_sendstream::inspect::LocalTime;
use sendstream_common::text::{escaped, push_message, quoted};
use sendstream_common::zone::{SystemZone, local_time};
use serde::Serialize;

use super::places::Places;

/// Most candidates that are listed.
const MAX_LISTED: usize = 8;

/// A command, and what it is for.
#[derive(Serialize)]
pub(super) struct ToDo {
    /// Begins with "to" or "if".
    purpose: String,
    /// For a shell; none where a person has to decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

/// Says what findings mean.
pub(super) struct Advice<'a> {
    places: Places,
    subvolumes: &'a [Subvolume],
    time: LocalTime<SystemZone>,
}

impl<'a> Advice<'a> {
    /// `subvolumes` are those of the filesystem.
    pub(super) fn new(places: Places, subvolumes: &'a [Subvolume]) -> Self {
        Self {
            places,
            subvolumes,
            time: local_time(true),
        }
    }

    /// Where subvolumes are found.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// A finding for people, with an empty line after it.
    pub(super) fn text(&mut self, finding: &Finding) -> Vec<u8> {
        let (message, to_do) = self.on(finding);
        let mut out = Vec::new();
        for (index, line) in message.lines().enumerate() {
            if index > 0 {
                out.extend_from_slice(b"    ");
            }
            push_message(&mut out, line.as_bytes());
            out.push(b'\n');
        }
        for ToDo { purpose, command } in to_do {
            out.extend_from_slice(b"  - ");
            push_message(&mut out, purpose.as_bytes());
            if let Some(command) = command {
                out.extend_from_slice(b":\n      ");
                push_message(&mut out, command.as_bytes());
            }
            out.push(b'\n');
        }
        out.push(b'\n');
        out
    }

    /// What a finding means, in lines, and what to do.
    pub(super) fn on(&mut self, finding: &Finding) -> (String, Vec<ToDo>) {
        match finding {
            Finding::Changed {
                subvolume,
                inode,
                at,
                children,
            } => self.changed(subvolume, *inode, *at, children),
            Finding::WritableReceived {
                subvolume,
                since_received,
            } => self.writable(subvolume, *since_received),
            Finding::SameReceivedUuid {
                received_uuid,
                difference,
                copies,
            } => self.same(&received_uuid.to_string(), *difference, copies),
            Finding::Unfinished { subvolume, stage } => self.unfinished(subvolume, stage),
            Finding::UnfinishedResumable {
                directory,
                name,
                checkpoints,
            } => self.resumable(directory, name, checkpoints.len()),
            Finding::Name {
                path,
                subvolumes,
                problems,
            } => self.name(path, *subvolumes, problems),
            Finding::SourceGone { need, candidates } => {
                let listed = candidates.iter().take(MAX_LISTED);
                let lines = listed.map(|candidate| format!("\n{candidate}"));
                gone(need, &lines.collect::<String>())
            }
            other => (format!("{other:?}"), Vec::new()),
        }
    }

    fn changed(
        &mut self,
        subvolume: &Subvolume,
        inode: u64,
        at: Timespec,
        children: &[u64],
    ) -> (String, Vec<ToDo>) {
        let path = self.path(subvolume);
        let mut message = format!(
            "{}: changed after it was received\n\
             inode {inode} was last changed at {}; the received UUID is {}\n\
             An incremental stream based on it gives a different result from the sender's, or fails.",
            self.shown(subvolume),
            self.at(at),
            subvolume.state.received_uuid,
        );
        if !children.is_empty() {
            message += "\nReceived from it, with the changes made before:";
            for child in self
                .subvolumes
                .iter()
                .filter(|it| children.contains(&it.id))
            {
                message += &format!("\n{}", self.shown(child));
            }
        }
        let mut to_do = self.mount_first(subvolume);
        to_do.extend([
            command(
                "to see which file or directory that is",
                &["btrfs", "inspect-internal", "inode-resolve"],
                &[inode.to_string().into(), path.clone()],
            ),
            command(
                "to receive it again, delete it first",
                &["btrfs", "subvolume", "delete"],
                std::slice::from_ref(&path),
            ),
            ToDo {
                purpose: "to keep it with its changes, remove the received UUID".to_owned(),
                command: Some(format!(
                    "{} && {}",
                    set_read_only(&path, false, true),
                    set_read_only(&path, true, false)
                )),
            },
        ]);
        (message, to_do)
    }

    fn writable(&mut self, subvolume: &Subvolume, since: SinceReceived) -> (String, Vec<ToDo>) {
        let path = self.path(subvolume);
        let so_far = match since {
            SinceReceived::Changed { inode, at } => {
                format!("inode {inode} was last changed at {}", self.at(at))
            }
            SinceReceived::Unchanged => "nothing in it was changed so far".to_owned(),
            _ => "whether it was changed is not known".to_owned(),
        };
        let message = format!(
            "{}: writable, but has a received UUID\n\
             {so_far}; the received UUID is {}\n\
             Later receives will assume that it is unchanged.",
            self.shown(subvolume),
            subvolume.state.received_uuid,
        );
        let mut to_do = self.mount_first(subvolume);
        if since.changed_inode().is_none() {
            to_do.push(ToDo {
                purpose: "to use it as a copy, make it read-only; to work with the files, take a \
                          snapshot of it"
                    .to_owned(),
                command: Some(set_read_only(&path, true, false)),
            });
        }
        to_do.push(ToDo {
            purpose: "to keep it writable, remove the received UUID".to_owned(),
            command: Some(format!(
                "{} && {}",
                set_read_only(&path, true, false),
                set_read_only(&path, false, true)
            )),
        });
        (message, to_do)
    }

    fn same(
        &mut self,
        uuid: &str,
        difference: Difference,
        copies: &[ReceivedCopy],
    ) -> (String, Vec<ToDo>) {
        let verdict = match difference {
            Difference::None => "as far as is known, their content is the same",
            Difference::Certain => "they DIFFER: some were changed",
            _ => "they may differ",
        };
        let mut message = format!(
            "received UUID {uuid}: {} subvolumes have it, and {verdict}",
            copies.len()
        );
        for copy in copies.iter().take(MAX_LISTED) {
            let state = &copy.subvolume.state;
            let changed = match copy.since_received {
                SinceReceived::Changed { .. } => ", CHANGED since it was received",
                SinceReceived::Unchanged => "",
                _ => ", perhaps changed since it was received",
            };
            let writable = if state.read_only { "" } else { ", writable" };
            message += &format!(
                "\n{}: stransid {}{writable}{changed}",
                self.shown(&copy.subvolume),
                state.stransid,
            );
        }
        if copies.len() > MAX_LISTED {
            message += &format!("\nand {} more", copies.len() - MAX_LISTED);
        }
        let two = copies.iter().take(2).map(|it| &it.subvolume);
        let mut compared: Vec<_> = two.clone().map(|it| self.path(it)).collect();
        if two.clone().any(|it| !it.state.read_only) {
            compared.push("--writable".into());
        }
        let to_do = match difference {
            Difference::None => vec![ToDo {
                purpose: "nothing has to be done; delete any that you do not need".to_owned(),
                command: None,
            }],
            _ => vec![
                command(
                    "to see what differs",
                    &["btrfs-lineage", "digest", "--compare"],
                    &compared,
                ),
                ToDo {
                    purpose: "delete those that are not what the sending side has".to_owned(),
                    command: None,
                },
            ],
        };
        (message, to_do)
    }

    fn unfinished(&mut self, subvolume: &Subvolume, stage: &Stage) -> (String, Vec<ToDo>) {
        let path = self.path(subvolume);
        let shown = self.shown(subvolume);
        let delete = command(
            "if no receive is running, delete it, and receive it again",
            &["btrfs", "subvolume", "delete"],
            std::slice::from_ref(&path),
        );
        let mut to_do = self.mount_first(subvolume);
        let message = match stage {
            Stage::Complete { name } => {
                let mut to = PathBuf::from(&path);
                to.set_file_name(OsStr::from_bytes(name));
                to_do.push(command(
                    "if no receive is running, rename it",
                    &["mv", "-nT", "--"],
                    &[path, to.into()],
                ));
                format!("{shown}: received completely, but not renamed to its name")
            }
            Stage::Sealing => {
                to_do.push(delete);
                format!(
                    "{shown}: the receive was interrupted before the subvolume became read-only, \
                     or is running\n\
                     Its root directory may lack its owner and mode. It is never used as a parent."
                )
            }
            _ => {
                if let Some(directory) = PathBuf::from(&path).parent() {
                    to_do.push(command(
                        "to see whether it can be resumed",
                        &["btrfs-recv-rs", "--status"],
                        &[directory.into()],
                    ));
                }
                to_do.push(delete);
                format!("{shown}: incomplete: its receive was interrupted, or is running")
            }
        };
        (message, to_do)
    }

    fn resumable(
        &mut self,
        directory: &[u8],
        name: &[u8],
        checkpoints: usize,
    ) -> (String, Vec<ToDo>) {
        let found = self.places.find(directory);
        let directory = found.map_or_else(|| from_top(directory), OsString::from);
        let mut subvolume = PathBuf::from(&directory);
        subvolume.push(OsStr::from_bytes(name));
        let message = format!(
            "{}: a resumable receive that was interrupted, or is running; checkpoints: \
             {checkpoints}\n\
             Its checkpoints use space, and it can be resumed only with the same stream.",
            escaped(subvolume.as_os_str().as_bytes()),
        );
        let mut words = vec![directory.clone()];
        if name.starts_with(b"-") {
            words.insert(0, "--".into());
        }
        words.push(OsStr::from_bytes(name).to_owned());
        let to_do = vec![
            command(
                "to see how to resume it",
                &["btrfs-recv-rs", "--status"],
                &[directory],
            ),
            command("to give it up", &["btrfs-recv-rs", "--abandon"], &words),
        ];
        (message, to_do)
    }

    fn name(
        &mut self,
        path: &[u8],
        subvolumes: usize,
        problems: &[NameProblem],
    ) -> (String, Vec<ToDo>) {
        let found = self.places.find(path);
        let path = found.map_or_else(|| from_top(path), OsString::from);
        let what: Vec<_> = problems.iter().map(|it| problem(*it)).collect();
        let others = match subvolumes {
            1 => String::new(),
            _ => format!("\n{subvolumes} subvolumes have it in their path"),
        };
        let message = format!(
            "{}: the name {}; other programs may read another name{others}",
            escaped(path.as_bytes()),
            what.join(" and "),
        );
        let mut to = PathBuf::from(&path);
        to.set_file_name("NEW-NAME");
        let rename = command("to rename it", &["mv", "-nT", "--"], &[path, to.into()]);
        (message, vec![rename])
    }

    /// How messages call a subvolume.
    fn shown(&self, subvolume: &Subvolume) -> String {
        let path = self.path(subvolume);
        format!("{} (subvolume {})", escaped(path.as_bytes()), subvolume.id)
    }

    /// The path for commands.
    fn path(&self, subvolume: &Subvolume) -> OsString {
        match &subvolume.path {
            Some(path) => {
                let found = self.places.find(path);
                found.map_or_else(|| from_top(path), OsString::from)
            }
            None => OsString::from("PATH"),
        }
    }

    /// For a subvolume that commands cannot reach.
    fn mount_first(&self, subvolume: &Subvolume) -> Vec<ToDo> {
        let path = subvolume.path.as_deref();
        if path.is_some_and(|path| self.places.find(path).is_none()) {
            vec![ToDo {
                purpose: "it is not mounted; mount the top level of the filesystem first"
                    .to_owned(),
                command: Some("mount -o subvolid=5 DEVICE /TOP-LEVEL".to_owned()),
            }]
        } else {
            Vec::new()
        }
    }

    fn at(&mut self, time: Timespec) -> String {
        let mut text = Vec::new();
        self.time.push(&mut text, time.seconds);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Where it would be if the top level were mounted as [`Advice::mount_first`] says.
fn from_top(path: &[u8]) -> OsString {
    let mut from_top = OsString::from("/TOP-LEVEL/");
    from_top.push(OsStr::from_bytes(path));
    from_top
}

fn command(purpose: &str, program: &[&str], words: &[OsString]) -> ToDo {
    ToDo {
        purpose: purpose.to_owned(),
        command: Some(format!("{} {}", program.join(" "), quoted(words))),
    }
}

/// Without `force`, btrfs-progs refuses to make a received subvolume writable; with
/// it, it removes the received UUID.
fn set_read_only(path: &OsStr, read_only: bool, force: bool) -> String {
    let force = if force { "-f " } else { "" };
    format!(
        "btrfs property set {force}-ts {} ro {read_only}",
        quoted(&[path.to_owned()])
    )
}

fn problem(problem: NameProblem) -> &'static str {
    match problem {
        NameProblem::Newline => "contains a newline",
        NameProblem::ControlCharacter => "contains a control character",
        NameProblem::NotUtf8 => "is not UTF-8",
        NameProblem::BlankAtEnd => "begins or ends with a blank",
        NameProblem::LeadingHyphen => "begins with a hyphen, as options do",
        _ => "is unusual",
    }
}

fn gone(need: &Need, candidates: &str) -> (String, Vec<ToDo>) {
    let role = if need.is_parent {
        "parent"
    } else {
        "clone source"
    };
    let message = format!(
        "{}: the {role} of {} is in no stream before it, and not on the filesystem: {} (ctransid \
         {}){candidates}\n\
         The stream cannot be received.",
        escaped(&need.file),
        escaped(&need.name),
        need.wanted.uuid,
        need.wanted.ctransid,
    );
    let purpose = format!(
        "receive the {role} from a host that has it, or store a full stream (btrfs send without \
         -p and -c)"
    );
    let to_do = vec![ToDo {
        purpose,
        command: None,
    }];
    (message, to_do)
}
