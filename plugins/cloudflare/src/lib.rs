//! Cloudflare Workers AI for Keyward, through its OpenAI-compatible endpoint or its native one.
//!
//! The first takes and gives OpenAI's shape, which lives in the SDK. The native one runs a model
//! named in the path and wraps answers in an envelope; what newer models answer within it is
//! OpenAI's shape again ([`native`]). The list of models comes in pages ([`catalog`]); errors have
//! Cloudflare's own numbers ([`error`]). Both endpoints bill in neurons.

mod catalog;
mod descriptor;
mod error;
mod native;

use keyward_sdk::{
    Adapter, Context, Descriptor, Embed, EmbedInput, Failure, Format, Frame, Operation, Output,
    ResponseHead, Text, ToolChoice, Unit, Usage, VendorRequest, export_adapter,
    openai_wire::{self, Decoder, EmbeddingFormat, LogProbabilities, Profile, StructuredOutput},
    path_segment,
};
use serde::{Deserialize, Serialize};

use crate::{catalog::Catalog, native::Native};

export_adapter!(Cloudflare);

/// What the OpenAI-compatible endpoint takes of OpenAI's shape.
const COMPATIBLE: Profile = Profile {
    plain_texts: true,
    top_k: true,
    choices: false,
    embeddings: EmbeddingFormat::Unsaid,
    dimensions: None,
    ..Profile::COMPATIBLE
};

/// What the native one takes. Counts come unasked.
const NATIVE: Profile = Profile {
    stream_usage: false,
    names: false,
    logprobs: LogProbabilities::Unknown,
    parallel_tool_calls: false,
    strict: false,
    structured: StructuredOutput::BareSchema,
    ..COMPATIBLE
};

pub struct Cloudflare {
    reader: Reader,
    now_ms: u64,
    /// From the answer's head, where the body doesn't say.
    neurons: Option<f64>,
}

enum Reader {
    Wire(Decoder),
    Native(Native),
    Models(Catalog),
    Probe(Catalog),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    account_id: String,
    api: Api,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Api {
    #[default]
    OpenAi,
    Native,
}

impl Adapter for Cloudflare {
    fn describe() -> Descriptor {
        descriptor::descriptor()
    }

    fn start(operation: Operation, context: Context, out: &mut Output) -> Result<Self, Failure> {
        let settings: Settings = context.settings()?;
        if settings.account_id.is_empty() {
            return Err(Failure::settings(
                "`settings.account_id` is missing: it stands beside every domain and under \
                 Workers & Pages in Cloudflare's dashboard",
            ));
        }
        let root = format!("/accounts/{}/ai", path_segment(&settings.account_id));
        let (request, reader) = match (operation, settings.api) {
            (Operation::ListModels, _) => {
                let catalog = Catalog::all(&root);
                (catalog.next(), Reader::Models(catalog))
            }
            (Operation::Probe, _) => {
                let catalog = Catalog::probe(&root);
                (catalog.next(), Reader::Probe(catalog))
            }
            (operation, Api::OpenAi) => {
                let (mut request, decoder) = openai_wire::start(&operation, &COMPATIBLE, out)?;
                request.path = format!("{root}/v1{}", request.path);
                (request, Reader::Wire(decoder))
            }
            (operation, Api::Native) => native_request(operation, &root, out)?,
        };
        out.send(request);
        Ok(Self { reader, now_ms: context.now_ms, neurons: None })
    }

    fn head(&mut self, head: &ResponseHead, _: &mut Output) -> Result<(), Failure> {
        let neurons = head.header("cf-ai-neurons").and_then(|value| value.trim().parse().ok());
        self.neurons = neurons.filter(|neurons: &f64| neurons.is_finite() && *neurons > 0.0);
        Ok(())
    }

    fn frame(&mut self, frame: Frame, out: &mut Output) -> Result<(), Failure> {
        if let Some(failure) = error::within(&frame.data, self.now_ms) {
            return Err(failure);
        }
        match &mut self.reader {
            Reader::Wire(decoder) => decoder.frame(&frame, out),
            Reader::Native(native) => native.frame(&frame, out),
            Reader::Models(catalog) | Reader::Probe(catalog) => catalog.page(&frame.data, out),
        }
    }

