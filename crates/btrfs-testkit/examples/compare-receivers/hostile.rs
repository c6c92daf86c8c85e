//! The files of `testdata/hostile`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use btrfs_testkit::corpus::{self, Case, Layer};
use btrfs_testkit::raw::RawStream;
use btrfs_testkit::{LoopFilesystem, Site, subvolume};

use crate::receiver::Receiver;

/// Where paths of a stream without subvolume lead.
const OUTSIDE: &str = "/run/btrfs-testkit/escaped";

/// What a receiver made of one stream.
struct Result {
    text: String,
    wrong: bool,
}

/// Prints how many streams were answered rightly, and every other one.
pub(crate) fn table(receivers: &[Receiver; 2]) {
    let filesystem = LoopFilesystem::new();
    let mut counts: BTreeMap<Layer, [usize; 3]> = BTreeMap::new();
    let mut rows = Vec::new();
    for case in corpus::load() {
        let [theirs, ours] = receivers
            .each_ref()
            .map(|receiver| run(receiver, &case, filesystem.path()));
        let count = counts.entry(case.layer).or_default();
        count[0] += 1;
        count[1] += usize::from(!theirs.wrong);
        count[2] += usize::from(!ours.wrong);
        if theirs.wrong || ours.wrong {
            let Case { name, defect, .. } = &case;
            rows.push(format!(
                "| `{name}` | {defect} | {} | {} |",
                theirs.text, ours.text
            ));
        }
    }
    println!("\n| layer | streams | right: `btrfs receive` | right: `btrfs-recv-rs` |");
    println!("|---|---|---|---|");
    for (layer, [all, theirs, ours]) in counts {
        println!("| {} | {all} | {theirs} | {ours} |", layer.name());
    }
    println!("\n| stream | defect | `btrfs receive` | `btrfs-recv-rs` |");
    println!("|---|---|---|---|");
    println!("{}", rows.join("\n"));
}

fn run(receiver: &Receiver, case: &Case, top: &Path) -> Result {
    let site = Site::new(top, &case.name);
    let stream = RawStream::empty().bytes(&case.bytes);
    // By default both hand encoded data to the kernel, which looks into it
    // only when the file is read.
    let options: &[&str] = match case.name.starts_with("encoded-") {
        true => &["--force-decompress"],
        false => &[],
    };
    let ended = receiver.run(stream, options, site.path());
    let mut text = vec![ended.how.clone()];
    let mut wrong = ended.success != (case.error == "none") || ended.how.contains("**");
    match site.subvolumes() {
        Ok((finished, _)) if finished > case.finished => {
            text.push("**stamped**".to_owned());
            wrong = true;
        }
        Ok(_) => {}
        Err(_) => {
            text.push("**half finished**".to_owned());
            wrong = true;
        }
    }
    let escaped = fs::remove_file(OUTSIDE).is_ok() | clear(top, &case.name);
    if escaped || !site.damage().is_empty() {
        text.push("**changed something outside**".to_owned());
        wrong = true;
    }
    site.clear();
    fs::remove_dir_all(site.path()).expect("an empty site");
    Result {
        text: text.join(", "),
        wrong,
    }
}

/// Removes what lies beside the site; whether there was anything.
fn clear(top: &Path, site: &str) -> bool {
    let mut found = false;
    for entry in fs::read_dir(top).expect("the top") {
        let path = entry.expect("the top").path();
        if path.ends_with(site) {
            continue;
        }
        found = true;
        let meta = fs::symlink_metadata(&path).expect("what was found");
        if meta.ino() == 256 {
            subvolume::delete(&path);
        } else if meta.is_dir() {
            fs::remove_dir_all(&path).expect("nothing in use");
        } else {
            fs::remove_file(&path).expect("nothing in use");
        }
    }
    found
}
