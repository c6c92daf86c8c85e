//! Receives against the reference, to durable data; see benches/README.md.
//!
//! One process conducts; whatever is measured, and whatever needs much
//! memory, runs in a child, so that times and peak memory are its own.

mod bare;
mod calls;
mod child;
mod contest;
mod options;
mod scale;
mod slow_disk;
mod table;
mod workload;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if let Some("--child") = arguments.next().as_deref() {
        return child::main(arguments.collect());
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{}", options::HELP);
            return ExitCode::FAILURE;
        }
    };
    if options.help {
        println!("{}", options::HELP);
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("needs root: it makes and mounts filesystems");
        return ExitCode::FAILURE;
    }
    // Nothing stays mounted, even if this is killed.
    if let Err(error) = btrfs_testkit::enter_namespace() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = run(&options) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(options: &Options) -> Result<(), String> {
    let tools = contest::Tools::find(options)?;
    println!("{}", tools.describe());
    if options.inodes > 0 {
        scale::inodes(&tools, options)?;
    }
    if options.clones > 0 {
        scale::clones(&tools, options)?;
    }
    if options.long > 0 {
        scale::long(&tools, options)?;
    }
    if options.inodes > 0 || options.clones > 0 || options.long > 0 {
        return Ok(());
    }
    println!("{}", table::HEADING);
    for workload in workload::ALL {
        if options.wants(workload.name) {
            println!("{}", contest::run(workload, &tools, options)?);
        }
    }
    Ok(())
}
