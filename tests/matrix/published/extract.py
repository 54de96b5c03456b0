"""Writes the JSON Schemas of request bodies beside this file, from the vendors' own clients.

    python -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python extract.py

Vendors generate their Python clients from the API descriptions that they publish (OpenAPI for OpenAI,
Anthropic, Cloudflare and Cohere, protocol buffers for Google) or keep the wire's types in them
(Ollama). Those types become JSON Schema here, and nothing is added to them but this: an object whose members are
listed takes no others, so that a member unknown to the vendor is found. Descriptions are left out.
"""

import inspect
import json
import pathlib
import sys
import typing
import warnings
from importlib.metadata import version

import pydantic

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
NOT_NEEDED = {"title", "description", "default", "deprecated", "examples", "discriminator"}


def closed(schema):
    """Without what is for readers, and with no members beyond those listed."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            out[key] = {name: closed(inner) for name, inner in value.items()}
        elif key in ("const", "enum", "required"):
            out[key] = value
        elif key not in NOT_NEEDED:
            out[key] = closed(value)
    if "properties" in out:
        out["additionalProperties"] = False
    return out


def reachable(schema):
    """Without definitions that nothing refers to."""
    definitions = schema.get("$defs", {})
    found, waiting = set(), [{k: v for k, v in schema.items() if k != "$defs"}]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name in definitions and name not in found:
                found.add(name)
                waiting.append(definitions[name])
            waiting += value.values()
    schema["$defs"] = {name: definitions[name] for name in sorted(found)}
    return schema


def write(name, package, what, kind, in_path=()):
    """`in_path`: arguments of the client that the request carries in its path."""
    schema = pydantic.TypeAdapter(kind).json_schema(by_alias=True, mode="validation")
    schema = reachable(closed(schema))
    for definition in [schema, *schema["$defs"].values()]:
        for argument in in_path:
            if definition.get("properties", {}).pop(argument, None):
                definition["required"].remove(argument)
    head = {
        "source": f"https://pypi.org/project/{package}/{version(package)}/",
        "type": what,
        "read": "2026-11-22",
    }
    lines = ["{"]
    lines += [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    definitions = schema.pop("$defs", {})
    lines += ['  "schema": {']
    lines += [f"    {json.dumps(k)}: {json.dumps(v)}," for k, v in schema.items()]
    lines += ['    "$defs": {']
    lines += [",\n".join(f"      {json.dumps(k)}: {json.dumps(v)}" for k, v in definitions.items())]
    lines += ["    }", "  }", "}", ""]
    (HERE / f"{name}.json").write_text("\n".join(lines))


def from_call(name, call, leave_out):
    """A model of a method's named arguments, each optional unless it has no default."""
    hints = typing.get_type_hints(call, include_extras=True)
    fields = {}
    for parameter in inspect.signature(call).parameters.values():
        if parameter.name in ("self", *leave_out):
            continue
        required = parameter.default is inspect.Parameter.empty
        fields[parameter.name] = (hints[parameter.name], ... if required else None)
    return pydantic.create_model(name, **fields)


def main():
    from openai.types import embedding_create_params
    from openai.types.chat import completion_create_params
    from openai.types.responses import response_create_params

    write("openai-chat", "openai", "CompletionCreateParams", completion_create_params.CompletionCreateParams)
    write("openai-responses", "openai", "ResponseCreateParams", response_create_params.ResponseCreateParams)
    write("openai-embeddings", "openai", "EmbeddingCreateParams", embedding_create_params.EmbeddingCreateParams)

    from anthropic.types import message_create_params

    write("anthropic-messages", "anthropic", "MessageCreateParams", message_create_params.MessageCreateParams)

    from cloudflare.types.ai import ai_run_params

    # Each kind of model has its own body.
    text = typing.Union[ai_run_params.Prompt, ai_run_params.Messages, ai_run_params.TextEmbeddings]
    write("cloudflare-run", "cloudflare", "Prompt, Messages, TextEmbeddings", text, ["account_id"])

    from ollama import _types as ollama

    write("ollama-chat", "ollama", "ChatRequest", ollama.ChatRequest)
    write("ollama-embed", "ollama", "EmbedRequest", ollama.EmbedRequest)

    from cohere.v2.client import V2Client

    chat = from_call("Chat", V2Client.chat, ["request_options"])
    chat = pydantic.create_model("Chat", __base__=chat, stream=(typing.Optional[bool], None))
    write("cohere-chat", "cohere", "V2Client.chat", chat)
    write("cohere-embed", "cohere", "V2Client.embed", from_call("Embed", V2Client.embed, ["request_options"]))

    from google.genai import types as google

    # The request's members as the API reference lists them; the client spreads them over its methods.
    alias = pydantic.ConfigDict(alias_generator=pydantic.alias_generators.to_camel)
    generate = pydantic.create_model(
        "GenerateContentRequest",
        __config__=alias,
        contents=(list[google.Content], ...),
        tools=(list[google.Tool], None),
        tool_config=(google.ToolConfig, None),
        safety_settings=(list[google.SafetySetting], None),
        system_instruction=(google.Content, None),
        generation_config=(google.GenerationConfig, None),
        cached_content=(str, None),
        service_tier=(str, None),
        store=(bool, None),
    )
    write("gemini-generate", "google-genai", "Content, Tool, GenerationConfig, SafetySetting", generate)
    embed = pydantic.create_model(
        "EmbedContentRequest",
        __config__=alias,
        model=(str, None),
        content=(google.Content, ...),
        task_type=(str, None),
        title=(str, None),
        output_dimensionality=(int, None),
    )
    many = pydantic.create_model("BatchEmbedContentsRequest", requests=(list[embed], ...))
    write("gemini-embed", "google-genai", "Content, EmbedContentConfig", typing.Union[embed, many])


if __name__ == "__main__":
    sys.exit(main())
