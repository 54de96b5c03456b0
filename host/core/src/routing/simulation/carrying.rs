//! One request on its way, as the gateway carries it: its attempts, its answer, and what it does when
//! that breaks.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use keyward_contract::OperationKind;

use super::{Simulated, World, referee::Attempt, referee::place, schedule::Request, vendor::Rest};
use crate::{
    Failure, FailureKind,
    clock::Clock,
    health::{Backoff, Took},
    metering::Tokens,
    routing::{
        Ask, Candidate, Decision, Needs, Sensitive,
        carry::{Asked, Carried, Carrier, Carry, Stop, silent},
        leave::{Asking, Leave, stopped},
    },
};

/// As in the gateway: so much of a continuation is held back.
const LOOKED_AT: Duration = Duration::from_millis(300);

/// One request, or what is left of it, on its way.
struct Carrying {
    world: Arc<World>,
    id: usize,
    request: Request,
    sensitive: bool,
    deadline: Instant,
    /// So much of the answer's beginning is held back.
    hold: Duration,
    /// So many of its attempts sleep at a gate.
    queues: AtomicUsize,
}

/// An answer that has begun.
struct Begun {
    sent: Sent,
    leave: Leave,
    rest: Rest,
}

/// Something sent, until nothing of it is left.
struct Sent {
    world: Arc<World>,
    send: usize,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.world.referee().closed(self.send, self.world.now());
    }
}

/// As the gateway's attempt of which its caller sees nothing yet: dropped, it has failed if it is
/// judged so.
struct Awaited<'a> {
    world: &'a Arc<World>,
    send: usize,
    leave: Option<Leave>,
    silent: Arc<AtomicBool>,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let now = self.world.now();
        let Some(mut leave) = self.leave.take() else { return };
        if !self.silent.load(Ordering::Relaxed) {
            return;
        }
        let failure = silent(leave.provider());
        self.world.referee().failed(self.send, &failure, false, now);
        leave.failed(&failure, now);
        leave.settle(Tokens(0));
    }
}

impl Awaited<'_> {
    /// Content came.
    fn hears(&mut self, asked: &Asked, took: Took) {
        let now = self.world.now();
        asked.hears(now);
        self.world.referee().heard(self.send, now);
        if let Some(leave) = &mut self.leave {
            leave.began(took, now);
        }
    }
}

impl Clock for Carrying {
    fn now(&self) -> Instant {
        self.world.now()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        if self.queues.load(Ordering::Relaxed) == 0 {
            self.world.referee().pauses(self.id, time);
        }
        self.world.clock.sleep(time)
    }
}

impl Carrier for Carrying {
    type Answer = Begun;

    async fn attempt(&self, candidate: &Candidate, asked: &Asked) -> Result<Begun, Stop> {
        let world = &self.world;
        let at = place(&candidate.provider);
        let simulated = &world.providers[at];
        let Simulated { plan, gate, .. } = simulated;
        if asked.keys == 0 {
            world.referee().asks(self.id, &candidate.provider, self.now());
        }
        let leave = self.leave(candidate, simulated).await?;
        let (now, key) = (self.now(), leave.key().index());
        let send = {
            let mut referee = world.referee();
            let number = asked.sends();
            asked.opened(now);
            let model = candidate.model.clone();
            let attempt = Attempt { request: self.id, provider: at, model, key };
            referee.sent(attempt, number, asked.keys, now)
        };
        let sent = Sent { world: Arc::clone(world), send };
        world.referee().queued(&candidate.provider, gate.status(now).waiting);
        let reply = {
            let referee = world.referee();
            let (mood, keys) = (referee.mood(at, now), referee.key_moods(at, key, now));
            mood.reply(&keys, &candidate.model, plan.timeout, &mut world.chance())
        };
        let mut awaited = Awaited { world, send, leave: Some(leave), silent: asked.verdict() };
        world.clock.sleep(reply.after).await;
        let mut answer = reply.outcome;
        if let Ok(rest) = &mut answer
            && let Err(failure) = self.begin(rest, &mut awaited, asked, reply.after).await
        {
            answer = Err(failure);
        }
        let mut leave = awaited.leave.take().expect("only its end takes it");
        match answer {
            Ok(rest) => Ok(Begun { sent, leave, rest }),
            Err(failure) => {
                let now = self.now();
                world.referee().failed(send, &failure, false, now);
                leave.failed(&failure, now);
                leave.settle(Tokens(0));
                let (model, health) = (&candidate.model, &world.health);
                Err(stopped(failure, simulated, model, health, asked.keys, now))
            }
        }
    }

    fn backoff(&self, rounds: u32) -> Duration {
        Backoff::default().delay(rounds + 1, None, self.world.chance().draw())
    }

    fn may_hedge(&self) -> bool {
        true
    }
}

