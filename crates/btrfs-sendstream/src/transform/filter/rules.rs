//! Which paths are included.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::command::StreamPath;

/// The paths that a [`Filter`](super::Filter) includes.
///
/// A rule applies to a path and everything below it. If several rules apply, the one
/// with the longest path is used. If none applies, the path is included unless some
/// rule includes another path. The root and the parent directories of included paths
/// are always included, but not the rest of their content.
///
/// ```
/// use btrfs_sendstream::StreamPath;
/// use btrfs_sendstream::transform::Rules;
///
/// let path = |text: &'static str| StreamPath::parse(text.as_bytes()).unwrap();
/// let rules = Rules::default()
///     .include(path("home"))
///     .exclude(path("home/alice/tmp"));
/// assert!(rules.keeps(&path("home/alice/mail")));
/// assert!(!rules.keeps(&path("home/alice/tmp/a")));
/// assert!(!rules.keeps(&path("etc")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether each path is included.
    rules: BTreeMap<Vec<u8>, bool>,
}

impl Rules {
    /// Includes a path and everything below it.
    #[must_use]
    pub fn include<B: AsRef<[u8]>>(mut self, path: StreamPath<B>) -> Self {
        self.rules.insert(path.as_bytes().to_vec(), true);
        self
    }

    /// Excludes a path and everything below it, except for the root itself.
    #[must_use]
    pub fn exclude<B: AsRef<[u8]>>(mut self, path: StreamPath<B>) -> Self {
        self.rules.insert(path.as_bytes().to_vec(), false);
        self
    }

    /// Returns whether a path is included, perhaps only as a parent directory of an
    /// included path.
    pub fn keeps<B: AsRef<[u8]>>(&self, path: &StreamPath<B>) -> bool {
        self.present(path.as_bytes())
    }

    /// [`keeps`](Self::keeps), for the bytes of a path.
    pub(super) fn present(&self, path: &[u8]) -> bool {
        path.is_empty() || self.included(path) || self.below(path).any(|included| included)
    }

    /// Whether what lies below a path is all kept or all excluded.
    pub(super) fn is_uniform(&self, path: &[u8]) -> bool {
        self.below(path).next().is_none()
    }

    fn included(&self, path: &[u8]) -> bool {
        let mut ancestor = path;
        loop {
            if let Some(&included) = self.rules.get(ancestor) {
                return included;
            }
            if ancestor.is_empty() {
                return !self.rules.values().any(|&included| included);
            }
            let slash = ancestor.iter().rposition(|&byte| byte == b'/');
            ancestor = ancestor.get(..slash.unwrap_or(0)).unwrap_or_default();
        }
    }

    /// The rules for paths that lie below this one.
    fn below(&self, path: &[u8]) -> impl Iterator<Item = bool> {
        let mut prefix = path.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let range = (Bound::Excluded(prefix.clone()), Bound::Unbounded);
        self.rules
            .range::<Vec<u8>, _>(range)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(_, &included)| included)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        text.split_whitespace()
            .fold(Rules::default(), |rules, rule| {
                let path = StreamPath::parse(&rule.as_bytes()[1..]).unwrap();
                match rule.as_bytes()[0] {
                    b'+' => rules.include(path),
                    _ => rules.exclude(path),
                }
            })
    }

    #[test]
    fn the_longest_rule_counts() {
        for (text, kept, left) in [
            ("", "a a/b", ""),
            ("-a", "b ab b/a", "a a/b"),
            ("+a/b", "a a/b a/b/c", "b a/c ab a/bc"),
            ("-a +a/b", "a a/b a/b/c", "b a/c"),
            (
                "+ -a +a/b/c -a/b/c/d",
                "x a a/b a/b/c/e",
                "a/x a/b/x a/b/c/d",
            ),
            ("+a-b", "a-b/c", "a a/b"),
        ] {
            let rules = rules(text);
            for path in kept.split_whitespace() {
                assert!(rules.present(path.as_bytes()), "{text:?}: {path}");
            }
            for path in left.split_whitespace() {
                assert!(!rules.present(path.as_bytes()), "{text:?}: {path}");
            }
            assert!(rules.present(b""));
        }
    }

    #[test]
    fn uniform_is_what_no_rule_divides() {
        let rules = rules("+a/b -a-c/d");
        for (path, uniform) in [("a", false), ("a/b", true), ("a-c", false), ("", false)] {
            assert_eq!(rules.is_uniform(path.as_bytes()), uniform, "{path}");
        }
    }
}
