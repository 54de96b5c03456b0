//! A world with a time of its own, for tests: tasks on one thread, timers that fire in order, and
//! chance from a seed.
//!
//! Time stands still while any task can run, and jumps to the next timer when none can. The same
//! seed gives the same run, to the last poll. [`Simulation::new`] runs tasks in the order in which
//! they were woken, as a plain runtime would; [`Simulation::shuffled`] lets chance choose among
//! those that are ready, which finds what depends on that order.
//!
//! ```ignore
//! let simulation = Simulation::shuffled(seed);
//! let clock = simulation.clock();
//! let task = simulation.spawn(async move { clock.sleep(HOUR).await; 7 });
//! simulation.run();
//! assert_eq!(task.take(), Some(7));
//! ```

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use super::Clock;

/// More polls than this without coming to rest is a loop that time doesn't end.
const MOST_POLLS: u64 = 50_000_000;

/// Cheap to clone, and the same world then: tasks may hold it to spawn others.
#[derive(Clone)]
pub struct Simulation {
    world: Rc<World>,
}

struct World {
    clock: SimulatedClock,
    ready: Arc<Ready>,
    /// `None` while a task is being polled.
    tasks: RefCell<BTreeMap<TaskId, Option<Running>>>,
    next_task: RefCell<TaskId>,
    /// Chooses among the ready ones. `None`: the first.
    shuffle: Option<RefCell<Chance>>,
}

type TaskId = u64;

struct Running {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Arc<TaskWaker>,
}

type Ready = Mutex<Vec<TaskId>>;

struct TaskWaker {
    task: TaskId,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Default for Simulation {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulation {
    /// Tasks run in the order in which they were woken.
    pub fn new() -> Self {
        Self::build(None)
    }

    /// Chance decides which of the ready tasks runs next.
    pub fn shuffled(seed: u64) -> Self {
        Self::build(Some(RefCell::new(Chance::new(seed))))
    }

    fn build(shuffle: Option<RefCell<Chance>>) -> Self {
        let world = World {
            clock: SimulatedClock::new(),
            ready: Arc::default(),
            tasks: RefCell::default(),
            next_task: RefCell::default(),
            shuffle,
        };
        Self { world: Rc::new(world) }
    }

    pub fn clock(&self) -> SimulatedClock {
        self.world.clock.clone()
    }

    /// It runs when the simulation does, whether or not the handle is kept.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let task = {
            let mut next = self.world.next_task.borrow_mut();
            *next += 1;
            *next
        };
        let end = Rc::new(RefCell::new(End { value: None, ended: false, joiner: None }));
        let future = {
            let end = Rc::clone(&end);
            Box::pin(async move {
                let value = future.await;
                let joiner = {
                    let mut end = end.borrow_mut();
                    end.value = Some(value);
                    end.ended = true;
                    end.joiner.take()
                };
                joiner.inspect(Waker::wake_by_ref);
            })
        };
        let waker = Arc::new(TaskWaker {
            task,
            queued: AtomicBool::new(false),
            ready: Arc::clone(&self.world.ready),
        });
        waker.wake_by_ref();
        self.world.tasks.borrow_mut().insert(task, Some(Running { future, waker }));
        Task { simulation: self.clone(), task, end }
    }

    /// Runs what can run now. Time stands still.
    ///
    /// # Panics
    /// If that has no end.
    pub fn run_ready(&self) {
        for _ in 0..MOST_POLLS {
            let Some(task) = self.next_ready() else { return };
            self.poll(task);
        }
        panic!("the simulation doesn't come to rest at {:?}", self.world.clock.elapsed());
    }

    /// Runs until no task can run and no timer is left. Tasks that wait for something that nobody
    /// will do are left over: see [`unfinished`](Self::unfinished).
    pub fn run(&self) {
        self.run_ready();
        while self.step() {}
    }

