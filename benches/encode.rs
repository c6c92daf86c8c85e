//! Encoding into memory, checksums included.

use std::hint::black_box;

use benches::{encoded, metadata_commands, write_commands};
use btrfs_sendstream::{CommandBuf, Encoder, Version};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn into(commands: &[CommandBuf], out: &mut Vec<u8>) {
    out.clear();
    let mut encoder = Encoder::new();
    let header = encoder.header(Version::V1, out);
    header.expect("a header can be encoded");
    for command in commands {
        let result = encoder.command(black_box(command), out);
        result.expect("these can be encoded");
    }
}

fn encode(criterion: &mut Criterion) {
    let sets = [
        ("metadata", metadata_commands(20_000)),
        ("large writes", write_commands(1000)),
    ];
    for (name, commands) in sets {
        let mut out = encoded(&commands).expect("these can be encoded");
        for (unit, throughput) in [
            ("bytes", Throughput::Bytes(out.len() as u64)),
            ("commands", Throughput::Elements(commands.len() as u64)),
        ] {
            let mut group = criterion.benchmark_group(format!("encode {name}, {unit}"));
            group.throughput(throughput).sample_size(30);
            group.bench_function("encoder", |bencher| {
                bencher.iter(|| into(&commands, &mut out));
            });
            group.finish();
        }
    }
}

criterion_group!(groups, encode);
criterion_main!(groups);
