//! Allocations per command, counted. Decoding without copies is a promise;
//! this is its test.
//!
//! The counter belongs to the process, and the standard harness has threads
//! that allocate when they like: this has a main of its own, and one thread.

use std::alloc::System;

use benches::{encoded, metadata_commands, write_commands};
use btrfs_sendstream::{Bytes, Decoded, Decoder, Encoder, Reader, Version};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let tests: [(&str, fn()); 4] = [
        (
            "borrowed_decoding_allocates_nothing",
            borrowed_decoding_allocates_nothing,
        ),
        (
            "owned_decoding_shares_the_input",
            owned_decoding_shares_the_input,
        ),
        (
            "a_reader_allocates_its_buffer_only",
            a_reader_allocates_its_buffer_only,
        ),
        (
            "encoding_into_a_buffer_with_room_allocates_nothing",
            encoding_into_a_buffer_with_room_allocates_nothing,
        ),
    ];
    // A failed one panics, which ends the program with a failure.
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("\ntest result: ok. {} passed; 0 failed", tests.len());
}

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

fn borrowed_decoding_allocates_nothing() {
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

fn owned_decoding_shares_the_input() {
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

fn a_reader_allocates_its_buffer_only() {
    for stream in streams() {
        let count = allocations(|| {
            let mut reader = Reader::new(&stream[..]);
            while reader.next_item().unwrap().is_some() {}
        });
        assert!(count <= 4, "{count} allocations");
    }
}

fn encoding_into_a_buffer_with_room_allocates_nothing() {
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
