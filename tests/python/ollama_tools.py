"""Tool calls: whole, streamed, several at once, and back with their results."""

import ollama

from suite import case

QUESTION = {"role": "user", "content": "What is the weather?"}


def get_weather(city: str) -> str:
    """The weather in a city

    Args:
        city: the city's name
    """
    return f'{city}: "sunny", 21°'


def calls_of(message):
    return [{"name": call.function.name, "arguments": dict(call.function.arguments)} for call in message.tool_calls or []]


def ask(server, model):
    answer = server.chat(model, messages=[QUESTION], tools=[get_weather])
    return {"calls": calls_of(answer.message), "text": answer.message.content, "reason": answer.done_reason}


@case
def one_call(server):
    return ask(server, "tools")


@case
def parallel_calls(server):
    return ask(server, "tools-parallel")


def accumulate(server, model):
    calls, lines, reasons = [], 0, []
    for part in server.chat(model, messages=[QUESTION], tools=[get_weather], stream=True):
        found = calls_of(part.message)
        calls += found
        lines += bool(found)
        if part.done:
            reasons.append(part.done_reason)
    return {"calls": calls, "lines": lines, "reasons": reasons}


@case
def one_call_streamed(server):
    return accumulate(server, "tools")


@case
def parallel_calls_streamed(server):
    return accumulate(server, "tools-parallel")


def round_trip(server, model, named, stream=False):
    """Asks, answers every call, and asks again with the very message that the SDK gave."""
    first = server.chat(model, messages=[QUESTION], tools=[get_weather]).message
    results = []
    for call in first.tool_calls:
        result = {"role": "tool", "content": get_weather(**call.function.arguments)}
        results.append(result | ({"tool_name": call.function.name} if named else {}))
    messages = [QUESTION, first, *results]
    answer = server.chat(model, messages=messages, tools=[get_weather], stream=stream)
    text = "".join(part.message.content for part in answer) if stream else answer.message.content
    return {"text": text, "calls": len(first.tool_calls)}


@case
def a_result_comes_back(server):
    return round_trip(server, "tools", named=True)


@case
def two_results_come_back(server):
    return round_trip(server, "tools-parallel", named=True)


@case
def two_results_without_names_come_back_streamed(server):
    return round_trip(server, "tools-parallel", named=False, stream=True)


@case
def a_tool_as_the_sdks_type(server):
    tool = ollama.Tool(
        type="function",
        function=ollama.Tool.Function(
            name="get_weather",
            description="The weather in a city",
            parameters=ollama.Tool.Function.Parameters(
                type="object",
                properties={"city": ollama.Tool.Function.Parameters.Property(type="string")},
                required=["city"],
            ),
        ),
    )
    answer = server.chat("tools", messages=[QUESTION], tools=[tool])
    return {"calls": calls_of(answer.message)}