    fn body(&mut self, head: &ResponseHead, body: &str, out: &mut Output) -> Result<(), Failure> {
        if head.is_success() {
            return self.frame(Frame { name: String::new(), data: body.to_owned() }, out);
        }
        let mut failure = error::failure(head.status, body, self.now_ms);
        failure.request_id =
            ["cf-ai-req-id", "cf-ray"].iter().find_map(|name| head.header(name)).map(str::to_owned);
        Err(failure)
    }

    fn end(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &mut self.reader {
            Reader::Models(catalog) if catalog.has_more() => {
                out.send(catalog.next());
                return Ok(());
            }
            Reader::Models(_) | Reader::Probe(_) => {
                out.done();
                return Ok(());
            }
            Reader::Wire(_) | Reader::Native(_) => {}
        }
        if let Some(amount) = self.neurons {
            let units = vec![Unit { name: "neurons".to_owned(), amount }];
            out.usage(Usage { units, ..Usage::none() });
        }
        match &mut self.reader {
            Reader::Native(native) => native.end(out),
            Reader::Wire(decoder) => decoder.end(out),
            Reader::Models(_) | Reader::Probe(_) => Ok(()),
        }
    }
}

/// The request that runs a model by its name in the path.
fn native_request(
    mut operation: Operation,
    root: &str,
    out: &mut Output,
) -> Result<(VendorRequest, Reader), Failure> {
    let (mut request, native, model) = match &mut operation {
        Operation::Chat(chat) => {
            if chat.stream && chat.format != Format::Text {
                // Structured output isn't streamed; the events are the same.
                chat.stream = false;
            }
            if !matches!(chat.tool_choice, None | Some(ToolChoice::Auto)) {
                out.changed("tool-choice", "Not every model here obeys it.");
            }
            let limit = chat.sampling.max_output_tokens;
            let native = Native::chat(&chat.model, chat.stream, limit);
            (openai_wire::chat_request(chat, &NATIVE, out)?, native, &chat.model)
        }
        Operation::Embed(embed) => {
            let native = Native::embed(&embed.model, embed.inputs.len());
            (embed_request(embed, out)?, native, &embed.model)
        }
        _ => return Err(Failure::unsupported("The native endpoint chats and embeds.")),
    };
    request.path = format!("{root}/run/{}", model_path(model)?);
    Ok((request, Reader::Native(native)))
}

fn embed_request(embed: &Embed, out: &mut Output) -> Result<VendorRequest, Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        text: Vec<&'a Text>,
    }
    if embed.dimensions.is_some() {
        return Err(Failure::unsupported("The vendor's embeddings have one length only.")
            .with_param("dimensions"));
    }
    if embed.purpose.is_some() {
        out.dropped("purpose", "The vendor doesn't tell queries from documents.");
    }
    out.dropped_fields(&embed.extra, "The native endpoint has other fields.");
    let text = embed.inputs.iter().map(|input| match input {
        EmbedInput::Text(text) => Ok(text),
        _ => Err(Failure::unsupported("The vendor embeds texts only.")),
    });
    VendorRequest::post("/", &Body { text: text.collect::<Result<_, _>>()? })
}

/// "@cf/meta/llama-3.2-3b-instruct" as a path: slashes separate, all else is one segment.
fn model_path(model: &str) -> Result<String, Failure> {
    let segment = |segment: &str| match segment {
        "" | "." | ".." => Err(Failure::invalid(
            "model",
            format!(
                "{model:?} isn't a model's name; they look like @cf/meta/llama-3.2-3b-instruct"
            ),
        )),
        segment => Ok(path_segment(segment).replace("%40", "@")),
    };
    Ok(model.split('/').map(segment).collect::<Result<Vec<_>, _>>()?.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_replay() {
        keyward_sdk::replay::check_all::<Cloudflare>("recordings");
    }

    #[test]
    fn the_descriptor_fits_its_schema() {
        keyward_sdk::replay::check_descriptor::<Cloudflare>();
    }

    #[test]
    fn a_models_name_leads_nowhere_else() {
        assert_eq!(model_path("@cf/meta/llama-3").unwrap(), "@cf/meta/llama-3");
        assert_eq!(model_path("a b?c#d").unwrap(), "a%20b%3Fc%23d");
        for model in ["../../zones", "@cf//x", "", "@cf/./x"] {
            assert!(model_path(model).is_err(), "{model}");
        }
    }
}
