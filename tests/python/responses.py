"""The Responses API: whole and streamed, tools, thinking, structure, what is stored, errors.

    python responses.py BASE_URL API_KEY PREFIX [CASE...]

Cases for the unchanged OpenAI SDK; suite.py says how they are run and report.
"""

import json
import sys

import openai
import pydantic

import suite
from content import EVERY_CHARACTER, png
from openai_suite import Server
from suite import broken_streams, case, failures

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
PERSON = {
    "type": "json_schema",
    "name": "person",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
}


def create(server, model, input="Hello there", **options):
    return server.client.responses.create(model=server.model(model), input=input, **options)


def whole(response):
    return {
        "id": response.id,
        "object": response.object,
        "created_at": response.created_at,
        "model": response.model,
        "status": response.status,
        "reason": response.incomplete_details.reason if response.incomplete_details else None,
        "text": response.output_text,
        "items": [item.to_dict() for item in response.output],
        "kinds": [item.type for item in response.output],
        "usage": response.usage.to_dict() if response.usage else None,
        "parallel_tool_calls": response.parallel_tool_calls,
        "tool_choice": response.tool_choice if isinstance(response.tool_choice, str) else "other",
        "tools": len(response.tools),
        "all": response.to_dict(),
    }


def gather(stream):
    """Everything a stream gives, with what must hold for the order of events."""
    seen = {"events": [], "text": "", "deltas": 0, "thinking": "", "refusal": "", "arguments": {}, "ids": set(),
            "others": []}
    open_items, numbers = {}, []
    for event in stream:
        seen["events"].append(event.type)
        numbers.append(event.sequence_number)
        if hasattr(event, "response"):
            seen["ids"].add(event.response.id)
            seen["last"] = whole(event.response)
        if event.type == "response.output_item.added":
            assert event.output_index == len(open_items), "items begin in order"
            open_items[event.output_index] = event.item.id
        elif hasattr(event, "item_id"):
            assert open_items[event.output_index] == event.item_id, "events name their item"
        if event.type == "response.output_text.delta":
            seen["text"] += event.delta
            seen["deltas"] += 1
        elif event.type == "response.refusal.delta":
            seen["refusal"] += event.delta
        elif event.type == "response.reasoning_summary_text.delta":
            seen["thinking"] += event.delta
        elif event.type == "response.function_call_arguments.delta":
            seen["arguments"].setdefault(event.output_index, []).append(event.delta)
        elif event.type.startswith("response.web_search_call"):
            seen["others"].append(event.to_dict())
    assert numbers == list(range(len(numbers))), f"numbers have gaps: {numbers}"
    seen["ids"] = sorted(seen["ids"])
    return seen


# ---------------------------------------------------------------- answers


@case
def plain(server):
    return whole(create(server, "plain-model"))


@case
def plain_headers(server):
    answer = server.client.responses.with_raw_response.create(model=server.model("plain-model"), input="Hello")
    return {"headers": dict(answer.headers), "text": answer.parse().output_text}


@case
def plain_with_settings(server):
    """Every common setting at once: none may make a vendor refuse the request."""
    answer = server.client.responses.with_raw_response.create(
        model=server.model("plain-model"),
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Very brief."},
            {"role": "user", "content": "First question"},
            {"role": "assistant", "content": "First answer"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Second question"}]},
        ],
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        metadata={"topic": "demo"},
        store=False,
        truncation="disabled",
        service_tier="auto",
        background=False,
        include=["reasoning.encrypted_content"],
        parallel_tool_calls=True,
        user="user-1",
    )
    return whole(answer.parse()) | {"warnings": answer.headers.get("x-keyward-warnings")}


@case
def every_character_arrives(server):
    return whole(create(server, "plain-model", EVERY_CHARACTER))


@case
def every_character_arrives_streamed(server):
    return gather(create(server, "plain-model", EVERY_CHARACTER, stream=True))


@case
def streamed(server):
    return gather(create(server, "plain-model", stream=True))


@case
def streamed_long(server):
    return gather(create(server, "long-60", stream=True)) | {"events": []}


@case
def streamed_byte_by_byte(server):
    return gather(create(server, "bytewise", "Grüße 🦀", stream=True))


@case
def streamed_with_helper(server):
    """The SDK's own accumulator checks the order of what comes."""
    with server.client.responses.stream(model=server.model("plain-model"), input="Hello there") as stream:
        kinds = {event.type for event in stream}
        return whole(stream.get_final_response()) | {"events": sorted(kinds)}


