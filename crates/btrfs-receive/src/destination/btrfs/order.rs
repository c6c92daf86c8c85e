//! The order of tasks: those that concern one inode run one after the other, as
//! they came; all others may run at the same time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::mem;

/// Tasks begun together at most by a thread that is alone: it learns only
/// between them that they are to be dropped.
const MOST_ALONE: usize = 256;

/// Tasks that have not been carried out, by the inodes that they concern.
///
/// A task concerns one inode or two. It can [begin](Self::begin) when no task
/// that came before it concerns either. Since all tasks come in one order, the
/// first that is not done can always begin: nothing waits in a circle.
///
/// One thread alone needs no order but that in which tasks came, and
/// [takes](Self::begin_alone) them as they are: they are sorted by inodes only
/// when another thread is to carry some of them out.
///
/// There is no thread in here; who calls it decides when tasks run.
pub(super) struct Order<K, T> {
    /// Not sorted yet.
    came: VecDeque<Entry<K, T>>,
    /// Tasks of one thread alone are under way.
    alone: bool,
    runs: Vec<Run<K, T>>,
    free: Vec<usize>,
    /// The last run of each inode that has any.
    last: HashMap<K, usize>,
    ready: VecDeque<usize>,
}

/// A task, and the inodes that it concerns: `other` is one more, if there is one.
pub(super) struct Entry<K, T> {
    pub(super) key: K,
    pub(super) other: Option<K>,
    pub(super) task: T,
}

/// Tasks that follow each other on the same inodes: begun together, so that
/// most files take one turn.
struct Run<K, T> {
    tasks: Vec<Entry<K, T>>,
    keys: [Option<K>; 2],
    begun: bool,
    /// How many of `keys` still wait for the run before.
    waits: usize,
    /// The next run of each of `keys`.
    next: [Option<usize>; 2],
}

/// Names tasks that were begun, until they are done.
#[must_use]
pub(super) enum Begun {
    Run(usize),
    Alone,
}

