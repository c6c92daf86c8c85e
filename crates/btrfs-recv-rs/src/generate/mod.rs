//! `--generate`: the manual page and shell completions, from the table of
//! options.

mod bash;
mod fish;
mod manual;
mod zsh;

/// What can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generate {
    /// The manual page.
    Manual,
    /// Completions for bash.
    Bash,
    /// Completions for fish.
    Fish,
    /// Completions for zsh.
    Zsh,
}

impl Generate {
    /// The values of the option.
    pub(crate) const NAMES: &[&str] = &["man", "bash", "zsh", "fish"];

    /// What a value of the option means.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "man" => Self::Manual,
            "bash" => Self::Bash,
            "zsh" => Self::Zsh,
            "fish" => Self::Fish,
            _ => return None,
        })
    }

    /// The text.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Manual => manual::text(),
            Self::Bash => bash::text(),
            Self::Fish => fish::text(),
            Self::Zsh => zsh::text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_something_else() {
        let found: Vec<_> = Generate::NAMES
            .iter()
            .map(|name| Generate::from_name(name).unwrap())
            .collect();
        for (at, one) in found.iter().enumerate() {
            assert!(!found[..at].contains(one));
        }
        assert_eq!(Generate::from_name("sh"), None);
    }
}
