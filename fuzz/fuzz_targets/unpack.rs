#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| btrfs_fuzzing::unpack(data));
