"""Every way to fail, as the SDK's own exceptions."""

import openai

from suite import broken_streams, case, failures, raised


def failing(model, stream=False):
    def run(server):
        answer = server.chat(model, stream=stream)
        if stream:
            return {"text": "".join(c.choices[0].delta.content or "" for c in answer if c.choices)}
        return {"text": answer.choices[0].message.content}

    return run


failures(failing, (400, 401, 403, 404, 429, 500, 503))


@case
def retry_after_is_passed_on(server):
    return failing("status-429-after-7")(server)


@case
def a_prompt_that_is_too_long(server):
    return failing("status-400-context")(server)


@case
def a_wrong_caller_token(server):
    client = server.new_client(api_key="wrong-token")
    return client.chat.completions.create(
        model=server.model("plain-model"), messages=[{"role": "user", "content": "Hello"}]
    ).id


@case
def no_messages(server):
    return server.chat("plain-model", messages=[{"role": "nobody", "content": "Hello"}]).id


@case
def a_wrong_type(server):
    return server.chat("plain-model", extra_body={"temperature": "hot"}).id


@case
def an_unknown_provider(server):
    return server.client.chat.completions.create(
        model="no-such-provider/model", messages=[{"role": "user", "content": "Hello"}]
    ).id


@case
def a_caller_that_does_not_wait(server):
    client = server.new_client(timeout=0.3)
    return client.chat.completions.create(
        model=server.model("hang"), messages=[{"role": "user", "content": "Hello"}]
    ).id


def broken_stream(model):
    """What came before the error, and the error."""

    def run(server):
        text, chunks = "", 0
        try:
            for chunk in server.chat(model, "one two three four five six seven eight", stream=True):
                chunks += 1
                if chunk.choices and chunk.choices[0].delta.content:
                    text += chunk.choices[0].delta.content
        except openai.OpenAIError as error:
            return {"text": text, "chunks": chunks, "raised": raised(error)}
        return {"text": text, "chunks": chunks}

    return run


broken_streams(broken_stream)


@case
def the_sdk_gets_through_after_retries(server):
    """The SDK retries on its own; the gateway's errors must let it."""
    client = server.new_client(max_retries=1)
    return client.chat.completions.create(
        model=server.model("status-503"), messages=[{"role": "user", "content": "retried"}]
    ).id