    /// Moves to the next timer and runs all of that moment, so that whoever looks then sees the
    /// world at rest. `false` if there is none.
    pub fn step(&self) -> bool {
        if !self.world.clock.fire_next(None) {
            return false;
        }
        self.run_ready();
        while self.world.clock.fire_next(Some(self.world.clock.now())) {
            self.run_ready();
        }
        true
    }

    /// The same as [`run`](Self::run), but no further than `time` from now, which it is afterwards.
    pub fn run_for(&self, time: Duration) {
        let end = self.world.clock.now() + time;
        self.run_ready();
        while self.world.clock.fire_next(Some(end)) {
            self.run_ready();
        }
        self.world.clock.jump(end);
    }

    /// Runs until `future` is done.
    ///
    /// # Panics
    /// If it never will be.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let task = self.spawn(future);
        self.run_ready();
        loop {
            if let Some(value) = task.take() {
                return value;
            }
            assert!(self.step(), "it waits for what nobody will do");
        }
    }

    /// How many tasks are neither done nor cancelled.
    pub fn unfinished(&self) -> usize {
        self.world.tasks.borrow().len()
    }

    /// How many sleeps are awaited.
    pub fn timers(&self) -> usize {
        self.world.clock.lock().timers.len()
    }

    fn next_ready(&self) -> Option<TaskId> {
        let mut ready = lock(&self.world.ready);
        if ready.is_empty() {
            return None;
        }
        let chosen = match &self.world.shuffle {
            Some(chance) => chance.borrow_mut().below(ready.len() as u64) as usize,
            None => 0,
        };
        Some(ready.remove(chosen))
    }

    fn poll(&self, task: TaskId) {
        let taken = self.world.tasks.borrow_mut().get_mut(&task).and_then(Option::take);
        // Woken after it ended, or cancelled.
        let Some(mut running) = taken else { return };
        running.waker.queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&running.waker));
        let done = running.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.world.tasks.borrow_mut();
        if done {
            tasks.remove(&task);
        } else if let Some(place) = tasks.get_mut(&task) {
            *place = Some(running);
            return;
        }
        // It may cancel or spawn others while it is dropped.
        drop(tasks);
        drop(running);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push(self.task);
        }
    }
}

/// What a task makes. Awaiting it waits for the end; dropping it lets the task run on.
pub struct Task<T> {
    simulation: Simulation,
    task: TaskId,
    end: Rc<RefCell<End<T>>>,
}

struct End<T> {
    value: Option<T>,
    ended: bool,
    joiner: Option<Waker>,
}

impl<T> Task<T> {
    /// The value, once, if it is done.
    pub fn take(&self) -> Option<T> {
        self.end.borrow_mut().value.take()
    }

    pub fn is_done(&self) -> bool {
        self.end.borrow().ended
    }

