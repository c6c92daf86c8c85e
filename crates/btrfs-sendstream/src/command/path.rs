//! Names as the stream carries them: bytes, parsed once.

use std::fmt;

use bytes::Bytes;

/// A path inside a subvolume, relative to its root.
///
/// A value of this type has been checked: components are separated by single
/// slashes, none of them is empty, `.` or `..`, there is no leading or
/// trailing slash and no NUL byte. The empty path is the root of the
/// subvolume. Nothing is said about length: the kernel writes at most 4,095
/// bytes, and a destination refuses what is too long for it.
///
/// `B` is what holds the bytes: `&[u8]` while decoding, [`Bytes`] for
/// keeping.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamPath<B = Bytes>(B);

/// Why some bytes are not a [`StreamPath`] or a [`SubvolumeName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path starts with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty component")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("the path has a `.` or `..` component")]
    DotComponent,
    /// A NUL byte.
    #[error("the path contains a NUL byte")]
    Nul,
    /// A subvolume name with a slash in it.
    #[error("the subvolume name has more than one component")]
    NotOneComponent,
    /// An empty subvolume name.
    #[error("the subvolume name is empty")]
    EmptyName,
    /// A subvolume name of more than 255 bytes.
    #[error("the subvolume name is longer than 255 bytes")]
    NameTooLong,
}

impl<B: AsRef<[u8]>> StreamPath<B> {
    /// Checks `bytes` and takes them as a path.
    ///
    /// # Errors
    /// [`PathError`] names the first rule that is broken.
    ///
    /// ```
    /// use btrfs_sendstream::{PathError, StreamPath};
    ///
    /// assert!(StreamPath::parse(b"dir/file").is_ok());
    /// assert!(StreamPath::parse(b"").unwrap().is_root());
    /// assert_eq!(StreamPath::parse(b"../etc"), Err(PathError::DotComponent));
    /// ```
    pub fn parse(bytes: B) -> Result<Self, PathError> {
        check_path(bytes.as_ref())?;
        Ok(Self(bytes))
    }

    /// The path as it stands in the stream.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// Whether this is the root of the subvolume, the empty path.
    pub fn is_root(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The path as text, if it is UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// The same path, borrowed.
    pub fn borrow(&self) -> StreamPath<&[u8]> {
        StreamPath(self.as_bytes())
    }

    /// The bytes, taken out.
    pub fn into_inner(self) -> B {
        self.0
    }

    /// The path's components from the root down; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.as_bytes()
            .split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// The last component, or `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.split().map(|(_, name)| name)
    }

    /// The directory that holds the path, or `None` for the root.
    pub fn parent(&self) -> Option<StreamPath<&[u8]>> {
        self.split().map(|(parent, _)| parent)
    }

    /// Parent directory and last component, or `None` for the root.
    pub fn split(&self) -> Option<(StreamPath<&[u8]>, &[u8])> {
        let bytes = self.as_bytes();
        if bytes.is_empty() {
            return None;
        }
        let mut parts = bytes.rsplitn(2, |&byte| byte == b'/');
        let name = parts.next()?;
        Some((StreamPath(parts.next().unwrap_or_default()), name))
    }

