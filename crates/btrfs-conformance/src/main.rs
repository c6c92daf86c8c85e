//! `sendstream-conformance [OPTIONS] ADAPTER...`: has each adapter report on the streams
//! of `testdata`, and prints how many reports are as they have to be.

use std::path::PathBuf;
use std::process::ExitCode;

use btrfs_conformance::run::{Adapter, TIME};
use btrfs_conformance::score::{Score, table};
use btrfs_conformance::set;

const USAGE: &str = "\
Usage: sendstream-conformance [--details] [--require] ADAPTER...

Has each ADAPTER, a program, report on the streams of testdata, and prints a table:
how many reports are as testdata/conformance.json has them. testdata/README.md
describes adapters, and explains the table.

  --details  also print each stream whose report differs, and how
  --require  exit with status 1 if a report differs, except for what the adapter
             says it omits
  --help     print this text
";

fn main() -> ExitCode {
    let (mut details, mut require) = (false, false);
    let mut programs = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--details") => details = true,
            Some("--require") => require = true,
            Some("--help") => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some(option) if option.starts_with('-') => {
                eprint!("{USAGE}");
                return ExitCode::from(2);
            }
            _ => programs.push(PathBuf::from(argument)),
        }
    }
    if programs.is_empty() {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    }
    let streams = set::load();
    let mut scores = Vec::new();
    for program in programs {
        match Adapter::start(&program) {
            Ok(adapter) => scores.push(Score::new(adapter, &streams, TIME)),
            Err(why) => {
                eprintln!("ERROR: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    if details {
        for score in &scores {
            print!("{}", score.details());
        }
    }
    print!("{}", table(&scores));
    if require && !scores.iter().all(Score::is_full) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