impl Carrying {
    async fn leave(&self, candidate: &Candidate, simulated: &Simulated) -> Result<Leave, Stop> {
        let Simulated { plan, gate, .. } = simulated;
        let world = &self.world;
        let came = self.now();
        let longest = gate.status(came).limits.wait;
        let longest = longest.min(self.deadline.saturating_duration_since(came));
        let asking = Asking {
            candidate,
            kind: plan.kind,
            sensitive: self.sensitive,
            caller: &self.request.caller,
            tokens: Tokens(self.request.tokens),
            deadline: self.deadline,
        };
        self.queues.fetch_add(1, Ordering::Relaxed);
        world.referee().waits(self.id);
        let leave = Leave::with_a_key(&asking, simulated, &world.health, gate, self).await;
        self.queues.fetch_sub(1, Ordering::Relaxed);
        let now = self.now();
        let mut referee = world.referee();
        referee.waited(self.id, came, now, longest);
        if let Err(Stop::Resting(_)) = &leave {
            referee.refused(self.id, place(&candidate.provider), &candidate.model, now);
        }
        leave
    }

    /// From the first content on: what its caller sees first, as the gateway's `begin`. What was asked for
    /// as a whole comes all at once.
    async fn begin(
        &self,
        rest: &mut Rest,
        awaited: &mut Awaited<'_>,
        asked: &Asked,
        after: Duration,
    ) -> Result<(), Failure> {
        let (world, streamed) = (&self.world, self.request.streamed);
        if !streamed && asked.patience.is_none() {
            let takes = rest.pieces.drain(..).sum();
            world.clock.sleep(takes).await;
            mem::replace(&mut rest.ends, Ok(()))?;
            awaited.hears(asked, Took::Whole(after + takes));
            return Ok(());
        }
        let until = self.now() + self.hold;
        loop {
            awaited.hears(asked, Took::First(after));
            if streamed && self.now() >= until {
                return Ok(());
            }
            let Some(takes) = rest.pieces.pop_front() else { return Ok(()) };
            world.clock.sleep(takes).await;
            if rest.pieces.is_empty() {
                return mem::replace(&mut rest.ends, Ok(()));
            }
        }
    }
}

impl Begun {
    /// The rest of the answer, up to its end.
    async fn finish(self, world: &World, tokens: u64) -> Result<(), Failure> {
        let Self { sent, mut leave, rest } = self;
        world.clock.sleep(rest.pieces.iter().sum()).await;
        match &rest.ends {
            Ok(()) => leave.settle(Tokens(tokens + 500)),
            Err(failure) => {
                let now = world.now();
                world.referee().failed(sent.send, failure, true, now);
                leave.failed(failure, now);
            }
        }
        rest.ends
    }
}

/// As [`Gateway::chat`](crate::gateway::Gateway::chat), up to the last word of the answer.
pub async fn ask(world: Arc<World>, id: usize, request: Request) {
    let asked = Ask {
        model: request.model.clone(),
        operation: OperationKind::Chat,
        needs: Needs::default(),
        tokens: Tokens(request.tokens),
        max_output: None,
        sensitive: request.sensitive.then_some(Sensitive::Marked),
        told: Vec::new(),
    };
    let mut decision = world.roster.decide(&asked, &*world);
    world.referee().came(id, &decision, world.now());
    let mut made = 0;
    // More than one part where it breaks off and somebody else goes on, as the gateway's relay.
    let failure = loop {
        let carried = carry(&world, id, &request, &decision, made).await;
        let (begun, candidate) = match carried.answer {
            Ok(answer) => answer,
            Err(failure) => break Some(failure),
        };
        made += carried.attempts;
        let Err(failure) = begun.finish(&world, request.tokens).await else { break None };
        let goes_on = request.streamed && request.continues && failure.kind.may_go_elsewhere();
        if !goes_on || made >= request.budget.attempts {
            break Some(failure);
        }
        decision = world.roster.decide(&asked, &*world);
        decision.put_last(&candidate.provider, &candidate.model);
        world.referee().goes_on(id, &decision, &candidate, world.now());
    };
    world.referee().over(id, failure.map(|failure| failure.kind), world.now());
}

/// As the gateway carries a decision out, after so many attempts for the beginning of its answer.
async fn carry(
    world: &Arc<World>,
    id: usize,
    request: &Request,
    decision: &Decision,
    made: u32,
) -> Carried<Begun> {
    let began = world.now();
    let whole = request.budget.clone();
    let budget = if made > 0 { whole.after(made) } else { whole };
    let carrying = Carrying {
        id,
        sensitive: decision.sensitive.is_some(),
        deadline: began + budget.time,
        hold: if made > 0 { LOOKED_AT } else { request.hold },
        request: request.clone(),
        queues: AtomicUsize::new(0),
        world: Arc::clone(world),
    };
    let mut carry = Carry::new(decision, &budget, request.is_watched(), began);
    let carried = carry.run(&carrying).await;
    let failure: Option<FailureKind> = carried.answer.as_ref().err().map(|failure| failure.kind);
    world.referee().carried(id, carried.attempts, failure, world.now());
    carried
}
