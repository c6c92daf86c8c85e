//! Allocations per command, counted. Decoding without copies is a promise;
//! this is its test.

use std::alloc::System;
use std::sync::Mutex;

use benches::{encoded, metadata_commands, write_commands};
use btrfs_sendstream::{Bytes, Decoded, Decoder, Encoder, Reader, Version};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The counter belongs to the process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How many allocations, growing ones included, `action` makes.
fn allocations(action: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    action();
    let change = region.change();
    change.allocations + change.reallocations
}

fn streams() -> [Bytes; 2] {
    [metadata_commands(1000), write_commands(200)]
        .map(|commands| encoded(&commands).unwrap().into())
}

#[test]
fn borrowed_decoding_allocates_nothing() {
    let _guard = ONE_AT_A_TIME.lock();
    for stream in streams() {
        let mut items = 0;
        let count = allocations(|| {
            let (mut decoder, mut rest) = (Decoder::new(), &stream[..]);
            while let Ok(Decoded::Item { consumed, .. }) = decoder.decode(rest) {
                rest = &rest[consumed..];
                items += 1;
            }
            assert!(rest.is_empty());
        });
        assert!(items > 200);
        assert_eq!(count, 0, "in {items} items");
    }
}

#[test]
fn owned_decoding_shares_the_input() {
    let _guard = ONE_AT_A_TIME.lock();
    for stream in streams() {
        let count = allocations(|| {
            let (mut decoder, mut rest) = (Decoder::new(), stream.clone());
            while let Ok(Decoded::Item { consumed, .. }) = decoder.decode_bytes(&rest) {
                rest = rest.slice(consumed..);
            }
            assert!(rest.is_empty());
        });
        // One for the count of references, the first time the input is shared.
        assert!(count <= 1, "{count} allocations");
    }
}

#[test]
fn a_reader_allocates_its_buffer_only() {
    let _guard = ONE_AT_A_TIME.lock();
    for stream in streams() {
        let count = allocations(|| {
            let mut reader = Reader::new(&stream[..]);
            while reader.next_item().unwrap().is_some() {}
        });
        assert!(count <= 4, "{count} allocations");
    }
}

#[test]
fn encoding_into_a_buffer_with_room_allocates_nothing() {
    let _guard = ONE_AT_A_TIME.lock();
    for commands in [metadata_commands(1000), write_commands(200)] {
        let mut out = encoded(&commands).unwrap();
        let count = allocations(|| {
            out.clear();
            let mut encoder = Encoder::new();
            encoder.header(Version::V1, &mut out).unwrap();
            for command in &commands {
                encoder.command(command, &mut out).unwrap();
            }
        });
        assert_eq!(count, 0, "for {} commands", commands.len());
    }
}
