//! Leave to send one attempt: the privacy line, health's word, a turn at the provider's gate, and a key.
//!
//! Health is asked twice. Before the queue, so that nobody waits for a provider that is down; and after
//! it, at the last moment before anything is sent, because who waited may find that the provider
//! failed meanwhile, asked to be left alone or was taken out of use. Only then is a place in a
//! probation taken, so that nobody holds it who only waits.
//!
//! What it costs: two looks into health and one at the gate, each some hash look-ups under a lock.

use std::{sync::Arc, time::Instant};

use keyward_contract::ProviderKind;

use super::{
    Candidate,
    carry::Stop,
    gate::{Gate, Pass},
    keyring::{KeyAt, KeyQuotas, Keyed, NoKey},
};
use crate::{
    Failure, FailureKind, Fault,
    clock::Clock,
    health::{Health, Reach, Refused, Ticket, Took, Trouble, Why},
    ids::{ModelName, ProviderName},
    metering::Tokens,
};

/// An attempt that is about to be made.
pub(crate) struct Asking<'a> {
    pub candidate: &'a Candidate,
    /// What the provider is, whatever the decision says.
    pub kind: ProviderKind,
    /// Only local providers may serve it.
    pub sensitive: bool,
    pub caller: &'a Arc<str>,
    pub tokens: Tokens,
    /// No turn is waited for longer than until here.
    pub deadline: Instant,
}

/// What an attempt holds while it is made. Dropped, it says nothing of the provider and gives its
/// places back.
pub(crate) struct Leave {
    key: KeyAt,
    /// Where the provider has several keys.
    quotas: Option<KeyQuotas>,
    pass: Pass,
    health: Health,
    provider: ProviderName,
    model: ModelName,
    /// Handed back when the first content comes, or with the failure before it.
    ticket: Option<Ticket>,
}

impl Leave {
    /// Leave to send one attempt now. Waits for a turn; cancelling that leaves nothing behind.
    ///
    /// # Errors
    /// If nothing may be sent there.
    pub async fn obtain(
        asking: &Asking<'_>,
        health: &Health,
        gate: &Gate,
        clock: &impl Clock,
    ) -> Result<Self, Stop> {
        let Candidate { provider, model, .. } = asking.candidate;
        if asking.sensitive && asking.kind != ProviderKind::Local {
            let message = format!("'{provider}' is external and the request is sensitive");
            let failure = Failure::new(FailureKind::Permission, Fault::Host, message);
            return Err(Stop::Failed(failure));
        }
        let now = clock.now();
        health.fit(provider, model, now).map_err(|refused| stop(provider, &refused, now))?;
        let turn = gate.enter(clock, asking.caller, asking.tokens.0, asking.deadline).await;
        let mut pass = turn.map_err(|full| Stop::Shut(full.failure(provider)))?;
        let now = clock.now();
        match health.admit(provider, model, now) {
            Ok(ticket) => Ok(Self {
                key: KeyAt::default(),
                quotas: None,
                pass,
                health: health.clone(),
                provider: provider.clone(),
                model: model.clone(),
                ticket: Some(ticket),
            }),
            Err(refused) => {
                pass.refund();
                Err(stop(provider, &refused, now))
            }
        }
    }

    /// As [`Leave::obtain`], with one of the provider's keys.
    ///
    /// # Errors
    /// As [`Leave::obtain`], and if no key may be used.
    pub async fn with_a_key(
        asking: &Asking<'_>,
        keyed: &impl Keyed,
        health: &Health,
        gate: &Gate,
        clock: &impl Clock,
    ) -> Result<Self, Stop> {
        let Candidate { provider, model, .. } = asking.candidate;
        let (keys, has) = (keyed.keyring(), |key| keyed.has_key(key));
        let resting = |none| match none {
            NoKey::Resting { left, limited: true } => Stop::limited(provider, left),
            NoKey::Resting { left, limited: false } => Stop::resting(provider, left),
            NoKey::Nowhere => {
                let advice = keyed.missing_key().unwrap_or_default();
                Stop::Failed(Failure::new(FailureKind::Authentication, Fault::Host, advice))
            }
        };
        // Before the queue, so that nobody waits in vain, and after it.
        keys.has_one(health, model, has, clock.now()).map_err(resting)?;
        let mut leave = Self::obtain(asking, health, gate, clock).await?;
        match keys.choose(health, model, has, clock.now()) {
            Ok(key) => {
                (leave.key, leave.quotas) = (key, keys.quotas(key, model));
                Ok(leave)
            }
            Err(none) => {
                leave.unused();
                Err(resting(none))
            }
        }
    }