impl<K, T> Default for Order<K, T> {
    fn default() -> Self {
        Self {
            came: VecDeque::new(),
            alone: false,
            runs: Vec::new(),
            free: Vec::new(),
            last: HashMap::new(),
            ready: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, T> Order<K, T> {
    /// Adds a task.
    pub(super) fn push(&mut self, entry: Entry<K, T>) {
        self.came.push_back(entry);
    }

    /// Takes tasks that can begin: the oldest, or those that follow what was
    /// done last. They have to be carried out in this order, and then
    /// [`done`](Self::done) be called.
    pub(super) fn begin(&mut self) -> Option<(Begun, Vec<Entry<K, T>>)> {
        if self.alone {
            return None;
        }
        while let Some(entry) = self.came.pop_front() {
            self.sort(entry);
        }
        self.begin_run()
    }

    /// The same for a thread that is to carry out all tasks: takes the oldest,
    /// whatever they concern, once those that were sorted are done.
    pub(super) fn begin_alone(&mut self) -> Option<(Begun, Vec<Entry<K, T>>)> {
        if !self.last.is_empty() {
            return self.begin_run();
        }
        if self.alone || self.came.is_empty() {
            return None;
        }
        self.alone = true;
        let count = self.came.len().min(MOST_ALONE);
        Some((Begun::Alone, self.came.drain(..count).collect()))
    }

    fn begin_run(&mut self) -> Option<(Begun, Vec<Entry<K, T>>)> {
        let number = self.ready.pop_front()?;
        let run = self.runs.get_mut(number)?;
        run.begun = true;
        Some((Begun::Run(number), mem::take(&mut run.tasks)))
    }

    /// Finds the run for a task.
    fn sort(&mut self, entry: Entry<K, T>) {
        let Entry { key, other, .. } = entry;
        let keys = [Some(key), other.filter(|other| *other != key)];
        if let Some(&last) = self.last.get(&key)
            && let Some(run) = self.runs.get_mut(last)
            && !run.begun
            && run.keys == keys
            && run.next == [None; 2]
        {
            run.tasks.push(entry);
            return;
        }
        let number = self.free.pop().unwrap_or(self.runs.len());
        let mut waits = 0;
        for key in keys.into_iter().flatten() {
            let before = self.last.insert(key, number);
            if let Some(before) = before.and_then(|before| self.runs.get_mut(before)) {
                waits += 1;
                let slots = before.keys.iter().zip(&mut before.next);
                for (_, next) in slots.filter(|(its, _)| **its == Some(key)) {
                    *next = Some(number);
                }
            }
        }
        let run = Run {
            tasks: vec![entry],
            keys,
            begun: false,
            waits,
            next: [None; 2],
        };
        match self.runs.get_mut(number) {
            Some(slot) => *slot = run,
            None => self.runs.push(run),
        }
        if waits == 0 {
            self.ready.push_back(number);
        }
    }

    /// Tasks that were begun are carried out, but for the last ones if `rest`
    /// has any: these come before all that were not begun.
    pub(super) fn done(&mut self, begun: Begun, rest: Vec<Entry<K, T>>) {
        let number = match begun {
            Begun::Run(number) => number,
            Begun::Alone => {
                self.alone = false;
                for entry in rest.into_iter().rev() {
                    self.came.push_front(entry);
                }
                return;
            }
        };
        let Some(run) = self.runs.get_mut(number) else {
            return;
        };
        if !rest.is_empty() {
            run.tasks = rest;
            run.begun = false;
            self.ready.push_front(number);
            return;
        }
        for (key, next) in mem::take(&mut run.keys).into_iter().zip(run.next) {
            match (key, next.and_then(|next| self.runs.get_mut(next))) {
                (None, _) => {}
                (Some(key), None) => {
                    self.last.remove(&key);
                }
                (Some(_), Some(run)) => {
                    run.waits -= 1;
                    if run.waits == 0 {
                        // First, while the inode is in the cache of whoever
                        // calls this and then begins the next.
                        self.ready.extend(next);
                        self.ready.rotate_right(1);
                    }
                }
            }
        }
        self.free.push(number);
    }

    /// How many could begin at once, at least: some of those that came and are
    /// not sorted may concern the same inode.
    pub(super) fn ready(&self) -> usize {
        self.ready.len() + self.came.len()
    }

    /// Whether every task is carried out.
    pub(super) fn is_done(&self) -> bool {
        !self.alone && self.came.is_empty() && self.last.is_empty()
    }

    /// Takes out every task that has not begun. What is left to begin has no
    /// tasks.
    pub(super) fn discard(&mut self) -> Vec<Entry<K, T>> {
        let tasks = self.runs.iter_mut().map(|run| mem::take(&mut run.tasks));
        tasks.flatten().chain(self.came.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Tasks, each with the one or two inodes that it concerns.
    type Program = Vec<(u8, Option<u8>)>;

    fn inodes((inode, other): (u8, Option<u8>)) -> BTreeSet<u8> {
        [Some(inode), other].into_iter().flatten().collect()
    }

    /// A schedule, one step after the other.
    struct Walk<'a> {
        program: &'a Program,
        order: Order<u8, usize>,
        pushed: usize,
        at_work: Vec<(Begun, Vec<Entry<u8, usize>>)>,
        finished: Vec<usize>,
    }

    /// What can be done next.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push,
        Begin,
        /// Only while nobody else is at work.
        BeginAlone,
        Done(usize),
        /// All but the first are given back.
        First(usize),
    }

    impl<'a> Walk<'a> {
        fn new(program: &'a Program) -> Self {
            Self {
                program,
                order: Order::default(),
                pushed: 0,
                at_work: Vec::new(),
                finished: Vec::new(),
            }
        }

        fn steps(&self) -> Vec<Step> {
            let push = (self.pushed < self.program.len()).then_some(Step::Push);
            let waits = self.order.ready() > 0 && !self.order.alone;
            let begin = waits.then_some(Step::Begin);
            let alone = (waits && self.at_work.is_empty()).then_some(Step::BeginAlone);
            let done = (0..self.at_work.len()).map(Step::Done);
            let first = self.at_work.iter().enumerate();
            let first = first.filter(|(_, (_, tasks))| tasks.len() > 1);
            let first = first.map(|(index, _)| Step::First(index));
            (push.into_iter().chain(begin).chain(alone))
                .chain(done)
                .chain(first)
                .collect()
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Push => {
                    let (key, other) = self.program[self.pushed];
                    let task = self.pushed;
                    self.order.push(Entry { key, other, task });
                    self.pushed += 1;
                }
                Step::Begin => {
                    // Tasks that came may concern what is at work.
                    let Some(begun) = self.order.begin() else {
                        assert!(!self.at_work.is_empty());
                        return;
                    };
                    let others = self.at_work.iter().flat_map(|(_, tasks)| tasks);
                    let busy: BTreeSet<u8> = others
                        .flat_map(|entry| inodes(self.program[entry.task]))
                        .collect();
                    for entry in &begun.1 {
                        assert!(busy.is_disjoint(&inodes(self.program[entry.task])));
                    }
                    self.at_work.push(begun);
                }
                Step::BeginAlone => {
                    let begun = self.order.begin_alone().unwrap();
                    self.at_work.push(begun);
                }
                Step::Done(index) => self.finish(index, usize::MAX),
                Step::First(index) => self.finish(index, 1),
            }
        }

        /// Tasks are carried out, so many of those that were begun together.
        fn finish(&mut self, index: usize, count: usize) {
            let (begun, mut tasks) = self.at_work.remove(index);
            let rest = tasks.split_off(count.min(tasks.len()));
            self.finished.extend(tasks.iter().map(|entry| entry.task));
            self.order.done(begun, rest);
        }

        /// Everything was done, once, and for each inode in order.
        fn check(&self) {
            assert!(self.order.is_done());
            let all: BTreeSet<_> = self.finished.iter().collect();
            assert_eq!(all.len(), self.program.len());
            assert_eq!(self.finished.len(), self.program.len());
            for inode in 0..=u8::MAX {
                let concern = |task: &&usize| inodes(self.program[**task]).contains(&inode);
                assert!(self.finished.iter().filter(concern).is_sorted());
            }
        }
    }

    /// Every schedule that begins with these choices.
    fn explore(program: &Program, choices: &mut Vec<usize>) -> usize {
        let mut walk = Walk::new(program);
        for choice in choices.iter() {
            let step = walk.steps()[*choice];
            walk.take(step);
        }
        let steps = walk.steps().len();
        if steps == 0 {
            walk.check();
            return 1;
        }
        let mut schedules = 0;
        for choice in 0..steps {
            choices.push(choice);
            schedules += explore(program, choices);
            choices.pop();
        }
        schedules
    }

    #[test]
    fn every_schedule_of_a_few_tasks_keeps_the_order() {
        let tasks = [(0, None), (1, None), (0, Some(1))];
        let mut schedules = 0;
        for a in tasks {
            for b in tasks {
                for c in tasks {
                    schedules += explore(&vec![a, b, c], &mut Vec::new());
                }
            }
        }
        let program = vec![(0, Some(1)), (1, None), (0, None), (1, Some(2))];
        schedules += explore(&program, &mut Vec::new());
        assert!(schedules > 2000, "{schedules}");
    }

    proptest! {
        #[test]
        fn any_schedule_keeps_the_order(
            program in prop::collection::vec((0..6_u8, prop::option::of(0..6_u8)), 0..60),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let mut walk = Walk::new(&program);
            let mut choices = choices.iter().cycle();
            loop {
                let steps = walk.steps();
                let Some(choice) = choices.next().filter(|_| !steps.is_empty()) else {
                    break;
                };
                walk.take(*choice.get(&steps));
            }
            walk.check();
        }
    }

    fn entry(key: u8, other: Option<u8>, task: usize) -> Entry<u8, usize> {
        Entry { key, other, task }
    }

    fn tasks(entries: &[Entry<u8, usize>]) -> Vec<usize> {
        entries.iter().map(|entry| entry.task).collect()
    }

    #[test]
    fn tasks_on_one_inode_begin_together() {
        let mut order = Order::default();
        for task in 0..3 {
            order.push(entry(1, None, task));
        }
        order.push(entry(2, None, 3));
        let (first, begun) = order.begin().unwrap();
        assert_eq!(tasks(&begun), [0, 1, 2]);
        // What comes while these are carried out waits for them.
        order.push(entry(1, None, 4));
        let (second, begun) = order.begin().unwrap();
        assert_eq!(tasks(&begun), [3]);
        assert!(order.begin().is_none());
        order.done(first, Vec::new());
        let (third, begun) = order.begin().unwrap();
        assert_eq!(tasks(&begun), [4]);
        order.done(second, Vec::new());
        order.done(third, Vec::new());
        assert!(order.is_done());
    }

    #[test]
    fn one_alone_takes_tasks_as_they_came() {
        let mut order = Order::default();
        for (task, key) in [1, 2, 1, 3].into_iter().enumerate() {
            order.push(entry(key, None, task));
        }
        let (alone, mut begun) = order.begin_alone().unwrap();
        assert_eq!(tasks(&begun), [0, 1, 2, 3]);
        order.push(entry(1, None, 4));
        // Another has to wait: it cannot know what is under way.
        assert!(order.begin().is_none() && order.begin_alone().is_none());
        let rest = begun.split_off(1);
        order.done(alone, rest);
        let (one, begun) = order.begin().unwrap();
        assert_eq!(tasks(&begun), [1]);
        let (other, begun) = order.begin().unwrap();
        assert_eq!(tasks(&begun), [2, 4]);
        order.done(one, Vec::new());
        order.done(other, Vec::new());
        // What was sorted is carried out first.
        order.push(entry(1, None, 5));
        let (last, begun) = order.begin_alone().unwrap();
        assert_eq!(tasks(&begun), [3]);
        order.done(last, Vec::new());
        let (last, begun) = order.begin_alone().unwrap();
        assert_eq!(tasks(&begun), [5]);
        order.done(last, Vec::new());
        assert!(order.is_done());
    }

    #[test]
    fn what_is_discarded_leaves_nothing_to_do() {
        let mut order = Order::default();
        order.push(entry(1, None, 0));
        let (first, _) = order.begin().unwrap();
        order.push(entry(1, Some(2), 1));
        order.push(entry(2, None, 2));
        assert!(order.begin().is_none());
        order.push(entry(3, None, 3));
        assert_eq!(order.discard().len(), 3);
        order.done(first, Vec::new());
        while let Some((begun, tasks)) = order.begin() {
            assert!(tasks.is_empty());
            order.done(begun, Vec::new());
        }
        assert!(order.is_done());
    }
}
