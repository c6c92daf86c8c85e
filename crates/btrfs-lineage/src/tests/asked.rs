//! A caller who is asked which candidate to take.

use std::sync::{Arc, Mutex};

use super::*;

/// Two sealed copies, one made writable, and their ids.
struct Copies {
    best: PathBuf,
    other: PathBuf,
    writable: PathBuf,
}

impl Copies {
    fn new(top: &Path) -> Self {
        let best = received(&top.join("best"), FAR, 11);
        let other = received(&top.join("other"), FAR, 9);
        let writable = received(&top.join("writable"), FAR, 11);
        sys::subvol_set_read_only(open(&writable), false).unwrap();
        Self {
            best,
            other,
            writable,
        }
    }
}

fn resolver(
    top: &Path,
    choose: impl FnMut(SourceId, &[Candidate]) -> Choice + Send + 'static,
) -> Resolver {
    Resolver::builder()
        .refuse_writable_sources(true)
        .choose_with(choose)
        .build(open(top))
        .unwrap()
}

#[test]
fn the_choice_is_the_callers_and_is_asked_for_once() {
    on_btrfs(|fs| {
        let copies = Copies::new(fs.path());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let other = info(&copies.other).id;
        let mut resolver = resolver(fs.path(), move |wanted, candidates| {
            let seen = candidates.iter().map(|it| (it.id, it.verdict));
            log.lock().unwrap().push((wanted, seen.collect::<Vec<_>>()));
            Choice::Subvolume(other)
        });
        for _ in 0..3 {
            assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &copies.other);
        }
        // What was open is closed after each subvolume; the choice stays.
        resolver.set_under_construction(None);
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &copies.other);
        let id = |path| info(path).id;
        let expected = vec![
            (id(&copies.best), Verdict::Suitable),
            (other, Verdict::Suitable),
            (id(&copies.writable), Verdict::Writable),
        ];
        assert_eq!(*asked.lock().unwrap(), [(wanted(FAR, 11), expected)]);
    });
}

#[test]
fn best_is_what_would_be_chosen_anyway() {
    on_btrfs(|fs| {
        let copies = Copies::new(fs.path());
        let mut resolver = resolver(fs.path(), |_, _| Choice::Best);
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &copies.best);
        let nothing = resolver.resolve(wanted(Uuid::from_u128(9), 1)).unwrap_err();
        assert!(nothing.candidates.is_empty());
    });
}

#[test]
fn a_choice_that_cannot_serve_is_not_replaced() {
    on_btrfs(|fs| {
        let copies = Copies::new(fs.path());
        let writable = info(&copies.writable).id;
        for choice in [
            Choice::Decline,
            Choice::Subvolume(writable),
            Choice::Subvolume(123_456),
            // Insisting is about being writable, nothing else.
            Choice::DangerouslyUseWritable(5),
        ] {
            let mut resolver = resolver(fs.path(), move |_, _| choice);
            let error = resolver.resolve(wanted(FAR, 11)).unwrap_err();
            let verdicts: Vec<Verdict> = error.candidates.iter().map(|it| it.verdict).collect();
            let expected = [Verdict::NotChosen, Verdict::NotChosen, Verdict::Writable];
            assert_eq!(verdicts, expected, "{choice:?}");
            let fact = "it could serve, but was not chosen";
            assert!(error.to_string().contains(fact), "{error}");
        }
    });
}

#[test]
fn a_writable_one_only_if_insisted_on() {
    on_btrfs(|fs| {
        let copies = Copies::new(fs.path());
        let writable = info(&copies.writable).id;
        let mut resolver = resolver(fs.path(), move |_, _| {
            Choice::DangerouslyUseWritable(writable)
        });
        let source = resolver.resolve(wanted(FAR, 11)).unwrap();
        assert_is(&source, &copies.writable);
        assert!(!source.state().read_only);
        // Clones then come from where the snapshot was taken of.
        resolver.set_under_construction(None);
        assert_is(
            &resolver.resolve(wanted(FAR, 11)).unwrap(),
            &copies.writable,
        );
        // What is being received is no source, whoever insists.
        resolver.set_under_construction(None);
        resolver.set_under_construction(Some(writable));
        resolver.resolve(wanted(FAR, 11)).unwrap_err();
    });
}
