//! Which stored streams lead to a subvolume: its full stream and the incremental streams
//! after it.

use std::ffi::OsStr;
use std::path::PathBuf;

use btrfs_sendstream::NewSubvolume;

use crate::text::escaped;

/// A stored stream, and the subvolume that it begins with.
#[derive(Debug)]
pub struct Stream {
    /// Its file.
    pub file: PathBuf,
    /// Its first subvolume.
    pub new: NewSubvolume,
}

/// The streams that lead to the subvolume with this name or UUID, or to the one that is
/// the parent of no other, in order. If a parent is missing, those after it.
///
/// # Errors
/// There is no such subvolume, or there are several; the text says which.
pub fn leading_to<'a>(
    streams: &'a [Stream],
    wanted: Option<&OsStr>,
) -> Result<Vec<&'a Stream>, String> {
    Ok(chain(streams, target(streams, wanted)?))
}

/// The stream of the subvolume that is wanted, or of the one that is the
/// parent of no other.
fn target<'a>(streams: &'a [Stream], wanted: Option<&OsStr>) -> Result<&'a Stream, String> {
    let is_parent = |uuid| {
        let mut parents = streams.iter().filter_map(|stream| stream.new.parent);
        parents.any(|parent| parent.uuid == uuid)
    };
    let found: Vec<&Stream> = match wanted {
        Some(wanted) => {
            let wanted = wanted.as_encoded_bytes();
            let is_wanted = |new: &NewSubvolume| {
                let uuid = new.uuid.to_string();
                new.name.as_bytes() == wanted || uuid.as_bytes().eq_ignore_ascii_case(wanted)
            };
            streams.iter().filter(|it| is_wanted(&it.new)).collect()
        }
        None => streams
            .iter()
            .filter(|it| !is_parent(it.new.uuid))
            .collect(),
    };
    let Some(first) = found.first() else {
        return Err(match wanted {
            Some(wanted) => {
                let wanted = escaped(wanted.as_encoded_bytes());
                format!("no stream begins with a subvolume {wanted}")
            }
            None => "no stream contains a subvolume that is not the parent of another".to_owned(),
        });
    };
    let is_first =
        |new: &NewSubvolume| (new.uuid, new.ctransid) == (first.new.uuid, first.new.ctransid);
    if found.iter().all(|it| is_first(&it.new)) {
        return Ok(first);
    }
    let mut message =
        "the streams contain several subvolumes; choose one with --subvolume:".to_owned();
    for Stream { file, new } in found {
        let name = escaped(new.name.as_bytes());
        let file = escaped(file.as_os_str().as_encoded_bytes());
        message.push_str(&format!("\n{name} {} in {file}", new.uuid));
    }
    Err(message)
}

/// The full stream that leads to `target`, the streams between, and `target`. If a
/// parent is missing, those after it.
fn chain<'a>(streams: &'a [Stream], target: &'a Stream) -> Vec<&'a Stream> {
    let mut chain = vec![target];
    let mut needed = target.new.parent;
    while let Some(parent) = needed
        // Longer only if streams need each other.
        && chain.len() < streams.len()
    {
        let same = |it: &&Stream| it.new.uuid == parent.uuid;
        let exact = |it: &&Stream| same(it) && it.new.ctransid == parent.ctransid;
        // One with another transid is refused with both transids in the message.
        let Some(next) = streams
            .iter()
            .find(exact)
            .or_else(|| streams.iter().find(same))
        else {
            break;
        };
        chain.push(next);
        needed = next.new.parent;
    }
    chain.reverse();
    chain
}
