//! What verifying finds.

use btrfs_testkit::corpus::{self, Layer};
use btrfs_testkit::raw::{RawStream, attr};

use super::*;
use crate::inspect::NameError;

fn verify(bytes: &[u8]) -> VerifyReport {
    Verifier::default().verify(bytes)
}

/// Of the hostile streams, what a decoder finds is found, at its place; and
/// of what only a destination can refuse, nothing is found elsewhere.
#[test]
fn hostile_streams_are_wrong_where_they_are() {
    let mut found_without_destination = 0;
    for case in corpus::load() {
        let report = verify(&case.bytes);
        let Some(first) = report.findings.first() else {
            assert!(!case.layer.is_codec(), "{}: found good", case.name);
            continue;
        };
        let at = (first.at.stream, first.at.command, first.at.offset);
        let expected = (case.at.stream, case.at.command, case.at.offset);
        if matches!(case.layer, Layer::Apply | Layer::Confine) {
            // What only a destination refuses may be passed over first.
            assert!(at >= expected, "{}: {first}", case.name);
            found_without_destination += usize::from(at == expected);
        } else {
            assert_eq!(at, expected, "{}: {first}", case.name);
        }
    }
    assert!(
        found_without_destination >= 50,
        "{found_without_destination}"
    );
}

#[test]
fn names_and_extents_may_be_left_alone() {
    let stream = RawStream::new(2)
        .command(11, [attr::path("missing")])
        .command(
            25,
            [
                attr::path("missing"),
                attr::file_offset(0),
                attr::unencoded_file_len(4096),
                attr::unencoded_len(4096),
                attr::unencoded_offset(0),
                attr::compression(2),
                attr::data("no zstd"),
            ],
        )
        .end()
        .into_bytes();
    let findings = verify(&stream).findings;
    assert!(matches!(
        findings[0].problem,
        Problem::Name(NameError::Missing { .. })
    ));
    assert!(matches!(findings[1].problem, Problem::Undecodable(_)));
    let options = VerifyOptions {
        names: false,
        decode: false,
        ..VerifyOptions::default()
    };
    assert!(Verifier::new(options).verify(&stream[..]).is_good());
}

#[test]
fn names_beyond_the_memory_granted_are_not_called_good() {
    let mut stream = RawStream::new(1);
    for number in 0..100 {
        let path = attr::path(format!("o{number}"));
        stream = stream.command(3, [path, attr::ino(300 + number)]);
    }
    let stream = stream.end().into_bytes();
    assert!(verify(&stream).is_good());
    let options = VerifyOptions {
        max_name_memory: 4096,
        ..VerifyOptions::default()
    };
    let report = Verifier::new(options).verify(&stream[..]);
    let [finding] = &report.findings[..] else {
        panic!("{report:?}");
    };
    assert!(matches!(
        finding.problem,
        Problem::Name(NameError::TooMany { .. })
    ));
    assert!(!report.subvolumes[0].good);
}

#[test]
fn findings_are_listed_up_to_a_limit() {
    let mut stream = RawStream::new(1);
    for _ in 0..VerifyReport::MAX_FINDINGS + 7 {
        stream = stream.command(11, [attr::path("missing")]);
    }
    let report = verify(&stream.end().into_bytes());
    assert_eq!(report.findings.len(), VerifyReport::MAX_FINDINGS);
    assert_eq!(report.more_findings, 7);
}

#[test]
fn a_clone_within_the_subvolume_needs_its_source() {
    let clone = |from: &str| {
        RawStream::new(1)
            .command(3, [attr::path("f"), attr::ino(257)])
            .command(
                16,
                [
                    attr::file_offset(0),
                    attr::clone_len(4096),
                    attr::path("f"),
                    attr::clone_uuid(btrfs_testkit::raw::OWN_UUID),
                    attr::clone_ctransid(5),
                    attr::clone_path(from),
                    attr::clone_offset(0),
                ],
            )
            .end()
            .into_bytes()
    };
    assert!(verify(&clone("f")).is_good());
    assert!(!verify(&clone("g")).is_good());
}
