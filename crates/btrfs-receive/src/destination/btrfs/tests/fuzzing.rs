//! Files that are changed at the same time end as if their tasks were carried
//! out one after the other: the body of the fuzz target `lanes`, compiled for
//! tests and with `--cfg fuzzing`.
//!
//! Files in memory stand in for those of a subvolume: the order of tasks does
//! not depend on btrfs. They cannot be cloned, so that clones are copied.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use btrfs_sendstream::{CloneRange, Position, StreamPath, Uuid};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::pread;

use super::activity::Activity;
use super::budget::Budget;
use super::content::{ContentWriter, Task};
use super::failures::Failures;
use super::lanes::Lanes;
use super::space::Space;
use crate::destination::tree::data::DataWriter;
use crate::destination::tree::encoded::Accepted;
use crate::destination::tree::flags::SharedFlags;
use crate::destination::tree::open_file::OpenFile;
use crate::plan::op::{Op, Step};

/// Tasks of one run at most.
const MAX_TASKS: usize = 512;

/// Carries out tasks made of `data` on a few files, in one lane or many, and
/// compares what the files hold with what the tasks come to one by one.
pub fn lanes(data: &[u8]) {
    let mut input = data.iter().copied();
    let activity = match input.next().unwrap_or_default() % 17 {
        0 => Activity::new(1),
        lanes => Activity::fixed(lanes.into()),
    };
    let budget = Budget::default();
    let mut lanes = Lanes::start(Failures::default(), activity).expect("a thread can be started");
    let (accepted, flags) = (Accepted::default(), SharedFlags::default());
    lanes.begin(ContentWriter::new(
        DataWriter::decoding(),
        accepted,
        flags,
        Space::default(),
        true,
    ));
    let mut files: Vec<_> = (0..5).map(|_| File::new()).collect();
    for command in 0..MAX_TASKS as u64 {
        let mut choices = [0; 6];
        let Some(_) = choices.iter_mut().try_for_each(|choice| {
            *choice = input.next()?;
            Some(())
        }) else {
            break;
        };
        let Some((file, source, op)) = choose(choices, &mut files) else {
            continue;
        };
        let at = Position {
            command,
            ..Position::default()
        };
        let task = Task {
            file,
            source,
            step: Step::new(op, at),
            share: budget.take(1),
        };
        assert!(lanes.hand_over(task).is_ok());
    }
    lanes.settle().expect("no task can fail");
    for file in files {
        let mut found = vec![0; file.expected.len() + 1];
        let len = pread(&file.open.fd, &mut found, 0).expect("it can be read");
        assert!(found.get(..len) == Some(&file.expected));
    }
}

struct File {
    open: Arc<OpenFile>,
    /// The same inode, opened again.
    again: Arc<OpenFile>,
    expected: Vec<u8>,
}

impl File {
    fn new() -> Self {
        let fd = memfd_create("file", MemfdFlags::CLOEXEC).expect("there is memory");
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let again = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let again = again.expect("an open file can be opened again");
        Self {
            open: Arc::new(OpenFile::existing(fd, true)),
            again: Arc::new(OpenFile::existing(again, true)),
            expected: Vec::new(),
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if !data.is_empty() && self.expected.len() < end {
            self.expected.resize(end, 0);
        }
        if let Some(range) = self.expected.get_mut(offset..end) {
            range.copy_from_slice(data);
        }
    }
}

/// A task that cannot fail, and its source; what it comes to is done to the
/// content that is expected.
fn choose(
    [kind, one, other, x, y, z]: [u8; 6],
    files: &mut [File],
) -> Option<(Arc<OpenFile>, Option<Arc<OpenFile>>, Op)> {
    let path = StreamPath::default();
    let (count, [x, y, z]) = (files.len(), [x, y, z].map(usize::from));
    let source = files.get(usize::from(other) % count)?;
    let source = (Arc::clone(&source.open), source.expected.clone());
    let file = files.get_mut(usize::from(one) % count)?;
    let target = if one >= 128 { &file.again } else { &file.open };
    let target = Arc::clone(target);
    let (offset, len) = (x * 251, y * 67);
    Some(match kind % 8 {
        0..=3 => {
            let data = vec![z as u8; len];
            file.write(offset, &data);
            let op = Op::Write {
                path,
                offset: offset as u64,
                data: vec![data.into()],
            };
            (target, None, op)
        }
        4 => {
            file.expected.resize(offset, 0);
            let size = offset as u64;
            (target, None, Op::Truncate { path, size })
        }
        5 => {
            let end = file.expected.len().min(offset + len);
            if let Some(hole) = file.expected.get_mut(offset..end) {
                hole.fill(0);
            }
            let op = Op::Fallocate {
                path,
                // A hole that leaves the size as it is.
                mode: 3,
                offset: offset as u64,
                len: len as u64,
            };
            (target, None, op)
        }
        _ => {
            let (source, content) = source;
            let source_offset = z * 251;
            let data = content.get(source_offset..source_offset + len)?;
            if source.inode().ok() == file.open.inode().ok() {
                return None;
            }
            file.write(offset, data);
            let op = Op::Clone(CloneRange {
                path: path.clone(),
                offset: offset as u64,
                len: len as u64,
                source_uuid: Uuid::nil(),
                source_ctransid: 0,
                source_path: path,
                source_offset: source_offset as u64,
            });
            (target, Some(source), op)
        }
    })
}

#[cfg(test)]
mod tests {
    use btrfs_testkit::fuzz_inputs;
    use proptest::prelude::*;

    #[test]
    fn every_input_of_the_corpus() {
        for (path, input) in fuzz_inputs("lanes") {
            println!("{}", path.display());
            super::lanes(&input);
        }
    }

    proptest! {
        #[test]
        fn any_input(choices in prop::collection::vec(any::<u8>(), 0..2000)) {
            super::lanes(&choices);
        }
    }
}
