"""Plain and streamed messages, images, thinking, schemas, counts, models."""

import base64
import json

import httpx2
import pydantic

from content import EVERY_CHARACTER
from suite import case

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()


def whole(message):
    return {
        "id": message.id,
        "type": message.type,
        "role": message.role,
        "model": message.model,
        "blocks": [block.type for block in message.content],
        "text": "".join(block.text for block in message.content if block.type == "text"),
        "stop": message.stop_reason,
        "sequence": message.stop_sequence,
        "usage": message.usage.model_dump(),
    }


def streamed(stream):
    """What the SDK's own accumulator makes of a stream, and the events it saw."""
    with stream as events:
        seen = [event.type for event in events]
        return whole(events.get_final_message()) | {"events": seen, "texts": seen.count("text")}


@case
def plain(server):
    return whole(server.chat("plain-model"))


@case
def plain_headers(server):
    answer = server.client.messages.with_raw_response.create(**server.request("plain-model"))
    return {"headers": dict(answer.headers), "text": answer.parse().content[0].text}


@case
def plain_with_settings(server):
    return whole(
        server.chat(
            "plain-model",
            system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            messages=[
                {"role": "user", "content": "First question"},
                {"role": "assistant", "content": [{"text": "First answer", "type": "text"}]},
                {"role": "user", "content": [{"type": "text", "text": "Second question"}]},
            ],
            extra_body={"temperature": 0.5},
            stop_sequences=["END"],
            metadata={"user_id": "u-1"},
            service_tier="auto",
        )
    )


@case
def every_character_arrives(server):
    return whole(server.chat("plain-model", EVERY_CHARACTER))


@case
def every_character_arrives_streamed(server):
    return streamed(server.stream("plain-model", EVERY_CHARACTER))


@case
def streamed_with_helper(server):
    return streamed(server.stream("plain-model"))


@case
def streamed_long(server):
    return streamed(server.stream("long-60"))


@case
def streamed_raw(server):
    return [event.model_dump() for event in server.chat("plain-model", stream=True)]


@case
def cut_by_length(server):
    return whole(server.chat("length", max_tokens=5))


@case
def cached_tokens(server):
    return {"whole": whole(server.chat("cached")), "streamed": streamed(server.stream("cached"))}


@case
def an_image(server):
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    content = [{"type": "text", "text": "What?"}, {"type": "image", "source": source}]
    return whole(server.chat("image", content)) | {"length": len(PIXEL)}


@case
def thinking(server):
    asked = {"type": "enabled", "budget_tokens": 1024}
    question = {"role": "user", "content": "Think"}
    first = server.chat("thinking", messages=[question], max_tokens=4000, thinking=asked)
    with server.stream("thinking", messages=[question], max_tokens=4000, thinking=asked) as stream:
        second = stream.get_final_message()
    again = server.chat(
        "thinking",
        max_tokens=4000,
        thinking=asked,
        messages=[question, {"role": "assistant", "content": first.content}, {"role": "user", "content": "thought-again"}],
    )
    blocks = [block.model_dump() for block in first.content]
    return {"whole": blocks, "streamed": [block.model_dump() for block in second.content], "again": whole(again)}


class Person(pydantic.BaseModel):
    name: str
    age: int


@case
def a_schema(server):
    schema = Person.model_json_schema() | {"additionalProperties": False}
    format = {"type": "json_schema", "schema": schema}
    return {"answer": json.loads(server.chat("json-schema", "Who?", output_config={"format": format}).content[0].text)}


@case
def a_pydantic_class(server):
    message = server.client.messages.parse(**server.request("json-schema", "Who?"), output_format=Person)
    return message.parsed_output.model_dump() | {"class": type(message.parsed_output).__name__}


@case
def a_count(server):
    answer = server.client.messages.with_raw_response.count_tokens(
        model=server.model("plain-model"), messages=[{"role": "user", "content": "count me " * 100}]
    )
    return {"tokens": answer.parse().input_tokens, "headers": dict(answer.headers)}


@case
def a_count_that_fails(server):
    return server.client.messages.count_tokens(
        model=server.model("status-429-after-3"), messages=[{"role": "user", "content": "Hello"}]
    ).input_tokens


@case
def all_models(server):
    listed = list(server.client.models.list(limit=2))
    return {
        "ids": [model.id for model in listed],
        "types": sorted({model.type for model in listed}),
        "dated": all(model.created_at.year >= 1970 for model in listed),
        "again": server.client.models.retrieve(listed[0].id).id,
    }


@case
def an_unknown_model(server):
    return server.client.models.retrieve("no-such-model").id


@case
def fields_nobody_knows(server):
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "doc-text"}, "context": "ctx"}
    return whole(
        server.chat(
            "plain-model",
            messages=[{"role": "user", "content": [document, {"type": "text", "text": "unknown-fields", "in_block": 1}], "in_message": 2}],
            tools=[{"name": "f", "input_schema": {"type": "object"}, "in_tool": 3}],
            extra_body={"at_top": {"deep": [4]}},
        )
    )


@case
def the_old_way_of_showing_a_key(server):
    """SDKs before 2.0 send `x-api-key`; so do most other clients of this protocol."""
    answer = httpx2.post(
        server.base_url + "/v1/messages",
        headers={"x-api-key": server.api_key, "anthropic-version": "2023-06-01"},
        json=server.request("plain-model"),
    )
    return {"status": answer.status_code, "body": answer.json()}
