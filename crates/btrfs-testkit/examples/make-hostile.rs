//! Writes the hostile streams under `testdata/hostile` and their manifest.

fn main() -> std::io::Result<()> {
    let count = btrfs_testkit::corpus::write()?;
    println!("{count} streams");
    Ok(())
}
