//! The contract's types from one generator's form to the other's.
//!
//! The program has the same for replaying recordings through components; it only lacks the way an
//! operation goes here: made by the host, given to an adapter's native build.

#[macro_use]
#[path = "../../../host/cli/src/plugin_test/types.rs"]
mod types;

use keyward::contract as host;
use keyward_sdk::contract as sdk;

pub use types::Across;

from_to! { host, sdk,
    variant Operation { Chat(it) Embed(it) ListModels Probe Other(it) }
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
}
