//! The adapter for `btrfs-sendstream`.

use std::io::{self, Read, Write};

use btrfs_conformance::decode;
use serde_json::json;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    if std::env::args_os().nth(1).is_some() {
        let description = json!({
            "name": "btrfs-sendstream",
            "version": env!("CARGO_PKG_VERSION"),
            "omits": [],
        });
        return writeln!(out, "{description}");
    }
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let (report, _) = decode::report(&input);
    for item in &report.items {
        writeln!(out, "{}", item.to_line())?;
    }
    writeln!(out, "{}", report.end.to_line())
}
