//! Patterns for names, and those for the names of extended attributes.

/// Longest name of an extended attribute that Linux knows (`XATTR_NAME_MAX`),
/// and longest pattern.
const MAX_LEN: usize = 255;

/// A pattern for the names of extended attributes.
///
/// `*` matches any number of bytes, dots included, `?` any single byte, and
/// every other byte itself. `security.selinux` matches one attribute,
/// `system.posix_acl_*` both kinds of ACL, `user.*` all attributes of users.
///
/// ```
/// use btrfs_receive::XattrPattern;
///
/// let acls = XattrPattern::parse(b"system.posix_acl_*")?;
/// assert!(acls.matches(b"system.posix_acl_default"));
/// assert!(!acls.matches(b"user.system.posix_acl_default"));
/// # Ok::<(), btrfs_receive::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XattrPattern(Box<[u8]>);

/// A pattern that cannot match any extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It is empty.
    #[error("the pattern is empty")]
    Empty,
    /// It has more than 255 bytes.
    #[error("the pattern has more than 255 bytes")]
    TooLong,
    /// It has no namespace.
    #[error(
        "names of extended attributes begin with a namespace and a dot, as in security.selinux \
         or user.*"
    )]
    NoNamespace,
}

impl XattrPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// It is empty, has more than 255 bytes, or has neither a dot nor a `*`
    /// and so cannot match any attribute.
    pub fn parse(pattern: &[u8]) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError::Empty);
        }
        if pattern.len() > MAX_LEN {
            return Err(PatternError::TooLong);
        }
        if !pattern.iter().any(|byte| b".*".contains(byte)) {
            return Err(PatternError::NoNamespace);
        }
        Ok(Self(pattern.into()))
    }

    /// Returns the pattern.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether the pattern matches `name`. Takes at most time
    /// proportional to the product of both lengths.
    pub fn matches(&self, name: &[u8]) -> bool {
        matches_pattern(&self.0, name)
    }
}

/// Returns whether `pattern` matches all of `name`: `*` matches any number of
/// bytes, `?` any single byte, and every other byte itself. Takes at most time
/// proportional to the product of both lengths.
///
/// ```
/// use btrfs_receive::matches_pattern;
///
/// assert!(matches_pattern(b"home.????????", b"home.20261127"));
/// assert!(!matches_pattern(b"home.*", b"root.20261127"));
/// ```
pub fn matches_pattern(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut rest) = (pattern, name);
    // Behind the last `*`, and what it has not swallowed yet.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, rest) {
            ([], []) => return true,
            ([b'*', behind @ ..], _) => {
                star = Some((behind, rest));
                pattern = behind;
            }
            ([first, behind @ ..], [byte, others @ ..]) if *first == b'?' || first == byte => {
                (pattern, rest) = (behind, others);
            }
            _ => match star {
                Some((behind, [_, others @ ..])) => {
                    star = Some((behind, others));
                    (pattern, rest) = (behind, others);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn matches(pattern: &str, name: &str) -> bool {
        XattrPattern::parse(pattern.as_bytes())
            .unwrap()
            .matches(name.as_bytes())
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("security.selinux", "security.selinux", true),
            ("security.selinux", "security.selinux2", false),
            ("security.selinux", "xsecurity.selinux", false),
            ("security.*", "security.", true),
            ("system.posix_acl_*", "system.posix_acl_access", true),
            ("*", "", true),
            ("*.a*b", "user.aab", true),
            ("*.a*b", "user.aabc", false),
            ("user.?", "user.x", true),
            ("user.?", "user.", false),
            ("user.?", "user.xy", false),
            ("*a*b*c.", "xaxbxbxc.", true),
            ("**.x", "y.x", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_takes_long_ends() {
        let pattern = ["*a"; 100].concat();
        assert!(!matches(&(pattern + ".b"), &"a".repeat(60_000)));
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        let parse = |pattern: &[u8]| XattrPattern::parse(pattern).unwrap_err();
        assert_eq!(parse(b""), PatternError::Empty);
        assert_eq!(parse(&[b'*'; 256]), PatternError::TooLong);
        assert_eq!(parse(b"selinux"), PatternError::NoNamespace);
    }
}
