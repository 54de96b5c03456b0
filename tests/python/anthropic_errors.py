"""Every way to fail, as the SDK's own exceptions."""

import anthropic

from suite import broken_streams, case, failures, raised


def failing(model, stream):
    def run(server):
        if not stream:
            return server.chat(model).id
        return [event.type for event in server.chat(model, stream=True)]

    return run


failures(failing, (400, 401, 402, 403, 404, 413, 429, 500, 529))


@case
def retry_after_is_passed_on(server):
    return failing("status-429-after-7", False)(server)


@case
def a_wrong_caller_token(server):
    return server.new_client(api_key="wrong-token").messages.create(**server.request("plain-model")).id


@case
def a_wrong_type(server):
    return server.chat("plain-model", extra_body={"temperature": "hot"}).id


@case
def no_limit(server):
    request = server.request("plain-model") | {"max_tokens": None}
    return server.client.messages.create(**request).id


@case
def an_unknown_provider(server):
    return server.client.messages.create(**server.request("m") | {"model": "no-such-provider/model"}).id


@case
def an_unknown_path(server):
    return server.client.post("/v1/messages/nothing", cast_to=object, body={})


def broken_stream(model):
    """What came before the error, and the error."""

    def run(server):
        text, ended = "", False
        try:
            for event in server.chat(model, "one two three four five six seven eight", stream=True):
                if event.type == "content_block_delta":
                    text += event.delta.text
                ended |= event.type == "message_stop"
        except anthropic.AnthropicError as error:
            return {"text": text, "ended": ended, "raised": raised(error)}
        return {"text": text, "ended": ended}

    return run


broken_streams(broken_stream)