@case
def cut_by_length(server):
    return whole(create(server, "length", max_output_tokens=20))


@case
def cut_by_length_streamed(server):
    return gather(create(server, "length", max_output_tokens=20, stream=True))


@case
def cached_tokens(server):
    return whole(create(server, "cached"))


@case
def an_image(server):
    parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": "data:image/png;base64," + png(), "detail": "low"}]
    return whole(create(server, "image", [{"role": "user", "content": parts}])) | {"length": len(png())}


@case
def a_conversation_goes_on(server):
    """The SDK's own way: the output of one turn is input of the next."""
    first = create(server, "plain-model", [{"role": "user", "content": "One"}])
    items = [{"role": "user", "content": "One"}] + first.output + [{"role": "user", "content": "Two"}]
    return whole(create(server, "plain-model", items))


# ---------------------------------------------------------------- tools


def calls_of(response):
    return [
        {"id": item.call_id, "name": item.name, "arguments": json.loads(item.arguments)}
        for item in response.output
        if item.type == "function_call"
    ]


@case
def one_call(server):
    response = create(server, "tools", "What is the weather?", tools=[WEATHER])
    return whole(response) | {"calls": calls_of(response)}


@case
def parallel_calls(server):
    response = create(server, "tools-parallel", "What is the weather?", tools=[WEATHER], parallel_tool_calls=True)
    return whole(response) | {"calls": calls_of(response)}


@case
def a_required_tool(server):
    return {"calls": calls_of(create(server, "tools", tools=[WEATHER], tool_choice="required"))}


@case
def a_named_tool(server):
    choice = {"type": "function", "name": "get_weather"}
    return {"calls": calls_of(create(server, "tools", tools=[WEATHER], tool_choice=choice))}


@case
def one_call_streamed(server):
    return gather(create(server, "tools", tools=[WEATHER], stream=True))


@case
def parallel_calls_streamed(server):
    return gather(create(server, "tools-parallel", tools=[WEATHER], stream=True))


@case
def streamed_calls_with_helper(server):
    with server.client.responses.stream(
        model=server.model("tools-parallel"), input="What is the weather?", tools=[WEATHER]
    ) as stream:
        for _ in stream:
            pass
        return {"calls": calls_of(stream.get_final_response())}


def round_trip(server, model, stream=False, text=False):
    items = [{"role": "user", "content": "What is the weather?"}]
    first = create(server, model, items, tools=[WEATHER])
    items += first.output
    for item in first.output:
        if item.type == "function_call":
            said = f"{json.loads(item.arguments)['city']}: \"sunny\", 21°"
            output = said if text else [{"type": "input_text", "text": said}]
            items.append({"type": "function_call_output", "call_id": item.call_id, "output": output})
    answer = create(server, model, items, tools=[WEATHER], stream=stream)
    return gather(answer) if stream else whole(answer)


@case
def a_result_comes_back(server):
    return round_trip(server, "tools", text=True)


@case
def two_results_come_back(server):
    return round_trip(server, "tools-parallel", text=True)


@case
def two_results_come_back_streamed(server):
    return round_trip(server, "tools-parallel", stream=True, text=True)


@case
def a_result_in_parts(server):
    return round_trip(server, "tools")


@case
def a_custom_tool(server):
    tool = {"type": "custom", "name": "query", "description": "Runs SQL"}
    items = [{"role": "user", "content": "What is the weather?"}]
    raw = server.client.responses.with_raw_response.create(model=server.model("tools"), input=items, tools=[tool])
    first, warnings = raw.parse(), raw.headers.get("x-keyward-warnings")
    if first.output[0].type == "message":
        return {"first": whole(first), "warnings": warnings}
    items += first.output
    items.append({"type": "custom_tool_call_output", "call_id": first.output[0].call_id, "output": "sunny"})
    second = create(server, "tools", items, tools=[tool])
    streamed = list(create(server, "tools", tools=[tool], stream=True))
    deltas = [event.delta for event in streamed if event.type == "response.custom_tool_call_input.delta"]
    return {"first": whole(first), "second": whole(second), "streamed": "".join(deltas), "warnings": warnings}


@case
def a_tool_of_the_vendors(server):
    return whole(create(server, "web-search", tools=[{"type": "web_search", "search_context_size": "low"}]))


