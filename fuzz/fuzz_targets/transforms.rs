#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    btrfs_receive::fuzzing::transforms(data);
});
