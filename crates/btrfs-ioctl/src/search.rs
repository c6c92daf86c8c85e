//! Items of btrfs trees.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use rustix::io::{Errno, Result};
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};

use super::abi::{SearchHead, TREE_SEARCH_V2};
use super::number::INODE_ITEM;

/// Bytes that the arguments take ahead of the buffer.
const HEAD: usize = size_of::<SearchHead>();

/// Bytes in a result's header.
const ITEM_HEAD: usize = 32;

/// First size of the buffer, in bytes: an item of a filesystem with the usual
/// 16 KiB nodes fits.
const FIRST_BUFFER: usize = 16 << 10;

/// The kernel's limit on the buffer, in bytes.
const LARGEST_BUFFER: usize = 16 << 20;

/// A key, in the order that trees are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// First part.
    pub objectid: u64,
    /// Second part, `BTRFS_*_KEY`.
    pub item_type: u8,
    /// Third part.
    pub offset: u64,
}

impl Key {
    /// Before every other.
    pub const MIN: Self = Self {
        objectid: 0,
        item_type: 0,
        offset: 0,
    };

    /// After every other.
    pub const MAX: Self = Self {
        objectid: u64::MAX,
        item_type: u8::MAX,
        offset: u64::MAX,
    };

    /// The key after this one.
    fn next(self) -> Option<Self> {
        let Self {
            objectid,
            item_type,
            offset,
        } = self;
        if let Some(offset) = offset.checked_add(1) {
            return Some(Self { offset, ..self });
        }
        if let Some(item_type) = item_type.checked_add(1) {
            return Some(Self {
                objectid,
                item_type,
                offset: 0,
            });
        }
        Some(Self {
            objectid: objectid.checked_add(1)?,
            item_type: 0,
            offset: 0,
        })
    }
}

/// One item of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Its key.
    pub key: Key,
    /// Its content.
    pub data: &'a [u8],
}

