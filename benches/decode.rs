//! Decoding from memory, checksums included: borrowed, owned, and through a
//! reader.

use std::hint::black_box;

use benches::{encoded, metadata_commands, write_commands};
use btrfs_sendstream::{Bytes, Decoded, Decoder, Reader};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn borrowed(stream: &[u8]) -> u64 {
    let (mut decoder, mut rest, mut items) = (Decoder::new(), stream, 0);
    while let Ok(Decoded::Item { item, consumed }) = decoder.decode(rest) {
        black_box(&item);
        rest = &rest[consumed..];
        items += 1;
    }
    assert!(rest.is_empty());
    items
}

fn owned(stream: &Bytes) -> u64 {
    let (mut decoder, mut rest, mut items) = (Decoder::new(), stream.clone(), 0);
    while let Ok(Decoded::Item { item, consumed }) = decoder.decode_bytes(&rest) {
        black_box(&item);
        rest = rest.slice(consumed..);
        items += 1;
    }
    assert!(rest.is_empty());
    items
}

fn read(stream: &[u8]) -> u64 {
    let (mut reader, mut items) = (Reader::new(stream), 0);
    while let Ok(Some(item)) = reader.next_item() {
        black_box(&item);
        items += 1;
    }
    items
}

fn decode(criterion: &mut Criterion) {
    let streams = [
        ("metadata", encoded(&metadata_commands(20_000))),
        ("large writes", encoded(&write_commands(1000))),
    ];
    for (name, stream) in streams {
        let stream = Bytes::from(stream.expect("these can be encoded"));
        let items = borrowed(&stream);
        for (unit, throughput) in [
            ("bytes", Throughput::Bytes(stream.len() as u64)),
            ("commands", Throughput::Elements(items)),
        ] {
            let mut group = criterion.benchmark_group(format!("decode {name}, {unit}"));
            group.throughput(throughput).sample_size(30);
            group.bench_function("borrowed", |bencher| bencher.iter(|| borrowed(&stream)));
            group.bench_function("owned", |bencher| bencher.iter(|| owned(&stream)));
            group.bench_function("reader", |bencher| bencher.iter(|| read(&stream)));
            group.finish();
        }
    }
}

criterion_group!(groups, decode);
criterion_main!(groups);