    /// Whether this path is `ancestor` or lies below it.
    pub fn starts_with<C: AsRef<[u8]>>(&self, ancestor: &StreamPath<C>) -> bool {
        ancestor.is_root()
            || self
                .as_bytes()
                .strip_prefix(ancestor.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    pub(crate) fn map<C>(self, convert: impl FnOnce(B) -> C) -> StreamPath<C> {
        StreamPath(convert(self.0))
    }
}

impl StreamPath<&[u8]> {
    /// A copy that can be kept.
    pub fn to_owned(&self) -> StreamPath {
        StreamPath(Bytes::copy_from_slice(self.0))
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for StreamPath<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl<B: AsRef<[u8]>> fmt::Display for StreamPath<B> {
    /// Writes the path with everything but printable ASCII escaped, so that
    /// a name can neither break a line nor drive a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// The name of a subvolume as SUBVOL and SNAPSHOT carry it: one component of
/// 1 to 255 bytes, not `.` or `..`, without slash and NUL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubvolumeName<B = Bytes>(B);

impl<B: AsRef<[u8]>> SubvolumeName<B> {
    /// The longest name a directory entry can have, `BTRFS_NAME_LEN`.
    pub const MAX_LEN: usize = 255;

    /// Checks `bytes` and takes them as a name.
    ///
    /// # Errors
    /// [`PathError`] names the first rule that is broken.
    pub fn parse(bytes: B) -> Result<Self, PathError> {
        let name = bytes.as_ref();
        if name.is_empty() {
            return Err(PathError::EmptyName);
        }
        check_path(name)?;
        if name.contains(&b'/') {
            return Err(PathError::NotOneComponent);
        }
        if name.len() > Self::MAX_LEN {
            return Err(PathError::NameTooLong);
        }
        Ok(Self(bytes))
    }

    /// The name as it stands in the stream.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// The name as text, if it is UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// The name as the operating system takes it, to be joined to a path.
    ///
    /// A [`StreamPath`] has no such function: in a received tree a component
    /// of it can be a symbolic link that leads anywhere.
    ///
    /// ```
    /// use std::path::Path;
    ///
    /// use btrfs_sendstream::SubvolumeName;
    ///
    /// let name = SubvolumeName::parse(&b"home.\xff"[..])?;
    /// assert_eq!(Path::new("/backup").join(name.as_os_str()).file_name(), Some(name.as_os_str()));
    /// # Ok::<(), btrfs_sendstream::PathError>(())
    /// ```
    #[cfg(unix)]
    pub fn as_os_str(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(self.as_bytes())
    }

    /// The same name, borrowed.
    pub fn borrow(&self) -> SubvolumeName<&[u8]> {
        SubvolumeName(self.as_bytes())
    }

    /// The bytes, taken out.
    pub fn into_inner(self) -> B {
        self.0
    }

    pub(crate) fn map<C>(self, convert: impl FnOnce(B) -> C) -> SubvolumeName<C> {
        SubvolumeName(convert(self.0))
    }
}

impl SubvolumeName<&[u8]> {
    /// A copy that can be kept.
    pub fn to_owned(&self) -> SubvolumeName {
        SubvolumeName(Bytes::copy_from_slice(self.0))
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for SubvolumeName<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl<B: AsRef<[u8]>> fmt::Display for SubvolumeName<B> {
    /// Writes the name with everything but printable ASCII escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

fn check_path(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.contains(&0) {
        return Err(PathError::Nul);
    }
    if bytes.starts_with(b"/") {
        return Err(PathError::Absolute);
    }
    for component in bytes.split(|&byte| byte == b'/') {
        match component {
            b"" => return Err(PathError::EmptyComponent),
            b"." | b".." => return Err(PathError::DotComponent),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> StreamPath<&[u8]> {
        StreamPath::parse(bytes).unwrap()
    }

    #[test]
    fn refuses_what_could_leave_the_subvolume() {
        for (bytes, error) in [
            (&b"/"[..], PathError::Absolute),
            (b"/etc/passwd", PathError::Absolute),
            (b"a//b", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b".", PathError::DotComponent),
            (b"..", PathError::DotComponent),
            (b"a/../b", PathError::DotComponent),
            (b"a/.", PathError::DotComponent),
            (b"a\0b", PathError::Nul),
        ] {
            assert_eq!(StreamPath::parse(bytes), Err(error), "{bytes:?}");
        }
        for bytes in [&b"..."[..], b".a", b"a..", b"\xff", b"a b/c\nd"] {
            assert!(StreamPath::parse(bytes).is_ok(), "{bytes:?}");
        }
    }

    #[test]
    fn splits_into_parent_and_name() {
        assert_eq!(path(b"").split(), None);
        assert_eq!(path(b"a").split(), Some((path(b""), &b"a"[..])));
        assert_eq!(path(b"a/b/c").split(), Some((path(b"a/b"), &b"c"[..])));
        assert_eq!(path(b"a/b").components().count(), 2);
        assert_eq!(path(b"").components().count(), 0);
    }

    #[test]
    fn ancestry_is_by_component() {
        assert!(path(b"a/b").starts_with(&path(b"a")));
        assert!(path(b"a").starts_with(&path(b"a")));
        assert!(path(b"a").starts_with(&path(b"")));
        assert!(!path(b"ab").starts_with(&path(b"a")));
        assert!(!path(b"a").starts_with(&path(b"a/b")));
    }

    #[test]
    fn subvolume_names_are_one_component() {
        assert_eq!(
            SubvolumeName::parse(&b""[..]).unwrap_err(),
            PathError::EmptyName
        );
        assert_eq!(
            SubvolumeName::parse(&b"a/b"[..]).unwrap_err(),
            PathError::NotOneComponent
        );
        assert_eq!(
            SubvolumeName::parse(&[b'a'; 256][..]).unwrap_err(),
            PathError::NameTooLong
        );
        assert!(SubvolumeName::parse(&[b'a'; 255][..]).is_ok());
    }
}
