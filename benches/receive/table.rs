//! What is printed: for each receiver of ours, how it compares.

use std::fmt::Write;

pub(crate) const HEADING: &str = "\
Medians. Ratios are the other's time divided by ours: over 1 is faster. `before` is
the wall time of the other build divided by ours. Floors are given as our wall time
divided by theirs: under 1 is below the floor.

workload           | receiver |  wall s |   CPU s | ref wall | ref CPU | wall ratio | CPU ratio | before |   MiB | ref MiB | / copy | / bare
-------------------|----------|---------|---------|----------|---------|------------|-----------|--------|-------|---------|--------|-------";

/// Who takes part in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    /// The library, with so many lanes.
    Lanes(usize),
    /// Another build of ours.
    Before,
    Reference,
    /// A plain copy.
    Copy,
    /// The bare calls.
    Bare,
}

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) peak_mib: f64,
    /// Reads of a slow disk.
    pub(crate) reads: Option<u64>,
}

/// One side's runs.
pub(crate) struct Column {
    pub(crate) side: Side,
    pub(crate) costs: Vec<Cost>,
}

impl Column {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            costs: Vec::new(),
        }
    }

    /// Median over runs of one number.
    fn median(&self, number: fn(&Cost) -> f64) -> f64 {
        median(self.costs.iter().map(number).collect())
    }

    /// Median over runs of the quotient of ours and another's; what ran in the
    /// same round is compared.
    fn ratio(&self, under: Option<&Self>, number: fn(&Cost) -> f64) -> Option<f64> {
        let pairs = self.costs.iter().zip(&under?.costs);
        let ratios: Vec<f64> = pairs.map(|(a, b)| number(a) / number(b)).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    fn name(&self) -> String {
        match self.side {
            Side::Ours => "ours".to_owned(),
            Side::Lanes(lanes) => format!("{lanes} lanes"),
            Side::Before => "before".to_owned(),
            Side::Reference => "ref".to_owned(),
            Side::Copy => "copy".to_owned(),
            Side::Bare => "bare".to_owned(),
        }
    }
}

/// A line for each receiver of ours, and how often a slow disk was read.
pub(crate) fn lines(workload: &str, columns: &[Column]) -> String {
    let (wall, cpu, peak) = (
        |cost: &Cost| cost.wall,
        |cost: &Cost| cost.cpu,
        |cost: &Cost| cost.peak_mib,
    );
    let find = |side| columns.iter().find(|column| column.side == side);
    let show = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let turned = |ratio: Option<f64>| show(ratio.map(|ratio| 1.0 / ratio));
    let reference = find(Side::Reference);
    let mut out = String::new();
    for ours in columns {
        if !matches!(ours.side, Side::Ours | Side::Lanes(_) | Side::Before) {
            continue;
        }
        let _ = writeln!(
            out,
            "{workload:<18} | {:<8} | {:>7.2} | {:>7.2} | {:>8.2} | {:>7.2} | {:>10} | {:>9} | {:>6} | {:>5.1} | {:>7.1} | {:>6} | {:>6}",
            ours.name(),
            ours.median(wall),
            ours.median(cpu),
            reference.map_or(0.0, |it| it.median(wall)),
            reference.map_or(0.0, |it| it.median(cpu)),
            turned(ours.ratio(reference, wall)),
            turned(ours.ratio(reference, cpu)),
            turned(ours.ratio(find(Side::Before), wall)),
            ours.median(peak),
            reference.map_or(0.0, |it| it.median(peak)),
            show(ours.ratio(find(Side::Copy), wall)),
            show(ours.ratio(find(Side::Bare), wall)),
        );
    }
    let reads: Vec<String> = columns
        .iter()
        .filter_map(|column| Some((column, column.costs.last()?.reads?)))
        .map(|(column, reads)| format!("{} {reads}", column.name()))
        .collect();
    if !reads.is_empty() {
        let _ = writeln!(out, "reads of the disk in one run: {}", reads.join(", "));
    }
    out.trim_end().to_owned()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => 0.0,
        len if len % 2 == 1 => numbers[len / 2],
        len => (numbers[len / 2 - 1] + numbers[len / 2]) / 2.0,
    }
}
