//! A vendor that behaves as its timeline says.

use std::{collections::VecDeque, time::Duration};

use crate::{Failure, FailureKind, Fault, clock::simulated::Chance, ids::ModelName};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Pieces of an answer come at least so often, if nothing is wrong: within anybody's patience.
const PIECE: Duration = Duration::from_millis(400);

/// Longer than any answer takes after its first content, where a byte is waited for no longer than 12 s.
pub const LONGEST_ANSWER: Duration = Duration::from_secs(16);

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
    /// Every second answer falls silent in its middle, for so long that some of them end of it.
    Stalling,
}

/// What it does with one key, or one account, for a while.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyMood {
    Fine,
    /// 401.
    Rejected,
    /// No credit, which no free request tells.
    Empty,
    /// 429 to one model or to all, with what it asks for.
    Limited {
        model: Option<ModelName>,
        asked: Option<Duration>,
    },
}

impl KeyMood {
    /// What a request with it fails for, if it does.
    fn failure(&self, model: &ModelName) -> Option<Failure> {
        match self {
            Self::Fine => None,
            Self::Rejected => Some(vendor(FailureKind::Authentication)),
            Self::Empty => Some(vendor(FailureKind::QuotaExhausted)),
            Self::Limited { model: Some(limited), .. } if limited != model => None,
            Self::Limited { asked, .. } => {
                let mut failure = vendor(FailureKind::RateLimited);
                failure.retry_after = *asked;
                Some(failure)
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Phase<M = Mood> {
    pub until: Duration,
    pub mood: M,
}

/// What becomes of one request.
pub struct Reply {
    /// Up to the first content, or to the failure.
    pub after: Duration,
    pub outcome: Result<Rest, Failure>,
}

/// An answer after its first content.
pub struct Rest {
    /// How long each piece takes to come; with the last one it ends.
    pub pieces: VecDeque<Duration>,
    pub ends: Result<(), Failure>,
}

/// The phase of this moment, and when it began.
pub fn phase<M>(phases: &[Phase<M>], at: Duration) -> Option<(Duration, &M)> {
    let now = phases.iter().position(|phase| at < phase.until)?;
    let since = now.checked_sub(1).map_or(Duration::ZERO, |before| phases[before].until);
    Some((since, &phases[now].mood))
}

impl Mood {
    /// `keys`: what it does with the key and its account. `timeout`: how long the host waits for a first
    /// byte, and for each further one.
    pub fn reply(
        &self,
        keys: &[KeyMood],
        model: &ModelName,
        timeout: Duration,
        chance: &mut Chance,
    ) -> Reply {
        let quick = MS * 5 + chance.duration(MS * 250);
        let fails = |after, failure| Reply { after, outcome: Err(failure) };
        let of_key = keys.iter().find_map(|mood| mood.failure(model));
        if let Some(failure) = of_key.filter(|_| !matches!(self, Self::Refusing | Self::Silent)) {
            return fails(quick, failure);
        }
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
            Self::Stalling if chance.percent(50) => {
                let silent = SECOND + chance.duration(SECOND * 14);
                let ends = match silent < timeout {
                    true => Ok(()),
                    false => Err(vendor(FailureKind::Timeout)),
                };
                let mut reply = answers(quick, chance, ends);
                if let Ok(rest) = &mut reply.outcome {
                    rest.pieces.push_front(PIECE);
                    rest.pieces.push_back(silent.min(timeout));
                }
                reply
            }
            Self::Flapping | Self::Missing(_) | Self::Picky | Self::Breaking | Self::Stalling => {
                answers(quick, chance, Ok(()))
            }
        }
    }

    /// What a free probe finds.
    pub fn probed(
        &self,
        key: &KeyMood,
        most: Duration,
        chance: &mut Chance,
    ) -> (Duration, Result<(), FailureKind>) {
        let quick = MS * 5 + chance.duration(MS * 250);
        match self {
            Self::Refusing => (MS, Err(FailureKind::Unavailable)),
            Self::Silent => (most, Err(FailureKind::Timeout)),
            _ if *key == KeyMood::Rejected => (quick, Err(FailureKind::Authentication)),
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
    let takes = chance.duration(SECOND * 3);
    let pieces = takes.as_millis() / PIECE.as_millis() + 1;
    let pieces = (0..pieces).map(|_| takes / pieces as u32).collect();
    Reply { after, outcome: Ok(Rest { pieces, ends }) }
}

fn vendor(kind: FailureKind) -> Failure {
    Failure::new(kind, Fault::Vendor, "simulated")
}

fn unreached() -> Failure {
    let mut failure = Failure::new(FailureKind::Unavailable, Fault::Transport, "simulated");
    failure.code = Some("connect_failed".into());
    failure
}
