//! From names before and after to what happened to them.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Action, DiffEntry};
use crate::inspect::names::{Changes, InodeId, NameError, NameTree, ROOT, Room};

/// The longest path that a sender builds (`PATH_MAX` without its NUL).
/// Commands with short paths can make a longer one, by moving directories
/// into one another: the paths of a tree as deep as that would take memory by
/// the square of the stream.
const PATH_MAX: usize = 4095;

/// What an entry is reckoned to cost beside the bytes of its path.
const ENTRY_COST: u64 = 640;

/// How often those are there: to go on from, in the place, in the result.
const PATH_COPIES: u64 = 4;

/// Every path that is not what it was, sorted.
///
/// # Errors
/// There are paths that no sender builds, or more than fit the memory that
/// `names` was granted.
pub(super) fn entries(names: &NameTree) -> Result<Vec<DiffEntry>, NameError> {
    let mut result = Vec::new();
    let mut room = names.room();
    let mut places = places(names, &mut room)?;
    let changed = names.changes(ROOT);
    if !changed.is_empty() {
        result.push(entry(names, ROOT, Bytes::new(), Action::Changed));
    }
    for (id, origin) in names.origins() {
        let places = places.remove(&id).unwrap_or_default();
        let stayed = places
            .iter()
            .any(|it| it.directory == origin.directory && *it.name == *origin.name);
        let before = path_before(names, id, &mut room)?;
        if places.is_empty() {
            result.push(entry(names, id, before.into(), Action::Deleted));
            continue;
        }
        let mut others: Vec<Bytes> = places
            .iter()
            .filter(|it| !stayed || it.directory != origin.directory || *it.name != *origin.name)
            .map(|it| Bytes::copy_from_slice(&it.path))
            .collect();
        others.sort();
        let mut others = others.into_iter();
        let first = if stayed {
            let here = places
                .iter()
                .find(|it| it.directory == origin.directory && *it.name == *origin.name);
            let path = here.map_or_else(Bytes::new, |it| Bytes::copy_from_slice(&it.path));
            if !names.changes(id).is_empty() {
                result.push(entry(names, id, path.clone(), Action::Changed));
            }
            path
        } else {
            let path = others.next().unwrap_or_default();
            let from = before.into();
            result.push(entry(names, id, path.clone(), Action::Renamed { from }));
            path
        };
        for path in others {
            let to = first.clone();
            result.push(entry(names, id, path, Action::Linked { to }));
        }
    }
    // What is left was not in the parent.
    for (id, places) in places {
        created(names, id, places, &mut result);
    }
    result.sort_by(|a, b| (&a.path, a.action.name()).cmp(&(&b.path, b.action.name())));
    Ok(result)
}

/// Takes the cost of an entry with a path of `len` bytes off `room`.
fn charge(room: &mut Room, len: usize) -> Result<(), NameError> {
    if len > PATH_MAX {
        return Err(NameError::PathTooLong { len });
    }
    room.take(ENTRY_COST + PATH_COPIES * len as u64)
}

/// A new inode: created at its first name, linked at the others.
fn created(names: &NameTree, id: InodeId, places: Vec<Place<'_>>, result: &mut Vec<DiffEntry>) {
    let mut paths: Vec<Bytes> = places.into_iter().map(|it| it.path.into()).collect();
    paths.sort();
    let mut paths = paths.into_iter();
    let Some(first) = paths.next() else {
        return;
    };
    result.push(entry(names, id, first.clone(), Action::Created));
    for path in paths {
        let to = first.clone();
        result.push(entry(names, id, path, Action::Linked { to }));
    }
}

fn entry(names: &NameTree, id: InodeId, path: Bytes, action: Action) -> DiffEntry {
    let told = matches!(action, Action::Changed | Action::Renamed { .. });
    DiffEntry {
        path,
        kind: names.kind(id),
        changes: if told {
            names.changes(id)
        } else {
            Changes::default()
        },
        action,
    }
}

/// One name of an inode in the end.
struct Place<'a> {
    directory: InodeId,
    name: &'a [u8],
    path: Vec<u8>,
}

/// Where every inode but the root is in the end, as far as the stream tells.
fn places<'a>(
    names: &'a NameTree,
    room: &mut Room,
) -> Result<HashMap<InodeId, Vec<Place<'a>>>, NameError> {
    let mut places: HashMap<InodeId, Vec<Place<'_>>> = HashMap::new();
    let mut open = vec![(ROOT, Vec::new())];
    while let Some((directory, above)) = open.pop() {
        for (name, id) in names.names(directory) {
            let path = joined(&above, name);
            charge(room, path.len())?;
            // A directory has one name: no circle, and each is entered once.
            open.push((id, path.clone()));
            let place = Place {
                directory,
                name,
                path,
            };
            places.entry(id).or_default().push(place);
        }
    }
    Ok(places)
}

/// The path in the parent of an inode that comes from there.
fn path_before(names: &NameTree, id: InodeId, room: &mut Room) -> Result<Vec<u8>, NameError> {
    let mut components = Vec::new();
    let mut len = 0;
    let mut here = id;
    while let Some(origin) = names.origin(here) {
        len += origin.name.len() + usize::from(len > 0);
        if len > PATH_MAX {
            return Err(NameError::PathTooLong { len });
        }
        components.push(&*origin.name);
        here = origin.directory;
    }
    charge(room, len)?;
    components.reverse();
    Ok(components.join(&b'/'))
}

fn joined(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() {
        name.to_vec()
    } else {
        [above, b"/", name].concat()
    }
}