@case
def a_tool_of_the_vendors_streamed(server):
    return gather(create(server, "web-search", tools=[{"type": "web_search"}], stream=True))


# ---------------------------------------------------------------- thinking, structure, refusals


@case
def thinking(server):
    return whole(create(server, "thinking", include=["reasoning.encrypted_content"], reasoning={"effort": "low"}))


@case
def thinking_streamed(server):
    return gather(create(server, "thinking", include=["reasoning.encrypted_content"], stream=True))


@case
def thinking_comes_back(server):
    options = {"include": ["reasoning.encrypted_content"]}
    items = [{"role": "user", "content": "One"}]
    first = create(server, "thinking", items, **options)
    items += first.output + [{"role": "user", "content": "comes-back"}]
    return whole(create(server, "thinking", items, **options))


@case
def a_schema(server):
    response = create(server, "json-schema", "Who?", text={"format": PERSON})
    return {"answer": json.loads(response.output_text), "status": response.status}


class Person(pydantic.BaseModel):
    name: str
    age: int


@case
def a_pydantic_class(server):
    response = server.client.responses.parse(model=server.model("json-schema"), input="Who?", text_format=Person)
    person = response.output_parsed
    return {"name": person.name, "age": person.age, "class": type(person).__name__}


@case
def a_pydantic_class_streamed(server):
    with server.client.responses.stream(model=server.model("json-schema"), input="Who?", text_format=Person) as stream:
        for _ in stream:
            pass
        person = stream.get_final_response().output_parsed
    return {"name": person.name, "age": person.age, "class": type(person).__name__}


@case
def a_refusal(server):
    return whole(create(server, "refusal"))


@case
def a_refusal_streamed(server):
    return gather(create(server, "refusal", stream=True))


# ---------------------------------------------------------------- what is stored


@case
def a_conversation_by_reference(server):
    first = create(server, "plain-model", "One")
    return whole(create(server, "plain-model", "Two", previous_response_id=first.id))


@case
def a_conversation_by_reference_streamed(server):
    first = create(server, "plain-model", "One")
    return gather(create(server, "plain-model", "Two", previous_response_id=first.id, stream=True))


@case
def an_item_by_reference(server):
    items = [{"type": "item_reference", "id": "msg_67ccd2bf17f0819081ff3bb2cf6508e6"}, {"role": "user", "content": "Two"}]
    return whole(create(server, "plain-model", items))


@case
def in_the_background(server):
    return whole(create(server, "background", background=True))


@case
def a_response_is_asked_for_again(server):
    return whole(server.client.responses.retrieve(create(server, "plain-model").id))


@case
def a_response_is_deleted(server):
    return server.client.responses.delete("resp_none")


@case
def a_response_is_cancelled(server):
    return whole(server.client.responses.cancel("resp_none"))


@case
def input_items_are_asked_for(server):
    return [item.to_dict() for item in server.client.responses.input_items.list("resp_none")]


# ---------------------------------------------------------------- errors


def failing(model, stream):
    def run(server):
        answer = create(server, model, stream=stream)
        return gather(answer) if stream else whole(answer)

    return run


failures(failing, (400, 401, 403, 404, 429, 500, 503))


@case
def retry_after_is_passed_on(server):
    return failing("status-429-after-7", False)(server)


@case
def a_wrong_caller_token(server):
    client = server.new_client(api_key="wrong-token")
    return client.responses.create(model=server.model("plain-model"), input="Hello").id


@case
def a_wrong_role(server):
    return create(server, "plain-model", [{"role": "user", "content": "Hi"}, {"role": "nobody", "content": "Hello"}]).id


@case
def a_wrong_type(server):
    return create(server, "plain-model", extra_body={"temperature": "hot"}).id


@case
def no_input(server):
    return server.client.responses.create(model=server.model("plain-model")).id


@case
def a_failed_response(server):
    return whole(create(server, "failed"))


def broken_stream(model):
    """What came before the error, and the error."""

    def run(server):
        seen = {"text": "", "events": []}
        try:
            for event in create(server, model, "one two three four five six seven eight", stream=True):
                seen["events"].append(event.type)
                if event.type == "response.output_text.delta":
                    seen["text"] += event.delta
        except openai.OpenAIError as error:
            seen["raised"] = suite.raised(error)
        return seen

    return run


broken_streams(broken_stream, pieces=8)
case(broken_stream("failed"), "a_failed_response_streamed")


if __name__ == "__main__":
    suite.run(Server, openai.OpenAIError)
