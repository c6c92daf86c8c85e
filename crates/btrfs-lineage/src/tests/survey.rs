//! Surveys and listings say what they could not see.

use rustix::thread::CapabilitySet;

use super::privilege::without;
use super::*;

const OUTER: Uuid = Uuid::from_u128(41);

/// A read-only copy at the top, one in a subvolume with a directory, and the
/// paths of all three.
struct Tree {
    outer: PathBuf,
    holder: PathBuf,
    inner: PathBuf,
}

impl Tree {
    fn new(top: &Path) -> Self {
        let outer = received(&top.join("outer"), OUTER, 5);
        let holder = subvolume::create(&top.join("holder"));
        std::fs::create_dir(holder.join("d")).unwrap();
        let inner = received(&holder.join("d/inner"), FAR, 11);
        Self {
            outer,
            holder,
            inner,
        }
    }
}

fn at(path: &Path) -> Resolver {
    Resolver::new(open(path)).unwrap()
}

fn searched(subvolumes: usize, unopened: usize) -> SearchOutcome {
    SearchOutcome::Searched {
        subvolumes,
        unopened,
        cut_short: false,
    }
}

/// Paths of a listing, in the order of their ids.
fn paths(listing: &Listing) -> Vec<String> {
    let path = |it: &Subvolume| String::from_utf8(it.path.as_ref().unwrap().to_vec()).unwrap();
    listing.subvolumes.iter().map(path).collect()
}

#[test]
fn with_all_privileges_everything_is_seen() {
    on_btrfs(|fs| {
        let tree = Tree::new(fs.path());
        let bind = fs.bind(&tree.holder.join("d"));
        let mount = fs.mount("subvol=holder");
        for start in [fs.path(), bind.path(), mount.path()] {
            let mut resolver = at(start);
            // From a UUID alone.
            let survey = resolver.survey(SourceId::from(OUTER));
            assert_eq!(survey.best().unwrap().id, info(&tree.outer).id);
            assert!(survey.is_exhaustive() && survey.missing.is_empty());
            let none = resolver.survey(wanted(Uuid::from_u128(9), 1));
            assert!(none.candidates.is_empty() && none.is_exhaustive());
            assert_eq!(none.searches.len(), 2);

            let listing = resolver.list();
            assert!(listing.is_exhaustive() && listing.missing.is_empty());
            assert_eq!(listing.search.place, SearchPlace::Filesystem);
            assert_eq!(listing.search.outcome, searched(4, 0));
            assert_eq!(paths(&listing), ["", "outer", "holder", "holder/d/inner"]);
            let inner = &listing.subvolumes[3];
            assert_eq!(inner.id, info(&tree.inner).id);
            assert_eq!(inner.state, SubvolumeState::from(&info(&tree.inner)));
            assert_eq!((inner.state.received_uuid, inner.state.stransid), (FAR, 11));
        }
    });
}

#[test]
fn without_privileges_beneath_a_subvolume() {
    on_btrfs(|fs| {
        let tree = Tree::new(fs.path());
        let mount = fs.mount("subvol=holder");
        without(CapabilitySet::all(), || {
            let mut resolver = at(mount.path());
            // Nothing found, which is not to say that nothing is there.
            let survey = resolver.survey(wanted(OUTER, 5));
            assert!(survey.candidates.is_empty() && survey.best().is_none());
            assert!(!survey.is_exhaustive());
            let missing = [Capability::SysAdmin, Capability::DacReadSearch];
            assert_eq!(survey.missing, missing);
            let places: Vec<_> = survey.searches.iter().map(|it| it.place).collect();
            assert_eq!(places, [SearchPlace::UuidTree, SearchPlace::Mount]);
            assert_eq!(
                survey.searches[0].outcome,
                SearchOutcome::Failed {
                    os_error: rustix::io::Errno::PERM.raw_os_error()
                }
            );
            assert_eq!(survey.searches[1].outcome, searched(2, 0));
            let inner = resolver.survey(wanted(FAR, 11));
            assert_eq!(inner.best().unwrap().id, info(&tree.inner).id);

            let listing = resolver.list();
            assert_eq!(paths(&listing), ["", "d/inner"]);
            assert_eq!(listing.search.place, SearchPlace::Mount);
            assert_eq!(listing.missing, [Capability::DacReadSearch]);
            assert!(!listing.is_exhaustive());
        });
    });
}

