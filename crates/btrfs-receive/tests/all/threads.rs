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
use btrfs_testkit::Test;

fn sent<T: Send>() {}
fn shared<T: Send + Sync>() {}

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

fn options_are_shared() {
    shared::<Cancel>();
    shared::<Options>();
    shared::<ResumeOptions>();
}

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

fn errors_are_shared() {
    shared::<Cause>();
    shared::<Failure>();
    shared::<NoSource>();
    shared::<OpenError>();
    shared::<ReceiveError>();
    shared::<ResumeError>();
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere(
            "a_receive_can_run_on_a_thread_of_its_own",
            a_receive_can_run_on_a_thread_of_its_own,
        ),
        Test::anywhere("options_are_shared", options_are_shared),
        Test::anywhere("reports_are_shared", reports_are_shared),
        Test::anywhere("errors_are_shared", errors_are_shared),
    ]
}
