//! Takes a credential out of an answer that echoes it in pieces.
//!
//! [`egress`](crate::egress) has searched the vendor's bytes already. A credential that the vendor's
//! protocol cuts, the first half in one event's text and the rest in the next, shows only here,
//! where the pieces stand one after the other as the caller will read them.
//!
//! Held back are at most as many bytes as a credential has, and only where they may begin one; they
//! follow with the next piece, or before whatever else ends the text. Costs a substring search for
//! each piece; nothing where nothing was injected. At most [`MAX_OPEN`] texts are followed at once.

use bytes::Bytes;

use crate::{
    contract::{Event, TextDelta, ToolArguments},
    egress::{Redactor, Secrets},
};

/// Texts that can arrive in turns: the choices of an answer. Of more, those that were quiet longest
/// are let go, held bytes and all.
const MAX_OPEN: usize = 16;

/// Which text a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Text(u32),
    Thinking(u32),
    Refusal(u32),
    Arguments(u32, u32),
}

/// The texts of one answer, as they are written.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    /// In the order of their last pieces.
    open: Vec<(Channel, Redactor)>,
}

impl Echo {
    /// The events without the credentials of `secrets`, in the same order.
    pub fn hide(&mut self, events: Vec<Event>, secrets: &Secrets) -> Vec<Event> {
        if secrets.is_empty() {
            return events;
        }
        let mut shown = Vec::with_capacity(events.len());
        for mut event in events {
            match piece(&mut event) {
                Some((channel, text)) => {
                    let known = self.open.iter().position(|(known, _)| *known == channel);
                    let mut redactor = match known {
                        Some(at) => self.open.remove(at).1,
                        None => Redactor::new(secrets.clone()),
                    };
                    *text = string(redactor.push(Bytes::from(std::mem::take(text))));
                    if !text.is_empty() {
                        shown.push(event);
                    }
                    self.open.push((channel, redactor));
                    if self.open.len() > MAX_OPEN {
                        let (channel, redactor) = self.open.remove(0);
                        shown.extend(rest(channel, redactor));
                    }
                }
                None => {
                    // These stand beside the texts and end none.
                    if !matches!(event, Event::Usage(_) | Event::RateLimit(_)) {
                        shown.append(&mut self.end());
                    }
                    shown.push(event);
                }
            }
        }
        shown
    }

    /// What was held back, once nothing follows.
    pub fn end(&mut self) -> Vec<Event> {
        self.open.drain(..).filter_map(|(channel, redactor)| rest(channel, redactor)).collect()
    }
}

fn piece(event: &mut Event) -> Option<(Channel, &mut String)> {
    Some(match event {
        Event::Text(delta) => (Channel::Text(delta.choice), &mut delta.text),
        Event::Thinking(delta) => (Channel::Thinking(delta.choice), &mut delta.text),
        Event::Refusal(delta) => (Channel::Refusal(delta.choice), &mut delta.text),
        Event::ToolArguments(piece) => {
            (Channel::Arguments(piece.choice, piece.index), &mut piece.fragment)
        }
        _ => return None,
    })
}

fn rest(channel: Channel, mut redactor: Redactor) -> Option<Event> {
    let text = string(redactor.finish());
    let delta = |choice, text| TextDelta { choice, text };
    (!text.is_empty()).then(|| match channel {
        Channel::Text(choice) => Event::Text(delta(choice, text)),
        Channel::Thinking(choice) => Event::Thinking(delta(choice, text)),
        Channel::Refusal(choice) => Event::Refusal(delta(choice, text)),
        Channel::Arguments(choice, index) => {
            Event::ToolArguments(ToolArguments { choice, index, fragment: text })
        }
    })
}

/// Secrets begin and end with whole characters, so what is left of a text is text.
fn string(bytes: Bytes) -> String {
    String::from_utf8(bytes.into())
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::SecretString;

    use super::*;
    use crate::contract::{Finish, FinishReason};

    const KEY: &str = "sk-canary-openai-0123456789abcdef0123456789abcdef";

    fn secrets() -> Secrets {
        Secrets::new([&SecretString::from(KEY)])
    }

    fn text(choice: u32, text: &str) -> Event {
        Event::Text(TextDelta { choice, text: text.to_owned() })
    }

    fn finish(choice: u32) -> Event {
        Event::Finish(Finish { choice, reason: FinishReason::Stop, stop_sequence: None })
    }

    fn said(events: &[Event], wanted: u32) -> String {
        let texts = events.iter().filter_map(|event| match event {
            Event::Text(delta) if delta.choice == wanted => Some(delta.text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    proptest! {
        #[test]
        fn a_key_cut_anywhere_is_taken_out_and_nothing_else_is(
            cuts in prop::collection::vec(0..200_usize, 0..20),
            before in "[a-z sk-]{0,20}", after in "[a-z sk-]{0,20}",
        ) {
            let whole = format!("{before}{KEY}{after}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let mut echo = Echo::default();
            let mut shown = Vec::new();
            for pair in cuts.windows(2) {
                shown.append(&mut echo.hide(vec![text(0, &whole[pair[0]..pair[1]])], &secrets()));
            }
            shown.append(&mut echo.hide(vec![finish(0)], &secrets()));
            prop_assert_eq!(said(&shown, 0), format!("{before}[redacted]{after}"));
            prop_assert!(matches!(shown.last(), Some(Event::Finish(_))));
        }
    }

    #[test]
    fn choices_that_take_turns_are_followed_each_by_itself() {
        let mut echo = Echo::default();
        let (left, right) = KEY.split_at(11);
        let events = vec![text(0, left), text(1, left), text(0, right), text(1, "!"), finish(0)];
        let shown = echo.hide(events, &secrets());
        assert_eq!(said(&shown, 0), "[redacted]");
        assert_eq!(said(&shown, 1), format!("{left}!"));
    }

    #[test]
    fn what_only_looked_like_a_key_follows_before_the_end() {
        let mut echo = Echo::default();
        assert_eq!(
            said(&echo.hide(vec![text(0, "this i"), text(0, "s")], &secrets()), 0),
            "this i"
        );
        assert_eq!(said(&echo.end(), 0), "s");
        assert!(echo.end().is_empty());
    }

    #[test]
    fn a_flood_of_choices_is_not_held() {
        let mut echo = Echo::default();
        let events = (0..1000).map(|choice| text(choice, "sk-canary")).collect();
        let shown = echo.hide(events, &secrets());
        assert_eq!(shown.len(), 1000 - MAX_OPEN);
        assert_eq!(echo.end().len(), MAX_OPEN);
    }
}