#[test]
fn without_privileges_on_a_bind_mount() {
    on_btrfs(|fs| {
        Tree::new(fs.path());
        let directory = fs.path().join("directory");
        std::fs::create_dir(&directory).unwrap();
        received(&directory.join("copy"), Uuid::from_u128(42), 6);
        let bind = fs.bind(&directory);
        without(CapabilitySet::all(), || {
            let mut resolver = at(bind.path());
            let survey = resolver.survey(wanted(OUTER, 5));
            assert!(survey.candidates.is_empty() && !survey.is_exhaustive());
            let listing = resolver.list();
            assert_eq!(paths(&listing), ["copy"]);
            assert_eq!(listing.search.place, SearchPlace::Mount);
            // "outer" and "holder" lie beside it, or in a directory that may
            // not be searched: that looks the same.
            assert_eq!(listing.search.outcome, searched(1, 2));
            assert!(!listing.is_exhaustive());
        });
    });
}

#[test]
fn without_privileges_from_the_top() {
    on_btrfs(|fs| {
        let tree = Tree::new(fs.path());
        without(CapabilitySet::all(), || {
            let mut resolver = at(&tree.holder.join("d"));
            let listing = resolver.list();
            assert_eq!(listing.search.place, SearchPlace::Filesystem);
            assert_eq!(listing.search.outcome, searched(4, 0));
            assert!(listing.is_exhaustive());
            assert_eq!(paths(&listing), ["", "outer", "holder", "holder/d/inner"]);
            assert!(
                resolver
                    .survey(wanted(Uuid::from_u128(9), 1))
                    .is_exhaustive()
            );
        });
        // What is mounted over a subvolume hides it.
        let other = LoopFilesystem::new();
        rustix::mount::mount_bind(other.path(), &tree.holder).unwrap();
        let listing = || without_listing(fs.path());
        let covered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(listing));
        rustix::mount::unmount(&tree.holder, rustix::mount::UnmountFlags::DETACH).unwrap();
        let covered = covered.unwrap();
        assert_eq!(paths(&covered), ["", "outer"]);
        assert_eq!(covered.search.outcome, searched(2, 1));
        assert!(!covered.is_exhaustive());
    });
}

fn without_listing(path: &Path) -> Listing {
    let mut listing = None;
    without(CapabilitySet::all(), || listing = Some(at(path).list()));
    listing.unwrap()
}

#[test]
fn a_directory_that_may_not_be_searched_is_known_of() {
    on_btrfs(|fs| {
        let tree = Tree::new(fs.path());
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(tree.holder.join("d"), closed).unwrap();
        rustix::fs::chown(
            tree.holder.join("d"),
            Some(rustix::fs::Uid::from_raw(1000)),
            None,
        )
        .unwrap();
        without(CapabilitySet::all(), || {
            let listing = at(fs.path()).list();
            assert_eq!(paths(&listing), ["", "outer", "holder"]);
            assert_eq!(listing.search.outcome, searched(3, 1));
            let survey = at(fs.path()).survey(wanted(FAR, 11));
            assert!(survey.candidates.is_empty() && !survey.is_exhaustive());
        });
    });
}

#[test]
fn inside_a_jail() {
    on_btrfs(|fs| {
        let tree = Tree::new(fs.path());
        let jailed = || {
            let jail = open(&tree.holder.join("d"));
            Resolver::builder()
                .jail(jail)
                .build(open(fs.path()))
                .unwrap()
        };
        let listing = jailed().list();
        assert_eq!(paths(&listing), ["inner"]);
        assert_eq!(listing.search.place, SearchPlace::Jail);
        assert!(listing.is_exhaustive());
        let survey = jailed().survey(wanted(Uuid::from_u128(9), 1));
        assert!(survey.is_exhaustive() && survey.missing.is_empty());
    });
}

#[test]
fn several_at_once_in_one_walk() {
    on_btrfs(|fs| {
        let tree = Tree::new(fs.path());
        for (ask, nothing) in [(true, 9), (false, 10)] {
            let nothing = Uuid::from_u128(nothing);
            let ids = [wanted(FAR, 11), wanted(nothing, 1), wanted(OUTER, 5)];
            let builder = Resolver::builder().uuid_tree(ask);
            let mut resolver = builder.build(open(fs.path())).unwrap();
            let surveys = resolver.survey_all(ids);
            let best = |it: &Survey| it.best().map(|candidate| candidate.id);
            let expected = [Some(info(&tree.inner).id), None, Some(info(&tree.outer).id)];
            assert_eq!(surveys.iter().map(best).collect::<Vec<_>>(), expected);
            for (survey, id) in surveys.iter().zip(ids) {
                assert_eq!(survey.wanted, id);
                assert_eq!(*survey, resolver.survey(id));
            }
            // What comes later is found by the next ones.
            let later = received(&fs.path().join(format!("later-{ask}")), nothing, 1);
            let surveys = resolver.survey_all(ids);
            assert!(
                surveys[1]
                    .candidates
                    .iter()
                    .any(|it| it.id == info(&later).id)
            );
        }
    });
}
