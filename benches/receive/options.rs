//! The command line.

use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
cargo bench -p benches --bench receive -- [OPTIONS]      (as root)

  --runs N         runs of each side; medians of ratios are printed [5]
  --scale F        size of the workloads, 1 for the full one [1]
  --only A,B       these workloads only; all are listed in benches/README.md
  --ours FILE      the command to measure [target/release/btrfs-recv-rs,
                   built if need be]
  --before FILE    another build of the command, to compare with
  --library        measure the library instead of the command
  --lanes N,M      measure the library with each of these numbers of lanes
  --inodes N       instead: one stream of N inodes, made on the fly
  --clones N       instead: one stream of N clones, made on the fly
  --long GIB       instead: one stream of so much data, made on the fly
  --no-floors      leave out cp, dd and the bare system calls

Environment:
  REF              the reference [btrfs, from PATH]
  BTRFS_TESTS_DIR  where the images are made [a tmpfs of its own]";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) help: bool,
    pub(crate) runs: usize,
    pub(crate) scale: f64,
    pub(crate) only: Vec<String>,
    pub(crate) ours: Option<PathBuf>,
    pub(crate) before: Option<PathBuf>,
    pub(crate) library: bool,
    pub(crate) lanes: Vec<usize>,
    pub(crate) inodes: u64,
    pub(crate) clones: u64,
    pub(crate) long: u64,
    pub(crate) floors: bool,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            help: false,
            runs: 5,
            scale: 1.0,
            only: Vec::new(),
            ours: None,
            before: None,
            library: false,
            lanes: Vec::new(),
            inodes: 0,
            clones: 0,
            long: 0,
            floors: true,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--help" | "-h" => options.help = true,
                "--runs" => options.runs = number(&value()?)?,
                "--scale" => options.scale = number(&value()?)?,
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--ours" => options.ours = Some(value()?.into()),
                "--before" => options.before = Some(value()?.into()),
                "--lanes" => {
                    let lanes = value()?;
                    let lanes = lanes.split(',').map(number).collect::<Result<_, _>>();
                    options.lanes = lanes?;
                }
                "--library" => options.library = true,
                "--inodes" => options.inodes = number(&value()?)?,
                "--clones" => options.clones = number(&value()?)?,
                "--long" => options.long = number(&value()?)?,
                "--no-floors" => options.floors = false,
                // What cargo adds.
                "--bench" => {}
                other => return Err(format!("unknown option {other:?}")),
            }
        }
        options.runs = options.runs.max(1);
        Ok(options)
    }

    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == workload)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number that fits"))
}
