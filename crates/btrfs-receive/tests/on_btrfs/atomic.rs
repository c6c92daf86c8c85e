//! Subvolumes that appear under their name only when they are complete.

use std::fs;

use btrfs_receive::resume::{ResumableReceiver, ResumeOptions, delete_leftover, leftovers};
use btrfs_receive::{
    BtrfsDestination, Cause, Event, Options, Outcome, ReceiveError, Receiver, Report,
};
use btrfs_testkit::{Sample, Sender, Test, assert_same_tree, subvolume, test};

use crate::support::{Pair, assert_received, sample};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(appears_when_it_is_complete),
        test!(a_rest_has_the_other_name),
        test!(a_taken_name_is_found_at_the_beginning),
        test!(a_name_taken_meanwhile_is_left_alone),
        test!(one_without_its_name_is_told_and_found),
    ]
}

fn receive(
    stream: &[u8],
    pair: &Pair,
    observer: &mut impl FnMut(&str),
) -> Result<Report, Box<ReceiveError>> {
    struct Begun<'a, F>(&'a mut F);
    impl<F: FnMut(&str)> btrfs_receive::Observer for Begun<'_, F> {
        fn event(&mut self, event: Event<'_>) {
            if let Event::SubvolumeCreated { new, .. } = event {
                self.0(&new.name.to_string());
            }
        }
    }
    let builder = BtrfsDestination::builder().atomic(true);
    Receiver::new(builder.open(pair.to.path()).unwrap())
        .receive(stream, &mut Begun(observer))
        .map_err(Box::new)
}

fn appears_when_it_is_complete() {
    let pair = Pair::new();
    let (first, second) = sample(&pair.from, Sample::default());
    let mut stream = Sender::new(&first).version(2).to_vec();
    stream.extend(Sender::new(&second).parent(&first).version(2).to_vec());
    let mut seen = 0;
    let report = receive(&stream, &pair, &mut |name| {
        seen += 1;
        assert!(!pair.received(name).exists());
        let built = pair.received(&format!("{name}.receiving"));
        assert!(!subvolume::facts(&built).read_only);
    });
    assert_eq!((report.unwrap().finished, seen), (2, 2));
    assert_received(&first, &pair.received("first"));
    assert_received(&second, &pair.received("second"));
    assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 2);
}

fn a_rest_has_the_other_name() {
    let pair = Pair::new();
    let (first, _) = sample(&pair.from, Sample::default());
    let stream = Sender::new(&first).version(2).to_vec();
    let cut = &stream[..stream.len() - 100];
    let error = receive(cut, &pair, &mut |_| {}).unwrap_err();
    let report = &error.report.subvolumes[0];
    assert_eq!(report.outcome, Outcome::Abandoned);
    assert_eq!(report.built_as.as_bytes(), b"first.receiving");
    assert!(!pair.received("first").exists());
    assert_eq!(
        subvolume::facts(&pair.received("first.receiving")).received_uuid,
        None
    );
}

fn a_taken_name_is_found_at_the_beginning() {
    let pair = Pair::new();
    let (first, _) = sample(&pair.from, Sample::default());
    fs::create_dir(pair.received("first")).unwrap();
    let error = receive(&Sender::new(&first).to_vec(), &pair, &mut |_| {}).unwrap_err();
    let failure = error.first_failure.unwrap();
    assert!(matches!(*failure.cause, Cause::NameTaken { .. }));
    assert!(!pair.received("first.receiving").exists());
}

fn a_name_taken_meanwhile_is_left_alone() {
    let pair = Pair::new();
    let (first, _) = sample(&pair.from, Sample::default());
    let stream = Sender::new(&first).version(2).to_vec();
    let error = receive(&stream, &pair, &mut |name| {
        fs::create_dir(pair.received(name)).unwrap();
    });
    let error = error.unwrap_err();
    let failure = error.first_failure.unwrap();
    assert!(
        matches!(*failure.cause, Cause::NotRenamed { .. }),
        "{failure}"
    );
    assert_eq!(error.report.subvolumes[0].outcome, Outcome::NotRenamed);
    assert_eq!(fs::read_dir(pair.received("first")).unwrap().count(), 0);
    let built = pair.received("first.receiving");
    assert!(subvolume::facts(&built).read_only);
    assert_same_tree(&first, &built);
}

/// Stopped between the last two steps: complete, and without its name.
fn one_without_its_name_is_told_and_found() {
    let pair = Pair::new();
    let (first, _) = sample(&pair.from, Sample::default());
    let stream = Sender::new(&first).version(2).to_vec();
    receive(&stream, &pair, &mut |_| {}).unwrap();
    let built = pair.received("first.receiving");
    fs::rename(pair.received("first"), &built).unwrap();
    let error = receive(&stream, &pair, &mut |_| {}).unwrap_err();
    let failure = error.first_failure.unwrap();
    assert!(
        matches!(&*failure.cause, Cause::BuildNameTaken { built_as, .. } if built_as == "first.receiving"),
        "{failure}"
    );
    let found = leftovers(pair.to.path(), None).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].final_name.as_deref(), Some("first".as_ref()));
    let removed = delete_leftover(pair.to.path(), None, b"first.receiving");
    assert!(!removed.unwrap());
    // A resumable one does what is left to do.
    let builder = BtrfsDestination::builder().atomic(true);
    let destination = builder.open(pair.to.path()).unwrap();
    let options = ResumeOptions::default();
    let report = ResumableReceiver::new(destination, Options::default(), options)
        .unwrap()
        .receive(&stream[..], &mut ())
        .unwrap();
    assert_eq!(report.subvolumes[0].outcome, Outcome::AlreadyComplete);
    assert_received(&first, &pair.received("first"));
    assert_eq!(fs::read_dir(pair.to.path()).unwrap().count(), 1);
}