    pub fn key(&self) -> KeyAt {
        self.key
    }

    pub fn provider(&self) -> &ProviderName {
        &self.provider
    }

    /// Nothing will be sent after all.
    fn unused(mut self) {
        self.pass.refund();
    }

    /// The first content came.
    pub fn began(&mut self, took: Took, now: Instant) {
        if let Some(ticket) = self.ticket.take() {
            ticket.succeeded(took, now);
            if let Some(quotas) = &self.quotas {
                self.health.served_on(quotas.limit(), now);
            }
        }
    }

    pub fn failed(&mut self, failure: &Failure, now: Instant) {
        let mut trouble = Trouble::from(failure);
        let of_key = self.quotas.as_ref().and_then(|quotas| quotas.concerned(failure.kind));
        if let Some(quota) = of_key {
            trouble.reach = Reach::Key(quota.clone());
        }
        match self.ticket.take() {
            Some(ticket) => ticket.failed(trouble, now),
            None => self.health.broke_off(&self.provider, &self.model, trouble, now),
        }
    }

    /// See [`Pass::settle`].
    pub fn settle(&mut self, tokens: Tokens) {
        self.pass.settle(tokens.0);
    }
}

/// What the failure of an attempt means: what one key can't do another may, if there is one that
/// neither rests nor, where nobody keeps count of that, has had its turn: `asked` before.
pub(crate) fn stopped(
    failure: Failure,
    keyed: &impl Keyed,
    model: &ModelName,
    health: &Health,
    asked: usize,
    now: Instant,
) -> Stop {
    let (keys, has) = (keyed.keyring(), |key| keyed.has_key(key));
    let of_key = keys.quotas(KeyAt::default(), model);
    let another = of_key.is_some_and(|quotas| quotas.concerned(failure.kind).is_some())
        && asked + 1 < keys.keys().filter(|key| has(*key)).count()
        && keys.has_one(health, model, has, now).is_ok();
    if another { Stop::Key(failure) } else { Stop::Failed(failure) }
}

