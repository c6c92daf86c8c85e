//! The `main` of test programs that need root and btrfs.

use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::filesystem::mkfs_with_block_group_tree;
use crate::{LoopFilesystem, Sender, namespace};

/// More tests at once than this only fight for the disk and the memory.
const MAX_THREADS: usize = 8;

/// One test; made by [`test!`](crate::test!).
pub struct Test {
    name: String,
    needs_btrfs: bool,
    /// Programs, and the argument with which they say their version.
    programs: Vec<(&'static str, &'static str)>,
    /// A program that not every distribution has.
    rare: Option<&'static str>,
    /// The version of streams that the kernel has to send.
    version: u32,
    /// What the kernel's btrfs has to have, by the name in sysfs.
    feature: Option<&'static str>,
    body: Box<dyn FnOnce() + Send>,
}

impl Test {
    /// A test that needs root and a working btrfs.
    pub fn on_btrfs(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Self {
        Self {
            name: name.into(),
            needs_btrfs: true,
            programs: Vec::new(),
            rare: None,
            version: 0,
            feature: None,
            body: Box::new(body),
        }
    }

    /// A test that runs anywhere.
    pub fn anywhere(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Self {
        Self {
            needs_btrfs: false,
            ..Self::on_btrfs(name, body)
        }
    }

    /// Says that it needs another program, one that knows `--version`.
    pub fn needs(self, program: &'static str) -> Self {
        self.needs_with(program, "--version")
    }

    /// As [`needs`](Self::needs), for a program that succeeds with this argument.
    pub fn needs_with(mut self, program: &'static str, argument: &'static str) -> Self {
        self.programs.push((program, argument));
        self
    }

    /// Says that it needs a program that may not be to be had: without it the
    /// test is ignored, even where the environment says that tests are a must.
    pub fn needs_if_it_can_be_had(mut self, program: &'static str) -> Self {
        self.rare = Some(program);
        self
    }

    /// Says that the kernel has to send this version of the stream, and take
    /// the data that it can hold: another kernel ignores the test.
    pub fn needs_version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Says that it needs fs-verity: a kernel without ignores the test.
    pub fn needs_verity(self) -> Self {
        self.needs_feature("verity")
    }

    /// Says that it needs a [`block_group_tree`](crate::Builder::block_group_tree):
    /// where the kernel or every `mkfs.btrfs` is older, the test is ignored.
    pub fn needs_block_group_tree(self) -> Self {
        self.needs_feature(BLOCK_GROUP_TREE)
    }

    fn needs_feature(mut self, name: &'static str) -> Self {
        self.feature = Some(name);
        self
    }

    fn into_trial(self) -> Trial {
        let Self {
            name,
            needs_btrfs,
            programs,
            rare,
            version,
            feature,
            body,
        } = self;
        Trial::ignorable_test(name, move || {
            if needs_btrfs && let Err(reason) = btrfs_here() {
                return unavailable(reason);
            }
            for (program, argument) in programs {
                if let Err(reason) = crate::tool::run(program, [argument]) {
                    return unavailable(reason);
                }
            }
            if version > Sender::highest_version() {
                return Ok(ignored(&format!(
                    "this kernel does not send version {version}"
                )));
            }
            if let Some(Err(reason)) = feature.map(has_feature) {
                return Ok(ignored(&reason));
            }
            if let Some(Err(reason)) = rare.map(|it| crate::tool::run(it, ["--version"])) {
                return Ok(ignored(&reason));
            }
            body();
            Ok(Completion::Completed)
        })
    }
}

/// The name in sysfs of what [`Builder::block_group_tree`](crate::Builder::block_group_tree)
/// makes.
const BLOCK_GROUP_TREE: &str = "block_group_tree";

fn has_feature(name: &'static str) -> Result<(), String> {
    if !Path::new("/sys/fs/btrfs/features").join(name).exists() {
        return Err(format!("this kernel has no {name} of btrfs"));
    }
    if name == BLOCK_GROUP_TREE {
        mkfs_with_block_group_tree().map(drop)?;
    }
    Ok(())
}

/// Names a function (or closure bound to a name) as a [`Test`] on btrfs.
///
/// `test!(name)` takes the test's name from the function; `test!(name, args…)`
/// is for a table of cases: it calls the function with the arguments, which
/// are printed after the name.
#[macro_export]
macro_rules! test {
    ($function:ident) => {
        $crate::Test::on_btrfs(stringify!($function), $function)
    };
    ($function:ident, $($argument:expr),+) => {
        $crate::Test::on_btrfs(
            [stringify!($function) $(, &format!("::{:?}", $argument))+].concat(),
            move || $function($($argument),+),
        )
    };
}

/// Runs tests as `cargo test` and nextest expect: filters, `--list`, threads.
///
/// Restarts the process in a private mount namespace first, unless that is
/// impossible or pointless (`--list`).
pub fn main(tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if !arguments.list {
        // Failure is reported by each test that needs the namespace.
        let _ = namespace_entered();
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.test_threads.unwrap_or(processors);
    arguments.test_threads = Some(threads.clamp(1, MAX_THREADS));
    let trials = tests.into_iter().map(Test::into_trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn namespace_entered() -> Result<(), String> {
    static ENTERED: OnceLock<Result<(), String>> = OnceLock::new();
    ENTERED.get_or_init(namespace::enter).clone()
}

/// Whether btrfs can be tested here, found out by mounting one, once.
fn btrfs_here() -> Result<(), String> {
    static PROBED: OnceLock<Result<(), String>> = OnceLock::new();
    let probe = || {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root".to_owned());
        }
        namespace_entered()?;
        crate::tool::run("btrfs", ["--version"])?;
        LoopFilesystem::builder().try_build().map(drop)
    };
    PROBED.get_or_init(probe).clone()
}

/// Ignored, or failed where the environment says these tests are a must.
fn unavailable(reason: String) -> Result<Completion, Failed> {
    if std::env::var_os("BTRFS_TESTS").is_some_and(|value| value == "required") {
        return Err(format!("BTRFS_TESTS=required, but: {reason}").into());
    }
    Ok(ignored(&reason))
}

fn ignored(reason: &str) -> Completion {
    Completion::ignored_with(reason.replace('\n', " "))
}