    /// Drops its future, as a caller that goes away does. Whoever awaits it waits for ever.
    pub fn cancel(&self) {
        let running = self.simulation.world.tasks.borrow_mut().remove(&self.task);
        // Only now, because it may cancel or spawn others while it is dropped.
        drop(running);
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut end = self.end.borrow_mut();
        match end.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                end.joiner = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The world's time. Its sleeps fire in the order of their times, and those of one time in the
/// order in which they were begun.
#[derive(Clone)]
pub struct SimulatedClock {
    time: Arc<Mutex<Time>>,
}

struct Time {
    start: Instant,
    now: Instant,
    next_timer: u64,
    /// Those that were polled and are not due.
    timers: BTreeMap<(Instant, u64), Waker>,
}

impl SimulatedClock {
    fn new() -> Self {
        let start = Instant::now();
        let time = Time { start, now: start, next_timer: 0, timers: BTreeMap::new() };
        Self { time: Arc::new(Mutex::new(time)) }
    }

    /// Since the beginning of the world.
    pub fn elapsed(&self) -> Duration {
        let time = self.lock();
        time.now - time.start
    }

    /// Goes to the next timer that isn't after `end` and wakes who waits for it.
    fn fire_next(&self, end: Option<Instant>) -> bool {
        let waker = {
            let mut time = self.lock();
            let Some(first) = time.timers.first_entry() else { return false };
            let (at, _) = *first.key();
            if end.is_some_and(|end| at > end) {
                return false;
            }
            let waker = first.remove();
            time.now = time.now.max(at);
            waker
        };
        waker.wake();
        true
    }

    fn jump(&self, to: Instant) {
        let mut time = self.lock();
        time.now = time.now.max(to);
    }

    fn lock(&self) -> MutexGuard<'_, Time> {
        lock(&self.time)
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Instant {
        self.lock().now
    }

    fn sleep(&self, length: Duration) -> impl Future<Output = ()> + Send {
        let mut time = self.lock();
        time.next_timer += 1;
        // A sleep beyond what an `Instant` can hold never ends.
        let key = time.now.checked_add(length).map(|at| (at, time.next_timer));
        Sleep { time: Arc::clone(&self.time), key }
    }
}

struct Sleep {
    time: Arc<Mutex<Time>>,
    key: Option<(Instant, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.key else { return Poll::Pending };
        let mut time = lock(&self.time);
        if key.0 <= time.now {
            return Poll::Ready(());
        }
        let replaced = time.timers.insert(key, context.waker().clone());
        drop(time);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let removed = self.key.and_then(|key| lock(&self.time).timers.remove(&key));
        drop(removed);
    }
}

/// Chance from a seed, the same on every machine. (SplitMix64.)
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another sequence, for a part that must not change when others draw more or less.
    pub fn fork(&mut self) -> Self {
        Self::new(self.draw())
    }

    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`.
    ///
    /// # Panics
    /// If `end` is zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Both ends may come.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn duration(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.between(0, most.as_nanos() as u64))
    }

    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Prints the seed if the test panics while it is held, so that the run can be replayed.
pub struct Seed(pub u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with seed {}", self.0);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn timers_fire_by_time_and_then_in_the_order_they_were_begun() {
        let simulation = Simulation::new();
        let log = Rc::new(RefCell::new(Vec::new()));
        for (name, seconds) in [("c", 3), ("a", 1), ("b", 3), ("d", 3600)] {
            let (clock, log) = (simulation.clock(), Rc::clone(&log));
            simulation.spawn(async move {
                clock.sleep(SECOND * seconds).await;
                log.borrow_mut().push((name, clock.elapsed().as_secs()));
            });
        }
        simulation.run_for(SECOND * 60);
        assert_eq!(simulation.clock().elapsed(), SECOND * 60);
        assert_eq!((simulation.unfinished(), simulation.timers()), (1, 1));
        simulation.run();
        assert_eq!(*log.borrow(), [("a", 1), ("c", 3), ("b", 3), ("d", 3600)]);
        assert_eq!((simulation.unfinished(), simulation.timers()), (0, 0));
    }

    #[test]
    fn a_cancelled_task_is_dropped_with_its_timer() {
        let simulation = Simulation::new();
        let clock = simulation.clock();
        let held = Rc::new(());
        let inner = Rc::clone(&held);
        let task = simulation.spawn(async move {
            clock.sleep(SECOND).await;
            drop(inner);
        });
        simulation.run_ready();
        task.cancel();
        assert_eq!((Rc::strong_count(&held), simulation.timers()), (1, 0));
        simulation.run();
        assert!(!task.is_done());
    }

    #[test]
    fn tasks_spawn_and_join_others() {
        let simulation = Simulation::new();
        let inner = simulation.clone();
        let sum = simulation.block_on(async move {
            let clock = inner.clock();
            let one = inner.spawn(async move {
                clock.sleep(SECOND).await;
                1
            });
            one.await + inner.spawn(async { 2 }).await
        });
        assert_eq!(sum, 3);
    }

    #[test]
    fn a_seed_is_one_order() {
        let order = |seed| {
            let simulation = Simulation::shuffled(seed);
            let log = Rc::new(RefCell::new(Vec::new()));
            for number in 0..20 {
                let log = Rc::clone(&log);
                simulation.spawn(async move { log.borrow_mut().push(number) });
            }
            simulation.run();
            log.take()
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }
}
