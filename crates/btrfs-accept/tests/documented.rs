//! The rules in the documentation can be used.

use btrfs_accept::{Action, Pattern, Rules};

const DOCUMENT: &str = include_str!("../../../docs/accept.md");

#[test]
fn the_example_can_be_used() {
    let examples: Vec<_> = DOCUMENT.split("```toml\n").skip(1).collect();
    assert_eq!(examples.len(), 1);
    let (text, _) = examples[0].split_once("```").unwrap();
    let rules = Rules::parse(text).unwrap();
    assert_eq!(rules.names, [Pattern::parse("web1.*").unwrap()]);
    assert_eq!(rules.setuid, Action::Drop);
}

/// What the tables say the defaults are.
#[test]
fn the_defaults_are_those_in_the_tables() {
    let text = "subvolumes = 1\nfull = true\nincremental = true\nversions = [1, 2, 3]\n\
                sources = \".\"\n\
                devices = \"refuse\"\nsetuid = \"refuse\"\nsetgid = \"refuse\"\n\
                capabilities = \"refuse\"\nfile-attributes = \"allow\"\nverity = \"refuse\"\n\
                [xattrs]\n\
                allow = [\"user.*\", \"system.posix_acl_access\", \
                \"system.posix_acl_default\", \"btrfs.*\"]\n\
                otherwise = \"refuse\"\n[owners]\notherwise = \"refuse\"\n";
    assert_eq!(Rules::parse(text), Rules::parse(""));
    let keys = text.lines().filter_map(|line| line.split_once(" = "));
    for (key, default) in keys {
        let has = |line: &&str| line.contains(&format!("`{key}`"));
        let row = DOCUMENT
            .lines()
            .find(|line| line.starts_with('|') && has(line));
        let row = row.unwrap_or_else(|| panic!("{key} is not in the tables"));
        assert!(
            row.contains(default.trim_matches('"')),
            "{key} = {default}: {row}"
        );
    }
}
