//! Tool calls, whole: this dialect has their arguments as an object, which can't come in pieces.
//!
//! Vendors that stream arguments are waited for until the object is closed, which is counted while
//! the pieces come, each byte once. Calls are given in the order in which they began.

use keyward::{
    Failure,
    contract::{ToolArguments, ToolCallStart},
    ids::RequestId,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::dialect::events::{MAX_CALLS, call_id, one_line, too_many, unknown_call};

#[derive(Debug, Serialize)]
pub struct Call {
    id: String,
    function: Function,
}

#[derive(Debug, Serialize)]
struct Function {
    index: usize,
    name: String,
    arguments: Box<RawValue>,
}

/// The calls of one answer.
pub struct Calls {
    request: RequestId,
    all: Vec<Pending>,
    /// How many of them were given away.
    given: usize,
}

struct Pending {
    /// By which the adapter refers to it.
    index: u32,
    id: String,
    name: String,
    arguments: String,
    nesting: Nesting,
}

/// Where in a JSON text one is.
#[derive(Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The first bracket was closed again.
    closed: bool,
}

impl Nesting {
    fn follow(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.closed |= self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

impl Calls {
    pub fn new(request: RequestId) -> Self {
        Self { request, all: Vec::new(), given: 0 }
    }

    /// # Errors
    /// If there are too many.
    pub fn begin(&mut self, start: &ToolCallStart) -> Result<(), Failure> {
        if self.all.len() >= MAX_CALLS {
            return Err(too_many("tool calls", MAX_CALLS));
        }
        let id = match start.id.is_empty() {
            true => call_id(self.request, start.choice, start.index),
            false => start.id.clone(),
        };
        self.all.push(Pending {
            index: start.index,
            id,
            name: start.name.clone(),
            arguments: String::new(),
            nesting: Nesting::default(),
        });
        Ok(())
    }

    /// # Errors
    /// If no such call has begun, or was complete before.
    pub fn add(&mut self, piece: &ToolArguments) -> Result<(), Failure> {
        let found = self.all.iter().rposition(|call| call.index == piece.index);
        let at = found.ok_or_else(unknown_call)?;
        if at < self.given {
            return match piece.fragment.trim_ascii().is_empty() {
                true => Ok(()),
                false => Err(not_an_object(&self.all[at].name)),
            };
        }
        let call = &mut self.all[at];
        call.arguments.push_str(&piece.fragment);
        call.nesting.follow(&piece.fragment);
        Ok(())
    }

    /// The calls that are complete and weren't given yet.
    ///
    /// # Errors
    /// If the arguments of one aren't an object.
    pub fn ready(&mut self) -> Result<Vec<Call>, Failure> {
        self.give(|call| call.nesting.closed)
    }

    /// The calls that weren't given yet, at the end of the answer.
    ///
    /// # Errors
    /// As above; then the answer may have been cut off inside them.
    pub fn rest(&mut self) -> Result<Vec<Call>, Failure> {
        self.give(|_| true)
    }

    fn give(&mut self, complete: impl Fn(&Pending) -> bool) -> Result<Vec<Call>, Failure> {
        let mut calls = Vec::new();
        while let Some(call) = self.all.get_mut(self.given).filter(|call| complete(call)) {
            let arguments = object(&call.arguments).ok_or_else(|| not_an_object(&call.name))?;
            call.arguments = String::new();
            let (id, name) = (std::mem::take(&mut call.id), call.name.clone());
            calls.push(Call { id, function: Function { index: self.given, name, arguments } });
            self.given += 1;
        }
        Ok(calls)
    }
}

/// The arguments as an object. Models leave the text empty for a tool without parameters.
fn object(text: &str) -> Option<Box<RawValue>> {
    let text = match text.trim_ascii() {
        "" | "null" => "{}",
        text => text,
    };
    one_line(text).filter(|json| json.get().starts_with('{')).map(|json| json.into_owned())
}

fn not_an_object(tool: &str) -> Failure {
    Failure::malformed(format!(
        "the model's call of the tool '{tool}' can't be given: its arguments aren't a whole JSON object, \
         perhaps because the answer was cut off inside them (options.num_predict)"
    ))
}

#[cfg(test)]
mod tests {
    use keyward::FailureKind;
    use serde_json::{Value, json};

    use super::*;

    fn calls() -> Calls {
        Calls::new(RequestId(0xabc))
    }

    fn begin(calls: &mut Calls, index: u32, id: &str) {
        let start = ToolCallStart { choice: 0, index, id: id.into(), name: format!("tool{index}") };
        calls.begin(&start).unwrap();
    }

    fn add(calls: &mut Calls, index: u32, fragment: &str) -> Result<(), Failure> {
        calls.add(&ToolArguments { choice: 0, index, fragment: fragment.into() })
    }

    fn given(calls: Vec<Call>) -> Value {
        serde_json::to_value(calls).unwrap()
    }

    #[test]
    fn a_call_is_given_once_and_as_soon_as_its_object_closes() {
        let mut calls = calls();
        begin(&mut calls, 0, "a");
        let text = r#"{"city": "}]\"\\", "more": [{}]}"#;
        for (at, _) in text.char_indices() {
            assert!(calls.ready().unwrap().is_empty(), "{at}");
            add(&mut calls, 0, &text[at..=at]).unwrap();
        }
        let expected = json!([{"id": "a", "function": {
            "index": 0, "name": "tool0", "arguments": {"city": "}]\"\\", "more": [{}]},
        }}]);
        assert_eq!(given(calls.ready().unwrap()), expected);
        add(&mut calls, 0, " \n").unwrap();
        assert!(calls.rest().unwrap().is_empty());
        assert!(add(&mut calls, 0, "{}").is_err());
    }

    #[test]
    fn mixed_calls_keep_the_order_in_which_they_began() {
        let mut calls = calls();
        begin(&mut calls, 0, "a");
        begin(&mut calls, 1, "b");
        add(&mut calls, 1, r#"{"x":1}"#).unwrap();
        assert!(calls.ready().unwrap().is_empty());
        add(&mut calls, 0, r#"{"x":0}"#).unwrap();
        let all = given(calls.ready().unwrap());
        assert_eq!(all[0]["function"]["arguments"], json!({"x": 0}));
        assert_eq!(all[1]["function"]["arguments"], json!({"x": 1}));
    }

    #[test]
    fn missing_arguments_are_an_empty_object_and_a_missing_id_is_made() {
        for text in ["", " ", "null", "{}"] {
            let mut calls = calls();
            begin(&mut calls, 0, "");
            add(&mut calls, 0, text).unwrap();
            let all = given(calls.rest().unwrap());
            assert_eq!(all[0]["function"]["arguments"], json!({}), "{text:?}");
            assert!(all[0]["id"].as_str().unwrap().starts_with("call_"));
        }
    }

    #[test]
    fn arguments_that_are_no_object_are_an_error() {
        for text in ["[1]", "\"x\"", "{\"a\":", "{} {}", "{]"] {
            let mut calls = calls();
            begin(&mut calls, 0, "a");
            add(&mut calls, 0, text).unwrap();
            let failure = calls.rest().unwrap_err();
            assert_eq!(failure.kind, FailureKind::MalformedAnswer, "{text}");
            assert!(failure.message.contains("tool0"), "{failure}");
        }
    }

    #[test]
    fn strangers_are_bounded() {
        let mut calls = calls();
        assert_eq!(add(&mut calls, 3, "{}").unwrap_err().kind, FailureKind::Plugin);
        for index in 0..MAX_CALLS as u32 {
            begin(&mut calls, index, "a");
        }
        let one_more = ToolCallStart { choice: 0, index: 0, id: String::new(), name: "t".into() };
        assert_eq!(calls.begin(&one_more).unwrap_err().kind, FailureKind::Plugin);
    }
}