fn stop(provider: &ProviderName, refused: &Refused, now: Instant) -> Stop {
    match refused {
        Refused::Down { until, why: Why::CoolingDown } => {
            Stop::limited(provider, until.saturating_duration_since(now))
        }
        Refused::Down { until, .. } => {
            Stop::resting(provider, until.saturating_duration_since(now))
        }
        // Since the decision was made. When it comes back nobody knows.
        Refused::Disabled { by } => {
            let message = format!("'{provider}' was taken out of use by {by}");
            Stop::Shut(Failure::new(FailureKind::Unavailable, Fault::Host, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::simulated::{SimulatedClock, Simulation, Task},
        health::HealthOptions,
        routing::{Reason, gate::GateLimits, tests},
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// One provider, where one request may be open at a time.
    struct Scene {
        simulation: Simulation,
        clock: SimulatedClock,
        health: Health,
        gate: Gate,
    }

    impl Scene {
        fn new() -> Self {
            let simulation = Simulation::new();
            let limits = GateLimits {
                concurrency: 1,
                requests_per_minute: Some(100),
                tokens_per_minute: None,
                queue: 10,
                wait: 100 * SECOND,
            };
            let health = Health::new(HealthOptions::default(), 1, |_| {});
            Self { clock: simulation.clock(), simulation, health, gate: Gate::new(limits) }
        }

        fn ask(&self) -> Task<Result<Leave, Stop>> {
            self.ask_for(ProviderKind::Local, false)
        }

        fn ask_for(&self, kind: ProviderKind, sensitive: bool) -> Task<Result<Leave, Stop>> {
            let (health, gate, clock) =
                (self.health.clone(), self.gate.clone(), self.clock.clone());
            let task = self.simulation.spawn(async move {
                let candidate = Candidate {
                    provider: tests::provider("p"),
                    model: tests::model("m"),
                    kind: ProviderKind::Local,
                    reason: Reason::Listed,
                    cost: None,
                    latency: None,
                };
                let asking = Asking {
                    candidate: &candidate,
                    kind,
                    sensitive,
                    caller: &"a".into(),
                    tokens: Tokens(1),
                    deadline: clock.now() + 100 * SECOND,
                };
                Leave::obtain(&asking, &health, &gate, &clock).await
            });
            self.simulation.run_ready();
            task
        }

        fn leave(&self) -> Leave {
            self.ask().take().expect("it waits").unwrap_or_else(|_| panic!("it is refused"))
        }

        fn end(&self, leave: Leave) {
            drop(leave);
            self.simulation.run_ready();
        }

        /// A dead key opens the breaker at once.
        fn fail(&self, mut leave: Leave) {
            let failure = Failure::new(FailureKind::Authentication, Fault::Vendor, "no");
            leave.failed(&failure, self.clock.now());
            self.end(leave);
        }
    }

    #[test]
    fn who_waited_is_not_sent_to_a_provider_that_failed_meanwhile() {
        let scene = Scene::new();
        let first = scene.leave();
        let second = scene.ask();
        scene.fail(first);
        assert!(matches!(second.take(), Some(Err(Stop::Resting(_)))));
        let status = scene.gate.status(scene.clock.now());
        assert_eq!((status.open, status.requests_left), (0, Some(99)), "only one was sent");
    }

    #[test]
    fn nobody_waits_for_a_provider_that_is_down() {
        let scene = Scene::new();
        let mut first = scene.leave();
        let failure = Failure::new(FailureKind::Authentication, Fault::Vendor, "no");
        first.failed(&failure, scene.clock.now());
        assert!(matches!(scene.ask().take(), Some(Err(Stop::Resting(_)))), "the gate is full");
    }

    #[test]
    fn who_waits_holds_no_place_in_a_probation() {
        let scene = Scene::new();
        scene.fail(scene.leave());
        scene.simulation.run_for(301 * SECOND);
        let trial = scene.leave();
        scene.health.credential_changed(&tests::provider("p"), scene.clock.now());
        scene.end(trial);
        // The place at the gate is taken, that of the probation isn't.
        let open = scene.gate.clone();
        let clock = scene.clock.clone();
        let other = scene
            .simulation
            .spawn(async move { open.enter(&clock, &"b".into(), 1, clock.now() + SECOND).await });
        scene.simulation.run_ready();
        let waits = scene.ask();
        let name = tests::provider("p");
        let ticket = scene.health.admit(&name, &tests::model("m"), scene.clock.now());
        assert!(ticket.is_ok() && !waits.is_done());
        drop((ticket, other.take()));
        scene.simulation.run_ready();
        assert!(matches!(waits.take(), Some(Ok(_))));
    }

    #[test]
    fn a_provider_that_was_taken_out_is_not_asked_again_and_names_no_time() {
        let scene = Scene::new();
        let first = scene.leave();
        let second = scene.ask();
        scene.health.disable(&tests::provider("p"), "ops", scene.clock.now());
        scene.end(first);
        for refused in [second, scene.ask()] {
            let Some(Err(Stop::Shut(failure))) = refused.take() else { panic!("not shut") };
            assert_eq!(failure.retry_after, None);
        }
    }

    #[test]
    fn a_sensitive_request_gets_no_leave_for_an_external_provider_whatever_was_decided() {
        let scene = Scene::new();
        let refused = scene.ask_for(ProviderKind::External, true).take();
        assert!(matches!(refused, Some(Err(Stop::Failed(_)))));
        assert!(matches!(scene.ask_for(ProviderKind::Local, true).take(), Some(Ok(_))));
    }
}
