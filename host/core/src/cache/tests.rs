use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{
    gather::Gathered,
    kept::Kept,
    key::{Asker, Key, MAX_KEYED, of, of_settings},
    *,
};
use crate::{
    contract::{
        Embedding, Finish, FinishReason, Format, MediaKind, RateLimit, Reasoning, Role, Sampling,
        Schema, Started, TextDelta, ToolArguments, ToolCallStart, ToolChoice, Usage, Vector,
    },
    ids::ModelName,
    operation::{
        Chat, Dialect, Embed, EmbedInput, Field, Json, Media, MediaSource, Message, Part, PartBody,
        Tool, ToolAnswer, ToolCall,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn json(text: &str) -> Json {
    RawValue::from_string(text.to_owned()).unwrap().into()
}

fn field(name: &str, value: &str) -> Field {
    Field { name: name.into(), value: json(value) }
}

/// A chat with something in every place.
fn full() -> Chat {
    let part = |body| Part { body, cache: Some("5m".into()), extra: vec![field("p", "1")] };
    let media = |source| {
        part(PartBody::Media(Media {
            kind: MediaKind::Image,
            media_type: "image/png".into(),
            source,
            name: Some("a.png".into()),
            detail: Some("low".into()),
        }))
    };
    let message = |role, parts| Message {
        role,
        answers: None,
        name: Some("Ada".into()),
        parts,
        extra: vec![field("m", "1")],
    };
    let call = ToolCall { id: "c1".into(), name: "look".into(), arguments: json("{}") };
    let thinking = PartBody::Thinking { text: "hm".into(), signature: Some("s".into()) };
    let other = PartBody::Other { kind: "poem".into(), value: json("[1]") };
    let mut result = message(Role::Tool, vec![part(PartBody::Text("found".into()))]);
    result.answers =
        Some(ToolAnswer { call_id: "c1".into(), tool: "look".into(), is_error: false });
    Chat {
        model: ModelName::new("m").unwrap(),
        messages: vec![
            message(Role::System, vec![part(PartBody::Text("Be brief.".into()))]),
            message(
                Role::User,
                vec![
                    part(PartBody::Text("Hello".into())),
                    media(MediaSource::Base64("AAAA".into())),
                    media(MediaSource::Url("https://example.test/a.png".into())),
                    media(MediaSource::FileId("f1".into())),
                ],
            ),
            message(
                Role::Assistant,
                vec![
                    part(thinking),
                    part(PartBody::RedactedThinking("xx".into())),
                    part(PartBody::Refusal("no".into())),
                    part(PartBody::ToolCall(call)),
                    part(other),
                ],
            ),
            result,
        ],
        tools: vec![Tool {
            name: "look".into(),
            description: Some("Looks.".into()),
            parameters: "{}".into(),
            strict: Some(true),
            kind: "function".into(),
            cache: Some("1h".into()),
            extra: vec![field("t", "1")],
        }],
        tool_choice: Some(ToolChoice::Tool("look".into())),
        parallel_tool_calls: Some(true),
        format: Format::Schema(Schema {
            name: "s".into(),
            description: Some("d".into()),
            schema: "{}".into(),
            strict: Some(true),
        }),
        sampling: Sampling {
            max_output_tokens: Some(10),
            temperature: Some(0.5),
            top_p: Some(0.5),
            top_k: Some(5),
            frequency_penalty: Some(0.5),
            presence_penalty: Some(0.5),
            seed: Some(5),
            stop: vec!["end".into()],
            choices: Some(2),
            logprobs: Some(2),
        },
        reasoning: Some(Reasoning { effort: Some("low".into()), budget_tokens: Some(100) }),
        stream: false,
        dialect: Dialect::OpenAiChat,
        extra: vec![field("user", "\"u\"")],
    }
}

fn embed() -> Embed {
    Embed {
        model: ModelName::new("m").unwrap(),
        inputs: vec![EmbedInput::Text("a".into()), EmbedInput::Tokens(json("[1,2]"))],
        dimensions: Some(8),
        base64: false,
        purpose: Some("query".into()),
        dialect: Dialect::OpenAiChat,
        extra: vec![field("user", "\"u\"")],
    }
}

fn key(operation: &Operation) -> Key {
    of(&Asker { provider: 1, caller: &"a".into(), sensitive: false }, operation).unwrap()
}

fn key_of(chat: Chat) -> Key {
    key(&Operation::Chat(chat.into()))
}

#[test]
fn every_field_of_a_chat_makes_another_request() {
    type Change = fn(&mut Chat);
    fn media(chat: &mut Chat, part: usize) -> &mut Media {
        match &mut chat.messages[1].parts[part].body {
            PartBody::Media(media) => media,
            other => panic!("{other:?}"),
        }
    }
    fn body(chat: &mut Chat, message: usize, part: usize) -> &mut PartBody {
        &mut chat.messages[message].parts[part].body
    }
    fn schema(chat: &mut Chat) -> &mut Schema {
        match &mut chat.format {
            Format::Schema(schema) => schema,
            other => panic!("{other:?}"),
        }
    }
    let changes: &[Change] = &[
        |_| {},
        |c| c.model = ModelName::new("n").unwrap(),
        |c| drop(c.messages.pop()),
        |c| c.messages.swap(0, 1),
        |c| c.messages[0].role = Role::Developer,
        |c| c.messages[0].name = None,
        |c| c.messages[0].name = Some("Bob".into()),
        |c| c.messages[0].extra.clear(),
        |c| c.messages[0].extra[0].name = "q".into(),
        |c| c.messages[0].extra[0].value = json("2"),
        |c| c.messages[3].answers = None,
        |c| c.messages[3].answers.as_mut().unwrap().call_id = "c2".into(),
        |c| c.messages[3].answers.as_mut().unwrap().tool = "see".into(),
        |c| c.messages[3].answers.as_mut().unwrap().is_error = true,
        |c| c.messages[0].parts[0].cache = None,
        |c| c.messages[0].parts[0].cache = Some("1h".into()),
        |c| c.messages[0].parts[0].extra.clear(),
        |c| *body(c, 0, 0) = PartBody::Text("Be long.".into()),
        |c| *body(c, 0, 0) = PartBody::Refusal("Be brief.".into()),
        |c| media(c, 1).kind = MediaKind::File,
        |c| media(c, 1).media_type = "image/jpeg".into(),
        |c| media(c, 1).name = None,
        |c| media(c, 1).detail = None,
        |c| media(c, 1).source = MediaSource::Base64("BBBB".into()),
        |c| media(c, 1).source = MediaSource::Url("AAAA".into()),
        |c| media(c, 2).source = MediaSource::Url("https://example.test/b.png".into()),
        |c| media(c, 3).source = MediaSource::FileId("f2".into()),
        |c| *body(c, 2, 0) = PartBody::Thinking { text: "ah".into(), signature: Some("s".into()) },
        |c| *body(c, 2, 0) = PartBody::Thinking { text: "hm".into(), signature: None },
        |c| *body(c, 2, 1) = PartBody::RedactedThinking("yy".into()),
        |c| *body(c, 2, 2) = PartBody::Refusal("yes".into()),
        |c| match body(c, 2, 3) {
            PartBody::ToolCall(call) => call.id = "c9".into(),
            other => panic!("{other:?}"),
        },
        |c| match body(c, 2, 3) {
            PartBody::ToolCall(call) => call.name = "see".into(),
            other => panic!("{other:?}"),
        },
        |c| match body(c, 2, 3) {
            PartBody::ToolCall(call) => call.arguments = json("{\"a\":1}"),
            other => panic!("{other:?}"),
        },
        |c| *body(c, 2, 4) = PartBody::Other { kind: "song".into(), value: json("[1]") },
        |c| *body(c, 2, 4) = PartBody::Other { kind: "poem".into(), value: json("[2]") },
        |c| c.tools.clear(),
        |c| c.tools[0].name = "see".into(),
        |c| c.tools[0].description = None,
        |c| c.tools[0].parameters = "{\"a\":1}".into(),
        |c| c.tools[0].strict = None,
        |c| c.tools[0].kind = String::new(),
        |c| c.tools[0].cache = None,
        |c| c.tools[0].extra.clear(),
        |c| c.tool_choice = None,
        |c| c.tool_choice = Some(ToolChoice::Auto),
        |c| c.tool_choice = Some(ToolChoice::None),
        |c| c.tool_choice = Some(ToolChoice::Required),
        |c| c.tool_choice = Some(ToolChoice::Tool("see".into())),
        |c| c.parallel_tool_calls = Some(false),
        |c| c.parallel_tool_calls = None,
        |c| c.format = Format::Text,
        |c| c.format = Format::Json,
        |c| schema(c).name = "t".into(),
        |c| schema(c).description = None,
        |c| schema(c).schema = "{\"a\":1}".into(),
        |c| schema(c).strict = None,
        |c| c.sampling.max_output_tokens = Some(11),
        |c| c.sampling.temperature = Some(0.6),
        |c| c.sampling.temperature = None,
        |c| c.sampling.top_p = Some(0.6),
        |c| c.sampling.top_k = Some(6),
        |c| c.sampling.frequency_penalty = Some(0.6),
        |c| c.sampling.presence_penalty = Some(0.6),
        |c| c.sampling.seed = Some(6),
        |c| c.sampling.seed = Some(-5),
        |c| c.sampling.stop = vec!["en".into(), "d".into()],
        |c| c.sampling.choices = Some(3),
        |c| c.sampling.logprobs = Some(3),
        |c| c.reasoning = None,
        |c| c.reasoning.as_mut().unwrap().effort = Some("high".into()),
        |c| c.reasoning.as_mut().unwrap().budget_tokens = None,
        |c| c.dialect = Dialect::Ollama,
        |c| c.extra[0].value = json("\"v\""),
        |c| c.extra.push(field("more", "1")),
    ];
    let mut keys = BTreeMap::new();
    for (at, change) in changes.iter().enumerate() {
        let mut chat = full();
        change(&mut chat);
        if let Some(before) = keys.insert(key_of(chat), at) {
            panic!("changes {before} and {at} make the same request");
        }
    }
}

#[test]
fn whether_it_is_streamed_makes_no_other_request() {
    assert_eq!(key_of(Chat { stream: true, ..full() }), key_of(full()));
}

#[test]
fn every_field_of_an_embeddings_request_makes_another() {
    type Change = fn(&mut Embed);
    let changes: &[Change] = &[
        |_| {},
        |e| e.model = ModelName::new("n").unwrap(),
        |e| e.inputs.swap(0, 1),
        |e| drop(e.inputs.pop()),
        |e| e.inputs[0] = EmbedInput::Text("b".into()),
        |e| e.inputs[0] = EmbedInput::Text("[1,2]".into()),
        |e| e.inputs[1] = EmbedInput::Text("[1,2]".into()),
        |e| e.inputs[1] = EmbedInput::Tokens(json("[1,3]")),
        |e| e.dimensions = Some(9),
        |e| e.dimensions = None,
        |e| e.base64 = true,
        |e| e.purpose = None,
        |e| e.purpose = Some("document".into()),
        |e| e.dialect = Dialect::Ollama,
        |e| e.extra.clear(),
    ];
    let asker = Asker { provider: 1, caller: &"a".into(), sensitive: false };
    let plain = of_settings(&asker, &embed()).unwrap();
    let mut keys = BTreeMap::new();
    for (at, change) in changes.iter().enumerate() {
        let mut changed = embed();
        change(&mut changed);
        let of_inputs = (1..8).contains(&at) && at != 1;
        let same = of_settings(&asker, &changed).unwrap() == plain;
        assert_eq!(same, at == 0 || of_inputs, "change {at} of the settings alone");
        if let Some(before) = keys.insert(key(&Operation::Embed(changed.into())), at) {
            panic!("changes {before} and {at} make the same request");
        }
    }
}

#[test]
fn another_caller_provider_or_class_of_privacy_is_another_request() {
    let operation = Operation::Chat(full().into());
    let of = |provider, caller: &str, sensitive| {
        of(&Asker { provider, caller: &caller.into(), sensitive }, &operation).unwrap()
    };
    let first = of(1, "a", false);
    assert_eq!(first, of(1, "a", false));
    for other in [of(2, "a", false), of(1, "b", false), of(1, "a", true), of(1, "", false)] {
        assert_ne!(first, other);
    }
}

#[test]
fn what_has_no_answer_or_is_too_long_has_no_key() {
    let asker = Asker { provider: 1, caller: &"a".into(), sensitive: false };
    assert!(of(&asker, &Operation::Probe).is_none());
    assert!(of(&asker, &Operation::ListModels).is_none());
    let mut chat = full();
    chat.messages[0].parts[0].body = PartBody::Text("a".repeat(MAX_KEYED).into());
    assert!(of(&asker, &Operation::Chat(chat.into())).is_none());
}

/// Chats of few words, so that what is one's end may be the other's beginning.
fn chats() -> impl Strategy<Value = Chat> {
    let word = || prop::sample::select(vec!["", "a", "b", "ab", "a\0"]);
    let part = (word(), prop::option::of(word()), 0..3_u8).prop_map(|(text, cache, kind)| Part {
        body: match kind {
            0 => PartBody::Text(text.into()),
            1 => PartBody::Refusal(text.into()),
            _ => PartBody::Thinking { text: text.into(), signature: cache.map(Into::into) },
        },
        cache: cache.map(str::to_owned),
        extra: Vec::new(),
    });
    let message =
        (prop::option::of(word()), prop::collection::vec(part, 0..3)).prop_map(|(name, parts)| {
            Message {
                role: Role::User,
                answers: None,
                name: name.map(Into::into),
                parts,
                extra: Vec::new(),
            }
        });
    let stop = prop::collection::vec(word().prop_map(str::to_owned), 0..3);
    (prop::collection::vec(message, 0..3), stop, any::<bool>()).prop_map(
        |(messages, stop, stream)| Chat {
            messages,
            tools: Vec::new(),
            sampling: Sampling { stop, ..Sampling::default() },
            extra: Vec::new(),
            stream,
            ..full()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_requests_have_one_key_if_and_only_if_they_are_the_same(a in chats(), b in chats()) {
        let shown = |chat: &Chat| format!("{:?}", Chat { stream: false, ..chat.clone() });
        prop_assert_eq!(key_of(a.clone()) == key_of(b.clone()), shown(&a) == shown(&b));
    }
}

// ---------------------------------------------------------------------- gathering

fn text(text: &str) -> Event {
    Event::Text(TextDelta { choice: 0, text: text.into() })
}

fn finish(reason: FinishReason) -> Event {
    Event::Finish(Finish { choice: 0, reason, stop_sequence: None })
}

fn gathered(operation: &Operation, events: &[Event]) -> Option<Vec<Event>> {
    let mut gathered = Gathered::new(operation);
    events.iter().for_each(|event| gathered.add(std::slice::from_ref(event)));
    gathered.finish()
}

fn chat_of(events: &[Event]) -> Option<Vec<Event>> {
    gathered(&Operation::Chat(full().into()), events)
}

#[test]
fn pieces_become_one_and_what_held_only_then_is_left_out() {
    let arguments = |fragment: &str| {
        Event::ToolArguments(ToolArguments { choice: 0, index: 0, fragment: fragment.into() })
    };
    let start = ToolCallStart { choice: 0, index: 0, id: "c".into(), name: "look".into() };
    let limit =
        RateLimit { scope: "requests".into(), limit: None, remaining: Some(3), reset_ms: None };
    let kept = chat_of(&[
        Event::Started(Started { id: Some("id-1".into()), model: Some("m".into()) }),
        Event::RateLimit(limit),
        text("Hel"),
        text("lo"),
        Event::Text(TextDelta { choice: 1, text: "Hi".into() }),
        text("!"),
        Event::ToolCall(start),
        arguments("{\"a\""),
        arguments(":1}"),
        finish(FinishReason::ToolCalls),
    ]);
    let shown = format!("{:?}", kept.unwrap());
    for (piece, there) in [
        ("Hello", true),
        ("\"!\"", true),
        ("{\\\"a\\\":1}", true),
        ("id-1", false),
        ("requests", false),
        ("\"m\"", true),
    ] {
        assert_eq!(shown.contains(piece), there, "{piece} in {shown}");
    }
}

#[test]
fn only_what_stopped_by_itself_is_whole() {
    use FinishReason::{ContentFilter, Length, Other, Refusal, Stop};
    assert!(chat_of(&[text("a"), finish(Stop)]).is_some());
    assert!(chat_of(&[text("a"), finish(Length)]).is_some());
    assert!(chat_of(&[text("a")]).is_none());
    for reason in [ContentFilter, Refusal, Other("paused".into())] {
        assert!(chat_of(&[text("a"), finish(Stop), finish(reason)]).is_none());
    }
    let vector =
        |index| Event::Embedding(Embedding { index, vector: Vector::Floats(vec![1.0, 2.0]) });
    let vectors = |events: &[Event]| gathered(&Operation::Embed(embed().into()), events).is_some();
    assert!(vectors(&[vector(1), vector(0)]));
    assert!(!vectors(&[vector(0)]));
    assert!(!vectors(&[vector(0), vector(0)]));
    assert!(!vectors(&[vector(0), vector(2)]));
    assert!(gathered(&Operation::Probe, &[finish(Stop)]).is_none());
}

// ---------------------------------------------------------------------- keeping

fn numbered(number: u32) -> Key {
    key_of(Chat { sampling: Sampling { top_k: Some(number), ..Sampling::default() }, ..full() })
}

fn answer(length: usize) -> Vec<Event> {
    vec![text(&"a".repeat(length)), finish(FinishReason::Stop)]
}

#[test]
fn an_answer_is_found_until_it_is_too_old() {
    let (mut kept, now) = (Kept::default(), Instant::now());
    kept.put(numbered(1), answer(10), now, 10 * SECOND, 1 << 20);
    assert!(kept.find(&numbered(1), now + 9 * SECOND).is_some());
    assert!(kept.find(&numbered(2), now).is_none());
    assert!(kept.find(&numbered(1), now + 10 * SECOND).is_none(), "asking doesn't make it younger");
    assert_eq!(kept.len(), 1);
    assert_eq!(kept.tidy(1 << 20, now + 10 * SECOND).len(), 1);
    assert_eq!((kept.len(), kept.bytes()), (0, 0));
}

#[test]
fn the_one_that_nobody_asked_for_longest_goes_first() {
    let (mut kept, now) = (Kept::default(), Instant::now());
    for number in 0..4 {
        kept.put(numbered(number), answer(1000), now, SECOND, 1 << 20);
    }
    let room = kept.bytes();
    assert!(kept.find(&numbered(0), now).is_some());
    kept.put(numbered(4), answer(1000), now, SECOND, room);
    let there = |kept: &mut Kept, number| kept.find(&numbered(number), now).is_some();
    assert_eq!([0, 1, 2, 3, 4].map(|n| there(&mut kept, n)), [true, false, true, true, true]);
    kept.tidy(room / 2, now);
    assert_eq!([0, 2, 3, 4].map(|n| there(&mut kept, n)), [false, false, true, true]);
    assert!(kept.bytes() <= room / 2);
}

#[test]
fn an_answer_larger_than_all_room_drives_nobody_out() {
    let (mut kept, now) = (Kept::default(), Instant::now());
    kept.put(numbered(1), answer(10), now, SECOND, 4096);
    kept.put(numbered(2), answer(5000), now, SECOND, 4096);
    assert!(kept.find(&numbered(1), now).is_some());
    assert!(kept.find(&numbered(2), now).is_none());
}

#[test]
fn a_newer_answer_takes_the_place_of_the_older() {
    let (mut kept, now) = (Kept::default(), Instant::now());
    kept.put(numbered(1), answer(10), now, SECOND, 1 << 20);
    let one = kept.bytes();
    kept.put(numbered(1), answer(10), now + SECOND / 2, SECOND, 1 << 20);
    assert_eq!((kept.len(), kept.bytes()), (1, one));
    assert!(kept.find(&numbered(1), now + SECOND).is_some());
}

fn keeping(cache: &Cache, total: u64, answer: u64) -> Keeping {
    Keeping {
        cache: cache.clone(),
        key: numbered(1),
        ttl: SECOND,
        limits: Limits { total, answer },
        gathered: Some(Gathered::new(&Operation::Chat(full().into()))),
        counted: 0,
    }
}

#[test]
fn an_answer_is_kept_when_it_has_ended_and_not_before() {
    let (cache, now) = (Cache::default(), Instant::now());
    let mut first = keeping(&cache, 1 << 20, 1 << 20);
    first.see(&answer(10));
    assert!(cache.find(&numbered(1), now).is_none());
    assert!(cache.coming.load(Ordering::Relaxed) > 0);
    drop(first);
    assert_eq!(cache.coming.load(Ordering::Relaxed), 0);
    assert!(cache.find(&numbered(1), now).is_none(), "dropped is cancelled or failed");
    let mut second = keeping(&cache, 1 << 20, 1 << 20);
    second.see(&answer(10));
    second.keep(now);
    assert!(cache.find(&numbered(1), now).is_some());
    assert_eq!(cache.coming.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_too_large_is_given_up_while_it_comes() {
    let (cache, now) = (Cache::default(), Instant::now());
    for (total, one) in [(1 << 20, 1000), (1000, 1 << 20)] {
        let mut keeping = keeping(&cache, total, one);
        keeping.see(&[text(&"a".repeat(2000))]);
        assert_eq!(cache.coming.load(Ordering::Relaxed), 0);
        keeping.see(&[text("a"), finish(FinishReason::Stop)]);
        keeping.keep(now);
        assert!(cache.find(&numbered(1), now).is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_kept_found_and_freed_the_bounds_hold(
        steps in prop::collection::vec((0..12_u32, 0..3_000_usize, 0..3_u8), 0..60)
    ) {
        const TOTAL: u64 = 10_000;
        let (mut kept, mut now) = (Kept::default(), Instant::now());
        let mut model = BTreeMap::new();
        for (number, length, what) in steps {
            match what {
                0 => {
                    kept.put(numbered(number), answer(length), now, 5 * SECOND, TOTAL);
                    model.insert(number, (now + 5 * SECOND, length));
                }
                1 => {
                    if let Some(events) = kept.find(&numbered(number), now) {
                        let (until, length) = model[&number];
                        prop_assert!(now < until);
                        let Event::Text(found) = &events[0] else { panic!() };
                        prop_assert_eq!(found.text.len(), length);
                    }
                }
                _ => now += SECOND,
            }
            prop_assert!(kept.bytes() <= TOTAL);
            kept.len();
        }
        kept.tidy(TOTAL, now + 5 * SECOND);
        prop_assert_eq!((kept.len(), kept.bytes()), (0, 0));
    }
}

#[test]
fn usage_of_a_kept_answer_stays_with_it() {
    let usage = Usage {
        input: Some(3),
        cache_read: None,
        cache_write: None,
        output: Some(4),
        reasoning: None,
        units: Vec::new(),
    };
    let kept = chat_of(&[text("a"), Event::Usage(usage), finish(FinishReason::Stop)]).unwrap();
    assert!(matches!(&kept[1], Event::Usage(usage) if usage.output == Some(4)));
}
