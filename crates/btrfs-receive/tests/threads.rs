//! What may be handed to another thread, and what may be shared by several.
//! That it compiles is the test.

use btrfs_model::{MemoryDestination, Subvolume, Tree};
use btrfs_receive::btrfs_lineage::{Candidate, NoSource, Resolver, ResolverBuilder, Source};
use btrfs_receive::dry_run::{DryRun, DryRunReport};
use btrfs_receive::resume::{ResumableReceiver, ResumeError, ResumeOptions, Unfinished};
use btrfs_receive::{
    BtrfsDestination, BtrfsDestinationBuilder, Cancel, Cause, DirectoryDestination,
    DirectoryDestinationBuilder, Failure, OpenError, Options, Planner, ReceiveError, Receiver,
    Report, Step, SubvolumeReport,
};

fn sent<T: Send>() {}
fn shared<T: Send + Sync>() {}

#[test]
fn a_receive_can_run_on_a_thread_of_its_own() {
    sent::<Receiver<BtrfsDestination>>();
    sent::<ResumableReceiver>();
    sent::<Receiver<DirectoryDestination>>();
    sent::<Receiver<MemoryDestination>>();
    sent::<BtrfsDestinationBuilder>();
    sent::<DirectoryDestinationBuilder>();
    sent::<Resolver>();
    sent::<ResolverBuilder>();
    sent::<DryRun>();
    shared::<Planner>();
}

#[test]
fn options_are_shared() {
    shared::<Cancel>();
    shared::<Options>();
    shared::<ResumeOptions>();
}

#[test]
fn reports_are_shared() {
    shared::<Report>();
    shared::<SubvolumeReport>();
    shared::<DryRunReport>();
    shared::<Unfinished>();
    shared::<Candidate>();
    shared::<Source>();
    shared::<Step>();
    shared::<Subvolume>();
    shared::<Tree>();
}

#[test]
fn errors_are_shared() {
    shared::<Cause>();
    shared::<Failure>();
    shared::<NoSource>();
    shared::<OpenError>();
    shared::<ReceiveError>();
    shared::<ResumeError>();
}
