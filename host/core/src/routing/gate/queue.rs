//! Who waits, in a fair order: callers take turns, and each caller's own wait in the order they
//! came.
//!
//! A caller that begins to wait gets its turn after all who wait already; one that was served goes
//! to the end. So a thousand waiting requests of one caller delay another's single one by one turn.
//! A caller that has nobody waiting is not remembered. Everything costs the logarithm of the
//! number of callers, but for [`ahead`](FairQueue::ahead).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

/// The length isn't limited here: the gate looks at [`len`](Self::len) before it adds.
pub(super) struct FairQueue<T> {
    /// By turn, the lowest next. No line is empty.
    lines: BTreeMap<u64, Line<T>>,
    /// Each waiting caller's turn.
    turns: HashMap<Arc<str>, u64>,
    next_turn: u64,
    next_ticket: u64,
    len: usize,
}

struct Line<T> {
    caller: Arc<str>,
    /// Tickets ascend.
    waiting: VecDeque<(Ticket, T)>,
}

/// A place in the queue. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), turns: HashMap::new(), next_turn: 0, next_ticket: 0, len: 0 }
    }
}

impl<T> FairQueue<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn callers(&self) -> usize {
        self.lines.len()
    }

    pub fn push(&mut self, caller: &Arc<str>, item: T) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.len += 1;
        let line = self.turns.get(caller).and_then(|turn| self.lines.get_mut(turn));
        match line {
            Some(line) => line.waiting.push_back((ticket, item)),
            None => self.join(Line {
                caller: Arc::clone(caller),
                waiting: VecDeque::from([(ticket, item)]),
            }),
        }
        ticket
    }

    pub fn first(&self) -> Option<&T> {
        let (_, line) = self.lines.first_key_value()?;
        line.waiting.front().map(|(_, item)| item)
    }

    pub fn first_mut(&mut self) -> Option<&mut T> {
        let line = self.lines.first_entry()?.into_mut();
        line.waiting.front_mut().map(|(_, item)| item)
    }

    /// Takes the first out and puts its caller at the end of the order.
    pub fn pop(&mut self) -> Option<T> {
        let (_, mut line) = self.lines.pop_first()?;
        let (_, item) = line.waiting.pop_front()?;
        self.len -= 1;
        if line.waiting.is_empty() {
            self.turns.remove(&line.caller);
        } else {
            self.join(line);
        }
        Some(item)
    }

    /// Takes out one that no longer waits; its caller's next has the turn instead. `None` if it is
    /// not in the queue any more.
    pub fn remove(&mut self, caller: &Arc<str>, ticket: Ticket) -> Option<T> {
        let turn = *self.turns.get(caller)?;
        let line = self.lines.get_mut(&turn)?;
        let index = line.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, item) = line.waiting.remove(index)?;
        self.len -= 1;
        if line.waiting.is_empty() {
            self.lines.remove(&turn);
            self.turns.remove(caller);
        }
        Some(item)
    }

    /// All who will be served before one that `caller` would add now, in that order. Costs their
    /// number.
    pub fn ahead(&self, caller: &Arc<str>) -> Vec<&T> {
        let turn = self.turns.get(caller);
        let own = turn.and_then(|turn| self.lines.get(turn)).map_or(0, |line| line.waiting.len());
        let mut ahead = Vec::with_capacity(self.len);
        let mut lines: Vec<(&u64, &Line<T>)> = self.lines.iter().collect();
        for round in 0..=own {
            lines.retain(|(_, line)| round < line.waiting.len());
            // Who is before this caller in the order has one turn more.
            let served =
                lines.iter().filter(|(other, _)| round < own || turn.is_none_or(|t| *other < t));
            ahead.extend(served.map(|(_, line)| &line.waiting[round].1));
        }
        ahead
    }

    fn join(&mut self, line: Line<T>) {
        self.turns.insert(Arc::clone(&line.caller), self.next_turn);
        self.lines.insert(self.next_turn, line);
        self.next_turn += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(callers: &str) -> FairQueue<String> {
        let mut queue = FairQueue::default();
        for (number, caller) in callers.chars().enumerate() {
            add(&mut queue, caller, number);
        }
        queue
    }

    fn add(queue: &mut FairQueue<String>, caller: char, number: usize) -> Ticket {
        queue.push(&name(caller), format!("{caller}{number}"))
    }

    fn name(caller: char) -> Arc<str> {
        caller.to_string().into()
    }

    fn drain(queue: &mut FairQueue<String>) -> String {
        std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn callers_take_turns_and_each_is_served_in_its_own_order() {
        assert_eq!(drain(&mut queue("aaabbca")), "a0 b3 c5 a1 b4 a2 a6");
    }

    #[test]
    fn a_caller_that_comes_late_is_served_after_one_turn_of_the_others() {
        let mut queue = queue("aaaa");
        assert_eq!(queue.pop().as_deref(), Some("a0"));
        add(&mut queue, 'b', 9);
        assert_eq!(drain(&mut queue), "a1 b9 a2 a3");
    }

    #[test]
    fn who_leaves_passes_its_turn_to_its_callers_next() {
        let mut queue = queue("ab");
        let second = add(&mut queue, 'a', 2);
        add(&mut queue, 'a', 3);
        let first = Ticket(0);
        assert_eq!(queue.remove(&name('a'), first).as_deref(), Some("a0"));
        assert_eq!(queue.remove(&name('a'), first), None, "a ticket is good once");
        assert_eq!(queue.remove(&name('b'), second), None, "and for its caller");
        assert_eq!(queue.remove(&name('a'), second).as_deref(), Some("a2"));
        assert_eq!(drain(&mut queue), "a3 b1");
    }

    #[test]
    fn a_caller_with_nobody_waiting_is_forgotten() {
        let mut queue = queue("abcab");
        queue.remove(&name('c'), Ticket(2));
        assert_eq!((queue.len(), queue.callers(), queue.turns.len()), (4, 2, 2));
        drain(&mut queue);
        assert_eq!((queue.len(), queue.lines.len(), queue.turns.len()), (0, 0, 0));
    }

    #[test]
    fn those_ahead_are_exactly_those_who_are_served_before_in_their_order() {
        for callers in ["", "a", "b", "aab", "bbbba", "bbaacca", "abcabcabc", "ccccbbbaac"] {
            for caller in ['a', 'b', 'c', 'd'] {
                let mut queue = queue(callers);
                let ahead: Vec<String> = queue.ahead(&name(caller)).into_iter().cloned().collect();
                add(&mut queue, caller, 99);
                let served = std::iter::from_fn(|| queue.pop());
                let before: Vec<String> = served.take_while(|item| !item.ends_with("99")).collect();
                assert_eq!(ahead, before, "{caller} into {callers}");
            }
        }
    }
}
