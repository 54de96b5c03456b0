"""Chats and generations, plain and streamed: text, images, thinking, structure, counts."""

import asyncio
import base64

import ollama
import pydantic

from content import EVERY_CHARACTER, png
from suite import case

METRICS = ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"]


def ending(answer):
    return {
        "model": answer.model,
        "created_at": answer.created_at,
        "done": answer.done,
        "reason": answer.done_reason,
        "metrics": {name: answer.get(name) for name in METRICS},
    }


def whole(answer):
    return ending(answer) | {
        "role": answer.message.role,
        "text": answer.message.content,
        "thinking": answer.message.thinking,
    }


def gather(stream):
    """Everything a stream gives, put together, with what must hold for each line."""
    seen = {"text": "", "thinking": "", "lines": 0, "deltas": 0, "roles": [], "models": [], "done": []}
    for part in stream:
        seen["lines"] += 1
        seen["text"] += part.message.content or ""
        seen["thinking"] += part.message.thinking or ""
        seen["deltas"] += bool(part.message.content)
        seen["done"].append(part.done)
        for key, value in (("roles", part.message.role), ("models", part.model)):
            if value not in seen[key]:
                seen[key].append(value)
        if part.done:
            seen["end"] = ending(part)
    return seen


@case
def plain(server):
    return whole(server.chat("plain-model"))


@case
def streamed(server):
    return gather(server.chat("plain-model", stream=True))


@case
def streaming_is_the_default(server):
    """The SDK always says whether it wants a stream; programs that don't get one."""
    body = {"model": server.model("plain-model"), "messages": [{"role": "user", "content": "Hello there"}]}
    answer = server.client._client.post("/api/chat", json=body)
    return {"lines": answer.text.count("\n"), "type": answer.headers["content-type"]}


@case
def plain_with_settings(server):
    return whole(
        server.chat(
            "plain-model",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "First question"},
                ollama.Message(role="assistant", content="First answer"),
                {"role": "user", "content": "Second question"},
            ],
            options={"temperature": 0.5, "top_p": 0.9, "seed": 7, "num_predict": 100, "stop": ["END"]},
        )
    )


@case
def options_of_ollamas_own(server):
    options = ollama.Options(num_ctx=8192, mirostat=1, top_k=20, repeat_penalty=1.1)
    return whole(server.chat("plain-model", "own options", options=options, keep_alive="10m"))


@case
def fields_that_nobody_knows(server):
    """At every level where Ollama's own requests may grow."""
    body = {
        "model": server.model("plain-model"),
        "stream": False,
        "future": {"a": [1, None]},
        "options": {"future_option": 0.5},
        "messages": [{"role": "user", "content": "unknown fields", "mood": "good"}],
        "tools": [{"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}, "weight": 3}],
    }
    return server.client._request_raw("POST", "/api/chat", json=body).json()


@case
def every_character_arrives(server):
    return whole(server.chat("plain-model", EVERY_CHARACTER + "\u0085"))


@case
def every_character_arrives_streamed(server):
    return gather(server.chat("plain-model", EVERY_CHARACTER + "\u0085", stream=True))


@case
def streamed_long(server):
    seen = gather(server.chat("long-60", stream=True))
    return seen | {"text": seen["text"].split()}


@case
def streamed_byte_by_byte(server):
    return gather(server.chat("bytewise", "Grüße 🦀", stream=True))


@case
def streamed_at_once(server):
    return gather(server.chat("at-once", stream=True))


@case
def an_async_client(server):
    async def run():
        client = server.new_client(ollama.AsyncClient)
        messages = [{"role": "user", "content": "Hello there"}]
        plain = await client.chat(model=server.model("plain-model"), messages=messages)
        text = ""
        async for part in await client.chat(model=server.model("plain-model"), messages=messages, stream=True):
            text += part.message.content
        return {"plain": plain.message.content, "streamed": text}

    return asyncio.run(run())


@case
def cut_by_length(server):
    return whole(server.chat("length", options={"num_predict": 5}))


@case
def cut_by_length_streamed(server):
    return gather(server.chat("length", options={"num_predict": 5}, stream=True))


@case
def thinking(server):
    return whole(server.chat("thinking", think=True))


@case
def thinking_streamed(server):
    return gather(server.chat("thinking", think="low", stream=True))


@case
def thinking_off(server):
    return whole(server.chat("plain-model", think=False))


@case
def an_image(server):
    message = {"role": "user", "content": "What is this?", "images": [base64.b64decode(png())]}
    return whole(server.chat("image", messages=[message])) | {"length": len(png())}


@case
def two_images_streamed(server):
    message = {"role": "user", "content": "Compare", "images": [png(), png()]}
    return gather(server.chat("image", messages=[message], stream=True))


class Person(pydantic.BaseModel):
    name: str
    age: int


@case
def a_schema(server):
    answer = server.chat("plain-model", "Who?", format=Person.model_json_schema())
    return Person.model_validate_json(answer.message.content).model_dump()


@case
def a_schema_streamed(server):
    seen = gather(server.chat("plain-model", "Who?", format=Person.model_json_schema(), stream=True))
    return Person.model_validate_json(seen["text"]).model_dump()


@case
def a_json_object(server):
    return whole(server.chat("plain-model", "Who? In JSON.", format="json"))


@case
def nothing_to_answer(server):
    return whole(server.client.chat(model=server.model("llama3.2:latest"), messages=[]))


@case
def unloading(server):
    answer = server.client.generate(model=server.model("llama3.2:latest"), keep_alive=0)
    return ending(answer) | {"text": answer.response}


# ------------------------------------------------------------------ generations


@case
def a_generation(server):
    answer = server.generate("plain-model", system="Be brief.")
    return ending(answer) | {"text": answer.response, "context": answer.context}


@case
def a_generation_streamed(server):
    parts = list(server.generate("plain-model", stream=True))
    return {"text": "".join(part.response for part in parts), "done": [part.done for part in parts], "end": ending(parts[-1])}


@case
def a_generation_that_thinks(server):
    answer = server.generate("thinking", think=True)
    return {"text": answer.response, "thinking": answer.thinking}


@case
def a_generation_about_an_image(server):
    answer = server.generate("image", "What is this?", images=[png()])
    return {"text": answer.response, "length": len(png())}


@case
def a_generation_by_schema(server):
    answer = server.generate("plain-model", "Who?", format=Person.model_json_schema())
    return Person.model_validate_json(answer.response).model_dump()