/// `BTRFS_IOC_TREE_SEARCH_V2`: shows `visit` every item of `tree` whose key is
/// within `min..=max`, in order, until there are no more or it breaks off.
/// The buffer grows as an item needs, to 16 MiB.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace; `ENOENT` if
/// there is no such tree; `EOVERFLOW` for an item larger than any buffer;
/// `EIO` if the kernel's answer makes no sense.
pub fn tree_search(
    fd: impl AsFd,
    tree: u64,
    min: Key,
    max: Key,
    visit: impl FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<()> {
    tree_search_since(fd, tree, (min, max), 0, visit)
}

/// The generation of an inode in the subvolume `id`, cut to the 32 bits that a
/// handle has of it; `None` if there is no such inode. The generation of the
/// root of a snapshot is that of its source, and not the transaction that
/// created the snapshot.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOENT` if there is no such subvolume.
pub fn stored_generation(fd: impl AsFd, id: u64, inode: u64) -> Result<Option<u32>> {
    let key = Key {
        objectid: inode,
        item_type: INODE_ITEM,
        offset: 0,
    };
    let mut generation = None;
    tree_search(fd, id, key, key, |item| {
        generation = item.data.first_chunk().copied().map(u32::from_le_bytes);
        ControlFlow::Break(())
    })?;
    Ok(generation)
}

/// As [`tree_search`], but shows only what lies in blocks that were written in
/// the transaction `since` or later.
///
/// # Errors
/// As there.
pub fn tree_search_since(
    fd: impl AsFd,
    tree: u64,
    (min, max): (Key, Key),
    since: u64,
    mut visit: impl FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let mut from = min;
    let mut buffer = vec![0; HEAD + FIRST_BUFFER];
    while from <= max {
        let items = match search(&fd, tree, (from, max), since, &mut buffer) {
            Ok(items) => items,
            Err(Errno::OVERFLOW) => {
                grow(&mut buffer)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if items == 0 {
            return Ok(());
        }
        let mut last = None;
        let mut rest = &buffer[HEAD..];
        for _ in 0..items {
            let (item, after) = split_item(rest).ok_or(Errno::IO)?;
            if visit(item).is_break() {
                return Ok(());
            }
            last = Some(item.key);
            rest = after;
        }
        match last.and_then(Key::next) {
            Some(next) if next > from => from = next,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// One call: the number of items that the buffer holds afterwards.
fn search(
    fd: impl AsFd,
    tree: u64,
    (min, max): (Key, Key),
    since: u64,
    buffer: &mut [u8],
) -> Result<u32> {
    let (head, body) = buffer.split_first_chunk_mut::<HEAD>().ok_or(Errno::INVAL)?;
    let words: SearchHead = [
        tree,
        min.objectid,
        max.objectid,
        min.offset,
        max.offset,
        since,
        u64::MAX,
        pair(min.item_type.into(), max.item_type.into()),
        pair(u32::MAX, 0),
        0,
        0,
        0,
        0,
        body.len() as u64,
    ];
    for (bytes, word) in head.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    // SAFETY: the request describes a buffer that is as long as its head says,
    // and borrowed for the call.
    unsafe { ioctl::ioctl(fd, TreeSearch { buffer }) }
}

/// Makes room for the item that did not fit; the kernel left the bytes it
/// needs in the size field.
fn grow(buffer: &mut Vec<u8>) -> Result<()> {
    let had = buffer.len() - HEAD;
    let asked = buffer[..HEAD].last_chunk().copied().map(u64::from_ne_bytes);
    let asked = asked.and_then(|asked| usize::try_from(asked).ok());
    let bytes = asked.ok_or(Errno::OVERFLOW)?.max(had * 2);
    if had >= LARGEST_BUFFER {
        return Err(Errno::OVERFLOW);
    }
    buffer.resize(HEAD + bytes.min(LARGEST_BUFFER), 0);
    Ok(())
}

/// Two 32-bit fields that follow each other, as one word.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Cuts the first item off a result buffer.
fn split_item(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<ITEM_HEAD>()?;
    let word = |at: usize| head[at..].first_chunk().copied().map(u64::from_ne_bytes);
    let half = |at: usize| head[at..].first_chunk().copied().map(u32::from_ne_bytes);
    let key = Key {
        objectid: word(8)?,
        offset: word(16)?,
        item_type: u8::try_from(half(24)?).ok()?,
    };
    let (data, rest) = rest.split_at_checked(usize::try_from(half(28)?).ok()?)?;
    Some((Item { key, data }, rest))
}

/// The request: `struct btrfs_ioctl_search_args_v2`, with its buffer. The kernel
/// copies from and to it, so that it need not be aligned.
struct TreeSearch<'a> {
    buffer: &'a mut [u8],
}

// SAFETY: the kernel reads a key block and a buffer size, and writes within
// that block and that many bytes after it, which `search` made sure are there.
unsafe impl Ioctl for TreeSearch<'_> {
    type Output = u32;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        TREE_SEARCH_V2
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.buffer.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, head: *mut c_void) -> Result<u32> {
        // SAFETY: `head` is the pointer of `as_ptr`, to at least HEAD bytes,
        // borrowed until this returns.
        let head = unsafe { &*head.cast::<[u8; HEAD]>() };
        let items = head[8 * 8..].first_chunk().copied();
        items.map(u32::from_ne_bytes).ok_or(Errno::IO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_each_other() {
        let key = |objectid, item_type, offset| Key {
            objectid,
            item_type,
            offset,
        };
        assert_eq!(key(1, 2, 3).next(), Some(key(1, 2, 4)));
        assert_eq!(key(1, 2, u64::MAX).next(), Some(key(1, 3, 0)));
        assert_eq!(key(1, 255, u64::MAX).next(), Some(key(2, 0, 0)));
        assert_eq!(key(u64::MAX, 255, u64::MAX).next(), None);
    }

    #[test]
    fn a_short_result_is_refused() {
        assert!(split_item(&[0; 31]).is_none());
        let mut item = vec![0; 40];
        item[28] = 9;
        assert!(split_item(&item).is_none());
        item[28] = 8;
        assert!(
            split_item(&item)
                .is_some_and(|(item, rest)| { item.data.len() == 8 && rest.is_empty() })
        );
    }
}
