//! A vendor that behaves as its timeline says.

use std::time::Duration;

use crate::{Failure, FailureKind, Fault, clock::simulated::Chance, ids::ModelName};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a vendor does for a while.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    Fine,
    /// Connections are refused at once.
    Refusing,
    /// Takes everything and says nothing.
    Silent,
    /// Answers, after seconds.
    Slow,
    /// 429 to everything, with what it asks for.
    Limited(Option<Duration>),
    Failing(FailureKind),
    /// Every second request fails, by chance.
    Flapping,
    /// Fails for what people must put right: the key, the credit.
    Dead(FailureKind),
    /// It has lost this model.
    Missing(ModelName),
    /// Says that the request is at fault, in two ways by chance.
    Picky,
    /// Every second answer breaks off after its beginning.
    Breaking,
}

#[derive(Clone, Debug)]
pub struct Phase {
    pub until: Duration,
    pub mood: Mood,
}

/// What becomes of one request.
pub struct Reply {
    /// Up to the first content, or to the failure.
    pub after: Duration,
    pub outcome: Result<Rest, Failure>,
}

/// An answer after its first content.
pub struct Rest {
    pub takes: Duration,
    pub ends: Result<(), Failure>,
}

pub fn mood(phases: &[Phase], at: Duration) -> &Mood {
    phases.iter().find(|phase| at < phase.until).map_or(&Mood::Fine, |phase| &phase.mood)
}

impl Mood {
    /// `timeout`: how long the host waits for a first byte.
    pub fn reply(&self, model: &ModelName, timeout: Duration, chance: &mut Chance) -> Reply {
        let quick = MS * 5 + chance.duration(MS * 250);
        let fails = |after, failure| Reply { after, outcome: Err(failure) };
        match self {
            Self::Fine => answers(quick, chance, Ok(())),
            Self::Refusing => fails(MS, unreached()),
            Self::Silent => fails(timeout, vendor(FailureKind::Timeout)),
            Self::Slow => {
                let after = SECOND + chance.duration(SECOND * 14);
                if after < timeout {
                    answers(after, chance, Ok(()))
                } else {
                    fails(timeout, vendor(FailureKind::Timeout))
                }
            }
            Self::Limited(asked) => {
                let mut failure = vendor(FailureKind::RateLimited);
                failure.retry_after = *asked;
                fails(quick, failure)
            }
            Self::Failing(kind) | Self::Dead(kind) => fails(quick, vendor(*kind)),
            Self::Flapping if chance.percent(50) => fails(quick, vendor(FailureKind::Unavailable)),
            Self::Missing(lost) if lost == model => {
                fails(quick, vendor(FailureKind::ModelNotFound))
            }
            Self::Picky if chance.percent(30) => {
                let kind =
                    *chance.pick(&[FailureKind::InvalidRequest, FailureKind::ContextTooLong]);
                fails(quick, Failure::new(kind, Fault::Caller, "simulated"))
            }
            Self::Breaking if chance.percent(50) => {
                answers(quick, chance, Err(vendor(FailureKind::MalformedAnswer)))
            }
            Self::Flapping | Self::Missing(_) | Self::Picky | Self::Breaking => {
                answers(quick, chance, Ok(()))
            }
        }
    }

    /// What a free probe finds.
    pub fn probed(
        &self,
        most: Duration,
        chance: &mut Chance,
    ) -> (Duration, Result<(), FailureKind>) {
        let quick = MS * 5 + chance.duration(MS * 250);
        match self {
            Self::Refusing => (MS, Err(FailureKind::Unavailable)),
            Self::Silent => (most, Err(FailureKind::Timeout)),
            Self::Limited(_) => (quick, Err(FailureKind::RateLimited)),
            Self::Failing(kind) => (quick, Err(*kind)),
            // An empty account still lists its models.
            Self::Dead(FailureKind::Authentication) => (quick, Err(FailureKind::Authentication)),
            Self::Flapping if chance.percent(50) => (quick, Err(FailureKind::Unavailable)),
            Self::Slow => (quick + SECOND, Ok(())),
            _ => (quick, Ok(())),
        }
    }
}

fn answers(after: Duration, chance: &mut Chance, ends: Result<(), Failure>) -> Reply {
    Reply { after, outcome: Ok(Rest { takes: chance.duration(SECOND * 3), ends }) }
}

fn vendor(kind: FailureKind) -> Failure {
    Failure::new(kind, Fault::Vendor, "simulated")
}

fn unreached() -> Failure {
    let mut failure = Failure::new(FailureKind::Unavailable, Fault::Transport, "simulated");
    failure.code = Some("connect_failed".into());
    failure
}
