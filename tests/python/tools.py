"""Tool calls: whole, streamed, several at once, and back with their results."""

import json

from suite import case

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
QUESTION = {"role": "user", "content": "What is the weather?"}


def calls_of(message):
    return [
        {"id": call.id, "type": call.type, "name": call.function.name, "arguments": json.loads(call.function.arguments)}
        for call in message.tool_calls or []
    ]


def ask(server, model, **options):
    answer = server.chat(model, messages=[QUESTION], tools=[WEATHER], **options)
    choice = answer.choices[0]
    return {"calls": calls_of(choice.message), "text": choice.message.content, "finish": choice.finish_reason}


@case
def one_call(server):
    return ask(server, "tools")


@case
def parallel_calls(server):
    return ask(server, "tools-parallel", parallel_tool_calls=True)


@case
def a_required_tool(server):
    return ask(server, "tools", tool_choice="required")


@case
def a_named_tool(server):
    return ask(server, "tools", tool_choice={"type": "function", "function": {"name": "get_weather"}})


def accumulate(stream):
    calls, finish, fragments = {}, [], 0
    for chunk in stream:
        for choice in chunk.choices:
            if choice.finish_reason:
                finish.append(choice.finish_reason)
            for delta in choice.delta.tool_calls or []:
                call = calls.setdefault(delta.index, {"id": None, "name": "", "arguments": "", "starts": 0})
                if delta.id:
                    call["id"] = delta.id
                    call["starts"] += 1
                if delta.function and delta.function.name:
                    call["name"] += delta.function.name
                if delta.function and delta.function.arguments:
                    call["arguments"] += delta.function.arguments
                    fragments += 1
    for call in calls.values():
        call["arguments"] = json.loads(call["arguments"])
    return {"calls": [calls[index] for index in sorted(calls)], "finish": finish, "fragments": fragments}


@case
def one_call_streamed(server):
    return accumulate(server.chat("tools", messages=[QUESTION], tools=[WEATHER], stream=True))


@case
def parallel_calls_streamed(server):
    return accumulate(server.chat("tools-parallel", messages=[QUESTION], tools=[WEATHER], stream=True))


@case
def streamed_calls_with_helper(server):
    with server.client.chat.completions.stream(
        model=server.model("tools-parallel"), messages=[QUESTION], tools=[WEATHER]
    ) as stream:
        for _ in stream:
            pass
        return {"calls": calls_of(stream.get_final_completion().choices[0].message)}


def round_trip(server, model, stream):
    """Asks, answers every call, and asks again with the very message that the SDK gave."""
    first = server.chat(model, messages=[QUESTION], tools=[WEATHER]).choices[0].message
    messages = [QUESTION, first.model_dump(exclude_none=True)]
    for call in first.tool_calls:
        city = json.loads(call.function.arguments)["city"]
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{city}: \"sunny\", 21°"})
    answer = server.chat(model, messages=messages, tools=[WEATHER], stream=stream)
    if stream:
        text = "".join(c.choices[0].delta.content or "" for c in answer if c.choices)
    else:
        text = answer.choices[0].message.content
    return {"text": text, "calls": len(first.tool_calls)}


@case
def a_result_comes_back(server):
    return round_trip(server, "tools", stream=False)


@case
def two_results_come_back(server):
    return round_trip(server, "tools-parallel", stream=False)


@case
def two_results_come_back_streamed(server):
    return round_trip(server, "tools-parallel", stream=True)
