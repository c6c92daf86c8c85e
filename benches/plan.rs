//! Planning: commands to steps, nothing applied.

use std::hint::black_box;

use benches::{metadata_commands, write_commands};
use btrfs_receive::btrfs_sendstream::Position;
use btrfs_receive::{DeferredAttributes, Planner, Rules};
use btrfs_sendstream::CommandBuf;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn through(rules: Rules, commands: Vec<CommandBuf>) -> usize {
    let (mut planner, mut steps, mut count) = (Planner::new(rules), Vec::new(), 0);
    planner.begin(&DeferredAttributes::default(), Position::default());
    for command in commands {
        let result = planner.command(command, Position::default(), &mut steps);
        result.expect("all values are in range");
        count += steps.len();
        black_box(&steps);
        steps.clear();
    }
    planner.finish(&mut steps);
    count + steps.len()
}

fn plan(criterion: &mut Criterion) {
    let sets = [
        ("metadata", metadata_commands(20_000)),
        ("large writes", write_commands(1000)),
    ];
    for (name, commands) in sets {
        let mut group = criterion.benchmark_group(format!("plan {name}"));
        group.throughput(Throughput::Elements(commands.len() as u64));
        for (what, rules) in [("fused", Rules::default()), ("one by one", Rules::none())] {
            group.bench_function(what, |bencher| {
                bencher.iter_batched(
                    || commands.clone(),
                    |commands| through(rules, commands),
                    BatchSize::LargeInput,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(groups, plan);
criterion_main!(groups);
