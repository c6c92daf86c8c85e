//! The order of tasks: those that concern one inode run one after the other, as
//! they came; all others may run at the same time.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::mem;

/// Tasks that have not been carried out, by the inodes that they concern.
///
/// A task concerns one inode or two. It can [begin](Self::begin) when no task
/// that came before it concerns either. Since all tasks come in one order, the
/// first that is not done can always begin: nothing waits in a circle.
///
/// There is no thread in here; who calls it decides when tasks run.
pub(super) struct Order<K, T> {
    runs: Vec<Run<K, T>>,
    free: Vec<usize>,
    /// The last run of each inode that has any.
    last: HashMap<K, usize>,
    ready: VecDeque<usize>,
}

/// Tasks that follow each other on the same inodes: begun together, so that
/// most files take one turn.
struct Run<K, T> {
    tasks: Vec<T>,
    keys: [Option<K>; 2],
    begun: bool,
    /// How many of `keys` still wait for the run before.
    waits: usize,
    /// The next run of each of `keys`.
    next: [Option<usize>; 2],
}

/// Names a run that was begun, until it is done.
#[must_use]
pub(super) struct Begun(usize);

impl<K, T> Default for Order<K, T> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            free: Vec::new(),
            last: HashMap::new(),
            ready: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, T> Order<K, T> {
    /// Adds a task that concerns the inode `key`, and `other` if it is not the
    /// same one.
    pub(super) fn push(&mut self, key: K, other: Option<K>, task: T) {
        let keys = [Some(key), other.filter(|other| *other != key)];
        if let Some(&last) = self.last.get(&key)
            && let Some(run) = self.runs.get_mut(last)
            && !run.begun
            && run.keys == keys
            && run.next == [None; 2]
        {
            run.tasks.push(task);
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
            tasks: vec![task],
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

    /// Takes tasks that can begin: the oldest, or those that follow what was
    /// done last. They have to be carried out in this order, and then
    /// [`done`](Self::done) be called.
    pub(super) fn begin(&mut self) -> Option<(Begun, Vec<T>)> {
        let number = self.ready.pop_front()?;
        let run = self.runs.get_mut(number)?;
        run.begun = true;
        Some((Begun(number), mem::take(&mut run.tasks)))
    }

    /// Tasks that were begun are carried out.
    pub(super) fn done(&mut self, Begun(number): Begun) {
        let Some(run) = self.runs.get_mut(number) else {
            return;
        };
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

    /// How many could begin at once.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether every task is carried out.
    pub(super) fn is_done(&self) -> bool {
        self.last.is_empty()
    }

    /// Takes out every task that has not begun. What is left to begin has no
    /// tasks.
    pub(super) fn discard(&mut self) -> Vec<T> {
        let tasks = self.runs.iter_mut().map(|run| mem::take(&mut run.tasks));
        tasks.flatten().collect()
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
        at_work: Vec<(Begun, Vec<usize>)>,
        finished: Vec<usize>,
    }

    /// What can be done next.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push,
        Begin,
        Done(usize),
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
            let begin = (self.order.ready() > 0).then_some(Step::Begin);
            let done = (0..self.at_work.len()).map(Step::Done);
            push.into_iter().chain(begin).chain(done).collect()
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Push => {
                    let (inode, other) = self.program[self.pushed];
                    self.order.push(inode, other, self.pushed);
                    self.pushed += 1;
                }
                Step::Begin => {
                    let begun = self.order.begin().unwrap();
                    let others = self.at_work.iter().flat_map(|(_, tasks)| tasks);
                    let busy: BTreeSet<u8> = others
                        .flat_map(|task| inodes(self.program[*task]))
                        .collect();
                    for task in &begun.1 {
                        assert!(busy.is_disjoint(&inodes(self.program[*task])));
                    }
                    self.at_work.push(begun);
                }
                Step::Done(index) => {
                    let (begun, tasks) = self.at_work.remove(index);
                    self.finished.extend(tasks);
                    self.order.done(begun);
                }
            }
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
                    schedules += explore(&vec![a, b, c, a], &mut Vec::new());
                }
            }
        }
        assert!(schedules > 500, "{schedules}");
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

    #[test]
    fn tasks_on_one_inode_begin_together() {
        let mut order = Order::default();
        for task in 0..3 {
            order.push(1, None, task);
        }
        order.push(2, None, 3);
        let (first, tasks) = order.begin().unwrap();
        assert_eq!(tasks, [0, 1, 2]);
        // What comes while these are carried out waits for them.
        order.push(1, None, 4);
        assert_eq!(order.ready(), 1);
        order.done(first);
        let (_, tasks) = order.begin().unwrap();
        assert_eq!(tasks, [4]);
    }

    #[test]
    fn what_is_discarded_leaves_nothing_to_do() {
        let mut order = Order::default();
        order.push(1, None, 0);
        let (first, _) = order.begin().unwrap();
        order.push(1, Some(2), 1);
        order.push(2, None, 2);
        assert_eq!(order.discard().len(), 2);
        order.done(first);
        while let Some((begun, tasks)) = order.begin() {
            assert!(tasks.is_empty());
            order.done(begun);
        }
        assert!(order.is_done());
    }
}
