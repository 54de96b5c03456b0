"""Plain and streamed chats, images, thinking, usage."""

from content import EVERY_CHARACTER, png
from suite import case


def whole(answer):
    choice = answer.choices[0]
    return {
        "id": answer.id,
        "object": answer.object,
        "model": answer.model,
        "created": answer.created,
        "role": choice.message.role,
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "usage": answer.usage.model_dump() if answer.usage else None,
        "choices": len(answer.choices),
    }


def gather(stream):
    """Everything a stream gives, put together, with what must hold for each chunk."""
    seen = {"text": "", "deltas": 0, "chunks": 0, "usages": [], "ids": set(), "objects": set(),
            "finish": [], "roles": [], "models": set()}
    for chunk in stream:
        seen["chunks"] += 1
        seen["ids"].add(chunk.id)
        seen["objects"].add(chunk.object)
        seen["models"].add(chunk.model)
        if chunk.usage:
            seen["usages"].append(chunk.usage.model_dump())
            seen["usage_choices"] = len(chunk.choices)
        for choice in chunk.choices:
            if choice.delta.role:
                seen["roles"].append(choice.delta.role)
            if choice.delta.content:
                seen["text"] += choice.delta.content
                seen["deltas"] += 1
            if choice.finish_reason:
                seen["finish"].append(choice.finish_reason)
    return {name: sorted(value) if isinstance(value, set) else value for name, value in seen.items()}


@case
def plain(server):
    return whole(server.chat("plain-model", "Hello there"))


@case
def plain_headers(server):
    answer = server.client.chat.completions.with_raw_response.create(
        model=server.model("plain-model"), messages=[{"role": "user", "content": "Hello"}]
    )
    return {"headers": dict(answer.headers), "text": answer.parse().choices[0].message.content}


@case
def plain_with_settings(server):
    """Every common setting at once: none may make a vendor refuse the request."""
    return whole(
        server.chat(
            "plain-model",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": "Very brief."},
                {"role": "user", "content": "First question"},
                {"role": "assistant", "content": "First answer"},
                {"role": "user", "content": [{"type": "text", "text": "Second "}, {"type": "text", "text": "question"}]},
            ],
            max_completion_tokens=100,
            temperature=0.5,
            top_p=0.9,
            stop=["END"],
            seed=7,
            user="user-1",
        )
    )


@case
def every_character_arrives(server):
    return whole(server.chat("plain-model", EVERY_CHARACTER))


@case
def every_character_arrives_streamed(server):
    return gather(server.chat("plain-model", EVERY_CHARACTER, stream=True))


@case
def a_large_prompt(server):
    prompt = "All work and no play. " * 20_000
    answer = server.chat("plain-model", prompt)
    return {"whole": answer.choices[0].message.content == "You said: " + prompt}


@case
def streamed(server):
    return gather(server.chat("plain-model", "Hello there", stream=True))


@case
def streamed_with_usage(server):
    return gather(server.chat("plain-model", stream=True, stream_options={"include_usage": True}))


@case
def streamed_long(server):
    seen = gather(server.chat("long-60", stream=True))
    return seen | {"text": seen["text"].split()}


@case
def streamed_byte_by_byte(server):
    return gather(server.chat("bytewise", "Grüße 🦀", stream=True))


@case
def streamed_with_carriage_returns(server):
    return gather(server.chat("crlf", "Hello there", stream=True))


@case
def streamed_at_once(server):
    return gather(server.chat("at-once", "Hello there", stream=True))


@case
def streamed_with_helper(server):
    """The SDK's own accumulator checks the order of what comes."""
    with server.client.chat.completions.stream(
        model=server.model("plain-model"), messages=[{"role": "user", "content": "Hello there"}]
    ) as stream:
        kinds = {event.type for event in stream}
        return whole(stream.get_final_completion()) | {"events": sorted(kinds)}


@case
def cut_by_length(server):
    return whole(server.chat("length", max_tokens=5))


@case
def cached_tokens(server):
    return whole(server.chat("cached"))


@case
def an_image(server):
    return whole(
        server.chat(
            "image",
            [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64," + png(), "detail": "low"}},
            ],
        )
    ) | {"length": len(png())}


@case
def two_images_streamed(server):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + png()}}
    return gather(server.chat("image", [image, {"type": "text", "text": "Compare"}, image], stream=True))
