//! Sources, inventories and plans, without a receive.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_lineage::{
    Candidate, Capability, Inventory, Mounts, Resolver, SendPlanError, SnapshotToSend, SourceUsed,
};
use btrfs_sendstream::SourceId;
use btrfs_sendstream::serial::Text;
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::Serialize;
use uuid::Uuid;

use crate::fault::Fault;
use crate::handle::{Answer, Failed};
use crate::options::Settings;
use crate::receive::line;

/// Most candidates that are listed: no more have paths.
const MAX_CANDIDATES: usize = 32;

#[derive(Serialize)]
struct Resolved<'a> {
    wanted: SourceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceUsed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mounted_at: Option<Text<'a>>,
    candidates: &'a [Candidate],
    exhaustive: bool,
    missing_capabilities: &'a [Capability],
}

pub(crate) fn resolve(settings: &Settings, directory: &Path, uuid: &[u8], ctransid: u64) -> Answer {
    let uuid = Uuid::try_parse_ascii(uuid)
        .map_err(|error| Fault::misuse(format!("\"{}\": {error}", uuid.escape_ascii())))?;
    let wanted = SourceId { uuid, ctransid };
    let (mut resolver, fd) = resolver(settings, directory)?;
    let found = resolver.resolve(wanted);
    let survey = resolver.survey(wanted);
    let source = found.as_ref().ok().map(|it| it.used());
    let mounted_at = source.as_ref().and_then(|source| {
        let filesystem = btrfs_ioctl::fs_info(&fd).ok()?.fsid;
        let (id, path) = (source.subvolume_id, source.path.as_deref()?);
        let near = directory.canonicalize().ok()?;
        Mounts::read().ok()?.subvolume(filesystem, id, path, &near)
    });
    let listed = survey.candidates.get(..MAX_CANDIDATES);
    let json = line(&Resolved {
        wanted,
        source,
        mounted_at: mounted_at
            .as_ref()
            .map(|it| Text(it.as_os_str().as_bytes())),
        candidates: listed.unwrap_or(&survey.candidates),
        exhaustive: survey.is_exhaustive(),
        missing_capabilities: &survey.missing,
    });
    match found {
        Ok(_) => Ok(Some(json)),
        Err(none) => Err(Box::new(Failed {
            fault: Fault::failed("no_source", none.to_string()),
            json: Some(json),
        })),
    }
}

pub(crate) fn inventory(settings: &Settings, directory: &Path) -> Answer {
    let (mut resolver, _) = resolver(settings, directory)?;
    Ok(Some(line(&resolver.inventory())))
}

pub(crate) fn plan(settings: &Settings, snapshot: &Path, inventory: &[u8]) -> Answer {
    let there: Inventory = serde_json::from_slice(inventory)
        .map_err(|error| Fault::misuse(format!("the inventory is none: {error}")))?;
    let found = SnapshotToSend::open(snapshot);
    let found = found.and_then(|it| it.plan(&there, settings.plan.clone()));
    let found = found.map_err(|error| no_plan(&error, snapshot))?;
    Ok(Some(line(&found)))
}

fn no_plan(error: &SendPlanError, snapshot: &Path) -> Fault {
    let name = snapshot.display();
    match error {
        SendPlanError::Open(error) => Fault::open(&name.to_string(), error),
        SendPlanError::Mounts(_) => Fault::unusable(error.to_string()),
        error => Fault::failed("not_sendable", format!("{name}: {error}")),
    }
}

/// A resolver for the filesystem of `directory`, and its descriptor.
fn resolver(settings: &Settings, directory: &Path) -> Result<(Resolver, OwnedFd), Fault> {
    let fd = open_directory(directory)?;
    let mut builder = Resolver::builder().refuse_writable_sources(settings.refuse_writable_sources);
    if let Some(jail) = &settings.jail {
        builder = builder.jail(open_directory(jail)?);
    }
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error| Fault::open(&path, &error)
    };
    let mut resolver = builder.build(&fd).map_err(failed(directory))?;
    for (path, stands_for) in &settings.clone_sources {
        let named = File::open(path).and_then(|it| resolver.add_named(it.into(), *stands_for));
        named.map_err(failed(path))?;
    }
    Ok((resolver, fd))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(|error| Fault::open(&format!("open {}", path.display()), &error.into()))
}
