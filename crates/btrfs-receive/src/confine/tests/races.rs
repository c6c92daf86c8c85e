//! Another process changes the tree while it is being received into. Here a
//! thread does, as fast as it can; the rounds are bounded, nothing is timed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::operations::ALL;
use super::{Fixture, path, with_both};
use crate::confine::Access;
use crate::error::Cause;

/// Rounds of each race: each hits many swaps, and all take about a second.
const ROUNDS: usize = 1_500;

/// Exchanges two names over and over while `body` runs.
fn while_swapping(a: &Path, b: &Path, body: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE);
            }
        });
        // Also when the body panics, or the scope would wait for ever.
        let _stop = StopOnDrop(&stop);
        body();
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_directory_is_swapped_for_a_link() {
    with_both(|fixture| {
        fs::create_dir_all(fixture.inside("swap/sub")).unwrap();
        fs::write(fixture.inside("swap/file"), b"inside").unwrap();
        symlink(fixture.outside(""), fixture.inside("link")).unwrap();
        let before = fixture.canary();
        let (a, b) = (fixture.inside("swap"), fixture.inside("link"));
        while_swapping(&a, &b, || {
            for round in 0..ROUNDS {
                // With the cache, and resolving afresh.
                if round % 4 != 0 {
                    fixture.root.cache.borrow_mut().clear();
                }
                let (_, operation) = ALL[round % ALL.len()];
                for at in ["swap/file", "swap/sub/file", "swap/new"] {
                    let _ = fs::write(fixture.inside("other"), b"other");
                    // Whether it succeeds is a matter of luck.
                    let _ = operation(&fixture.root, &path(at));
                }
            }
        });
        assert_eq!(fixture.canary(), before);
    });
}

#[test]
fn a_file_is_swapped_for_a_link() {
    with_both(|fixture| {
        for fixture in [Fixture::new(fixture.root.resolver), fixture.without_proc()] {
            fs::write(fixture.inside("swap"), b"inside").unwrap();
            symlink(fixture.outside("file"), fixture.inside("link")).unwrap();
            let before = fixture.canary();
            let (a, b) = (fixture.inside("swap"), fixture.inside("link"));
            let kept =
                |name: &&(&str, _)| !(name.0.contains("rename") || name.0.contains("unlink"));
            let operations: Vec<_> = ALL.iter().filter(kept).collect();
            while_swapping(&a, &b, || {
                for round in 0..ROUNDS {
                    let (_, operation) = operations[round % operations.len()];
                    let _ = fs::write(fixture.inside("other"), b"other");
                    let _ = operation(&fixture.root, &path("swap"));
                }
            });
            assert_eq!(fixture.canary(), before);
        }
    });
}

/// Opening a FIFO would wait for a reader; a test that hangs has failed.
#[test]
fn a_file_is_swapped_for_a_fifo() {
    with_both(|fixture| {
        for fixture in [Fixture::new(fixture.root.resolver), fixture.without_proc()] {
            fs::write(fixture.inside("swap"), b"inside").unwrap();
            fixture.root.mkfifo(&path("fifo"), 0o600).unwrap();
            let (a, b) = (fixture.inside("swap"), fixture.inside("fifo"));
            let mut opened = 0;
            let mut refused = 0;
            while_swapping(&a, &b, || {
                for _ in 0..ROUNDS {
                    match fixture.root.open_file(&path("swap"), Access::Write) {
                        Ok(file) => {
                            let kind = fs::File::from(file).metadata().unwrap();
                            assert!(kind.is_file());
                            opened += 1;
                        }
                        Err(Cause::NotRegularFile { found: "FIFO" } | Cause::Escape { .. }) => {
                            refused += 1
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            });
            eprintln!("opened {opened}, refused {refused}");
        }
    });
}
