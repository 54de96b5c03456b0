//! The contract's types from one generator's form to the other's.
//!
//! The SDK's are made for guests, the host's for wasmtime; both come from `adapter.wit`, so each has
//! the same names. Every member is spelled out: a type that grows doesn't compile until it is
//! carried over here too.

use keyward::contract as host;
use keyward_sdk::contract as sdk;

/// The same value as the other generator's type.
pub trait Across<T> {
    fn across(self) -> T;
}

impl<A: Across<B>, B> Across<Vec<B>> for Vec<A> {
    fn across(self) -> Vec<B> {
        self.into_iter().map(Across::across).collect()
    }
}

impl<A: Across<B>, B> Across<Option<B>> for Option<A> {
    fn across(self) -> Option<B> {
        self.map(Across::across)
    }
}

macro_rules! same {
    ($($name:ty)*) => { $(
        impl Across<$name> for $name {
            fn across(self) -> $name {
                self
            }
        }
    )* };
}

/// `record NAME { MEMBER.. }` and `variant NAME { CASE.. }`, where `CASE(_)` has a value.
macro_rules! from_to {
    ($from:ident, $to:ident) => {};
    ($from:ident, $to:ident, record $name:ident { $($member:ident)* } $($rest:tt)*) => {
        impl Across<$to::$name> for $from::$name {
            fn across(self) -> $to::$name {
                let $from::$name { $($member),* } = self;
                $to::$name { $($member: $member.across()),* }
            }
        }
        from_to!($from, $to, $($rest)*);
    };
    ($from:ident, $to:ident, variant $name:ident { $($case:ident $(($value:ident))?)* } $($rest:tt)*) => {
        impl Across<$to::$name> for $from::$name {
            fn across(self) -> $to::$name {
                match self {
                    $($from::$name::$case $(($value))? => $to::$name::$case $(($value.across()))?,)*
                }
            }
        }
        from_to!($from, $to, $($rest)*);
    };
    ($from:ident, $to:ident,) => {};
}

same!(bool u8 u16 u32 u64 i64 f32 f64 String);

// What goes into an adapter.
from_to! { sdk, host,
    variant Operation { Chat(it) Embed(it) ListModels Probe Other(it) }
    record Other { kind json }
    record Chat {
        model messages tools tool_choice parallel_tool_calls format sampling reasoning stream
        dialect extra
    }
    record Message { role answers name parts extra }
    variant Role { System Developer User Assistant Tool }
    record ToolAnswer { call_id tool is_error }
    record Part { body cache extra }
    variant PartBody {
        Text(it) Media(it) ToolCall(it) Thinking(it) RedactedThinking(it) Refusal(it) Other(it)
    }
    record OtherPart { kind value }
    record Text { value length blank held }
    record Value { json text length held }
    record Field { name value }
    record Media { kind media_type source name detail }
    variant MediaKind { Image Audio Video File }
    variant MediaSource { Base64(it) Url(it) FileId(it) }
    record ToolCall { id name arguments }
    record Thinking { text signature }
    record Tool { name description parameters strict kind cache extra }
    variant ToolChoice { Auto None Required Tool(it) }
    variant Format { Text Json Schema(it) }
    record Schema { name description schema strict }
    record Sampling {
        max_output_tokens temperature top_p top_k frequency_penalty presence_penalty seed stop
        choices logprobs
    }
    record Reasoning { effort budget_tokens }
    record Embed { model inputs dimensions encoding purpose dialect extra }
    variant EmbedInput { Text(it) Tokens(it) Other(it) }
    variant EmbedEncoding { Floats Base64 }
    record Context { settings now_ms seed id grants }
    variant Input { Start Head(it) Frame(it) Body(it) End Timer Other(it) }
    record ResponseHead { status headers }
    record Header { name value }
    record Frame { name data }
    variant Framing { Json Sse Ndjson JsonArray AwsEventStream Text }
}

// What comes out of it.
from_to! { host, sdk,
    variant Output { Send(it) Event(it) Sleep(it) Done Failed(it) Other(it) }
    record Other { kind json }
    record VendorRequest { origin method path headers body framing }
    variant Method { Get Post Put Delete }
    variant Body { Empty Json(it) Raw(it) }
    record RawBody { media_type data }
    variant Framing { Json Sse Ndjson JsonArray AwsEventStream Text }
    record Header { name value }
    record Frame { name data }
    variant Event {
        Started(it) Text(it) Refusal(it) Thinking(it) ThinkingSignature(it) RedactedThinking(it)
        ToolCall(it) ToolArguments(it) Citation(it) Logprobs(it) Media(it) Usage(it) Finish(it)
        Embedding(it) Model(it) RateLimit(it) Warning(it) Attribute(it) Other(it)
    }
    record Started { id model }
    record TextDelta { choice text }
    record ToolCallStart { choice index id name }
    record ToolArguments { choice index fragment }
    record Annotation { choice json }
    record MediaOutput { choice kind media_type base64 }
    variant MediaKind { Image Audio Video File }
    record Usage { input cache_read cache_write output reasoning units }
    record Unit { name amount }
    record Finish { choice reason stop_sequence }
    variant FinishReason { Stop Length ToolCalls ContentFilter Refusal Other(it) }
    record Embedding { index vector }
    variant Vector { Floats(it) Base64(it) }
    record Model { id title context_window max_output_tokens capabilities created extra }
    record RateLimit { scope limit remaining reset_ms }
    record Warning { code subject message }
    record Attribute { name json }
    record Failure { kind fault message code type_ param status retry_after_ms request_id }
    variant FailureKind {
        Authentication Permission RateLimited QuotaExhausted Overloaded Unavailable Timeout
        ContextTooLong ContentBlocked ModelNotFound InvalidRequest MalformedAnswer Unsupported
        Other(it)
    }
    variant Fault { Caller Plugin Vendor Transport Host }
}
