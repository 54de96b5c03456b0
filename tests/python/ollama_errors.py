"""Every way to fail, as the SDK's own exception."""

import ollama

from suite import broken_streams, case, failures, raised


def failing(model, stream=False):
    def run(server):
        answer = server.chat(model, stream=stream)
        return {"text": "".join(p.message.content for p in answer) if stream else answer.message.content}

    return run


failures(failing, (400, 401, 403, 404, 429, 500, 503))


@case
def a_generation_that_fails(server):
    return server.generate("status-500").response


@case
def retry_after_is_passed_on(server):
    return failing("status-429-after-7")(server)


@case
def a_wrong_caller_token(server):
    client = server.new_client(headers={"Authorization": "Bearer wrong-token"})
    return client.chat(model=server.model("plain-model"), messages=[{"role": "user", "content": "Hello"}]).model


@case
def no_caller_token(server):
    return server.new_client(headers={})._request_raw("GET", "/").text


@case
def an_unknown_model(server):
    return server.client.chat(model="no-such-model", messages=[{"role": "user", "content": "Hello"}]).model


@case
def an_unknown_role(server):
    return server.chat("plain-model", messages=[{"role": "nobody", "content": "Hello"}]).model


@case
def a_wrong_type(server):
    return server.chat("plain-model", options={"temperature": "hot"}).model


@case
def an_image_that_is_none(server):
    body = {"model": server.model("image"), "messages": [{"role": "user", "content": "?", "images": ["data:image/png;base64,AAAA"]}]}
    return server.client._request_raw("POST", "/api/chat", json=body).text


@case
def a_prompt_with_a_suffix(server):
    return server.generate("plain-model", suffix="the end").response


def broken_stream(model):
    """What came before the error, and the error."""

    def run(server):
        text, done = "", []
        try:
            for part in server.chat(model, "one two three four five six seven eight", stream=True):
                text += part.message.content or ""
                done.append(part.done)
        except ollama.ResponseError as error:
            return {"text": text, "done": done, "raised": raised(error)}
        return {"text": text, "done": done}

    return run


broken_streams(broken_stream)


def impossible(name, ask):
    def run(server):
        return str(ask(server.client))

    case(run, f"cannot_{name}")


impossible("pull", lambda client: client.pull("llama3.2"))
impossible("pull_streamed", lambda client: list(client.pull("llama3.2", stream=True)))
impossible("push", lambda client: client.push("llama3.2"))
impossible("create", lambda client: client.create("mine", from_="llama3.2"))
impossible("copy", lambda client: client.copy("llama3.2", "mine"))
impossible("delete", lambda client: client.delete("llama3.2"))


@case
def an_unknown_path(server):
    return server.client._request_raw("GET", "/api/nothing").text


@case
def a_wrong_method(server):
    return server.client._request_raw("GET", "/api/chat").text
