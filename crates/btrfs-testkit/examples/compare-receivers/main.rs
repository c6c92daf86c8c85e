//! Runs the same streams through `btrfs receive` and `btrfs-recv-rs`, side
//! by side, and prints what came of them as Markdown tables.
//!
//! ```text
//! cargo build -p btrfs-recv-rs
//! cargo run -p btrfs-testkit --example compare-receivers
//! ```
//!
//! Needs root and loop devices. Everything happens in filesystems of its own
//! in a private mount namespace; what the reference does outside of its
//! destination, it does there.

mod field;
mod hostile;
mod receiver;

use std::process::Command;

use receiver::Receiver;

fn main() -> Result<(), String> {
    btrfs_testkit::enter_namespace()?;
    let receivers = [Receiver::reference(), Receiver::ours()?];
    println!(
        "{} and {}, Linux {}.\n",
        receivers[0].version(),
        receivers[1].version(),
        first_line(Command::new("uname").arg("-r")),
    );
    field::table(&receivers);
    hostile::table(&receivers);
    Ok(())
}

/// The first line that a program prints.
fn first_line(command: &mut Command) -> String {
    let output = command.output();
    let text = output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    text.lines().next().unwrap_or_default().to_owned()
}
