#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| btrfs_receive::fuzz_lanes(data));
