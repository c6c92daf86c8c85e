//! Counts verdicts, and prints them as a table.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::judge::{Verdict, judge};
use crate::run::Adapter;
use crate::set::{Fault, Stream};

/// Which column of the table a stream counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Nothing is wrong, and the highest version is this.
    Version(u64),
    /// Only a receiver refuses it.
    Receiver,
    /// A parser has to refuse it.
    Must,
    /// A parser may refuse it.
    May,
}

impl Group {
    const ALL: [Self; 6] = [
        Self::Version(1),
        Self::Version(2),
        Self::Version(3),
        Self::Receiver,
        Self::Must,
        Self::May,
    ];

    fn of(stream: &Stream) -> Self {
        match stream.fault {
            Fault::None => Self::Version(stream.versions.iter().copied().max().unwrap_or(0)),
            Fault::Receiver => Self::Receiver,
            Fault::Parser { must: true } => Self::Must,
            Fault::Parser { must: false } => Self::May,
        }
    }

    fn head(self) -> String {
        match self {
            Self::Version(version) => format!("version {version}"),
            Self::Receiver => "for receivers".to_owned(),
            Self::Must => "must refuse".to_owned(),
            Self::May => "may refuse".to_owned(),
        }
    }
}

/// The verdicts on an adapter.
#[derive(Clone, Debug)]
pub struct Score {
    /// The adapter.
    pub adapter: Adapter,
    /// File, group and verdict of each stream, in the order of the set.
    pub verdicts: Vec<(String, Group, Verdict)>,
}

impl Score {
    /// Has an adapter report on all streams, as many at a time as there are processors.
    pub fn new(adapter: Adapter, streams: &[Stream], time: Duration) -> Self {
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(stream) = streams.get(index) else {
                            break;
                        };
                        let report = adapter.report(&stream.bytes, time);
                        let verdict = judge(stream, &adapter.omits, &report);
                        let row = (stream.file.clone(), Group::of(stream), verdict);
                        verdicts.lock().expect("no panic").push((index, row));
                    }
                });
            }
        });
        let mut verdicts = verdicts.into_inner().expect("no panic");
        verdicts.sort_by_key(|(index, _)| *index);
        Self {
            adapter,
            verdicts: verdicts.into_iter().map(|(_, row)| row).collect(),
        }
    }

    /// Whether no verdict is worse than [`Verdict::Partly`].
    pub fn is_full(&self) -> bool {
        let mut verdicts = self.verdicts.iter().map(|(.., verdict)| verdict);
        verdicts.all(|verdict| {
            matches!(
                verdict,
                Verdict::Right | Verdict::Partly | Verdict::NotExpressible
            )
        })
    }

    fn count(&self, group: Group, is: impl Fn(&Verdict) -> bool) -> usize {
        let verdicts = self.verdicts.iter();
        verdicts
            .filter(|(_, of, verdict)| *of == group && is(verdict))
            .count()
    }

    fn cell(&self, group: Group) -> String {
        let count = |is: fn(&Verdict) -> bool| self.count(group, is);
        let expressible = count(|verdict| *verdict != Verdict::NotExpressible);
        let right = count(|verdict| matches!(verdict, Verdict::Right | Verdict::Partly));
        let mut cell = right.to_string();
        let otherwise = count(|verdict| matches!(verdict, Verdict::Otherwise(_)));
        if otherwise > 0 {
            let _ = write!(cell, " + {otherwise}");
        }
        let _ = write!(cell, " of {expressible}");
        cell
    }

    /// A line for each stream that is not reported as expected.
    pub fn details(&self) -> String {
        let mut text = String::new();
        for (file, _, verdict) in &self.verdicts {
            let line = match verdict {
                Verdict::Right | Verdict::Partly => continue,
                Verdict::Otherwise(why) => format!("refused otherwise: {why}"),
                Verdict::Permitted => "accepted, as it may be".to_owned(),
                Verdict::Wrong(why) => format!("wrong: {why}"),
                Verdict::Crashed(why) => format!("crashed: {why}"),
                Verdict::NotExpressible => "not expressible".to_owned(),
            };
            let _ = writeln!(text, "{}: {file}: {line}", self.adapter.name);
        }
        text
    }
}

/// The table of several scores, in Markdown.
pub fn table(scores: &[Score]) -> String {
    let heads: Vec<_> = Group::ALL.iter().map(|group| group.head()).collect();
    let mut text = format!(
        "| parser | {} | crashes | not expressible |\n|---|{}---|---|\n",
        heads.join(" | "),
        "---|".repeat(heads.len())
    );
    for score in scores {
        let cells: Vec<_> = Group::ALL.iter().map(|&group| score.cell(group)).collect();
        let all = |is: fn(&Verdict) -> bool| -> usize {
            Group::ALL.iter().map(|&group| score.count(group, is)).sum()
        };
        let _ = writeln!(
            text,
            "| {} {} | {} | {} | {} |",
            score.adapter.name,
            score.adapter.version,
            cells.join(" | "),
            all(|verdict| matches!(verdict, Verdict::Crashed(_))),
            all(|verdict| *verdict == Verdict::NotExpressible),
        );
    }
    for score in scores {
        let names: Vec<_> = score.adapter.omits.names().collect();
        if !names.is_empty() {
            let _ = write!(
                text,
                "\n{} does not say: {}.\n",
                score.adapter.name,
                names.join(", ")
            );
        }
    }
    text
}
