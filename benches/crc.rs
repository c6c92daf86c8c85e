//! The checksum alone, over payloads of the sizes that streams have.

use std::hint::black_box;

use btrfs_sendstream::RawCommand;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn crc(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc");
    for len in [32_usize, 96, 512, 4096, 48 << 10, 128 << 10] {
        let payload: Vec<u8> = (0..len).map(|index| (index / 3) as u8).collect();
        let command = RawCommand {
            number: 15,
            payload,
        };
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &command, |bencher, _| {
            bencher.iter(|| black_box(&command).checksum());
        });
    }
    group.finish();
}

criterion_group!(groups, crc);
criterion_main!(groups);
