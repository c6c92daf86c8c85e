//! Which stored streams lead to a subvolume: its full stream and the incremental streams
//! after it.

use std::ffi::OsStr;
use std::path::PathBuf;

use btrfs_sendstream::{NewSubvolume, SourceId};

use crate::report::name_of;
use crate::text::escaped;

/// A stored stream, and the subvolume that it begins with.
#[derive(Debug)]
pub struct Stream {
    /// Its file.
    pub file: PathBuf,
    /// Its first subvolume.
    pub new: NewSubvolume,
}

/// A file that is read to look into a subvolume.
#[derive(Clone, Debug)]
pub struct Leading {
    /// Its path.
    pub file: PathBuf,
    /// The subvolume that it contains, and no other; `None` if it is the only file, which
    /// may contain several.
    new: Option<NewSubvolume>,
}

/// A file that contains several subvolumes, where the files were put in order by the first.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: contains several subvolumes; with several files or --subvolume, each file may contain \
     one only",
    name_of(Some(file))
)]
pub struct Several {
    file: PathBuf,
}

impl Leading {
    /// The only file.
    pub fn alone(file: PathBuf) -> Self {
        Self { file, new: None }
    }

    /// Checks that `last`, the last subvolume in the file, is the one that it begins with.
    ///
    /// # Errors
    /// It is another.
    pub fn check(&self, last: Option<&NewSubvolume>) -> Result<(), Several> {
        if self.new.is_none() || self.new.as_ref() == last {
            return Ok(());
        }
        let file = self.file.clone();
        Err(Several { file })
    }
}

/// The streams that lead to the subvolume with this name or UUID, or to the one that is
/// the parent of no other, in order. If a snapshot was stored more than once, the first
/// streams that lead back to a full one. If there are none, those after a missing parent.
///
/// # Errors
/// There is no such subvolume, or there are several; the text says which.
pub fn leading_to(streams: &[Stream], wanted: Option<&OsStr>) -> Result<Vec<Leading>, String> {
    let target = target(streams, wanted)?;
    let chain = complete(streams, target).unwrap_or_else(|| incomplete(streams, target));
    let leading = chain.into_iter().map(|stream| Leading {
        file: stream.file.clone(),
        new: Some(stream.new.clone()),
    });
    Ok(leading.collect())
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

/// A full stream, the streams between, and one of the same subvolume as `target`; `None`
/// if a parent is missing everywhere.
fn complete<'a>(streams: &'a [Stream], target: &Stream) -> Option<Vec<&'a Stream>> {
    let of = |id: SourceId| {
        let same = move |it: &&Stream| (it.new.uuid, it.new.ctransid) == (id.uuid, id.ctransid);
        streams.iter().filter(same).rev()
    };
    let target = SourceId {
        uuid: target.new.uuid,
        ctransid: target.new.ctransid,
    };
    // Each subvolume once: streams may need each other.
    let mut sought = vec![target];
    // The first is looked at first. With each, the number of the stream after it.
    let mut waiting: Vec<_> = of(target).map(|stream| (stream, None)).collect();
    let mut seen = Vec::new();
    while let Some((stream, after)) = waiting.pop() {
        let here = Some(seen.len());
        seen.push((stream, after));
        match stream.new.parent {
            Some(parent) if sought.contains(&parent) => {}
            Some(parent) => {
                sought.push(parent);
                waiting.extend(of(parent).map(|stream| (stream, here)));
            }
            None => {
                let (mut chain, mut next) = (Vec::new(), here);
                while let Some(&(stream, after)) = next.and_then(|next| seen.get(next)) {
                    chain.push(stream);
                    next = after;
                }
                return Some(chain);
            }
        }
    }
    None
}

/// The streams that lead to `target` from a parent that is missing.
fn incomplete<'a>(streams: &'a [Stream], target: &'a Stream) -> Vec<&'a Stream> {
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
