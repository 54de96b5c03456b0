"""Tool calls: whole, streamed, several at once, back with their results, and in the SDK's own loop."""

import json

from anthropic import beta_tool

from anthropic_chat import whole
from suite import case

WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
QUESTION = {"role": "user", "content": "What is the weather?"}


def calls_of(message):
    calls = [block for block in message.content if block.type == "tool_use"]
    return {
        "calls": [{"id": call.id, "name": call.name, "input": call.input} for call in calls],
        "stop": message.stop_reason,
    }


def ask(server, model, **options):
    return server.chat(model, messages=[QUESTION], tools=[WEATHER], **options)


@case
def one_call(server):
    return calls_of(ask(server, "tools"))


@case
def a_named_tool(server):
    return calls_of(ask(server, "tools", tool_choice={"type": "tool", "name": "get_weather"}))


@case
def any_tool(server):
    return calls_of(ask(server, "tools", tool_choice={"type": "any", "disable_parallel_tool_use": True}))


@case
def parallel_calls(server):
    return calls_of(ask(server, "tools-parallel"))


@case
def streamed_calls(server):
    with server.stream("tools-parallel", messages=[QUESTION], tools=[WEATHER]) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        return calls_of(stream.get_final_message()) | {"pieces": len([piece for piece in pieces if piece])}


def round_trip(server, model, **options):
    first = ask(server, model)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": f"{block.input['city']}: \"sunny\", 21°"}
        for block in first.content
        if block.type == "tool_use"
    ]
    messages = [QUESTION, first.to_param(), {"role": "user", "content": results}]
    return server.request(model, messages=messages, tools=[WEATHER], **options)


@case
def results_come_back(server):
    return whole(server.client.messages.create(**round_trip(server, "tools-parallel")))


@case
def results_come_back_streamed(server):
    with server.client.messages.stream(**round_trip(server, "tools-parallel")) as stream:
        return whole(stream.get_final_message())


@case
def the_sdks_own_loop(server):
    """It first asks the server to remember the conversation, and sends all of it where that is refused."""
    asked = []

    @beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return json.dumps({city: "sunny"})

    runner = server.client.beta.messages.tool_runner(
        model=server.model("tools"), max_tokens=1000, messages=[QUESTION], tools=[get_weather]
    )
    last = runner.until_done()
    return {"asked": asked, "text": last.content[-1].text}
